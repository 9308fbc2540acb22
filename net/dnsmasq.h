#pragma once
#include "net/network_internal.h"

/*
 * What dnsmasq is told: its arguments, and the files below /run/vm-run/STORE.net.NAME/ that it
 * reads by inotify: hosts/OWNER (names), reservations/OWNER (addresses by MAC), and leases/, the
 * only folder that its user may write. They hold no secret. A file in place is served within 30 ms;
 * removed or changed reservations need SIGHUP, and an address whose lease is still running needs a
 * new dnsmasq (dnsmasq(8), 2.90).
 */
#define NET_DNSMASQ_READY                                                                          \
    "ready" /* of hosts/ and reservations/: once it was read, all is watched */

bool net_dnsmasq_is_needed(const NetNetwork *network);
char *net_dnsmasq_folder(const char *store_id, const char *name);
/* NULL-terminated, transfer full. program: its path. */
char **net_dnsmasq_argv(const NetNetwork *network, const char *program);
/* Its user, else nobody. */
void net_dnsmasq_user(uid_t *out_uid, gid_t *out_gid);

/* Makes the folder with the files of all members, when it is not whole yet. */
bool net_dnsmasq_begin(NetNetwork *network, GError **error);
/* Absent: success. */
bool net_dnsmasq_end(const char *store_id, const char *network, GError **error);
/* One member, in a folder that is there; else nothing. old NULL: it is new. */
bool net_dnsmasq_put(NetNetwork *network, const NetMember *member, const NetMember *old,
                     GError **error);
/* old: what it had; NULL: not known. */
bool net_dnsmasq_drop(NetNetwork *network, const char *owner, const NetMember *old, GError **error);
/* Files that are missing, different, or of nobody; is_fix: put right, and then still told. */
bool net_dnsmasq_check(NetNetwork *network, bool is_fix, GPtrArray *differences, GError **error);
