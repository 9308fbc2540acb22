#pragma once
#include "imaging/header.h"

/*
 * Opening images that people name. The fd that was checked is the fd that is used: it becomes the
 * disk's base. A person at a shell may name any regular file they can read; roots (an allow-list,
 * for job authors) restrict to trees, opened with
 * openat2(RESOLVE_BENEATH|NO_SYMLINKS|NO_MAGICLINKS|NO_XDEV).
 */
typedef struct {
    int fd;            /* O_RDONLY, owned */
    char *path;        /* owned, absolute, no symlink in it: for QEMU's backing name and messages */
    ImgHeader *header; /* owned, vetted */
    uint64_t dev, ino, mtime_ns; /* identity at check time */
} ImgSource;

void img_source_free(ImgSource *source);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ImgSource, img_source_free)

/*
 * Opens, reads and vets the image. path: as a person wrote it. roots: NULL = no restriction
 * (symlinks are followed, and the result is resolved once); else NULL-terminated absolute folders,
 * and the path must be absolute. expected: the declared ImgFormat or -1. Always refused: what is no
 * regular file (nothing else is ever opened, only looked at), magic links
 * (/proc/self/fd, /dev/stdin), protocol-like names, a file that others may write, and a hard link
 * of someone else's. With roots also: symlinks, "..", mounts below a root, owners other than root,
 * us or the root's owner, and a group that may write. NOT_FOUND (with the nearest name of that
 * folder), PATH, DENIED, IMAGE; each begins "image 'PATH': ". Blocks for the disk only, under 1 ms.
 */
ImgSource *img_source_open(const char *path, const char *const *roots, int expected,
                           GError **error);

/* As img_source_open() without the vetting of the header: for `image probe`. */
ImgSource *img_source_probe(const char *path, int expected, GError **error);

/* Is the file still what was checked (same mtime and size)? IMAGE when it was written to since. */
bool img_source_check_unchanged(const ImgSource *source, GError **error);
