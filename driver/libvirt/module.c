#include "driver/libvirt/job.h"

/*
 * The part's door: opens, serves and closes connections. Linked into vm-run-libvirt.so (loaded at
 * the first use) and into vm-run-embed.
 */
static const VirtHandler handlers[] = {
    [VIRT_OP_FACTS] = virt_op_facts,
    [VIRT_OP_DEFINE] = virt_op_define,
    [VIRT_OP_START] = virt_op_start,
    [VIRT_OP_STATE] = virt_op_state,
    [VIRT_OP_SHUTDOWN] = virt_op_shutdown,
    [VIRT_OP_REBOOT] = virt_op_reboot,
    [VIRT_OP_DESTROY] = virt_op_destroy,
    [VIRT_OP_UNDEFINE] = virt_op_undefine,
    [VIRT_OP_FIND] = virt_op_find,
    [VIRT_OP_LIST] = virt_op_list,
    [VIRT_OP_AGENT_STATE] = virt_op_agent_state,
    [VIRT_OP_AGENT_COMMAND] = virt_op_agent_command,
    [VIRT_OP_STATS] = virt_op_stats,
    [VIRT_OP_XML] = virt_op_xml,
    [VIRT_OP_MONITOR] = virt_op_monitor,
    [VIRT_OP_SET_LINK] = virt_op_set_link,
    [VIRT_OP_NETWORK_BY_BRIDGE] = virt_op_network_by_bridge,
    [VIRT_OP_NETWORK_RESERVE] = virt_op_network_reserve,
    [VIRT_OP_NETWORK_RELEASE] = virt_op_network_release,
    [VIRT_OP_NETWORK_LEASE] = virt_op_network_lease,
};
G_STATIC_ASSERT(G_N_ELEMENTS(handlers) == VIRT_OP_N);

#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_COUNT      2

static void part_clear(gpointer data)
{
    VirtPart *part = data;
    if (part->conn) {
        virConnectClose(part->conn);
    }
    g_free(part->uri);
}

VirtPart *virt_part_new(const char *uri)
{
    VirtPart *part = g_atomic_rc_box_new0(VirtPart);
    part->uri = g_strdup(uri);
    part->kind = virt_kind_of_uri(uri);
    return part;
}

VirtPart *virt_part_ref(VirtPart *part)
{
    return g_atomic_rc_box_acquire(part);
}

void virt_part_unref(VirtPart *part)
{
    g_atomic_rc_box_release_full(part, part_clear);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirtPart, virt_part_unref)

char *virt_answer(json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    char *answer = g_strdup(text ? text : "null");
    free(text);
    json_decref(value);
    return answer;
}

char *virt_answer_true(void)
{
    return g_strdup("true");
}

static char *open_handler(VirtPart *part, const VirtArgs *args, GError **error)
{
    (void)args;
    virConnectPtr conn = virConnectOpen(part->uri);
    if (!conn) {
        virt_error_set(error, "cannot connect to libvirt (%s)", part->uri);
        return NULL;
    }
    if (part->kind == VIRT_KIND_SYSTEM || part->kind == VIRT_KIND_SESSION ||
        part->kind == VIRT_KIND_REMOTE) {
        virConnectSetKeepAlive(conn, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT);
    }
    part->conn = conn;
    return virt_answer_true();
}

static char *close_handler(VirtPart *part, const VirtArgs *args, GError **error)
{
    (void)args;
    (void)error;
    virConnectClose(g_steal_pointer(&part->conn));
    return virt_answer_true();
}

static void *part_open(const char *uri, GError **error)
{
    if (!virt_library_begin(error)) {
        return NULL;
    }
    g_autoptr(VirtPart) part = virt_part_new(uri);
    unsigned deadline_ms = part->kind == VIRT_KIND_EMBED ? VIRT_OPEN_EMBED_MS : VIRT_OPEN_MS;
    g_autofree char *answer =
        virt_job_run(part, open_handler, NULL, "open a connection", deadline_ms, error);
    return answer ? g_steal_pointer(&part) : NULL;
}

/* A call that failed because the daemon went away says so, whatever code libvirt gave it. */
static void check_connection(VirtPart *part, GError **error)
{
    if (g_error_matches(*error, VM_ERROR, VM_ERROR_TIMEOUT) || virConnectIsAlive(part->conn) != 0) {
        return;
    }
    g_autoptr(GError) cause = g_steal_pointer(error);
    base_fail(error, VM_ERROR_HOST, "the connection to libvirt (%s) was lost: %s", part->uri,
              cause->message);
}

static char *part_call(void *impl, VirtOp op, const VirtArgs *args, GError **error)
{
    VirtPart *part = impl;
    GError *cause = NULL;
    char *answer = virt_job_run(part, handlers[op], args, virt_op_name(op),
                                virt_op_deadline_ms(op, args), &cause);
    if (!answer) {
        check_connection(part, &cause);
        g_propagate_error(error, cause);
    }
    return answer;
}

static void part_close(void *impl)
{
    g_autoptr(VirtPart) part = impl;
    if (g_atomic_int_get(&part->n_stuck) > 0) {
        return; /* the call that hangs owns the connection now */
    }
    g_free(virt_job_run(part, close_handler, NULL, "close", VIRT_CLOSE_MS, NULL));
}

extern const VirtOps virt_ops;
__attribute__((visibility("default"))) const VirtOps virt_ops = {
    .abi = VIRT_OPS_ABI,
    .open = part_open,
    .call = part_call,
    .close = part_close,
};
