#include "net/nft_raw.h"

#include <netinet/in.h> /* before linux/netfilter.h, which has another one */
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>
#include "base/error.h"

/* Sizes of libnftnl's user data (libnftnl/udata.h): type and length, a byte each. */
enum { COMMENT_TYPE = 0, COMMENT_MAX_BYTES = 128 };

static void append(GByteArray *messages, NetNftMessage *message)
{
    const struct nlmsghdr *header = nlmsg_hdr(message);
    static const guint8 padding[NLMSG_ALIGNTO] = {0};
    g_byte_array_append(messages, (const guint8 *)header, header->nlmsg_len);
    g_byte_array_append(messages, padding, NLMSG_ALIGN(header->nlmsg_len) - header->nlmsg_len);
    net_nft_message_free(message);
}

/* --- chains ------------------------------------------------------------------- */

static void append_chain(GByteArray *messages, NetNftFamily family, unsigned type, int flags,
                         const char *chain)
{
    NetNftMessage *message = net_nft_message(type, net_nft_protos[family], flags);
    nla_put_string(message, NFTA_CHAIN_TABLE, NET_NFT_TABLE);
    nla_put_string(message, NFTA_CHAIN_NAME, chain);
    append(messages, message);
}

void net_nft_raw_chain(GByteArray *messages, NetNftFamily family, const char *chain)
{
    append_chain(messages, family, NFT_MSG_NEWCHAIN, NLM_F_CREATE, chain);
}

void net_nft_raw_delete_chain(GByteArray *messages, NetNftFamily family, const char *chain)
{
    append_chain(messages, family, NFT_MSG_DELCHAIN, 0, chain);
}

/* A rule without a handle: all of the chain. */
void net_nft_raw_flush_chain(GByteArray *messages, NetNftFamily family, const char *chain)
{
    NetNftMessage *message = net_nft_message(NFT_MSG_DELRULE, net_nft_protos[family], 0);
    nla_put_string(message, NFTA_RULE_TABLE, NET_NFT_TABLE);
    nla_put_string(message, NFTA_RULE_CHAIN, chain);
    append(messages, message);
}

/* --- elements ----------------------------------------------------------------- */

struct nlattr *net_nft_raw_key(NetNftMessage *message, const NetNftBytes *key, uint32_t flags)
{
    struct nlattr *element = nla_nest_start(message, NFTA_LIST_ELEM);
    struct nlattr *value = nla_nest_start(message, NFTA_SET_ELEM_KEY);
    nla_put(message, NFTA_DATA_VALUE, (int)key->n_bytes, key->bytes);
    nla_nest_end(message, value);
    if (flags) {
        nla_put_u32(message, NFTA_SET_ELEM_FLAGS, GUINT32_TO_BE(flags));
    }
    return element;
}

static NetNftMessage *begin(NetNftFamily family, unsigned type, int flags, const char *set,
                            struct nlattr **out_list)
{
    NetNftMessage *message = net_nft_message(type, net_nft_protos[family], flags);
    nla_put_string(message, NFTA_SET_ELEM_LIST_TABLE, NET_NFT_TABLE);
    nla_put_string(message, NFTA_SET_ELEM_LIST_SET, set);
    *out_list = nla_nest_start(message, NFTA_SET_ELEM_LIST_ELEMENTS);
    return message;
}

static void put_data(NetNftMessage *message, const NetNftTwin *twin)
{
    struct nlattr *data = nla_nest_start(message, NFTA_SET_ELEM_DATA);
    if (twin->chain) {
        struct nlattr *verdict = nla_nest_start(message, NFTA_DATA_VERDICT);
        nla_put_u32(message, NFTA_VERDICT_CODE, GUINT32_TO_BE((uint32_t)NFT_JUMP));
        nla_put_string(message, NFTA_VERDICT_CHAIN, twin->chain);
        nla_nest_end(message, verdict);
    } else {
        nla_put(message, NFTA_DATA_VALUE, (int)twin->value->n_bytes, twin->value->bytes);
    }
    nla_nest_end(message, data);
}

/* With its NUL, as libnftables writes it. */
static void put_comment(NetNftMessage *message, const char *comment)
{
    uint8_t bytes[2 + COMMENT_MAX_BYTES] = {COMMENT_TYPE};
    size_t n = g_strlcpy((char *)&bytes[2], comment, COMMENT_MAX_BYTES);
    n = MIN(n, COMMENT_MAX_BYTES - 1);
    bytes[1] = (uint8_t)(n + 1);
    nla_put(message, NFTA_SET_ELEM_USERDATA, (int)(2 + n + 1), bytes);
}

bool net_nft_raw_bounds(const BaseCidr *prefix, NetNftBytes *first, NetNftBytes *end)
{
    BaseCidr network = base_cidr_network(prefix);
    uint8_t bytes[sizeof network.ip.bytes];
    unsigned n = network.ip.n_bytes;
    memcpy(bytes, network.ip.bytes, n);
    bool is_carried = network.n_bits > 0;
    for (int bit = (int)network.n_bits - 1; is_carried && bit >= 0; bit--) {
        uint8_t mask = (uint8_t)(0x80 >> bit % 8);
        is_carried = (bytes[bit / 8] & mask) != 0;
        bytes[bit / 8] ^= mask;
    }
    *first = *end = (NetNftBytes){0};
    net_nft_bytes_add(first, network.ip.bytes, n);
    net_nft_bytes_add(end, bytes, n);
    return !is_carried && network.n_bits > 0;
}

/* A set of intervals keeps two elements for one: where it begins, and the first key behind it. */
static void append_keys(NetNftMessage *message, const NetNftTwin *twin, bool has_content)
{
    NetNftBytes first, end;
    bool has_end = twin->prefix && net_nft_raw_bounds(twin->prefix, &first, &end);
    struct nlattr *element = net_nft_raw_key(message, twin->prefix ? &first : twin->key, 0);
    if (has_content && (twin->chain || twin->value)) {
        put_data(message, twin);
    }
    if (has_content && twin->comment) {
        put_comment(message, twin->comment);
    }
    nla_nest_end(message, element);
    if (has_end) {
        nla_nest_end(message, net_nft_raw_key(message, &end, NFT_SET_ELEM_INTERVAL_END));
    }
}

void net_nft_raw_element(GByteArray *messages, NetNftFamily family, const NetNftTwin *twin)
{
    struct nlattr *list;
    NetNftMessage *message = begin(family, NFT_MSG_NEWSETELEM, NLM_F_CREATE, twin->set, &list);
    append_keys(message, twin, true);
    nla_nest_end(message, list);
    append(messages, message);
}

void net_nft_raw_delete_twin(GByteArray *messages, NetNftFamily family, const NetNftTwin *twin)
{
    struct nlattr *list;
    NetNftMessage *message = begin(family, NFT_MSG_DELSETELEM, 0, twin->set, &list);
    append_keys(message, twin, false);
    nla_nest_end(message, list);
    append(messages, message);
}

void net_nft_raw_delete_element(GByteArray *messages, NetNftFamily family, const char *set,
                                const NetNftBytes *key)
{
    struct nlattr *list;
    NetNftMessage *message = begin(family, NFT_MSG_DELSETELEM, 0, set, &list);
    nla_nest_end(message, net_nft_raw_key(message, key, 0));
    nla_nest_end(message, list);
    append(messages, message);
}

/* --- tables ------------------------------------------------------------------- */

/* Adding them first makes it succeed whatever of them is there. */
bool net_nft_delete_tables(GError **error)
{
    static const struct {
        unsigned type;
        int flags;
    } requests[] = {{NFT_MSG_NEWTABLE, NLM_F_CREATE}, {NFT_MSG_DELTABLE, 0}};
    g_autoptr(GByteArray) messages = g_byte_array_new();
    for (unsigned i = 0; i < G_N_ELEMENTS(requests) * NET_NFT_N; i++) {
        NetNftMessage *message =
            net_nft_message(requests[i / NET_NFT_N].type, net_nft_protos[i % NET_NFT_N],
                            requests[i / NET_NFT_N].flags);
        nla_put_string(message, NFTA_TABLE_NAME, NET_NFT_TABLE);
        append(messages, message);
    }
    int errnum = net_nft_transact(messages);
    if (errnum) {
        base_error_set_errno(error, errnum, "cannot remove our tables of nf_tables");
        return false;
    }
    return true;
}
