#include "net/bridge_forward.h"

#include <sys/socket.h>
#include "base/error.h"
#include "net/link.h"
#include "net/route.h"
#include "net/sysctl.h"

enum { RA_AS_HOST = 1, RA_ALWAYS = 2 }; /* accept_ra: unless, or also when, this is a router */

static const char *const family_names[] = {[NET_SYSCTL_IPV4] = "ipv4", [NET_SYSCTL_IPV6] = "ipv6"};

static bool settle(NetSysctlFamily family, const char *link, const char *key, int value,
                   GPtrArray *differences, GError **error)
{
    if (!differences) {
        return net_sysctl_ensure(family, link, key, value, error);
    }
    int found = 0;
    if (!net_sysctl_read(family, link, key, &found, error)) {
        return false;
    }
    if (found != value) {
        g_ptr_array_add(differences,
                        g_strdup_printf("net.%s.conf.%s.%s is %d, not %d", family_names[family],
                                        link, key, found, value));
    }
    return true;
}

/* For a link that may go away while we look at it: no such setting is no mistake then. */
static bool settle_if_there(NetSysctlFamily family, const char *link, const char *key, int value,
                            GPtrArray *differences, GError **error)
{
    GError *problem = NULL;
    if (settle(family, link, key, value, differences, &problem) ||
        g_error_matches(problem, VM_ERROR, VM_ERROR_NOT_FOUND)) {
        g_clear_error(&problem);
        return true;
    }
    g_propagate_error(error, problem);
    return false;
}

typedef bool (*SettleFn)(const char *link, GPtrArray *differences, GError **error);

/* For all links that a default route of the family goes out by. */
static bool settle_uplinks(NetSocket *sock, int family, bool only_ra, SettleFn settle_one,
                           GPtrArray *differences, GError **error)
{
    g_autoptr(GArray) uplinks = net_route_uplinks(sock, family, only_ra, error);
    for (guint i = 0; uplinks && i < uplinks->len; i++) {
        g_autoptr(NetLink) link = NULL;
        if (!net_link_find_index(sock, g_array_index(uplinks, unsigned, i), &link, error)) {
            return false;
        }
        if (link && !settle_one(link->name, differences, error)) {
            return false;
        }
    }
    return uplinks != NULL;
}

static bool forward4(const char *link, GPtrArray *differences, GError **error)
{
    return settle_if_there(NET_SYSCTL_IPV4, link, "forwarding", 1, differences, error);
}

static bool force_forward6(const char *link, GPtrArray *differences, GError **error)
{
    return settle_if_there(NET_SYSCTL_IPV6, link, "force_forwarding", 1, differences, error);
}

static bool keep_router(const char *link, GPtrArray *differences, GError **error)
{
    int found = 0;
    if (!net_sysctl_read(NET_SYSCTL_IPV6, link, "accept_ra", &found, NULL) || found != RA_AS_HOST) {
        return true;
    }
    return settle_if_there(NET_SYSCTL_IPV6, link, "accept_ra", RA_ALWAYS, differences, error);
}

bool net_bridge_settle_forward_all(NetSocket *sock, GPtrArray *differences, GError **error)
{
    int found = 0;
    if (!net_sysctl_read(NET_SYSCTL_IPV6, "all", "forwarding", &found, error)) {
        return false;
    }
    return found == 1 || (settle_uplinks(sock, AF_INET6, true, keep_router, differences, error) &&
                          settle(NET_SYSCTL_IPV6, "all", "forwarding", 1, differences, error));
}

static bool settle_forward4(NetSocket *sock, const char *bridge, GPtrArray *differences,
                            GError **error)
{
    return settle(NET_SYSCTL_IPV4, bridge, "forwarding", 1, differences, error) &&
           settle_uplinks(sock, AF_INET, false, forward4, differences, error);
}

static bool settle_forward6(NetSocket *sock, const char *bridge, GPtrArray *differences,
                            GError **error)
{
    if (!net_sysctl_exists(NET_SYSCTL_IPV6, "force_forwarding")) {
        return net_bridge_settle_forward_all(sock, differences, error);
    }
    return settle(NET_SYSCTL_IPV6, bridge, "force_forwarding", 1, differences, error) &&
           settle_uplinks(sock, AF_INET6, false, force_forward6, differences, error);
}

bool net_bridge_settle_sysctls(NetSocket *sock, const NetBridge *bridge, GPtrArray *differences,
                               GError **error)
{
    bool forwards = bridge->mode != SPEC_NET_MODE_ISOLATED || bridge->has_ports;
    bool has_ipv6 = net_sysctl_exists(NET_SYSCTL_IPV6, "accept_ra");
    if (bridge->n_bits6 && !has_ipv6) {
        return base_fail(error, VM_ERROR_UNSUPPORTED,
                         "bridge '%s': this kernel has no IPv6 - take cidr6 out of the network",
                         bridge->name);
    }
    if ((has_ipv6 && !settle(NET_SYSCTL_IPV6, bridge->name, "accept_ra", 0, differences, error)) ||
        (bridge->n_bits6 &&
         !settle(NET_SYSCTL_IPV6, bridge->name, "disable_ipv6", 0, differences, error)) ||
        (bridge->n_bits4 &&
         !settle(NET_SYSCTL_IPV4, bridge->name, "route_localnet", 1, differences, error))) {
        return false;
    }
    return !forwards ||
           ((!bridge->n_bits4 || settle_forward4(sock, bridge->name, differences, error)) &&
            (!bridge->n_bits6 || settle_forward6(sock, bridge->name, differences, error)));
}

bool net_bridge_settle_foreign(const char *name, bool has_ip4, bool has_ip6, GPtrArray *differences,
                               GError **error)
{
    g_autoptr(NetSocket) sock = has_ip4 || has_ip6 ? net_socket_open(error) : NULL;
    if (!sock) {
        return !has_ip4 && !has_ip6;
    }
    return (!has_ip4 || (settle(NET_SYSCTL_IPV4, name, "route_localnet", 1, differences, error) &&
                         settle_forward4(sock, name, differences, error))) &&
           (!has_ip6 || settle_forward6(sock, name, differences, error));
}
