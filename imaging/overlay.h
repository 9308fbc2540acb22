#pragma once
#include "imaging/header.h"

/*
 * Thin qcow2 overlays and blank qcow2 disks, written in-process: header, refcounts and L1 only.
 */
typedef struct {
    const char *backing_path; /* borrowed, absolute, up to 1023 bytes; recorded as it is; NULL: a
                                 blank disk */
    ImgFormat backing_format; /* recorded too, so that QEMU never probes */
    uint64_t backing_bytes;   /* virtual size of the base; 0 for a blank disk */
    uint64_t virtual_bytes;   /* 0: that of the base; rounded up to 512 */
} ImgOverlay;

/*
 * Creates `name` (a path is allowed) in dirfd, mode 0600, whole or absent. out_bytes (may be NULL):
 * the virtual size written. The base is neither opened nor looked at: img_source_open() did that.
 * RANGE: smaller than the base, 0, or over IMG_VIRTUAL_BYTES_MAX; PATH: backing path not absolute
 * or too long; EXISTS: anything is there already, a symlink too; NO_SPACE and other classes of
 * errno. Blocks for the disk only, 0.1 ms; no fsync: QEMU's first flush makes it durable. Layout as
 * `qemu-img create` makes it (QEMU 7.2, docs/interop/qcow2.txt): 64 KiB clusters, 16-bit refcounts,
 * compat 1.1; it equals that file but for its size on disk, 12 KiB here.
 */
bool img_overlay_create(int dirfd, const char *name, const ImgOverlay *overlay, uint64_t *out_bytes,
                        GError **error);
