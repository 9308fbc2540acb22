#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <glib.h>
#include "base/error.h"

/*
 * What an image file says of itself, read by our own reader from a checked descriptor: never by a
 * child process, never following any name found inside. Reading and judging are two calls, so that
 * `image probe` can show what `run` refuses.
 */
typedef enum { IMG_FORMAT_RAW, IMG_FORMAT_QCOW2, IMG_FORMAT_N } ImgFormat;

/* Largest virtual size that is accepted, of a base as well as of an overlay: 16 TiB. What is larger
 * is taken for a resource bomb: one byte written far out costs the host megabytes of tables. */
#define IMG_VIRTUAL_BYTES_MAX ((uint64_t)16 << 40)
#define IMG_SECTOR_BYTES      512

typedef struct {
    ImgFormat format;
    uint64_t virtual_bytes;
    uint64_t file_bytes;      /* apparent */
    uint64_t allocated_bytes; /* st_blocks */
    uint32_t version;         /* qcow2: 2 or 3; 0 for raw, as all up to data_file */
    uint32_t cluster_bits;
    uint32_t refcount_bits;
    uint32_t crypt_method;                        /* 0: none, 1: AES, 2: LUKS */
    uint64_t incompatible, compatible, autoclear; /* feature bits */
    uint32_t n_snapshots;
    const char *compression; /* "zlib" or "zstd", static */
    char *backing_name;      /* owned; shown by probe; NULL: none. Never opened */
    char *backing_format;    /* owned; NULL: not said */
    char *data_file;         /* owned; "" when the header wants one and gives no name */
    const char
        *foreign; /* static; name of another format's magic ("VMDK", "ISO 9660"), NULL: none */
} ImgHeader;

void img_header_free(ImgHeader *header);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ImgHeader, img_header_free)

/*
 * Reads what fd's header says without judging it (for `image probe`).
 * expected: the ImgFormat that was declared, or -1. Transfer full, or NULL and
 * IMAGE: malformed, truncated or absurd, or of another format than was declared;
 * PATH: fd is no regular file; or the class of a read error.
 * pread only: at most 64 KiB of start, 512 bytes of end, 1 MiB of L1 and one L2 table, under 1 ms.
 * Layout and limits: QEMU docs/interop/qcow2.txt and block/qcow2.h (7.2).
 */
ImgHeader *img_header_read(int fd, int expected, GError **error);

/*
 * May this image become a machine's base? Refuses with IMAGE, the reason and what to do: backing
 * file, data file, unknown incompatible bits, corrupt bit, encryption, foreign formats and
 * polyglots, and a virtual size that is 0, no multiple of 512 or over the cap.
 */
bool img_header_vet(const ImgHeader *header, GError **error);

/* "qcow2", "raw": as QEMU names them. */
const char *img_format_name(ImgFormat format);

/* The ImgFormat of that name, -1: there is none. */
int img_format_from_name(const char *name);
