#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/error.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/path.h"

enum { TEMPORARY_TRIES = 8, TEMPORARY_NAME_BYTES = 200 };

/* Sets the error for `name` from errno or from a failpoint's number; always false. */
static bool fail_errno(GError **error, int errnum, const char *verb, int dirfd, const char *name)
{
    g_autofree char *shown = base_path_show(dirfd, name);
    base_error_set_errno(error, errnum, "cannot %s '%s'", verb, shown);
    return false;
}

static bool fail_path(GError **error, int dirfd, const char *name, const char *what)
{
    g_autofree char *shown = base_path_show(dirfd, name);
    return base_fail(error, VM_ERROR_PATH, "'%s' %s", shown, what);
}

/* --- writing whole files ---------------------------------------------------- */

static char *temporary_name(const char *name)
{
    uint64_t number = 0;
    if (getrandom(&number, sizeof number, GRND_NONBLOCK) != sizeof number) {
        number = (uint64_t)g_get_monotonic_time() ^ ((uint64_t)getpid() << 40);
    }
    return g_strdup_printf(".tmp-%016" G_GINT64_MODIFIER "x-%.*s", number, TEMPORARY_NAME_BYTES,
                           name);
}

/* Creates a file of a new name in the folder; -1 with errno. */
static int create_temporary(int folder_fd, const char *name, char **out_name)
{
    for (int i = 0; i < TEMPORARY_TRIES; i++) {
        g_autofree char *temporary = temporary_name(name);
        int fd = openat(folder_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                        0600);
        if (fd >= 0) {
            *out_name = g_steal_pointer(&temporary);
            return fd;
        }
        if (errno != EEXIST) {
            return -1;
        }
    }
    return -1;
}

/* 0 or an errno. */
static int write_all(int fd, const void *data, size_t n_bytes)
{
    const char *next = data;
    while (n_bytes > 0) {
        ssize_t n = write(fd, next, n_bytes);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? errno : EIO;
        }
        next += n;
        n_bytes -= (size_t)n;
    }
    return 0;
}

/* Fills the temporary file; 0 or an errno. */
static int fill(int fd, const void *data, size_t n_bytes, mode_t mode, bool is_durable)
{
    int errnum = base_failpoint("file.write");
    if (!errnum) {
        errnum = write_all(fd, data, n_bytes);
    }
    if (!errnum && fchmod(fd, mode)) {
        errnum = errno;
    }
    if (!errnum && is_durable && fsync(fd)) {
        errnum = errno;
    }
    return errnum ? errnum : base_failpoint("file.rename");
}

static bool write_file(int dirfd, const char *name, const void *data, size_t n_bytes, mode_t mode,
                       bool is_durable, GError **error)
{
    const char *last = NULL;
    autofd int folder_fd = base_path_open_parent(dirfd, name, &last, error);
    if (folder_fd < 0) {
        return false;
    }
    g_autofree char *temporary = NULL;
    autofd int fd = create_temporary(folder_fd, last, &temporary);
    if (fd < 0) {
        return fail_errno(error, errno, "create", dirfd, name);
    }
    int errnum = fill(fd, data, n_bytes, mode, is_durable);
    if (!errnum && renameat(folder_fd, temporary, folder_fd, last)) {
        errnum = errno;
    }
    if (errnum) {
        unlinkat(folder_fd, temporary, 0);
        return fail_errno(error, errnum, "write", dirfd, name);
    }
    if (is_durable && fsync(folder_fd)) {
        return fail_errno(error, errno, "make durable", dirfd, name);
    }
    return true;
}

bool base_file_write_atomic(int dirfd, const char *name, const void *data, size_t n_bytes,
                            mode_t mode, GError **error)
{
    return write_file(dirfd, name, data, n_bytes, mode, true, error);
}

bool base_file_write_whole(int dirfd, const char *name, const void *data, size_t n_bytes,
                           mode_t mode, GError **error)
{
    return write_file(dirfd, name, data, n_bytes, mode, false, error);
}

/* --- reading ---------------------------------------------------------------- */

/* O_NONBLOCK: opening a fifo must not wait for a writer. -1 with `error` set. */
static int open_regular(int dirfd, const char *name, int flags, struct stat *out_st, GError **error)
{
    autofd int fd = openat(dirfd, name, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
    if (fd < 0 && errno == ELOOP) {
        fail_path(error, dirfd, name,
                  (flags & O_NOFOLLOW) ? "is a symlink" : "is a loop of symlinks");
        return -1;
    }
    if (fd < 0 && (errno == ENXIO || errno == EISDIR)) { /* a socket or a reader's fifo; a folder */
        fail_path(error, dirfd, name, "is not a regular file");
        return -1;
    }
    if (fd < 0 || fstat(fd, out_st)) {
        fail_errno(error, errno, "open", dirfd, name);
        return -1;
    }
    if (!S_ISREG(out_st->st_mode)) {
        fail_path(error, dirfd, name, "is not a regular file");
        return -1;
    }
    return base_fd_steal(&fd);
}

/* Appends the whole rest of fd to `text`, stopping beyond max_bytes; 0 or an errno. */
static int read_up_to(int fd, size_t max_bytes, GByteArray *text)
{
    enum { CHUNK_BYTES = 64 * 1024 };
    g_autofree guint8 *chunk = g_malloc(CHUNK_BYTES);
    while (text->len <= max_bytes) {
        ssize_t n = read(fd, chunk, CHUNK_BYTES);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? errno : 0;
        }
        g_byte_array_append(text, chunk, (guint)n);
    }
    return 0;
}

static char *read_file(int dirfd, const char *name, int flags, size_t max_bytes,
                       size_t *out_n_bytes, GError **error)
{
    struct stat st;
    autofd int fd = open_regular(dirfd, name, O_RDONLY | flags, &st, error);
    if (fd < 0) {
        return NULL;
    }
    g_autoptr(GByteArray) text = g_byte_array_new();
    int errnum = (uint64_t)st.st_size > max_bytes ? 0 : read_up_to(fd, max_bytes, text);
    if (errnum) {
        fail_errno(error, errnum, "read", dirfd, name);
        return NULL;
    }
    if ((uint64_t)st.st_size > max_bytes || text->len > max_bytes) {
        g_autofree char *shown = base_path_show(dirfd, name);
        base_fail(error, VM_ERROR_RANGE, "'%s' is larger than %zu bytes", shown, max_bytes);
        return NULL;
    }
    if (out_n_bytes) {
        *out_n_bytes = text->len;
    }
    g_byte_array_append(text, (const guint8 *)"", 1);
    return (char *)g_byte_array_free(g_steal_pointer(&text), FALSE);
}

char *base_file_read(int dirfd, const char *name, size_t max_bytes, size_t *out_n_bytes,
                     GError **error)
{
    return read_file(dirfd, name, O_NOFOLLOW, max_bytes, out_n_bytes, error);
}

char *base_file_read_user(const char *path, size_t max_bytes, size_t *out_n_bytes, GError **error)
{
    return read_file(AT_FDCWD, path, 0, max_bytes, out_n_bytes, error);
}

/* --- appending -------------------------------------------------------------- */

/* Does the file end in the middle of a line? */
static bool is_cut_short(int fd, off_t size)
{
    char last = '\n';
    return size > 0 && pread(fd, &last, 1, size - 1) == 1 && last != '\n';
}

static int sync_appended(int fd, int dirfd, const char *name, bool is_new)
{
    if (fdatasync(fd)) {
        return errno;
    }
    if (!is_new) {
        return 0;
    }
    const char *last = NULL;
    autofd int folder_fd = base_path_open_parent(dirfd, name, &last, NULL);
    return folder_fd < 0 || fsync(folder_fd) ? errno : 0;
}

bool base_file_append_line(int dirfd, const char *name, const char *line, bool is_durable,
                           GError **error)
{
    if (strchr(line, '\n')) {
        g_autofree char *shown = base_path_show(dirfd, name);
        return base_fail(error, VM_ERROR_INTERNAL, "'%s': a record holds a line break", shown);
    }
    struct stat st;
    autofd int fd = open_regular(dirfd, name, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW, &st, error);
    if (fd < 0) {
        return false;
    }
    g_autofree char *text =
        g_strdup_printf("%s%s\n", is_cut_short(fd, st.st_size) ? "\n" : "", line);
    int errnum = base_failpoint("file.append");
    if (!errnum) {
        errnum = write_all(fd, text, strlen(text));
    }
    if (!errnum && is_durable) {
        errnum = sync_appended(fd, dirfd, name, st.st_size == 0);
    }
    return errnum ? fail_errno(error, errnum, "append to", dirfd, name) : true;
}
