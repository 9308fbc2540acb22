#include "driver/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/dir.h"
#include "base/fd.h"
#include "base/report.h"

#define ROOT_STATE_DIR "/var/lib/vm-run"
#define ROOT_RUN_DIR   "/run/vm-run"

static char *default_state_dir(void)
{
    const char *chosen = g_getenv("VM_RUN_STATE_DIR");
    if (chosen && *chosen) {
        return g_strdup(chosen);
    }
    if (geteuid() == 0) {
        return g_strdup(ROOT_STATE_DIR);
    }
    const char *xdg = g_getenv("XDG_STATE_HOME");
    if (xdg && g_path_is_absolute(xdg)) {
        return g_build_filename(xdg, "vm-run", NULL);
    }
    return g_build_filename(g_get_home_dir(), ".local", "state", "vm-run", NULL);
}

/* An empty store: what a reader sees where nothing was ever made. */
static MachineStore *store_empty(const char *path)
{
    MachineStore *store = g_new0(MachineStore, 1);
    store->dir = g_canonicalize_filename(path, NULL);
    store->dirfd = store->machines_fd = store->locks_fd = -1;
    return store;
}

static int open_sub(int dirfd, const char *name, mode_t mode, bool is_read_only, GError **error)
{
    if (!is_read_only && mkdirat(dirfd, name, mode) < 0 && errno != EEXIST) {
        base_error_set_errno(error, errno, "state directory: cannot make '%s'", name);
        return -1;
    }
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && !(is_read_only && errno == ENOENT)) {
        base_error_set_errno(error, errno, "state directory: cannot open '%s'", name);
    }
    return fd;
}

/* The canonical path behind an open directory: names must follow from it, however it was given. */
static char *path_of_fd(int fd, const char *fallback)
{
    g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", fd);
    char *path = g_file_read_link(link, NULL);
    return path ? path : g_canonicalize_filename(fallback, NULL);
}

static bool store_fill(MachineStore *store, bool is_read_only, GError **error)
{
    /* QEMU runs as another user where we are root: it may pass through, never list. */
    mode_t pass = geteuid() == 0 ? 0711 : 0700;
    GError *problem = NULL;
    store->machines_fd = open_sub(store->dirfd, "machines", pass, is_read_only, &problem);
    if (!problem) {
        store->locks_fd = open_sub(store->dirfd, "locks", 0700, is_read_only, &problem);
    }
    if (problem) {
        g_propagate_error(error, problem);
        return false;
    }
    return true;
}

MachineStore *machine_store_open(const char *state_dir, bool is_read_only, GError **error)
{
    g_autofree char *usual = state_dir ? g_strdup(state_dir) : default_state_dir();
    g_autofree char *path = g_canonicalize_filename(usual, NULL);
    autofd int fd = -1;
    if (is_read_only) {
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT) {
            return store_empty(path);
        }
        if (fd < 0) {
            base_error_set_errno(error, errno, "state directory '%s'", path);
            return NULL;
        }
    } else {
        fd = base_dir_open_make(path, geteuid() == 0 ? 0711 : 0700, error);
        if (fd < 0) {
            g_prefix_error(error, "state directory '%s': ", path);
            return NULL;
        }
    }
    g_autoptr(MachineStore) store = g_new0(MachineStore, 1);
    store->dir = path_of_fd(fd, path);
    store->dirfd = base_fd_steal(&fd);
    store->machines_fd = store->locks_fd = -1;
    if (!store_fill(store, is_read_only, error)) {
        return NULL;
    }
    return g_steal_pointer(&store);
}

void machine_store_close(MachineStore *store)
{
    if (!store) {
        return;
    }
    base_fd_close(&store->dirfd);
    base_fd_close(&store->machines_fd);
    base_fd_close(&store->locks_fd);
    g_free(store->dir);
    g_free(store);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char **machine_store_names(const MachineStore *store, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    int fd = store->machines_fd < 0
                 ? -1
                 : openat(store->machines_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (store->machines_fd >= 0 && !dir) {
        base_error_set_errno(error, errno, "state directory '%s'", store->dir);
        base_fd_close(&fd);
        return NULL;
    }
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        if (entry->d_name[0] != '.') {
            g_ptr_array_add(names, g_strdup(entry->d_name));
        }
    }
    if (dir) {
        closedir(dir);
    }
    g_ptr_array_sort(names, compare_names);
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&names), FALSE);
}

bool machine_store_has(const MachineStore *store, const char *name)
{
    struct stat st;
    return store->machines_fd >= 0 &&
           fstatat(store->machines_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

int machine_store_open_machine(const MachineStore *store, const char *name, GError **error)
{
    int fd = -1;
    errno = ENOENT;
    /* A name is a label and never a path; what is no label was never stored. */
    if (store->machines_fd >= 0 && !strchr(name, '/') && name[0] != '.' && *name) {
        fd = openat(store->machines_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }
    if (fd >= 0) {
        return fd;
    }
    g_autofree char *shown = base_report_escape(name, 80);
    if (errno != ENOENT) {
        base_error_set_errno(error, errno, "machine '%s'", shown);
        return -1;
    }
    g_auto(GStrv) names = machine_store_names(store, NULL);
    const char *nearest = names ? base_report_nearest(name, (const char *const *)names) : NULL;
    if (nearest) {
        base_fail(error, VM_ERROR_NOT_FOUND, "machine '%s': there is none - did you mean '%s'?",
                  shown, nearest);
    } else {
        base_fail(error, VM_ERROR_NOT_FOUND,
                  "machine '%s': there is none in '%s' - see `vm-run ps`", shown, store->dir);
    }
    return -1;
}

char *machine_store_machine_dir(const MachineStore *store, const char *name)
{
    return g_build_filename(store->dir, "machines", name, NULL);
}

char *machine_store_run_parent(const MachineStore *store)
{
    if (geteuid() == 0) {
        return g_strdup(ROOT_RUN_DIR);
    }
    const char *xdg = g_getenv("XDG_RUNTIME_DIR");
    struct stat st;
    if (xdg && g_path_is_absolute(xdg) && stat(xdg, &st) == 0 && S_ISDIR(st.st_mode) &&
        st.st_uid == geteuid()) {
        return g_build_filename(xdg, "vm-run", NULL);
    }
    return g_build_filename(store->dir, "run", NULL);
}

char *machine_store_run_dir(const MachineStore *store, const MachineIdent *ident)
{
    g_autofree char *parent = machine_store_run_parent(store);
    return g_build_filename(parent, ident->run_name, NULL);
}

BaseLock *machine_store_lock(const MachineStore *store, const char *name, int timeout_ms,
                             GError **error)
{
    g_autofree char *file = g_strdup_printf("%s.lock", name);
    BaseLock *lock = base_lock_take(store->locks_fd, file, timeout_ms, error);
    if (!lock) {
        g_prefix_error(error, "machine '%s': ", name);
    }
    return lock;
}
