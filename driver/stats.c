#include <jansson.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/fd.h"
#include "driver/host.h"

char *machine_stats_json(MachineHost *host, const char *name, GError **error)
{
    autofd int dirfd = machine_store_open_machine(host->store, name, error);
    g_autoptr(MachinePlan) plan = dirfd >= 0 ? machine_record_load(dirfd, error) : NULL;
    if (!plan) {
        return NULL;
    }
    g_autoptr(MachineBoot) boot = machine_boot_load(dirfd, NULL);
    autofd int pidfd = boot ? machine_boot_open_qemu(boot) : -1;
    if (pidfd < 0) {
        base_fail(error, VM_ERROR_BUSY, "machine '%s' is not running - `vm-run start %s` starts it",
                  name, name);
        return NULL;
    }
    VirtStats s = {0};
    VirtConn *conn = machine_host_virt(host, plan->uri, error);
    bool is_ok = conn && virt_stats(conn, plan->ident->uuid, &s, error);
    machine_host_release(host);
    if (!is_ok) {
        return NULL;
    }
    const struct {
        const char *key;
        uint64_t value;
    } rows[] = {
        {"cpu_time_ns", s.cpu_time_ns},
        {"cpu_user_ns", s.cpu_user_ns},
        {"cpu_system_ns", s.cpu_system_ns},
        {"vcpus", s.n_vcpus},
        {"mem_actual_bytes", s.mem_actual_bytes},
        {"mem_rss_bytes", s.mem_rss_bytes},
        {"mem_unused_bytes", s.mem_unused_bytes},
        {"mem_usable_bytes", s.mem_usable_bytes},
        {"net_rx_bytes", s.net_rx_bytes},
        {"net_tx_bytes", s.net_tx_bytes},
        {"disk_rd_bytes", s.disk_rd_bytes},
        {"disk_wr_bytes", s.disk_wr_bytes},
        {"disk_allocation_bytes", s.disk_allocation_bytes},
    };
    json_t *root = json_pack("{s:i,s:s}", "v", 1, "name", name);
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        json_object_set_new(root, rows[i].key, json_integer((json_int_t)rows[i].value));
    }
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    char *out = g_strdup(text);
    free(text);
    return out;
}
