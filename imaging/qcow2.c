#include "imaging/qcow2.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/report.h"

/*
 * How it works: the fixed header is copied and turned to host order, then checked field by field in
 * the order in which later checks rely on earlier ones (version, cluster size, header length,
 * sizes, tables, extensions, names). Each check knows only the header and the file's length; the
 * last one reads L1 and the farthest L2 table and looks whether they point behind the end of the
 * file.
 */
#define N_L1_BYTES_MAX       (32u << 20) /* QCOW_MAX_L1_SIZE */
#define N_REFTABLE_BYTES_MAX (8u << 20)  /* QCOW_MAX_REFTABLE_SIZE */
#define N_BITMAP_DIR_MAX     (64u << 20) /* BME_MAX_TABLE_SIZE's order */
#define N_SNAPSHOTS_MAX      1024u       /* QEMU: 65536; no base has so many */
#define N_L1_LOOK_BYTES      (1u << 20)
#define OFFSET_MASK          UINT64_C(0x00fffffffffffe00)
#define L2_COMPRESSED        (UINT64_C(1) << 62)

typedef struct {
    int fd;
    const uint8_t *start;
    size_t n_start;
    ImgQcow2Disk disk; /* host order, v3 fields filled in for v2 */
    uint64_t cluster_bytes;
    ImgHeader *header;
} Reader;

static bool G_GNUC_PRINTF(2, 3) malformed(GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    return base_fail(error, VM_ERROR_IMAGE,
                     "qcow2 header: %s - the file is damaged, incomplete or hostile", what);
}

ssize_t img_qcow2_pread(int fd, void *to, size_t n, uint64_t offset, GError **error)
{
    size_t done = 0;
    while (done < n) {
        ssize_t got = pread(fd, (char *)to + done, n - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            base_error_set_errno(error, errno, "cannot read the image at byte %" G_GUINT64_FORMAT,
                                 offset + done);
            return -1;
        }
        if (got == 0) {
            break;
        }
        done += (size_t)got;
    }
    return (ssize_t)done;
}

/* All fields before the compression type are 32 or 64 bits wide, as this says in order. */
static void disk_to_host(ImgQcow2Disk *disk)
{
    static const uint8_t widths[] = {4, 4, 8, 4, 4, 8, 4, 4, 8, 8, 4, 4, 8, 8, 8, 8, 4, 4};
    uint8_t *at = (uint8_t *)disk;
    for (size_t i = 0; i < G_N_ELEMENTS(widths); i++) {
        if (widths[i] == 4) {
            uint32_t word;
            memcpy(&word, at, sizeof(word));
            word = GUINT32_FROM_BE(word);
            memcpy(at, &word, sizeof(word));
        } else {
            uint64_t word;
            memcpy(&word, at, sizeof(word));
            word = GUINT64_FROM_BE(word);
            memcpy(at, &word, sizeof(word));
        }
        at += widths[i];
    }
    g_assert(at == &disk->compression);
}

/* Copies as much as the version has; what a version 2 header lacks gets the meaning it has there.
 */
static bool load_fixed(Reader *r, GError **error)
{
    ImgQcow2Disk *disk = &r->disk;
    memcpy(disk, r->start, MIN(r->n_start, sizeof(*disk)));
    disk_to_host(disk);
    if (r->n_start < 8 || (disk->version == 2 && r->n_start < IMG_QCOW2_V2_BYTES) ||
        (disk->version == 3 && r->n_start < IMG_QCOW2_V3_BYTES)) {
        return malformed(error, "truncated: the file has only %zu bytes", r->n_start);
    }
    if (disk->version != 2 && disk->version != 3) {
        return base_fail(
            error, VM_ERROR_IMAGE,
            "qcow2 header: version %u is not supported (2 and 3 are) - make a version 3 "
            "copy of it with qemu-img convert",
            disk->version);
    }
    if (disk->version == 2) {
        memset((char *)disk + IMG_QCOW2_V2_BYTES, 0, sizeof(*disk) - IMG_QCOW2_V2_BYTES);
        disk->refcount_order = 4;
        disk->header_bytes = IMG_QCOW2_V2_BYTES;
    }
    return true;
}

static bool check_header_length(Reader *r, GError **error)
{
    ImgQcow2Disk *disk = &r->disk;
    if (disk->cluster_bits < 9 || disk->cluster_bits > 21) {
        return malformed(error, "cluster_bits is %u, not in 9..21", disk->cluster_bits);
    }
    r->cluster_bytes = UINT64_C(1) << disk->cluster_bits;
    if (disk->version == 3 && disk->header_bytes < IMG_QCOW2_V3_BYTES) {
        return malformed(error, "header_length is %u, less than 104", disk->header_bytes);
    }
    if (disk->header_bytes > r->cluster_bytes || disk->header_bytes % 8 != 0) {
        return malformed(error, "header_length %u is no multiple of 8 within the first cluster",
                         disk->header_bytes);
    }
    if (disk->header_bytes > r->n_start) {
        return malformed(error, "truncated: header_length is %u, the file has %zu bytes",
                         disk->header_bytes, r->n_start);
    }
    if (disk->version == 3 &&
        disk->header_bytes < sizeof(*disk)) { /* what lies behind it is no header field */
        memset((char *)disk + disk->header_bytes, 0, sizeof(*disk) - disk->header_bytes);
    }
    return true;
}

static bool check_features(Reader *r, GError **error)
{
    const ImgQcow2Disk *disk = &r->disk;
    bool has_compression_bit = (disk->incompatible & IMG_QCOW2_COMPRESSION) != 0;
    if (has_compression_bit != (disk->compression != 0)) {
        return malformed(error, "compression type %u contradicts its feature bit",
                         disk->compression);
    }
    if (disk->compression > 1) {
        return malformed(error, "compression type %u is unknown", disk->compression);
    }
    if (disk->refcount_order > 6) {
        return malformed(error, "refcount_order is %u, more than 6", disk->refcount_order);
    }
    if ((disk->incompatible & IMG_QCOW2_EXTENDED_L2) && disk->cluster_bits < 14) {
        return malformed(error, "extended L2 entries with cluster_bits %u, less than 14",
                         disk->cluster_bits);
    }
    if (disk->crypt_method > 2) {
        return malformed(error, "encryption method %u is unknown", disk->crypt_method);
    }
    return true;
}

/* One table: aligned, behind the header's cluster, inside the file. n_bytes is below 2^40. */
static bool check_table(const Reader *r, const char *what, uint64_t offset, uint64_t n_bytes,
                        GError **error)
{
    if (offset % r->cluster_bytes != 0 || offset < r->cluster_bytes) {
        return malformed(error, "%s at byte %" G_GUINT64_FORMAT " stands on no cluster of its own",
                         what, offset);
    }
    uint64_t file_bytes = r->header->file_bytes;
    if (offset > file_bytes || n_bytes > file_bytes - offset) {
        return malformed(error,
                         "truncated: %s at byte %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
                         " bytes is outside the file of %" G_GUINT64_FORMAT " bytes",
                         what, offset, n_bytes, file_bytes);
    }
    return true;
}

static bool check_l1(Reader *r, GError **error)
{
    const ImgQcow2Disk *disk = &r->disk;
    uint32_t entry_bits = (disk->incompatible & IMG_QCOW2_EXTENDED_L2) ? 4 : 3;
    uint32_t l1_bits = 2 * disk->cluster_bits - entry_bits; /* what an L1 entry covers: 15..39 */
    if (disk->virtual_bytes > INT64_MAX) {
        return malformed(error, "virtual size %" G_GUINT64_FORMAT " is absurd",
                         disk->virtual_bytes);
    }
    if (disk->n_l1 > N_L1_BYTES_MAX / 8) {
        return malformed(error, "L1 table of %u entries is larger than 32 MiB", disk->n_l1);
    }
    uint64_t n_needed = (disk->virtual_bytes + (UINT64_C(1) << l1_bits) - 1) >> l1_bits;
    if (disk->n_l1 < n_needed) {
        return malformed(error,
                         "L1 table of %u entries is too small for a virtual size of "
                         "%" G_GUINT64_FORMAT " bytes",
                         disk->n_l1, disk->virtual_bytes);
    }
    return disk->n_l1 == 0 ||
           check_table(r, "L1 table", disk->l1_offset, (uint64_t)disk->n_l1 * 8, error);
}

static bool check_refcount_table(Reader *r, GError **error)
{
    const ImgQcow2Disk *disk = &r->disk;
    uint64_t n_bytes = disk->n_refcount_table_clusters * r->cluster_bytes;
    if (n_bytes == 0 || n_bytes > N_REFTABLE_BYTES_MAX) {
        return malformed(error, "refcount table of %u clusters is not within 1 cluster to 8 MiB",
                         disk->n_refcount_table_clusters);
    }
    if (!check_table(r, "refcount table", disk->refcount_table_offset, n_bytes, error)) {
        return false;
    }
    uint64_t l1_end = disk->l1_offset + (uint64_t)disk->n_l1 * 8;
    if (disk->n_l1 > 0 && disk->l1_offset < disk->refcount_table_offset + n_bytes &&
        disk->refcount_table_offset < l1_end) {
        return malformed(error, "L1 table and refcount table overlap");
    }
    return true;
}

static bool check_snapshots(Reader *r, GError **error)
{
    const ImgQcow2Disk *disk = &r->disk;
    if (disk->n_snapshots > N_SNAPSHOTS_MAX) {
        return malformed(error, "%u internal snapshots are more than %u", disk->n_snapshots,
                         N_SNAPSHOTS_MAX);
    }
    return disk->n_snapshots == 0 || /* an entry has at least 40 bytes */
           check_table(r, "snapshot table", disk->snapshots_offset,
                       (uint64_t)disk->n_snapshots * 40, error);
}

/* Reads a name that stands in the first cluster. NUL bytes inside would hide a part of it from
 * people. */
static bool read_name(const Reader *r, const char *what, uint64_t offset, uint64_t n_bytes,
                      char **out, GError **error)
{
    if (n_bytes > IMG_QCOW2_BACKING_NAME_MAX) {
        return malformed(error, "%s of %" G_GUINT64_FORMAT " bytes is longer than %u", what,
                         n_bytes, IMG_QCOW2_BACKING_NAME_MAX);
    }
    if (offset > r->n_start || n_bytes > r->n_start - offset) {
        return malformed(error, "truncated: %s at byte %" G_GUINT64_FORMAT " is outside the file",
                         what, offset);
    }
    const char *name = (const char *)r->start + offset;
    g_free(*out);
    *out = g_strndup(name, (gsize)n_bytes);
    return true;
}

static bool check_bitmaps(Reader *r, uint64_t offset, uint32_t n_bytes, GError **error)
{
    uint32_t n_bitmaps;
    uint64_t dir_bytes, dir_offset;
    if (n_bytes != 24) {
        return malformed(error, "bitmaps extension has %u bytes, not 24", n_bytes);
    }
    memcpy(&n_bitmaps, r->start + offset, 4);
    memcpy(&dir_bytes, r->start + offset + 8, 8);
    memcpy(&dir_offset, r->start + offset + 16, 8);
    dir_bytes = GUINT64_FROM_BE(dir_bytes);
    if (GUINT32_FROM_BE(n_bitmaps) > 65535 || dir_bytes > N_BITMAP_DIR_MAX) {
        return malformed(error, "bitmap directory is larger than 64 MiB or 65535 bitmaps");
    }
    return check_table(r, "bitmap directory", GUINT64_FROM_BE(dir_offset), dir_bytes, error);
}

static bool take_extension(Reader *r, uint32_t type, uint64_t offset, uint32_t n_bytes,
                           GError **error)
{
    switch (type) {
    case IMG_QCOW2_EXT_BACKING:
        return read_name(r, "backing format", offset, n_bytes, &r->header->backing_format, error);
    case IMG_QCOW2_EXT_DATA_FILE:
        return read_name(r, "data file name", offset, n_bytes, &r->header->data_file, error);
    case IMG_QCOW2_EXT_BITMAPS:
        return check_bitmaps(r, offset, n_bytes, error);
    default:
        return true; /* unknown extensions may be ignored: qcow2.txt, "Header extensions" */
    }
}

/* Extensions lie between the header and the backing name or the end of the first cluster. */
static bool walk_extensions(Reader *r, GError **error)
{
    uint64_t end = r->disk.backing_offset ? r->disk.backing_offset : r->cluster_bytes;
    uint64_t at = r->disk.header_bytes;
    uint64_t n_seen = MIN(end, r->n_start);
    while (at < end) {
        uint32_t word[2];
        if (at + 8 > n_seen) {
            /* a version 2 file may end its extensions with its cluster, none was seen cut */
            return at == end || malformed(error, "truncated: header extensions have no end");
        }
        memcpy(word, r->start + at, 8);
        uint32_t type = GUINT32_FROM_BE(word[0]), n_bytes = GUINT32_FROM_BE(word[1]);
        at += 8;
        if (type == IMG_QCOW2_EXT_END) {
            return true;
        }
        if (n_bytes > n_seen - at) {
            return malformed(error,
                             "header extension 0x%08x of %u bytes goes past the first cluster",
                             type, n_bytes);
        }
        if (!take_extension(r, type, at, n_bytes, error)) {
            return false;
        }
        at += ((uint64_t)n_bytes + 7) & ~UINT64_C(7);
    }
    return true;
}

static bool check_backing(Reader *r, GError **error)
{
    const ImgQcow2Disk *disk = &r->disk;
    if (disk->backing_offset == 0) {
        return true;
    }
    if (disk->backing_offset < disk->header_bytes || disk->backing_offset > r->cluster_bytes ||
        disk->backing_bytes > r->cluster_bytes - disk->backing_offset) {
        return malformed(
            error, "backing file name at byte %" G_GUINT64_FORMAT " is outside the first cluster",
            disk->backing_offset);
    }
    return read_name(r, "backing file name", disk->backing_offset, disk->backing_bytes,
                     &r->header->backing_name, error);
}

static bool past_end(const Reader *r, const char *what, uint64_t offset, GError **error)
{
    return malformed(error,
                     "truncated: %s at byte %" G_GUINT64_FORMAT " is outside the file of "
                     "%" G_GUINT64_FORMAT " bytes",
                     what, offset, r->header->file_bytes);
}

/* Do the data clusters of one L2 table start inside the file? */
static bool look_at_l2(const Reader *r, uint64_t l2_offset, GError **error)
{
    size_t n_bytes = (size_t)r->cluster_bytes;
    g_autofree uint64_t *l2 = g_malloc0(n_bytes);
    if (img_qcow2_pread(r->fd, l2, n_bytes, l2_offset, error) < 0) {
        return false;
    }
    size_t step = (r->disk.incompatible & IMG_QCOW2_EXTENDED_L2) ? 2 : 1; /* words an entry */
    uint64_t packed_mask = (UINT64_C(1) << (62 - (r->disk.cluster_bits - 8))) - 1;
    for (size_t i = 0; i < n_bytes / 8; i += step) {
        uint64_t entry = GUINT64_FROM_BE(l2[i]);
        bool is_packed = (entry & L2_COMPRESSED) != 0;
        bool is_zero = !is_packed && step == 1 && (entry & 1);
        uint64_t offset = entry & (is_packed ? packed_mask : OFFSET_MASK);
        if (!is_zero && offset >= r->header->file_bytes && offset != 0) {
            return past_end(r, "a data cluster", offset, error);
        }
    }
    return true;
}

/* A download that broke off keeps its header; its tables then point past the end. */
static bool look_for_end(Reader *r, GError **error)
{
    size_t n_bytes = MIN((size_t)r->disk.n_l1 * 8, N_L1_LOOK_BYTES);
    g_autofree uint64_t *l1 = g_malloc0(n_bytes);
    if (img_qcow2_pread(r->fd, l1, n_bytes, r->disk.l1_offset, error) < 0) {
        return false;
    }
    uint64_t farthest = 0;
    for (size_t i = 0; i < n_bytes / 8; i++) {
        uint64_t offset = GUINT64_FROM_BE(l1[i]) & OFFSET_MASK;
        if (offset % r->cluster_bytes != 0) {
            return malformed(error, "L2 table at byte %" G_GUINT64_FORMAT " is not aligned",
                             offset);
        }
        if (offset >= r->header->file_bytes && offset != 0) {
            return past_end(r, "an L2 table", offset, error);
        }
        farthest = MAX(farthest, offset);
    }
    bool has_own_data = !(r->disk.incompatible & IMG_QCOW2_DATA_FILE) && !r->disk.crypt_method;
    return farthest == 0 || !has_own_data || look_at_l2(r, farthest, error);
}

static void fill_header(const Reader *r)
{
    ImgHeader *header = r->header;
    header->version = r->disk.version;
    header->virtual_bytes = r->disk.virtual_bytes;
    header->cluster_bits = r->disk.cluster_bits;
    header->refcount_bits = 1u << r->disk.refcount_order;
    header->crypt_method = r->disk.crypt_method;
    header->incompatible = r->disk.incompatible;
    header->compatible = r->disk.compatible;
    header->autoclear = r->disk.autoclear;
    header->n_snapshots = r->disk.n_snapshots;
    header->compression = r->disk.compression == 1 ? "zstd" : "zlib";
    if ((header->incompatible & IMG_QCOW2_DATA_FILE) && !header->data_file) {
        header->data_file = g_strdup("");
    }
}

bool img_qcow2_read(int fd, const uint8_t *start, size_t n_start, ImgHeader *header, GError **error)
{
    static bool (*const checks[])(Reader *, GError **) = {
        load_fixed,      check_header_length, check_features,  check_l1,     check_refcount_table,
        check_snapshots, check_backing,       walk_extensions, look_for_end,
    };
    Reader reader = {.fd = fd, .start = start, .n_start = n_start, .header = header};
    for (size_t i = 0; i < G_N_ELEMENTS(checks); i++) {
        if (!checks[i](&reader, error)) {
            return false;
        }
    }
    fill_header(&reader);
    return true;
}
