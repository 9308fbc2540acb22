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

/* Messages one behind the other, each with its length; as one transaction (NFNL_MSG_BATCH_*).
 * Returns an errno, 0 for none at all. */
int net_nft_transact(const GByteArray *messages);

/* --- messages that write ------------------------------------------------------ */

void net_nft_raw_chain(GByteArray *messages, NetNftFamily family, const char *chain);
void net_nft_raw_flush_chain(GByteArray *messages, NetNftFamily family, const char *chain);
void net_nft_raw_delete_chain(GByteArray *messages, NetNftFamily family, const char *chain);
void net_nft_raw_element(GByteArray *messages, NetNftFamily family, const NetNftTwin *twin);
void net_nft_raw_delete_twin(GByteArray *messages, NetNftFamily family, const NetNftTwin *twin);
/* First key of a prefix, and the first one behind it; false: nothing is behind it. */
bool net_nft_raw_bounds(const BaseCidr *prefix, NetNftBytes *first, NetNftBytes *end);
void net_nft_raw_delete_element(GByteArray *messages, NetNftFamily family, const char *set,
                                const NetNftBytes *key);
/* An element's key in a message that is being built; flags: NFT_SET_ELEM_*. Leaves the nest open,
 * to be ended by the caller. */
struct nlattr *net_nft_raw_key(NetNftMessage *message, const NetNftBytes *key, uint32_t flags);

/* As net_nft_exchange(), and an error text but for ENOENT, which is *out_is_there false. */
bool net_nft_ask_kernel(NetNftMessage *message, NetNftEach each, void (*restart)(void *data),
                        void *data, bool *out_is_there, GError **error);

/* Attributes of an answer's nfgenmsg message. */
bool net_nft_parse(struct nlmsghdr *header, struct nlattr **attributes, int max);
bool net_nft_parse_nested(struct nlattr *nest, struct nlattr **attributes, int max);

/* The comment of an object's user data (its type: 0 for elements and rules), NULL: none. Transfer
 * full. */
char *net_nft_comment(struct nlattr *userdata);
