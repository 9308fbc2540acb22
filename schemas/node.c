#include "schemas/node.h"

#include <string.h>

static void free_node(void *node)
{
    spec_node_free(node);
}

SpecNode *spec_node_new(SpecNodeKind kind)
{
    SpecNode *node = g_new0(SpecNode, 1);
    node->kind = kind;
    if (kind != SPEC_NODE_SCALAR) {
        node->items = g_ptr_array_new_with_free_func(free_node);
    }
    if (kind == SPEC_NODE_MAP) {
        node->keys = g_ptr_array_new_with_free_func(free_node);
    }
    return node;
}

SpecNode *spec_node_new_scalar(const char *text, size_t n_bytes, bool is_plain)
{
    SpecNode *node = spec_node_new(SPEC_NODE_SCALAR);
    node->text = g_malloc(n_bytes + 1);
    memcpy(node->text, text, n_bytes);
    node->text[n_bytes] = '\0';
    node->n_bytes = n_bytes;
    node->is_plain = is_plain;
    return node;
}

void spec_node_free(SpecNode *node)
{
    if (!node) {
        return;
    }
    g_clear_pointer(&node->keys, g_ptr_array_unref);
    g_clear_pointer(&node->items, g_ptr_array_unref);
    g_free(node->text);
    g_free(node);
}

void spec_node_append(SpecNode *list, SpecNode *item)
{
    g_assert(list->kind == SPEC_NODE_LIST);
    g_ptr_array_add(list->items, item);
}

void spec_node_put(SpecNode *map, SpecNode *key, SpecNode *value)
{
    g_assert(map->kind == SPEC_NODE_MAP);
    g_ptr_array_add(map->keys, key);
    g_ptr_array_add(map->items, value);
}

void spec_node_put_key(SpecNode *map, const char *key, SpecNode *value)
{
    spec_node_put(map, spec_node_new_scalar(key, strlen(key), false), value);
}

SpecNode *spec_node_get(const SpecNode *map, const char *key)
{
    for (unsigned i = 0; map->kind == SPEC_NODE_MAP && i < map->keys->len; i++) {
        if (g_str_equal(spec_node_key(map, i)->text, key)) {
            return spec_node_item(map, i);
        }
    }
    return NULL;
}

unsigned spec_node_n(const SpecNode *node)
{
    return node->items ? node->items->len : 0;
}

SpecNode *spec_node_item(const SpecNode *node, unsigned i)
{
    return g_ptr_array_index(node->items, i);
}

SpecNode *spec_node_key(const SpecNode *map, unsigned i)
{
    return g_ptr_array_index(map->keys, i);
}

BasePos spec_node_pos(const SpecNode *node)
{
    return (BasePos){(char *)node->file, node->line, node->col};
}

bool spec_node_has_nul(const SpecNode *node)
{
    return node->kind == SPEC_NODE_SCALAR && strlen(node->text) != node->n_bytes;
}

bool spec_node_is_null(const SpecNode *node)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    return node->kind == SPEC_NODE_SCALAR && node->is_plain && !spec_node_has_nul(node) &&
           g_strv_contains(nulls, node->text);
}

char *spec_node_shown(const SpecNode *node)
{
    if (node->kind != SPEC_NODE_SCALAR) {
        return g_strdup(node->kind == SPEC_NODE_LIST ? "a list" : "a map");
    }
    if (spec_node_is_null(node)) {
        return g_strdup("nothing");
    }
    g_autofree char *shown = base_report_escape(node->text, 60);
    return node->is_plain ? g_strdup_printf("'%s'", shown)
                          : g_strdup_printf("the quoted text '%s'", shown);
}
