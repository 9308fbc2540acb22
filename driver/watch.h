#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <glib.h>

/*
 * The watcher: one small process per running machine (vm-run-watch, driver/watch/: libc and
 * jansson only, about 2 MiB).
 *
 * vm-run-watch --exec -- PROGRAM ARGS...
 *     setsid, subreaper, fds 0-2 on /dev/null; starts PROGRAM (an absolute path; the starter) as
 *     its child with the caller's fds (0-2 and all others that came through exec) and a socket,
 *     whose number is in the environment variable VM_RUN_WATCH_FD; closes its own copies. The
 *     starter says "watch DIR\n" on it when QEMU runs and DIR/watch.json is written; the watcher
 *     loads that, takes the lock, connects, answers "ok\n" (or "error TEXT\n") and goes on;
 *     "quit\n": ends. Starter gone without a word: ends.
 *
 * vm-run-watch --dir DIR [--ready-fd FD]
 *     a replacement: daemonizes itself, loads DIR/watch.json, writes "ok\n" or "error TEXT\n" to
 *     FD. A QEMU that is gone by then gets its end event (reason lost) and its end command,
 *     unless the end was written already: then only the command.
 *
 * It holds a POSIX record lock on DIR/watch.lock (one watcher a machine; F_GETLK names its pid,
 * the file's text too), writes DIR/events.jsonl and bounds the serial log: above log_limit_bytes
 * the last half goes to serial.log.1 and the log is emptied. It ends when QEMU has ended, after
 * it ran `end_command` (the lock is given back before), or when DIR/watch.json vanishes, or by
 * SIGTERM (QEMU is left alone).
 *
 * DIR/watch.json, written by the boot step (other members are ignored):
 *     v                 1
 *     name, boot        of the machine; starts so far
 *     start_ms          when this one was asked for, CLOCK_BOOTTIME
 *     qemu_pid, qemu_start   pid and its start in clock ticks
 *     qmp               socket path of the second monitor
 *     serial_log        path, "": none
 *     log_limit_bytes   0: none
 *     log_offset        bytes in the log that are older than this boot; may be missing: 0
 *     status            socket path of vmrun.status, "": none
 *     agent             bool: there is an agent channel
 *     ssh_addr, ssh_port   an IP address; port 0: none to probe
 *     wants_cloud_init  bool
 *     stall_ms          silence that counts as a stall, 0: none does
 *     boot_ms, ready_ms limits of time, 0: none
 *     ready             bits of SPEC_READY_*; 0: ssh and cloud-init; what nothing could meet, as
 *                       ssh without ssh_port, is not waited for
 *     end_command       [argv...], an absolute path first; []: none
 */

/*
 * Starts PROGRAM argv (argv[0] absolute) below a new watcher. stdin_fd..stderr_fd: what the starter
 * gets, -1: /dev/null. keep_fds: descriptors that it needs besides 0-2 (same numbers), -1
 * terminated, NULL: none. All borrowed. Returns the watcher's pid, which is no child of ours (no
 * zombie to reap), -1 on error (NOT_FOUND, DENIED: no such program; NO_SPACE). Safe in a program
 * with threads. Returns when the watcher was executed.
 */
pid_t machine_watch_exec(const char *watch_program, const char *const *argv, int stdin_fd,
                         int stdout_fd, int stderr_fd, const int *keep_fds, GError **error);

/*
 * In the starter or any command: makes sure a watcher watches machine_dir: a living one is fine,
 * else tells the parent watcher (VM_RUN_WATCH_FD), else starts a replacement. Returns when the
 * watcher said ok; TIMEOUT after 2 s, HOST with its words when it refused.
 */
bool machine_watch_begin(const char *watch_program, const char *machine_dir, GError **error);

/* Is a watcher alive (lock held)? Its pid or 0. */
pid_t machine_watch_pid(const char *machine_dir);

/*
 * Undo: ends the watcher (SIGTERM, after 2 s SIGKILL; its pid comes from the kernel's lock table
 * and is held by a pidfd) without touching QEMU, removes watch.lock. Absent is success. TIMEOUT: it
 * can't be killed.
 */
bool machine_watch_end(const char *machine_dir, GError **error);

/* Path of vm-run-watch: beside the running program, or ../libexec/vm-run relative to it. NOT_FOUND.
 * Transfer full. */
char *machine_watch_program(GError **error);
