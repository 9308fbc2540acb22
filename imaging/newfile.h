#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <glib.h>
#include "base/error.h"

/*
 * A file in the making: it has no name that anybody looks for until it is whole. Private to this
 * folder. Nameless (O_TMPFILE) where the file system can, so that a crash leaves nothing; else
 * ".tmp-XXXXXXXX". new -> write to fd -> commit | free (which discards what was not committed).
 */
typedef struct {
    int dirfd;         /* of the folder, owned */
    char *name;        /* in that folder, owned */
    int fd;            /* O_RDWR, owned, mode 0600 */
    char tmp_name[32]; /* "" when nameless */
} ImgNewFile;

/* Opens a file of 0 bytes, mode 0600 whatever the umask, that will be `name` in dirfd (a path is
 * allowed; its folder is opened now). NULL and the errno's class. */
ImgNewFile *img_new_file_open(int dirfd, const char *name, GError **error);

/* Gives it its name. EXISTS when anything is there, a dangling symlink too: nothing is ever
 * replaced or followed. No fsync. After failure it is discarded by img_new_file_free(). */
bool img_new_file_commit(ImgNewFile *file, GError **error);

/* Closes; removes the file unless it was committed. NULL is fine. */
void img_new_file_free(ImgNewFile *file);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ImgNewFile, img_new_file_free)

/* pwrite of all of it. `what` names the file in the message. */
bool img_new_file_write(ImgNewFile *file, const void *data, size_t n, uint64_t offset,
                        GError **error);
