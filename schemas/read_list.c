#include <string.h>
#include "schemas/check_text.h"
#include "schemas/slot.h"

bool spec_slot_check_items(const SpecSlot *slot, SpecNodeKind kind, unsigned n_had)
{
    const SpecNode *node = slot->node;
    if (node->kind != kind) {
        spec_slot_expected(slot, node->kind == SPEC_NODE_SCALAR && kind == SPEC_NODE_LIST &&
                                         !spec_node_is_null(node)
                                     ? "put it in [ ]"
                                     : NULL);
        return false;
    }
    if (n_had + spec_node_n(node) > slot->option->max_items) {
        spec_read_mistake(slot->reader, VM_ERROR_RANGE, node, slot->path, NULL,
                          "%u are more than the %u that are allowed", n_had + spec_node_n(node),
                          slot->option->max_items);
        return false;
    }
    return true;
}

/* An element of ssh_keys: "agent", a key as it stands, or a path. NULL: reported. Transfer full. */
static char *read_ssh_key(SpecReader *reader, const SpecNode *node, const char *path)
{
    g_autofree char *text = g_strchomp(g_strdup(node->text));
    if (strstr(text, "PRIVATE KEY")) {
        spec_read_mistake(reader, VM_ERROR_SECRET, node, path, "give the public key",
                          "a private key stands here");
        return NULL;
    }
    if (strpbrk(text, "\n\r")) {
        spec_read_mistake(reader, VM_ERROR_CI, node, path, "one key a list item",
                          "has several lines");
        return NULL;
    }
    if (g_str_has_prefix(text, "gh:") || g_str_has_prefix(text, "lp:")) {
        spec_read_mistake(reader, VM_ERROR_SCHEMA, node, path, "save the keys to a file",
                          "'%s': keys of an online account are not supported yet", text);
        return NULL;
    }
    bool is_path = !g_str_equal(text, "agent") && !g_str_has_prefix(text, "~/") &&
                   (!strpbrk(text, " \t") || strchr("./", text[0]));
    return is_path ? spec_read_path(reader, node, path, text) : g_steal_pointer(&text);
}

static char *read_element(const SpecSlot *slot)
{
    const SpecOption *o = slot->option;
    bool is_multiline = o->is_multiline || o->is_ssh_key;
    if (!spec_check_scalar(slot->reader, o, slot->node, slot->path, o->is_multiline) ||
        !spec_check_text(slot->reader, o, slot->node, slot->path, is_multiline)) {
        return NULL;
    }
    if (o->is_ssh_key) {
        return read_ssh_key(slot->reader, slot->node, slot->path);
    }
    bool is_file = o->is_loadable && !slot->reader->is_record && !strchr(slot->node->text, '\n');
    return is_file ? spec_read_pem(slot->reader, slot->node, slot->path)
                   : g_strdup(slot->node->text);
}

void spec_slot_keep_origin(const SpecSlot *slot)
{
    BasePos pos = spec_node_pos(slot->node);
    spec_origin_keep(slot->reader->origins, slot->path, &pos);
}

GPtrArray *spec_slot_list(const SpecSlot *slot, GDestroyNotify free_item)
{
    GPtrArray **member = SPEC_MEMBER(GPtrArray *, slot->option, slot->base);
    if (!*member) {
        *member = g_ptr_array_new_with_free_func(free_item);
    }
    return *member;
}

void spec_read_strings(const SpecSlot *slot)
{
    GPtrArray *list = spec_slot_list(slot, g_free);
    if (!spec_slot_check_items(slot, SPEC_NODE_LIST, list->len)) {
        return;
    }
    for (unsigned i = 0, at = list->len; i < spec_node_n(slot->node); i++, at++) {
        g_autofree char *path = g_strdup_printf("%s[%u]", slot->path, at);
        SpecSlot item = {slot->reader, slot->option, spec_node_item(slot->node, i), path, NULL};
        char *text = read_element(&item);
        if (text) {
            spec_slot_keep_origin(&item);
            g_ptr_array_add(list, text);
        }
    }
}

void spec_read_words(const SpecSlot *slot)
{
    if (!spec_slot_check_items(slot, SPEC_NODE_LIST, 0)) {
        return;
    }
    unsigned set = *SPEC_MEMBER(unsigned, slot->option, slot->base);
    for (unsigned i = 0; i < spec_node_n(slot->node); i++) {
        const SpecNode *node = spec_node_item(slot->node, i);
        g_autofree char *path = g_strdup_printf("%s[%u]", slot->path, i);
        bool is_pair = node->kind == SPEC_NODE_MAP && spec_node_n(node) == 1;
        SpecSlot item = {slot->reader, slot->option, is_pair ? spec_node_key(node, 0) : node, path,
                         NULL};
        int index = -1;
        if (item.node->kind != SPEC_NODE_SCALAR || spec_node_is_null(item.node) ||
            (is_pair && !spec_text_is_among(item.node->text, slot->option->choices->later))) {
            spec_read_mistake(slot->reader, VM_ERROR_SCHEMA, item.node, path, NULL,
                              "expected a word");
        } else {
            index = spec_slot_choice(&item);
        }
        set |= index < 0 ? 0 : 1u << index;
    }
    *SPEC_MEMBER(unsigned, slot->option, slot->base) = set;
}

static void read_map_entry(const SpecSlot *slot, const SpecNode *key, GHashTable *map)
{
    const SpecOption *o = slot->option;
    if (spec_node_has_nul(key) || !spec_pattern_matches(o->pattern, key->text)) {
        spec_read_mistake(slot->reader, o->code, key, slot->path, o->pattern_hint,
                          "the name is not allowed");
    } else if (spec_check_scalar(slot->reader, o, slot->node, slot->path, false) &&
               spec_check_text(slot->reader, o, slot->node, slot->path, false)) {
        g_hash_table_replace(map, g_strdup(key->text), g_strdup(slot->node->text));
        BasePos pos = spec_node_pos(slot->node);
        spec_origin_keep(slot->reader->origins, slot->path, &pos);
    }
}

void spec_read_pairs(const SpecSlot *slot)
{
    GHashTable **member = SPEC_MEMBER(GHashTable *, slot->option, slot->base);
    if (!*member) {
        *member = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    }
    if (!spec_slot_check_items(slot, SPEC_NODE_MAP, g_hash_table_size(*member))) {
        return;
    }
    for (unsigned i = 0; i < spec_node_n(slot->node); i++) {
        const SpecNode *key = spec_node_key(slot->node, i);
        g_autofree char *path = g_strdup_printf("%s.%s", slot->path, key->text);
        SpecSlot entry = {slot->reader, slot->option, spec_node_item(slot->node, i), path, NULL};
        if (!key->is_duplicate) {
            read_map_entry(&entry, key, *member);
        }
    }
}
