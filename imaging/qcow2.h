#pragma once
#include <stddef.h>
#include "imaging/header.h"

/*
 * The qcow2 header on disk (big-endian) and its reader; private to this folder.
 * Source: QEMU docs/interop/qcow2.txt, limits of block/qcow2.h (7.2).
 */
typedef struct __attribute__((packed)) {
    uint32_t magic;
    uint32_t version;
    uint64_t backing_offset;
    uint32_t backing_bytes;
    uint32_t cluster_bits;
    uint64_t virtual_bytes;
    uint32_t crypt_method;
    uint32_t n_l1;
    uint64_t l1_offset;
    uint64_t refcount_table_offset;
    uint32_t n_refcount_table_clusters;
    uint32_t n_snapshots;
    uint64_t snapshots_offset;
    /* version 3 from here */
    uint64_t incompatible;
    uint64_t compatible;
    uint64_t autoclear;
    uint32_t refcount_order;
    uint32_t header_bytes;
    uint8_t compression;
    uint8_t padding[7];
} ImgQcow2Disk;
G_STATIC_ASSERT(sizeof(ImgQcow2Disk) == 112);

#define IMG_QCOW2_MAGIC            0x514649fbu
#define IMG_QCOW2_V2_BYTES         72u
#define IMG_QCOW2_V3_BYTES         104u /* least; with the compression type 105..112 */
#define IMG_QCOW2_BACKING_NAME_MAX 1023u
#define IMG_QCOW2_EXT_END          0u
#define IMG_QCOW2_EXT_BACKING      0xe2792acau
#define IMG_QCOW2_EXT_FEATURES     0x6803f857u
#define IMG_QCOW2_EXT_DATA_FILE    0x44415441u
#define IMG_QCOW2_EXT_BITMAPS      0x23852875u

#define IMG_QCOW2_DIRTY       (UINT64_C(1) << 0)
#define IMG_QCOW2_CORRUPT     (UINT64_C(1) << 1)
#define IMG_QCOW2_DATA_FILE   (UINT64_C(1) << 2)
#define IMG_QCOW2_COMPRESSION (UINT64_C(1) << 3)
#define IMG_QCOW2_EXTENDED_L2 (UINT64_C(1) << 4)

/*
 * Fills `header` from the qcow2 header in start, the first n_start bytes of fd (64 KiB, or the
 * whole file when it is shorter); header->file_bytes is set already. IMAGE when it is malformed,
 * truncated or absurd, among them tables outside the file: that is how a broken download shows.
 */
bool img_qcow2_read(int fd, const uint8_t *start, size_t n_start, ImgHeader *header,
                    GError **error);

/* pread of up to n bytes at offset; fewer only at the end of the file, -1 with `error` set. */
ssize_t img_qcow2_pread(int fd, void *to, size_t n, uint64_t offset, GError **error);
