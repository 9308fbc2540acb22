#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

/*
 * What an image file says of itself, read by our own reader from a checked descriptor: never by a
 * child process, never following any name found inside. Refused: see img_header_read().
 */
typedef enum { IMG_FORMAT_RAW, IMG_FORMAT_QCOW2, IMG_FORMAT_N } ImgFormat;

typedef struct {
    ImgFormat format;
    uint64_t virtual_bytes;
    uint64_t file_bytes;       /* apparent */
    uint64_t allocated_bytes;  /* st_blocks */
    uint32_t version;          /* qcow2: 2 or 3 */
    uint32_t cluster_bits;
    uint32_t refcount_bits;
    uint64_t incompatible, compatible, autoclear;  /* feature bits */
    uint32_t n_snapshots;
    char *backing_name;        /* shown by probe; NULL: none. Never opened */
    char *backing_format;
    char *data_file;
    const char *foreign;       /* name of another format's magic ("VMDK", "ISO 9660"), NULL: none */
} ImgHeader;

void img_header_free(ImgHeader *header);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ImgHeader, img_header_free)

/* Reads what fd's header says without judging it (for `image probe`). expected: the format the user
 * declared or -1. NULL + IMAGE for a header that is malformed, truncated or absurd. pread only. */
ImgHeader *img_header_read(int fd, int expected, GError **error);

/* May this image become a machine's base? Refuses: backing file, data file, unknown incompatible bits, corrupt bit, encryption,
 * foreign formats and polyglots, sizes over the caps; VM_ERROR_IMAGE with the reason and what to do. */
bool img_header_vet(const ImgHeader *header, GError **error);

const char *img_format_name(ImgFormat format);  /* "qcow2", "raw": as QEMU names them */
