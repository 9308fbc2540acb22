#include "net/rules.h"

#include <netinet/in.h> /* before linux/netfilter.h, which has another one */
#include <linux/netfilter.h>
#include <string.h>
#include "base/error.h"
#include "net/rules_internal.h"

/*
 * Chains of other programs that are meant for others' rules. Docker documents DOCKER-USER (it never
 * writes there itself); libvirt's LIBVIRT_FWI and FWO come before whatever else FORWARD has. Into
 * them goes only what iptables can still show: links, addresses, counter and verdict (a `ct` rule
 * makes `iptables` refuse the whole chain). Marked by the comment "vm-run:OWNER DIRECTION HASH".
 */
typedef enum { WAY_OUT = 1, WAY_IN = 2 } Way;

static const struct {
    const char *family, *table, *chain;
    unsigned ways;
    uint8_t nfproto;
} hooks[] = {
    {"ip", "filter", "DOCKER-USER", WAY_OUT | WAY_IN, NFPROTO_IPV4},
    {"ip6", "filter", "DOCKER-USER", WAY_OUT | WAY_IN, NFPROTO_IPV6},
    {"ip", "filter", "LIBVIRT_FWO", WAY_OUT, NFPROTO_IPV4},
    {"ip6", "filter", "LIBVIRT_FWO", WAY_OUT, NFPROTO_IPV6},
    {"ip", "filter", "LIBVIRT_FWI", WAY_IN, NFPROTO_IPV4},
    {"ip6", "filter", "LIBVIRT_FWI", WAY_IN, NFPROTO_IPV6},
};

#define MARK           "vm-run:"
#define COMMENT_HASH   8
#define COMMENT_FORMAT MARK "%s %s %.*s"

static json_t *match(json_t *left, json_t *right)
{
    return json_pack("{s:{s:s,s:o,s:o}}", "match", "op", "==", "left", left, "right", right);
}

/* NULL: the network has no prefix of this family, and it is not somebody else's. */
static json_t *rule_of(const NetRulesNetwork *network, gsize hook, Way way)
{
    bool is_ip4 = hooks[hook].nfproto == NFPROTO_IPV4;
    const BaseCidr *prefix = is_ip4 ? &network->cidr4 : &network->cidr6;
    bool has_prefix = base_ip_is_set(&prefix->ip) && prefix->n_bits > 0;
    if (!has_prefix && network->mode != SPEC_NET_MODE_BRIDGE) {
        return NULL;
    }
    json_t *link = json_pack("{s:{s:s}}", "meta", "key", way == WAY_OUT ? "iifname" : "oifname");
    json_t *rule = json_pack("[o]", match(link, json_string(network->bridge)));
    if (has_prefix) {
        char text[BASE_IP_TEXT_BYTES];
        BaseCidr whole = base_cidr_network(prefix);
        base_ip_format(&whole.ip, text);
        json_t *field = json_pack("{s:{s:s,s:s}}", "payload", "protocol", is_ip4 ? "ip" : "ip6",
                                  "field", way == WAY_OUT ? "saddr" : "daddr");
        json_array_append_new(rule, match(field, json_pack("{s:{s:s,s:i}}", "prefix", "addr", text,
                                                           "len", whole.n_bits)));
    }
    json_array_append_new(rule, json_pack("{s:n}", "counter"));
    json_array_append_new(rule, json_pack("{s:n}", "accept"));
    return rule;
}

static char *comment_of(const NetRulesNetwork *network, const json_t *rule, Way way)
{
    char *text = json_dumps(rule, JSON_COMPACT);
    g_autofree char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, text ? text : "", -1);
    free(text);
    return g_strdup_printf(COMMENT_FORMAT, network->owner, way == WAY_OUT ? "out" : "in",
                           COMMENT_HASH, hash);
}

/* The owner in a comment of ours, NULL: not ours. Transfer full. */
static char *owner_of(const char *comment)
{
    if (!comment || !g_str_has_prefix(comment, MARK)) {
        return NULL;
    }
    comment += strlen(MARK);
    return g_strndup(comment, strcspn(comment, " "));
}

static void append_insert(NetNftBatch *batch, gsize hook, json_t *rule, const char *comment)
{
    net_nft_add_command(batch,
                        json_pack("{s:{s:{s:s,s:s,s:s,s:s,s:O}}}", "insert", "rule", "family",
                                  hooks[hook].family, "table", hooks[hook].table, "chain",
                                  hooks[hook].chain, "comment", comment, "expr", rule));
}

static void append_delete(NetNftBatch *batch, gsize hook, uint64_t handle)
{
    net_nft_add_command(batch, json_pack("{s:{s:{s:s,s:s,s:s,s:I}}}", "delete", "rule", "family",
                                         hooks[hook].family, "table", hooks[hook].table, "chain",
                                         hooks[hook].chain, "handle", (json_int_t)handle));
}

/* The rules that a network should have in one hook: comment -> rule. */
static GHashTable *wanted_of(const NetRulesNetwork *network, gsize hook)
{
    GHashTable *wanted =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)json_decref);
    for (Way way = WAY_OUT; way <= WAY_IN; way++) {
        json_t *rule = hooks[hook].ways & way ? rule_of(network, hook, way) : NULL;
        if (rule) {
            g_hash_table_insert(wanted, comment_of(network, rule, way), rule);
        }
    }
    return wanted;
}

/* Brings one hook to what is wanted. */
static bool append_hook(NetNftBatch *batch, const char *owner, gsize hook, GHashTable *wanted,
                        GError **error)
{
    g_autoptr(GPtrArray) rules = NULL;
    if (!net_nft_list_rules(hooks[hook].nfproto, hooks[hook].table, hooks[hook].chain, &rules,
                            error)) {
        return false;
    }
    for (unsigned i = 0; rules && i < rules->len; i++) {
        const NetNftRule *rule = rules->pdata[i];
        g_autofree char *whose = owner_of(rule->comment);
        if (g_strcmp0(whose, owner) != 0) {
            continue;
        }
        if (!g_hash_table_remove(wanted, rule->comment)) { /* removed: it is there */
            append_delete(batch, hook, rule->handle);
        }
    }
    GHashTableIter iter;
    gpointer comment, rule;
    g_hash_table_iter_init(&iter, wanted);
    while (rules && g_hash_table_iter_next(&iter, &comment, &rule)) {
        append_insert(batch, hook, rule, comment);
    }
    return true;
}

bool net_rules_add_hooks(const NetRulesNetwork *network, GError **error)
{
    g_autoptr(NetRulesLock) lock = net_rules_lock(NET_RULES_LOCK_MS, error);
    g_autoptr(NetNftBatch) batch = net_nft_batch_new();
    for (gsize i = 0; lock && i < G_N_ELEMENTS(hooks); i++) {
        g_autoptr(GHashTable) wanted = wanted_of(network, i);
        if (!append_hook(batch, network->owner, i, wanted, error)) {
            return false;
        }
    }
    return lock && net_nft_commit(batch, error);
}

bool net_rules_remove_hooks(const NetRulesNetwork *network, GError **error)
{
    g_autoptr(NetRulesLock) lock = net_rules_lock(NET_RULES_LOCK_MS, error);
    g_autoptr(NetNftBatch) batch = net_nft_batch_new();
    for (gsize i = 0; lock && i < G_N_ELEMENTS(hooks); i++) {
        g_autoptr(GHashTable) none = g_hash_table_new(g_str_hash, g_str_equal);
        if (!append_hook(batch, network->owner, i, none, error)) {
            return false;
        }
    }
    return lock && net_nft_commit(batch, error);
}

bool net_rules_check_hooks(const NetRulesNetwork *network, GPtrArray *differences, GError **error)
{
    for (gsize i = 0; i < G_N_ELEMENTS(hooks); i++) {
        g_autoptr(NetNftBatch) batch = net_nft_batch_new();
        g_autoptr(GHashTable) wanted = wanted_of(network, i);
        if (!append_hook(batch, network->owner, i, wanted, error)) {
            return false;
        }
        if (net_nft_batch_size(batch) > 0) {
            g_ptr_array_add(differences,
                            g_strdup_printf("rules of ours in chain '%s' (table %s %s) are missing",
                                            hooks[i].chain, hooks[i].family, hooks[i].table));
        }
    }
    return true;
}

bool net_rules_sweep_hooks(const char *store_id, GHashTable *owners, bool is_dry_run,
                           GHashTable *gone, GError **error)
{
    g_autoptr(NetNftBatch) batch = net_nft_batch_new();
    for (gsize i = 0; i < G_N_ELEMENTS(hooks); i++) {
        g_autoptr(GPtrArray) rules = NULL;
        if (!net_nft_list_rules(hooks[i].nfproto, hooks[i].table, hooks[i].chain, &rules, error)) {
            return false;
        }
        for (unsigned j = 0; rules && j < rules->len; j++) {
            const NetNftRule *rule = rules->pdata[j];
            g_autofree char *owner = owner_of(rule->comment);
            if (net_rules_is_of_store(owner, store_id) && !g_hash_table_contains(owners, owner)) {
                guint n = GPOINTER_TO_UINT(g_hash_table_lookup(gone, owner));
                g_hash_table_insert(gone, g_strdup(owner), GUINT_TO_POINTER(n + 1));
                append_delete(batch, i, rule->handle);
            }
        }
    }
    return is_dry_run || net_nft_commit(batch, error);
}
