#pragma once
#include "net/link.h"

/*
 * Traffic control of one link (tc(8), linux/pkt_sched.h, linux/pkt_cls.h): what shaping needs of
 * it. Ours are told by their handle and priority; what others put there stays.
 */
typedef enum { NET_TC_INGRESS, NET_TC_EGRESS, NET_TC_HOOK_N } NetTcHook;

/* Bytes a second of our tbf at the link's root, 0: it has none of ours. */
bool net_tc_find_rate(NetSocket *sock, const NetLink *link, uint64_t *out_bytes_per_s,
                      GError **error);
/* Sets it, in place when it is there. mtu: the longest frame that must pass. */
bool net_tc_set_rate(NetSocket *sock, const NetLink *link, uint64_t bytes_per_s, uint32_t mtu,
                     GError **error);

/* Index of the link that our filter of the hook sends everything to, 0: there is none of ours (one
 * whose target is gone, which drops everything: UINT_MAX). *out_n_foreign (may be NULL): how many
 * filters of others are on it. */
bool net_tc_find_redirect(NetSocket *sock, const NetLink *link, NetTcHook hook, unsigned *out_index,
                          unsigned *out_n_foreign, GError **error);
/* clsact is made when it is not there. */
bool net_tc_add_redirect(NetSocket *sock, const NetLink *link, NetTcHook hook, unsigned to_index,
                         GError **error);
/* Absent is success. */
bool net_tc_remove_redirect(NetSocket *sock, const NetLink *link, NetTcHook hook, GError **error);
/* Removes clsact with all that is on it; absent is success. */
bool net_tc_remove_hooks(NetSocket *sock, const NetLink *link, GError **error);
