#include "schemas/network_rules.h"

#include <string.h>
#include "schemas/node.h"
#include "schemas/rules.h"
#include "schemas/value.h"

static bool refuse(const char **out_why, const char *why)
{
    *out_why = why;
    return false;
}

/* --- addresses -------------------------------------------------------------------------------- */

/* Prefixes that no machine has an address of (IANA's special-purpose registries, RFC 6890). */
static const struct {
    const char *cidr;
    const char *why;
} special[] = {
    {"0.0.0.0/8", "is of 0.0.0.0/8, which names no station"},
    {"127.0.0.0/8", "is a loopback address"},
    {"169.254.0.0/16", "is a link-local address"},
    {"224.0.0.0/4", "is a multicast address"},
    {"240.0.0.0/4", "is of 240.0.0.0/4, which is reserved"},
    {"::/127", "is the address of no station, or loopback"},
    {"::ffff:0:0/96", "is an IPv4 address in IPv6's clothes"},
    {"fe80::/10", "is a link-local address, which every interface has by itself"},
    {"ff00::/8", "is a multicast address"},
};

static bool check_special(const BaseCidr *cidr, const char **out_why)
{
    for (size_t i = 0; i < G_N_ELEMENTS(special); i++) {
        BaseCidr other;
        const char *why;
        bool is_cidr = base_cidr_parse(special[i].cidr, &other, &why);
        g_assert(is_cidr);
        if (base_cidr_overlaps(cidr, &other)) {
            return refuse(out_why, special[i].why);
        }
    }
    return true;
}

static bool check_ip(const char *text, unsigned n_bytes, const char **out_why)
{
    BaseIp ip;
    if (!base_ip_parse(text, &ip) || ip.n_bytes != n_bytes) {
        return refuse(out_why, n_bytes == 4 ? "is no IPv4 address" : "is no IPv6 address");
    }
    BaseCidr whole = {ip, (uint8_t)(n_bytes * 8)};
    return check_special(&whole, out_why);
}

bool spec_rule_ip4(const char *text, const char **out_why)
{
    return check_ip(text, 4, out_why);
}

bool spec_rule_ip6(const char *text, const char **out_why)
{
    return check_ip(text, 16, out_why);
}

bool spec_rule_server(const char *text, const char **out_why)
{
    BaseIp ip;
    if (!base_ip_parse(text, &ip)) {
        return refuse(out_why, "is no IP address");
    }
    if (base_ip_is_multicast(&ip) || base_ip_is_wildcard(&ip)) {
        return refuse(out_why, "is the address of no station");
    }
    return true;
}

/* --- networks --------------------------------------------------------------------------------- */

static bool check_cidr(const char *text, unsigned n_bytes, const char **out_why)
{
    BaseCidr cidr;
    BaseIp broadcast;
    bool is_ip4 = n_bytes == 4;
    if (g_str_equal(text, "none")) {
        return true;
    }
    if (!base_cidr_parse(text, &cidr, out_why)) {
        return false;
    }
    if (cidr.ip.n_bytes != n_bytes) {
        return refuse(out_why, is_ip4 ? "is no IPv4 network: cidr6 is for IPv6"
                                      : "is no IPv6 network: cidr is for IPv4");
    }
    if (!strchr(text, '/')) {
        return refuse(out_why, "has no prefix length, such as /24");
    }
    if (cidr.n_bits > (is_ip4 ? 30 : 126)) {
        return refuse(out_why, is_ip4
                                   ? "has no room for a gateway and a machine: use /30 or larger"
                                   : "has no room for a gateway and a machine: use /126 or larger");
    }
    if (cidr.n_bits < (is_ip4 ? 8 : 32)) {
        return refuse(out_why, is_ip4 ? "is larger than a /8" : "is larger than a /32");
    }
    if (base_cidr_broadcast(&cidr, &broadcast) && base_ip_equal(&broadcast, &cidr.ip)) {
        return refuse(out_why, "has the broadcast address where the gateway's belongs");
    }
    return check_special(&cidr, out_why);
}

bool spec_rule_cidr4(const char *text, const char **out_why)
{
    return check_cidr(text, 4, out_why);
}

bool spec_rule_cidr6(const char *text, const char **out_why)
{
    return check_cidr(text, 16, out_why);
}

bool spec_ip_range_parse(const char *text, BaseIp *out_first, BaseIp *out_last)
{
    g_auto(GStrv) ends = g_strsplit(text, "-", 2);
    return g_strv_length(ends) == 2 && base_ip_parse(ends[0], out_first) &&
           base_ip_parse(ends[1], out_last) && out_first->n_bytes == 4 && out_last->n_bytes == 4;
}

bool spec_rule_ip_range(const char *text, const char **out_why)
{
    BaseIp first, last;
    if (!spec_ip_range_parse(text, &first, &last)) {
        return refuse(out_why, "is no range of two IPv4 addresses, such as 10.0.0.10-10.0.0.99");
    }
    return base_ip_compare(&first, &last) <= 0 ? true : refuse(out_why, "runs backwards");
}

bool spec_rule_port_range(const char *text, const char **out_why)
{
    g_auto(GStrv) ends = g_strsplit(text, "-", 2);
    uint64_t port[2];
    if (g_strv_length(ends) != 2) {
        return refuse(out_why, "is no range of two ports, such as 20000-29999");
    }
    for (unsigned i = 0; i < 2; i++) {
        if (spec_parse_decimal(ends[i], strlen(ends[i]), &port[i]) != SPEC_NUMBER_OK ||
            port[i] < 1 || port[i] > 65535) {
            return refuse(out_why, "has a port that is no number from 1 to 65535");
        }
    }
    return port[0] <= port[1] ? true : refuse(out_why, "runs backwards");
}

static const char *const words[] = {"user", "none", "auto", "bridge", "macvtap", NULL};

bool spec_rule_network_name(const char *text, const char **out_why)
{
    if (g_strv_contains(words, text)) {
        return refuse(out_why, "is a word that stands for something else in a list of networks");
    }
    return spec_rule_name(text, out_why);
}

bool spec_rule_network_word(const char *text, const char **out_why)
{
    return g_strv_contains(words, text) || spec_rule_name(text, out_why);
}

/* --- NICs in one line ------------------------------------------------------------------------- */

/* A part of `from`'s text that begins at `at`. */
static SpecNode *part_node(const SpecNode *from, const char *at, size_t n)
{
    SpecNode *node = spec_node_new_scalar(at, n, n > 0);
    unsigned before = (unsigned)g_utf8_strlen(from->text, at - from->text);
    node->file = from->file;
    node->line = from->line;
    node->col = from->col ? from->col + before + !from->is_plain : 0;
    return node;
}

static void put_key(SpecNode *map, const char *key, const SpecNode *from, const char *at, size_t n)
{
    SpecNode *key_node = part_node(from, at, 0);
    g_free(key_node->text);
    key_node->text = g_strdup(key);
    key_node->n_bytes = strlen(key);
    spec_node_put(map, key_node, part_node(from, at, n));
}

/* The first part: NETWORK, bridge=NAME or macvtap=LINK; then KEY=VALUE, and after macvtap=LINK a
 * mode. *out_why is set for what is none. */
static void put_part(SpecNode *map, const SpecNode *from, const char *at, size_t n, unsigned index,
                     const char **out_why)
{
    const char *equals = memchr(at, '=', n);
    size_t n_key = equals ? (size_t)(equals - at) : 0;
    g_autofree char *key = g_strndup(at, n_key);
    bool is_head = g_str_equal(key, "bridge") || g_str_equal(key, "macvtap");
    if (index == 0 && !equals) {
        put_key(map, "network", from, at, n);
    } else if (index == 0 && !is_head) {
        *out_why = "does not begin with a network";
    } else if (index == 1 && !equals && spec_node_get(map, "macvtap")) {
        put_key(map, "macvtap_mode", from, at, n);
    } else if (!equals || n_key == 0) {
        *out_why = "has a part without '='";
    } else if (spec_node_get(map, key)) {
        *out_why = "has a key twice";
    } else {
        put_key(map, key, from, equals + 1, n - n_key - 1);
        SpecNode *written = spec_node_key(map, spec_node_n(map) - 1);
        written->col = written->col ? written->col - (unsigned)n_key - 1 : 0;
    }
}

SpecNode *spec_nic_expand(const SpecNode *text, const char **out_why)
{
    g_autoptr(SpecNode) map = spec_node_new(SPEC_NODE_MAP);
    const char *at = text->text;
    map->file = text->file;
    map->line = text->line;
    map->col = text->col;
    *out_why = NULL;
    for (unsigned i = 0; !*out_why; i++) {
        size_t n = strcspn(at, ",");
        put_part(map, text, at, n, i, out_why);
        if (at[n] == '\0') {
            break;
        }
        at += n + 1;
    }
    return *out_why ? NULL : g_steal_pointer(&map);
}

static const char *word_of(const SpecNetwork *nic)
{
    return nic->kind == SPEC_NET_MANAGED ? nic->network
           : nic->kind == SPEC_NET_BRIDGE || nic->kind == SPEC_NET_MACVTAP
               ? NULL
               : spec_net_kind_name(nic->kind);
}

char *spec_nic_to_text(const void *record)
{
    const SpecNetwork *nic = record;
    return nic->kind == SPEC_NET_BRIDGE    ? g_strconcat("bridge=", nic->bridge, NULL)
           : nic->kind == SPEC_NET_MACVTAP ? g_strconcat("macvtap=", nic->macvtap, NULL)
                                           : g_strdup(word_of(nic));
}

void spec_nic_to_map(const void *record, SpecNode *map)
{
    const char *word = word_of(record);
    if (word && !spec_node_get(map, "network")) {
        spec_node_put_key(map, "network", spec_node_new_scalar(word, strlen(word), false));
    }
}

void spec_nic_settle(void *record)
{
    SpecNetwork *nic = record;
    const char *word = nic->network ? nic->network : "auto";
    SpecNetKind kind = g_str_equal(word, "user")      ? SPEC_NET_USER
                       : g_str_equal(word, "none")    ? SPEC_NET_NONE
                       : g_str_equal(word, "auto")    ? SPEC_NET_AUTO
                       : g_str_equal(word, "bridge")  ? SPEC_NET_BRIDGE
                       : g_str_equal(word, "macvtap") ? SPEC_NET_MACVTAP
                                                      : SPEC_NET_MANAGED;
    bool is_pleonasm =
        (kind == SPEC_NET_BRIDGE && !nic->macvtap) || (kind == SPEC_NET_MACVTAP && !nic->bridge);
    bool has_other = nic->network && (nic->bridge || nic->macvtap) && !is_pleonasm;
    if (kind != SPEC_NET_MANAGED && !has_other) {
        g_clear_pointer(&nic->network, g_free);
    }
    nic->kind = nic->bridge ? SPEC_NET_BRIDGE : nic->macvtap ? SPEC_NET_MACVTAP : kind;
}

void spec_nic_rule(const void *record, const char *path, const BasePos *pos, BaseReport *report)
{
    const SpecNetwork *nic = record;
    unsigned n = (nic->network != NULL) + (nic->bridge != NULL) + (nic->macvtap != NULL);
    if (n > 1) {
        base_report_error(report, VM_ERROR_SCHEMA, pos, "keep one of them",
                          "%s: network, bridge and macvtap exclude each other", path);
    } else if (nic->kind == SPEC_NET_BRIDGE && !nic->bridge) {
        base_report_error(report, VM_ERROR_SCHEMA, pos, "add bridge: NAME",
                          "%s: 'bridge' is missing", path);
    } else if (nic->kind == SPEC_NET_MACVTAP && !nic->macvtap) {
        base_report_error(report, VM_ERROR_SCHEMA, pos, "add macvtap: LINK",
                          "%s: 'macvtap' is missing", path);
    }
}
