#include "imaging/source.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/report.h"

/*
 * How it works: the name is resolved once, by the kernel, to an O_PATH descriptor, which opens
 * nothing: no device wakes up, no fifo hangs. fstat() on it decides. Only then is that same inode
 * opened for reading through /proc/self/fd, and its absolute path is read back from there.
 */
#define N_NEIGHBOURS_MAX 2000u /* names looked at for a did-you-mean */

typedef struct {
    const char *path;
    uid_t root_uid; /* owner of the allowed root */
    bool is_strict; /* below an allowed root */
} Rule;

static int open_beneath(int dirfd, const char *path, uint64_t flags, uint64_t resolve)
{
    struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = resolve};
    int fd;
    do { /* EAGAIN: a rename raced with ".." or a mount; openat2(2) says try again */
        fd = (int)syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
    } while (fd < 0 && (errno == EINTR || errno == EAGAIN));
    return fd;
}

static bool check_name(const char *path, GError **error)
{
    size_t n = strlen(path);
    if (n == 0) {
        return base_fail(error, VM_ERROR_PATH, "the path is empty");
    }
    if (n >= PATH_MAX) {
        return base_fail(error, VM_ERROR_PATH, "a path of %zu bytes is longer than %d", n,
                         PATH_MAX - 1);
    }
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)path[i] < 0x20 || path[i] == 0x7f) {
            return base_fail(error, VM_ERROR_PATH, "control character in the path");
        }
    }
    size_t n_head = strcspn(path, ":/"); /* as QEMU's path_has_protocol() */
    if (path[n_head] == ':') {
        return base_fail(error, VM_ERROR_PATH,
                         "looks like a protocol, and only files are opened - write './%s' if it is "
                         "the name of a file",
                         path);
    }
    return true;
}

/* " - did you mean 'debian.qcow2'?" from the names beside the missing file, or "". */
static char *nearest_hint(const char *path)
{
    g_autofree char *folder = g_path_get_dirname(path);
    g_autofree char *name = g_path_get_basename(path);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    DIR *dir = opendir(folder);
    if (!dir) {
        return g_strdup("");
    }
    const struct dirent *entry;
    while (names->len < N_NEIGHBOURS_MAX && (entry = readdir(dir))) {
        if (entry->d_name[0] != '.' && (entry->d_type == DT_REG || entry->d_type == DT_LNK)) {
            g_ptr_array_add(names, g_strdup(entry->d_name));
        }
    }
    closedir(dir);
    g_ptr_array_add(names, NULL);
    const char *nearest = base_report_nearest(name, (const char *const *)names->pdata);
    if (!nearest) {
        return g_strdup("");
    }
    g_autofree char *shown = base_report_escape(nearest, 0);
    return g_strdup_printf(" - did you mean '%s'?", shown);
}

static bool fail_open(const char *path, bool is_strict, int errnum, GError **error)
{
    if (errnum == ENOENT || errnum == ENOTDIR) {
        g_autofree char *hint = is_strict ? g_strdup("") : nearest_hint(path);
        return base_fail(error, VM_ERROR_NOT_FOUND, "no such file%s", hint);
    }
    if (errnum == ELOOP) {
        return base_fail(error, VM_ERROR_PATH,
                         is_strict ? "a symlink in the path, which is not allowed below an image "
                                     "folder - name the file itself"
                                   : "a loop of symlinks, or a link into /proc - name the file "
                                     "itself");
    }
    if (errnum == EXDEV) {
        return base_fail(error, VM_ERROR_PATH,
                         "leaves its image folder, by '..' or across a mount - name a file in the "
                         "folder, or allow the mounted folder itself");
    }
    if (errnum == ENAMETOOLONG) {
        return base_fail(error, VM_ERROR_PATH, "a name in the path is longer than 255 bytes");
    }
    base_error_set_errno(error, errnum, "cannot open");
    return false;
}

/* The part of path below root, NULL: not below it. Both absolute; case matters; '..' is the
 * kernel's. */
static const char *below_root(const char *path, const char *root)
{
    size_t n_root = strlen(root);
    while (n_root > 1 && root[n_root - 1] == '/') {
        n_root--;
    }
    if (strncmp(path, root, n_root) != 0 || (n_root > 1 && path[n_root] != '/')) {
        return NULL;
    }
    const char *rest = path + n_root;
    rest += strspn(rest, "/");
    return *rest ? rest : NULL;
}

static int open_in_root(const char *root, const char *rest, Rule *rule, GError **error)
{
    struct stat st;
    autofd int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0 || fstat(root_fd, &st) != 0) {
        base_error_set_errno(error, errno, "cannot open the image folder '%s'", root);
        return -1;
    }
    rule->root_uid = st.st_uid;
    int fd = open_beneath(root_fd, rest, O_PATH,
                          RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS |
                              RESOLVE_NO_XDEV);
    if (fd < 0) {
        fail_open(rule->path, true, errno, error);
    }
    return fd;
}

/* O_PATH descriptor of the named thing, whatever it is. */
static int look_up(const char *const *roots, Rule *rule, GError **error)
{
    if (!roots) {
        int fd = open_beneath(AT_FDCWD, rule->path, O_PATH, RESOLVE_NO_MAGICLINKS);
        if (fd < 0) {
            fail_open(rule->path, false, errno, error);
        }
        return fd;
    }
    rule->is_strict = true;
    for (size_t i = 0; roots[i]; i++) {
        const char *rest = below_root(rule->path, roots[i]);
        if (rest) {
            return open_in_root(roots[i], rest, rule, error);
        }
    }
    g_autofree char *all = g_strjoinv(", ", (char **)roots);
    base_fail(error, VM_ERROR_PATH, "outside the allowed image folders (%s)", all);
    return -1;
}

static bool check_kind(const struct stat *st, GError **error)
{
    if (S_ISREG(st->st_mode)) {
        return true;
    }
    const char *kind = S_ISDIR(st->st_mode)                           ? "a folder"
                       : S_ISFIFO(st->st_mode)                        ? "a fifo"
                       : S_ISSOCK(st->st_mode)                        ? "a socket"
                       : S_ISBLK(st->st_mode) || S_ISCHR(st->st_mode) ? "a device"
                                                                      : "no file";
    return base_fail(error, VM_ERROR_PATH,
                     "not a regular file but %s - give the file of a disk image", kind);
}

/* Who could change the image behind our back, or smuggle in a file that is not theirs to read? */
static bool check_owner(const struct stat *st, const Rule *rule, GError **error)
{
    bool is_owner_known = st->st_uid == 0 || st->st_uid == geteuid() ||
                          (rule->is_strict && st->st_uid == rule->root_uid);
    if (st->st_mode & S_IWOTH) {
        return base_fail(error, VM_ERROR_PATH,
                         "everybody may write to it - take that right away: chmod o-w FILE");
    }
    if (rule->is_strict && (st->st_mode & S_IWGRP)) {
        return base_fail(error, VM_ERROR_PATH,
                         "its group may write to it - take that right away: chmod g-w FILE");
    }
    if (rule->is_strict && !is_owner_known) {
        return base_fail(error, VM_ERROR_PATH,
                         "it belongs to uid %u, not to root, to us or to the folder's owner",
                         st->st_uid);
    }
    if (!is_owner_known && st->st_nlink > 1) {
        return base_fail(error, VM_ERROR_PATH,
                         "a hard link (one of %lu) to a file of uid %u - copy it first",
                         (unsigned long)st->st_nlink, st->st_uid);
    }
    return true;
}

/* The absolute path of what fd_path has open, checked to lead there still. */
static char *resolved_path(const char *self, const struct stat *st, GError **error)
{
    char path[PATH_MAX];
    struct stat now;
    ssize_t n = readlink(self, path, sizeof(path) - 1);
    if (n < 0) {
        base_error_set_errno(error, errno, "cannot resolve the path (is /proc mounted?)");
        return NULL;
    }
    path[n] = '\0';
    if (path[0] != '/' || lstat(path, &now) != 0 || now.st_dev != st->st_dev ||
        now.st_ino != st->st_ino) {
        base_fail(error, VM_ERROR_PATH, "was removed or replaced while it was opened - try again");
        return NULL;
    }
    return g_strdup(path);
}

static bool open_checked(ImgSource *source, int path_fd, const Rule *rule, GError **error)
{
    struct stat st;
    char self[32];
    if (fstat(path_fd, &st) != 0) {
        base_error_set_errno(error, errno, "cannot look at it");
        return false;
    }
    if (!check_kind(&st, error) || !check_owner(&st, rule, error)) {
        return false;
    }
    g_snprintf(self, sizeof(self), "/proc/self/fd/%d", path_fd);
    source->path = resolved_path(self, &st, error);
    if (!source->path) {
        return false;
    }
    source->fd = open(self, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (source->fd < 0) {
        base_error_set_errno(error, errno, "cannot open");
        return false;
    }
    source->dev = st.st_dev;
    source->ino = st.st_ino;
    source->mtime_ns = (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
    return true;
}

static ImgSource *open_named(const char *path, const char *const *roots, int expected,
                             GError **error)
{
    Rule rule = {.path = path};
    g_autoptr(ImgSource) source = g_new0(ImgSource, 1);
    source->fd = -1;
    if (!check_name(path, error)) {
        return NULL;
    }
    autofd int path_fd = look_up(roots, &rule, error);
    if (path_fd < 0 || !open_checked(source, path_fd, &rule, error)) {
        return NULL;
    }
    source->header = img_header_read(source->fd, expected, error);
    return source->header ? g_steal_pointer(&source) : NULL;
}

static void prefix_image(const char *path, GError **error)
{
    g_autofree char *shown = base_report_escape(path, 200);
    g_prefix_error(error, "image '%s': ", shown);
}

ImgSource *img_source_probe(const char *path, int expected, GError **error)
{
    ImgSource *source = open_named(path, NULL, expected, error);
    if (!source) {
        prefix_image(path, error);
    }
    return source;
}

ImgSource *img_source_open(const char *path, const char *const *roots, int expected, GError **error)
{
    g_autoptr(ImgSource) source = open_named(path, roots, expected, error);
    if (!source || !img_header_vet(source->header, error)) {
        prefix_image(path, error);
        return NULL;
    }
    return g_steal_pointer(&source);
}

bool img_source_check_unchanged(const ImgSource *source, GError **error)
{
    struct stat st;
    if (fstat(source->fd, &st) != 0) {
        base_error_set_errno(error, errno, "image '%s': cannot look at it", source->path);
        return false;
    }
    uint64_t mtime_ns = (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
    if (mtime_ns != source->mtime_ns || (uint64_t)st.st_size != source->header->file_bytes) {
        return base_fail(error, VM_ERROR_IMAGE,
                         "image '%s': was written to since it was checked - try again when nobody "
                         "writes to it",
                         source->path);
    }
    return true;
}

void img_source_free(ImgSource *source)
{
    if (!source) {
        return;
    }
    if (source->fd >= 0) {
        close(source->fd);
    }
    img_header_free(source->header);
    g_free(source->path);
    g_free(source);
}
