#include "net/network.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "base/dir.h"
#include "base/error.h"
#include "base/fd.h"
#include "net/dnsmasq_internal.h"
#include "net/network_internal.h"
#include "net/network_supervisor.h"
#include "net/rules_internal.h"

/*
 * gc: first each network that has a folder (members whose machine is gone, those that don't run,
 * the network itself when nobody needs it), then what no folder speaks for: bridges, rules and run
 * folders that carry this store's id. A network that somebody has locked is left for the next time.
 */
#define TEMP_PREFIX ".tmp-"

enum { LOCK_MS = 2000 };

typedef struct {
    NetStore *store;
    const NetGcMachines *machines;
    GHashTable *owners; /* set of char*: who may have rules; owned keys */
    GHashTable *up;     /* set of char*: names of networks that are up; owned keys */
    GPtrArray *texts;
    bool is_dry_run;
} Gc;

G_GNUC_PRINTF(2, 3) static void tell(const Gc *gc, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    g_ptr_array_add(gc->texts, g_strdup_vprintf(format, arguments));
    va_end(arguments);
}

static void tell_problem(const Gc *gc, const char *what, GError *problem)
{
    tell(gc, "%s: %s", what, problem ? problem->message : "failed");
}

/* "<store id>:<uuid>:<nic>" -> uuid, transfer full; NULL: another form. */
static char *uuid_of(const char *owner)
{
    g_auto(GStrv) parts = g_strsplit(owner, ":", 3);
    return g_strv_length(parts) == 3 ? g_strdup(parts[1]) : NULL;
}

static bool is_there(const Gc *gc, const char *uuid)
{
    return uuid && gc->machines->is_there(uuid, gc->machines->data);
}

static bool is_running(const Gc *gc, const char *uuid)
{
    return uuid && gc->machines->is_running(uuid, gc->machines->data);
}

static gpointer copy_text(gconstpointer text, gpointer unused)
{
    (void)unused;
    return g_strdup(text);
}

/* --- one network ------------------------------------------------------------------------------ */

/* What a write that was cut off left in a folder. */
static void sweep_temporaries(const Gc *gc, int dirfd, const char *folder, const char *name)
{
    autofd int fd = openat(dirfd, folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        if (!g_str_has_prefix(entry->d_name, TEMP_PREFIX)) {
            continue;
        }
        tell(gc, "network '%s': temporary file '%s' removed", name, entry->d_name);
        if (!gc->is_dry_run) {
            unlinkat(fd, entry->d_name, 0);
        }
    }
    if (dir) {
        base_fd_steal(&fd);
        closedir(dir);
    }
}

/* Marks of addresses whose member is gone, or has others by now. */
static void sweep_taken(const Gc *gc, NetNetwork *network)
{
    g_autoptr(GPtrArray) files = net_folder_list(network->dirfd, NET_TAKEN_DIR);
    for (guint i = 0; i < files->len; i++) {
        g_autofree char *holder = net_network_holder(network, files->pdata[i]);
        g_autofree char *path = g_build_filename(NET_TAKEN_DIR, files->pdata[i], NULL);
        if (!holder) {
            tell(gc, "network '%s': mark of address %s removed", network->record->name,
                 (char *)files->pdata[i]);
        }
        if (!holder && !gc->is_dry_run) {
            unlinkat(network->dirfd, path, 0);
        }
    }
}

/* Marks of ports whose member is gone: "4.OWNER", "6.OWNER". */
static void sweep_port_marks(const Gc *gc, NetNetwork *network)
{
    g_autoptr(GPtrArray) files = net_folder_list(network->dirfd, NET_PORTS_DIR);
    for (guint i = 0; i < files->len && !gc->is_dry_run; i++) {
        const char *file = files->pdata[i];
        g_autofree char *path = g_build_filename(NET_PORTS_DIR, file, NULL);
        if (strlen(file) < 2 || !net_network_member(network, file + 2)) {
            unlinkat(network->dirfd, path, 0);
        }
    }
}

static void sweep_up_marks(const Gc *gc, NetNetwork *network)
{
    g_autoptr(GPtrArray) files = net_folder_list(network->dirfd, NET_UP_DIR);
    for (guint i = 0; i < files->len && !gc->is_dry_run; i++) {
        const NetMember *member = net_network_member(network, files->pdata[i]);
        g_autofree char *path = g_build_filename(NET_UP_DIR, files->pdata[i], NULL);
        if (!member || !member->is_up) { /* of nobody, or of another boot */
            unlinkat(network->dirfd, path, 0);
        }
    }
}

static bool collect_member(const Gc *gc, NetNetwork *network, const NetMember *member,
                           GError **error)
{
    g_autofree char *uuid = uuid_of(member->owner);
    if (!is_there(gc, uuid)) {
        tell(gc, "network '%s': member '%s' removed, its machine is gone", network->record->name,
             member->machine ? member->machine : member->owner);
        return gc->is_dry_run || net_network_drop_member(network, member->owner, error);
    }
    if (member->is_up && !is_running(gc, uuid)) {
        g_autoptr(NetMember) down = net_member_copy(member);
        down->is_up = false;
        tell(gc, "network '%s': member '%s' marked as down, its machine does not run",
             network->record->name, member->machine);
        return gc->is_dry_run || net_network_put_member(network, down, error);
    }
    if (member->is_up || is_running(gc, uuid)) { /* never open a hole */
        g_hash_table_add(gc->owners, g_strdup(member->owner));
    }
    return true;
}

static bool collect_members(const Gc *gc, NetNetwork *network, GError **error)
{
    const GPtrArray *found = net_network_members(network, error);
    g_autoptr(GPtrArray) members = g_ptr_array_new_with_free_func((GDestroyNotify)net_member_free);
    for (guint i = 0; found && i < found->len; i++) {
        NetMember *copy = net_member_copy(found->pdata[i]);
        copy->is_up = ((NetMember *)found->pdata[i])->is_up;
        g_ptr_array_add(members, copy);
    }
    for (guint i = 0; i < members->len && !network->is_gone; i++) {
        if (!collect_member(gc, network, members->pdata[i], error)) {
            return false;
        }
    }
    return found != NULL;
}

/* Records that can't be read, of machines that are gone; a machine that is there writes its own
 * anew at its next start. */
static bool collect_damaged(const Gc *gc, NetNetwork *network, GError **error)
{
    if (network->is_gone || !net_network_members(network, error)) {
        return network->is_gone;
    }
    g_autoptr(GPtrArray) owners = g_ptr_array_copy(network->damaged, copy_text, NULL);
    g_ptr_array_set_free_func(owners, g_free);
    for (guint i = 0; i < owners->len && !network->is_gone; i++) {
        g_autofree char *uuid = uuid_of(owners->pdata[i]);
        if (is_there(gc, uuid)) {
            g_hash_table_add(gc->owners, g_strdup(owners->pdata[i]));
            continue;
        }
        tell(gc, "network '%s': damaged record of member '%s' removed", network->record->name,
             (char *)owners->pdata[i]);
        if (!gc->is_dry_run && !net_network_drop_member(network, owners->pdata[i], error)) {
            return false;
        }
    }
    return true;
}

/* Nobody needs it: down, and without members forgotten. */
static bool collect_unused(const Gc *gc, NetNetwork *network, GError **error)
{
    g_autofree char *kept = NULL;
    g_autofree char *name = g_strdup(network->record->name);
    bool is_up = net_network_is_up(network);
    bool is_empty = !net_network_has_member(network);
    NetSupervisor state;
    net_supervisor_find(network->dirfd, &state);
    if (!is_up && !is_empty && !state.pid && !state.dnsmasq_pid) {
        return true;
    }
    if (gc->is_dry_run) {
        tell(gc, "network '%s': %s", name, is_empty ? "removed, it has no machines" : "taken down");
        return true;
    }
    if (!net_network_down_if_unused(network, &kept, error)) {
        return false;
    }
    if (kept) {
        tell(gc, "network '%s': %s", name, kept);
        return true;
    }
    tell(gc, "network '%s': %s", name, is_empty ? "removed, it has no machines" : "taken down");
    return !is_empty || net_network_remove_folder(network, error);
}

/* Up, and rightly: its supervisor must live. */
static bool collect_supervisor(const Gc *gc, NetNetwork *network, GError **error)
{
    NetSupervisor state;
    net_supervisor_find(network->dirfd, &state);
    if (state.pid) {
        return true;
    }
    tell(gc, "network '%s': supervisor started again", network->record->name);
    return gc->is_dry_run || net_network_up(network, error);
}

static bool collect_open(const Gc *gc, NetNetwork *network, GError **error)
{
    static const char *const folders[] = {".", NET_MEMBERS_DIR, NET_TAKEN_DIR, NET_UP_DIR};
    for (size_t i = 0; i < G_N_ELEMENTS(folders); i++) {
        sweep_temporaries(gc, network->dirfd, folders[i], network->record->name);
    }
    sweep_taken(gc, network);
    sweep_up_marks(gc, network);
    sweep_port_marks(gc, network);
    if (net_supervisor_elsewhere(network->dirfd)) {
        g_hash_table_add(gc->up, g_strdup(network->record->name));
        return true;
    }
    if (!collect_members(gc, network, error) || !collect_damaged(gc, network, error)) {
        return false;
    }
    if (network->is_gone) {
        return true;
    }
    bool is_used = network->record->is_kept || net_network_has_up_member(network);
    if (is_used && !net_network_is_up(network)) { /* kept, but the host was booted anew */
        return net_supervisor_end(network->dirfd, error);
    }
    return is_used ? collect_supervisor(gc, network, error) : collect_unused(gc, network, error);
}

/* A folder without a record: cut off while it was made. */
static void collect_unfinished(const Gc *gc, const char *name)
{
    tell(gc, "network '%s': removed, it was never finished", name);
    if (!gc->is_dry_run) {
        g_autoptr(GError) problem = NULL;
        if (!base_dir_remove_tree(gc->store->networks_fd, name, &problem)) {
            tell_problem(gc, name, problem);
        }
    }
}

static void collect_network(const Gc *gc, const char *name)
{
    g_autoptr(GError) problem = NULL;
    g_autoptr(NetNetwork) network =
        net_network_open_folder(gc->store, name, LOCK_MS, false, &problem);
    if (network && !network->record) {
        net_supervisor_end(network->dirfd, NULL);
        collect_unfinished(gc, name);
        network->is_gone = !gc->is_dry_run;
        return;
    }
    if (!network || !collect_open(gc, network, &problem)) {
        g_autofree char *what = g_strdup_printf("network '%s'", name);
        tell_problem(gc, what, problem);
        g_hash_table_add(gc->up, g_strdup(name)); /* unknown: nothing of it may go */
        return;
    }
    if (!network->is_gone && net_network_is_up(network)) {
        g_hash_table_add(gc->up, g_strdup(name));
        g_hash_table_add(gc->owners, net_network_owner(network));
    }
}

/* --- what has no folder ----------------------------------------------------------------------- */

/* A network may have come since the folders were looked at: what has its name is judged under its
 * lock. NULL: it may not go, or nobody can tell. */
static BaseLock *lock_unused(const Gc *gc, const char *name)
{
    g_autofree char *file = g_strdup_printf("net.%s.lock", name);
    g_autofree char *mark = g_build_filename(name, NET_IS_UP_FILE, NULL);
    if (g_hash_table_contains(gc->up, name) || !net_network_name_is_valid(name)) {
        return NULL;
    }
    g_autoptr(BaseLock) lock = base_lock_take(gc->store->locks_fd, file, LOCK_MS, NULL);
    bool is_up = lock && faccessat(gc->store->networks_fd, mark, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    return lock && !is_up ? g_steal_pointer(&lock) : NULL;
}

/* The file of a lock goes with its network. */
static void unlock_unused(const Gc *gc, const char *name, BaseLock *lock)
{
    if (faccessat(gc->store->networks_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        base_lock_free(lock);
    } else {
        base_lock_free_and_unlink(lock);
    }
}

static void collect_bridge(const Gc *gc, const char *link, const char *tag, const char *name)
{
    BaseLock *lock = lock_unused(gc, name);
    if (!lock) {
        return;
    }
    g_autoptr(GError) failure = NULL;
    bool is_done = gc->is_dry_run || net_bridge_remove(link, tag, &failure);
    tell(gc, "bridge '%s': %s", link, is_done ? "removed, no network has it" : failure->message);
    unlock_unused(gc, name, lock);
}

static void collect_bridges(const Gc *gc)
{
    g_autoptr(GError) problem = NULL;
    g_autoptr(GPtrArray) nameless = net_bridge_sweep(gc->is_dry_run, NULL);
    for (guint i = 0; nameless && i < nameless->len; i++) {
        tell(gc, "bridge '%s': removed, it was never finished", (char *)nameless->pdata[i]);
    }
    g_autoptr(GPtrArray) bridges = net_bridge_list(&problem);
    g_autofree char *prefix = net_bridge_owner_tag(gc->store->id, "");
    if (!bridges) {
        tell_problem(gc, "bridges", problem);
    }
    for (guint i = 0; bridges && i < bridges->len; i++) {
        g_auto(GStrv) words = g_strsplit(bridges->pdata[i], " ", 2);
        if (g_strv_length(words) == 2 && g_str_has_prefix(words[1], prefix)) {
            collect_bridge(gc, words[0], words[1], words[1] + strlen(prefix));
        }
    }
}

/* And who came since the folders were looked at: whoever writes rules has said before that it is
 * up. */
static void add_owners_now(const Gc *gc)
{
    g_autoptr(GPtrArray) names = net_folder_list(gc->store->networks_fd, ".");
    for (guint i = 0; i < names->len; i++) {
        const char *name = names->pdata[i];
        g_autofree char *mark = g_build_filename(name, NET_IS_UP_FILE, NULL);
        g_autofree char *folder = g_build_filename(name, NET_UP_DIR, NULL);
        g_autoptr(GPtrArray) members = net_folder_list(gc->store->networks_fd, folder);
        if (faccessat(gc->store->networks_fd, mark, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
            g_hash_table_add(gc->owners, g_strdup_printf("%s:net:%s", gc->store->id, name));
        }
        for (guint k = 0; k < members->len; k++) {
            g_hash_table_add(gc->owners, g_strdup(members->pdata[k]));
        }
    }
}

static void collect_rules(const Gc *gc)
{
    g_autoptr(GError) problem = NULL;
    g_autoptr(GPtrArray) removed = NULL;
    g_autoptr(NetRulesLock) lock = net_rules_lock(LOCK_MS, &problem);
    if (lock) {
        add_owners_now(gc);
    }
    if (!lock || !net_rules_sweep(gc->store->id, gc->owners, gc->is_dry_run, &removed, &problem)) {
        tell_problem(gc, "rules", problem);
    }
    for (guint i = 0; removed && i < removed->len; i++) {
        g_ptr_array_add(gc->texts, g_strdup(removed->pdata[i]));
    }
}

static void collect_run_folders(const Gc *gc)
{
    g_autofree char *prefix = g_strdup_printf("%s.net.", gc->store->id);
    autofd int fd = open(NET_DNSMASQ_PARENT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    g_autoptr(GPtrArray) folders =
        fd < 0 ? g_ptr_array_new_with_free_func(g_free) : net_folder_list(fd, ".");
    for (guint i = 0; i < folders->len; i++) {
        const char *folder = folders->pdata[i];
        const char *name = g_str_has_prefix(folder, prefix) ? folder + strlen(prefix) : NULL;
        BaseLock *lock = name ? lock_unused(gc, name) : NULL;
        if (!lock) {
            continue;
        }
        g_autoptr(GError) problem = NULL;
        bool is_done = gc->is_dry_run || base_dir_remove_tree(fd, folder, &problem);
        tell(gc, NET_DNSMASQ_PARENT "/%s: %s", folder, is_done ? "removed" : problem->message);
        unlock_unused(gc, name, lock);
    }
}

/* Folders that were renamed away to be removed. */
static void collect_gone(const Gc *gc)
{
    autofd int fd = openat(gc->store->networks_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") ||
            entry->d_name[0] != '.') {
            continue;
        }
        tell(gc, "networks/%s: removed", entry->d_name);
        if (!gc->is_dry_run) {
            base_dir_remove_tree(gc->store->networks_fd, entry->d_name, NULL);
        }
    }
    if (dir) {
        base_fd_steal(&fd);
        closedir(dir);
    }
}

GPtrArray *net_store_gc(NetStore *store, const NetGcMachines *machines, bool is_dry_run,
                        GError **error)
{
    g_autoptr(GHashTable) owners = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GHashTable) up = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GPtrArray) texts = g_ptr_array_new_with_free_func(g_free);
    Gc gc = {store, machines, owners, up, texts, is_dry_run};
    (void)error;
    g_autoptr(GPtrArray) names = net_folder_list(store->networks_fd, ".");
    for (guint i = 0; i < names->len; i++) {
        collect_network(&gc, names->pdata[i]);
    }
    collect_gone(&gc);
    if (geteuid() == 0) {
        collect_bridges(&gc);
        collect_rules(&gc);
        collect_run_folders(&gc);
    }
    if (geteuid() == 0 && !is_dry_run) {
        net_rules_lock_sweep();
    }
    return g_steal_pointer(&texts);
}
