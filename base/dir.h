#pragma once
#include <stdbool.h>
#include <sys/types.h>
#include <glib.h>

/*
 * Folders: made component by component and removed whole, without being led elsewhere.
 */

/* mkdir -p with `mode` (independent of the umask) for what it makes. A component that is a symlink
 * is followed only when it belongs to root or to us, else VM_ERROR_PATH. Returns a descriptor for
 * reading the directory (not O_PATH), -1 on error; what was made stays. */
int base_dir_open_make(const char *path, mode_t mode, GError **error);

/* Removes `name` and everything in it, never following symlinks and never crossing a mount (bind
 * mounts too). Absent is success. On failure all that can be removed is removed and `error` names
 * the first file that could not be (VM_ERROR_LEFTOVER).
 * openat2(2), RESOLVE_NO_XDEV: Linux 5.6. */
bool base_dir_remove_tree(int dirfd, const char *name, GError **error);
