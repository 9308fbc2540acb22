#pragma once
#include "driver/libvirt/part.h"

/*
 * Runs a handler on a thread of its own and waits at most deadline_ms for it. A call that hangs in
 * libvirt is given up (TIMEOUT): its thread goes on with its own copies of the arguments
 * (descriptors are duplicated) and its result is thrown away.
 */
char *virt_job_run(VirtPart *part, VirtHandler handler, const VirtArgs *args, const char *what,
                   unsigned deadline_ms, GError **error);
