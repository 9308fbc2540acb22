#include "driver/step_boot.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/proc.h"
#include "driver/qmp.h"
#include "driver/virt.h"
#include "driver/watch.h"
#include "net/port.h"

#define QMP_TIMEOUT_MS     15000
#define SERIAL_LIMIT_BYTES (4 * 1024 * 1024)
#define STALL_MS           60000 /* no serial byte for this long: said as a stall */
#define STALL_TCG_MS       120000
#define NVRAM_MAX_BYTES    (64 * 1024 * 1024)

static VirtConn *conn_of(StepContext *c, GError **error)
{
    return machine_host_virt(c->host, c->plan->uri, error);
}

/* --- define ----------------------------------------------------------------------------------- */

/* UEFI variables: a private copy of the firmware's template, made once and kept with the machine.
 */
static bool make_nvram(StepContext *c, GError **error)
{
    const MachinePlan *plan = c->plan;
    if (plan->firmware == SPEC_FIRMWARE_BIOS ||
        faccessat(c->dirfd, "nvram.fd", F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        return true;
    }
    gsize n = 0;
    g_autofree char *vars = base_file_read_user(plan->uefi_vars, NVRAM_MAX_BYTES, &n, error);
    if (!vars || !base_file_write_whole(c->dirfd, "nvram.fd", vars, n, 0600, error)) {
        g_prefix_error(error, "UEFI variables: ");
        return false;
    }
    if (geteuid() == 0 &&
        fchownat(c->dirfd, "nvram.fd", plan->qemu_uid, plan->qemu_gid, AT_SYMLINK_NOFOLLOW) < 0) {
        base_error_set_errno(error, errno,
                             "UEFI variables: cannot give '%s/nvram.fd' to the user of QEMU",
                             plan->dir);
        return false;
    }
    return true;
}

bool step_define_apply(StepContext *c, unsigned index G_GNUC_UNUSED, GError **error)
{
    const MachinePlan *plan = c->plan;
    g_autofree char *xml = machine_plan_domain_xml(plan, c->spec, error);
    VirtConn *conn = xml && make_nvram(c, error) ? conn_of(c, error) : NULL;
    if (!conn) {
        return false;
    }
    GError *problem = NULL;
    VirtDomain *other = virt_find_by_name(conn, plan->ident->name, &problem);
    bool is_foreign = other && strcmp(other->uuid, plan->ident->uuid) != 0;
    g_autofree char *owner = other ? g_strdup(other->owner) : NULL;
    virt_domain_free(other);
    if (problem) {
        g_propagate_error(error, problem);
        return false;
    }
    if (is_foreign) {
        return base_fail(
            error, VM_ERROR_EXISTS,
            "domain '%s': libvirt has one of this name that %s - choose another --name",
            plan->ident->name, owner ? "belongs to another state directory" : "is not ours");
    }
    return virt_define(conn, xml, error);
}

bool step_define_undo(MachineHost *host, const MachinePlan *plan, int dirfd G_GNUC_UNUSED,
                      unsigned index G_GNUC_UNUSED, GError **error)
{
    VirtConn *conn = machine_host_virt(host, plan->uri, error);
    return conn && virt_undefine(conn, plan->ident->uuid, error);
}

/* --- boot ------------------------------------------------------------------------------------- */

static int open_disk_file(StepContext *c, const char *file, bool is_writable, GError **error)
{
    int fd = openat(c->dirfd, file, (is_writable ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        base_error_set_errno(error, errno, "cannot open '%s/%s'", c->plan->dir, file);
    }
    return fd;
}

typedef struct {
    GArray *fds;       /* of VirtDiskFd */
    GPtrArray *groups; /* of char* */
} FdList;

static void fd_list_add(FdList *list, char *group, int fd, bool is_writable)
{
    VirtDiskFd item = {group, fd, is_writable};
    g_array_append_val(list->fds, item);
    g_ptr_array_add(list->groups, group);
}

/* The top of each disk is opened here; the base is the descriptor that was vetted. */
static bool collect_fds(StepContext *c, FdList *list, GError **error)
{
    for (unsigned i = 0; i < c->plan->disks->len; i++) {
        const PlanDisk *disk = g_ptr_array_index(c->plan->disks, i);
        int fd = open_disk_file(c, disk->file, !disk->is_readonly, error);
        if (fd < 0) {
            return false;
        }
        fd_list_add(list, g_strdup(disk->name), fd, !disk->is_readonly);
        if (disk->base_path && !disk->is_copy) {
            int base_fd = fcntl(c->bases[i]->fd, F_DUPFD_CLOEXEC, 3);
            if (base_fd < 0) {
                base_error_set_errno(error, errno, "disk '%s'", disk->name);
                return false;
            }
            fd_list_add(list, g_strdup_printf("%s-base", disk->name), base_fd, false);
        }
    }
    int seed = open_disk_file(c, "seed.iso", false, error);
    if (seed < 0) {
        return false;
    }
    fd_list_add(list, g_strdup("seed"), seed, false);
    return true;
}

static bool start_domain(StepContext *c, VirtConn *conn, GError **error)
{
    if (!c->plan->is_fd_mode) {
        return virt_start(conn, c->plan->ident->uuid, NULL, 0, error);
    }
    FdList list = {g_array_new(FALSE, FALSE, sizeof(VirtDiskFd)),
                   g_ptr_array_new_with_free_func(g_free)};
    bool is_ok =
        collect_fds(c, &list, error) &&
        virt_start(conn, c->plan->ident->uuid, (VirtDiskFd *)list.fds->data, list.fds->len, error);
    for (unsigned i = 0; i < list.fds->len; i++) {
        close(g_array_index(list.fds, VirtDiskFd, i).fd);
    }
    g_array_unref(list.fds);
    g_ptr_array_unref(list.groups);
    return is_ok;
}

static char *qmp_path(const MachinePlan *plan)
{
    return g_build_filename(plan->run_dir, "q", NULL);
}

/* Success only when QEMU itself has answered; then it is known by pid and start time. */
static bool identify_qemu(StepContext *c, GError **error)
{
    g_autofree char *path = qmp_path(c->plan);
    g_autoptr(MachineQmp) qmp = machine_qmp_open(path, QMP_TIMEOUT_MS, &c->boot->qemu_pid, error);
    if (!qmp) {
        g_prefix_error(error, "QEMU's monitor: ");
        return false;
    }
    c->boot->qemu_start = base_proc_start_ticks(c->boot->qemu_pid);
    return machine_boot_save(c->dirfd, c->boot, error);
}

static uint64_t serial_log_size(const StepContext *c)
{
    struct stat st;
    return fstatat(c->dirfd, "serial.log", &st, AT_SYMLINK_NOFOLLOW) == 0 ? (uint64_t)st.st_size
                                                                          : 0;
}

bool step_boot_apply(StepContext *c, unsigned index G_GNUC_UNUSED, GError **error)
{
    VirtConn *conn = conn_of(c, error);
    c->serial_offset = serial_log_size(c);
    if (!conn || !start_domain(c, conn, error)) {
        return false;
    }
    return c->plan->is_test_driver || identify_qemu(c, error);
}

bool step_boot_undo(MachineHost *host, const MachinePlan *plan, int dirfd,
                    unsigned index G_GNUC_UNUSED, GError **error)
{
    g_autoptr(MachineBoot) boot = dirfd >= 0 ? machine_boot_load(dirfd, NULL) : NULL;
    if (boot && !machine_qemu_end(boot, error)) {
        return false;
    }
    VirtConn *conn = machine_host_virt(host, plan->uri, error);
    return conn && virt_destroy(conn, plan->ident->uuid, error);
}

/* --- forward ---------------------------------------------------------------------------------- */

/* Free ports come from the machine's own range where it has one, else from QEMU, that is the
 * kernel. Somebody may take one before QEMU does: then the next one. */
static bool forward_free(StepContext *c, MachineQmp *qmp, const char *netdev,
                         const PlanForward *from, uint16_t *out_port, GError **error)
{
    uint16_t first = 0, last = 0;
    machine_port_range_of(c->spec, &first, &last);
    if (!first || from->host_port || from->is_ssh) {
        return machine_qmp_forward(qmp, netdev, from->proto, from->host_addr, from->host_port,
                                   from->guest_port, out_port, error);
    }
    for (;;) {
        GError *problem = NULL;
        uint16_t port;
        if (!machine_port_choose(from->proto, from->host_addr, first, last, &port, error)) {
            return false;
        }
        if (machine_qmp_forward(qmp, netdev, from->proto, from->host_addr, port, from->guest_port,
                                out_port, &problem)) {
            return true;
        }
        if (!g_error_matches(problem, VM_ERROR, VM_ERROR_EXISTS) || port == last) {
            g_propagate_error(error, problem);
            return false;
        }
        g_clear_error(&problem);
        first = (uint16_t)(port + 1);
    }
}

static bool forward_one(StepContext *c, MachineQmp *qmp, const char *netdev,
                        const PlanForward *from, GError **error)
{
    uint16_t port = 0;
    GError *problem = NULL;
    if (!forward_free(c, qmp, netdev, from, &port, &problem)) {
        SpecProto proto = strcmp(from->proto, "udp") == 0 ? SPEC_PROTO_UDP : SPEC_PROTO_TCP;
        GError *named = NULL;
        if (from->host_port && !net_port_probe(from->host_addr, from->host_port, proto, &named)) {
            g_clear_error(&problem);
            g_propagate_error(error, named); /* says which port and who holds it */
        } else {
            g_propagate_prefixed_error(error, problem, "port %s:%u: ", from->host_addr,
                                       from->host_port);
        }
        return false;
    }
    machine_step_forward(c, from, port);
    if (from->is_ssh) {
        c->boot->ssh_port = port;
    }
    return true;
}

bool step_forward_apply(StepContext *c, unsigned index G_GNUC_UNUSED, GError **error)
{
    g_autofree char *path = qmp_path(c->plan);
    g_autoptr(MachineQmp) qmp = machine_qmp_open(path, QMP_TIMEOUT_MS, NULL, error);
    const PlanNic *nic = machine_plan_user_nic(c->plan);
    if (!qmp || !nic) {
        return false;
    }
    for (unsigned i = 0; i < c->plan->forwards->len; i++) {
        if (!forward_one(c, qmp, nic->netdev, g_ptr_array_index(c->plan->forwards, i), error)) {
            return false;
        }
    }
    return machine_boot_save(c->dirfd, c->boot, error);
}

/* Forwards live in QEMU and end with it: there is nothing else to take back. */
bool step_forward_undo(MachineHost *host G_GNUC_UNUSED, const MachinePlan *plan G_GNUC_UNUSED,
                       int dirfd G_GNUC_UNUSED, unsigned index G_GNUC_UNUSED,
                       GError **error G_GNUC_UNUSED)
{
    return true;
}

/* --- watch ------------------------------------------------------------------------------------ */

static json_t *end_command(const StepContext *c)
{
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *folder = self ? g_path_get_dirname(self) : NULL;
    g_autofree char *program = g_build_filename(folder ? folder : "/usr/bin", "vm-run", NULL);
    return json_pack("[s,s,s,s,s]", program, "internal-end", "--state-dir", c->host->store->dir,
                     c->plan->ident->name);
}

/* What "ready" means where the spec doesn't say: ssh where it can be reached, and cloud-init. */
static unsigned ready_bits(const StepContext *c)
{
    unsigned usual = SPEC_READY_CLOUD_INIT | (c->boot->ssh_port ? SPEC_READY_SSH : 0);
    return c->spec->ready ? c->spec->ready : usual;
}

static json_t *watch_json(const StepContext *c)
{
    const MachinePlan *plan = c->plan;
    const SpecTimeouts *timeouts = &c->spec->timeouts;
    g_autofree char *qmp = qmp_path(plan);
    g_autofree char *status = g_build_filename(plan->run_dir, "s", NULL);
    g_autofree char *serial = g_build_filename(plan->dir, "serial.log", NULL);
    uint64_t stall_ms = plan->accel == SPEC_ACCEL_TCG ? STALL_TCG_MS : STALL_MS;
    json_t *root = json_pack("{s:i,s:s,s:s,s:s,s:b,s:s,s:i,s:b,s:b,s:s,s:i,s:o}", "v", 1, "name",
                             plan->ident->name, "qmp", qmp, "status", status, "agent", 1,
                             "ssh_addr", c->boot->ssh_addr ? c->boot->ssh_addr : "127.0.0.1",
                             "ssh_port", c->boot->ssh_port, "has_seed", 1, "wants_cloud_init", 1,
                             "firmware", plan->firmware == SPEC_FIRMWARE_BIOS ? "bios" : "uefi",
                             "ready", (int)ready_bits(c), "end_command", end_command(c));
    json_object_set_new(root, "serial_log", json_string(plan->has_console ? serial : ""));
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"boot", c->boot->boot},
        {"start_ms", c->boot->start_ms},
        {"qemu_pid", (uint64_t)c->boot->qemu_pid},
        {"qemu_start", c->boot->qemu_start},
        {"log_limit_bytes", SERIAL_LIMIT_BYTES},
        {"log_offset", c->serial_offset},
        {"stall_ms", stall_ms},
        {"boot_ms", timeouts->boot_ms},
        {"ready_ms", timeouts->ready_ms},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(numbers); i++) {
        json_object_set_new(root, numbers[i].key, json_integer((json_int_t)numbers[i].value));
    }
    return root;
}

static bool write_watch_json(StepContext *c, GError **error)
{
    json_t *root = watch_json(c);
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    bool is_ok = base_file_write_whole(c->dirfd, "watch.json", text, strlen(text), 0600, error);
    free(text);
    return is_ok;
}

/* Used by hand: by address, and port where that is not ssh's own. */
static char *known_address(const MachineBoot *boot)
{
    if (!boot->ssh_port) {
        return g_strdup("");
    }
    return boot->ssh_addr ? g_strdup_printf(",%s", boot->ssh_addr)
                          : g_strdup_printf(",[127.0.0.1]:%u", boot->ssh_port);
}

/* ssh finds the key by the machine's name (HostKeyAlias). */
static bool write_known_hosts(StepContext *c, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(c->host_key->public_line, " ", 3);
    g_autofree char *address = known_address(c->boot);
    g_autofree char *text = g_strdup_printf("%s%s %s %s\n", c->plan->ident->name, address, parts[0],
                                            parts[0] ? parts[1] : "");
    return base_file_write_whole(c->dirfd, "known_hosts", text, strlen(text), 0600, error);
}

bool step_watch_apply(StepContext *c, unsigned index G_GNUC_UNUSED, GError **error)
{
    g_autofree char *program = machine_watch_program(error);
    if (!program || !write_known_hosts(c, error) || !write_watch_json(c, error)) {
        return false;
    }
    machine_host_release(c->host); /* the watcher's end command may need it */
    return machine_watch_begin(program, c->plan->dir, error);
}

bool step_watch_undo(MachineHost *host G_GNUC_UNUSED, const MachinePlan *plan,
                     int dirfd G_GNUC_UNUSED, unsigned index G_GNUC_UNUSED, GError **error)
{
    return machine_watch_end(plan->dir, error);
}
