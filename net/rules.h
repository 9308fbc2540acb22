#pragma once
#include "net/member.h"
#include "net/nft.h"

/*
 * Everything of ours in nf_tables: NAT, port maps and egress of routed packets in `inet
 * vm_driver`, anti-spoofing and egress towards neighbours in `bridge vm_driver` (net/filter.h). The
 * maps and sets are the registry: the kernel refuses equal keys across processes. The base rules
 * are the same on every host; networks and machines are elements (and, where a machine has an
 * egress policy, a chain of its own).
 */

/* The lock of the registry, one for each network namespace, freed by the kernel. What must be
 * looked for before it is written (wildcard against address, listening processes, free ports) is
 * looked for under it. Waits timeout_ms at most: BUSY names the holder. DENIED: not root. A thread
 * may take it again while it has it; every call below that writes takes it itself (waiting up to
 * NET_RULES_LOCK_MS), so a caller needs it only to keep several calls together (choose and apply).
 */
enum { NET_RULES_LOCK_MS = 10000 };
typedef struct NetRulesLock NetRulesLock;
NetRulesLock *net_rules_lock(unsigned timeout_ms, GError **error);
void net_rules_unlock(NetRulesLock *lock);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NetRulesLock, net_rules_unlock)

/* Both tables with our base rules; nothing is written when they are there already, 0.1 ms then:
 * what was flushed or removed is seen. */
bool net_rules_ensure_base(GError **error);
/* The same, and sees a single rule that was replaced too; 0.7 ms. What the supervisor and `network
 * check --fix` call. */
bool net_rules_mend_base(GError **error);

/* What nf_tables knows of a network of ours; owner: comment, "<store id>:net:<name>". */
typedef struct {
    const char *owner;
    const char *bridge;
    SpecNetMode mode;
    BaseCidr cidr4, cidr6; /* not set: no such family */
} NetRulesNetwork;
/* Idempotent; a second call writes nothing. */
bool net_rules_add_network(const NetRulesNetwork *network, GError **error);
bool net_rules_remove_network(const NetRulesNetwork *network, GError **error);

/* Chooses the host ports that are 0 (next free one of [first, last], the same for tcp and udp of
 * one guest port) and checks the others: EXISTS names the machine or the process (with pid) that
 * has it; a port that only differs by wildcard against address counts. PORT: 53, 67 and 547 at the
 * wildcard, too many ports. Under the lock. */
bool net_rules_choose_ports(NetMember *const *members, unsigned n_members, uint16_t first,
                            uint16_t last, GError **error);

/* One transaction for all NICs of a machine: filter, ports, egress. `old`: what was applied before
 * (same owners), NULL: nothing; only the difference is written, nothing when there is none; flows
 * of ports that went or changed are ended. Under the lock; ports are chosen. EXISTS names the
 * port's holder. */
bool net_rules_apply(NetMember *const *members, unsigned n_members, NetMember *const *old,
                     unsigned n_old, GError **error);
/* Removes exactly what these members have; absent is success; another's element is never touched.
 */
bool net_rules_remove(NetMember *const *members, unsigned n_members, GError **error);

/* Appends a line of text for each thing that is not as it should be ("port tcp 8080 -> ... is
 * missing"). Single reads, cost follows the members. */
bool net_rules_check(NetMember *const *members, unsigned n_members, GPtrArray *differences,
                     GError **error);
bool net_rules_check_network(const NetRulesNetwork *network, GPtrArray *differences,
                             GError **error);

/* gc: removes all elements and chains whose comment is of `store_id` and whose owner is not in
 * `owners` (set of char*, networks' owners included); *out_removed gets texts, transfer full.
 * is_dry _run: only lists them. */
bool net_rules_sweep(const char *store_id, GHashTable *owners, bool is_dry_run,
                     GPtrArray **out_removed, GError **error);

/* Rules of other tables (forward hooks of Docker, firewalld, libvirt, ufw ...) that drop what our
 * networks forward: texts for people, each naming table, chain and rule; empty: none seen. For
 * doctor and errors: reads those tables whole. */
bool net_rules_find_foreign_drops(const char *bridge, GPtrArray *out_texts, GError **error);
/* Settings of this host under which a port that is mapped gets no answer somewhere: texts for
 * doctor; nothing of ours can mend them. */
bool net_rules_find_limits(GPtrArray *out_texts, GError **error);
/* Where a foreign table has a documented hook for others (DOCKER-USER, LIBVIRT_FWI/FWO), lets our
 * network through there, marked by a comment; absent hooks: nothing. remove undoes it. */
bool net_rules_add_hooks(const NetRulesNetwork *network, GError **error);
bool net_rules_remove_hooks(const NetRulesNetwork *network, GError **error);
/* Appends a line for each hook that is there without our rules. */
bool net_rules_check_hooks(const NetRulesNetwork *network, GPtrArray *differences, GError **error);
