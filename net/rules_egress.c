#include "net/rules_internal.h"

#include <ifaddrs.h>
#include <netinet/in.h> /* before linux/netfilter.h, which has another one */
#include <linux/netfilter.h>
#include <string.h>
#include "base/error.h"

/*
 * A member's policy as a chain of its own: DNS of the network's gateway, the machine's own policy,
 * then its network's. Both must let something out: who describes a machine can't widen what the
 * network's owner allows. So where the machine's own list allows something and the network has a
 * policy, that policy is a second chain (the first one's name and "n"), to which an "allow" goes.
 * The chains' names have the hash of their rules, and each rule says which of how many it is.
 */
enum { DNS_PORT = 53 };

/* Private and shared ranges, and link-local ones with the clouds' metadata (RFC 1918, 3927, 4193,
 * 4291, 6598); the chain `private` of net/rules_base.c has the same. */
static const char *const private_ranges[] = {"10.0.0.0/8",    "100.64.0.0/10",  "169.254.0.0/16",
                                             "172.16.0.0/12", "192.168.0.0/16", "fc00::/7",
                                             "fe80::/10"};

/* --- rules -------------------------------------------------------------------- */

static json_t *match(json_t *left, json_t *right)
{
    return json_pack("{s:{s:s,s:o,s:o}}", "match", "op", "==", "left", left, "right", right);
}

static json_t *meta(const char *key)
{
    return json_pack("{s:{s:s}}", "meta", "key", key);
}

static json_t *payload(const char *protocol, const char *name)
{
    return json_pack("{s:{s:s,s:s}}", "payload", "protocol", protocol, "field", name);
}

static json_t *accept_verdict(void)
{
    return json_pack("{s:n}", "accept");
}

static json_t *go_to(const char *chain)
{
    return json_pack("{s:{s:s}}", "goto", "target", chain);
}

static json_t *refuse_verdict(void)
{
    return go_to("refuse");
}

static json_t *with_ports(void)
{
    return match(meta("l4proto"), json_pack("{s:[i,i]}", "set", IPPROTO_TCP, IPPROTO_UDP));
}

static json_t *to_prefix(const BaseCidr *to)
{
    char text[BASE_IP_TEXT_BYTES];
    bool is_ip4 = to->ip.n_bytes == 4;
    BaseCidr network = base_cidr_network(to);
    base_ip_format(&network.ip, text);
    if (to->n_bits == 0) {
        return match(meta("nfproto"), json_integer(is_ip4 ? NFPROTO_IPV4 : NFPROTO_IPV6));
    }
    return match(payload(is_ip4 ? "ip" : "ip6", "daddr"),
                 to->n_bits == to->ip.n_bytes * 8
                     ? json_string(text)
                     : json_pack("{s:{s:s,s:i}}", "prefix", "addr", text, "len", to->n_bits));
}

/* 0: of any protocol, or of those that have ports. */
static int proto_number(const SpecEgressRule *rule)
{
    static const int numbers[SPEC_EGRESS_PROTO_N] = {
        [SPEC_EGRESS_PROTO_TCP] = IPPROTO_TCP,
        [SPEC_EGRESS_PROTO_UDP] = IPPROTO_UDP,
        [SPEC_EGRESS_PROTO_ICMP] = IPPROTO_ICMP,
    };
    bool is_icmp6 = rule->proto == SPEC_EGRESS_PROTO_ICMP && rule->to.ip.n_bytes != 4;
    return is_icmp6 ? IPPROTO_ICMPV6 : numbers[rule->proto];
}

static json_t *rule_of(const SpecEgressRule *rule, json_t *verdict)
{
    json_t *expressions = json_array();
    int number = proto_number(rule);
    json_array_append_new(expressions, to_prefix(&rule->to));
    if (number) {
        json_array_append_new(expressions, match(meta("l4proto"), json_integer(number)));
    } else if (rule->port_first) {
        json_array_append_new(expressions, with_ports());
    }
    if (rule->port_first) {
        json_array_append_new(
            expressions,
            match(payload("th", "dport"),
                  rule->port_first == rule->port_last
                      ? json_integer(rule->port_first)
                      : json_pack("{s:[i,i]}", "range", rule->port_first, rule->port_last)));
    }
    json_array_append_new(expressions, verdict);
    return expressions;
}

/* next: the chain that has the last word on what is allowed, NULL: nobody else has one. */
static void add_policy(json_t *rules, const SpecEgress *egress, const char *next)
{
    for (unsigned i = 0; !egress->is_hermetic && egress->allow && i < egress->allow->len; i++) {
        json_array_append_new(
            rules, rule_of(egress->allow->pdata[i], next ? go_to(next) : accept_verdict()));
    }
    for (unsigned i = 0; !egress->is_hermetic && egress->deny && i < egress->deny->len; i++) {
        json_array_append_new(rules, rule_of(egress->deny->pdata[i], refuse_verdict()));
    }
    if (egress->is_restricted && !egress->is_hermetic) {
        json_array_append_new(rules, json_pack("[{s:{s:s}}]", "jump", "target", "private"));
    }
    if (egress->is_hermetic || egress->is_default_deny) {
        json_array_append_new(rules, json_pack("[o]", refuse_verdict()));
    }
}

/* The gateway: an address of this host that belongs to the link the question came in by. */
static json_t *dns_rule(void)
{
    json_t *fib = json_pack("{s:{s:s,s:[s,s]}}", "fib", "result", "type", "flags", "daddr", "iif");
    return json_pack("[o,o,o,o]", match(fib, json_string("local")), with_ports(),
                     match(payload("th", "dport"), json_integer(DNS_PORT)), accept_verdict());
}

static bool is_open(const SpecEgress *egress)
{
    return !egress->is_hermetic && !egress->is_restricted && !egress->is_default_deny &&
           (!egress->deny || egress->deny->len == 0);
}

/* Does an "allow" of the machine's own need the network's word? */
static bool needs_second(const NetMember *member)
{
    return !member->egress.is_hermetic && member->egress.allow && member->egress.allow->len &&
           !is_open(&member->net_egress);
}

/* The network's policy as a chain, NULL: none is needed. */
static json_t *second_rules(const NetMember *member)
{
    if (!needs_second(member)) {
        return NULL;
    }
    json_t *rules = json_array();
    add_policy(rules, &member->net_egress, NULL);
    if (!member->net_egress.is_default_deny && !member->net_egress.is_hermetic) {
        json_array_append_new(rules, json_pack("[o]", accept_verdict()));
    }
    return rules;
}

/* The rules of a member's chain (array of arrays of expressions), NULL: it may go anywhere.
 * second: the name of its second chain. */
static json_t *first_rules(const NetMember *member, const char *second)
{
    if (is_open(&member->egress) && is_open(&member->net_egress)) {
        return NULL;
    }
    json_t *rules = json_array();
    bool has_second = needs_second(member);
    if (!member->egress.is_hermetic && !member->net_egress.is_hermetic) {
        json_array_append_new(rules, dns_rule());
    }
    add_policy(rules, &member->egress, has_second ? second : NULL);
    if (has_second) {
        json_array_append_new(rules, json_pack("[o]", go_to(second)));
    } else {
        add_policy(rules, &member->net_egress, NULL);
    }
    return rules;
}

/* --- in the kernel ------------------------------------------------------------ */

/* What a member should have, and has. */
typedef struct {
    NetNftBytes key;
    json_t *json_key;
    json_t *rules, *second; /* NULL: none */
    char *wanted;           /* the chain's name, NULL: none */
    char *found;            /* where the key leads now, NULL: nowhere */
    char *holder;
} Policy;

static void policy_clear(Policy *policy)
{
    json_decref(policy->json_key);
    json_decref(policy->rules);
    json_decref(policy->second);
    g_free(policy->wanted);
    g_free(policy->found);
    g_free(policy->holder);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Policy, policy_clear)

static char *second_name(const char *first)
{
    return g_strconcat(first, "n", NULL);
}

/* The name follows from both chains' rules, so the first one's are made twice: with and without the
 * name of the second. */
static void name_chains(const NetMember *member, Policy *policy)
{
    json_t *unnamed = first_rules(member, "");
    if (!unnamed) {
        return;
    }
    policy->second = second_rules(member);
    json_t *both = json_pack("[o,O*]", unnamed, policy->second);
    char *text = json_dumps(both, JSON_COMPACT);
    policy->wanted = net_nft_member_chain(member->owner, text ? text : "");
    free(text);
    json_decref(both);
    g_autofree char *second = second_name(policy->wanted);
    policy->rules = first_rules(member, second);
}

static bool look(const NetMember *member, bool is_wanted, Policy *policy, GError **error)
{
    char mac[18];
    const char *bridge = member->bridge ? member->bridge : "";
    net_nft_bytes_add_ifname(&policy->key, bridge);
    net_nft_bytes_add(&policy->key, member->mac, sizeof member->mac);
    policy->json_key = json_pack("{s:[s,s]}", "concat", bridge, base_mac_format(member->mac, mac));
    if (is_wanted) {
        name_chains(member, policy);
    }
    return net_nft_get_chain(NET_NFT_INET, "egress", &policy->key, &policy->found, &policy->holder,
                             error);
}

/* "2/5": the second of five */
static char *rule_comment(size_t i, size_t n)
{
    return g_strdup_printf("%zu/%zu", i + 1, n);
}

/* Are a chain's rules all there, and no others? */
static bool chain_has(const char *chain, const json_t *wanted, bool *out_has, GError **error)
{
    g_autoptr(GPtrArray) rules = NULL;
    size_t n = json_array_size(wanted);
    if (!net_nft_list_rules(NFPROTO_INET, NET_NFT_TABLE, chain, &rules, error)) {
        return false;
    }
    *out_has = rules && rules->len == n;
    for (unsigned i = 0; *out_has && i < n; i++) {
        g_autofree char *comment = rule_comment(i, n);
        *out_has = g_strcmp0(((NetNftRule *)rules->pdata[i])->comment, comment) == 0;
    }
    return true;
}

static bool has_rules(const Policy *policy, bool *out_has, GError **error)
{
    if (!chain_has(policy->wanted, policy->rules, out_has, error)) {
        return false;
    }
    g_autofree char *second = second_name(policy->wanted);
    return !*out_has || !policy->second || chain_has(second, policy->second, out_has, error);
}

static void append_chain(NetNftBatch *batch, const char *chain, const json_t *rules)
{
    size_t n = json_array_size(rules), i;
    json_t *rule;
    net_nft_add_chain(batch, NET_NFT_INET, chain);
    net_nft_flush_chain(batch, NET_NFT_INET, chain);
    json_array_foreach(rules, i, rule)
    {
        g_autofree char *comment = rule_comment(i, n);
        net_nft_add_rule(batch, NET_NFT_INET, chain, json_incref(rule), comment);
    }
}

static void append_chains(NetNftBatch *batch, const Policy *policy)
{
    if (policy->second) {
        g_autofree char *second = second_name(policy->wanted);
        append_chain(batch, second, policy->second);
    }
    append_chain(batch, policy->wanted, policy->rules);
}

/* Whether it had a second one only its rules tell: adding it first makes both cases one. */
static void remove_chains(NetNftBatch *batch, const char *chain)
{
    g_autofree char *second = second_name(chain);
    net_nft_flush_chain(batch, NET_NFT_INET, chain);
    net_nft_delete_chain(batch, NET_NFT_INET, chain);
    net_nft_add_chain(batch, NET_NFT_INET, second);
    net_nft_flush_chain(batch, NET_NFT_INET, second);
    net_nft_delete_chain(batch, NET_NFT_INET, second);
}

static void append_difference(NetNftBatch *batch, const NetMember *member, const Policy *policy,
                              bool is_whole)
{
    bool is_same = g_strcmp0(policy->wanted, policy->found) == 0;
    NetNftTwin twin = {.set = "egress",
                       .key = &policy->key,
                       .chain = policy->wanted,
                       .json_key = policy->json_key,
                       .comment = member->owner};
    if (policy->wanted && !(is_same && is_whole)) {
        append_chains(batch, policy);
    }
    if (policy->found && !is_same) {
        net_nft_delete_twin(batch, NET_NFT_INET, &twin);
    }
    if (policy->wanted && !is_same) {
        twin.json_value = json_pack("{s:{s:s}}", "jump", "target", policy->wanted);
        net_nft_add_twin(batch, NET_NFT_INET, &twin);
        json_decref(twin.json_value);
    }
    if (policy->found && !is_same) {
        remove_chains(batch, policy->found);
    }
}

bool net_rules_append_egress(NetNftBatch *batch, const NetMember *member, bool is_wanted,
                             bool *out_changed, GError **error)
{
    g_auto(Policy) policy = {0};
    bool is_whole = true;
    if (!look(member, is_wanted, &policy, error)) {
        return false;
    }
    if (policy.found && g_strcmp0(policy.holder, member->owner) != 0) {
        g_autofree char *who = net_rules_owner_text(policy.holder);
        return !is_wanted || !policy.wanted || /* not ours to remove */
               base_fail(error, VM_ERROR_EXISTS, "another NIC with this MAC is on '%s': %s has it",
                         member->bridge, who);
    }
    if (policy.wanted && g_strcmp0(policy.wanted, policy.found) == 0 &&
        !has_rules(&policy, &is_whole, error)) {
        return false;
    }
    append_difference(batch, member, &policy, is_whole);
    *out_changed = policy.wanted && g_strcmp0(policy.wanted, policy.found) != 0;
    return true;
}

bool net_rules_check_egress(const NetMember *member, GPtrArray *differences, GError **error)
{
    g_auto(Policy) policy = {0};
    bool is_whole = true;
    if (!look(member, true, &policy, error)) {
        return false;
    }
    bool is_same = g_strcmp0(policy.wanted, policy.found) == 0;
    if (policy.wanted && is_same && !has_rules(&policy, &is_whole, error)) {
        return false;
    }
    const char *what = is_same && is_whole ? NULL
                       : !policy.found     ? "is missing"
                       : !policy.wanted    ? "is there, though none was asked for"
                                           : "is another one";
    if (what) {
        g_ptr_array_add(differences, g_strdup_printf("egress policy of %s on %s %s",
                                                     member->machine ? member->machine : "machine",
                                                     member->bridge, what));
    }
    return true;
}

/* --- judging a connection that is there --------------------------------------- */

static bool is_of_host(const BaseIp *ip)
{
    struct ifaddrs *all = NULL;
    bool is_found = false;
    if (getifaddrs(&all)) {
        return false;
    }
    for (const struct ifaddrs *at = all; at && !is_found; at = at->ifa_next) {
        int family = at->ifa_addr ? at->ifa_addr->sa_family : AF_UNSPEC;
        const void *bytes =
            family == AF_INET    ? (void *)&((struct sockaddr_in *)(void *)at->ifa_addr)->sin_addr
            : family == AF_INET6 ? (void *)&((struct sockaddr_in6 *)(void *)at->ifa_addr)->sin6_addr
                                 : NULL;
        is_found = bytes && ip->n_bytes == (family == AF_INET ? 4 : 16) &&
                   !memcmp(bytes, ip->bytes, ip->n_bytes);
    }
    freeifaddrs(all);
    return is_found;
}

static bool is_private(const BaseIp *ip, const NetMember *member)
{
    if ((base_ip_is_set(&member->cidr4.ip) && base_cidr_contains(&member->cidr4, ip)) ||
        (base_ip_is_set(&member->cidr6.ip) && base_cidr_contains(&member->cidr6, ip))) {
        return is_of_host(ip);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(private_ranges); i++) {
        BaseCidr range;
        const char *why;
        if (base_cidr_parse(private_ranges[i], &range, &why) && base_cidr_contains(&range, ip)) {
            return true;
        }
    }
    return is_of_host(ip);
}

static bool fits(const SpecEgressRule *rule, const BaseIp *to, uint8_t ip_proto, uint16_t port)
{
    int number = proto_number(rule);
    bool has_ports = ip_proto == IPPROTO_TCP || ip_proto == IPPROTO_UDP;
    return rule->to.ip.n_bytes == to->n_bytes && base_cidr_contains(&rule->to, to) &&
           (!number || number == ip_proto) &&
           (!rule->port_first ||
            (has_ports && port >= rule->port_first && port <= rule->port_last));
}

static bool fits_any(const GPtrArray *rules, const BaseIp *to, uint8_t ip_proto, uint16_t port)
{
    bool is_found = false;
    for (unsigned i = 0; rules && i < rules->len && !is_found; i++) {
        is_found = fits(rules->pdata[i], to, ip_proto, port);
    }
    return is_found;
}

static bool denies(const SpecEgress *egress, const NetMember *member, const BaseIp *to,
                   uint8_t ip_proto, uint16_t port)
{
    if (!egress->is_hermetic && fits_any(egress->allow, to, ip_proto, port)) {
        return false;
    }
    return egress->is_hermetic || egress->is_default_deny ||
           fits_any(egress->deny, to, ip_proto, port) ||
           (egress->is_restricted && is_private(to, member));
}

bool net_rules_egress_denies(const BaseIp *to, uint8_t ip_proto, uint16_t port, const void *data)
{
    const NetMember *member = data;
    bool is_hermetic = member->egress.is_hermetic || member->net_egress.is_hermetic;
    if (port == DNS_PORT && !is_hermetic && is_of_host(to)) {
        return false;
    }
    return denies(&member->egress, member, to, ip_proto, port) ||
           denies(&member->net_egress, member, to, ip_proto, port);
}
