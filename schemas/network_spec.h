#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <glib.h>
#include "base/ip.h"
#include "base/report.h"

/*
 * A network, and what a machine may reach, described: plain data that option tables fill, as
 * schemas/machine_spec.h.
 */
typedef enum {
    SPEC_NET_MODE_NAT,      /* own bridge, guests go out with the host's address */
    SPEC_NET_MODE_ISOLATED, /* own bridge, nothing but host and neighbours */
    SPEC_NET_MODE_ROUTED,   /* own bridge, guests go out with their own addresses */
    SPEC_NET_MODE_BRIDGE,   /* a bridge of this host that somebody else owns */
    SPEC_NET_MODE_N
} SpecNetMode;

typedef enum {
    SPEC_EGRESS_PROTO_ALL,
    SPEC_EGRESS_PROTO_TCP,
    SPEC_EGRESS_PROTO_UDP,
    SPEC_EGRESS_PROTO_ICMP, /* of the address's own family */
    SPEC_EGRESS_PROTO_N
} SpecEgressProto;

/* "10.0.0.0/8", "0.0.0.0/0:443/tcp", "[2001:db8::/32]:8000-8099/udp", "192.0.2.0/24/icmp" */
typedef struct {
    BaseCidr to;
    uint16_t port_first, port_last; /* 0,0: all */
    SpecEgressProto proto;
    BasePos pos;
} SpecEgressRule;

/*
 * Where connections that a guest begins may go; answers to what reached it are always let
 * out. Judged in this order: hermetic (nothing at all), the first of `allow` that fits, the first
 * of `deny`, is_restricted (the host, link-local metadata and private ranges but the network's own
 * are denied), then `is_default_deny`. Neighbours on the same network count as destinations too.
 * DHCP, and DNS of the network where it has some, stay open unless hermetic (then DHCP only).
 */
typedef struct {
    bool is_hermetic, is_restricted, is_default_deny;
    GPtrArray *allow, *deny; /* of SpecEgressRule, never NULL in a finished spec */
} SpecEgress;

typedef struct NetworkSpec {
    char *name; /* RFC 1123 label, 1-63; from the key below `networks:` */
    SpecNetMode mode;
    char *bridge;       /* mode bridge: the existing one; else the name ours gets, NULL: made */
    char *cidr, *cidr6; /* the network; host part 0, or the gateway's address. NULL: nat and
                           isolated choose a free one (cidr), a ULA (cidr6); "none": no such
                           family; mode bridge: what fixed addresses are checked against */
    char *gateway, *gateway6; /* mode bridge only: the router there, NULL: none */
    char *domain;             /* NULL: no domain, plain names resolve */
    unsigned mtu;             /* 0: 1500, mode bridge: the bridge's */
    bool has_dhcp;            /* true */
    char *dhcp_range;         /* "FIRST-LAST": what addresses are chosen from; NULL: the network */
    bool has_dns;             /* true: names of machines, the rest forwarded */
    GPtrArray *dns_servers;   /* of char*: upstream servers, literals; empty: the host's own */
    char *port_range;         /* "FIRST-LAST": where `auto` host ports come from; "20000-29999" */
    SpecEgress egress;        /* of every machine here, beside its own: both must allow */
    bool is_kept;             /* stays up without machines; `network add` sets it */
    BasePos pos;
    GHashTable *origins; /* as MachineSpec.origins */
} NetworkSpec;

NetworkSpec *spec_network_new(void);
void spec_network_free(NetworkSpec *spec);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NetworkSpec, spec_network_free)

/* Equal, origins included. Transfer full. */
NetworkSpec *spec_network_copy(const NetworkSpec *spec);
/* Where option `path` was written, NULL when it was not. Borrowed. */
const BasePos *spec_network_origin(const NetworkSpec *spec, const char *path);

/* Fills defaults and checks what concerns several options. Call once, last. */
void spec_network_finish(NetworkSpec *spec, BaseReport *report);
/* One option from text, as spec_machine_set(). */
bool spec_network_set(NetworkSpec *spec, const char *path, const char *text, const char *shown,
                      BaseReport *report);
/* One-line JSON of all that is set, and back, equal. */
char *spec_network_to_json(const NetworkSpec *spec);
NetworkSpec *spec_network_from_json(const char *json, GError **error);
const char *spec_net_mode_name(SpecNetMode mode);

/* As JSON and back, for records: {"hermetic":..,"restricted":..,"default":"deny","allow":[text..],
 * "deny":[..]}; the texts are those of the spec. Transfer full. */
char *spec_egress_to_json(const SpecEgress *egress);
bool spec_egress_from_json(const char *json, SpecEgress *out, GError **error);
/* Clears `out`'s members without freeing what was in them. */
void spec_egress_copy(const SpecEgress *egress, SpecEgress *out);
/* Frees lists and rules, however they were allocated by the functions above and the tables. */
void spec_egress_clear(SpecEgress *egress);
bool spec_egress_is_open(const SpecEgress *egress); /* allows everything */
char *spec_egress_rule_to_text(const void *rule);
bool spec_egress_rule_from_text(void *rule, const char *text, VmError *out_code,
                                const char **out_why);
