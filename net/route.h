#pragma once
#include "base/ip.h"
#include "net/link_request.h"

/*
 * Addresses and routes of this network namespace, by rtnetlink. Ours are marked by the protocol
 * NET_ADDRESS_PROTO (IFA_PROTO, Linux 5.18), as far as the kernel keeps it.
 */
enum { NET_ADDRESS_PROTO = 0x76 };

typedef struct {
    unsigned index; /* of its link */
    BaseCidr cidr;  /* the address and its prefix */
    uint8_t proto;  /* 0: the kernel tells none */
} NetAddress;

/* Those of one link (0: all), IPv4 and IPv6, of NetAddress*, in the order they were added. Transfer
 * full. */
GPtrArray *net_address_list(NetSocket *sock, unsigned index, GError **error);
/* Marks it ours; IPv4 without a broadcast address, IPv6 without duplicate address detection. There
 * already: success. `object` is for the error: "bridge 'x'". */
bool net_address_add(NetSocket *sock, unsigned index, const BaseIp *ip, uint8_t n_bits,
                     const char *object, GError **error);
/* Does this kernel keep the mark? Told by loopback's own address. */
bool net_address_probe_proto(NetSocket *sock, bool *out_keeps_proto, GError **error);

/* Indices of the links that the default routes of a family (AF_INET, AF_INET6) go out by, of all
 * tables, without doubles; only_ra: those that a router advertisement made. GArray of unsigned,
 * transfer full. */
GArray *net_route_uplinks(NetSocket *sock, int family, bool only_ra, GError **error);

/* The route `local ::1 dev LINK table local`, without which an answer from [::1] to a guest dies.
 * Its metric follows from the link's index, since equal ones clash. */
bool net_route_find_loopback(NetSocket *sock, unsigned index, bool *out_is_there, GError **error);
bool net_route_add_loopback(NetSocket *sock, unsigned index, const char *object, GError **error);
