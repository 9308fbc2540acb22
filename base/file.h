#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <glib.h>

/*
 * Files that are whole or absent. All calls are relative to a directory descriptor (AT_FDCWD
 * allowed), never follow a symlink in the last component, and block for the disk only.
 * Folders: base/dir.h. Locks: base/lock.h.
 */

/* Writes `data` to a temporary file beside `name` (".tmp-<random>-<name>"), fsyncs, renames it over
 * `name`, fsyncs the directory. mode: permission bits, independent of the umask. On failure nothing
 * of ours is left and an older `name` is as it was; only when the last fsync, that of the
 * directory, fails, the new one is in place already. Errors by errno (NO_SPACE, DENIED, NOT_FOUND
 * ...). */
bool base_file_write_atomic(int dirfd, const char *name, const void *data, size_t n_bytes,
                            mode_t mode, GError **error);

/* As above without fsync: whole or absent for other processes, not over a power loss. */
bool base_file_write_whole(int dirfd, const char *name, const void *data, size_t n_bytes,
                           mode_t mode, GError **error);

/* Reads a regular file of at most max_bytes; NUL-terminated (not counted), transfer full.
 * out_n_bytes may be NULL. Larger: VM_ERROR_RANGE. Not a regular file (fifo, device, socket,
 * directory; opened O_NONBLOCK so it can't hang): VM_ERROR_PATH. Symlink in the last component:
 * VM_ERROR_PATH. */
char *base_file_read(int dirfd, const char *name, size_t max_bytes, size_t *out_n_bytes,
                     GError **error);

/* As base_file_read, following symlinks: for files that a person names. */
char *base_file_read_user(const char *path, size_t max_bytes, size_t *out_n_bytes, GError **error);

/* Appends one line ('\n' added) in one write(2) with O_APPEND, mode 0600 at creation; is_durable:
 * fdatasync (and the folder's fsync when the file is new). A line that holds a line break is
 * refused (VM_ERROR_INTERNAL). A line that an earlier failure cut short is ended first, so that it
 * spoils itself only. */
bool base_file_append_line(int dirfd, const char *name, const char *line, bool is_durable,
                           GError **error);
