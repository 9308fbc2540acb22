#pragma once
#include "imaging/header.h"

/*
 * Opening images that people name. The fd that was checked is the fd that is used: it becomes the disk's base.
 * A person at a shell may name any regular file they can read; roots (allow-list, for job authors) restrict to
 * trees, opened with openat2(RESOLVE_BENEATH|NO_SYMLINKS|NO_MAGICLINKS).
 */
typedef struct {
    int fd;             /* O_RDONLY, owned */
    char *path;         /* absolute, for QEMU's backing name and messages */
    ImgHeader *header;
    uint64_t dev, ino, mtime_ns;  /* identity at check time */
} ImgSource;

void img_source_free(ImgSource *source);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ImgSource, img_source_free)

/* roots: NULL = no restriction (symlinks are followed and the result resolved once); else NULL-terminated absolute folders.
 * Opens O_NONBLOCK|O_NOCTTY, fstat regular, reads and vets the header. expected: ImgFormat or -1.
 * NOT_FOUND, PATH (not regular, outside roots, symlink under roots, scheme-like name), IMAGE. */
ImgSource *img_source_open(const char *path, const char *const *roots, int expected, GError **error);
