#include "net/network.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/dir.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/proc.h"
#include "base/report.h"
#include "net/network_internal.h"
#include "net/network_supervisor.h"

#define GONE_PREFIX   ".gone-"
#define BRIDGE_PREFIX "bridge."

/* --- the store -------------------------------------------------------------------------------- */

NetStore *net_store_open(const char *state_dir, const char *store_id, GError **error)
{
    g_autofree char *networks = g_build_filename(state_dir, "networks", NULL);
    g_autofree char *locks = g_build_filename(state_dir, "locks", NULL);
    autofd int networks_fd = base_dir_open_make(networks, 0700, error);
    autofd int locks_fd = networks_fd < 0 ? -1 : base_dir_open_make(locks, 0700, error);
    if (locks_fd < 0) {
        return NULL;
    }
    NetStore *store = g_new0(NetStore, 1);
    store->dir = g_strdup(state_dir);
    store->id = g_strdup(store_id);
    store->networks_fd = base_fd_steal(&networks_fd);
    store->locks_fd = base_fd_steal(&locks_fd);
    return store;
}

void net_store_close(NetStore *store)
{
    if (!store) {
        return;
    }
    base_fd_close(&store->networks_fd);
    base_fd_close(&store->locks_fd);
    g_free(store->dir);
    g_free(store->id);
    g_free(store);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

GPtrArray *net_folder_list(int dirfd, const char *name)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    autofd int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        return names;
    }
    base_fd_steal(&fd);
    struct dirent *entry;
    while ((entry = readdir(dir))) {
        if (entry->d_name[0] != '.') {
            g_ptr_array_add(names, g_strdup(entry->d_name));
        }
    }
    closedir(dir);
    g_ptr_array_sort(names, compare_names);
    return names;
}

char **net_store_names(NetStore *store, GError **error)
{
    (void)error;
    g_autoptr(GPtrArray) all = net_folder_list(store->networks_fd, ".");
    GPtrArray *names = g_ptr_array_new();
    for (guint i = 0; i < all->len; i++) {
        g_autofree char *record = g_build_filename(all->pdata[i], NET_RECORD_FILE, NULL);
        if (net_network_name_is_valid(all->pdata[i]) &&
            faccessat(store->networks_fd, record, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
            g_ptr_array_add(names, g_strdup(all->pdata[i]));
        }
    }
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_free(names, FALSE);
}

/* --- a network's folder and lock -------------------------------------------------------------- */

bool net_network_name_is_valid(const char *name)
{
    static const char label[] = "abcdefghijklmnopqrstuvwxyz0123456789-";
    size_t n = strlen(name);
    if (g_str_has_prefix(name, BRIDGE_PREFIX)) {
        const char *link = name + strlen(BRIDGE_PREFIX);
        size_t n_link = strlen(link);
        return n_link >= 1 && n_link < IFNAMSIZ && !strchr(link, '/') && !strchr(link, '\n');
    }
    return n >= 1 && n <= 63 && strspn(name, label) == n && name[0] != '-' && name[n - 1] != '-';
}

static bool fail_name(const char *name, GError **error)
{
    g_autofree char *shown = base_report_escape(name, 80);
    return base_fail(error, VM_ERROR_NAME, "'%s' can't be the name of a network", shown);
}

static int open_folder(NetStore *store, const char *name, bool makes, GError **error)
{
    int fd = openat(store->networks_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && makes) {
        if (mkdirat(store->networks_fd, name, 0700) == 0 || errno == EEXIST) {
            fd = openat(store->networks_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        }
    }
    if (fd < 0 && errno == ENOENT) {
        base_fail(error, VM_ERROR_NOT_FOUND, "there is no network '%s' - see 'vm-run network ls'",
                  name);
    } else if (fd < 0) {
        base_error_set_errno(error, errno, "cannot open the folder of network '%s'", name);
    }
    return fd;
}

static NetNetwork *network_new(const NetStore *store, int dirfd)
{
    NetNetwork *network = g_new0(NetNetwork, 1);
    network->state_dir = g_strdup(store->dir);
    network->store_id = g_strdup(store->id);
    network->dirfd = dirfd;
    network->loaded =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)net_member_free);
    network->damaged = g_ptr_array_new_with_free_func(g_free);
    network->chosen = g_ptr_array_new_with_free_func((GDestroyNotify)net_member_free);
    return network;
}

void net_network_forget_members(NetNetwork *network)
{
    g_clear_pointer(&network->members, g_ptr_array_unref);
    g_hash_table_remove_all(network->loaded);
}

void net_network_close(NetNetwork *network)
{
    if (!network) {
        return;
    }
    base_fd_close(&network->dirfd);
    g_clear_pointer(&network->members, g_ptr_array_unref);
    g_clear_pointer(&network->loaded, g_hash_table_unref);
    g_clear_pointer(&network->damaged, g_ptr_array_unref);
    g_clear_pointer(&network->chosen, g_ptr_array_unref);
    net_record_free(network->record);
    if (network->lock && network->is_gone) {
        base_lock_free_and_unlink(network->lock);
    } else {
        base_lock_free(network->lock);
    }
    g_free(network->state_dir);
    g_free(network->store_id);
    g_free(network);
}

NetNetwork *net_network_open_folder(NetStore *store, const char *name, unsigned timeout_ms,
                                    bool makes, GError **error)
{
    if (!net_network_name_is_valid(name)) {
        fail_name(name, error);
        return NULL;
    }
    autofd int probe_fd = makes ? -1 : open_folder(store, name, false, error);
    if (!makes && probe_fd < 0) {
        return NULL;
    }
    g_autofree char *file = g_strdup_printf("net.%s.lock", name);
    int wait_ms = timeout_ms > G_MAXINT ? -1 : (int)timeout_ms;
    g_autoptr(BaseLock) lock = base_lock_take(store->locks_fd, file, wait_ms, error);
    if (!lock) {
        g_prefix_error(error, "network '%s': ", name);
        return NULL;
    }
    autofd int dirfd = open_folder(store, name, makes, error);
    if (dirfd < 0) {
        base_lock_free_and_unlink(g_steal_pointer(&lock));
        return NULL;
    }
    g_autoptr(NetNetwork) network = network_new(store, base_fd_steal(&dirfd));
    network->lock = g_steal_pointer(&lock);
    g_autoptr(GError) problem = NULL;
    network->record = net_record_load(store, name, &problem);
    if (!network->record && !g_error_matches(problem, VM_ERROR, VM_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return NULL;
    }
    return g_steal_pointer(&network);
}

NetNetwork *net_network_open(NetStore *store, const char *name, unsigned timeout_ms, GError **error)
{
    g_autoptr(NetNetwork) network = net_network_open_folder(store, name, timeout_ms, false, error);
    if (network && !network->record) {
        base_fail(error, VM_ERROR_NOT_FOUND, "there is no network '%s' - see 'vm-run network ls'",
                  name);
        return NULL;
    }
    return g_steal_pointer(&network);
}

NetNetwork *net_network_peek(NetStore *store, const char *name, GError **error)
{
    if (!net_network_name_is_valid(name)) {
        fail_name(name, error);
        return NULL;
    }
    autofd int dirfd = open_folder(store, name, false, error);
    g_autoptr(NetRecord) record = dirfd < 0 ? NULL : net_record_load(store, name, error);
    if (!record) {
        return NULL;
    }
    NetNetwork *network = network_new(store, base_fd_steal(&dirfd));
    network->record = g_steal_pointer(&record);
    return network;
}

bool net_network_remove_folder(NetNetwork *network, GError **error)
{
    const char *name = network->record->name;
    g_autofree char *path = g_build_filename(network->state_dir, "networks", NULL);
    autofd int parent = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    g_autofree char *gone = g_strdup_printf(GONE_PREFIX "%s", name);
    if (parent < 0 || !base_dir_remove_tree(parent, gone, error)) {
        if (parent < 0) {
            base_error_set_errno(error, errno, "cannot open '%s'", path);
        }
        return false;
    }
    if (renameat(parent, name, parent, gone) < 0 && errno != ENOENT) {
        base_error_set_errno(error, errno, "cannot remove the record of network '%s'", name);
        return false;
    }
    network->is_gone = true;
    (void)base_failpoint("network.gone");
    return base_dir_remove_tree(parent, gone, error);
}

/* --- marks of what is up ---------------------------------------------------------------------- */

char *net_up_mark(void)
{
    struct stat st = {0};
    if (stat("/proc/thread-self/ns/net", &st) < 0) {
        st.st_ino = 0;
    }
    return g_strdup_printf("%s.%" G_GUINT64_FORMAT, base_proc_boot_id(), (guint64)st.st_ino);
}

bool net_up_is_marked(int dirfd, const char *name)
{
    char text[128];
    ssize_t n = readlinkat(dirfd, name, text, sizeof text - 1);
    if (n < 0) {
        return false;
    }
    text[n] = '\0';
    g_autofree char *mark = net_up_mark();
    return !strcmp(text, mark);
}

bool net_up_set_mark(int dirfd, const char *name, GError **error)
{
    if (net_up_is_marked(dirfd, name)) {
        return true;
    }
    g_autofree char *mark = net_up_mark();
    if ((unlinkat(dirfd, name, 0) < 0 && errno != ENOENT) || symlinkat(mark, dirfd, name) < 0) {
        base_error_set_errno(error, errno, "cannot write '%s'", name);
        return false;
    }
    return true;
}

bool net_up_clear_mark(int dirfd, const char *name, GError **error)
{
    if (unlinkat(dirfd, name, 0) < 0 && errno != ENOENT) {
        base_error_set_errno(error, errno, "cannot remove '%s'", name);
        return false;
    }
    return true;
}

bool net_network_is_up(const NetNetwork *network)
{
    return net_up_is_marked(network->dirfd, NET_IS_UP_FILE);
}
