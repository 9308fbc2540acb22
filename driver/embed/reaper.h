#pragma once
#include <stdbool.h>
#include <glib.h>

/*
 * Reaps what libvirt's children leave to this process, at once. libvirt waits for a QEMU to vanish;
 * where PID 1 is slow to reap (containers), each wait takes seconds: the first look at a QEMU's
 * capabilities 3.5 s instead of 0.6 s. Machines go on to our nearest ancestor that is a subreaper,
 * or to PID 1, when this process ends. Call first in main: SIGCHLD is blocked for good in every
 * thread made later. Without /proc/PID/task/PID/children nothing is changed.
 */
void embed_reaper_begin(void);
