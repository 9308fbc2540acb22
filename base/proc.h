#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <glib.h>

/*
 * Child processes, and the identity of other processes. Never a shell. A child gets stdin, stdout
 * and stderr as named and nothing else (close_range), a cleared environment with a short list kept
 * (PATH, HOME, LANG, TMPDIR and `extra_env`), a session of its own when asked, rlimits, PDEATHSIG
 * when asked, and a deadline after which it is killed with its group.
 */
typedef struct {
    const char *const *argv;      /* argv[0] is an absolute path or is looked up in PATH */
    const char *const *extra_env; /* "NAME=value", NULL: none */
    int stdin_fd;                 /* -1: /dev/null; borrowed */
    int stdout_fd;                /* -1: captured when out_stdout is given, else /dev/null */
    int stderr_fd;                /* -1: captured (tail of 4 KiB goes into the error) */
    size_t max_output_bytes;      /* of captured stdout; more is an error; 0: 1 MiB */
    unsigned timeout_ms;          /* 0: none */
    uint64_t limit_as_bytes, limit_cpu_s, limit_fsize_bytes; /* rlimits, 0: none */
    bool is_new_session;
} BaseChild;

/* Runs to the end. true when it exited 0. Otherwise HOST (missing binary: NOT_FOUND; deadline: TIMEOUT) and the
 * message ends with the last line of its stderr. out_stdout (NUL-terminated) and out_status may be NULL. */
bool base_child_run(const BaseChild *child, char **out_stdout, int *out_status, GError **error);

/* Starts and returns its pid (and a pidfd in out_pidfd unless NULL), -1 on error. The caller reaps. */
pid_t base_child_spawn(const BaseChild *child, int *out_pidfd, GError **error);

/* Start time of a process in clock ticks since boot (field 22 of /proc/PID/stat), 0 when it is gone:
 * with the pid it names one process for ever (pids are reused). */
uint64_t base_proc_start_ticks(pid_t pid);

/* An id of this boot (/proc/sys/kernel/random/boot_id), transfer none, "" when unreadable. */
const char *base_proc_boot_id(void);

/* A pidfd for the process that has this start time, -1 (ESRCH) when it is gone or another. */
int base_proc_open(pid_t pid, uint64_t start_ticks);

/* Waits until the pidfd's process has ended. false with TIMEOUT after timeout_ms. */
bool base_proc_wait_end(int pidfd, int timeout_ms, GError **error);
