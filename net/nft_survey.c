#include "net/nft.h"

#include <netinet/in.h> /* before linux/netfilter.h, which has another one */
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>
#include "net/nft_raw.h"

/*
 * How it works: the fingerprint is the sum of one hash for each chain, rule and set of our table.
 * What changes without anybody writing a rule is left out: handles, use counts, elements. Where
 * members' chains are many, rules are asked for chain by chain and those left out.
 */
enum { N_MEMBERS_FEW = 32 };
static const uint64_t FNV_BASIS = 0xcbf29ce484222325u, FNV_PRIME = 0x100000001b3u;

static uint64_t hash_bytes(uint64_t hash, const void *bytes, int n)
{
    const uint8_t *at = bytes;
    for (int i = 0; i < n; i++) {
        hash = (hash ^ at[i]) * FNV_PRIME;
    }
    return hash;
}

/* An absent attribute counts too, so that two never stand for one another. */
static uint64_t hash_attribute(uint64_t hash, struct nlattr *attribute)
{
    int n = attribute ? nla_len(attribute) : -1;
    hash = hash_bytes(hash, &n, sizeof n);
    return attribute ? hash_bytes(hash, nla_data(attribute), n) : hash;
}

static uint64_t hash_attributes(uint64_t hash, struct nlattr **parts, const int *which,
                                unsigned n_which)
{
    for (unsigned i = 0; i < n_which; i++) {
        hash = hash_attribute(hash, parts[which[i]]);
    }
    return hash;
}

static bool is_text(struct nlattr *attribute, const char *text)
{
    return attribute && !strncmp(nla_data(attribute), text, (gsize)nla_len(attribute));
}

static char *copy_text(struct nlattr *attribute)
{
    return g_strndup(nla_data(attribute), (gsize)nla_len(attribute));
}

/* --- chains ------------------------------------------------------------------- */

typedef struct {
    GPtrArray *names; /* of char* */
    unsigned n_of_members;
    uint64_t sum;
    const char *const *shared; /* base chains that members' rules lead to, NULL: use isn't summed */
    uint64_t use_sum;
} Chains;

static void restart_chains(void *data)
{
    Chains *chains = data;
    g_ptr_array_set_size(chains->names, 0);
    chains->n_of_members = 0;
    chains->sum = chains->use_sum = 0;
}

static bool collect_chain(struct nlmsghdr *header, void *data)
{
    static const int which[] = {NFTA_CHAIN_NAME, NFTA_CHAIN_HOOK, NFTA_CHAIN_POLICY,
                                NFTA_CHAIN_TYPE, NFTA_CHAIN_FLAGS};
    static const int used[] = {NFTA_CHAIN_NAME, NFTA_CHAIN_USE};
    Chains *chains = data;
    struct nlattr *parts[NFTA_CHAIN_MAX + 1];
    if (net_nft_parse(header, parts, NFTA_CHAIN_MAX) && parts[NFTA_CHAIN_NAME] &&
        is_text(parts[NFTA_CHAIN_TABLE], NET_NFT_TABLE)) {
        char *name = copy_text(parts[NFTA_CHAIN_NAME]);
        g_ptr_array_add(chains->names, name);
        if (g_str_has_prefix(name, NET_NFT_MEMBER_PREFIX)) {
            chains->n_of_members++;
        } else {
            chains->sum += hash_attributes(FNV_BASIS, parts, which, G_N_ELEMENTS(which));
        }
        if (chains->shared && !g_str_has_prefix(name, NET_NFT_MEMBER_PREFIX) &&
            !g_strv_contains(chains->shared, name)) {
            chains->use_sum += hash_attributes(FNV_BASIS, parts, used, G_N_ELEMENTS(used));
        }
    }
    return true;
}

static bool dump_chains(NetNftFamily family, Chains *chains, GError **error)
{
    NetNftMessage *message = net_nft_message(NFT_MSG_GETCHAIN, net_nft_protos[family], NLM_F_DUMP);
    return net_nft_ask_kernel(message, collect_chain, restart_chains, chains, NULL, error);
}

GPtrArray *net_nft_list_chains(NetNftFamily family, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    Chains chains = {.names = names};
    return dump_chains(family, &chains, error) ? g_steal_pointer(&names) : NULL;
}

static void free_chain(gpointer data)
{
    NetNftChain *chain = data;
    g_free(chain->table);
    g_free(chain->chain);
    g_free(chain);
}

static bool collect_foreign(struct nlmsghdr *header, void *data)
{
    const struct nfgenmsg *message = nlmsg_data(header);
    struct nlattr *parts[NFTA_CHAIN_MAX + 1];
    struct nlattr *hook[NFTA_HOOK_MAX + 1];
    if (!net_nft_parse(header, parts, NFTA_CHAIN_MAX) || !parts[NFTA_CHAIN_NAME] ||
        is_text(parts[NFTA_CHAIN_TABLE], NET_NFT_TABLE)) {
        return true;
    }
    NetNftChain *chain = g_new0(NetNftChain, 1);
    chain->nfproto = message->nfgen_family;
    chain->table = copy_text(parts[NFTA_CHAIN_TABLE]);
    chain->chain = copy_text(parts[NFTA_CHAIN_NAME]);
    chain->hook = NET_NFT_NO_HOOK;
    if (net_nft_parse_nested(parts[NFTA_CHAIN_HOOK], hook, NFTA_HOOK_MAX) &&
        hook[NFTA_HOOK_HOOKNUM]) {
        chain->hook = GUINT32_FROM_BE(nla_get_u32(hook[NFTA_HOOK_HOOKNUM]));
    }
    chain->is_dropping = parts[NFTA_CHAIN_POLICY] &&
                         GUINT32_FROM_BE(nla_get_u32(parts[NFTA_CHAIN_POLICY])) == NF_DROP;
    g_ptr_array_add(data, chain);
    return true;
}

static void forget_all(void *data)
{
    g_ptr_array_set_size(data, 0);
}

GPtrArray *net_nft_list_foreign_chains(GError **error)
{
    g_autoptr(GPtrArray) chains = g_ptr_array_new_with_free_func(free_chain);
    NetNftMessage *message = net_nft_message(NFT_MSG_GETCHAIN, NFPROTO_UNSPEC, NLM_F_DUMP);
    if (!net_nft_ask_kernel(message, collect_foreign, forget_all, chains, NULL, error)) {
        return NULL;
    }
    return g_steal_pointer(&chains);
}

/* --- rules and sets ----------------------------------------------------------- */

/* Each rule with its chain and its place in it, so that it does not matter in which order chains
 * are told. */
typedef struct {
    char chain[NFT_NAME_MAXLEN]; /* of the rule before */
    unsigned n_rules;            /* of that chain so far */
    uint64_t sum;
} Rules;

static void restart_rules(void *data)
{
    *(Rules *)data = (Rules){0};
}

static bool add_rule(struct nlmsghdr *header, void *data)
{
    static const int which[] = {NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS, NFTA_RULE_USERDATA};
    Rules *rules = data;
    struct nlattr *parts[NFTA_RULE_MAX + 1];
    if (!net_nft_parse(header, parts, NFTA_RULE_MAX) || !parts[NFTA_RULE_CHAIN]) {
        return true;
    }
    if (!is_text(parts[NFTA_RULE_CHAIN], rules->chain)) {
        g_strlcpy(rules->chain, nla_data(parts[NFTA_RULE_CHAIN]), sizeof rules->chain);
        rules->n_rules = 0;
    }
    rules->n_rules++;
    if (!g_str_has_prefix(rules->chain, NET_NFT_MEMBER_PREFIX)) {
        uint64_t hash = hash_bytes(FNV_BASIS, &rules->n_rules, sizeof rules->n_rules);
        rules->sum += hash_attributes(hash, parts, which, G_N_ELEMENTS(which));
    }
    return true;
}

/* Of one chain, or of all of the table (NULL). */
static bool sum_rules(NetNftFamily family, const char *chain, uint64_t *sum, GError **error)
{
    Rules rules = {0};
    NetNftMessage *message = net_nft_message(NFT_MSG_GETRULE, net_nft_protos[family], NLM_F_DUMP);
    nla_put_string(message, NFTA_RULE_TABLE, NET_NFT_TABLE);
    if (chain) {
        nla_put_string(message, NFTA_RULE_CHAIN, chain);
    }
    if (!net_nft_ask_kernel(message, add_rule, restart_rules, &rules, NULL, error)) {
        return false;
    }
    *sum += rules.sum;
    return true;
}

/* A question for each chain costs more than one for all, unless members' chains are many. */
static bool sum_base_rules(NetNftFamily family, const Chains *chains, uint64_t *sum, GError **error)
{
    if (chains->n_of_members <= N_MEMBERS_FEW) {
        return sum_rules(family, NULL, sum, error);
    }
    for (unsigned i = 0; i < chains->names->len; i++) {
        const char *name = chains->names->pdata[i];
        if (!g_str_has_prefix(name, NET_NFT_MEMBER_PREFIX) &&
            !sum_rules(family, name, sum, error)) {
            return false;
        }
    }
    return true;
}

static void restart_sum(void *data)
{
    *(uint64_t *)data = 0;
}

static bool add_set(struct nlmsghdr *header, void *data)
{
    static const int which[] = {NFTA_SET_NAME,    NFTA_SET_FLAGS,     NFTA_SET_KEY_TYPE,
                                NFTA_SET_KEY_LEN, NFTA_SET_DATA_TYPE, NFTA_SET_DATA_LEN};
    struct nlattr *parts[NFTA_SET_MAX + 1];
    if (net_nft_parse(header, parts, NFTA_SET_MAX) && parts[NFTA_SET_NAME] &&
        *(const char *)nla_data(parts[NFTA_SET_NAME]) != '_') { /* one of a rule, without a name */
        *(uint64_t *)data += hash_attributes(FNV_BASIS, parts, which, G_N_ELEMENTS(which));
    }
    return true;
}

static bool sum_sets(NetNftFamily family, uint64_t *sum, GError **error)
{
    uint64_t sets = 0;
    NetNftMessage *message = net_nft_message(NFT_MSG_GETSET, net_nft_protos[family], NLM_F_DUMP);
    nla_put_string(message, NFTA_SET_TABLE, NET_NFT_TABLE);
    if (!net_nft_ask_kernel(message, add_set, restart_sum, &sets, NULL, error)) {
        return false;
    }
    *sum += sets;
    return true;
}

/* A dormant table has rules that are not in force. */
static bool add_table(struct nlmsghdr *header, void *data)
{
    struct nlattr *parts[NFTA_TABLE_MAX + 1];
    if (net_nft_parse(header, parts, NFTA_TABLE_MAX)) {
        *(uint64_t *)data += hash_attribute(FNV_BASIS, parts[NFTA_TABLE_FLAGS]);
    }
    return true;
}

bool net_nft_fingerprint(NetNftFamily family, uint64_t *out_hash, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    Chains chains = {.names = names};
    uint64_t sum = 0;
    bool is_there = false;
    NetNftMessage *message = net_nft_message(NFT_MSG_GETTABLE, net_nft_protos[family], 0);
    nla_put_string(message, NFTA_TABLE_NAME, NET_NFT_TABLE);
    if (!net_nft_ask_kernel(message, add_table, restart_sum, &sum, &is_there, error)) {
        return false;
    }
    if (!is_there) {
        *out_hash = 0;
        return true;
    }
    if (!dump_chains(family, &chains, error) || !sum_sets(family, &sum, error) ||
        !sum_base_rules(family, &chains, &sum, error)) {
        return false;
    }
    sum += chains.sum;
    *out_hash = sum ? sum : 1;
    return true;
}

bool net_nft_shape(NetNftFamily family, const char *const *shared, uint64_t *out_hash,
                   GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    Chains chains = {.names = names, .shared = shared};
    if (!dump_chains(family, &chains, error)) {
        return false;
    }
    *out_hash = chains.sum + chains.use_sum;
    return true;
}

static bool take_generation(struct nlmsghdr *header, void *data)
{
    struct nlattr *parts[NFTA_GEN_MAX + 1];
    if (net_nft_parse(header, parts, NFTA_GEN_MAX) && parts[NFTA_GEN_ID]) {
        *(uint32_t *)data = GUINT32_FROM_BE(nla_get_u32(parts[NFTA_GEN_ID]));
    }
    return true;
}

bool net_nft_generation(uint32_t *out_generation, GError **error)
{
    NetNftMessage *message = net_nft_message(NFT_MSG_GETGEN, NFPROTO_UNSPEC, 0);
    return net_nft_ask_kernel(message, take_generation, NULL, out_generation, NULL, error);
}
