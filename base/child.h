#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <glib.h>

/*
 * Child processes. Never a shell. A child gets stdin, stdout and stderr as named and no other
 * descriptor (close_range), a cleared environment with a short list kept (PATH, HOME, LANG, TMPDIR
 * and `extra_env`), default signals, no core dump, a process group or session of its own, rlimits,
 * and a deadline after which it is killed with its group.
 */
typedef struct {
    const char *const *argv;      /* argv[0]: a path with a slash, or a name looked up in PATH */
    const char *const *extra_env; /* "NAME=value", NULL: none; wins over the kept list */
    int stdin_fd;                 /* -1: /dev/null; borrowed */
    int stdout_fd;                /* -1: captured when out_stdout is given, else /dev/null */
    int stderr_fd;           /* -1: captured (tail of 4 KiB; its last line goes into the error);
                                /dev/null in base_child_spawn() */
    size_t max_output_bytes; /* of captured stdout; more is an error; 0: 1 MiB */
    unsigned timeout_ms;     /* of base_child_run(), 0: none */
    uint64_t limit_as_bytes, limit_cpu_s, limit_fsize_bytes; /* rlimits, 0: none */
    bool is_new_session;                                     /* setsid(2) */
    bool is_foreground; /* stays in our process group and at our terminal; then only it,
                           not its group, is killed */
    bool dies_with_us;  /* SIGKILL when the thread that started it ends; base_child_run()
                           always does so */
} BaseChild;

/* All three descriptors -1, everything else off. */
#define BASE_CHILD_INIT                                                                            \
    {                                                                                              \
        .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1                                           \
    }

/* Runs it to its end. true when it exited with 0. Errors: NOT_FOUND (no such program), DENIED (not
 * executable), TIMEOUT (deadline; it is dead and reaped), HOST (another status, a signal, too much
 * output); the message ends with the last line of its stderr, escaped.
 * out_status (may be NULL) is its exit status, 128 + signal when a signal ended it, -1 when it
 * never ran; out_stdout (may be NULL; NUL-terminated, transfer full) what it wrote. Both are set on
 * failure too, out_stdout to NULL unless the child ended by itself. Blocks until then; what a
 * grandchild writes after the child's end is lost. */
bool base_child_run(const BaseChild *child, char **out_stdout, int *out_status, GError **error);

/* Starts it and returns its pid (and a pidfd in out_pidfd unless NULL), -1 on error as above.
 * Returns after its exec, so a program that can't be run is an error here. The caller reaps. */
pid_t base_child_spawn(const BaseChild *child, int *out_pidfd, GError **error);
