#include "driver/host.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/proc.h"

#define RECORD_MAX_BYTES (1024 * 1024)
#define QEMU_TERM_MS     5000
#define QEMU_KILL_MS     10000

MachineHost *machine_host_new(const char *state_dir, const char *connect, bool is_read_only,
                              GError **error)
{
    MachineStore *store = machine_store_open(state_dir, is_read_only, error);
    if (!store) {
        return NULL;
    }
    MachineHost *host = g_new0(MachineHost, 1);
    host->store = store;
    host->connect = g_strdup(connect);
    return host;
}

void machine_host_free(MachineHost *host)
{
    if (host) {
        machine_host_release(host);
        net_store_close(host->nets);
        machine_store_close(host->store);
        g_free(host->connect);
        g_free(host);
    }
}

MachineStore *machine_host_store(MachineHost *host)
{
    return host->store;
}

VirtConn *machine_host_virt(MachineHost *host, const char *uri, GError **error)
{
    /* Machines of one state directory may run on several connections: each is asked on its own. */
    if (host->connection && uri && strcmp(uri, host->uri) != 0) {
        machine_host_release(host);
    }
    if (!host->connection) {
        const char *why = NULL;
        MachineConnectionPlaces places = machine_connection_places();
        g_autofree char *chosen =
            machine_connection_choose(&places, host->store->dir, uri ? uri : host->connect, &why);
        host->connection = machine_connection_open(host->store->dir, chosen, error);
        host->uri = host->connection ? g_steal_pointer(&chosen) : NULL;
    }
    return host->connection ? machine_connection_virt(host->connection) : NULL;
}

void machine_host_release(MachineHost *host)
{
    machine_connection_close(host->connection);
    host->connection = NULL;
    g_clear_pointer(&host->uri, g_free);
}

NetStore *machine_host_nets(MachineHost *host, GError **error)
{
    if (!host->nets) {
        g_autoptr(MachineIdent) ident = machine_ident_new(host->store->dir, "");
        host->nets = net_store_open(host->store->dir, ident->store_id, error);
    }
    return host->nets;
}

HostFacts *machine_host_facts(MachineHost *host, GError **error)
{
    if (!machine_host_virt(host, NULL, error)) {
        return NULL;
    }
    g_autoptr(HostFacts) facts = host_facts_new();
    if (!machine_connection_facts(host->connection, facts, error)) {
        return NULL;
    }
    return g_steal_pointer(&facts);
}

/* --- clocks ----------------------------------------------------------------------------------- */

char *machine_now_text(void)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *seconds = g_date_time_format(now, "%Y-%m-%dT%H:%M:%S");
    return g_strdup_printf("%s.%03dZ", seconds, g_date_time_get_microsecond(now) / 1000);
}

uint64_t machine_boottime_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* --- boot.json -------------------------------------------------------------------------------- */

void machine_forward_free(void *data)
{
    MachineForward *forward = data;
    g_free(forward->proto);
    g_free(forward->host_addr);
    g_free(forward);
}

MachineBoot *machine_boot_new(void)
{
    MachineBoot *boot = g_new0(MachineBoot, 1);
    boot->forwards = g_ptr_array_new_with_free_func(machine_forward_free);
    return boot;
}

void machine_boot_free(MachineBoot *boot)
{
    if (boot) {
        g_free(boot->started);
        g_free(boot->boot_id);
        g_free(boot->command);
        g_free(boot->ssh_addr);
        g_ptr_array_unref(boot->forwards);
        g_free(boot);
    }
}

char *machine_boot_to_json(const MachineBoot *boot)
{
    json_t *forwards = json_array();
    for (unsigned i = 0; i < boot->forwards->len; i++) {
        const MachineForward *f = g_ptr_array_index(boot->forwards, i);
        json_array_append_new(forwards, json_pack("{s:s,s:s,s:i,s:i}", "proto", f->proto,
                                                  "host_addr", f->host_addr, "host_port",
                                                  f->host_port, "guest_port", f->guest_port));
    }
    json_t *root = json_pack("{s:i,s:I,s:I,s:s,s:s,s:s,s:b,s:i,s:I,s:o,s:i,s:s*}", "v", 1, "boot",
                             (json_int_t)boot->boot, "start_ms", (json_int_t)boot->start_ms,
                             "started", boot->started, "boot_id", boot->boot_id, "command",
                             boot->command, "is_rm", boot->is_rm, "qemu_pid", (int)boot->qemu_pid,
                             "qemu_start", (json_int_t)boot->qemu_start, "forwards", forwards,
                             "ssh_port", boot->ssh_port, "ssh_addr", boot->ssh_addr);
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    char *out = g_strdup(text);
    free(text);
    return out;
}

bool machine_boot_save(int dirfd, const MachineBoot *boot, GError **error)
{
    g_autofree char *text = machine_boot_to_json(boot);
    return base_file_write_whole(dirfd, "boot.json", text, strlen(text), 0600, error);
}

static void load_forwards(MachineBoot *boot, const json_t *list)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        MachineForward *f = g_new0(MachineForward, 1);
        f->proto = g_strdup(json_string_value(json_object_get(item, "proto")));
        f->host_addr = g_strdup(json_string_value(json_object_get(item, "host_addr")));
        f->host_port = (uint16_t)json_integer_value(json_object_get(item, "host_port"));
        f->guest_port = (uint16_t)json_integer_value(json_object_get(item, "guest_port"));
        g_ptr_array_add(boot->forwards, f);
    }
}

MachineBoot *machine_boot_from_json(const char *text)
{
    json_t *root = json_loads(text, 0, NULL);
    MachineBoot *boot = machine_boot_new();
    boot->boot = (unsigned)json_integer_value(json_object_get(root, "boot"));
    boot->start_ms = (uint64_t)json_integer_value(json_object_get(root, "start_ms"));
    boot->started = g_strdup(json_string_value(json_object_get(root, "started")));
    boot->boot_id = g_strdup(json_string_value(json_object_get(root, "boot_id")));
    boot->command = g_strdup(json_string_value(json_object_get(root, "command")));
    boot->is_rm = json_is_true(json_object_get(root, "is_rm"));
    boot->qemu_pid = (pid_t)json_integer_value(json_object_get(root, "qemu_pid"));
    boot->qemu_start = (uint64_t)json_integer_value(json_object_get(root, "qemu_start"));
    boot->ssh_port = (uint16_t)json_integer_value(json_object_get(root, "ssh_port"));
    boot->ssh_addr = g_strdup(json_string_value(json_object_get(root, "ssh_addr")));
    load_forwards(boot, json_object_get(root, "forwards"));
    json_decref(root);
    return boot;
}

MachineBoot *machine_boot_load(int dirfd, GError **error)
{
    GError *problem = NULL;
    g_autofree char *text = base_file_read(dirfd, "boot.json", RECORD_MAX_BYTES, NULL, &problem);
    if (!text) {
        if (g_error_matches(problem, VM_ERROR, VM_ERROR_NOT_FOUND)) {
            g_clear_error(&problem);
        } else {
            g_propagate_error(error, problem);
        }
        return NULL;
    }
    return machine_boot_from_json(text);
}

int machine_boot_open_qemu(const MachineBoot *boot)
{
    if (boot->qemu_pid <= 0 || g_strcmp0(boot->boot_id, base_proc_boot_id()) != 0) {
        return -1;
    }
    return base_proc_open(boot->qemu_pid, boot->qemu_start);
}

bool machine_qemu_end(const MachineBoot *boot, GError **error)
{
    autofd int pidfd = machine_boot_open_qemu(boot);
    if (pidfd < 0) {
        return true;
    }
    syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0);
    if (base_proc_wait_end(pidfd, QEMU_TERM_MS, NULL)) {
        return true;
    }
    syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
    return base_proc_wait_end(pidfd, QEMU_KILL_MS, error);
}

/* --- the other files -------------------------------------------------------------------------- */

MachinePlan *machine_record_load(int dirfd, GError **error)
{
    g_autofree char *text = base_file_read(dirfd, "record.json", RECORD_MAX_BYTES, NULL, error);
    return text ? machine_plan_from_json(text, error) : NULL;
}

bool machine_history_load(int dirfd, char **out_created, unsigned *out_boots)
{
    g_autofree char *text = base_file_read(dirfd, "history.json", RECORD_MAX_BYTES, NULL, NULL);
    json_t *root = text ? json_loads(text, 0, NULL) : NULL;
    if (out_created) {
        *out_created = g_strdup(json_string_value(json_object_get(root, "created")));
    }
    if (out_boots) {
        *out_boots = (unsigned)json_integer_value(json_object_get(root, "boots"));
    }
    json_decref(root);
    return root != NULL;
}

bool machine_history_save(int dirfd, const char *created, unsigned boots, GError **error)
{
    g_autofree char *text =
        g_strdup_printf("{\"v\":1,\"created\":\"%s\",\"boots\":%u}\n", created, boots);
    return base_file_write_whole(dirfd, "history.json", text, strlen(text), 0600, error);
}

MachineSpec *machine_spec_load(MachineHost *host, const char *name, GError **error)
{
    autofd int dirfd = machine_store_open_machine(host->store, name, error);
    if (dirfd < 0) {
        return NULL;
    }
    g_autofree char *text = base_file_read(dirfd, "spec.json", 8 * RECORD_MAX_BYTES, NULL, error);
    return text ? spec_machine_from_json(text, error) : NULL;
}
