#include "net/nft.h"

#include <string.h>
#include "base/error.h"
#include "base/load.h"
#include "net/nft/part.h"
#include "net/nft_raw.h"

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
    GByteArray *raw; /* the same as messages, while all commands have such a form; else NULL */
    bool is_broken;  /* a command could not be built (text that is no UTF-8) */
};

NetNftBatch *net_nft_batch_new(void)
{
    NetNftBatch *batch = g_new0(NetNftBatch, 1);
    batch->commands = json_array();
    batch->raw = g_byte_array_new();
    return batch;
}

void net_nft_batch_free(NetNftBatch *batch)
{
    if (batch) {
        json_decref(batch->commands);
        g_clear_pointer(&batch->raw, g_byte_array_unref);
        g_free(batch->set);
        g_free(batch);
    }
}

unsigned net_nft_batch_size(const NetNftBatch *batch)
{
    return (unsigned)json_array_size(batch->commands);
}

static void append_command(NetNftBatch *batch, json_t *command)
{
    batch->elements = NULL;
    batch->is_broken |= !command || json_array_append_new(batch->commands, command);
}

/* From now on the batch takes the long way. */
static void leave_raw(NetNftBatch *batch)
{
    g_clear_pointer(&batch->raw, g_byte_array_unref);
}

void net_nft_add_command(NetNftBatch *batch, json_t *command)
{
    leave_raw(batch);
    append_command(batch, command);
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
    append_command(batch, json_pack("{s:{s:{s:s,s:s,s:s,s:o}}}", verb, "element", "family",
                                    family_names[family], "table", NET_NFT_TABLE, "name", set,
                                    "elem", elements));
    batch->elements = batch->is_broken ? NULL : elements;
    batch->verb = verb;
    batch->family = family;
    g_free(batch->set);
    batch->set = g_strdup(set);
}

static void append_addition(NetNftBatch *batch, NetNftFamily family, const char *set, json_t *key,
                            json_t *value, const char *comment)
{
    json_t *element =
        comment ? json_pack("{s:{s:o,s:s}}", "elem", "val", key, "comment", comment) : key;
    append_element(batch, "add", family, set, value ? json_pack("[o,o]", element, value) : element);
}

void net_nft_add_element(NetNftBatch *batch, NetNftFamily family, const char *set, json_t *key,
                         json_t *value, const char *comment)
{
    leave_raw(batch);
    append_addition(batch, family, set, key, value, comment);
}

void net_nft_delete_element(NetNftBatch *batch, NetNftFamily family, const char *set, json_t *key)
{
    leave_raw(batch);
    append_element(batch, "delete", family, set, key);
}

void net_nft_add_twin(NetNftBatch *batch, NetNftFamily family, const NetNftTwin *twin)
{
    append_addition(batch, family, twin->set, json_incref(twin->json_key),
                    json_incref(twin->json_value), twin->comment);
    if (batch->raw) {
        net_nft_raw_element(batch->raw, family, twin);
    }
}

void net_nft_delete_twin(NetNftBatch *batch, NetNftFamily family, const NetNftTwin *twin)
{
    append_element(batch, "delete", family, twin->set, json_incref(twin->json_key));
    if (batch->raw) {
        net_nft_raw_delete_twin(batch->raw, family, twin);
    }
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
    if (batch->raw) {
        net_nft_raw_chain(batch->raw, family, chain);
    }
}

void net_nft_flush_chain(NetNftBatch *batch, NetNftFamily family, const char *chain)
{
    append_chain(batch, "flush", family, chain);
    if (batch->raw) {
        net_nft_raw_flush_chain(batch->raw, family, chain);
    }
}

void net_nft_delete_chain(NetNftBatch *batch, NetNftFamily family, const char *chain)
{
    append_chain(batch, "delete", family, chain);
    if (batch->raw) {
        net_nft_raw_delete_chain(batch->raw, family, chain);
    }
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
    if (batch->is_broken || !batch->raw) {
        return run_batch(batch, NULL, error);
    }
    int errnum = net_nft_transact(batch->raw);
    if (errnum) {
        base_error_set_errno(error, errnum, "nf_tables");
    }
    return errnum == 0;
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
