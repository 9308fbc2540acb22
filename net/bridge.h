#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <glib.h>
#include "base/ip.h"
#include "schemas/network_spec.h"

/*
 * Bridges of ours: made, addressed, routed and removed by rtnetlink and /proc/sys, no exec.
 * Everything is read first and only differences are written, so a second call sends nothing. Marked
 * by the alternative name "vm-run:<store id>:net:<network>".
 */
typedef struct {
    const char *name;      /* <= 15 characters */
    const char *owner_tag; /* the altname */
    SpecNetMode mode;      /* not bridge */
    BaseIp gateway4, gateway6;
    uint8_t n_bits4, n_bits6;
    uint32_t mtu;
    uint8_t mac[6]; /* so that it never follows its ports */
} NetBridge;

/* "vmb" + 12 base32 characters of the tag's hash, transfer full; and the tag. */
char *net_bridge_name(const char *owner_tag);
char *net_bridge_owner_tag(const char *store_id, const char *network);
void net_bridge_mac(const char *owner_tag, uint8_t out[6]);

/* Bridge (no STP, accept_ra 0), addresses (IPv6 without DAD), route of ::1, route_localnet,
 * forwarding on the bridge and on the uplinks (the links of the default routes) as far as the mode
 * needs it: IPv4 per interface, IPv6 by force_forwarding where the kernel has it, else
 * all.forwarding after accept_ra=2 for links with an RA route. Nothing is switched back later.
 * Addresses that somebody added by hand stay. EXISTS: a link of that name that is not ours. A crash
 * leaves nothing without our tag. 1-2 ms. */
bool net_bridge_create(const NetBridge *bridge, GError **error);
/* Absent: success. BUSY: ports or addresses that are not ours are on it: kept, named. 32-35 ms. */
bool net_bridge_remove(const char *name, const char *owner_tag, GError **error);
/* Lines of what is not as it should be. */
bool net_bridge_check(const NetBridge *bridge, GPtrArray *differences, GError **error);

/* All our bridges of this namespace: GPtrArray of "name tag", transfer full. */
GPtrArray *net_bridge_list(GError **error);
/* Names of the links enslaved to it, transfer full (GPtrArray of char*). */
GPtrArray *net_bridge_ports(const char *name, GError **error);

/* Prefixes that this host has routes or addresses for (but the default route), GArray of BaseCidr,
 * all tables. */
GArray *net_route_list(GError **error);
