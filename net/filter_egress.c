#include "net/filter_egress.h"

static json_t *match(json_t *left, const char *op, json_t *right)
{
    return json_pack("{s:{s:s, s:o, s:o}}", "match", "op", op, "left", left, "right", right);
}

static json_t *field(const char *protocol, const char *name)
{
    return json_pack("{s:{s:s, s:s}}", "payload", "protocol", protocol, "field", name);
}

static json_t *meta(const char *key)
{
    return json_pack("{s:{s:s}}", "meta", "key", key);
}

static json_t *verdict(const char *name)
{
    return json_pack("{s:n}", name);
}

static bool is_ip4(const BaseCidr *cidr)
{
    return cidr->ip.n_bytes == 4;
}

static json_t *prefix(const BaseCidr *cidr)
{
    BaseCidr network = base_cidr_network(cidr);
    char text[BASE_IP_TEXT_BYTES];
    base_ip_format(&network.ip, text);
    return cidr->n_bits == cidr->ip.n_bytes * 8
               ? json_string(text)
               : json_pack("{s:{s:s, s:i}}", "prefix", "addr", text, "len", cidr->n_bits);
}

/* Is the destination in the prefix (op "==") or not ("!=")? An empty prefix is the whole family. */
static json_t *to(const BaseCidr *cidr, const char *op)
{
    const char *family = is_ip4(cidr) ? "ip" : "ip6";
    return cidr->n_bits ? match(field(family, "daddr"), op, prefix(cidr))
                        : match(meta("protocol"), op, json_string(family));
}

static const char *protocol_name(const SpecEgressRule *rule)
{
    static const char *const names[SPEC_EGRESS_PROTO_N] = {
        [SPEC_EGRESS_PROTO_TCP] = "tcp", [SPEC_EGRESS_PROTO_UDP] = "udp"};
    return rule->proto != SPEC_EGRESS_PROTO_ICMP ? names[rule->proto]
           : is_ip4(&rule->to)                   ? "icmp"
                                                 : "ipv6-icmp";
}

static bool has_ports(const SpecEgressRule *rule)
{
    return rule->port_first || rule->port_last;
}

/* Destination and protocol; a rule with ports of no protocol is of those that have ports. */
static json_t *begin(const SpecEgressRule *rule)
{
    json_t *expr = json_array();
    const char *name = protocol_name(rule);
    json_array_append_new(expr, to(&rule->to, "=="));
    if (name) {
        json_array_append_new(expr, match(meta("l4proto"), "==", json_string(name)));
    } else if (has_ports(rule)) {
        json_array_append_new(
            expr, match(meta("l4proto"), "==", json_pack("{s:[s,s]}", "set", "tcp", "udp")));
    }
    return expr;
}

static json_t *ports(const SpecEgressRule *rule)
{
    json_t *right = rule->port_first == rule->port_last
                        ? json_integer(rule->port_first)
                        : json_pack("{s:[i,i]}", "range", rule->port_first, rule->port_last);
    return match(field("th", "dport"), "==", right);
}

static json_t *go_to(const char *chain)
{
    return json_pack("{s:{s:s}}", "goto", "target", chain);
}

/* end: a verdict, stolen */
static void add(json_t *rules, json_t *expr, json_t *end)
{
    json_array_append_new(expr, end);
    json_array_append_new(rules, expr);
}

static void add_rule(json_t *rules, const SpecEgressRule *rule, json_t *end)
{
    json_t *expr = begin(rule);
    if (has_ports(rule)) {
        json_array_append_new(expr, ports(rule));
    }
    add(rules, expr, end);
}

/* Link-local metadata, private and shared ranges (RFC 1918, 3927, 4193, 6598). */
static void add_restricted(json_t *rules, const NetMember *member)
{
    static const char *const ranges[] = {"10.0.0.0/8",     "172.16.0.0/12", "192.168.0.0/16",
                                         "169.254.0.0/16", "100.64.0.0/10", "fc00::/7"};
    for (size_t i = 0; i < G_N_ELEMENTS(ranges); i++) {
        BaseCidr range;
        const char *why;
        bool is_parsed = base_cidr_parse(ranges[i], &range, &why);
        g_assert(is_parsed);
        const BaseCidr *own = is_ip4(&range) ? &member->cidr4 : &member->cidr6;
        json_t *expr = json_array();
        if (base_ip_is_set(&own->ip)) {
            json_array_append_new(expr, to(own, "!="));
        }
        json_array_append_new(expr, to(&range, "=="));
        add(rules, expr, verdict("drop"));
    }
}

/* next: the chain that has the last word on what is allowed, NULL: nobody else has one. True: what
 * comes after it is not reached. */
static bool add_policy(json_t *rules, const SpecEgress *egress, const NetMember *member,
                       const char *next)
{
    for (unsigned i = 0; !egress->is_hermetic && egress->allow && i < egress->allow->len; i++) {
        add_rule(rules, egress->allow->pdata[i], next ? go_to(next) : verdict("accept"));
    }
    for (unsigned i = 0; !egress->is_hermetic && egress->deny && i < egress->deny->len; i++) {
        add_rule(rules, egress->deny->pdata[i], verdict("drop"));
    }
    if (!egress->is_hermetic && egress->is_restricted) {
        add_restricted(rules, member);
    }
    bool is_end = egress->is_hermetic || egress->is_default_deny;
    if (is_end) {
        add(rules, json_array(), verdict("drop"));
    }
    return is_end;
}

static bool denies(const SpecEgress *egress)
{
    return egress->is_hermetic || egress->is_restricted || egress->is_default_deny ||
           (egress->deny && egress->deny->len);
}

bool net_filter_egress_has(const NetMember *member)
{
    return denies(&member->egress) || denies(&member->net_egress);
}

/* Does an "allow" of the machine's own need the network's word? */
static bool needs_second(const NetMember *member)
{
    return !member->egress.is_hermetic && member->egress.allow && member->egress.allow->len &&
           denies(&member->net_egress);
}

json_t *net_filter_egress_rules(const NetMember *member, const char *second)
{
    json_t *rules = json_array();
    const char *next = needs_second(member) ? second : NULL;
    json_array_append_new(rules, json_pack("[{s:{s:s}}]", "jump", "target", "answer"));
    bool is_end = add_policy(rules, &member->egress, member, next);
    if (!is_end && next) {
        add(rules, json_array(), go_to(next));
    } else if (!is_end) {
        add_policy(rules, &member->net_egress, member, NULL);
    }
    return rules;
}

json_t *net_filter_egress_second_rules(const NetMember *member)
{
    if (!needs_second(member)) {
        return NULL;
    }
    json_t *rules = json_array();
    add_policy(rules, &member->net_egress, member, NULL);
    return rules;
}
