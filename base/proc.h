#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <glib.h>

/*
 * The identity of processes, ours or not. Starting some: base/child.h.
 */

/* Start time of a process in clock ticks since boot (field 22 of /proc/PID/stat, proc(5)), 0 when
 * it is gone or a zombie: with the pid and the boot id it names one process for ever (pids are
 * reused). */
uint64_t base_proc_start_ticks(pid_t pid);

/* An id of this boot (/proc/sys/kernel/random/boot_id), transfer none, "" when unreadable. */
const char *base_proc_boot_id(void);

/* A pidfd for the process that has this start time, -1 with errno (ESRCH when it is gone or
 * another). */
int base_proc_open(pid_t pid, uint64_t start_ticks);

/* Waits until the pidfd's process has ended (a zombie has). false with TIMEOUT after timeout_ms
 * (-1: waits for ever). */
bool base_proc_wait_end(int pidfd, int timeout_ms, GError **error);
