#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <glib.h>

/*
 * Files that are whole or absent. All calls are relative to a directory descriptor (AT_FDCWD
 * allowed), never follow a symlink in the last component, and block for the disk only.
 */

/* Writes `data` to a temporary file in `dirfd` (name ".tmp-<random>-<name>"), fsyncs, renames it over `name`, fsyncs
 * the directory. mode: permission bits, independent of the umask. On failure nothing of ours is left. */
bool base_file_write_atomic(int dirfd, const char *name, const void *data, size_t n_bytes,
                            mode_t mode, GError **error);

/* As above without fsync: whole or absent for other processes, not over a power loss. */
bool base_file_write_whole(int dirfd, const char *name, const void *data, size_t n_bytes,
                           mode_t mode, GError **error);

/* Reads a regular file of at most max_bytes; NUL-terminated (not counted), transfer full.
 * Larger: VM_ERROR_RANGE. Not a regular file (fifo, device, directory; opened O_NONBLOCK so it can't
 * hang): VM_ERROR_PATH. Symlink in the last component: VM_ERROR_PATH. */
char *base_file_read(int dirfd, const char *name, size_t max_bytes, size_t *out_n_bytes,
                     GError **error);

/* As base_file_read, following symlinks: for files that a person names. */
char *base_file_read_user(const char *path, size_t max_bytes, size_t *out_n_bytes, GError **error);

/* Appends one line ('\n' added) in one write(2) with O_APPEND, mode 0600 at creation; durable: fdatasync. */
bool base_file_append_line(int dirfd, const char *name, const char *line, bool is_durable,
                           GError **error);

/* mkdir -p with `mode` for what it makes; an existing component that is a symlink is followed only
 * when it belongs to root or to us. Returns a directory fd (O_PATH not set), -1 on error. */
int base_dir_open_make(const char *path, mode_t mode, GError **error);

/* Removes `name` below dirfd and everything in it, never following symlinks and never crossing a
 * mount. Absent is success. On failure the rest is left and `error` names the first file that could
 * not be removed (VM_ERROR_LEFTOVER). */
bool base_dir_remove_tree(int dirfd, const char *name, GError **error);

/* --- locks: flock on `name` in dirfd, freed by the kernel when the holder dies ------------------ */

typedef struct BaseLock BaseLock;

/* Takes the lock, waiting at most timeout_ms (0: try once, -1: for ever). The file then says who holds it
 * (pid, command, since). On timeout: VM_ERROR_BUSY "... is held by pid 123 (vm-run start) since 12 s".
 * Re-checks after locking that `name` is still the locked inode. */
BaseLock *base_lock_take(int dirfd, const char *name, int timeout_ms, GError **error);
void base_lock_free(BaseLock *lock);                 /* gives it back; NULL is fine */
void base_lock_free_and_unlink(BaseLock *lock);      /* removes the file while still holding it */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BaseLock, base_lock_free)
