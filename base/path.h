#pragma once
#include <stdbool.h>
#include <glib.h>

/*
 * A name relative to a directory descriptor (AT_FDCWD allowed), as every *at() system call takes
 * it.
 */

/* Opens the folder in which `name` lies (its leading components, symlinks among them followed) for
 * reading and gives the last component, borrowed from `name`, in out_last. -1 on error: a name
 * without a last component ("", "/", ".", "..", "a/") is VM_ERROR_PATH, else by errno. */
int base_path_open_parent(int dirfd, const char *name, const char **out_last, GError **error);

/* The path as a person would write it, for messages: resolves dirfd through /proc, escaped.
 * Transfer full, never NULL. */
char *base_path_show(int dirfd, const char *name);
