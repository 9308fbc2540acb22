#pragma once
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <glib.h>
#include "base/ip.h"
#include "schemas/network_spec.h"

/*
 * One NIC of one machine on one network: plain data, the unit of everything that net/ keeps for a
 * machine (addresses, tap, filter, ports, egress, rate limits), and a file below the network's
 * folder, from which its supervisor, `network check` and `gc` know what should be there.
 */
typedef struct {
    bool is_udp;
    BaseIp host;        /* no address: all of this host's, of the guest address's family */
    uint16_t host_port; /* 0: auto, until it was chosen */
    BaseIp guest;
    uint16_t guest_port;
} NetPortMap;

typedef struct {
    char *owner;    /* "<store id>:<machine uuid>:<nic>": the comment of its elements; [a-z0-9:-] */
    char *machine;  /* name, which also resolves on the network */
    char *hostname; /* further name, NULL: the same */
    char *network;  /* name of the network */
    char *bridge;
    char *tap, *tap_tag;
    uint8_t mac[6];
    BaseIp ip4, ip6;                 /* no address: not known (foreign bridge) */
    BaseCidr cidr4, cidr6;           /* the network's own prefixes, not set: not known */
    bool is_ip4_fixed, is_ip6_fixed; /* asked for, not chosen */
    bool is_up;                      /* its machine runs: tap, filter and ports should be there */
    GPtrArray *ports;                /* of NetPortMap */
    SpecEgress egress;               /* the machine's own, then the network's */
    SpecEgress net_egress;
    uint64_t rate_in_bps,
        rate_out_bps;  /* bits per second towards and from the guest, 0: no limit */
    unsigned n_queues; /* 1 */
    bool is_link_down;
} NetMember;

NetMember *net_member_new(void);
NetMember *net_member_copy(const NetMember *member);
void net_member_free(NetMember *member);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NetMember, net_member_free)

/* One line of JSON and back; from_json: STATE when it is not whole. */
char *net_member_to_json(const NetMember *member);
NetMember *net_member_from_json(const char *json, GError **error);
