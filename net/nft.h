#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>
#include <glib.h>
#include "base/ip.h"

/*
 * The door to nf_tables: batches that are written in one transaction each, and single elements that
 * are read back by messages of our own (libnftables reads whole tables: 50 ms at 10,000 elements, a
 * single NFT_MSG_GETSETELEM 6 us).
 *
 * A batch is a list of JSON commands (libnftables-json(5)), so values never meet nft's syntax. All
 * concerns the network namespace of the calling thread. Needs CAP_NET_ADMIN: DENIED.
 */
typedef enum { NET_NFT_INET, NET_NFT_BRIDGE, NET_NFT_N } NetNftFamily;

#define NET_NFT_TABLE "vm_driver" /* in both families */

/* Chains whose name starts so belong to one member each and come and go with it; all others are
 * base rules. */
#define NET_NFT_MEMBER_PREFIX "m_"

/* The chain of `owner` (a member's) that holds what `content` describes: "m_" + owner with '_' for
 * all that is no letter or digit + "_" + 8 characters of content's hash. So a chain is never
 * changed: another content is another chain, and one look at the verdict that leads to it tells
 * whether it is the right one. Transfer full. */
char *net_nft_member_chain(const char *owner, const char *content);
/* "m_" + owner, mangled + "_": what the chains of a member start with; of "STORE": of a store. */
char *net_nft_member_prefix(const char *owner);

typedef struct NetNftBatch NetNftBatch;
NetNftBatch *net_nft_batch_new(void);
void net_nft_batch_free(NetNftBatch *batch);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NetNftBatch, net_nft_batch_free)
unsigned net_nft_batch_size(const NetNftBatch *batch);

/* key, value: JSON as libnftables takes it (a concatenation: {"concat":[..]}), stolen. value NULL:
 * a set. comment NULL: none. */
void net_nft_add_element(NetNftBatch *batch, NetNftFamily family, const char *set, json_t *key,
                         json_t *value, const char *comment);
void net_nft_delete_element(NetNftBatch *batch, NetNftFamily family, const char *set, json_t *key);

/* The bytes of a key or value as the kernel keeps them: each part padded to 4 bytes, an ifname 16
 * bytes NUL-padded, ports and protocol in network order. */
typedef struct {
    uint8_t bytes[64];
    unsigned n_bytes;
} NetNftBytes;
void net_nft_bytes_add(NetNftBytes *to, const void *bytes, unsigned n_bytes);
void net_nft_bytes_add_ifname(NetNftBytes *to, const char *name);

/* An element in both forms. A batch of such ones (and of chains without rules) alone goes to the
 * kernel as it is, which takes 0.05 ms and no libnftables; with other commands it takes the long
 * way. */
typedef struct {
    const char *set;
    const NetNftBytes *key, *value; /* value NULL: of a set, or a verdict */
    const BaseCidr *prefix;         /* instead of key, of a set of intervals; NULL: none */
    const char *chain;              /* of the verdict "jump", NULL: none */
    json_t *json_key, *json_value;  /* the same for libnftables; borrowed; value NULL: of a set */
    const char *comment;            /* NULL: none */
} NetNftTwin;
void net_nft_add_twin(NetNftBatch *batch, NetNftFamily family, const NetNftTwin *twin);
void net_nft_delete_twin(NetNftBatch *batch, NetNftFamily family, const NetNftTwin *twin);
/* A chain without hook; adding one that is there changes nothing. */
void net_nft_add_chain(NetNftBatch *batch, NetNftFamily family, const char *chain);
void net_nft_flush_chain(NetNftBatch *batch, NetNftFamily family, const char *chain);
void net_nft_delete_chain(NetNftBatch *batch, NetNftFamily family, const char *chain);
/* expressions: the array of a rule's "expr", stolen. */
void net_nft_add_rule(NetNftBatch *batch, NetNftFamily family, const char *chain,
                      json_t *expressions, const char *comment);
/* Any other command ({"insert": ..}), stolen. */
void net_nft_add_command(NetNftBatch *batch, json_t *command);

/* All or nothing; an empty batch is success and costs nothing. EXISTS: an element is there with
 * another value. NOT_FOUND: one to delete, or the set, is not. 0.05 ms, the long way 0.1 ms an
 * element, at any number of others; an abort 8-24 ms. */
bool net_nft_commit(NetNftBatch *batch, GError **error);
/* Constant text of ours, for the rules that every host gets; one transaction. */
bool net_nft_run_text(const char *text, GError **error);
/* What a JSON command answers ({"list": ..}), transfer full: costs all there is, for doctor only.
 */
json_t *net_nft_ask(NetNftBatch *batch, GError **error);

/* Both tables of ours with all that is in them, at once; absent is success. */
bool net_nft_delete_tables(GError **error);

/* --- reading ---------------------------------------------------------------------------------- */

typedef enum { NET_NFT_ABSENT, NET_NFT_PRESENT } NetNftFound;
/* Is there such an element? out_value and out_comment may be NULL; *out_comment transfer full, NULL
 * when it has none. No such set or table counts as absent. */
bool net_nft_get(NetNftFamily family, const char *set, const NetNftBytes *key,
                 NetNftFound *out_found, NetNftBytes *out_value, char **out_comment,
                 GError **error);
/* As net_nft_get() for a map of verdicts: *out_chain (transfer full) is where it leads, NULL: no
 * such element, or another verdict. */
bool net_nft_get_chain(NetNftFamily family, const char *map, const NetNftBytes *key,
                       char **out_chain, char **out_comment, GError **error);
/* Is this prefix, exactly, an element of a set of intervals? */
bool net_nft_get_prefix(NetNftFamily family, const char *set, const BaseCidr *prefix,
                        NetNftFound *out_found, char **out_comment, GError **error);

typedef struct {
    NetNftBytes key, value; /* value n_bytes 0: of a set, or a verdict */
    char *comment;          /* NULL: none */
    char *chain;            /* a verdict's chain, NULL: none */
    bool is_end;            /* of a set of intervals: the first key behind one */
} NetNftElement;
/* All elements of a set, transfer full (of NetNftElement); for gc and check only: its cost grows
 * with the set. */
GPtrArray *net_nft_list(NetNftFamily family, const char *set, GError **error);
/* Deletes elements as net_nft_list() gave them, but those of intervals, a few in each transaction;
 * absent is success. */
bool net_nft_delete_listed(NetNftFamily family, const char *set, NetNftElement *const *elements,
                           unsigned n_elements, GError **error);
/* Names of the chains of our table, transfer full; none without the table. */
GPtrArray *net_nft_list_chains(NetNftFamily family, GError **error);
/* A chain's rules in order: comment and handle. family and table: any (NFPROTO_*). No such chain:
 * *out_rules NULL, else transfer full. */
typedef struct {
    char *comment; /* NULL: none */
    uint64_t handle;
} NetNftRule;
bool net_nft_list_rules(uint8_t nfproto, const char *table, const char *chain,
                        GPtrArray **out_rules, GError **error);
/* Base chains of other tables than ours, of any family. */
typedef struct {
    uint8_t nfproto;
    char *table, *chain;
    uint32_t hook;    /* NF_INET_*; NO_HOOK: an ordinary chain */
    bool is_dropping; /* policy drop */
} NetNftChain;
enum { NET_NFT_NO_HOOK = UINT32_MAX };
GPtrArray *net_nft_list_foreign_chains(GError **error);

/* The generation of the whole rule set of this namespace: unchanged means nobody changed anything.
 */
bool net_nft_generation(uint32_t *out_generation, GError **error);
/* Hash over the base rules, chains and sets (not their elements) of our table, 0: there is no
 * table. Members' chains are not looked into, so that it costs the same at any number of them.
 * Unchanged as long as nobody writes a rule; the same text written anew may have another. */
bool net_nft_fingerprint(NetNftFamily family, uint64_t *out_hash, GError **error);
/* A hash that costs a tenth of the fingerprint (one dump of chains): over the base chains and how
 * many rules and jumps each has, so it changes with all that is flushed or removed, but not with a
 * rule that is replaced. shared: chains that members' rules lead to, which are not counted in. */
bool net_nft_shape(NetNftFamily family, const char *const *shared, uint64_t *out_hash,
                   GError **error);
