#include "net/rules.h"

#include <stdio.h>
#include <string.h>
#include "base/error.h"
#include "net/filter.h"
#include "net/rules_internal.h"

/*
 * How it works
 *
 * All chains are emptied and written anew, those with a hook removed before, so that a changed
 * priority, policy or rule is mended too; sets and maps stay, and with them all networks and
 * machines. It is one transaction: no packet meets half of it.
 *
 *   bridges   what follows concerns these links     own       bridge . bridge: stays inside
 *   closed    nothing new comes in but by a port map (nat, isolated)
 *   isolated  nothing new goes out                  foreign   bridges of somebody else
 *   nat4/6    what leaves gets the host's address   nets4/6   prefixes of all networks of ours
 *   pm4/6     port maps at one address              pm4/6any  ... at all addresses of the host
 *   held4/6   a port that pm4/6 has somewhere       egress    bridge . mac: the member's own chain
 *   users     who uses a foreign bridge             base      what the rules were when written
 *
 * guard   route_localnet lets packets to 127.0.0.0/8 in from a bridge; nobody may send them there.
 * ports   from everywhere: pre for what comes in, out for what this host's own programs send.
 * post    a guest answers to where it was asked from, so whoever is on its own network, and
 *         whatever has a loopback address, asks with the bridge's address.
 * routed  what is passed on: answers first, then the networks' modes, then the member's policy;
 *         its own link-layer address is its key, for IPv6 link-local addresses too.
 * host    what a guest sends to this host: its policy again; DHCP and neighbour discovery always.
 */
const char net_rules_base_text[] =
    "add table inet vm_driver\n"
    "add chain inet vm_driver guard\n"
    "add chain inet vm_driver pre\n"
    "add chain inet vm_driver out\n"
    "add chain inet vm_driver post\n"
    "add chain inet vm_driver routed\n"
    "add chain inet vm_driver host\n"
    "add chain inet vm_driver ports\n"
    "add chain inet vm_driver refuse\n"
    "add chain inet vm_driver private\n"
    "add chain inet vm_driver enter\n"
    "add chain inet vm_driver leave\n"
    "flush chain inet vm_driver guard\n"
    "flush chain inet vm_driver pre\n"
    "flush chain inet vm_driver out\n"
    "flush chain inet vm_driver post\n"
    "flush chain inet vm_driver routed\n"
    "flush chain inet vm_driver host\n"
    "flush chain inet vm_driver ports\n"
    "flush chain inet vm_driver refuse\n"
    "flush chain inet vm_driver private\n"
    "flush chain inet vm_driver enter\n"
    "flush chain inet vm_driver leave\n"
    "delete chain inet vm_driver guard\n"
    "delete chain inet vm_driver pre\n"
    "delete chain inet vm_driver out\n"
    "delete chain inet vm_driver post\n"
    "delete chain inet vm_driver routed\n"
    "delete chain inet vm_driver host\n"
    "table inet vm_driver {\n"
    "set base { type mark; }\n"
    "set bridges { type ifname; }\n"
    "set closed { type ifname; }\n"
    "set isolated { type ifname; }\n"
    "set foreign { type ifname; }\n"
    "set own { type ifname . ifname; }\n"
    "set users { type ifname . ether_addr; }\n"
    "set nat4 { type ipv4_addr; flags interval; }\n"
    "set nat6 { type ipv6_addr; flags interval; }\n"
    "set nets4 { type ipv4_addr; flags interval; }\n"
    "set nets6 { type ipv6_addr; flags interval; }\n"
    "set held4 { type inet_proto . inet_service; }\n"
    "set held6 { type inet_proto . inet_service; }\n"
    "map pm4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }\n"
    "map pm4any { type inet_proto . inet_service : ipv4_addr . inet_service; }\n"
    "map pm6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }\n"
    "map pm6any { type inet_proto . inet_service : ipv6_addr . inet_service; }\n"
    "map egress { type ifname . ether_addr : verdict; }\n"
    "chain ports {\n"
    "dnat ip to ip daddr . meta l4proto . th dport map @pm4\n"
    "dnat ip to meta l4proto . th dport map @pm4any\n"
    "dnat ip6 to ip6 daddr . meta l4proto . th dport map @pm6\n"
    "dnat ip6 to meta l4proto . th dport map @pm6any\n"
    "}\n"
    "chain refuse {\n"
    "reject with icmpx admin-prohibited\n"
    "}\n"
    "chain private {\n"
    "iifname . oifname @own return\n"
    "fib daddr type != unicast goto refuse\n"
    "ip daddr { 10.0.0.0/8, 100.64.0.0/10, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16 } "
    "goto refuse\n"
    "ip6 daddr { fc00::/7, fe80::/10 } goto refuse\n"
    "}\n"
    "chain enter {\n"
    "iifname . oifname @own return\n"
    "ct status dnat return\n"
    "goto refuse\n"
    "}\n"
    "chain leave {\n"
    "iifname . oifname @own return\n"
    "goto refuse\n"
    "}\n"
    "chain guard {\n"
    "type filter hook prerouting priority raw; policy accept;\n"
    "iifname @bridges ip daddr 127.0.0.0/8 drop\n"
    "iifname @bridges ip saddr 127.0.0.0/8 drop\n"
    "iifname @bridges ip6 daddr ::1 drop\n"
    "iifname @bridges ip6 saddr ::1 drop\n"
    "}\n"
    "chain pre {\n"
    "type nat hook prerouting priority dstnat; policy accept;\n"
    "fib daddr type local jump ports\n"
    "}\n"
    "chain out {\n"
    "type nat hook output priority -100; policy accept;\n"
    "fib daddr type local jump ports\n"
    "}\n"
    "chain post {\n"
    "type nat hook postrouting priority srcnat; policy accept;\n"
    "oifname != @bridges ip saddr @nat4 masquerade\n"
    "oifname != @bridges ip6 saddr @nat6 masquerade\n"
    "oifname @bridges ct status dnat ip saddr @nets4 masquerade\n"
    "oifname @bridges ct status dnat ip6 saddr @nets6 masquerade\n"
    "oifname @bridges ct status dnat fib saddr type local masquerade\n"
    "oifname @foreign ct status dnat masquerade\n"
    "oifname @isolated ct status dnat masquerade\n"
    "}\n"
    "chain routed {\n"
    "type filter hook forward priority filter; policy accept;\n"
    "ct state established,related accept\n"
    "oifname @closed jump enter\n"
    "iifname @isolated jump leave\n"
    "iifname . ether saddr vmap @egress\n"
    "}\n"
    "chain host {\n"
    "type filter hook input priority filter; policy accept;\n"
    "iifname != @bridges accept\n"
    "ct state established,related accept\n"
    "udp dport { 67, 547 } accept\n"
    "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, "
    "mld-listener-report, mld-listener-done, mld2-listener-report } accept\n"
    "iifname . ether saddr vmap @egress\n"
    "}\n"
    "}\n";

const char *const net_rules_sets[] = {"pm4",     "pm4any", "pm6",      "pm6any",  "egress", "users",
                                      "bridges", "closed", "isolated", "foreign", "own",    NULL};
const char *const net_rules_prefix_sets[] = {"nat4", "nat6", "nets4", "nets6", NULL};

#define BASE_KEY 1 /* the only element of the set `base`; its comment is the seal */
/* Of both texts: one more for each change of them (tests/unit/net/test_rules.c sees to it), so that
 * a program of an older version leaves the rules of a newer one alone. */
#define BASE_VERSION 1
static const char wake_tables[] = "add table inet vm_driver\nadd table bridge vm_driver\n";
static const char remove_tables[] = "add table inet vm_driver\ndelete table inet vm_driver\n"
                                    "add table bridge vm_driver\ndelete table bridge vm_driver\n";

unsigned net_rules_base_version(uint32_t *out_hash)
{
    *out_hash = g_str_hash(net_rules_base_text) * 31 + g_str_hash(net_filter_base_text);
    return BASE_VERSION;
}

/* What the kernel made of the text, "INET BRIDGE". NULL: not to be read. Transfer full. */
static char *compute_print(GError **error)
{
    uint64_t inet = 0, bridge = 0;
    if (!net_nft_fingerprint(NET_NFT_INET, &inet, error) ||
        !net_nft_fingerprint(NET_NFT_BRIDGE, &bridge, error)) {
        return NULL;
    }
    return g_strdup_printf("%016" G_GINT64_MODIFIER "x %016" G_GINT64_MODIFIER "x", inet, bridge);
}

/* The same at a tenth of the cost: what is flushed or removed shows here. */
static char *compute_shape(GError **error)
{
    static const char *const shared[] = {"refuse", "private", "answer", NULL};
    uint64_t inet = 0, bridge = 0;
    if (!net_nft_shape(NET_NFT_INET, shared, &inet, error) ||
        !net_nft_shape(NET_NFT_BRIDGE, shared, &bridge, error)) {
        return NULL;
    }
    return g_strdup_printf("%016" G_GINT64_MODIFIER "x", inet * 31 + bridge);
}

/* The seal is "VERSION SHAPE INET BRIDGE". Part of it when the version is not older than ours, else
 * NULL. */
static const char *seal_part(const char *seal, bool is_print)
{
    char *end;
    guint64 version = g_ascii_strtoull(seal, &end, 10);
    const char *print = *end == ' ' ? strchr(end + 1, ' ') : NULL;
    return version < BASE_VERSION || !print ? NULL : is_print ? print + 1 : end + 1;
}

/* *out_seal NULL: none was set. */
static bool read_seal(char **out_seal, GError **error)
{
    uint32_t mark = BASE_KEY; /* host order, as all marks */
    NetNftFound found;
    NetNftBytes key = {0};
    net_nft_bytes_add(&key, &mark, sizeof mark);
    return net_nft_get(NET_NFT_INET, "base", &key, &found, NULL, out_seal, error);
}

bool net_rules_base_is_whole(bool *out_is_whole, GError **error)
{
    g_autofree char *seal = NULL, *print = NULL;
    *out_is_whole = false;
    if (!read_seal(&seal, error)) {
        return false;
    }
    print = seal ? compute_print(error) : NULL;
    if (seal && !print) {
        return false;
    }
    *out_is_whole = seal && g_strcmp0(seal_part(seal, true), print) == 0;
    return true;
}

static bool looks_whole(bool *out_is_whole, GError **error)
{
    g_autofree char *seal = NULL, *shape = NULL;
    *out_is_whole = false;
    if (!read_seal(&seal, error)) {
        return false;
    }
    shape = seal ? compute_shape(error) : NULL;
    if (seal && !shape) {
        return false;
    }
    const char *sealed = seal ? seal_part(seal, false) : NULL;
    *out_is_whole = sealed && g_str_has_prefix(sealed, shape);
    return true;
}

static bool write_seal(GError **error)
{
    g_autofree char *old = NULL, *print = compute_print(error);
    g_autofree char *shape = print ? compute_shape(error) : NULL;
    if (!shape || !read_seal(&old, error)) {
        return false;
    }
    g_autofree char *seal = g_strdup_printf("%u %s %s", BASE_VERSION, shape, print);
    g_autoptr(NetNftBatch) batch = net_nft_batch_new();
    if (old) {
        net_nft_delete_element(batch, NET_NFT_INET, "base", json_integer(BASE_KEY));
    }
    net_nft_add_element(batch, NET_NFT_INET, "base", json_integer(BASE_KEY), NULL, seal);
    return net_nft_commit(batch, error);
}

/* A dormant table must be woken in a transaction of its own. A set that is there with another type
 * (of another version) can't be changed: then all anew, and the elements are lost; whoever owns
 * them puts them there again. */
static bool write_base(GError **error)
{
    GError *failure = NULL;
    g_autofree char *text = g_strconcat(net_rules_base_text, net_filter_base_text, NULL);
    if (net_nft_run_text(text, &failure) ||
        (net_nft_run_text(wake_tables, NULL) && net_nft_run_text(text, NULL))) {
        g_clear_error(&failure);
        return true;
    }
    g_autofree char *anew = g_strconcat(remove_tables, text, NULL);
    if (net_nft_run_text(anew, NULL)) {
        g_error_free(failure);
        return true;
    }
    g_propagate_error(error, failure);
    return false;
}

static bool mend(GError **error)
{
    bool is_whole = false;
    g_autoptr(NetRulesLock) lock = net_rules_lock(NET_RULES_LOCK_MS, error);
    if (!lock || !net_rules_base_is_whole(&is_whole, error)) {
        return false; /* or somebody else has just written them */
    }
    return is_whole || (write_base(error) && write_seal(error));
}

bool net_rules_ensure_base(GError **error)
{
    bool is_whole = false;
    return looks_whole(&is_whole, error) && (is_whole || mend(error));
}

bool net_rules_mend_base(GError **error)
{
    bool is_whole = false;
    return net_rules_base_is_whole(&is_whole, error) && (is_whole || mend(error));
}

/* --- without a trace -------------------------------------------------------------------------- */

static bool is_empty(NetNftFamily family, const char *set, bool *is_unused, GError **error)
{
    g_autoptr(GPtrArray) elements = *is_unused ? net_nft_list(family, set, error) : NULL;
    if (*is_unused && !elements) {
        return false;
    }
    *is_unused = elements && elements->len == 0;
    return true;
}

/* Bridges come first: while there is one, no other set is looked at. */
bool net_rules_drop_unused_base(GError **error)
{
    bool is_unused = true;
    if (!is_empty(NET_NFT_INET, "bridges", &is_unused, error) ||
        !is_empty(NET_NFT_BRIDGE, "macs", &is_unused, error)) {
        return false;
    }
    for (unsigned i = 0; net_rules_sets[i]; i++) {
        if (!is_empty(NET_NFT_INET, net_rules_sets[i], &is_unused, error)) {
            return false;
        }
    }
    for (unsigned i = 0; net_rules_prefix_sets[i]; i++) {
        if (!is_empty(NET_NFT_INET, net_rules_prefix_sets[i], &is_unused, error)) {
            return false;
        }
    }
    return !is_unused || net_nft_delete_tables(error);
}
