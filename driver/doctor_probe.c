#include "driver/doctor_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <linux/magic.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>
#include "base/child.h"
#include "base/dir.h"
#include "base/error.h"
#include "driver/connection.h"
#include "driver/embed_root.h"
#include "driver/machine.h"
#include "driver/networks.h"
#include "driver/virt_ops.h"
#include "driver/watch.h"
#include "net/rules.h"

#define EXAMPLE_BRIDGE "vmb"

void doctor_probe_free(DoctorProbe *p)
{
    if (!p) {
        return;
    }
    char *texts[] = {p->user_name, p->connect_error, p->connect_why, p->qemu_version, p->embed_root,
                     p->blocker,   p->state_dir,     p->state_error, p->fs_type,      p->kernel};
    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_free(texts[i]);
    }
    g_clear_pointer(&p->drops, g_ptr_array_unref);
    g_clear_pointer(&p->amiss, g_ptr_array_unref);
    host_facts_free(p->facts);
    g_free(p);
}

/* --- accounts --------------------------------------------------------------------------------- */

static bool account_has_group(const char *name, gid_t primary, gid_t gid)
{
    gid_t groups[256];
    int n = G_N_ELEMENTS(groups);
    if (getgrouplist(name, primary, groups, &n) < 0) {
        return false;
    }
    for (int i = 0; i < n; i++) {
        if (groups[i] == gid) {
            return true;
        }
    }
    return false;
}

static bool process_has_group(gid_t gid)
{
    gid_t groups[256];
    int n = getgroups(G_N_ELEMENTS(groups), groups);
    for (int i = 0; i < n; i++) {
        if (groups[i] == gid) {
            return true;
        }
    }
    return getegid() == gid;
}

static void probe_group(const char *group, const struct passwd *account, bool *out_account,
                        bool *out_process)
{
    const struct group *found = getgrnam(group);
    gid_t gid = found ? found->gr_gid : 0;
    *out_account = found && account && account_has_group(account->pw_name, account->pw_gid, gid);
    *out_process = found && process_has_group(gid);
}

static void probe_accounts(DoctorProbe *p)
{
    const struct passwd *account = getpwuid(geteuid());
    p->user_name =
        account ? g_strdup(account->pw_name) : g_strdup_printf("%u", (unsigned)geteuid());
    probe_group("kvm", account, &p->account_in_kvm, &p->process_in_kvm);
    probe_group("libvirt", account, &p->account_in_libvirt, &p->process_in_libvirt);
    p->has_qemu_account = getpwnam("libvirt-qemu") || getpwnam("qemu");
}

/* --- the state directory ---------------------------------------------------------------------- */

/* `path` or the nearest folder above it that exists. */
static char *nearest_existing(const char *path)
{
    g_autofree char *folder = g_strdup(path);
    while (access(folder, F_OK) != 0 && errno == ENOENT && strcmp(folder, "/") != 0) {
        char *above = g_path_get_dirname(folder);
        g_free(folder);
        folder = above;
    }
    return g_steal_pointer(&folder);
}

static const char *file_system_name(long type)
{
    static const struct {
        unsigned long magic;
        const char *name;
    } rows[] = {
        {EXT4_SUPER_MAGIC, "ext4"},
        {0x58465342, "xfs"},
        {BTRFS_SUPER_MAGIC, "btrfs"},
        {TMPFS_MAGIC, "tmpfs"},
        {RAMFS_MAGIC, "ramfs"},
        {NFS_SUPER_MAGIC, "nfs"},
        {0xff534d42, "cifs"},
        {0xfe534d42, "cifs"},
        {V9FS_MAGIC, "9p"},
        {0x65735546, "fuse"},
        {OVERLAYFS_SUPER_MAGIC, "overlayfs"},
        {0x2fc12fc1, "zfs"},
        {F2FS_SUPER_MAGIC, "f2fs"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (rows[i].magic == ((unsigned long)type & 0xffffffff)) {
            return rows[i].name;
        }
    }
    return NULL;
}

static void probe_state_dir(DoctorProbe *p)
{
    g_autofree char *folder = nearest_existing(p->state_dir);
    struct stat st;
    struct statfs fs;
    struct statvfs vfs;
    bool is_there = strcmp(folder, p->state_dir) == 0;
    if (stat(folder, &st) != 0 || access(folder, W_OK | X_OK) != 0) {
        p->state_error =
            g_strdup_printf("the state directory '%s' can't be %s: '%s': %s", p->state_dir,
                            is_there ? "written" : "made", folder, g_strerror(errno));
    } else if (!S_ISDIR(st.st_mode)) {
        p->state_error = g_strdup_printf("'%s' is not a folder", folder);
    }
    if (statfs(folder, &fs) == 0) {
        const char *name = file_system_name((long)fs.f_type);
        p->fs_type =
            name ? g_strdup(name) : g_strdup_printf("type 0x%lx", (unsigned long)fs.f_type);
    }
    bool is_known = statvfs(folder, &vfs) == 0;
    p->free_bytes = is_known ? (uint64_t)vfs.f_bavail * vfs.f_frsize : UINT64_MAX;
    p->free_inodes = is_known && vfs.f_files > 0 ? (uint64_t)vfs.f_favail : UINT64_MAX;
}

/* --- libvirt ---------------------------------------------------------------------------------- */

/* "QEMU emulator version 7.2.22 (Debian ...)": "7.2.22". */
static char *ask_version(const char *emulator)
{
    const char *argv[] = {emulator, "--version", NULL};
    BaseChild child = BASE_CHILD_INIT;
    g_autofree char *out = NULL;
    child.argv = argv;
    child.timeout_ms = 10000;
    if (!base_child_run(&child, &out, NULL, NULL)) {
        return NULL;
    }
    static const char before[] = "version ";
    const char *start = strstr(out, before);
    start = start ? start + strlen(before) : out;
    return g_strndup(start, strcspn(start, " \n("));
}

static void probe_through(DoctorProbe *p, const char *state_dir, const char *connect)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(MachineConnection) connection = machine_connection_open(state_dir, connect, &error);
    if (connection && machine_connection_facts(connection, p->facts, &error)) {
        p->is_connected = true;
        return;
    }
    bool has_hint = g_str_has_suffix(error->message, MACHINE_CONNECTION_HINT);
    size_t n = strlen(error->message) - (has_hint ? strlen(MACHINE_CONNECTION_HINT) : 0);
    p->connect_error = g_strndup(error->message, n);
    p->connect_code = error->code;
}

/* An embedded libvirt makes its root: in a temporary folder when ours isn't there yet. */
static void probe_connection(DoctorProbe *p, const char *connect)
{
    MachineConnectionPlaces places = machine_connection_places();
    const char *why = NULL;
    g_autofree char *uri = machine_connection_choose(&places, p->state_dir, connect, &why);
    p->connect_why = g_strdup(why);
    p->facts->kind = virt_kind_of_uri(uri);
    p->embed_root = virt_embed_root_of_uri(uri);
    g_autofree char *own_root = g_build_filename(p->state_dir, "libvirt", NULL);
    bool is_own = g_strcmp0(p->embed_root, own_root) == 0;
    if (!is_own || access(own_root, F_OK) == 0) {
        probe_through(p, p->state_dir, connect);
    } else {
        g_autofree char *temporary = g_dir_make_tmp("vm-run-doctor-XXXXXX", NULL);
        if (temporary && chmod(temporary, 0711) == 0) {
            probe_through(p, temporary, "embed");
            base_dir_remove_tree(AT_FDCWD, temporary, NULL);
        }
    }
    if (!p->is_connected && !p->connect_error) {
        p->connect_error = g_strdup("no temporary folder can be made to try libvirt in");
        p->connect_code = VM_ERROR_HOST;
    }
    if (!p->facts->uri || is_own) {
        g_free(p->facts->uri);
        p->facts->uri = g_steal_pointer(&uri);
    }
    if (p->is_connected && p->facts->emulator) {
        p->qemu_version = ask_version(p->facts->emulator);
    }
}

static void probe_qemu_reach(DoctorProbe *p)
{
    QemuUser user = {p->facts->qemu_uid, p->facts->qemu_gid};
    p->can_qemu_open_kvm = machine_qemu_user_can_open(&user, "/dev/kvm");
    if (p->facts->kind != VIRT_KIND_TEST && p->facts->kind != VIRT_KIND_REMOTE) {
        p->blocker = machine_qemu_user_blocker(&user, p->state_dir);
    }
}

/* --- the rest --------------------------------------------------------------------------------- */

static void probe_kernel(DoctorProbe *p)
{
    glob_t found = {0};
    if (glob("/boot/vmlinuz*", 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc && !p->kernel; i++) {
            p->has_kernel = true;
            if (access(found.gl_pathv[i], R_OK) == 0) {
                p->kernel = g_strdup(found.gl_pathv[i]);
            }
        }
    }
    globfree(&found);
}

static bool has_program(const char *name)
{
    g_autofree char *path = g_find_program_in_path(name);
    return path;
}

static void probe_parts(DoctorProbe *p)
{
    g_autofree char *watch = machine_watch_program(NULL);
    g_autofree char *embed = virt_embed_program(NULL);
    p->has_watch = watch && access(watch, X_OK) == 0;
    p->has_embed = embed;
    p->has_qemu_img = has_program("qemu-img");
    p->has_ssh = has_program("ssh");
    p->has_tun = access("/dev/net/tun", F_OK) == 0;
}

/* Rules, links, addresses and dnsmasq of all that is up, as `network check` looks at them. */
static void probe_rules(DoctorProbe *p, const char *state_dir, const char *connect)
{
    if (!p->facts->is_root || !p->facts->has_net_admin || access(p->state_dir, F_OK) < 0) {
        return;
    }
    g_autoptr(MachineHost) host = machine_host_new(state_dir, connect, true, NULL);
    g_auto(GStrv) names = host ? machine_network_names(host, true, NULL) : NULL;
    g_autoptr(GPtrArray) amiss = g_ptr_array_new_with_free_func(g_free);
    unsigned n_up = 0;
    for (char **name = names; name && *name; name++) {
        g_autoptr(MachineNetwork) network = machine_network_load(host, *name, NULL);
        g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(g_free);
        bool is_looked = network && network->is_up &&
                         machine_network_check(host, *name, false, found, NULL, NULL);
        n_up += is_looked;
        for (unsigned i = 0; is_looked && i < found->len; i++) {
            g_ptr_array_add(amiss, g_strdup_printf("network '%s': %s", *name,
                                                   (char *)g_ptr_array_index(found, i)));
        }
    }
    p->amiss = n_up ? g_steal_pointer(&amiss) : NULL;
}

/* Of each network that is up; where there is none, of one that there could be. */
static void probe_firewall(DoctorProbe *p, const char *state_dir, const char *connect)
{
    if (!p->facts->is_root || !p->facts->has_net_admin || !p->facts->has_nft) {
        return;
    }
    g_autoptr(GPtrArray) drops = g_ptr_array_new_with_free_func(g_free);
    bool is_there = access(p->state_dir, F_OK) == 0;
    g_autoptr(MachineHost) host =
        is_there ? machine_host_new(state_dir, connect, true, NULL) : NULL;
    g_auto(GStrv) names = host ? machine_network_names(host, false, NULL) : NULL;
    bool has_any = false, is_known = true;
    for (char **name = names; name && *name; name++) {
        g_autoptr(MachineNetwork) network = machine_network_load(host, *name, NULL);
        if (network && network->is_up) {
            has_any = true;
            is_known &= net_rules_find_foreign_drops(network->bridge, drops, NULL);
        }
    }
    if (!has_any) {
        is_known = net_rules_find_foreign_drops(EXAMPLE_BRIDGE, drops, NULL);
    }
    is_known &= net_rules_find_limits(drops, NULL);
    p->drops = is_known ? g_steal_pointer(&drops) : NULL;
}

static uint64_t memory_available(void)
{
    g_autofree char *text = NULL;
    unsigned long long kib = 0;
    const char *line = g_file_get_contents("/proc/meminfo", &text, NULL, NULL)
                           ? strstr(text, "MemAvailable:")
                           : NULL;
    return line && sscanf(line, "MemAvailable: %llu", &kib) == 1 ? kib * 1024 : UINT64_MAX;
}

static void probe_limits(DoctorProbe *p)
{
    struct rlimit files;
    struct stat self;
    p->n_files_max = getrlimit(RLIMIT_NOFILE, &files) == 0 ? files.rlim_cur : 1024;
    p->now_s = time(NULL);
    p->built_s = stat("/proc/self/exe", &self) == 0 ? self.st_mtim.tv_sec : 0;
    p->memory_available_bytes = memory_available();
}

/* -1 where it can't be told: without a state directory, or without libvirt. */
static int count_leftovers(const char *state_dir, const char *connect)
{
    g_autoptr(MachineHost) host = machine_host_new(state_dir, connect, true, NULL);
    g_autoptr(GPtrArray) items = host ? machine_gc(host, true, NULL) : NULL;
    return items ? (int)items->len : -1;
}

DoctorProbe *doctor_probe_new(const char *state_dir, const char *connect)
{
    DoctorProbe *p = g_new0(DoctorProbe, 1);
    g_autoptr(MachineStore) store = machine_store_open(state_dir, true, NULL);
    p->state_dir = store ? g_strdup(store->dir)
                         : g_canonicalize_filename(state_dir ? state_dir : "/var/lib/vm-run", NULL);
    p->facts = host_facts_new();
    host_facts_probe_local(p->facts);
    probe_accounts(p);
    probe_state_dir(p);
    probe_connection(p, connect);
    probe_qemu_reach(p);
    host_facts_judge_kvm(p->facts);
    probe_kernel(p);
    probe_parts(p);
    probe_limits(p);
    probe_firewall(p, state_dir, connect);
    probe_rules(p, state_dir, connect);
    p->n_leftovers = p->is_connected && access(p->state_dir, F_OK) == 0
                         ? count_leftovers(p->state_dir, connect)
                         : -1;
    return p;
}
