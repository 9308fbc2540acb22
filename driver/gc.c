#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/error.h"
#include "base/fd.h"
#include "driver/reserve_note.h"
#include "driver/step.h"
#include "driver/watch.h"
#include "net/macvtap.h"
#include "net/network.h"
#include "net/shape.h"
#include "net/tap.h"

/*
 * How it works: every place where something of ours can be is listed (machine folders, half-made
 * folders, our domains, our links, folders of sockets, locks); what no living machine of this state
 * directory owns is undone. Marks decide: a foreign object is never touched, nor one that carries
 * the mark of another state directory.
 */

#define END_WAIT_MS 15000

typedef struct {
    MachineHost *host;
    bool is_dry_run;
    GPtrArray *items;
    bool has_failed;
} Gc;

static void gc_item_free(void *data)
{
    MachineGcItem *item = data;
    g_free(item->object);
    g_free(item->action);
    g_free(item->error);
    g_free(item);
}

/* object: transfer full. */
static void note(Gc *gc, char *object, const char *action, GError *problem)
{
    MachineGcItem *item = g_new0(MachineGcItem, 1);
    item->object = object;
    item->action = gc->is_dry_run ? g_strdup_printf("would be %s", action) : g_strdup(action);
    item->error = problem ? g_strdup(problem->message) : NULL;
    gc->has_failed |= problem != NULL;
    g_clear_error(&problem);
    g_ptr_array_add(gc->items, item);
}

/* --- machines --------------------------------------------------------------------------------- */

static const char *what_is_cut_off(const Journal *journal, bool is_ended)
{
    if (journal->is_open && (journal->op == JOURNAL_START_NEW || journal->op == JOURNAL_START)) {
        return "unfinished start";
    }
    if (journal->is_open) {
        return journal->op == JOURNAL_UPDATE ? "unfinished change" : "unfinished removal";
    }
    return is_ended ? "ended unseen" : NULL;
}

static void revive_watcher(Gc *gc, const char *name, const MachinePlan *plan)
{
    if (plan->is_test_driver || machine_watch_pid(plan->dir) > 0) {
        return;
    }
    GError *problem = NULL;
    g_autofree char *program = gc->is_dry_run ? NULL : machine_watch_program(&problem);
    if (program) {
        machine_watch_begin(program, plan->dir, &problem);
    }
    note(gc, g_strdup_printf("machine '%s': watcher", name), "started again", problem);
}

/* A start that somebody works on is nobody's leftover; the end of one may just be finishing, or
 * failing: its outcome counts. */
static BaseLock *lock_or_wait(Gc *gc, const char *name)
{
    BaseLock *lock = machine_store_lock(gc->host->store, name, 0, NULL);
    autofd int dirfd = lock ? -1 : machine_store_open_machine(gc->host->store, name, NULL);
    if (lock || dirfd < 0) {
        return lock;
    }
    Journal journal;
    machine_journal_read(dirfd, &journal);
    bool is_ending = journal.op == JOURNAL_END || journal.op == JOURNAL_DESTROY;
    return is_ending ? machine_store_lock(gc->host->store, name, END_WAIT_MS, NULL) : NULL;
}

static void collect_machine(Gc *gc, const char *name)
{
    GError *problem = NULL;
    BaseLock *lock = lock_or_wait(gc, name);
    if (!lock) {
        return; /* somebody is at it: alive, so nothing is left over */
    }
    autofd int dirfd = machine_store_open_machine(gc->host->store, name, NULL);
    Journal journal = {0};
    g_autoptr(MachinePlan) plan = dirfd >= 0 ? machine_record_load(dirfd, &problem) : NULL;
    if (dirfd >= 0 && !plan) {
        note(gc, g_strdup_printf("machine '%s'", name), "left alone", problem);
        base_lock_free(lock);
        return;
    }
    if (plan) {
        machine_journal_read(dirfd, &journal);
        g_autoptr(MachineBoot) boot = machine_boot_load(dirfd, NULL);
        autofd int pidfd = boot ? machine_boot_open_qemu(boot) : -1;
        const char *what = what_is_cut_off(&journal, boot && pidfd < 0 && !plan->is_test_driver);
        bool is_removed = false;
        if (what && !gc->is_dry_run) {
            machine_recover(gc->host, name, &is_removed, &problem);
        }
        if (what) {
            note(gc, g_strdup_printf("machine '%s': %s", name, what),
                 is_removed ? "removed" : "undone", problem);
        } else if (pidfd >= 0) {
            revive_watcher(gc, name, plan);
        }
    }
    if (machine_store_has(gc->host->store, name)) {
        base_lock_free(lock);
    } else {
        base_lock_free_and_unlink(lock);
    }
}

static void collect_machines(Gc *gc)
{
    g_auto(GStrv) names = machine_store_names(gc->host->store, NULL);
    for (unsigned i = 0; names && names[i]; i++) {
        collect_machine(gc, names[i]);
    }
}

static const char *after_prefix(const char *text, const char *prefix)
{
    return g_str_has_prefix(text, prefix) ? text + strlen(prefix) : NULL;
}

/* A folder that never became, or is no longer, a machine; or the beginning of a note. */
static void collect_half_entry(Gc *gc, const char *entry)
{
    const MachineStore *store = gc->host->store;
    GError *problem = NULL;
    if (!gc->is_dry_run) {
        base_dir_remove_tree(store->machines_fd, entry, &problem);
    }
    const char *kind = g_str_has_prefix(entry, ".tmp-") ? "file" : "folder";
    note(gc, g_strdup_printf("%s '%s/machines/%s'", kind, store->dir, entry), "removed", problem);
}

/* What a start that was killed had reserved before it had a folder; a machine's own record knows
 * the same. */
static void collect_reservation(Gc *gc, const char *name)
{
    GError *problem = NULL;
    if (machine_store_has(gc->host->store, name)) {
        if (!gc->is_dry_run) {
            machine_reserve_forget(gc->host, name);
        }
        return;
    }
    if (!gc->is_dry_run) {
        machine_reserve_settle(gc->host, name, &problem);
    }
    note(gc, g_strdup_printf("machine '%s': reservation at libvirt", name), "released", problem);
}

/* Whose lock guards this entry; NULL: it is no half-made thing. A note that was not whole yet is
 * ".tmp-RANDOM-.reserve-NAME" (base/file.h): nothing is reserved then. */
static const char *name_of_half(const char *entry, bool *out_is_note)
{
    static const char *const prefixes[] = {".new-", ".gone-"};
    const char *name = after_prefix(entry, MACHINE_RESERVE_PREFIX);
    const char *half = after_prefix(entry, ".tmp-");
    *out_is_note = name;
    half = half ? strstr(half, "-" MACHINE_RESERVE_PREFIX) : NULL;
    name = half ? half + strlen("-" MACHINE_RESERVE_PREFIX) : name;
    for (unsigned i = 0; !name && i < G_N_ELEMENTS(prefixes); i++) {
        name = after_prefix(entry, prefixes[i]);
    }
    return name && *name ? name : NULL;
}

static void collect_half_made(Gc *gc)
{
    const MachineStore *store = gc->host->store;
    int fd = openat(store->machines_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        bool is_note = false;
        const char *name = name_of_half(entry->d_name, &is_note);
        BaseLock *lock = name ? machine_store_lock(store, name, 0, NULL) : NULL;
        if (!lock) {
            continue;
        }
        if (is_note) {
            collect_reservation(gc, name);
        } else {
            collect_half_entry(gc, entry->d_name);
        }
        if (machine_store_has(store, name)) {
            base_lock_free(lock);
        } else {
            base_lock_free_and_unlink(lock);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

/* --- what lies outside the folders ------------------------------------------------------------ */

/* The name in "vm-run:<our state dir>:<name>", NULL: another state directory's. */
static const char *our_name(const Gc *gc, const char *full_id)
{
    g_autofree char *prefix = g_strdup_printf("vm-run:%s:", gc->host->store->dir);
    return full_id && g_str_has_prefix(full_id, prefix) ? full_id + strlen(prefix) : NULL;
}

/* Domains of ours whose folder was lost: their QEMU is ended only when nothing else knows them. */
static void collect_domain(Gc *gc, VirtConn *conn, const VirtDomain *domain)
{
    const char *id = domain->owner ? strchr(domain->owner, '\n') : NULL;
    const char *name = id ? our_name(gc, id + 1) : NULL;
    if (!name || machine_store_has(gc->host->store, name)) {
        return;
    }
    g_autoptr(MachineIdent) ident = machine_ident_new(gc->host->store->dir, name);
    BaseLock *lock = strcmp(ident->uuid, domain->uuid) == 0
                         ? machine_store_lock(gc->host->store, name, 0, NULL)
                         : NULL;
    if (!lock) {
        return;
    }
    GError *problem = NULL;
    if (!gc->is_dry_run && virt_destroy(conn, domain->uuid, &problem)) {
        virt_undefine(conn, domain->uuid, &problem);
    }
    note(gc, g_strdup_printf("domain '%s' (its folder is gone)", domain->name), "removed", problem);
    base_lock_free_and_unlink(lock);
}

static void collect_domains(Gc *gc, GError **error)
{
    VirtConn *conn = machine_host_virt(gc->host, NULL, error);
    g_autoptr(GPtrArray) domains = conn ? virt_list_ours(conn, error) : NULL;
    for (unsigned i = 0; domains && i < domains->len; i++) {
        collect_domain(gc, conn, g_ptr_array_index(domains, i));
    }
}

/* Does a machine here own this (its uuid, or the name of its folder of sockets), and is it in a
 * boot? */
static bool is_owned(const Gc *gc, const char *mark)
{
    g_auto(GStrv) names = machine_store_names(gc->host->store, NULL);
    for (unsigned i = 0; names && names[i]; i++) {
        g_autoptr(MachineIdent) ident = machine_ident_new(gc->host->store->dir, names[i]);
        if (g_str_has_prefix(mark, ident->uuid) || strcmp(mark, ident->run_name) == 0) {
            autofd int dirfd = machine_store_open_machine(gc->host->store, names[i], NULL);
            Journal journal;
            machine_journal_read(dirfd, &journal);
            return journal.is_open || faccessat(dirfd, "boot.json", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
        }
    }
    return false;
}

static bool remove_link(const char *name, const char *tag, GError **error)
{
    return g_str_has_prefix(name, "vmm")
               ? net_macvtap_remove(name, tag, error)
               : net_shape_remove(name, tag, error) && net_tap_remove(name, tag, error);
}

/* "name tag" of a link; the mark is "vm-run:<store id>:<machine uuid>:<nic>". */
static void collect_link(Gc *gc, const char *link, const char *prefix)
{
    g_autofree char *networks = g_strdup_printf("%snet:", prefix); /* bridges: the networks' own */
    g_auto(GStrv) parts = g_strsplit(link, " ", 2);
    const char *tag = parts[0] ? parts[1] : NULL;
    if (!tag || !g_str_has_prefix(tag, prefix) || g_str_has_prefix(tag, networks) ||
        is_owned(gc, tag + strlen(prefix))) {
        return;
    }
    GError *problem = NULL;
    if (!gc->is_dry_run) {
        remove_link(parts[0], tag, &problem);
    }
    note(gc, g_strdup_printf("link '%s'", parts[0]), "removed", problem);
}

/* Taps, macvtaps, ifbs; then those that a crash cut off before their mark. */
static void collect_links(Gc *gc)
{
    g_autoptr(MachineIdent) ident = machine_ident_new(gc->host->store->dir, "x");
    g_autofree char *prefix = g_strdup_printf("vm-run:%s:", ident->store_id);
    g_autoptr(GPtrArray) taps = net_tap_list(NULL);
    g_autoptr(GPtrArray) macvtaps = net_macvtap_list(NULL);
    const GPtrArray *const lists[] = {taps, macvtaps};
    for (unsigned k = 0; k < G_N_ELEMENTS(lists); k++) {
        for (unsigned i = 0; lists[k] && i < lists[k]->len; i++) {
            collect_link(gc, g_ptr_array_index(lists[k], i), prefix);
        }
    }
    g_autoptr(GPtrArray) half_macvtaps = net_macvtap_sweep(gc->is_dry_run, NULL);
    g_autoptr(GPtrArray) half_ifbs = net_shape_sweep(gc->is_dry_run, NULL);
    const GPtrArray *const halves[] = {half_macvtaps, half_ifbs};
    for (unsigned k = 0; k < G_N_ELEMENTS(halves); k++) {
        for (unsigned i = 0; halves[k] && i < halves[k]->len; i++) {
            const char *name = g_ptr_array_index(halves[k], i);
            note(gc, g_strdup_printf("link '%s'", name), "removed", NULL);
        }
    }
}

/* Folders of sockets: "<store id>.<short id>". */
static void collect_run_dirs(Gc *gc)
{
    g_autoptr(MachineIdent) ident = machine_ident_new(gc->host->store->dir, "x");
    g_autofree char *prefix = g_strdup_printf("%s.", ident->store_id);
    g_autofree char *networks = g_strdup_printf("%snet.", prefix); /* dnsmasq's files */
    g_autofree char *parent = machine_store_run_parent(gc->host->store);
    autofd int parent_fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int fd = parent_fd < 0 ? -1 : openat(parent_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        if (!g_str_has_prefix(entry->d_name, prefix) || g_str_has_prefix(entry->d_name, networks) ||
            is_owned(gc, entry->d_name)) {
            continue;
        }
        GError *problem = NULL;
        if (!gc->is_dry_run) {
            base_dir_remove_tree(parent_fd, entry->d_name, &problem);
        }
        note(gc, g_strdup_printf("folder '%s/%s'", parent, entry->d_name), "removed", problem);
    }
    if (dir) {
        closedir(dir);
    }
}

static void collect_locks(Gc *gc)
{
    int fd = openat(gc->host->store->locks_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        if (!g_str_has_suffix(entry->d_name, ".lock")) {
            continue;
        }
        g_autofree char *name = g_strndup(entry->d_name, strlen(entry->d_name) - strlen(".lock"));
        if (strchr(name, '.')) {
            continue; /* a network's: no machine's name has a dot */
        }
        if (machine_store_has(gc->host->store, name)) {
            continue;
        }
        BaseLock *lock = gc->is_dry_run ? NULL : machine_store_lock(gc->host->store, name, 0, NULL);
        if (lock && machine_store_has(gc->host->store, name)) {
            base_lock_free(lock);
        } else if (lock) {
            base_lock_free_and_unlink(lock);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

/* --- networks --------------------------------------------------------------------------------- */

static bool is_there(const char *uuid, void *data)
{
    const Gc *gc = data;
    g_auto(GStrv) names = machine_store_names(gc->host->store, NULL);
    for (unsigned i = 0; names && names[i]; i++) {
        g_autoptr(MachineIdent) ident = machine_ident_new(gc->host->store->dir, names[i]);
        if (strcmp(ident->uuid, uuid) == 0) {
            return true;
        }
    }
    return !names; /* unknown: then it stays */
}

static bool is_running(const char *uuid, void *data)
{
    return is_owned(data, uuid);
}

static void note_text(Gc *gc, const char *text)
{
    const char *colon = strstr(text, ": ");
    note(gc, colon ? g_strndup(text, (size_t)(colon - text)) : g_strdup(text),
         colon ? colon + 2 : "removed", NULL);
}

static void collect_networks(Gc *gc)
{
    g_autofree char *folder = g_build_filename(gc->host->store->dir, "networks", NULL);
    if (geteuid() != 0 || access(folder, F_OK) < 0) {
        return; /* there never was one */
    }
    GError *problem = NULL;
    NetStore *store = machine_host_nets(gc->host, &problem);
    NetGcMachines machines = {is_there, is_running, gc};
    g_autoptr(GPtrArray) done =
        store ? net_store_gc(store, &machines, gc->is_dry_run, &problem) : NULL;
    for (unsigned i = 0; done && i < done->len; i++) {
        note_text(gc, g_ptr_array_index(done, i));
    }
    if (problem) {
        note(gc, g_strdup("networks"), "looked at", problem);
    }
}

GPtrArray *machine_gc(MachineHost *host, bool is_dry_run, GError **error)
{
    Gc gc = {host, is_dry_run, g_ptr_array_new_with_free_func(gc_item_free), false};
    if (host->store->machines_fd < 0) {
        return gc.items;
    }
    collect_half_made(&gc);
    collect_machines(&gc);
    GError *problem = NULL;
    collect_domains(&gc, &problem);
    machine_host_release(host);
    collect_links(&gc);
    collect_networks(&gc);
    collect_run_dirs(&gc);
    collect_locks(&gc);
    if (problem) {
        g_propagate_prefixed_error(error, problem, "domains were not looked at: ");
    } else if (gc.has_failed) {
        base_fail(error, VM_ERROR_LEFTOVER, "some of it could not be removed");
    }
    return gc.items;
}
