#include "imaging/copy.h"

#include <errno.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/child.h"
#include "imaging/newfile.h"
#include "imaging/qcow2.h"

/*
 * How it works: the copy is made in a nameless file, which gets its name last. Data goes from one
 * descriptor to the other in steps of 8 MiB, between which progress is told and cancelling is
 * heard; what is a hole in the source is skipped, and so a hole in the copy.
 */
#define N_STEP_BYTES      (8u << 20)
#define N_BUFFER_BYTES    (1u << 20)
#define RESIZE_AS_BYTES   (UINT64_C(2) << 30)
#define RESIZE_CPU_S      20
#define RESIZE_MORE_BYTES (UINT64_C(256) << 20) /* tables of 16 TiB at the smallest clusters */
#define RESIZE_TIMEOUT_MS 60000

typedef struct {
    const ImgSource *source;
    ImgNewFile *file;
    uint64_t n_bytes;
    bool has_no_range_copy; /* copy_file_range() refused once */
    ImgMeter meter;
} Copy;

static bool fail_write(int errnum, GError **error)
{
    base_error_set_errno(error, errnum, "cannot write the copy%s",
                         errnum == ENOSPC ? " (free some space, or use a thin overlay)" : "");
    return false;
}

/* Moves up to n bytes at offset; the number moved, 0 at the end of the file, -1 with `error` set.
 */
static ssize_t move_by_hand(Copy *copy, uint64_t offset, size_t n, GError **error)
{
    size_t n_chunk = MIN(n, N_BUFFER_BYTES);
    g_autofree char *buffer = g_malloc(n_chunk);
    ssize_t got = img_qcow2_pread(copy->source->fd, buffer, n_chunk, offset, error);
    bool is_moved = got >= 0 && img_new_file_write(copy->file, buffer, (size_t)got, offset, error);
    return is_moved ? got : -1;
}

static ssize_t move_range(Copy *copy, uint64_t offset, size_t n, GError **error)
{
    if (copy->has_no_range_copy) {
        return move_by_hand(copy, offset, n, error);
    }
    off_t from = (off_t)offset, to = (off_t)offset;
    ssize_t moved = copy_file_range(copy->source->fd, &from, copy->file->fd, &to, n, 0);
    if (moved > 0) {
        return moved;
    }
    if (moved < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG || errno == EIO)) {
        fail_write(errno, error);
        return -1;
    }
    copy->has_no_range_copy = true; /* EXDEV, EINVAL, ENOSYS, or 0 bytes where there are some */
    return move_by_hand(copy, offset, n, error);
}

static bool copy_data(Copy *copy, uint64_t start, uint64_t end, GError **error)
{
    for (uint64_t at = start; at < end;) {
        ssize_t moved = move_range(copy, at, (size_t)MIN(end - at, N_STEP_BYTES), error);
        if (moved < 0) {
            return false;
        }
        if (moved == 0) {
            return base_fail(error, VM_ERROR_IMAGE,
                             "was cut short while it was copied - try again");
        }
        at += (uint64_t)moved;
        if (!img_meter_tell(&copy->meter, at, copy->n_bytes, false)) {
            return base_fail(error, VM_ERROR_CANCELLED, "copying was cancelled");
        }
    }
    return true;
}

/* The next run of data at or after `at`; false when there is none. A file system that knows no
 * holes says that all is data (lseek(2)). */
static bool next_data(const Copy *copy, uint64_t at, uint64_t *out_start, uint64_t *out_end)
{
    off_t start = lseek(copy->source->fd, (off_t)at, SEEK_DATA);
    if (start < 0 && errno != ENXIO) {
        start = (off_t)at;
    }
    if (start < 0 || (uint64_t)start >= copy->n_bytes) {
        return false;
    }
    off_t end = lseek(copy->source->fd, start, SEEK_HOLE);
    *out_start = (uint64_t)start;
    *out_end = end > start ? MIN((uint64_t)end, copy->n_bytes) : copy->n_bytes;
    return true;
}

static bool copy_sparse(Copy *copy, GError **error)
{
    uint64_t start, end = 0;
    if (ftruncate(copy->file->fd, (off_t)copy->n_bytes) != 0) {
        return fail_write(errno, error);
    }
    while (end < copy->n_bytes && next_data(copy, end, &start, &end)) {
        if (!copy_data(copy, start, end, error)) {
            return false;
        }
    }
    return true;
}

static bool copy_all(Copy *copy, GError **error)
{
    bool is_cloned = ioctl(copy->file->fd, FICLONE, copy->source->fd) == 0;
    if (!is_cloned && !copy_sparse(copy, error)) {
        return false;
    }
    if (!img_meter_tell(&copy->meter, copy->n_bytes, copy->n_bytes, true)) {
        return base_fail(error, VM_ERROR_CANCELLED, "copying was cancelled");
    }
    return true;
}

static bool check_copy(const Copy *copy, GError **error)
{
    const ImgHeader *was = copy->source->header;
    g_autoptr(ImgHeader) is = img_header_read(copy->file->fd, (int)was->format, error);
    if (!is || !img_header_vet(is, error)) {
        return false;
    }
    return is->virtual_bytes == was->virtual_bytes ||
           base_fail(error, VM_ERROR_IMAGE, "was written to while it was copied - try again");
}

/* qemu-img gets the descriptor, never a name: its standard input is the copy. */
static bool grow_qcow2(const Copy *copy, uint64_t virtual_bytes, GError **error)
{
    g_autofree char *size = g_strdup_printf("%" G_GUINT64_FORMAT, virtual_bytes);
    const char *const argv[] = {"qemu-img",
                                "resize",
                                "-q",
                                "--image-opts",
                                "driver=qcow2,file.driver=file,file.filename=/proc/self/fd/0",
                                size,
                                NULL};
    BaseChild child = BASE_CHILD_INIT;
    child.argv = argv;
    child.stdin_fd = copy->file->fd;
    child.timeout_ms = RESIZE_TIMEOUT_MS;
    child.limit_as_bytes = RESIZE_AS_BYTES;
    child.limit_cpu_s = RESIZE_CPU_S;
    child.limit_fsize_bytes = copy->n_bytes + RESIZE_MORE_BYTES;
    if (!base_child_run(&child, NULL, NULL, error)) {
        g_prefix_error(error, "cannot grow the copy: ");
        return false;
    }
    return true;
}

static bool grow(const Copy *copy, uint64_t virtual_bytes, GError **error)
{
    if (virtual_bytes <= copy->source->header->virtual_bytes) {
        return true;
    }
    uint64_t bytes = (virtual_bytes + IMG_SECTOR_BYTES - 1) / IMG_SECTOR_BYTES * IMG_SECTOR_BYTES;
    if (copy->source->header->format == IMG_FORMAT_QCOW2) {
        return grow_qcow2(copy, bytes, error);
    }
    return ftruncate(copy->file->fd, (off_t)bytes) == 0 || fail_write(errno, error);
}

static bool check_size(const ImgSource *source, uint64_t virtual_bytes, GError **error)
{
    if (virtual_bytes > IMG_VIRTUAL_BYTES_MAX) {
        return base_fail(error, VM_ERROR_RANGE, "disk size %" G_GUINT64_FORMAT " is over 16 TiB",
                         virtual_bytes);
    }
    if (virtual_bytes != 0 && virtual_bytes < source->header->virtual_bytes) {
        return base_fail(error, VM_ERROR_RANGE,
                         "disk size %" G_GUINT64_FORMAT " is smaller than its image's "
                         "%" G_GUINT64_FORMAT " bytes - give at least that much, or no size",
                         virtual_bytes, source->header->virtual_bytes);
    }
    return true;
}

bool img_copy_create(const ImgSource *source, int dirfd, const char *name, uint64_t virtual_bytes,
                     ImgProgress progress, void *data, GError **error)
{
    if (!check_size(source, virtual_bytes, error)) {
        g_prefix_error(error, "copy '%s': ", name);
        return false;
    }
    g_autoptr(ImgNewFile) file = img_new_file_open(dirfd, name, error);
    Copy copy = {source, file, source->header->file_bytes, false, {progress, data, 0}};
    if (!file || !copy_all(&copy, error) || !check_copy(&copy, error) ||
        !img_source_check_unchanged(source, error) || !grow(&copy, virtual_bytes, error) ||
        !img_new_file_commit(file, error)) {
        g_prefix_error(error, "copy '%s' of '%s': ", name, source->path);
        return false;
    }
    return true;
}
