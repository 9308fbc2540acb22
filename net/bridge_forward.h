#pragma once
#include "net/bridge.h"
#include "net/link_request.h"

/*
 * The settings of /proc/sys/net that a bridge of ours needs: on itself accept_ra 0, route_localnet
 * 1 (127.0.0.1 as a port map's address); and forwarding, where the mode is nat or routed or port
 * maps lead to it, on itself and on the uplinks (the links of the default routes).
 *
 * IPv4: conf.LINK.forwarding of both. IPv6: conf.LINK.force_forwarding of both where the kernel has
 * it (6.17); else all.forwarding, which would cost the host the default routes that the kernel made
 * of router advertisements, so accept_ra becomes 2 before on each link with such a route (where it
 * is 0, a program of the host hears the router, and its routes stay). Nothing is switched back
 * later, since others may rely on it by then.
 *
 * differences NULL: what differs is written. Else: a line for each, nothing is written.
 */
bool net_bridge_settle_sysctls(NetSocket *sock, const NetBridge *bridge, GPtrArray *differences,
                               GError **error);

/* The older kernels' way for IPv6. */
bool net_bridge_settle_forward_all(NetSocket *sock, GPtrArray *differences, GError **error);
