#include "imaging/header.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/report.h"
#include "imaging/magic.h"
#include "imaging/qcow2.h"

#define N_START_BYTES 65536u
#define N_NAME_SHOWN  120u

static const uint64_t incompatible_known = IMG_QCOW2_DIRTY | IMG_QCOW2_CORRUPT |
                                           IMG_QCOW2_DATA_FILE | IMG_QCOW2_COMPRESSION |
                                           IMG_QCOW2_EXTENDED_L2;

static const char *const format_names[] = {
    [IMG_FORMAT_RAW] = "raw",
    [IMG_FORMAT_QCOW2] = "qcow2",
};
G_STATIC_ASSERT(G_N_ELEMENTS(format_names) == IMG_FORMAT_N);

const char *img_format_name(ImgFormat format)
{
    return format_names[format];
}

int img_format_from_name(const char *name)
{
    for (int i = 0; i < IMG_FORMAT_N; i++) {
        if (strcmp(format_names[i], name) == 0) {
            return i;
        }
    }
    return -1;
}

void img_header_free(ImgHeader *header)
{
    if (!header) {
        return;
    }
    g_free(header->backing_name);
    g_free(header->backing_format);
    g_free(header->data_file);
    g_free(header);
}

static bool check_expected(const ImgHeader *header, int expected, GError **error)
{
    if (expected < 0 || expected == (int)header->format) {
        return true;
    }
    if (header->format == IMG_FORMAT_QCOW2) {
        return base_fail(error, VM_ERROR_IMAGE,
                         "declared raw, but the file has a qcow2 header - declare it as qcow2");
    }
    if (header->foreign) {
        return base_fail(error, VM_ERROR_IMAGE, "declared qcow2, but this is %s - %s",
                         header->foreign, img_magic_hint(header->foreign));
    }
    return base_fail(error, VM_ERROR_IMAGE,
                     "declared qcow2, but the file has no qcow2 header (%" G_GUINT64_FORMAT
                     " bytes) - declare it as raw if it is a plain disk",
                     header->file_bytes);
}

static bool has_qcow2_magic(const uint8_t *start, size_t n_start)
{
    static const uint8_t magic[] = {'Q', 'F', 'I', 0xfb};
    static const uint8_t version_1[] = {0, 0, 0, 1};
    return n_start >= 4 && memcmp(start, magic, 4) == 0 &&
           !(n_start >= 8 && memcmp(start + 4, version_1, 4) == 0);
}

static bool read_start(int fd, uint8_t *start, size_t n_start, ImgHeader *header, GError **error)
{
    uint8_t end[IMG_SECTOR_BYTES];
    uint64_t n_end = MIN(header->file_bytes, sizeof(end));
    ssize_t got = img_qcow2_pread(fd, end, (size_t)n_end, header->file_bytes - n_end, error);
    if (got < 0) {
        return false;
    }
    bool is_qcow2 = has_qcow2_magic(start, n_start);
    const ImgMagic *magic = img_magic_find(start, n_start, end, (size_t)got, is_qcow2);
    header->foreign = magic ? magic->name : NULL;
    if (is_qcow2) {
        header->format = IMG_FORMAT_QCOW2;
        return img_qcow2_read(fd, start, n_start, header, error);
    }
    header->format = IMG_FORMAT_RAW;
    header->virtual_bytes = header->file_bytes;
    return true;
}

ImgHeader *img_header_read(int fd, int expected, GError **error)
{
    struct stat st;
    if (fstat(fd, &st) != 0) {
        base_error_set_errno(error, errno, "cannot look at the image");
        return NULL;
    }
    if (!S_ISREG(st.st_mode)) {
        base_fail(error, VM_ERROR_PATH, "not a regular file - give the file of a disk image");
        return NULL;
    }
    g_autoptr(ImgHeader) header = g_new0(ImgHeader, 1);
    header->file_bytes = (uint64_t)st.st_size;
    header->allocated_bytes = (uint64_t)st.st_blocks * IMG_SECTOR_BYTES;
    g_autofree uint8_t *start = g_malloc(N_START_BYTES);
    ssize_t n_start = img_qcow2_pread(fd, start, N_START_BYTES, 0, error);
    if (n_start < 0 || !read_start(fd, start, (size_t)n_start, header, error) ||
        !check_expected(header, expected, error)) {
        return NULL;
    }
    return g_steal_pointer(&header);
}

static bool vet_format(const ImgHeader *header, GError **error)
{
    if (!header->foreign) {
        return true;
    }
    if (header->format == IMG_FORMAT_QCOW2) {
        return base_fail(error, VM_ERROR_IMAGE,
                         "the file is qcow2 and %s at once, which no honest tool makes - get the "
                         "image from its publisher again",
                         header->foreign);
    }
    return base_fail(error, VM_ERROR_IMAGE, "%s is not supported (qcow2 and raw are) - %s",
                     header->foreign, img_magic_hint(header->foreign));
}

static bool vet_names(const ImgHeader *header, GError **error)
{
    if (header->backing_name) {
        g_autofree char *name = base_report_escape(header->backing_name, N_NAME_SHOWN);
        return base_fail(error, VM_ERROR_IMAGE,
                         "has a backing file ('%s'), and names inside images are never followed - "
                         "make one file of it: qemu-img convert -O qcow2 OLD NEW.qcow2",
                         name);
    }
    if (header->data_file) {
        g_autofree char *name = base_report_escape(header->data_file, N_NAME_SHOWN);
        return base_fail(error, VM_ERROR_IMAGE,
                         "has an external data file ('%s'), and names inside images are never "
                         "followed - make one file of it: qemu-img convert -O qcow2 OLD NEW.qcow2",
                         name);
    }
    return true;
}

static bool vet_features(const ImgHeader *header, GError **error)
{
    uint64_t unknown = header->incompatible & ~incompatible_known;
    if (unknown) {
        return base_fail(error, VM_ERROR_IMAGE,
                         "needs features this program does not know (incompatible bits "
                         "0x%" G_GINT64_MODIFIER
                         "x) - make a plain copy of it with qemu-img convert",
                         unknown);
    }
    if (header->incompatible & IMG_QCOW2_CORRUPT) {
        return base_fail(error, VM_ERROR_IMAGE,
                         "is marked corrupt - repair it (qemu-img check -r all) or get it again");
    }
    if (header->crypt_method) {
        return base_fail(error, VM_ERROR_IMAGE,
                         "is encrypted (%s), which is not supported - make a copy in the clear",
                         header->crypt_method == 1 ? "AES" : "LUKS");
    }
    return true;
}

static bool vet_size(const ImgHeader *header, GError **error)
{
    if (header->virtual_bytes == 0) {
        return base_fail(error, VM_ERROR_IMAGE, "is empty: a disk of 0 bytes - get it again");
    }
    if (header->virtual_bytes % IMG_SECTOR_BYTES != 0) {
        return base_fail(error, VM_ERROR_IMAGE,
                         "virtual size %" G_GUINT64_FORMAT " is no multiple of 512 - this is no "
                         "disk image, or it is cut short",
                         header->virtual_bytes);
    }
    if (header->virtual_bytes > IMG_VIRTUAL_BYTES_MAX) {
        return base_fail(error, VM_ERROR_IMAGE,
                         "virtual size %" G_GUINT64_FORMAT " is more than 16 TiB, which costs the "
                         "host too much when the guest fills it - use a smaller image",
                         header->virtual_bytes);
    }
    return true;
}

bool img_header_vet(const ImgHeader *header, GError **error)
{
    return vet_format(header, error) && vet_names(header, error) && vet_features(header, error) &&
           vet_size(header, error);
}
