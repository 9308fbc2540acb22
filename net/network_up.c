#include "net/network.h"

#include <string.h>
#include "base/error.h"
#include "base/failpoint.h"
#include "net/dnsmasq.h"
#include "net/network_internal.h"
#include "net/network_supervisor.h"
#include "net/tap.h"

/*
 * Up: marked first, so that a crash is found; then rules, before there is a bridge that they guard;
 * the bridge; hooks of other programs' tables; dnsmasq's files; the supervisor, which answers when
 * dnsmasq does. Down: the same backwards, but the bridge first: when it can't go, all stays.
 */

static bool passes(const char *point, GError **error)
{
    int errnum = base_failpoint(point);
    if (errnum) {
        base_error_set_errno(error, errnum, "failpoint %s", point);
    }
    return errnum == 0;
}

static bool check_prefix(const NetNetwork *network, const BaseCidr *cidr, const GArray *routes,
                         GError **error)
{
    char own[BASE_CIDR_TEXT_BYTES], other[BASE_CIDR_TEXT_BYTES];
    for (guint i = 0; base_ip_is_set(&cidr->ip) && i < routes->len; i++) {
        const BaseCidr *route = &g_array_index(routes, BaseCidr, i);
        if (route->ip.n_bytes == cidr->ip.n_bytes && base_cidr_overlaps(route, cidr)) {
            return base_fail(error, VM_ERROR_EXISTS,
                             "%s overlaps %s, a route that this host has by now - remove network "
                             "'%s' to get another range",
                             base_cidr_format(cidr, own), base_cidr_format(route, other),
                             network->record->name);
        }
    }
    return true;
}

/* Before there is a bridge: routes of the host may have come since the network was defined. */
static bool check_routes(const NetNetwork *network, GError **error)
{
    bool is_there = false;
    if (!net_bridge_probe(network->record->bridge, &is_there, error)) {
        return false;
    }
    if (is_there) {
        return true;
    }
    g_autoptr(GArray) routes = net_route_list(error);
    return routes && check_prefix(network, &network->record->cidr4, routes, error) &&
           check_prefix(network, &network->record->cidr6, routes, error);
}

static bool begin_bridge(NetNetwork *network, GError **error)
{
    bool is_there = false;
    if (net_record_is_ours(network->record)) {
        g_autofree char *tag = net_bridge_owner_tag(network->store_id, network->record->name);
        NetBridge bridge;
        net_network_describe_bridge(network, tag, &bridge);
        return net_bridge_create(&bridge, error);
    }
    if (!net_bridge_probe(network->record->bridge, &is_there, error)) {
        return false;
    }
    return is_there ? net_network_settle_foreign(network, NULL, error)
                    : base_fail(error, VM_ERROR_NOT_FOUND, "there is no bridge '%s' on this host",
                                network->record->bridge);
}

static bool begin(NetNetwork *network, GError **error)
{
    g_autofree char *owner = net_network_owner(network);
    bool is_ours = net_record_is_ours(network->record);
    NetRulesNetwork rules;
    net_network_describe_rules(network, owner, &rules);
    return (!is_ours || check_routes(network, error)) && passes("network.mark", error) &&
           net_up_set_mark(network->dirfd, NET_IS_UP_FILE, error) &&
           passes("network.rules", error) && net_rules_add_network(&rules, error) &&
           passes("network.bridge", error) && begin_bridge(network, error) &&
           passes("network.hooks", error) && net_rules_add_hooks(&rules, error) &&
           passes("network.files", error) && net_dnsmasq_begin(network, error) &&
           passes("network.supervisor", error) && net_supervisor_begin(network, error) &&
           passes("network.ready", error);
}

bool net_network_up(NetNetwork *network, GError **error)
{
    g_assert(network->lock);
    pid_t elsewhere = net_supervisor_elsewhere(network->dirfd);
    if (elsewhere) {
        return base_fail(error, VM_ERROR_BUSY,
                         "network '%s' is up in another network namespace, that of pid %d - use "
                         "another --state-dir here, or end that process",
                         network->record->name, (int)elsewhere);
    }
    bool was_up = net_network_is_up(network);
    if (begin(network, error)) {
        return true;
    }
    g_prefix_error(error, "network '%s': ", network->record->name);
    if (!was_up) { /* nothing of a failed one stays; when that fails too, gc finds it by its mark */
        g_autofree char *kept = NULL;
        bool was_kept = network->record->is_kept;
        network->record->is_kept = false;
        net_network_down_if_unused(network, &kept, NULL);
        network->record->is_kept = was_kept;
    }
    return false;
}

/* A port of the bridge that no member of ours has; NULL: none, or no bridge. */
static char *find_foreign_port(NetNetwork *network)
{
    g_autoptr(GPtrArray) ports = net_bridge_ports(network->record->bridge, NULL);
    for (guint i = 0; ports && i < ports->len; i++) {
        if (!net_network_has_port(network, ports->pdata[i])) {
            return g_strdup(ports->pdata[i]);
        }
    }
    return NULL;
}

/* *out_kept: why the bridge stays. */
static bool end_bridge(NetNetwork *network, char **out_kept, GError **error)
{
    g_autoptr(GError) problem = NULL;
    if (!net_record_is_ours(network->record)) {
        return true;
    }
    g_autofree char *port = find_foreign_port(network);
    if (port) {
        *out_kept = g_strdup_printf("bridge '%s' stays: '%s', which is not ours, is on it",
                                    network->record->bridge, port);
        return true;
    }
    g_autofree char *tag = net_bridge_owner_tag(network->store_id, network->record->name);
    if (net_bridge_remove(network->record->bridge, tag, &problem)) {
        return true;
    }
    if (g_error_matches(problem, VM_ERROR, VM_ERROR_BUSY)) {
        *out_kept = g_strdup(problem->message);
        return true;
    }
    if (g_error_matches(problem, VM_ERROR, VM_ERROR_EXISTS)) { /* a foreign one of its name */
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
}

static bool end(NetNetwork *network, GError **error)
{
    g_autofree char *owner = net_network_owner(network);
    NetRulesNetwork rules;
    net_network_describe_rules(network, owner, &rules);
    return passes("network.end-supervisor", error) && net_supervisor_end(network->dirfd, error) &&
           passes("network.end-files", error) &&
           net_dnsmasq_end(network->store_id, network->record->name, error) &&
           passes("network.end-rules", error) && net_rules_remove_hooks(&rules, error) &&
           net_rules_remove_network(&rules, error) && passes("network.end-mark", error) &&
           net_up_clear_mark(network->dirfd, NET_IS_UP_FILE, error);
}

/* Of an earlier boot: only files are left. */
static bool end_stale(NetNetwork *network, GError **error)
{
    return net_supervisor_end(network->dirfd, error) &&
           net_dnsmasq_end(network->store_id, network->record->name, error) &&
           net_up_clear_mark(network->dirfd, NET_IS_UP_FILE, error);
}

bool net_network_down_if_unused(NetNetwork *network, char **out_kept, GError **error)
{
    g_autofree char *kept = NULL;
    g_assert(network->lock);
    if (out_kept) {
        *out_kept = NULL;
    }
    if (network->is_gone) {
        return true;
    }
    pid_t elsewhere = net_supervisor_elsewhere(network->dirfd);
    if (elsewhere) {
        if (out_kept) {
            *out_kept = g_strdup_printf("it is up in another network namespace, that of pid %d",
                                        (int)elsewhere);
        }
        return true;
    }
    bool is_up = net_network_is_up(network);
    if (is_up && (network->record->is_kept || net_network_has_up_member(network))) {
        return true;
    }
    bool is_done = !is_up ? end_stale(network, error)
                          : end_bridge(network, &kept, error) && (kept || end(network, error));
    if (!is_done) {
        g_prefix_error(error, "network '%s': ", network->record->name);
        return false;
    }
    if (out_kept) {
        *out_kept = g_steal_pointer(&kept);
    }
    return true;
}
