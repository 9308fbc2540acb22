#include "base/dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/error.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/report.h"

enum { MAX_SYMLINKS = 40 }; /* as the kernel, path_resolution(7) */

/* --- making ----------------------------------------------------------------- */

/* A walk along a path, one component at a time. */
typedef struct {
    const char *path; /* as the caller wrote it, for messages */
    int fd;           /* the folder reached so far, O_PATH; owned */
    char *rest;       /* what is still to be walked; owned */
    unsigned n_symlinks;
    mode_t mode;
} Walk;

static void walk_clear(Walk *walk)
{
    base_fd_close(&walk->fd);
    g_free(walk->rest);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Walk, walk_clear)

static bool walk_fail(const Walk *walk, int errnum, const char *component, GError **error)
{
    g_autofree char *shown = base_report_escape(walk->path, 0);
    g_autofree char *part = base_report_escape(component, 0);
    base_error_set_errno(error, errnum, "cannot make folder '%s' (at '%s')", shown, part);
    return false;
}

/* Cuts the next component off; NULL at the end. Transfer full. */
static char *walk_next(Walk *walk)
{
    const char *start = walk->rest + strspn(walk->rest, "/");
    size_t n = strcspn(start, "/");
    char *component = n ? g_strndup(start, n) : NULL;
    char *rest = g_strdup(start + n);
    g_free(walk->rest);
    walk->rest = rest;
    return component;
}

/* Puts the target of the symlink link_fd before the rest of the path. */
static bool walk_symlink(Walk *walk, int link_fd, const struct stat *st, const char *component,
                         GError **error)
{
    char target[PATH_MAX];
    if (st->st_uid != 0 && st->st_uid != geteuid()) {
        g_autofree char *shown = base_report_escape(walk->path, 0);
        g_autofree char *part = base_report_escape(component, 0);
        return base_fail(error, VM_ERROR_PATH,
                         "'%s': '%s' is a symlink of another user (uid %u) - remove it", shown,
                         part, (unsigned)st->st_uid);
    }
    ssize_t n = readlinkat(link_fd, "", target, sizeof target - 1);
    if (n < 0 || ++walk->n_symlinks > MAX_SYMLINKS) {
        return walk_fail(walk, n < 0 ? errno : ELOOP, component, error);
    }
    target[n] = '\0';
    char *rest = g_strconcat(target, "/", walk->rest, NULL);
    g_free(walk->rest);
    walk->rest = rest;
    if (*target == '/') {
        base_fd_close(&walk->fd);
        walk->fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        return walk->fd >= 0 || walk_fail(walk, errno, "/", error);
    }
    return true;
}

/* For an O_PATH descriptor, which fchmod(2) refuses: a umask may have made a folder that we can't
 * even open. False with errno. */
static bool set_mode(int fd, mode_t mode)
{
    struct stat st;
    if (fstat(fd, &st) || !S_ISDIR(st.st_mode)) { /* somebody replaced it already */
        errno = ENOTDIR;
        return false;
    }
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
    return (st.st_mode & 07777) == mode || !chmod(path, mode);
}

/* Opens the component as it is (a symlink itself), making it when it is absent; -1 with errno. */
static int open_or_make(const Walk *walk, const char *component)
{
    int fd = openat(walk->fd, component, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 || errno != ENOENT) {
        return fd;
    }
    if (mkdirat(walk->fd, component, walk->mode)) {
        return errno == EEXIST ? openat(walk->fd, component, O_PATH | O_NOFOLLOW | O_CLOEXEC) : -1;
    }
    autofd int made_fd = openat(walk->fd, component, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (made_fd < 0 || !set_mode(made_fd, walk->mode)) {
        return -1;
    }
    return base_fd_steal(&made_fd);
}

static bool walk_step(Walk *walk, const char *component, GError **error)
{
    struct stat st;
    autofd int fd = open_or_make(walk, component);
    if (fd < 0 || fstat(fd, &st)) {
        return walk_fail(walk, errno, component, error);
    }
    if (S_ISLNK(st.st_mode)) {
        return walk_symlink(walk, fd, &st, component, error);
    }
    if (!S_ISDIR(st.st_mode)) {
        return walk_fail(walk, ENOTDIR, component, error);
    }
    base_fd_close(&walk->fd);
    walk->fd = base_fd_steal(&fd);
    return true;
}

int base_dir_open_make(const char *path, mode_t mode, GError **error)
{
    g_auto(Walk) walk = {.path = path, .rest = g_strdup(path), .mode = mode};
    walk.fd = open(*path == '/' ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (walk.fd < 0) {
        walk_fail(&walk, errno, ".", error);
        return -1;
    }
    if (!*path) {
        walk_fail(&walk, ENOENT, "", error);
        return -1;
    }
    for (;;) {
        g_autofree char *component = walk_next(&walk);
        if (!component) {
            break;
        }
        if (!walk_step(&walk, component, error)) {
            return -1;
        }
    }
    int fd = openat(walk.fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        walk_fail(&walk, errno, ".", error);
    }
    return fd;
}

/* --- removing --------------------------------------------------------------- */

/* Opens a folder that is no symlink and no mount point; -1 with errno (EXDEV: a mount). */
static int open_inside(int folder_fd, const char *name)
{
    struct open_how how = {
        .flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
    };
    return (int)syscall(SYS_openat2, folder_fd, name, &how, sizeof how);
}

/* Remembers the first failure only; always false. */
static bool leave(int folder_fd, const char *name, int errnum, GError **first)
{
    if (first && !*first) {
        g_autofree char *shown = base_path_show(folder_fd, name);
        base_fail(first, VM_ERROR_LEFTOVER, "cannot remove '%s': %s", shown,
                  errnum == EXDEV ? "something is mounted there" : g_strerror(errnum));
    }
    return false;
}

/* The names in a folder, read before any is removed: readdir(3) and unlink at once may skip some.
 */
static GPtrArray *list_names(int folder_fd)
{
    int fd = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    if (!stream) {
        base_fd_close(&fd);
        return NULL;
    }
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    for (struct dirent *entry = readdir(stream); entry; entry = readdir(stream)) {
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) {
            g_ptr_array_add(names, g_strdup(entry->d_name));
        }
    }
    closedir(stream);
    return names;
}

static bool remove_entry(int folder_fd, const char *name, GError **first);

static bool remove_folder(int parent_fd, const char *name, GError **first)
{
    bool is_empty = true;
    autofd int fd = open_inside(parent_fd, name);
    g_autoptr(GPtrArray) names = fd < 0 ? NULL : list_names(fd);
    if (!names) {
        return errno == ENOENT ? true : leave(parent_fd, name, errno, first);
    }
    for (guint i = 0; i < names->len; i++) {
        is_empty = remove_entry(fd, names->pdata[i], first) && is_empty;
    }
    if (!is_empty) {
        return false;
    }
    if (unlinkat(parent_fd, name, AT_REMOVEDIR) && errno != ENOENT) {
        return leave(parent_fd, name, errno, first);
    }
    return true;
}

/* unlink first: it says EISDIR for a folder and never follows a symlink. */
static bool remove_entry(int folder_fd, const char *name, GError **first)
{
    if (!unlinkat(folder_fd, name, 0) || errno == ENOENT) {
        return true;
    }
    if (errno == EISDIR || errno == EPERM) { /* EPERM: POSIX's word for a folder */
        struct stat st;
        if (!fstatat(folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) && S_ISDIR(st.st_mode)) {
            return remove_folder(folder_fd, name, first);
        }
        errno = EPERM;
    }
    return leave(folder_fd, name, errno, first);
}

bool base_dir_remove_tree(int dirfd, const char *name, GError **error)
{
    const char *last = NULL;
    g_autoptr(GError) first = NULL;
    autofd int folder_fd = base_path_open_parent(dirfd, name, &last, &first);
    if (folder_fd < 0) {
        if (g_error_matches(first, VM_ERROR, VM_ERROR_NOT_FOUND)) {
            return true;
        }
        g_propagate_error(error, g_steal_pointer(&first));
        return false;
    }
    if (remove_entry(folder_fd, last, &first)) {
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&first));
    return false;
}
