#pragma once
#include "base/lock.h"
#include "net/bridge.h"
#include "net/network.h"

/*
 * What the files of a network share; not for others. The definition is net/network_record.c's, the
 * folder and its lock net/store.c's, members net/network.c's.
 */
struct NetStore {
    char *dir, *id; /* STATE, store id */
    int networks_fd, locks_fd;
};

/* The definition, resolved. */
typedef struct {
    char *name, *bridge, *domain; /* domain NULL: none */
    SpecNetMode mode;
    BaseCidr cidr4, cidr6; /* no host bits */
    BaseIp gateway4, gateway6;
    uint32_t mtu;
    bool has_dhcp, has_dns, is_kept;
    BaseIp range_first, range_last; /* not set: the whole network */
    GPtrArray *dns_servers;         /* of char* */
    uint16_t port_first, port_last;
    SpecEgress egress;
} NetRecord;

NetRecord *net_record_new(void);
void net_record_free(NetRecord *record);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NetRecord, net_record_free)
char *net_record_to_json(const NetRecord *record);
NetRecord *net_record_from_json(const char *json, const char *name, GError **error);
/* NULL and NOT_FOUND: no such network. */
NetRecord *net_record_load(NetStore *store, const char *name, GError **error);
bool net_record_save(const NetRecord *record, int dirfd, GError **error);
bool net_record_is_ours(const NetRecord *record); /* a bridge that we make */

struct NetNetwork {
    char *state_dir, *store_id;
    NetRecord *record;
    int dirfd;
    BaseLock *lock;     /* NULL: a peek */
    GPtrArray *members; /* of NetMember, by owner; NULL: not read yet */
    GPtrArray *damaged; /* of char*: owners whose record can't be read; filled with `members` */
    GHashTable *loaded; /* owner -> NetMember: what net_network_member() read */
    GPtrArray *chosen;  /* of NetMember: by net_network_choose() on this handle */
    bool is_gone;       /* its record was removed */
    NetNetworkView view;
};

#define NET_MEMBERS_DIR "members"
#define NET_TAKEN_DIR   "taken"
#define NET_PORTS_DIR   "ports"
#define NET_UP_DIR      "up"
#define NET_IS_UP_FILE  "is-up"
#define NET_RECORD_FILE "network.json"

/* Takes the network's lock; makes its folder when `makes`, else NOT_FOUND. record is NULL where the
 * folder has none yet. */
NetNetwork *net_network_open_folder(NetStore *store, const char *name, unsigned timeout_ms,
                                    bool makes, GError **error);
/* May this be the name of a network: a label of RFC 1123, or "bridge." and a link's name? */
bool net_network_name_is_valid(const char *name);
/* Renames the folder away, removes it; the lock's file goes with the handle. */
bool net_network_remove_folder(NetNetwork *network, GError **error);
void net_network_forget_members(NetNetwork *network);

/* "<boot id>.<inode of the network namespace>", transfer full: what is up is so in one boot and one
 * namespace only. */
char *net_up_mark(void);
/* Is the symlink there, with the mark of now? */
bool net_up_is_marked(int dirfd, const char *name);
/* Both: true without a write when it is so already. */
bool net_up_set_mark(int dirfd, const char *name, GError **error);
bool net_up_clear_mark(int dirfd, const char *name, GError **error);
bool net_network_is_up(const NetNetwork *network);
/* Is there a member that is up? Marks of other boots are no sign. */
bool net_network_has_up_member(const NetNetwork *network);
bool net_network_has_member(const NetNetwork *network);
/* File names of a folder, without those that begin with a dot; absent: none. Transfer full, of
 * char*, sorted. */
GPtrArray *net_folder_list(int dirfd, const char *name);

/* Descriptions for the layers below, borrowing from the network; owner and tag: transfer full. */
char *net_network_owner(const NetNetwork *network); /* "<store id>:net:<name>" */
void net_network_describe_rules(const NetNetwork *network, const char *owner, NetRulesNetwork *out);
void net_network_describe_bridge(const NetNetwork *network, const char *tag, NetBridge *out);

/* What ports of its members need of a bridge that is not ours; as net_bridge_settle_foreign(). */
bool net_network_settle_foreign(NetNetwork *network, GPtrArray *differences, GError **error);

/* Members that run have the network's own policy: a line for each that has not (lines may be NULL),
 * which is_fix mends, all at once. */
bool net_network_settle_egress(NetNetwork *network, bool is_fix, GPtrArray *lines, GError **error);

/* Is it the tap of a member? */
bool net_network_has_port(NetNetwork *network, const char *link);

/* Who has an address or MAC, transfer full, NULL: nobody. */
char *net_network_holder(NetNetwork *network, const char *address);
