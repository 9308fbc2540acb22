#include <string.h>
#include "schemas/read.h"

#define AT(type, base, offset) ((type *)(void *)((char *)(base) + (offset)))

/* The name stands in front of the colon; its row in the table has the rule. */
static void check_name(const SpecObjectType *type, const SpecNode *key, BaseReport *report)
{
    BasePos pos = spec_node_pos(key);
    const char *why = "holds a NUL character";
    if (spec_node_has_nul(key) || !spec_table_find(type->table, "name")->rule(key->text, &why)) {
        base_report_error(report, VM_ERROR_NAME, &pos, NULL, "name '%s' %s", key->text, why);
    }
}

/* So that nobody complains about the same again. */
static void excuse_all(const SpecTable *table, GHashTable *origins, const BasePos *pos)
{
    for (unsigned i = 0; i < table->n_options; i++) {
        if (!table->options[i].info.is_list) {
            spec_origin_keep(origins, table->options[i].info.path, pos);
        }
    }
}

static void read_object(const SpecReader *outer, const SpecObjectType *type, const SpecNode *key,
                        const SpecNode *node, const char *path, void *object)
{
    SpecReader reader = *outer;
    BasePos pos = spec_node_pos(key);
    reader.prefix = path;
    reader.origins = *AT(GHashTable *, object, type->origins_offset);
    *AT(char *, object, type->name_offset) = g_strdup(key->text);
    if (type->pos_offset) {
        *AT(BasePos, object, type->pos_offset) = base_pos_copy(&pos);
    }
    spec_origin_keep(reader.origins, "name", &pos);
    check_name(type, key, outer->report);
    if (node->kind == SPEC_NODE_MAP) {
        spec_read_map(&reader, type->table, "", node, "", object);
        return;
    }
    g_autofree char *shown = spec_node_shown(node);
    spec_read_mistake(&reader, VM_ERROR_SCHEMA, spec_node_is_null(node) ? key : node, "", NULL,
                      "expected a map, got %s", shown);
    excuse_all(type->table, reader.origins, &pos);
}

void spec_read_named(SpecReader *reader, const SpecObjectType *type, const SpecNode *map,
                     const char *path, GPtrArray *objects)
{
    if (spec_node_n(map) == 0 && type->is_needed) {
        spec_read_mistake(reader, VM_ERROR_SCHEMA, map, path, NULL, "has no %s", type->noun);
    }
    for (unsigned i = 0; i < spec_node_n(map); i++) {
        const SpecNode *key = spec_node_key(map, i);
        g_autofree char *full = g_strdup_printf("%s.%s", path, key->text);
        if (!key->is_duplicate) {
            void *object = type->make();
            g_ptr_array_add(objects, object);
            read_object(reader, type, key, spec_node_item(map, i), full, object);
        }
    }
}
