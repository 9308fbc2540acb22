#pragma once
#include "imaging/header.h"

/*
 * Thin qcow2 overlays, written in-process: header, refcounts and L1 only. Whole or absent
 * (temporary name, rename without replacing), 0600, no fsync of its own: QEMU's first flush makes it durable.
 */
typedef struct {
    const char *backing_path;     /* absolute; recorded as it is; NULL: a blank disk without backing */
    ImgFormat backing_format;
    uint64_t backing_bytes;       /* virtual size of the base */
    uint64_t virtual_bytes;       /* 0: that of the base; smaller than the base: RANGE; multiple of 512 (rounded up) */
} ImgOverlay;

/* Creates `name` in dirfd. EXISTS when anything is there already (also a symlink). out_bytes (may be NULL): virtual size written. */
bool img_overlay_create(int dirfd, const char *name, const ImgOverlay *overlay, uint64_t *out_bytes, GError **error);
