#include "net/nft.h"

#include <errno.h>
#include <netinet/in.h> /* before linux/netfilter.h, which has another one */
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>
#include "base/error.h"
#include "net/nft_raw.h"

enum { IFNAME_BYTES = 16, PART_ALIGN = 4, N_DELETED_AT_ONCE = 32 };

void net_nft_bytes_add(NetNftBytes *to, const void *bytes, unsigned n_bytes)
{
    unsigned n_padded = (n_bytes + PART_ALIGN - 1) / PART_ALIGN * PART_ALIGN;
    g_assert(to->n_bytes + n_padded <= sizeof to->bytes);
    memset(&to->bytes[to->n_bytes], 0, n_padded);
    memcpy(&to->bytes[to->n_bytes], bytes, n_bytes);
    to->n_bytes += n_padded;
}

void net_nft_bytes_add_ifname(NetNftBytes *to, const char *name)
{
    char padded[IFNAME_BYTES] = "";
    g_strlcpy(padded, name, sizeof padded);
    net_nft_bytes_add(to, padded, sizeof padded);
}

static void copy_value(struct nlattr *data, NetNftBytes *out)
{
    struct nlattr *parts[NFTA_DATA_MAX + 1];
    if (net_nft_parse_nested(data, parts, NFTA_DATA_MAX) && parts[NFTA_DATA_VALUE]) {
        out->n_bytes = MIN((unsigned)nla_len(parts[NFTA_DATA_VALUE]), sizeof out->bytes);
        memcpy(out->bytes, nla_data(parts[NFTA_DATA_VALUE]), out->n_bytes);
    }
}

/* The chain of a verdict, NULL: it leads nowhere. Transfer full. */
static char *copy_chain(struct nlattr *data)
{
    struct nlattr *parts[NFTA_DATA_MAX + 1];
    struct nlattr *verdict[NFTA_VERDICT_MAX + 1];
    if (net_nft_parse_nested(data, parts, NFTA_DATA_MAX) &&
        net_nft_parse_nested(parts[NFTA_DATA_VERDICT], verdict, NFTA_VERDICT_MAX) &&
        verdict[NFTA_VERDICT_CHAIN]) {
        return g_strndup(nla_data(verdict[NFTA_VERDICT_CHAIN]),
                         (gsize)nla_len(verdict[NFTA_VERDICT_CHAIN]));
    }
    return NULL;
}

/* --- elements ----------------------------------------------------------------- */

static void free_element(gpointer data)
{
    NetNftElement *element = data;
    g_free(element->comment);
    g_free(element->chain);
    g_free(element);
}

static NetNftElement *parse_element(struct nlattr *nest)
{
    struct nlattr *parts[NFTA_SET_ELEM_MAX + 1];
    if (!net_nft_parse_nested(nest, parts, NFTA_SET_ELEM_MAX)) {
        return NULL;
    }
    NetNftElement *element = g_new0(NetNftElement, 1);
    copy_value(parts[NFTA_SET_ELEM_KEY], &element->key);
    copy_value(parts[NFTA_SET_ELEM_DATA], &element->value);
    element->is_end =
        parts[NFTA_SET_ELEM_FLAGS] &&
        (GUINT32_FROM_BE(nla_get_u32(parts[NFTA_SET_ELEM_FLAGS])) & NFT_SET_ELEM_INTERVAL_END);
    element->chain = copy_chain(parts[NFTA_SET_ELEM_DATA]);
    element->comment = net_nft_comment(parts[NFTA_SET_ELEM_USERDATA]);
    return element;
}

static bool collect_elements(struct nlmsghdr *header, void *data)
{
    struct nlattr *list[NFTA_SET_ELEM_LIST_MAX + 1];
    if (!net_nft_parse(header, list, NFTA_SET_ELEM_LIST_MAX) ||
        !list[NFTA_SET_ELEM_LIST_ELEMENTS]) {
        return true;
    }
    struct nlattr *nest;
    int n_left;
    nla_for_each_nested(nest, list[NFTA_SET_ELEM_LIST_ELEMENTS], n_left)
    {
        NetNftElement *element = parse_element(nest);
        if (element) {
            g_ptr_array_add(data, element);
        }
    }
    return true;
}

static void forget_all(void *data)
{
    g_ptr_array_set_size(data, 0);
}

static NetNftMessage *new_set_message(NetNftFamily family, const char *set, int flags)
{
    NetNftMessage *message = net_nft_message(NFT_MSG_GETSETELEM, net_nft_protos[family], flags);
    nla_put_string(message, NFTA_SET_ELEM_LIST_TABLE, NET_NFT_TABLE);
    nla_put_string(message, NFTA_SET_ELEM_LIST_SET, set);
    return message;
}

/* flags: NFT_SET_ELEM_*; *out_element NULL: there is none. */
static bool get_element(NetNftFamily family, const char *set, const NetNftBytes *key,
                        uint32_t flags, NetNftElement **out_element, GError **error)
{
    NetNftMessage *message = new_set_message(family, set, 0);
    struct nlattr *list = nla_nest_start(message, NFTA_SET_ELEM_LIST_ELEMENTS);
    nla_nest_end(message, net_nft_raw_key(message, key, flags));
    nla_nest_end(message, list);

    g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(free_element);
    if (!net_nft_ask_kernel(message, collect_elements, forget_all, found, NULL, error)) {
        return false;
    }
    /* of a set of intervals the kernel answers with the interval that has the key */
    NetNftElement *first = found->len > 0 ? found->pdata[0] : NULL;
    bool is_same = first && first->key.n_bytes == key->n_bytes &&
                   !memcmp(first->key.bytes, key->bytes, key->n_bytes);
    *out_element = is_same ? g_ptr_array_steal_index(found, 0) : NULL;
    return true;
}

bool net_nft_get(NetNftFamily family, const char *set, const NetNftBytes *key,
                 NetNftFound *out_found, NetNftBytes *out_value, char **out_comment, GError **error)
{
    NetNftElement *element = NULL;
    if (!get_element(family, set, key, 0, &element, error)) {
        return false;
    }
    *out_found = element ? NET_NFT_PRESENT : NET_NFT_ABSENT;
    if (out_value) {
        *out_value = element ? element->value : (NetNftBytes){0};
    }
    if (out_comment) {
        *out_comment = element ? g_steal_pointer(&element->comment) : NULL;
    }
    g_clear_pointer(&element, free_element);
    return true;
}

bool net_nft_get_chain(NetNftFamily family, const char *map, const NetNftBytes *key,
                       char **out_chain, char **out_comment, GError **error)
{
    NetNftElement *element = NULL;
    if (!get_element(family, map, key, 0, &element, error)) {
        return false;
    }
    *out_chain = element ? g_steal_pointer(&element->chain) : NULL;
    if (out_comment) {
        *out_comment = element ? g_steal_pointer(&element->comment) : NULL;
    }
    g_clear_pointer(&element, free_element);
    return true;
}

bool net_nft_get_prefix(NetNftFamily family, const char *set, const BaseCidr *prefix,
                        NetNftFound *out_found, char **out_comment, GError **error)
{
    NetNftBytes first = {0}, end = {0};
    NetNftElement *start_element = NULL, *end_element = NULL;
    bool has_end = net_nft_raw_bounds(prefix, &first, &end);
    bool is_read = get_element(family, set, &first, 0, &start_element, error) &&
                   (!start_element || !has_end ||
                    get_element(family, set, &end, NFT_SET_ELEM_INTERVAL_END, &end_element, error));
    bool is_there = is_read && start_element && (!has_end || end_element);
    if (is_read) {
        *out_found = is_there ? NET_NFT_PRESENT : NET_NFT_ABSENT;
        if (out_comment) {
            *out_comment = is_there ? g_steal_pointer(&start_element->comment) : NULL;
        }
    }
    g_clear_pointer(&start_element, free_element);
    g_clear_pointer(&end_element, free_element);
    return is_read;
}

GPtrArray *net_nft_list(NetNftFamily family, const char *set, GError **error)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(free_element);
    NetNftMessage *message = new_set_message(family, set, NLM_F_DUMP);
    if (!net_nft_ask_kernel(message, collect_elements, forget_all, all, NULL, error)) {
        return NULL;
    }
    return g_steal_pointer(&all);
}

static int delete_some(NetNftFamily family, const char *set, NetNftElement *const *elements,
                       unsigned n_elements)
{
    g_autoptr(GByteArray) messages = g_byte_array_new();
    for (unsigned i = 0; i < n_elements; i++) {
        net_nft_raw_delete_element(messages, family, set, &elements[i]->key);
    }
    return net_nft_transact(messages);
}

bool net_nft_delete_listed(NetNftFamily family, const char *set, NetNftElement *const *elements,
                           unsigned n_elements, GError **error)
{
    for (unsigned i = 0; i < n_elements; i += N_DELETED_AT_ONCE) {
        unsigned n = MIN(N_DELETED_AT_ONCE, n_elements - i);
        int errnum = delete_some(family, set, &elements[i], n);
        for (unsigned j = 0; errnum == ENOENT && j < n; j++) { /* one of them is gone: each alone */
            int alone = delete_some(family, set, &elements[i + j], 1);
            errnum = alone == ENOENT ? errnum : alone;
        }
        if (errnum && errnum != ENOENT) {
            base_error_set_errno(error, errnum, "cannot delete elements of '%s'", set);
            return false;
        }
    }
    return true;
}

/* --- rules -------------------------------------------------------------------- */

static void free_rule(gpointer data)
{
    NetNftRule *rule = data;
    g_free(rule->comment);
    g_free(rule);
}

static bool collect_rule(struct nlmsghdr *header, void *data)
{
    struct nlattr *parts[NFTA_RULE_MAX + 1];
    if (net_nft_parse(header, parts, NFTA_RULE_MAX) && parts[NFTA_RULE_HANDLE]) {
        NetNftRule *rule = g_new0(NetNftRule, 1);
        rule->comment = net_nft_comment(parts[NFTA_RULE_USERDATA]);
        rule->handle = GUINT64_FROM_BE(nla_get_u64(parts[NFTA_RULE_HANDLE]));
        g_ptr_array_add(data, rule);
    }
    return true;
}

/* A dump of a chain that is not there is empty, so it is asked for itself first. */
static bool has_chain(uint8_t nfproto, const char *table, const char *chain, bool *out_has,
                      GError **error)
{
    NetNftMessage *message = net_nft_message(NFT_MSG_GETCHAIN, nfproto, 0);
    nla_put_string(message, NFTA_CHAIN_TABLE, table);
    nla_put_string(message, NFTA_CHAIN_NAME, chain);
    return net_nft_ask_kernel(message, NULL, NULL, NULL, out_has, error);
}

bool net_nft_list_rules(uint8_t nfproto, const char *table, const char *chain,
                        GPtrArray **out_rules, GError **error)
{
    bool is_there = false;
    if (!has_chain(nfproto, table, chain, &is_there, error)) {
        return false;
    }
    if (!is_there) {
        *out_rules = NULL;
        return true;
    }
    g_autoptr(GPtrArray) rules = g_ptr_array_new_with_free_func(free_rule);
    NetNftMessage *message = net_nft_message(NFT_MSG_GETRULE, nfproto, NLM_F_DUMP);
    nla_put_string(message, NFTA_RULE_TABLE, table);
    nla_put_string(message, NFTA_RULE_CHAIN, chain);
    if (!net_nft_ask_kernel(message, collect_rule, forget_all, rules, NULL, error)) {
        return false;
    }
    *out_rules = g_steal_pointer(&rules);
    return true;
}
