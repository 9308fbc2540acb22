#include "driver/virt_ops.h"

#include <string.h>

typedef struct {
    const char *name;
    unsigned deadline_ms;
} OpRow;

/* Far above what was measured (start 0.3 s, first define in a fresh embedded root 4 s) since hosts
 * can be busy. */
static const OpRow rows[] = {
    [VIRT_OP_FACTS] = {"ask for capabilities", 60000},
    [VIRT_OP_DEFINE] = {"define domain", 60000},
    [VIRT_OP_START] = {"start domain", 120000},
    [VIRT_OP_STATE] = {"look at domain", 20000},
    [VIRT_OP_SHUTDOWN] = {"shut down domain", 15000},
    [VIRT_OP_REBOOT] = {"reboot domain", 15000},
    [VIRT_OP_DESTROY] = {"destroy domain", 60000},
    [VIRT_OP_UNDEFINE] = {"undefine domain", 30000},
    [VIRT_OP_FIND] = {"find domain", 20000},
    [VIRT_OP_LIST] = {"list domains", 30000},
    [VIRT_OP_AGENT_STATE] = {"look at guest agent", 20000},
    [VIRT_OP_AGENT_COMMAND] = {"ask guest agent", 5000},
    [VIRT_OP_STATS] = {"read statistics", 20000},
    [VIRT_OP_XML] = {"read domain XML", 20000},
    [VIRT_OP_MONITOR] = {"ask QEMU's monitor", 20000},
    [VIRT_OP_SET_LINK] = {"set a link up or down", 20000},
    [VIRT_OP_NETWORK_BY_BRIDGE] = {"look for a network", 20000},
    /* 0.6 s each, and they queue: 64 machines at once are not unheard of */
    [VIRT_OP_NETWORK_RESERVE] = {"reserve an address", 120000},
    [VIRT_OP_NETWORK_RELEASE] = {"release an address", 120000},
    [VIRT_OP_NETWORK_LEASE] = {"read leases", 20000},
};
G_STATIC_ASSERT(G_N_ELEMENTS(rows) == VIRT_OP_N);

unsigned virt_op_deadline_ms(VirtOp op, const VirtArgs *args)
{
    unsigned extra_s = op == VIRT_OP_AGENT_COMMAND && args->number > 0 ? (unsigned)args->number : 0;
    return rows[op].deadline_ms + MIN(extra_s, 3600u) * 1000;
}

const char *virt_op_name(VirtOp op)
{
    return rows[op].name;
}

VirtKind virt_kind_of_uri(const char *uri)
{
    g_autoptr(GUri) parsed = g_uri_parse(uri, G_URI_FLAGS_NONE, NULL);
    if (!parsed) {
        return VIRT_KIND_N;
    }
    const char *scheme = g_uri_get_scheme(parsed), *path = g_uri_get_path(parsed);
    const char *host = g_uri_get_host(parsed);
    if (strcmp(scheme, "test") == 0) {
        return VIRT_KIND_TEST;
    }
    if (g_str_has_prefix(scheme, "qemu+") || (strcmp(scheme, "qemu") == 0 && host && *host)) {
        return VIRT_KIND_REMOTE;
    }
    if (strcmp(scheme, "qemu") != 0) {
        return VIRT_KIND_N;
    }
    static const char *const paths[] = {[VIRT_KIND_EMBED] = "/embed",
                                        [VIRT_KIND_SYSTEM] = "/system",
                                        [VIRT_KIND_SESSION] = "/session"};
    for (unsigned i = 0; i < G_N_ELEMENTS(paths); i++) {
        if (strcmp(path, paths[i]) == 0) {
            return (VirtKind)i;
        }
    }
    return VIRT_KIND_N;
}

char *virt_embed_root_of_uri(const char *uri)
{
    g_autoptr(GUri) parsed = g_uri_parse(uri, G_URI_FLAGS_ENCODED_QUERY, NULL);
    const char *query = parsed ? g_uri_get_query(parsed) : NULL;
    if (!query || virt_kind_of_uri(uri) != VIRT_KIND_EMBED) {
        return NULL;
    }
    g_autoptr(GHashTable) params = g_uri_parse_params(query, -1, "&", G_URI_PARAMS_NONE, NULL);
    return params ? g_strdup(g_hash_table_lookup(params, "root")) : NULL;
}
