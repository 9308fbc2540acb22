#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <glib.h>
#include "base/ip.h"
#include "schemas/network_spec.h"

/*
 * Bridges of ours: made, addressed, routed and removed by rtnetlink and /proc/sys, no exec.
 * Everything is read first and only differences are written, so a second call sends nothing. Marked
 * by the alternative name "vm-run:<store id>:net:<network>"; addresses of ours by their protocol
 * (net/route.h).
 */
typedef struct {
    const char *name;      /* <= 15 characters */
    const char *owner_tag; /* the altname */
    SpecNetMode mode;      /* not bridge */
    BaseIp gateway4, gateway6;
    uint8_t n_bits4, n_bits6;
    uint32_t mtu;   /* 0: 1500 */
    uint8_t mac[6]; /* so that it never follows its ports */
    bool has_ports; /* port maps lead to it from outside: isolated is forwarded to as well */
} NetBridge;

/* "vmb" + 12 base32 characters of the tag's hash, transfer full; and the tag. */
char *net_bridge_name(const char *owner_tag);
char *net_bridge_owner_tag(const char *store_id, const char *network);
void net_bridge_mac(const char *owner_tag, uint8_t out[6]);

/* Bridge (no STP, forward delay 0, no multicast snooping: a guest that plays the querier could
 * starve others of neighbour discovery; accept_ra 0), addresses (IPv4 without broadcast, IPv6
 * without DAD, its link-local one too when it has IPv6), route of ::1, route_localnet, forwarding
 * as net/bridge_forward.h says. Addresses that somebody added by hand stay. EXISTS: a link of that
 * name that is not ours. NET: a malformed name or tag, a group MAC. DENIED: no CAP_NET_ADMIN.
 * UNSUPPORTED: IPv6 is asked for and this kernel has none. HOST: /proc/sys is read-only. After a
 * failure a part may be there, tagged. Any number of processes may call it at
 * once. A crash leaves nothing without a mark (net/link_birth.h). 1-2 ms. */
bool net_bridge_create(const NetBridge *bridge, GError **error);
/* Absent: success. EXISTS: a foreign link of that name. BUSY: ports (whosever), or addresses that
 * are not ours, are on it: kept, named. 32-35 ms. */
bool net_bridge_remove(const char *name, const char *owner_tag, GError **error);
/* Appends lines of what is not as it should be; changes nothing. */
bool net_bridge_check(const NetBridge *bridge, GPtrArray *differences, GError **error);

/* What port maps to guests of somebody else's bridge need: forwarding as a bridge of ours gets it,
 * and route_localnet, for the families that they are of; nothing else of it is touched. differences
 * NULL: what differs is written. Else: a line for each, nothing is written. */
bool net_bridge_settle_foreign(const char *name, bool has_ip4, bool has_ip6, GPtrArray *differences,
                               GError **error);

/* All our bridges of this namespace: GPtrArray of "name tag", transfer full. */
GPtrArray *net_bridge_list(GError **error);
/* Removes bridges of ours that a crash cut off before their tag; is_dry_run: only lists them. Their
 * names, transfer full. */
GPtrArray *net_bridge_sweep(bool is_dry_run, GError **error);
/* Names of the links enslaved to it, transfer full (GPtrArray of char*). NOT_FOUND: no such bridge.
 */
GPtrArray *net_bridge_ports(const char *name, GError **error);
/* Addresses of a bridge of ours that somebody else added, as texts, transfer full. */
GPtrArray *net_bridge_foreign_addresses(const char *name, GError **error);

/* Prefixes that this host has routes or addresses for, GArray of BaseCidr, all tables, IPv4 and
 * IPv6; without default routes (nor their halves, up to /3), loopback, link-local and multicast. */
GArray *net_route_list(GError **error);
