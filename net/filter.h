#pragma once
#include "net/member.h"
#include "net/nft.h"

/*
 * Anti-spoofing and egress between neighbours: the table `bridge vm_driver`. Default deny for every
 * link named vmt*: what is not registered sends nothing, so rules stand before the tap is made.
 */

/* The table's text (constant): table, sets, chains, rules; valid as a whole transaction, also over
 * an older one of ours. */
extern const char net_filter_base_text[];

/* The commands that bring one NIC from `old` (NULL: nothing) to `member` (NULL: nothing); none when
 * they are equal. To be committed with the rest of its machine. */
void net_filter_append(NetNftBatch *batch, const NetMember *member, const NetMember *old);

/* Appends what is missing or different, as net_rules_check(). */
bool net_filter_check(const NetMember *member, GPtrArray *differences, GError **error);

/* Names of the table's sets and maps whose elements carry an owner's comment, NULL-terminated. */
extern const char *const net_filter_sets[];
