#include "net/filter.h"

#include <linux/netfilter.h>
#include <string.h>
#include "net/bridge.h"
#include "net/filter_egress.h"

enum { HASH_CHARS = 16, KEYS_MAX = 16, MAC_TEXT_BYTES = 18 };

/* Which chain of a member; constant, so that writing it again never meets an older element. */
#define CHAIN_CONTENT "neighbours"

const char *const net_filter_sets[] = {"macs",   "options", "addr4", "addr6", "known4",
                                       "known6", "never",   "free4", "free6", "policed",
                                       "nets",   "egress",  NULL};

/* One element of one member; where two of a key differ only in the value, the old one goes first.
 */
typedef struct {
    const char *set;
    NetNftBytes key;
    json_t *json; /* the same for libnftables */
    uint32_t number;
    char *chain; /* of "egress" */
} Element;

static void element_free(void *data)
{
    Element *element = data;
    json_decref(element->json);
    g_free(element->chain);
    g_free(element);
}

static gboolean element_equal(const void *a, const void *b)
{
    const Element *x = a, *y = b;
    return !strcmp(x->set, y->set) && x->number == y->number && !g_strcmp0(x->chain, y->chain) &&
           x->key.n_bytes == y->key.n_bytes && !memcmp(x->key.bytes, y->key.bytes, x->key.n_bytes);
}

static json_t *element_value(const Element *element)
{
    return element->chain    ? json_pack("{s:{s:s}}", "jump", "target", element->chain)
           : element->number ? json_integer(element->number)
                             : NULL;
}

/* --- what a member has -------------------------------------------------------- */

/* Raw payload is a number to nft: of up to 16 bytes, so in decimal digits. */
static json_t *number_json(const uint8_t *bytes, unsigned n_bytes)
{
    __extension__ unsigned __int128 value = 0;
    char digits[40], *at = digits + sizeof digits;
    for (unsigned i = 0; i < n_bytes; i++) {
        value = value << 8 | bytes[i];
    }
    *--at = '\0';
    do {
        *--at = (char)('0' + (unsigned)(value % 10));
        value /= 10;
    } while (value);
    return json_string(at);
}

static Element *add(GPtrArray *list, const char *set)
{
    Element *element = g_new0(Element, 1);
    element->set = set;
    element->json = json_array();
    g_ptr_array_add(list, element);
    return element;
}

static void key_ifname(Element *element, const char *name)
{
    net_nft_bytes_add_ifname(&element->key, name);
    json_array_append_new(element->json, json_string(name));
}

static void key_mark(Element *element, uint32_t mark)
{
    net_nft_bytes_add(&element->key, &mark, sizeof mark);
    json_array_append_new(element->json, json_integer(mark));
}

static void key_number(Element *element, const uint8_t *bytes, unsigned n_bytes)
{
    net_nft_bytes_add(&element->key, bytes, n_bytes);
    json_array_append_new(element->json, number_json(bytes, n_bytes));
}

static void key_ip(Element *element, const BaseIp *ip)
{
    char text[BASE_IP_TEXT_BYTES];
    if (ip->n_bytes == 16) {
        key_number(element, ip->bytes, 16);
        return;
    }
    net_nft_bytes_add(&element->key, ip->bytes, 4);
    json_array_append_new(element->json, json_string(base_ip_format(ip, text)));
}

static json_t *key_json(const Element *element)
{
    return json_array_size(element->json) == 1 ? json_incref(json_array_get(element->json, 0))
                                               : json_pack("{s:O}", "concat", element->json);
}

/* The bridge's number (FNV-1a of its name): the same for all its taps. Two bridges of one number
 * would only share what is reserved on them. */
static uint32_t bridge_number(const char *bridge)
{
    uint32_t hash = 2166136261u;
    for (const char *at = bridge; at && *at; at++) {
        hash = (hash ^ (uint8_t)*at) * 16777619u;
    }
    return hash ? hash : 1;
}

static void add_address(GPtrArray *list, const NetMember *member, const BaseIp *ip)
{
    bool is_ip4 = ip->n_bytes == 4;
    Element *own = add(list, is_ip4 ? "addr4" : "addr6");
    key_ifname(own, member->tap);
    key_ip(own, ip);
    Element *known = add(list, is_ip4 ? "known4" : "known6");
    key_mark(known, bridge_number(member->bridge));
    key_ip(known, ip);
}

static void add_mac(GPtrArray *list, const NetMember *member)
{
    char text[MAC_TEXT_BYTES];
    Element *mac = add(list, "macs");
    key_ifname(mac, member->tap);
    net_nft_bytes_add(&mac->key, member->mac, sizeof member->mac);
    json_array_append_new(mac->json, json_string(base_mac_format(member->mac, text)));
    Element *option = add(list, "options");
    key_ifname(option, member->tap);
    key_number(option, member->mac, sizeof member->mac);
}

/* What the gateway is on a bridge of ours; elsewhere nobody has this address. */
static BaseIp gateway_link_local(const NetMember *member)
{
    const char *colon = strchr(member->owner, ':');
    g_autofree char *store =
        g_strndup(member->owner, colon ? (size_t)(colon - member->owner) : strlen(member->owner));
    g_autofree char *tag = net_bridge_owner_tag(store, member->network ? member->network : "");
    uint8_t mac[6];
    net_bridge_mac(tag, mac);
    return base_ip_link_local_of_mac(mac);
}

static char *chain_name(const NetMember *member)
{
    return net_nft_member_chain(member->owner, CHAIN_CONTENT);
}

/* The chain, its second one, and the rules of both (array of "expr"). */
typedef struct {
    char *first, *second;
    json_t *first_rules, *second_rules; /* second: NULL: there is to be none */
    char *hash;                         /* of both: the comment of each rule */
} Chains;

static void chains_clear(Chains *chains)
{
    g_free(chains->first);
    g_free(chains->second);
    json_decref(chains->first_rules);
    json_decref(chains->second_rules);
    g_free(chains->hash);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Chains, chains_clear)

static Chains chains_of(const NetMember *member)
{
    Chains chains = {.first = chain_name(member)};
    chains.second = g_strconcat(chains.first, "n", NULL);
    chains.first_rules = net_filter_egress_rules(member, chains.second);
    chains.second_rules = net_filter_egress_second_rules(member);
    json_t *both = json_pack("[O,O*]", chains.first_rules, chains.second_rules);
    char *text = json_dumps(both, JSON_COMPACT);
    chains.hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, text ? text : "", -1);
    chains.hash[HASH_CHARS] = '\0';
    free(text);
    json_decref(both);
    return chains;
}

static void add_tap(GPtrArray *list, const NetMember *member, const char *set)
{
    key_ifname(add(list, set), member->tap);
}

/* Transfer full, of Element, equal ones next to each other by set. */
static GPtrArray *elements_of(const NetMember *member)
{
    GPtrArray *list = g_ptr_array_new_full(KEYS_MAX, element_free);
    BaseIp link_local = base_ip_link_local_of_mac(member->mac);
    BaseIp gateway = gateway_link_local(member);
    add_mac(list, member);
    add_tap(list, member, "nets");
    ((Element *)list->pdata[list->len - 1])->number = bridge_number(member->bridge);
    add_address(list, member, &link_local);
    Element *never = add(list, "never");
    key_ifname(never, member->tap);
    key_ip(never, &gateway);
    if (base_ip_is_set(&member->ip4)) {
        add_address(list, member, &member->ip4);
    } else {
        add_tap(list, member, "free4");
    }
    if (base_ip_is_set(&member->ip6)) {
        add_address(list, member, &member->ip6);
    } else {
        add_tap(list, member, "free6");
    }
    if (net_filter_egress_has(member)) {
        add_tap(list, member, "policed");
        add_tap(list, member, "egress");
        ((Element *)list->pdata[list->len - 1])->chain = chain_name(member);
    }
    return list;
}

/* What is there of the tap by its name alone and should not be: left by somebody who died between
 * two changes. Empty where it can't be read. Transfer full. */
static GPtrArray *leftovers_of(const NetMember *member)
{
    static const char *const sets[] = {"free4", "free6", "policed", "egress"};
    g_autoptr(GPtrArray) wanted = elements_of(member);
    g_autoptr(GPtrArray) list = g_ptr_array_new_full(0, element_free);
    for (size_t i = 0; i < G_N_ELEMENTS(sets); i++) {
        NetNftFound found = NET_NFT_ABSENT;
        add_tap(list, member, sets[i]);
        Element *element = list->pdata[list->len - 1];
        if (!strcmp(sets[i], "egress")) {
            element->chain = chain_name(member);
        }
        if (g_ptr_array_find_with_equal_func(wanted, element, element_equal, NULL) ||
            !net_nft_get(NET_NFT_BRIDGE, sets[i], &element->key, &found, NULL, NULL, NULL) ||
            found == NET_NFT_ABSENT) {
            g_ptr_array_set_size(list, (int)list->len - 1);
        }
    }
    return g_steal_pointer(&list);
}

/* --- writing ------------------------------------------------------------------ */

/* owner NULL: removed. */
static void append_element(NetNftBatch *batch, const Element *element, const char *owner)
{
    NetNftBytes number = {0};
    net_nft_bytes_add(&number, &element->number, sizeof element->number);
    json_t *key = key_json(element), *value = element_value(element);
    NetNftTwin twin = {.set = element->set,
                       .key = &element->key,
                       .value = element->number ? &number : NULL,
                       .chain = element->chain,
                       .json_key = key,
                       .json_value = value,
                       .comment = owner};
    if (owner) {
        net_nft_add_twin(batch, NET_NFT_BRIDGE, &twin);
    } else {
        net_nft_delete_twin(batch, NET_NFT_BRIDGE, &twin);
    }
    json_decref(key);
    json_decref(value);
}

/* Adding what goes away makes it succeed also where somebody was faster. */
static void append_removals(NetNftBatch *batch, GPtrArray *old, GPtrArray *now, const char *owner)
{
    g_autoptr(GPtrArray) gone = g_ptr_array_new();
    for (unsigned i = 0; i < old->len; i++) {
        if (!now || !g_ptr_array_find_with_equal_func(now, old->pdata[i], element_equal, NULL)) {
            g_ptr_array_add(gone, old->pdata[i]);
        }
    }
    for (unsigned i = 0; i < gone->len; i++) {
        append_element(batch, gone->pdata[i], owner);
    }
    for (unsigned i = 0; i < gone->len; i++) {
        append_element(batch, gone->pdata[i], NULL);
    }
}

static void append_additions(NetNftBatch *batch, GPtrArray *now, GPtrArray *old, const char *owner)
{
    for (unsigned i = 0; i < now->len; i++) {
        if (!old || !g_ptr_array_find_with_equal_func(old, now->pdata[i], element_equal, NULL)) {
            append_element(batch, now->pdata[i], owner);
        }
    }
}

static void append_rules(NetNftBatch *batch, const char *chain, const json_t *rules,
                         const char *hash)
{
    size_t i;
    json_t *rule;
    json_array_foreach(rules, i, rule)
    {
        net_nft_add_rule(batch, NET_NFT_BRIDGE, chain, json_incref(rule), hash);
    }
}

/* Empty, whether it was there or not. */
static void append_empty(NetNftBatch *batch, const char *chain)
{
    net_nft_add_chain(batch, NET_NFT_BRIDGE, chain);
    net_nft_flush_chain(batch, NET_NFT_BRIDGE, chain);
}

/* Its chains with these rules and no others. */
static void append_chains(NetNftBatch *batch, const NetMember *member)
{
    g_auto(Chains) chains = chains_of(member);
    append_empty(batch, chains.first);
    append_empty(batch, chains.second);
    if (chains.second_rules) {
        append_rules(batch, chains.second, chains.second_rules, chains.hash);
    } else {
        net_nft_delete_chain(batch, NET_NFT_BRIDGE, chains.second);
    }
    append_rules(batch, chains.first, chains.first_rules, chains.hash);
}

static bool are_chains_equal(const NetMember *a, const NetMember *b)
{
    g_auto(Chains) x = chains_of(a), y = chains_of(b);
    return !strcmp(x.hash, y.hash) && !strcmp(x.first, y.first);
}

/* NULL where there is nothing to filter: no tap. */
static const NetMember *with_tap(const NetMember *member)
{
    return member && member->tap && member->owner ? member : NULL;
}

/* Chains that nothing leads to any more; their rules first, and also where they are gone. */
static void append_no_chains(NetNftBatch *batch, const NetMember *member)
{
    g_autofree char *first = chain_name(member), *second = g_strconcat(first, "n", NULL);
    append_empty(batch, first);
    append_empty(batch, second);
    net_nft_delete_chain(batch, NET_NFT_BRIDGE, first);
    net_nft_delete_chain(batch, NET_NFT_BRIDGE, second);
}

static void append_leftovers(NetNftBatch *batch, const NetMember *member)
{
    g_autoptr(GPtrArray) list = leftovers_of(member);
    for (unsigned i = 0; i < list->len; i++) {
        const Element *element = list->pdata[i];
        net_nft_delete_element(batch, NET_NFT_BRIDGE, element->set, key_json(element));
        if (element->chain) {
            append_no_chains(batch, member);
        }
    }
}

void net_filter_append(NetNftBatch *batch, const NetMember *member, const NetMember *old)
{
    member = with_tap(member);
    old = with_tap(old);
    g_autoptr(GPtrArray) now = member ? elements_of(member) : NULL;
    g_autoptr(GPtrArray) before = old ? elements_of(old) : NULL;
    bool has_chain = member && net_filter_egress_has(member);
    bool had_chain = old && net_filter_egress_has(old);
    if (had_chain && !has_chain) { /* for the elements that are written before they go */
        g_autofree char *chain = chain_name(old);
        net_nft_add_chain(batch, NET_NFT_BRIDGE, chain);
    }
    if (has_chain && !(had_chain && are_chains_equal(member, old))) {
        append_chains(batch, member);
    }
    if (member && !old) {
        append_leftovers(batch, member);
    }
    if (before) {
        append_removals(batch, before, now, old->owner);
    }
    if (now) {
        append_additions(batch, now, before, member->owner);
    }
    if (had_chain && !has_chain) {
        append_no_chains(batch, old);
    }
}

/* --- reading back ------------------------------------------------------------- */

static void differ(GPtrArray *differences, const NetMember *member, const char *what)
{
    g_ptr_array_add(differences, g_strdup_printf("filter of %s: %s", member->tap, what));
}

/* What of the element is not as it should be, NULL: nothing. */
static bool check_element(const Element *element, const char *owner, char **out_what,
                          GError **error)
{
    NetNftFound found = NET_NFT_ABSENT;
    NetNftBytes value = {.n_bytes = 0};
    g_autofree char *comment = NULL, *chain = NULL;
    if (element->chain) {
        if (!net_nft_get_chain(NET_NFT_BRIDGE, element->set, &element->key, &chain, &comment,
                               error)) {
            return false;
        }
        found = chain ? NET_NFT_PRESENT : NET_NFT_ABSENT;
    } else if (!net_nft_get(NET_NFT_BRIDGE, element->set, &element->key, &found, &value, &comment,
                            error)) {
        return false;
    }
    bool is_other = g_strcmp0(chain, element->chain) ||
                    (element->number && (value.n_bytes != sizeof element->number ||
                                         memcmp(value.bytes, &element->number, value.n_bytes)));
    *out_what =
        found == NET_NFT_ABSENT ? g_strdup_printf("missing in %s", element->set)
        : is_other              ? g_strdup_printf("another value in %s", element->set)
        : g_strcmp0(comment, owner)
            ? g_strdup_printf("marked as %s's in %s", comment ? comment : "nobody", element->set)
            : NULL;
    return true;
}

/* Has the chain these rules and no others? wanted NULL: there is to be no chain. */
static bool has_rules(const char *chain, const json_t *wanted, const char *hash, bool *out_has,
                      GError **error)
{
    g_autoptr(GPtrArray) rules = NULL;
    if (!net_nft_list_rules(NFPROTO_BRIDGE, NET_NFT_TABLE, chain, &rules, error)) {
        return false;
    }
    *out_has = wanted ? rules && rules->len == json_array_size(wanted) : !rules;
    for (unsigned i = 0; *out_has && rules && i < rules->len; i++) {
        const NetNftRule *rule = rules->pdata[i];
        *out_has = !g_strcmp0(rule->comment, hash);
    }
    return true;
}

static bool check_chains(const NetMember *member, GPtrArray *differences, GError **error)
{
    g_auto(Chains) chains = chains_of(member);
    bool has_first = false, has_second = false;
    if (!has_rules(chains.first, chains.first_rules, chains.hash, &has_first, error) ||
        !has_rules(chains.second, chains.second_rules, chains.hash, &has_second, error)) {
        return false;
    }
    if (!has_first || !has_second) {
        differ(differences, member, "other rules of egress towards neighbours, or none");
    }
    return true;
}

static void check_leftovers(const NetMember *member, GPtrArray *differences)
{
    g_autoptr(GPtrArray) list = leftovers_of(member);
    for (unsigned i = 0; i < list->len; i++) {
        g_autofree char *what =
            g_strdup_printf("should not be in %s", ((Element *)list->pdata[i])->set);
        differ(differences, member, what);
    }
}

bool net_filter_check(const NetMember *member, GPtrArray *differences, GError **error)
{
    if (!with_tap(member)) {
        return true;
    }
    g_autoptr(GPtrArray) list = elements_of(member);
    for (unsigned i = 0; i < list->len; i++) {
        g_autofree char *what = NULL;
        if (!check_element(list->pdata[i], member->owner, &what, error)) {
            return false;
        }
        if (what) {
            differ(differences, member, what);
        }
    }
    check_leftovers(member, differences);
    return !net_filter_egress_has(member) || check_chains(member, differences, error);
}
