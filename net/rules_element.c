#include "net/rules_internal.h"

#include <string.h>

static void free_element(gpointer data)
{
    NetRulesElement *element = data;
    json_decref(element->json_key);
    json_decref(element->json_value);
    g_free(element->what);
    g_free(element);
}

GPtrArray *net_rules_elements_new(void)
{
    return g_ptr_array_new_with_free_func(free_element);
}

static bool is_same_value(const NetRulesElement *element, const NetNftBytes *value)
{
    return element->value.n_bytes == value->n_bytes &&
           !memcmp(element->value.bytes, value->bytes, value->n_bytes);
}

bool net_rules_look(const NetRulesElement *element, NetRulesState *out_state, char **out_holder,
                    NetNftBytes *out_value, GError **error)
{
    NetNftFound found = NET_NFT_ABSENT;
    NetNftBytes value = {0};
    g_autofree char *holder = NULL;
    bool is_read = base_ip_is_set(&element->prefix.ip)
                       ? net_nft_get_prefix(NET_NFT_INET, element->set, &element->prefix, &found,
                                            &holder, error)
                       : net_nft_get(NET_NFT_INET, element->set, &element->key, &found, &value,
                                     &holder, error);
    if (!is_read) {
        return false;
    }
    bool is_owners = element->is_shared || g_strcmp0(holder, element->owner) == 0;
    *out_state = found == NET_NFT_ABSENT          ? NET_RULES_ABSENT
                 : !is_owners                     ? NET_RULES_TAKEN
                 : is_same_value(element, &value) ? NET_RULES_OURS
                                                  : NET_RULES_STALE;
    if (out_holder) {
        *out_holder = g_steal_pointer(&holder);
    }
    if (out_value) {
        *out_value = value;
    }
    return true;
}

static NetNftTwin twin_of(const NetRulesElement *element)
{
    return (NetNftTwin){.set = element->set,
                        .key = &element->key,
                        .prefix = base_ip_is_set(&element->prefix.ip) ? &element->prefix : NULL,
                        .value = element->value.n_bytes ? &element->value : NULL,
                        .json_key = element->json_key,
                        .json_value = element->json_value,
                        .comment = element->owner};
}

void net_rules_put(NetNftBatch *batch, const NetRulesElement *element, bool is_stale)
{
    NetNftTwin twin = twin_of(element);
    if (is_stale) {
        net_nft_delete_twin(batch, NET_NFT_INET, &twin);
    }
    net_nft_add_twin(batch, NET_NFT_INET, &twin);
}

void net_rules_take(NetNftBatch *batch, const NetRulesElement *element)
{
    NetNftTwin twin = twin_of(element);
    net_nft_add_twin(batch, NET_NFT_INET, &twin);
    net_nft_delete_twin(batch, NET_NFT_INET, &twin);
}

char *net_rules_owner_text(const char *owner)
{
    g_auto(GStrv) parts = g_strsplit(owner ? owner : "", ":", 3);
    if (g_strv_length(parts) < 3) {
        return g_strdup("somebody else");
    }
    return strcmp(parts[1], "net") == 0
               ? g_strdup_printf("network '%s' of state %s", parts[2], parts[0])
               : g_strdup_printf("machine %s of state %s", parts[1], parts[0]);
}

bool net_rules_is_of_store(const char *owner, const char *store_id)
{
    size_t n = strlen(store_id);
    return owner && !strncmp(owner, store_id, n) && owner[n] == ':';
}
