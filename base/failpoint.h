#pragma once

/*
 * Failpoints: named places where a fault test makes the program die or fail. Compiled in only with
 * -DFAILPOINTS=ON; a release has neither the code nor the names (a test looks with nm/strings).
 *   VM_FAILPOINTS="overlay.before=kill,define.after=errno:28,boot.after=sleep:200" vm-run run ...
 * Actions: kill (SIGKILL to ourselves), errno:N, sleep:MS. A point counts every pass; NAME#2=kill
 * acts at the 2nd.
 */
#ifdef VM_FAILPOINTS
int base_failpoint(const char *name); /* 0, or the errno to fail with */
#else
#define base_failpoint(name) (0)
#endif
