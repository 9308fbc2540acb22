#include "imaging/overlay.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "imaging/newfile.h"
#include "imaging/qcow2.h"

/*
 * How it works: cluster 0 holds the header, 1 the refcount table, 2 the only refcount block, and
 * the L1 table, all zeros, the clusters from 3 on. So three small writes and one ftruncate make the
 * file; the holes are the zeros. One refcount block counts 32768 clusters, L1 of 16 TiB needs 4.
 */
#define CLUSTER_BITS       16u
#define CLUSTER_BYTES      (UINT64_C(1) << CLUSTER_BITS)
#define L1_ENTRY_COVERS    (CLUSTER_BYTES / 8 * CLUSTER_BYTES)
#define N_L1_CLUSTER_FIRST 3u
#define N_CLUSTERS_MAX     (N_L1_CLUSTER_FIRST + 4)
G_STATIC_ASSERT(IMG_VIRTUAL_BYTES_MAX / L1_ENTRY_COVERS * 8 <=
                (N_CLUSTERS_MAX - N_L1_CLUSTER_FIRST) * CLUSTER_BYTES);

enum { FEATURE_INCOMPATIBLE, FEATURE_COMPATIBLE, FEATURE_AUTOCLEAR };

/* qcow2.txt, "Feature name table"; the names are shown by programs that lack the feature. */
typedef struct __attribute__((packed)) {
    uint8_t kind;
    uint8_t bit;
    char name[46];
} FeatureName;
G_STATIC_ASSERT(sizeof(FeatureName) == 48);

static const FeatureName feature_names[] = {
    {FEATURE_INCOMPATIBLE, 0, "dirty bit"},
    {FEATURE_INCOMPATIBLE, 1, "corrupt bit"},
    {FEATURE_INCOMPATIBLE, 2, "external data file"},
    {FEATURE_INCOMPATIBLE, 3, "compression type"},
    {FEATURE_INCOMPATIBLE, 4, "extended L2 entries"},
    {FEATURE_COMPATIBLE, 0, "lazy refcounts"},
    {FEATURE_AUTOCLEAR, 0, "bitmaps"},
    {FEATURE_AUTOCLEAR, 1, "raw external data"},
};

typedef struct {
    uint8_t bytes[sizeof(ImgQcow2Disk) + 8 + 8 + 8 + sizeof(feature_names) + 8 +
                  IMG_QCOW2_BACKING_NAME_MAX];
    size_t n;
} HeaderText;

static void add_extension(HeaderText *text, uint32_t type, const void *data, size_t n)
{
    uint32_t word[2] = {htobe32(type), htobe32((uint32_t)n)};
    memcpy(text->bytes + text->n, word, sizeof(word));
    if (n > 0) {
        memcpy(text->bytes + text->n + sizeof(word), data, n);
    }
    text->n += sizeof(word) + ((n + 7) & ~(size_t)7);
}

static void add_backing_path(HeaderText *text, const char *path, ImgQcow2Disk *disk)
{
    size_t n = strlen(path);
    disk->backing_offset = htobe64(text->n);
    disk->backing_bytes = htobe32((uint32_t)n);
    memcpy(text->bytes + text->n, path, n);
    text->n += n;
}

static ImgQcow2Disk fixed_header(uint64_t virtual_bytes, uint32_t n_l1)
{
    return (ImgQcow2Disk){
        .magic = htobe32(IMG_QCOW2_MAGIC),
        .version = htobe32(3),
        .cluster_bits = htobe32(CLUSTER_BITS),
        .virtual_bytes = htobe64(virtual_bytes),
        .n_l1 = htobe32(n_l1),
        .l1_offset = htobe64(N_L1_CLUSTER_FIRST * CLUSTER_BYTES),
        .refcount_table_offset = htobe64(CLUSTER_BYTES),
        .n_refcount_table_clusters = htobe32(1),
        .refcount_order = htobe32(4),
        .header_bytes = htobe32(sizeof(ImgQcow2Disk)),
    };
}

/* The header's cluster up to its last used byte. */
static void build_header(HeaderText *text, const ImgOverlay *overlay, uint64_t virtual_bytes,
                         uint32_t n_l1)
{
    ImgQcow2Disk disk = fixed_header(virtual_bytes, n_l1);
    memset(text, 0, sizeof(*text));
    text->n = sizeof(disk);
    if (overlay->backing_path) {
        const char *format = img_format_name(overlay->backing_format);
        add_extension(text, IMG_QCOW2_EXT_BACKING, format, strlen(format));
    }
    add_extension(text, IMG_QCOW2_EXT_FEATURES, feature_names, sizeof(feature_names));
    add_extension(text, IMG_QCOW2_EXT_END, NULL, 0);
    if (overlay->backing_path) {
        add_backing_path(text, overlay->backing_path, &disk);
    }
    memcpy(text->bytes, &disk, sizeof(disk));
}

static bool write_tables(ImgNewFile *file, uint32_t n_l1, GError **error)
{
    uint64_t n_l1_clusters = ((uint64_t)n_l1 * 8 + CLUSTER_BYTES - 1) / CLUSTER_BYTES;
    uint64_t n_clusters = N_L1_CLUSTER_FIRST + n_l1_clusters;
    uint64_t block_offset = htobe64(2 * CLUSTER_BYTES);
    uint16_t refcounts[N_CLUSTERS_MAX] = {0};
    for (uint64_t i = 0; i < n_clusters; i++) {
        refcounts[i] = htobe16(1);
    }
    if (ftruncate(file->fd, (off_t)(n_clusters * CLUSTER_BYTES)) != 0) {
        base_error_set_errno(error, errno, "cannot size the file");
        return false;
    }
    return img_new_file_write(file, &block_offset, sizeof(block_offset), CLUSTER_BYTES, error) &&
           img_new_file_write(file, refcounts, n_clusters * 2, 2 * CLUSTER_BYTES, error);
}

static bool check_backing_path(const ImgOverlay *overlay, GError **error)
{
    if (!overlay->backing_path) {
        return true;
    }
    if (overlay->backing_path[0] != '/') {
        return base_fail(error, VM_ERROR_PATH, "base '%s': the path of a base must be absolute",
                         overlay->backing_path);
    }
    size_t n_name = strlen(overlay->backing_path);
    if (n_name > IMG_QCOW2_BACKING_NAME_MAX) {
        return base_fail(error, VM_ERROR_PATH,
                         "base '%.60s...': a path of %zu bytes is longer than the %u that a qcow2 "
                         "file can record - put the image into a shorter path",
                         overlay->backing_path, n_name, IMG_QCOW2_BACKING_NAME_MAX);
    }
    return true;
}

static bool decide_size(const ImgOverlay *overlay, uint64_t *out_bytes, GError **error)
{
    uint64_t bytes = overlay->virtual_bytes ? overlay->virtual_bytes : overlay->backing_bytes;
    if (bytes == 0 || bytes > IMG_VIRTUAL_BYTES_MAX) {
        return base_fail(error, VM_ERROR_RANGE,
                         "disk size %" G_GUINT64_FORMAT " is not within 512 bytes to 16 TiB",
                         bytes);
    }
    if (bytes < overlay->backing_bytes) {
        return base_fail(error, VM_ERROR_RANGE,
                         "disk size %" G_GUINT64_FORMAT " is smaller than its image's "
                         "%" G_GUINT64_FORMAT " bytes - give at least that much, or no size",
                         bytes, overlay->backing_bytes);
    }
    *out_bytes = (bytes + IMG_SECTOR_BYTES - 1) / IMG_SECTOR_BYTES * IMG_SECTOR_BYTES;
    return true;
}

bool img_overlay_create(int dirfd, const char *name, const ImgOverlay *overlay, uint64_t *out_bytes,
                        GError **error)
{
    uint64_t bytes = 0;
    if (!decide_size(overlay, &bytes, error) || !check_backing_path(overlay, error)) {
        return false;
    }
    uint32_t n_l1 = (uint32_t)((bytes + L1_ENTRY_COVERS - 1) / L1_ENTRY_COVERS);
    HeaderText text;
    build_header(&text, overlay, bytes, n_l1);
    g_autoptr(ImgNewFile) file = img_new_file_open(dirfd, name, error);
    if (!file || !write_tables(file, n_l1, error) ||
        !img_new_file_write(file, text.bytes, text.n, 0, error) ||
        !img_new_file_commit(file, error)) {
        g_prefix_error(error, "overlay '%s': ", name);
        return false;
    }
    if (out_bytes) {
        *out_bytes = bytes;
    }
    return true;
}
