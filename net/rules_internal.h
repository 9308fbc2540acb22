#pragma once
#include <sys/types.h>
#include "net/conntrack.h"
#include "net/rules.h"

/*
 * For the files net/rules*.c only. What belongs to a network or a NIC is a list of elements;
 * adding, removing and checking are the same for all of them: look first, then write what differs.
 */

/* The table's text, valid as a whole transaction, also over an older one of ours; elements stay. */
extern const char net_rules_base_text[];

/* Sets and maps of `inet vm_driver` whose elements carry their owner's comment; those with
 * intervals apart. NULL-terminated. */
extern const char *const net_rules_sets[];
extern const char *const net_rules_prefix_sets[];

typedef struct {
    const char *set;
    NetNftBytes key;
    NetNftBytes value;             /* n_bytes 0: of a set, or a verdict */
    BaseCidr prefix;               /* set: an interval; key and value are unused */
    json_t *json_key, *json_value; /* owned; value NULL: of a set */
    const char *owner;             /* borrowed from the network or member */
    char *what;                    /* for people: "port tcp 8080 -> 10.0.0.2:80" */
    const NetPortMap *port;        /* borrowed, NULL: none */
    bool is_shared; /* several owners may have the same one; of no owner in particular */
} NetRulesElement;

GPtrArray *net_rules_elements_new(void); /* of NetRulesElement, owned */

typedef enum {
    NET_RULES_ABSENT,
    NET_RULES_OURS,  /* as it should be */
    NET_RULES_STALE, /* the owner's, with another value */
    NET_RULES_TAKEN, /* somebody else's */
} NetRulesState;
/* out_holder (transfer full, NULL: has none) and out_value may be NULL. */
bool net_rules_look(const NetRulesElement *element, NetRulesState *out_state, char **out_holder,
                    NetNftBytes *out_value, GError **error);

/* The element, whatever is there of its owner. */
void net_rules_put(NetNftBatch *batch, const NetRulesElement *element, bool is_stale);
/* Gone afterwards, unless it is somebody else's: then the whole batch fails with EXISTS. */
void net_rules_take(NetNftBatch *batch, const NetRulesElement *element);

/* "machine 1b4e28ba-... of state ab12cd34" for an owner, transfer full; NULL: "somebody else". */
char *net_rules_owner_text(const char *owner);
/* Of which store? */
bool net_rules_is_of_store(const char *owner, const char *store_id);

/* --- ports -------------------------------------------------------------------- */

void net_rules_port_elements(const NetMember *member, GPtrArray *elements);
/* "tcp 192.0.2.1:8080", transfer full. */
char *net_rules_port_text(const NetPortMap *port);
/* PORT: too many, reserved, or without the guest's address. */
bool net_rules_check_ports(NetMember *const *members, unsigned n_members, GError **error);
/* Refuses a port that somebody has at the wildcard where `port` has an address, or the other way
 * round: EXISTS. */
bool net_rules_refuse_clash(const NetPortMap *port, const char *owner, GError **error);
/* The markers (sets held4, held6) that say: this port is mapped at some address. Added with the
 * first such port, removed with the last, for which the maps are listed. */
void net_rules_hold_port(NetNftBatch *batch, const NetPortMap *port);
bool net_rules_release_ports(NetNftBatch *batch, const GPtrArray *gone, GError **error);

/* --- egress ------------------------------------------------------------------- */

/* Appends what brings the kernel's chain of this member to its policy (is_wanted), or to none.
 * *out_changed: there was something to do, and what was there before was another policy. */
bool net_rules_append_egress(NetNftBatch *batch, const NetMember *member, bool is_wanted,
                             bool *out_changed, GError **error);
bool net_rules_check_egress(const NetMember *member, GPtrArray *differences, GError **error);
/* NetFlow.is_denied; data: the member. */
bool net_rules_egress_denies(const BaseIp *to, uint8_t ip_proto, uint16_t port, const void *data);

/* --- hooks -------------------------------------------------------------------- */

/* Removes the rules in other tables' hooks whose owner is of `store_id` and not in `owners`; counts
 * them in `gone` (owner -> number), and only that when is_dry_run. */
bool net_rules_sweep_hooks(const char *store_id, GHashTable *owners, bool is_dry_run,
                           GHashTable *gone, GError **error);

/* --- base --------------------------------------------------------------------- */

/* Are both tables as we wrote them? */
bool net_rules_base_is_whole(bool *out_is_whole, GError **error);
/* The version of the base rules, and the hash of the texts that have it. */
unsigned net_rules_base_version(uint32_t *out_hash);
/* Removes both tables when nobody has anything in them: no network, no NIC, of no store. Under the
 * lock, which everybody holds from making sure of the base to writing into it. */
bool net_rules_drop_unused_base(GError **error);

/* --- the lock ----------------------------------------------------------------- */

/* Removes what those left who died with the lock of a namespace that is gone. */
void net_rules_lock_sweep(void);
/* The namespace that the calling thread has the lock of; false: of none. */
bool net_rules_locked_namespace(dev_t *out_device, ino_t *out_inode);
