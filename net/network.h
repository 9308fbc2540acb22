#pragma once
#include "base/report.h"
#include "net/member.h"
#include "net/rules.h"

/*
 * A network: its record and members below STATE/networks/NAME/, and what of it is there right now
 * (bridge, rules, dnsmasq, supervisor).
 *
 *   STATE/networks/NAME/network.json     the definition, resolved: bridge, prefixes, gateway ...
 *                       members/OWNER.json   one NIC each (net/member.h); addresses stay reserved
 *                                            while the machine exists
 *                       taken/ADDRESS        symlink to OWNER: who has an address or a MAC, so that
 *                                            a choice costs the same at any number of members
 *                       ports/4.OWNER, 6.OWNER   whose ports lead to IPv4, to IPv6
 *                       up/OWNER             symlink to the boot and namespace in which it runs
 *                       is-up                the same, of the network
 *                       supervisor.json, supervisor.lock   who watches
 *   STATE/locks/net.NAME.lock            flock
 *   /run/vm-run/STORE.net.NAME/          dnsmasq's files, readable by its user: hosts, reservations
 *
 * `bridge=BR` of a machine is a network too, named "bridge.BR" (no label, so it never clashes with
 * a spec's): no addresses of ours, no dnsmasq, but filter, ports (with a fixed ip) and egress. Lock
 * order: machine, networks by name, rules.
 */
typedef struct NetStore NetStore;
/* state_dir: where networks/ and locks/ are; made when missing. */
NetStore *net_store_open(const char *state_dir, const char *store_id, GError **error);
void net_store_close(NetStore *store);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NetStore, net_store_close)
/* Names, sorted, NULL-terminated, transfer full. */
char **net_store_names(NetStore *store, GError **error);

typedef struct NetNetwork NetNetwork; /* locked while it is open */
void net_network_close(NetNetwork *network);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NetNetwork, net_network_close)

/* Opens and locks (waits timeout_ms at most: BUSY names the holder). NULL and NOT_FOUND: no such
 * network. */
NetNetwork *net_network_open(NetStore *store, const char *name, unsigned timeout_ms,
                             GError **error);
/* The one that `spec` describes: made (record only, nothing of the host yet) when there is none;
 * EXISTS with both values when one of that name differs. Chooses prefixes that are free of this
 * host's routes and of other networks; NET with the spec's position when the asked-for one overlaps
 * (which one is said). mode bridge: NOT_FOUND when there is no such bridge. */
NetNetwork *net_network_define(NetStore *store, const NetworkSpec *spec, unsigned timeout_ms,
                               BaseReport *report, GError **error);
/* The spec of the network that is used when nothing was asked: `default`, nat. And of a foreign
 * bridge. Transfer full. */
NetworkSpec *net_network_default_spec(void);
NetworkSpec *net_network_bridge_spec(const char *bridge);

/* What a look tells; borrowed from the network. */
typedef struct {
    const char *name, *bridge, *domain;
    SpecNetMode mode;
    BaseCidr cidr4, cidr6;
    BaseIp gateway4, gateway6; /* not set: none */
    uint32_t mtu;              /* 0: the bridge's own */
    bool has_dhcp, has_dns, is_kept, is_up;
    bool is_ours; /* bridge made by us */
    uint16_t port_first, port_last;
    const SpecEgress *egress;
    const GPtrArray *dns_servers;      /* of char*: upstream servers of the definition, literals */
    pid_t supervisor_pid, dnsmasq_pid; /* 0: none */
} NetNetworkView;
const NetNetworkView *net_network_view(NetNetwork *network);
/* All members, of NetMember, by owner; borrowed until the next change. Reads every file: for show,
 * check and gc, not for a start. */
const GPtrArray *net_network_members(NetNetwork *network, GError **error);
/* Without a lock and without changing anything, for ls, show, ps. Transfer full; free with
 * net_network_close(). */
NetNetwork *net_network_peek(NetStore *store, const char *name, GError **error);

/* Writes nothing: fills mac (when all zero), ip4 and ip6 of `member` from its owner's hash, free
 * among the members and what was chosen on this handle before; what is set already is fixed and
 * checked: NET outside the network, or its network, broadcast or gateway address; EXISTS names who
 * has it. A member of that owner that is there keeps its addresses. */
bool net_network_choose(NetNetwork *network, NetMember *member, GError **error);
/* Writes the member, its reservation and its names. Idempotent by owner. is_up says what the
 * supervisor mends: true before the first rule or tap of it is made, false before they go. */
bool net_network_put_member(NetNetwork *network, const NetMember *member, GError **error);
/* Borrowed until the next change; NULL: none, or its record is damaged. */
const NetMember *net_network_member(NetNetwork *network, const char *owner);
/* Absent: success. Its address is free at once. A network that is not kept and has no members left
 * is removed with its record. */
bool net_network_drop_member(NetNetwork *network, const char *owner, GError **error);
/* After choices that came to nothing: forgets them, and removes it with its record when it is not
 * kept and has no members. */
bool net_network_end_if_empty(NetNetwork *network, GError **error);

/* Bridge, base rules, hooks, dnsmasq by its supervisor: all of it is there and answers when this
 * returns. Idempotent, nothing is written the second time. To be called again when the first port
 * of an isolated network's members comes: it is forwarded to from then on. After a failure nothing
 * that was not there before is there. EXISTS: a route of this host overlaps by now. BUSY:
 * it is up in another network namespace. 45 ms the first
 * time, 1 ms later. */
bool net_network_up(NetNetwork *network, GError **error);
/* The network's own policy becomes `egress`, for the members that run too: one transaction, without
 * a gap for what both policies let through; flows that it denies end. The same again changes
 * nothing. On an error all is as it was; cut off, a check with is_fix goes on. */
bool net_network_set_egress(NetNetwork *network, const SpecEgress *egress, GError **error);
/* Takes down what up made when no member is up and it is not kept; foreign ports on the bridge keep
 * it, and that it is up in another network namespace, which is said in *out_kept (transfer full,
 * NULL: gone or still used). */
bool net_network_down_if_unused(NetNetwork *network, char **out_kept, GError **error);
/* network rm: BUSY while members are there (named). */
bool net_network_remove(NetNetwork *network, GError **error);

/* Compares everything (links, masters, addresses, routes, sysctls, rules, dnsmasq, reservations)
 * with what should be; lines of text, empty: all well. is_fix: mends what can be and checks again;
 * *out_fixed gets the lines that were mended. */
bool net_network_check(NetNetwork *network, bool is_fix, GPtrArray *differences,
                       GPtrArray *out_fixed, GError **error);

/* What gc asks about a machine, by its uuid, with the network's lock held: a start writes its
 * machine's folder before its lease, so the answer is right then, and would not be before. */
typedef struct {
    bool (*is_there)(const char *uuid, void *data);
    bool (*is_running)(const char *uuid, void *data); /* or about to: its rules and tap stay */
    void *data;
} NetGcMachines;

/* Appends a line for each thing of somebody else that is on our bridge (ports, addresses): told,
 * and never touched. Nothing for a bridge that is not ours. */
bool net_network_find_foreign(NetNetwork *network, GPtrArray *out_texts, GError **error);

/* gc of one store: networks cut off in the middle, auto networks without members, members whose
 * machine is gone, is_up of those that don't run, bridges, rules, supervisors, dnsmasqs and run
 * folders of ours that no record has. Texts "object: action", transfer full. */
GPtrArray *net_store_gc(NetStore *store, const NetGcMachines *machines, bool is_dry_run,
                        GError **error);
