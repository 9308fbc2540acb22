#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <glib.h>

/*
 * The watcher: one small process per running machine (vm-run-watch, driver/watch/: libc and jansson only, about 2 MiB).
 *
 * vm-run-watch --exec FD -- PROGRAM ARGS...
 *     setsid, subreaper, fds 0-2 on /dev/null; starts PROGRAM (the starter) as its child with the socket pair's end in the environment
 *     variable VM_RUN_WATCH_FD and inherits FD 3.. as they are for it; closes its own copies. The starter says "watch DIR\n" on that
 *     socket when QEMU runs; the watcher loads DIR/watch.json, connects, answers "ok\n" (or "error TEXT\n") and goes on; "quit\n": ends. Starter gone without a word: ends.
 * vm-run-watch --dir DIR [--ready-fd FD]
 *     a replacement: daemonizes itself, loads DIR/watch.json, writes "ok\n" to FD.
 *
 * It holds a lock on DIR/watch.lock (one watcher a machine; the file's text: its pid) and writes DIR/events.jsonl. It ends when QEMU has ended, after it ran
 * `end_command`, or when DIR vanishes.
 *
 * DIR/watch.json, written by the boot step:
 *   {"v":1, "name", "boot", "start_ms" (CLOCK_BOOTTIME), "qemu_pid", "qemu_start" (clock ticks), "qmp" (socket path),
 *    "serial_log" (path, "": none), "log_limit_bytes", "status" (socket path of vmrun.status, "": none), "agent": bool,
 *    "ssh_addr", "ssh_port" (0: none to probe), "has_seed": bool, "wants_cloud_init": bool, "firmware": "bios"|"uefi",
 *    "stall_ms" (silence that counts as a stall), "boot_ms", "ready_ms", "ready" (bits of SPEC_READY_*), "end_command": [argv...]}
 */

/* Starts PROGRAM below a new watcher. keep_fds: descriptors that the starter needs besides 0-2 (same numbers), -1 terminated. Returns the
 * watcher's pid (our child, double-forked away when is_detached). */
pid_t machine_watch_exec(const char *watch_program, const char *const *argv, int stdin_fd, int stdout_fd, int stderr_fd,
                         const int *keep_fds, GError **error);

/* In the starter or any command: makes sure a watcher watches machine_dir: tells the parent watcher (VM_RUN_WATCH_FD) or starts a replacement. Returns
 * when the watcher said ok (2 s at most). */
bool machine_watch_begin(const char *watch_program, const char *machine_dir, GError **error);

/* Is a watcher alive (lock held)? Its pid or 0. */
pid_t machine_watch_pid(const char *machine_dir);

/* Undo: ends the watcher (by its pid, checked by the lock) without touching QEMU. Absent is success. */
bool machine_watch_end(const char *machine_dir, GError **error);

/* Path of vm-run-watch: beside the running program, or ../libexec/vm-run relative to it. Transfer full. */
char *machine_watch_program(GError **error);
