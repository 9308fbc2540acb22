#include "net/rules.h"

#include <string.h>
#include "base/error.h"
#include "net/rules_internal.h"

/* Which sets a network of each mode is in. */
typedef enum { KIND_LINK, KIND_PAIR, KIND_PREFIX } SetKind;

#define IN(mode) (1u << SPEC_NET_MODE_##mode)

static const struct {
    const char *set;
    SetKind kind;
    unsigned modes;
    uint8_t n_ip_bytes; /* of KIND_PREFIX */
} memberships[] = {
    {"bridges", KIND_LINK, IN(NAT) | IN(ISOLATED) | IN(ROUTED) | IN(BRIDGE), 0},
    {"own", KIND_PAIR, IN(NAT) | IN(ISOLATED) | IN(ROUTED) | IN(BRIDGE), 0},
    {"closed", KIND_LINK, IN(NAT) | IN(ISOLATED), 0},
    {"isolated", KIND_LINK, IN(ISOLATED), 0},
    {"foreign", KIND_LINK, IN(BRIDGE), 0},
    {"nat4", KIND_PREFIX, IN(NAT), 4},
    {"nat6", KIND_PREFIX, IN(NAT), 16},
    {"nets4", KIND_PREFIX, IN(NAT) | IN(ISOLATED) | IN(ROUTED), 4},
    {"nets6", KIND_PREFIX, IN(NAT) | IN(ISOLATED) | IN(ROUTED), 16},
};

enum { USER_BYTES = 6 }; /* of the owner's hash, in `users` */

static json_t *prefix_json(const BaseCidr *prefix)
{
    char text[BASE_IP_TEXT_BYTES];
    BaseCidr network = base_cidr_network(prefix);
    base_ip_format(&network.ip, text);
    return json_pack("{s:{s:s,s:i}}", "prefix", "addr", text, "len", network.n_bits);
}

static NetRulesElement *add_element(GPtrArray *elements, const NetRulesNetwork *network,
                                    const char *set)
{
    NetRulesElement *element = g_new0(NetRulesElement, 1);
    element->set = set;
    element->owner = network->owner;
    element->what = g_strdup_printf("'%s' in set %s", network->bridge, set);
    g_ptr_array_add(elements, element);
    return element;
}

static void add_link(GPtrArray *elements, const NetRulesNetwork *network, const char *set,
                     bool is_pair)
{
    NetRulesElement *element = add_element(elements, network, set);
    element->is_shared = network->mode == SPEC_NET_MODE_BRIDGE;
    net_nft_bytes_add_ifname(&element->key, network->bridge);
    if (is_pair) {
        net_nft_bytes_add_ifname(&element->key, network->bridge);
    }
    element->json_key = is_pair ? json_pack("{s:[s,s]}", "concat", network->bridge, network->bridge)
                                : json_string(network->bridge);
}

static void add_prefix(GPtrArray *elements, const NetRulesNetwork *network, const char *set,
                       const BaseCidr *prefix)
{
    if (base_ip_is_set(&prefix->ip)) {
        NetRulesElement *element = add_element(elements, network, set);
        element->prefix = *prefix;
        element->json_key = prefix_json(prefix);
    }
}

/* Several networks may have one foreign bridge; the last one to go takes its elements along. */
static void add_user(GPtrArray *elements, const NetRulesNetwork *network)
{
    NetRulesElement *element = add_element(elements, network, "users");
    guint8 hash[32];
    gsize n_hash = sizeof hash;
    char mac[18];
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    g_checksum_update(sum, (const guchar *)network->owner, -1);
    g_checksum_get_digest(sum, hash, &n_hash);
    G_STATIC_ASSERT(USER_BYTES <= sizeof hash);
    net_nft_bytes_add_ifname(&element->key, network->bridge);
    net_nft_bytes_add(&element->key, hash, USER_BYTES);
    element->json_key =
        json_pack("{s:[s,s]}", "concat", network->bridge, base_mac_format(hash, mac));
}

static GPtrArray *elements_of(const NetRulesNetwork *network)
{
    GPtrArray *elements = net_rules_elements_new();
    for (gsize i = 0; i < G_N_ELEMENTS(memberships); i++) {
        if (!(memberships[i].modes & 1u << network->mode)) {
            continue;
        }
        if (memberships[i].kind == KIND_PREFIX) {
            add_prefix(elements, network, memberships[i].set,
                       memberships[i].n_ip_bytes == 4 ? &network->cidr4 : &network->cidr6);
        } else {
            add_link(elements, network, memberships[i].set, memberships[i].kind == KIND_PAIR);
        }
    }
    if (network->mode == SPEC_NET_MODE_BRIDGE) {
        add_user(elements, network);
    }
    return elements;
}

static bool append_missing(NetNftBatch *batch, const GPtrArray *elements, GError **error)
{
    for (unsigned i = 0; i < elements->len; i++) {
        const NetRulesElement *element = elements->pdata[i];
        NetRulesState state = NET_RULES_ABSENT;
        g_autofree char *holder = NULL;
        if (!net_rules_look(element, &state, &holder, NULL, error)) {
            return false;
        }
        if (state == NET_RULES_TAKEN) {
            g_autofree char *who = net_rules_owner_text(holder);
            return base_fail(error, VM_ERROR_EXISTS, "%s is %s's - choose another", element->what,
                             who);
        }
        if (state == NET_RULES_ABSENT) {
            net_rules_put(batch, element, false);
        }
    }
    return true;
}

bool net_rules_add_network(const NetRulesNetwork *network, GError **error)
{
    g_autoptr(NetRulesLock) lock = net_rules_lock(NET_RULES_LOCK_MS, error);
    g_autoptr(GPtrArray) elements = elements_of(network);
    g_autoptr(NetNftBatch) batch = net_nft_batch_new();
    return lock && net_rules_ensure_base(error) && append_missing(batch, elements, error) &&
           net_nft_commit(batch, error);
}

/* Does another network have this bridge too? */
static bool has_other_users(const NetRulesNetwork *network, bool *out_has, GError **error)
{
    NetNftBytes bridge = {0};
    net_nft_bytes_add_ifname(&bridge, network->bridge);
    g_autoptr(GPtrArray) users = net_nft_list(NET_NFT_INET, "users", error);
    *out_has = false;
    for (unsigned i = 0; users && i < users->len; i++) {
        const NetNftElement *user = users->pdata[i];
        *out_has |= !memcmp(user->key.bytes, bridge.bytes, bridge.n_bytes) &&
                    g_strcmp0(user->comment, network->owner) != 0;
    }
    return users != NULL;
}

bool net_rules_remove_network(const NetRulesNetwork *network, GError **error)
{
    g_autoptr(NetRulesLock) lock = net_rules_lock(NET_RULES_LOCK_MS, error);
    g_autoptr(GPtrArray) elements = elements_of(network);
    g_autoptr(NetNftBatch) batch = net_nft_batch_new();
    bool is_used = false;
    if (!lock || !has_other_users(network, &is_used, error)) {
        return false;
    }
    for (unsigned i = 0; i < elements->len; i++) {
        const NetRulesElement *element = elements->pdata[i];
        NetRulesState state = NET_RULES_ABSENT;
        if (!net_rules_look(element, &state, NULL, NULL, error)) {
            return false;
        }
        if (state == NET_RULES_OURS && !(is_used && element->is_shared)) {
            net_rules_take(batch, element);
        }
    }
    return net_nft_commit(batch, error) && net_rules_drop_unused_base(error);
}

bool net_rules_check_network(const NetRulesNetwork *network, GPtrArray *differences, GError **error)
{
    g_autoptr(GPtrArray) elements = elements_of(network);
    bool is_whole = false;
    if (!net_rules_base_is_whole(&is_whole, error)) {
        return false;
    }
    if (!is_whole) {
        g_ptr_array_add(differences, g_strdup("base rules of nf_tables are missing or changed"));
    }
    for (unsigned i = 0; i < elements->len; i++) {
        const NetRulesElement *element = elements->pdata[i];
        NetRulesState state = NET_RULES_ABSENT;
        g_autofree char *holder = NULL;
        if (!net_rules_look(element, &state, &holder, NULL, error)) {
            return false;
        }
        if (state == NET_RULES_ABSENT) {
            g_ptr_array_add(differences, g_strdup_printf("%s is missing", element->what));
        } else if (state != NET_RULES_OURS) {
            g_autofree char *who = net_rules_owner_text(holder);
            g_ptr_array_add(differences, g_strdup_printf("%s is %s's", element->what, who));
        }
    }
    return true;
}
