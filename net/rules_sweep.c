#include "net/rules.h"

#include <string.h>
#include "base/error.h"
#include "net/filter.h"
#include "net/rules_internal.h"

/* Whose things go. */
typedef struct {
    const char *store_id;
    GHashTable *owners; /* of char*: these stay */
    bool is_dry_run;
    GHashTable *gone; /* owner -> how many things of it */
} Sweep;

static void count_gone(const Sweep *sweep, const char *owner)
{
    guint n = GPOINTER_TO_UINT(g_hash_table_lookup(sweep->gone, owner));
    g_hash_table_insert(sweep->gone, g_strdup(owner), GUINT_TO_POINTER(n + 1));
}

static bool is_orphan(const Sweep *sweep, const char *owner)
{
    return net_rules_is_of_store(owner, sweep->store_id) &&
           !g_hash_table_contains(sweep->owners, owner);
}

/* --- sets --------------------------------------------------------------------- */

/* A foreign bridge may have other users, whose elements these are as well. */
static bool is_used(const GPtrArray *users, const Sweep *sweep, const NetNftElement *element)
{
    enum { IFNAME_BYTES = 16 };
    for (unsigned i = 0; i < users->len; i++) {
        const NetNftElement *user = users->pdata[i];
        if (!is_orphan(sweep, user->comment) &&
            !memcmp(user->key.bytes, element->key.bytes, IFNAME_BYTES)) {
            return true;
        }
    }
    return false;
}

static bool is_of_links(const char *set)
{
    static const char *const sets[] = {"bridges", "own", "foreign", NULL};
    return g_strv_contains(sets, set);
}

static bool sweep_set(const Sweep *sweep, NetNftFamily family, const char *set,
                      const GPtrArray *users, GError **error)
{
    g_autoptr(GPtrArray) all = net_nft_list(family, set, error);
    g_autoptr(GPtrArray) orphans = g_ptr_array_new();
    if (!all) {
        return false;
    }
    for (unsigned i = 0; i < all->len; i++) {
        NetNftElement *element = all->pdata[i];
        bool is_kept = family == NET_NFT_INET && is_of_links(set) && is_used(users, sweep, element);
        if (is_orphan(sweep, element->comment) && !is_kept) {
            g_ptr_array_add(orphans, element);
            count_gone(sweep, element->comment);
        }
    }
    return sweep->is_dry_run ||
           net_nft_delete_listed(family, set, (NetNftElement *const *)orphans->pdata, orphans->len,
                                 error);
}

/* Intervals: begin and end are elements of their own, and only the begin has a comment. */
static json_t *range_of(const GPtrArray *all, const NetNftElement *begin)
{
    const NetNftElement *end = NULL;
    BaseIp first = {.n_bytes = (uint8_t)begin->key.n_bytes}, last = first;
    char first_text[BASE_IP_TEXT_BYTES], last_text[BASE_IP_TEXT_BYTES];
    for (unsigned i = 0; i < all->len; i++) {
        const NetNftElement *element = all->pdata[i];
        if (element->is_end &&
            memcmp(element->key.bytes, begin->key.bytes, begin->key.n_bytes) > 0 &&
            (!end || memcmp(element->key.bytes, end->key.bytes, end->key.n_bytes) < 0)) {
            end = element;
        }
    }
    memset(last.bytes, 0xff, last.n_bytes);
    memcpy(first.bytes, begin->key.bytes, first.n_bytes);
    if (end) {
        memcpy(last.bytes, end->key.bytes, last.n_bytes);
        for (int i = last.n_bytes - 1; i >= 0 && last.bytes[i]-- == 0; i--) {
        }
    }
    return json_pack("{s:[s,s]}", "range", base_ip_format(&first, first_text),
                     base_ip_format(&last, last_text));
}

static bool sweep_prefixes(const Sweep *sweep, const char *set, GError **error)
{
    g_autoptr(GPtrArray) all = net_nft_list(NET_NFT_INET, set, error);
    g_autoptr(NetNftBatch) batch = net_nft_batch_new();
    if (!all) {
        return false;
    }
    for (unsigned i = 0; i < all->len; i++) {
        const NetNftElement *element = all->pdata[i];
        if (!element->is_end && is_orphan(sweep, element->comment)) {
            net_nft_delete_element(batch, NET_NFT_INET, set, range_of(all, element));
            count_gone(sweep, element->comment);
        }
    }
    return sweep->is_dry_run || net_nft_commit(batch, error);
}

static bool sweep_sets(const Sweep *sweep, GError **error)
{
    g_autoptr(GPtrArray) users = net_nft_list(NET_NFT_INET, "users", error);
    if (!users) {
        return false;
    }
    for (const char *const *set = net_rules_sets; *set; set++) {
        if (!sweep_set(sweep, NET_NFT_INET, *set, users, error)) {
            return false;
        }
    }
    for (const char *const *set = net_rules_prefix_sets; *set; set++) {
        if (!sweep_prefixes(sweep, *set, error)) {
            return false;
        }
    }
    for (const char *const *set = net_filter_sets; *set; set++) {
        if (!sweep_set(sweep, NET_NFT_BRIDGE, *set, users, error)) {
            return false;
        }
    }
    return true;
}

/* --- chains and markers ------------------------------------------------------- */

/* Is it a chain of this store, of an owner that is not known? */
static bool is_orphan_chain(const Sweep *sweep, const char *chain)
{
    g_autofree char *store = net_nft_member_prefix(sweep->store_id);
    if (!g_str_has_prefix(chain, store)) {
        return false;
    }
    GHashTableIter iter;
    gpointer owner;
    g_hash_table_iter_init(&iter, sweep->owners);
    while (g_hash_table_iter_next(&iter, &owner, NULL)) {
        g_autofree char *prefix = net_nft_member_prefix(owner);
        if (g_str_has_prefix(chain, prefix)) {
            return false;
        }
    }
    return true;
}

/* Elements of the chains' owners went before, so nothing leads there any more. */
static bool sweep_chains(const Sweep *sweep, NetNftFamily family, GError **error)
{
    g_autoptr(GPtrArray) chains = net_nft_list_chains(family, error);
    g_autoptr(NetNftBatch) batch = net_nft_batch_new();
    if (!chains) {
        return false;
    }
    for (unsigned i = 0; i < chains->len; i++) {
        if (is_orphan_chain(sweep, chains->pdata[i])) {
            net_nft_flush_chain(batch, family, chains->pdata[i]);
            net_nft_delete_chain(batch, family, chains->pdata[i]);
            count_gone(sweep, chains->pdata[i]);
        }
    }
    return sweep->is_dry_run || net_nft_commit(batch, error);
}

/* Markers of ports that nothing has at an address any more. */
static bool sweep_markers(const char *markers, const char *map, unsigned n_ip_bytes, GError **error)
{
    g_autoptr(GPtrArray) held = net_nft_list(NET_NFT_INET, markers, error);
    g_autoptr(GPtrArray) all = held ? net_nft_list(NET_NFT_INET, map, error) : NULL;
    g_autoptr(GPtrArray) stale = g_ptr_array_new();
    if (!all) {
        return false;
    }
    for (unsigned i = 0; i < held->len; i++) {
        const NetNftElement *marker = held->pdata[i];
        bool is_needed = false;
        for (unsigned j = 0; j < all->len && !is_needed; j++) {
            const NetNftElement *port = all->pdata[j];
            is_needed =
                !memcmp(&port->key.bytes[n_ip_bytes], marker->key.bytes, marker->key.n_bytes);
        }
        if (!is_needed) {
            g_ptr_array_add(stale, held->pdata[i]);
        }
    }
    return net_nft_delete_listed(NET_NFT_INET, markers, (NetNftElement *const *)stale->pdata,
                                 stale->len, error);
}

/* --- the whole ---------------------------------------------------------------- */

static GPtrArray *texts_of(const Sweep *sweep)
{
    GPtrArray *texts = g_ptr_array_new_with_free_func(g_free);
    GHashTableIter iter;
    gpointer owner, n;
    g_hash_table_iter_init(&iter, sweep->gone);
    while (g_hash_table_iter_next(&iter, &owner, &n)) {
        bool is_chain = g_str_has_prefix(owner, NET_NFT_MEMBER_PREFIX);
        g_autofree char *who =
            is_chain ? g_strdup_printf("chain %s", (char *)owner) : net_rules_owner_text(owner);
        g_ptr_array_add(texts,
                        g_strdup_printf("network rules of %s (%u): %s", who, GPOINTER_TO_UINT(n),
                                        sweep->is_dry_run ? "to be removed" : "removed"));
    }
    return texts;
}

bool net_rules_sweep(const char *store_id, GHashTable *owners, bool is_dry_run,
                     GPtrArray **out_removed, GError **error)
{
    g_autoptr(NetRulesLock) lock = net_rules_lock(NET_RULES_LOCK_MS, error);
    g_autoptr(GHashTable) gone = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    const Sweep sweep = {store_id, owners, is_dry_run, gone};
    if (!lock || !sweep_sets(&sweep, error) || !sweep_chains(&sweep, NET_NFT_INET, error) ||
        !sweep_chains(&sweep, NET_NFT_BRIDGE, error) ||
        !net_rules_sweep_hooks(store_id, owners, is_dry_run, gone, error)) {
        return false;
    }
    if (!is_dry_run &&
        (!sweep_markers("held4", "pm4", 4, error) || !sweep_markers("held6", "pm6", 16, error) ||
         !net_rules_drop_unused_base(error))) {
        return false;
    }
    *out_removed = texts_of(&sweep);
    return true;
}
