#include "net/network.h"

#include <string.h>
#include "base/error.h"
#include "net/dnsmasq.h"
#include "net/link.h"
#include "net/network_internal.h"
#include "net/network_supervisor.h"
#include "net/shape.h"
#include "net/tap.h"

/*
 * What should be there, part by part. Each part only looks; mending is what a start does anyway
 * (net_network_up(), net_rules_apply()), which writes differences alone, and then all is looked at
 * once more: what is gone from the lines was mended.
 */
typedef struct {
    NetNetwork *network;
    GPtrArray *lines; /* of char* */
    bool is_fix;
} Check;

G_GNUC_PRINTF(2, 3) static void tell(const Check *check, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    g_ptr_array_add(check->lines, g_strdup_vprintf(format, arguments));
    va_end(arguments);
}

/* --- the network ------------------------------------------------------------------------------ */

static bool check_bridge(const Check *check, GError **error)
{
    NetNetwork *network = check->network;
    if (!net_record_is_ours(network->record)) {
        g_autoptr(NetSocket) sock = net_socket_open(error);
        g_autoptr(NetLink) link = NULL;
        if (!sock || !net_link_find(sock, network->record->bridge, &link, error)) {
            return false;
        }
        if (!link) {
            tell(check, "bridge '%s', which is not ours, is missing", network->record->bridge);
        }
        return !link || net_network_settle_foreign(network, check->lines, error);
    }
    g_autofree char *tag = net_bridge_owner_tag(network->store_id, network->record->name);
    NetBridge bridge;
    net_network_describe_bridge(network, tag, &bridge);
    return net_bridge_check(&bridge, check->lines, error);
}

static bool check_network_rules(const Check *check, GError **error)
{
    g_autofree char *owner = net_network_owner(check->network);
    NetRulesNetwork rules;
    net_network_describe_rules(check->network, owner, &rules);
    return net_rules_check_network(&rules, check->lines, error) &&
           net_rules_check_hooks(&rules, check->lines, error);
}

static void check_supervisor(const Check *check)
{
    NetSupervisor state;
    net_supervisor_find(check->network->dirfd, &state);
    if (!state.pid) {
        tell(check, "the supervisor is not running");
    } else if (net_dnsmasq_is_needed(check->network) && !state.dnsmasq_pid) {
        tell(check, "dnsmasq is not running");
    }
}

/* --- members ---------------------------------------------------------------------------------- */

/* Puts a tap back on the bridge. One that is gone is QEMU's loss: only a restart helps. */
static bool check_tap(const Check *check, NetSocket *sock, const NetMember *member, GError **error)
{
    g_autoptr(NetLink) tap = NULL, bridge = NULL;
    if (!net_link_find(sock, member->tap, &tap, error) ||
        !net_link_find(sock, check->network->record->bridge, &bridge, error)) {
        return false;
    }
    if (!tap || !net_link_has_altname(tap, member->tap_tag)) {
        tell(check, "tap '%s' of machine '%s' %s - restart the machine", member->tap,
             member->machine, tap ? "is not ours" : "is missing");
        return true;
    }
    NetLinkChange change = {.sets_up = !tap->is_up && !member->is_link_down};
    if (bridge && tap->bridge_index != bridge->index) {
        tell(check, "tap '%s' of machine '%s' is not on bridge '%s'", member->tap, member->machine,
             bridge->name);
        change.bridge_index = &bridge->index;
    }
    if (change.sets_up) {
        tell(check, "tap '%s' of machine '%s' is down", member->tap, member->machine);
    }
    return !check->is_fix || net_link_change(sock, tap, &change, error);
}

static bool check_shape(const Check *check, const NetMember *member, GError **error)
{
    guint n_before = check->lines->len;
    if (!member->rate_in_bps && !member->rate_out_bps) {
        return true;
    }
    if (!net_shape_check(member->tap, member->tap_tag, member->rate_in_bps, member->rate_out_bps,
                         check->lines, error)) {
        return false;
    }
    return !check->is_fix || check->lines->len == n_before ||
           net_shape_apply(member->tap, member->tap_tag, member->rate_in_bps, member->rate_out_bps,
                           error);
}

/* All at once: the base rules are looked at once then. What differs is mended one by one, since
 * what can't be mended for one member (its port is another's by now) must not keep the others from
 * it. */
static bool check_rules(const Check *check, GPtrArray *up, GError **error)
{
    guint n_before = check->lines->len;
    if (!net_rules_check((NetMember *const *)up->pdata, up->len, check->lines, error)) {
        return false;
    }
    if (check->lines->len == n_before || !check->is_fix) {
        return true;
    }
    for (guint i = 0; i < up->len; i++) {
        NetMember *member = up->pdata[i];
        g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(GError) problem = NULL;
        if (!net_rules_check(&member, 1, lines, &problem) ||
            (lines->len > 0 && !net_rules_apply(&member, 1, NULL, 0, &problem))) {
            tell(check, "machine '%s': %s", member->machine, problem->message);
        }
    }
    return true;
}

static bool check_links(const Check *check, const GPtrArray *up, GError **error)
{
    g_autoptr(NetSocket) sock = net_socket_open(error);
    for (guint i = 0; sock && i < up->len; i++) {
        const NetMember *member = up->pdata[i];
        g_autoptr(GError) problem = NULL;
        if (member->tap && member->tap_tag &&
            (!check_tap(check, sock, member, &problem) || !check_shape(check, member, &problem))) {
            tell(check, "machine '%s': %s", member->machine, problem->message);
        }
    }
    return sock != NULL;
}

static bool check_members(const Check *check, GError **error)
{
    if (!net_network_settle_egress(check->network, check->is_fix, check->lines, error)) {
        return false;
    }
    const GPtrArray *members = net_network_members(check->network, error);
    g_autoptr(GPtrArray) up = g_ptr_array_new();
    for (guint i = 0; members && i < members->len; i++) {
        NetMember *member = members->pdata[i];
        if (member->is_up) {
            g_ptr_array_add(up, member);
        }
    }
    for (guint i = 0; members && i < check->network->damaged->len; i++) {
        tell(check,
             "record of member '%s' is damaged - start its machine again, or run 'vm-run gc'",
             (char *)check->network->damaged->pdata[i]);
    }
    return members && check_rules(check, up, error) && check_links(check, up, error);
}

/* --- all of it -------------------------------------------------------------------------------- */

/* Should it be up? After a boot of the host nothing is, and what is kept comes back by a check. */
static bool is_wanted_up(const NetNetwork *network)
{
    return network->record->is_kept || net_network_has_up_member(network);
}

/* Not up: nothing of it may be there. */
static bool check_down(const Check *check, GError **error)
{
    const NetNetwork *network = check->network;
    g_autoptr(GPtrArray) bridges = net_bridge_list(error);
    g_autofree char *tag = net_bridge_owner_tag(network->store_id, network->record->name);
    NetSupervisor state;
    net_supervisor_find(network->dirfd, &state);
    if (state.pid) {
        tell(check, "the network is not up, but its supervisor runs (pid %d)", (int)state.pid);
    }
    for (guint i = 0; bridges && i < bridges->len; i++) {
        const char *space = strchr(bridges->pdata[i], ' ');
        if (space && !strcmp(space + 1, tag)) {
            tell(check, "the network is not up, but its bridge '%.*s' is there",
                 (int)(space - (char *)bridges->pdata[i]), (char *)bridges->pdata[i]);
        }
    }
    return bridges != NULL;
}

static bool look(const Check *check, GError **error)
{
    NetNetwork *network = check->network;
    pid_t elsewhere = net_supervisor_elsewhere(network->dirfd);
    if (elsewhere) {
        tell(check, "the network is up in another network namespace, that of pid %d",
             (int)elsewhere);
        return true;
    }
    if (!net_network_is_up(network) && is_wanted_up(network)) {
        tell(check, "the network is not up");
        return true;
    }
    if (!net_network_is_up(network)) {
        return check_down(check, error);
    }
    if (!check_bridge(check, error) || !check_network_rules(check, error) ||
        !net_dnsmasq_check(network, check->is_fix, check->lines, error)) {
        return false;
    }
    check_supervisor(check);
    return true;
}

static bool mend(const Check *check, GError **error)
{
    if (check->lines->len == 0 || net_supervisor_elsewhere(check->network->dirfd)) {
        return true;
    }
    if (net_network_is_up(check->network) || is_wanted_up(check->network)) {
        return net_rules_mend_base(error) && net_network_up(check->network, error);
    }
    return net_network_down_if_unused(check->network, NULL, error);
}

static bool has_line(const GPtrArray *lines, const char *line)
{
    for (guint i = 0; i < lines->len; i++) {
        if (!strcmp(lines->pdata[i], line)) {
            return true;
        }
    }
    return false;
}

static void append_copies(GPtrArray *to, const GPtrArray *lines, const GPtrArray *without)
{
    for (guint i = 0; to && i < lines->len; i++) {
        if (!without || !has_line(without, lines->pdata[i])) {
            g_ptr_array_add(to, g_strdup(lines->pdata[i]));
        }
    }
}

/* The network first, members only when it stands again: their rules need its table. */
static bool run(NetNetwork *network, bool is_fix, GPtrArray *lines, GError **error)
{
    Check check = {.network = network, .lines = lines, .is_fix = is_fix};
    return look(&check, error) && (!is_fix || mend(&check, error)) &&
           (!net_network_is_up(network) || check_members(&check, error));
}

bool net_network_check(NetNetwork *network, bool is_fix, GPtrArray *differences,
                       GPtrArray *out_fixed, GError **error)
{
    g_autoptr(GPtrArray) before = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) after = g_ptr_array_new_with_free_func(g_free);
    bool is_done = run(network, is_fix, before, error);
    if (is_done && is_fix && before->len > 0) {
        is_done = run(network, false, after, error);
        append_copies(out_fixed, before, after);
        append_copies(differences, after, NULL);
    } else {
        append_copies(differences, before, NULL);
    }
    if (!is_done) {
        g_prefix_error(error, "network '%s': ", network->record->name);
    }
    return is_done;
}

/* --- what others put there -------------------------------------------------------------------- */

bool net_network_find_foreign(NetNetwork *network, GPtrArray *out_texts, GError **error)
{
    const char *bridge = network->record->bridge;
    bool is_there = false;
    if (!net_record_is_ours(network->record) || !net_network_is_up(network)) {
        return true;
    }
    if (!net_bridge_probe(bridge, &is_there, error)) {
        return false;
    }
    if (!is_there) {
        return true;
    }
    g_autoptr(GPtrArray) ports = net_bridge_ports(bridge, error);
    g_autoptr(GPtrArray) addresses = ports ? net_bridge_foreign_addresses(bridge, error) : NULL;
    for (guint i = 0; ports && i < ports->len; i++) {
        if (!net_network_has_port(network, ports->pdata[i])) {
            g_ptr_array_add(out_texts, g_strdup_printf("'%s', which is not ours, is on bridge '%s'",
                                                       (const char *)ports->pdata[i], bridge));
        }
    }
    for (guint i = 0; addresses && i < addresses->len; i++) {
        g_ptr_array_add(out_texts,
                        g_strdup_printf("bridge '%s' has address %s, added by somebody else",
                                        bridge, (const char *)addresses->pdata[i]));
    }
    return addresses;
}
