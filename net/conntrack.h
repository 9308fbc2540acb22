#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <glib.h>
#include "base/ip.h"
#include "schemas/network_spec.h"

/*
 * Connections that the kernel tracks (nf_conntrack). A rule that was removed or changed counts for
 * new connections only; those it let in or translated before go on until their entry is deleted.
 */
typedef enum {
    NET_FLOW_TO_GUEST, /* came by a port map: answered by `guest`, asked for `host` */
    NET_FLOW_UNMAPPED, /* asked for `host` and was not translated: a udp one would never be */
    NET_FLOW_OF_GUEST, /* begun by `guest`, to where `is_denied` says so */
} NetFlowKind;

/* Which flows; ports in host order. */
typedef struct NetFlow {
    NetFlowKind kind;
    bool is_udp;  /* but OF_GUEST: any */
    BaseIp guest; /* but UNMAPPED */
    uint16_t guest_port;
    BaseIp host; /* not set: any address, of guest_family */
    uint16_t host_port;
    uint8_t n_ip_bytes; /* 4, 16: the family */
    /* OF_GUEST: may the guest no longer go there? port 0: has none */
    bool (*is_denied)(const BaseIp *to, uint8_t ip_proto, uint16_t port, const void *data);
    const void *data;
} NetFlow;

/* Deletes the entries of these flows; none is success. One look through the table (of the guest's
 * or the port's entries only, where the kernel can select: 5.8), 0.1-5 ms. *out_n_ended may be
 * NULL. */
bool net_flows_end(const NetFlow *flows, unsigned n_flows, unsigned *out_n_ended, GError **error);
