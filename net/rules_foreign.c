#include "net/rules.h"

#include <fcntl.h>
#include <netinet/in.h> /* before linux/netfilter.h, which has another one */
#include <linux/netfilter.h>
#include <linux/netfilter_bridge.h>
#include <string.h>
#include "base/error.h"
#include "base/file.h"
#include "base/report.h"
#include "net/rules_internal.h"

/*
 * How it works: packets are thought through the base chains of all other tables: one that a
 * guest sends out, one that comes in by a port map, a guest's question for this host's DNS ... A
 * rule counts where all its conditions are certain; one that asks what can't be known here (an
 * address, a connection's mark, an extension of iptables) is passed over, so nothing is accused on
 * suspicion, and a drop is told where nothing before surely accepts.
 */
typedef enum { SURELY_NOT, PERHAPS, SURELY } Certainty;
typedef enum { GOES_ON, RETURNS, ACCEPTED, DROPPED } Outcome;

enum { DEPTH_MAX = 16, PROC_MAX_BYTES = 1024 * 1024, NAMES_MAX_BYTES = 4096 };

typedef struct {
    const char *what; /* for people; %s: the bridge */
    uint32_t hook;
    bool is_from_guest; /* the bridge is where it comes from; else where it goes to */
    bool is_mapped;     /* by a port map */
    bool is_frame;      /* judged by the family bridge, whose links are taps; else by the others */
} PacketKind;

static const PacketKind kinds[] = {
    {"what guests on '%s' send out", NF_INET_FORWARD, true, false, false},
    {"what comes in for guests on '%s'", NF_INET_FORWARD, false, true, false},
    {"what guests on '%s' ask this host for (DNS)", NF_INET_LOCAL_IN, true, false, false},
    {"what guests on '%s' send each other", NF_BR_FORWARD, true, false, true},
    {"what guests on '%s' send to this host", NF_BR_LOCAL_IN, true, false, true},
};

#define ANY_TAP "vmt000000000000" /* stands for all of them */

typedef struct {
    const PacketKind *kind;
    const char *bridge;
    const char *uplink;    /* the other side, NULL: not known */
    const json_t *ruleset; /* of one table: the array "nftables" */
    char *culprit;         /* out: chain and rule, owned */
} Walk;

/* --- conditions --------------------------------------------------------------- */

static Certainty certainly(bool is_true)
{
    return is_true ? SURELY : SURELY_NOT;
}

/* Is `name` the text, or does it fit its wildcard ("docker*")? */
static bool fits_name(const char *pattern, const char *name)
{
    size_t n = strlen(pattern);
    return n > 0 && pattern[n - 1] == '*' ? !strncmp(pattern, name, n - 1) : !strcmp(pattern, name);
}

/* Any of a right side: a text, or a set or list of texts. */
static Certainty fits_any(const json_t *right, const char *name)
{
    const json_t *set = json_object_get(right, "set");
    const json_t *list = set ? set : right;
    if (json_is_string(list)) {
        const char *pattern = json_string_value(list);
        return *pattern == '@' ? PERHAPS : certainly(fits_name(pattern, name));
    }
    if (!json_is_array(list)) {
        return PERHAPS;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *pattern = json_string_value(json_array_get(list, i));
        if (!pattern) {
            return PERHAPS;
        }
        if (fits_name(pattern, name)) {
            return SURELY;
        }
    }
    return SURELY_NOT;
}

static Certainty fits_link(const Walk *walk, const json_t *right, bool is_in)
{
    bool is_bridge = is_in == walk->kind->is_from_guest;
    if (!is_in && walk->kind->hook == NF_INET_LOCAL_IN) {
        return SURELY_NOT; /* leaves by no link */
    }
    if (!is_bridge && !walk->uplink && !walk->kind->is_frame) {
        return PERHAPS;
    }
    return fits_any(right, walk->kind->is_frame ? ANY_TAP
                           : is_bridge          ? walk->bridge
                                                : walk->uplink);
}

static Certainty fits_ct(const Walk *walk, const json_t *ct, const json_t *right)
{
    const char *key = json_string_value(json_object_get(ct, "key"));
    if (g_strcmp0(key, "state") == 0) {
        return fits_any(right, "new");
    }
    if (g_strcmp0(key, "status") == 0) {
        Certainty is_dnat = fits_any(right, "dnat");
        return is_dnat == SURELY ? certainly(walk->kind->is_mapped) : PERHAPS;
    }
    return PERHAPS;
}

static Certainty fits_match(const Walk *walk, const json_t *match)
{
    const json_t *left = json_object_get(match, "left"), *right = json_object_get(match, "right");
    const json_t *ct = json_object_get(left, "ct");
    const char *key = json_string_value(json_object_get(json_object_get(left, "meta"), "key"));
    const char *op = json_string_value(json_object_get(match, "op"));
    Certainty result = PERHAPS;
    if (ct) {
        result = fits_ct(walk, ct, right);
    } else if (!g_strcmp0(key, "iifname") || !g_strcmp0(key, "iif")) {
        result = fits_link(walk, right, true);
    } else if (!g_strcmp0(key, "oifname") || !g_strcmp0(key, "oif")) {
        result = fits_link(walk, right, false);
    }
    bool is_opposite = g_strcmp0(op, "!=") == 0;
    return !is_opposite || result == PERHAPS ? result : certainly(result == SURELY_NOT);
}

/* Does it name our bridge, for certain? Then an address that goes with it is most likely ours. */
static bool names_bridge(const Walk *walk, const json_t *match)
{
    const json_t *right = json_object_get(match, "right");
    return json_is_string(right) && !strcmp(json_string_value(right), walk->bridge) &&
           fits_match(walk, match) == SURELY;
}

/* --- rules -------------------------------------------------------------------- */

static Outcome walk_chain(Walk *walk, const char *chain, unsigned depth);

static Outcome drop_at(Walk *walk, const json_t *rule, const char *verdict)
{
    g_free(walk->culprit);
    walk->culprit = g_strdup_printf("chain %s: %s (rule with handle %" JSON_INTEGER_FORMAT ")",
                                    json_string_value(json_object_get(rule, "chain")), verdict,
                                    json_integer_value(json_object_get(rule, "handle")));
    return DROPPED;
}

/* What one expression of a rule whose conditions hold does. */
static Outcome take_verdict(Walk *walk, const json_t *rule, const char *key, const json_t *value,
                            unsigned depth)
{
    const char *target = json_string_value(json_object_get(value, "target"));
    const char *extension = json_string_value(json_object_get(value, "name"));
    if (!strcmp(key, "accept")) {
        return ACCEPTED;
    }
    if (!strcmp(key, "return")) {
        return RETURNS;
    }
    if (!strcmp(key, "drop") || !strcmp(key, "reject")) {
        return drop_at(walk, rule, key);
    }
    if (!strcmp(key, "xt") && g_strcmp0(extension, "REJECT") == 0) {
        return drop_at(walk, rule, "REJECT");
    }
    if ((!strcmp(key, "jump") || !strcmp(key, "goto")) && target && depth < DEPTH_MAX) {
        Outcome inner = walk_chain(walk, target, depth + 1);
        return inner == RETURNS || inner == GOES_ON ? *key == 'g' ? RETURNS : GOES_ON : inner;
    }
    return GOES_ON;
}

static bool is_condition(const char *key, const json_t *value)
{
    const char *type = json_string_value(json_object_get(value, "type"));
    return !strcmp(key, "match") || !strcmp(key, "limit") || !strcmp(key, "vmap") ||
           (!strcmp(key, "xt") && g_strcmp0(type, "match") == 0);
}

static bool is_accepting(const json_t *expressions)
{
    size_t n = json_array_size(expressions);
    return n > 0 && json_object_get(json_array_get(expressions, n - 1), "accept");
}

/* Do all conditions hold? */
static Certainty weigh(const Walk *walk, const json_t *expressions)
{
    bool is_sure = true, is_of_bridge = false;
    for (size_t i = 0; i < json_array_size(expressions); i++) {
        const char *key;
        json_t *value;
        json_object_foreach(json_array_get(expressions, i), key, value)
        {
            if (!is_condition(key, value)) {
                continue;
            }
            Certainty one = strcmp(key, "match") ? PERHAPS : fits_match(walk, value);
            if (one == SURELY_NOT) {
                return SURELY_NOT;
            }
            is_sure &= one == SURELY;
            is_of_bridge |= !strcmp(key, "match") && names_bridge(walk, value);
        }
    }
    return is_sure || (is_of_bridge && is_accepting(expressions)) ? SURELY : PERHAPS;
}

static Outcome walk_rule(Walk *walk, const json_t *rule, unsigned depth)
{
    json_t *expressions = json_object_get(rule, "expr");
    Outcome outcome = GOES_ON;
    if (weigh(walk, expressions) != SURELY) {
        return GOES_ON;
    }
    for (size_t i = 0; i < json_array_size(expressions) && outcome == GOES_ON; i++) {
        const char *key;
        json_t *value;
        json_object_foreach(json_array_get(expressions, i), key, value)
        {
            outcome = take_verdict(walk, rule, key, value, depth);
        }
    }
    return outcome;
}

static Outcome walk_chain(Walk *walk, const char *chain, unsigned depth)
{
    Outcome outcome = GOES_ON;
    for (size_t i = 0; i < json_array_size(walk->ruleset) && outcome == GOES_ON; i++) {
        const json_t *rule = json_object_get(json_array_get(walk->ruleset, i), "rule");
        const char *its = json_string_value(json_object_get(rule, "chain"));
        if (its && !strcmp(its, chain)) {
            outcome = walk_rule(walk, rule, depth);
        }
    }
    return outcome;
}

/* --- tables ------------------------------------------------------------------- */

static const struct {
    uint8_t nfproto;
    const char *name;
} families[] = {
    {NFPROTO_IPV4, "ip"},
    {NFPROTO_IPV6, "ip6"},
    {NFPROTO_INET, "inet"},
    {NFPROTO_BRIDGE, "bridge"},
};

/* NULL: of a family that these packets don't meet. */
static const char *family_name(uint8_t nfproto)
{
    for (gsize i = 0; i < G_N_ELEMENTS(families); i++) {
        if (families[i].nfproto == nfproto) {
            return families[i].name;
        }
    }
    return NULL;
}

static bool has_chains_of_ufw(const json_t *ruleset)
{
    for (size_t i = 0; i < json_array_size(ruleset); i++) {
        const json_t *chain = json_object_get(json_array_get(ruleset, i), "chain");
        const char *name = json_string_value(json_object_get(chain, "name"));
        if (name && g_str_has_prefix(name, "ufw")) {
            return true;
        }
    }
    return false;
}

/* What people can do about it. */
static char *advice(const char *table, const json_t *ruleset, const char *bridge)
{
    if (!strcmp(table, "firewalld")) {
        return g_strdup_printf("firewall-cmd --zone=trusted --add-interface=%s", bridge);
    }
    return has_chains_of_ufw(ruleset)
               ? g_strdup_printf("ufw allow in on %s; ufw route allow in on %s", bridge, bridge)
               : g_strdup_printf("accept '%s' there before that rule", bridge);
}

static void tell(const Walk *walk, const char *family, const char *table, GPtrArray *out_texts)
{
    g_autofree char *shown = base_report_escape(walk->culprit, 200);
    g_autofree char *shown_table = base_report_escape(table, 100);
    g_auto(GStrv) parts = g_strsplit(walk->kind->what, "%s", 2);
    g_autofree char *what = g_strjoinv(walk->bridge, parts);
    g_autofree char *help = advice(table, walk->ruleset, walk->bridge);
    g_ptr_array_add(out_texts, g_strdup_printf("table %s %s, %s drops %s - %s", family, shown_table,
                                               shown, what, help));
}

static void judge_chain(const NetNftChain *chain, const json_t *ruleset, const char *bridge,
                        const char *uplink, GPtrArray *out_texts)
{
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        bool is_of_frames = chain->nfproto == NFPROTO_BRIDGE;
        if (kinds[i].hook != chain->hook || kinds[i].is_frame != is_of_frames) {
            continue;
        }
        Walk walk = {.kind = &kinds[i], .bridge = bridge, .uplink = uplink, .ruleset = ruleset};
        Outcome outcome = walk_chain(&walk, chain->chain, 0);
        if (outcome != ACCEPTED && outcome != DROPPED && chain->is_dropping) {
            walk.culprit = g_strdup_printf("chain %s: policy drop", chain->chain);
        }
        if (walk.culprit) {
            tell(&walk, family_name(chain->nfproto), chain->table, out_texts);
        }
        g_free(walk.culprit);
    }
}

/* All of one table, as libnftables tells it. */
static json_t *list_table(const NetNftChain *chain, GError **error)
{
    g_autoptr(NetNftBatch) batch = net_nft_batch_new();
    net_nft_add_command(batch, json_pack("{s:{s:{s:s,s:s}}}", "list", "table", "family",
                                         family_name(chain->nfproto), "name", chain->table));
    return net_nft_ask(batch, error);
}

static bool judge_tables(const GPtrArray *chains, const char *bridge, const char *uplink,
                         GPtrArray *out_texts, GError **error)
{
    json_t *answer = NULL;
    const NetNftChain *listed = NULL;
    for (unsigned i = 0; i < chains->len; i++) {
        const NetNftChain *chain = chains->pdata[i];
        bool is_met = chain->hook == NF_INET_FORWARD || chain->hook == NF_INET_LOCAL_IN;
        if (!is_met || !family_name(chain->nfproto)) {
            continue;
        }
        if (!listed || listed->nfproto != chain->nfproto || strcmp(listed->table, chain->table)) {
            json_decref(answer);
            answer = list_table(chain, error);
            listed = chain;
        }
        if (!answer) {
            return false;
        }
        judge_chain(chain, json_object_get(answer, "nftables"), bridge, uplink, out_texts);
    }
    json_decref(answer);
    return true;
}

/* --- what nf_tables does not show --------------------------------------------- */

/* Tables of the old iptables (proc(5): one name a line). */
static void tell_legacy(const char *path, const char *program, GPtrArray *out_texts)
{
    g_autofree char *text = base_file_read(AT_FDCWD, path, NAMES_MAX_BYTES, NULL, NULL);
    g_auto(GStrv) names = g_strsplit(text ? text : "", "\n", -1);
    if (g_strv_contains((const char *const *)names, "filter")) {
        g_ptr_array_add(
            out_texts, g_strdup_printf("%s has a table 'filter' of the old kind, whose rules can't "
                                       "be seen from here and may drop - look at: %s -S",
                                       program, program));
    }
}

/* Is any port mapped at ::1, or everywhere? */
static bool has_loopback6_ports(bool *out_has, GError **error)
{
    g_autoptr(GPtrArray) any = net_nft_list(NET_NFT_INET, "pm6any", error);
    g_autoptr(GPtrArray) at = any ? net_nft_list(NET_NFT_INET, "pm6", error) : NULL;
    if (!at) {
        return false;
    }
    *out_has = any->len > 0;
    for (unsigned i = 0; i < at->len; i++) {
        const NetNftElement *element = at->pdata[i];
        *out_has |= !memcmp(element->key.bytes, &in6addr_loopback, sizeof in6addr_loopback);
    }
    return true;
}

/* With bridge-nf-call-ip6tables the answer gets its address ::1 back while it is still on the
 * bridge, and ip6_rcv_core() drops whatever comes to ::1 from outside (RFC 4291 2.5.3; Linux 6.18).
 */
bool net_rules_find_limits(GPtrArray *out_texts, GError **error)
{
    bool has_ports = false;
    g_autofree char *setting = base_file_read(
        AT_FDCWD, "/proc/sys/net/bridge/bridge-nf-call-ip6tables", NAMES_MAX_BYTES, NULL, NULL);
    if (!setting || *setting != '1') {
        return true;
    }
    if (!has_loopback6_ports(&has_ports, error)) {
        return false;
    }
    if (has_ports) {
        g_ptr_array_add(out_texts,
                        g_strdup("net.bridge.bridge-nf-call-ip6tables is 1: ports get no answer at "
                                 "[::1] (all other addresses do) - use 127.0.0.1, or set it to 0"));
    }
    return true;
}

/* The link of the IPv4 default route, NULL: none. Transfer full. /proc/net/route: name, destination
 * and more; proc(5). */
static char *find_uplink(void)
{
    g_autofree char *text =
        base_file_read(AT_FDCWD, "/proc/thread-self/net/route", PROC_MAX_BYTES, NULL, NULL);
    g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", -1);
    for (char **line = lines; *line; line++) {
        g_auto(GStrv) fields = g_strsplit(*line, "\t", 9);
        if (g_strv_length(fields) > 7 && !strcmp(fields[1], "00000000") &&
            !strcmp(fields[7], "00000000")) {
            return g_strdup(fields[0]);
        }
    }
    return NULL;
}

bool net_rules_find_foreign_drops(const char *bridge, GPtrArray *out_texts, GError **error)
{
    g_autofree char *uplink = find_uplink();
    g_autoptr(GPtrArray) chains = net_nft_list_foreign_chains(error);
    if (!chains) {
        return false;
    }
    tell_legacy("/proc/thread-self/net/ip_tables_names", "iptables-legacy", out_texts);
    tell_legacy("/proc/thread-self/net/ip6_tables_names", "ip6tables-legacy", out_texts);
    return judge_tables(chains, bridge, uplink, out_texts, error);
}
