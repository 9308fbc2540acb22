#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "driver/machine.h"
#include "schemas/network_spec.h"

/*
 * The managed networks of a state directory, for every door: plain texts of what net/network.h
 * keeps. Looking needs no lock and changes nothing.
 */
typedef struct {
    char *machine;   /* name */
    unsigned nic;    /* which of its NICs */
    char *mac;       /* lower case */
    char *ip4, *ip6; /* NULL: not known (a foreign bridge) */
    char *bridge, *tap;
    bool is_up;       /* its machine runs */
    GPtrArray *ports; /* of MachineForward; host_addr "*": all of this host's addresses */
} MachineNetworkMember;

typedef struct {
    char *name;
    const char *mode; /* static: "nat", "isolated", "routed", "bridge" */
    char *bridge;
    char *cidr, *cidr6;       /* NULL: no such family */
    char *gateway, *gateway6; /* NULL: none */
    char *domain;             /* NULL: none */
    unsigned mtu;             /* 0: the bridge's own */
    bool has_dhcp, has_dns;
    bool is_kept;     /* stays without machines */
    bool is_up;       /* its bridge is there */
    bool is_ours;     /* the bridge was made by us */
    char *port_range; /* "FIRST-LAST" */
    char *egress;     /* the policy of all machines here, as spec_egress_to_json(); NULL: open */
    pid_t supervisor_pid, dnsmasq_pid; /* 0: none */
    GPtrArray *members;                /* of MachineNetworkMember, by machine and NIC */
} MachineNetwork;

void machine_network_free(MachineNetwork *network);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MachineNetwork, machine_network_free)

/* Sorted, NULL-terminated, transfer full; an empty list where there is no state yet. With
 * is_implicit those too that a machine's `bridge=BR` made ("bridge.BR"). */
char **machine_network_names(MachineHost *host, bool is_implicit, GError **error);
/* NOT_FOUND with the nearest name as a hint. Transfer full. */
MachineNetwork *machine_network_load(MachineHost *host, const char *name, GError **error);
/* Stable JSON, one line (docs/reference/json.md), transfer full. */
char *machine_network_to_json(const MachineNetwork *network);

/* network add: defines it (kept), brings it up; three times the same is success without a change.
 * EXISTS: one of that name differs (both values are said). Mistakes of the spec go to the report
 * (then false with the first one as error). DENIED: not root. */
bool machine_network_add(MachineHost *host, const NetworkSpec *spec, BaseReport *report,
                         GError **error);
/* network update: the policy `egress` of the spec becomes the network's, for machines that run too.
 * is_whole: the spec says all of the network, and any other difference is refused (EXISTS, in the
 * report); else nothing but its name and policy counts. NOT_FOUND. */
bool machine_network_update(MachineHost *host, const NetworkSpec *spec, bool is_whole,
                            BaseReport *report, GError **error);
/* network rm: takes down and forgets. BUSY: machines have a NIC there (named). NOT_FOUND. */
bool machine_network_remove(MachineHost *host, const char *name, GError **error);
/* network check: appends one line for each difference from what should be; is_fix: mends what can
 * be, appends what was mended to `fixed`, and `differences` then gets only what is left. */
bool machine_network_check(MachineHost *host, const char *name, bool is_fix, GPtrArray *differences,
                           GPtrArray *fixed, GError **error);
