#include "net/nft.h"

#include <string.h>
#include "base/error.h"
#include "base/load.h"
#include "net/nft/part.h"

enum { CONTENT_HASH_CHARS = 8 };

static const char *const family_names[NET_NFT_N] = {
    [NET_NFT_INET] = "inet",
    [NET_NFT_BRIDGE] = "bridge",
};

struct NetNftBatch {
    json_t *commands; /* array */
    /* the last command, while it takes further elements of the same set; borrowed */
    json_t *elements;
    const char *verb;
    NetNftFamily family;
    char *set;
    bool is_broken; /* a command could not be built (text that is no UTF-8) */
};

NetNftBatch *net_nft_batch_new(void)
{
    NetNftBatch *batch = g_new0(NetNftBatch, 1);
    batch->commands = json_array();
    return batch;
}

void net_nft_batch_free(NetNftBatch *batch)
{
    if (batch) {
        json_decref(batch->commands);
        g_free(batch->set);
        g_free(batch);
    }
}

unsigned net_nft_batch_size(const NetNftBatch *batch)
{
    return (unsigned)json_array_size(batch->commands);
}

void net_nft_add_command(NetNftBatch *batch, json_t *command)
{
    batch->elements = NULL;
    batch->is_broken |= !command || json_array_append_new(batch->commands, command);
}

/* --- elements ----------------------------------------------------------------- */

static void append_element(NetNftBatch *batch, const char *verb, NetNftFamily family,
                           const char *set, json_t *element)
{
    if (batch->elements && batch->verb == verb && batch->family == family &&
        !strcmp(batch->set, set)) {
        batch->is_broken |= !element || json_array_append_new(batch->elements, element);
        return;
    }
    json_t *elements = json_pack("[o]", element);
    net_nft_add_command(batch, json_pack("{s:{s:{s:s,s:s,s:s,s:o}}}", verb, "element", "family",
                                         family_names[family], "table", NET_NFT_TABLE, "name", set,
                                         "elem", elements));
    batch->elements = batch->is_broken ? NULL : elements;
    batch->verb = verb;
    batch->family = family;
    g_free(batch->set);
    batch->set = g_strdup(set);
}

void net_nft_add_element(NetNftBatch *batch, NetNftFamily family, const char *set, json_t *key,
                         json_t *value, const char *comment)
{
    json_t *element =
        comment ? json_pack("{s:{s:o,s:s}}", "elem", "val", key, "comment", comment) : key;
    append_element(batch, "add", family, set, value ? json_pack("[o,o]", element, value) : element);
}

void net_nft_delete_element(NetNftBatch *batch, NetNftFamily family, const char *set, json_t *key)
{
    append_element(batch, "delete", family, set, key);
}

/* --- chains and rules --------------------------------------------------------- */

static void append_chain(NetNftBatch *batch, const char *verb, NetNftFamily family,
                         const char *chain)
{
    net_nft_add_command(batch,
                        json_pack("{s:{s:{s:s,s:s,s:s}}}", verb, "chain", "family",
                                  family_names[family], "table", NET_NFT_TABLE, "name", chain));
}

void net_nft_add_chain(NetNftBatch *batch, NetNftFamily family, const char *chain)
{
    append_chain(batch, "add", family, chain);
}

void net_nft_flush_chain(NetNftBatch *batch, NetNftFamily family, const char *chain)
{
    append_chain(batch, "flush", family, chain);
}

void net_nft_delete_chain(NetNftBatch *batch, NetNftFamily family, const char *chain)
{
    append_chain(batch, "delete", family, chain);
}

void net_nft_add_rule(NetNftBatch *batch, NetNftFamily family, const char *chain,
                      json_t *expressions, const char *comment)
{
    net_nft_add_command(batch, json_pack("{s:{s:{s:s,s:s,s:s,s:s*,s:o}}}", "add", "rule", "family",
                                         family_names[family], "table", NET_NFT_TABLE, "chain",
                                         chain, "comment", comment, "expr", expressions));
}

/* --- names -------------------------------------------------------------------- */

char *net_nft_member_prefix(const char *owner)
{
    GString *name = g_string_new(NET_NFT_MEMBER_PREFIX);
    for (const char *at = owner; *at; at++) {
        g_string_append_c(name, g_ascii_isalnum(*at) ? *at : '_');
    }
    g_string_append_c(name, '_');
    return g_string_free(name, FALSE);
}

char *net_nft_member_chain(const char *owner, const char *content)
{
    g_autofree char *prefix = net_nft_member_prefix(owner);
    g_autofree char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, content, -1);
    return g_strdup_printf("%s%.*s", prefix, CONTENT_HASH_CHARS, hash);
}

/* --- the transaction ---------------------------------------------------------- */

/* Where the kernel refuses to talk, libnftables 1.0.6 prints that and ends the process, so it is
 * asked by ourselves first. */
static bool run(const char *commands, bool is_json, char **out_output, GError **error)
{
    uint32_t unused;
    if (!net_nft_generation(&unused, error)) {
        return false;
    }
    const NetNftPart *part = base_load_symbol(NET_NFT_PART, NET_NFT_SYMBOL, error);
    return part && part->run(commands, is_json, out_output, error);
}

static bool run_batch(NetNftBatch *batch, char **out_output, GError **error)
{
    json_t *whole = batch->is_broken ? NULL : json_pack("{s:O}", "nftables", batch->commands);
    char *text = whole ? json_dumps(whole, JSON_COMPACT) : NULL;
    json_decref(whole);
    if (!text) {
        return base_fail(error, VM_ERROR_INTERNAL, "a name for nf_tables is no UTF-8 text");
    }
    bool is_done = run(text, true, out_output, error);
    free(text);
    return is_done;
}

bool net_nft_commit(NetNftBatch *batch, GError **error)
{
    return (net_nft_batch_size(batch) == 0 && !batch->is_broken) || run_batch(batch, NULL, error);
}

bool net_nft_run_text(const char *text, GError **error)
{
    return run(text, false, NULL, error);
}

json_t *net_nft_ask(NetNftBatch *batch, GError **error)
{
    g_autofree char *text = NULL;
    if (!run_batch(batch, &text, error)) {
        return NULL;
    }
    json_t *answer = json_loads(*text ? text : "{}", 0, NULL);
    if (!answer) {
        base_fail(error, VM_ERROR_HOST, "libnftables answers what is no JSON");
    }
    return answer;
}
