#pragma once
#include "base/ip.h"
#include "driver/virt.h"

/*
 * Networks of libvirt: a machine on the bridge of one gets its address reserved there, so that it
 * is known before the guest asks for it and nobody else gets it. An embedded driver has no
 * networks: then the host's libvirtd is asked (qemu:///system), when one answers in our network
 * namespace. Every call blocks, as those of driver/virt.h: 1-5 ms to ask, 0.6 s to change (libvirt
 * 9.0 makes the network's firewall rules anew, one change after the other); a libvirtd that a
 * socket starts takes seconds.
 */
typedef struct {
    char *name, *uuid, *bridge;
    char *domain; /* DNS domain of its guests, NULL: none */
    bool is_active;
    bool has_dhcp;         /* serves IPv4 addresses: only then reservations are possible */
    BaseCidr cidr4, cidr6; /* the host's address there with its prefix; not set: no such family */
} VirtNetwork;
void virt_network_free(VirtNetwork *network);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirtNetwork, virt_network_free)

/* The network whose bridge this is, active ones first, transfer full. NULL without error: none, or
 * nobody to ask. */
VirtNetwork *virt_network_by_bridge(VirtConn *conn, const char *bridge, GError **error);

typedef struct {
    const char *network;  /* its name */
    const char *mac;      /* "52:54:00:12:34:56" */
    BaseIp ip;            /* IPv4; not set: the one reserved already, else a free one */
    const char *hostname; /* the name that resolves; it also marks the reservation as ours */
} VirtReservation;

/* virNetworkUpdate(3) of the running network and its definition: no restart. The same again changes
 * nothing; ours with another address is changed. A reservation for this MAC under another name is
 * somebody else's: used when its address fits, and never removed. EXISTS: the address, the MAC or
 * the name is another's (named). UNSUPPORTED: it has no DHCP for IPv4. NET: the address is not in
 * it. NO_SPACE: no address is free. */
bool virt_network_reserve(VirtConn *conn, const VirtReservation *reservation, BaseIp *out_ip,
                          GError **error);
/* Removes exactly that reservation (MAC and name, and the address where it is set); an absent one,
 * or an absent network, is success. */
bool virt_network_release(VirtConn *conn, const VirtReservation *reservation, GError **error);

/* The addresses that this MAC has leased right now; not set: none. */
bool virt_network_lease(VirtConn *conn, const char *network, const char *mac, BaseIp *out_ip4,
                        BaseIp *out_ip6, GError **error);
