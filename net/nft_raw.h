#pragma once
#include <netlink/attr.h>
#include <netlink/msg.h>
#include "net/nft.h"

/*
 * Messages of nf_tables (linux/netfilter/nf_tables.h), for the files net/nft_*.c only. They read by
 * themselves, over libnl-3 as the rest of net/, since libnftables reads whole tables and libnftnl
 * would be one more library at each start.
 */
typedef struct nl_msg NetNftMessage;
static inline void net_nft_message_free(NetNftMessage *message)
{
    nlmsg_free(message);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NetNftMessage, net_nft_message_free)

extern const uint8_t net_nft_protos[NET_NFT_N]; /* NFPROTO_* */

/* type: NFT_MSG_*; flags: 0 or NLM_F_DUMP. Transfer full. */
NetNftMessage *net_nft_message(unsigned type, uint8_t nfproto, int flags);

/* One answer; false: that is enough. */
typedef bool (*NetNftEach)(struct nlmsghdr *header, void *data);

/* Sends `message` over a socket of this thread's namespace (kept open, since closing one waits for
 * deletions under way) and hands each answer to `each`. Returns an errno; ENOENT: no such object.
 * A dump that was disturbed begins again: `restart` is called before each try. */
int net_nft_exchange(NetNftMessage *message, NetNftEach each, void (*restart)(void *data),
                     void *data);

/* Sends it as a transaction of its own (NFNL_MSG_BATCH_*). Returns an errno. */
int net_nft_transact(NetNftMessage *message);

/* As net_nft_exchange(), and an error text but for ENOENT, which is *out_is_there false. */
bool net_nft_ask_kernel(NetNftMessage *message, NetNftEach each, void (*restart)(void *data),
                        void *data, bool *out_is_there, GError **error);

/* Attributes of an answer's nfgenmsg message. */
bool net_nft_parse(struct nlmsghdr *header, struct nlattr **attributes, int max);
bool net_nft_parse_nested(struct nlattr *nest, struct nlattr **attributes, int max);

/* The comment of an object's user data (its type: 0 for elements and rules), NULL: none. Transfer
 * full. */
char *net_nft_comment(struct nlattr *userdata);
