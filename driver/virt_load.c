#include "driver/virt.h"

#include "base/error.h"
#include "base/load.h"
#include "driver/connection.h"
#include "driver/virt_ops.h"
#include "driver/virt_wire.h"

/*
 * driver/virt.h over a table of operations: vm-run-libvirt.so in this process for everything with a
 * daemon (and the test driver), vm-run-embed for embedded roots.
 */
struct VirtConn {
    const VirtOps *ops;
    void *impl;
    VirtKind kind;
    VirtConn *networks; /* NULL: not opened */
};

static const VirtOps *choose_ops(const char *uri, GError **error)
{
    VirtKind kind = virt_kind_of_uri(uri);
    if (kind == VIRT_KIND_N) {
        base_fail(error, VM_ERROR_UNSUPPORTED,
                  "connection '%s' is not supported - qemu:///system, qemu:///embed?root=DIR, "
                  "qemu:///session, qemu+ssh://HOST/system and test:///default are",
                  uri);
        return NULL;
    }
    if (kind == VIRT_KIND_EMBED) {
        return &virt_remote_ops;
    }
    const VirtOps *ops = base_load_symbol("vm-run-libvirt", "virt_ops", error);
    if (ops && ops->abi != VIRT_OPS_ABI) {
        base_fail(error, VM_ERROR_HOST,
                  "vm-run-libvirt.so is of another version (%u, not %u) - install vm-run again",
                  ops->abi, VIRT_OPS_ABI);
        return NULL;
    }
    return ops;
}

VirtConn *virt_open(const char *uri, GError **error)
{
    const VirtOps *ops = choose_ops(uri, error);
    void *impl = ops ? ops->open(uri, error) : NULL;
    if (!impl) {
        return NULL;
    }
    VirtConn *conn = g_new0(VirtConn, 1);
    *conn = (VirtConn){.ops = ops, .impl = impl, .kind = virt_kind_of_uri(uri)};
    return conn;
}

void virt_close(VirtConn *conn)
{
    if (conn) {
        virt_close(conn->networks);
        conn->ops->close(conn->impl);
        g_free(conn);
    }
}

void virt_domain_free(VirtDomain *domain)
{
    if (domain) {
        g_free(domain->name);
        g_free(domain->uuid);
        g_free(domain->owner);
        g_free(domain);
    }
}

VirtConn *virt_network_conn(VirtConn *conn, GError **error)
{
    if (conn->kind != VIRT_KIND_EMBED || conn->networks) {
        return conn->networks ? conn->networks : conn;
    }
    if (machine_connection_system_is_near()) {
        conn->networks = virt_open("qemu:///system", error);
    }
    return conn->networks;
}

json_t *virt_call(VirtConn *conn, VirtOp op, const VirtArgs *args, GError **error)
{
    g_autofree char *answer = conn->ops->call(conn->impl, op, args, error);
    json_t *value = answer ? json_loads(answer, JSON_DECODE_ANY, NULL) : NULL;
    if (answer && !value) {
        base_fail(error, VM_ERROR_INTERNAL, "cannot read libvirt's answer to %s", virt_op_name(op));
    }
    return value;
}

static bool call_plain(VirtConn *conn, VirtOp op, const VirtArgs *args, GError **error)
{
    json_t *value = virt_call(conn, op, args, error);
    json_decref(value);
    return value;
}

static char *call_string(VirtConn *conn, VirtOp op, const VirtArgs *args, GError **error)
{
    json_t *value = virt_call(conn, op, args, error);
    char *text = value ? g_strdup(json_string_value(value)) : NULL;
    if (value && !text) {
        base_fail(error, VM_ERROR_INTERNAL, "libvirt's answer to %s is no text", virt_op_name(op));
    }
    json_decref(value);
    return text;
}

static void set_text(json_t *object, const char *key, char **member)
{
    g_free(*member);
    *member = g_strdup(json_string_value(json_object_get(object, key)));
}

bool virt_facts(VirtConn *conn, HostFacts *facts, GError **error)
{
    json_t *object = virt_call(conn, VIRT_OP_FACTS, &(VirtArgs){0}, error);
    if (!object) {
        return false;
    }
    set_text(object, "libvirt_version", &facts->libvirt_version);
    set_text(object, "qemu_version", &facts->qemu_version);
    set_text(object, "emulator", &facts->emulator);
    set_text(object, "machine_q35", &facts->machine_q35);
    set_text(object, "machine_pc", &facts->machine_pc);
    facts->is_kvm_listed = json_is_true(json_object_get(object, "is_kvm_listed"));
    facts->has_fd_associate = json_is_true(json_object_get(object, "has_fd_associate"));
    json_decref(object);
    return true;
}

bool virt_define(VirtConn *conn, const char *xml, GError **error)
{
    return call_plain(conn, VIRT_OP_DEFINE, &(VirtArgs){.text = xml}, error);
}

bool virt_start(VirtConn *conn, const char *uuid, const VirtDiskFd *fds, unsigned n_fds,
                GError **error)
{
    VirtArgs args = {.uuid = uuid, .fds = fds, .n_fds = n_fds};
    return call_plain(conn, VIRT_OP_START, &args, error);
}

bool virt_state(VirtConn *conn, const char *uuid, VirtState *out_state, GError **error)
{
    json_t *value = virt_call(conn, VIRT_OP_STATE, &(VirtArgs){.uuid = uuid}, error);
    if (!value) {
        return false;
    }
    *out_state = (VirtState)json_integer_value(value);
    json_decref(value);
    return true;
}

bool virt_shutdown(VirtConn *conn, const char *uuid, GError **error)
{
    return call_plain(conn, VIRT_OP_SHUTDOWN, &(VirtArgs){.uuid = uuid}, error);
}

bool virt_reboot(VirtConn *conn, const char *uuid, GError **error)
{
    return call_plain(conn, VIRT_OP_REBOOT, &(VirtArgs){.uuid = uuid}, error);
}

bool virt_destroy(VirtConn *conn, const char *uuid, GError **error)
{
    return call_plain(conn, VIRT_OP_DESTROY, &(VirtArgs){.uuid = uuid}, error);
}

bool virt_undefine(VirtConn *conn, const char *uuid, GError **error)
{
    return call_plain(conn, VIRT_OP_UNDEFINE, &(VirtArgs){.uuid = uuid}, error);
}

static VirtDomain *domain_of(json_t *object)
{
    VirtDomain *domain = g_new0(VirtDomain, 1);
    set_text(object, "name", &domain->name);
    set_text(object, "uuid", &domain->uuid);
    set_text(object, "owner", &domain->owner);
    domain->state = (VirtState)json_integer_value(json_object_get(object, "state"));
    return domain;
}

VirtDomain *virt_find_by_name(VirtConn *conn, const char *name, GError **error)
{
    json_t *object = virt_call(conn, VIRT_OP_FIND, &(VirtArgs){.text = name}, error);
    VirtDomain *domain = json_is_object(object) ? domain_of(object) : NULL;
    json_decref(object);
    return domain;
}

GPtrArray *virt_list_ours(VirtConn *conn, GError **error)
{
    json_t *list = virt_call(conn, VIRT_OP_LIST, &(VirtArgs){0}, error);
    if (!list) {
        return NULL;
    }
    GPtrArray *domains = g_ptr_array_new_with_free_func((GDestroyNotify)virt_domain_free);
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        g_ptr_array_add(domains, domain_of(item));
    }
    json_decref(list);
    return domains;
}

bool virt_agent_is_connected(VirtConn *conn, const char *uuid, bool *out_connected, GError **error)
{
    json_t *value = virt_call(conn, VIRT_OP_AGENT_STATE, &(VirtArgs){.uuid = uuid}, error);
    if (!value) {
        return false;
    }
    *out_connected = json_is_true(value);
    json_decref(value);
    return true;
}

char *virt_agent_command(VirtConn *conn, const char *uuid, const char *command, int timeout_s,
                         GError **error)
{
    VirtArgs args = {.uuid = uuid, .text = command, .number = timeout_s};
    return call_string(conn, VIRT_OP_AGENT_COMMAND, &args, error);
}

bool virt_stats(VirtConn *conn, const char *uuid, VirtStats *out, GError **error)
{
    json_t *object = virt_call(conn, VIRT_OP_STATS, &(VirtArgs){.uuid = uuid}, error);
    if (!object) {
        return false;
    }
    uint64_t n_vcpus = 0;
    VirtStats stats = {0};
    const struct {
        const char *name;
        uint64_t *member;
    } rows[] = {
        {"cpu_time_ns", &stats.cpu_time_ns},
        {"cpu_user_ns", &stats.cpu_user_ns},
        {"cpu_system_ns", &stats.cpu_system_ns},
        {"n_vcpus", &n_vcpus},
        {"mem_actual_bytes", &stats.mem_actual_bytes},
        {"mem_rss_bytes", &stats.mem_rss_bytes},
        {"mem_unused_bytes", &stats.mem_unused_bytes},
        {"mem_usable_bytes", &stats.mem_usable_bytes},
        {"net_rx_bytes", &stats.net_rx_bytes},
        {"net_tx_bytes", &stats.net_tx_bytes},
        {"disk_rd_bytes", &stats.disk_rd_bytes},
        {"disk_wr_bytes", &stats.disk_wr_bytes},
        {"disk_allocation_bytes", &stats.disk_allocation_bytes},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        *rows[i].member = (uint64_t)json_integer_value(json_object_get(object, rows[i].name));
    }
    stats.n_vcpus = (unsigned)n_vcpus;
    *out = stats;
    json_decref(object);
    return true;
}

bool virt_set_link(VirtConn *conn, const char *uuid, const char *mac, bool is_up, GError **error)
{
    VirtArgs args = {.uuid = uuid, .text = mac, .number = is_up};
    return call_plain(conn, VIRT_OP_SET_LINK, &args, error);
}

char *virt_domain_xml(VirtConn *conn, const char *uuid, GError **error)
{
    return call_string(conn, VIRT_OP_XML, &(VirtArgs){.uuid = uuid}, error);
}

char *virt_monitor(VirtConn *conn, const char *uuid, const char *line, GError **error)
{
    return call_string(conn, VIRT_OP_MONITOR, &(VirtArgs){.uuid = uuid, .text = line}, error);
}
