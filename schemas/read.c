#include "schemas/read.h"

#include <string.h>
#include "schemas/slot.h"

void spec_origin_keep(GHashTable *origins, const char *path, const BasePos *pos)
{
    if (origins) {
        BasePos copy = base_pos_copy(pos);
        g_hash_table_replace(origins, g_strdup(path), g_memdup2(&copy, sizeof(copy)));
    }
}

void spec_read_mistake(SpecReader *reader, VmError code, const SpecNode *node, const char *path,
                       const char *hint, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    bool has_both = reader->prefix && *path;
    BasePos pos = spec_node_pos(node);
    base_report_error(reader->report, code, &pos, hint, "%s%s%s: %s",
                      reader->prefix ? reader->prefix : "", has_both ? "." : "", path, what);
}

static void read_group(const SpecSlot *slot)
{
    if (slot->node->kind != SPEC_NODE_MAP) {
        spec_slot_expected(slot, NULL);
        return;
    }
    spec_read_map(slot->reader, slot->option->table, slot->path, slot->node, slot->path,
                  slot->base);
}

static void read_source(const SpecSlot *slot)
{
    spec_read_source(slot->reader, slot->option, slot->node, slot->path,
                     SPEC_MEMBER(SpecText, slot->option, slot->base));
}

static void read_objects(const SpecSlot *slot)
{
    const SpecObjectType *type = slot->option->object;
    GPtrArray *list = spec_slot_list(slot, type->free);
    if (spec_slot_check_items(slot, SPEC_NODE_MAP, list->len)) {
        spec_read_named(slot->reader, type, slot->node, slot->path, list);
    }
}

/* The mistake stands at the key when there is one, else (--set) at the value. */
static void read_later_at(const SpecSlot *slot, const SpecNode *key)
{
    const SpecNode *value = slot->node;
    const char *same = slot->option->default_text;
    if (!same || value->kind != SPEC_NODE_SCALAR || !g_str_equal(value->text, same)) {
        spec_read_mistake(slot->reader, VM_ERROR_SCHEMA, key, slot->path, NULL,
                          "not supported yet");
    }
}

static void read_later(const SpecSlot *slot)
{
    read_later_at(slot, slot->node);
}

static void (*const readers[])(const SpecSlot *) = {
    [SPEC_KIND_STRING] = spec_read_string,   [SPEC_KIND_UINT] = spec_read_uint,
    [SPEC_KIND_SIZE] = spec_read_measure,    [SPEC_KIND_DURATION] = spec_read_measure,
    [SPEC_KIND_RATE] = spec_read_measure,    [SPEC_KIND_ENUM] = spec_read_enum,
    [SPEC_KIND_BOOL] = spec_read_bool,       [SPEC_KIND_TEXT] = spec_read_string,
    [SPEC_KIND_SOURCE] = read_source,        [SPEC_KIND_STRINGS] = spec_read_strings,
    [SPEC_KIND_WORDS] = spec_read_words,     [SPEC_KIND_MAP] = spec_read_pairs,
    [SPEC_KIND_RECORDS] = spec_read_records, [SPEC_KIND_OBJECTS] = read_objects,
    [SPEC_KIND_GROUP] = read_group,          [SPEC_KIND_LATER] = read_later,
};
G_STATIC_ASSERT(G_N_ELEMENTS(readers) == SPEC_KIND_N);

void spec_read_value(SpecReader *reader, const SpecOption *option, const SpecNode *node,
                     const char *path, void *base)
{
    SpecSlot slot = {reader, option, node, path, base};
    BasePos pos = spec_node_pos(node);
    spec_origin_keep(reader->origins, path, &pos);
    readers[option->kind](&slot);
}

static void unknown_key(SpecReader *reader, const SpecTable *table, const char *group,
                        const SpecNode *key, const char *path)
{
    g_autofree const char **keys = spec_table_keys(table, group);
    const char *near = base_report_nearest(key->text, keys);
    g_autofree char *hint = near ? g_strdup_printf("did you mean '%s'?", near) : NULL;
    spec_read_mistake(reader, VM_ERROR_SCHEMA, key, path, hint, "unknown key");
}

static void read_entry(SpecReader *reader, const SpecOption *option, const SpecNode *key,
                       const SpecNode *value, const char *path, void *base)
{
    SpecSlot slot = {reader, option, value, path, base};
    if (!option) {
        return;
    }
    if (option->is_map_key && !reader->is_record) {
        spec_read_mistake(reader, VM_ERROR_SCHEMA, key, path, "the key above it is the name",
                          "is no key here");
    } else if (option->kind == SPEC_KIND_LATER) {
        read_later_at(&slot, key);
    } else {
        spec_read_value(reader, option, value, path, base);
    }
}

void spec_read_required(SpecReader *reader, const SpecTable *table, const SpecNode *map,
                        const char *path)
{
    for (unsigned i = 0; i < table->n_options; i++) {
        const SpecOption *row = &table->options[i];
        if (row->is_required && !spec_node_get(map, row->info.path)) {
            g_autofree char *full =
                *path ? g_strdup_printf("%s.%s", path, row->info.path) : g_strdup(row->info.path);
            spec_read_mistake(reader, VM_ERROR_SCHEMA, map, full, NULL, "is missing");
        }
    }
}

void spec_read_map(SpecReader *reader, const SpecTable *table, const char *group,
                   const SpecNode *map, const char *path, void *base)
{
    for (unsigned i = 0; i < spec_node_n(map); i++) {
        const SpecNode *key = spec_node_key(map, i);
        g_autofree char *row_path =
            *group ? g_strdup_printf("%s.%s", group, key->text) : g_strdup(key->text);
        g_autofree char *full =
            *path ? g_strdup_printf("%s.%s", path, key->text) : g_strdup(key->text);
        bool is_one_word = !strchr(key->text, '.') && !spec_node_has_nul(key);
        const SpecOption *option = is_one_word ? spec_table_find(table, row_path) : NULL;
        if (key->is_duplicate) {
            continue;
        }
        read_entry(reader, option, key, spec_node_item(map, i), full, base);
        if (!option) {
            unknown_key(reader, table, group, key, full);
        }
    }
}

void spec_read_defaults(const SpecTable *table, GHashTable *origins, void *base)
{
    g_autoptr(BaseReport) report = base_report_new();
    SpecReader reader = {.report = report};
    for (unsigned i = 0; i < table->n_options; i++) {
        const SpecOption *row = &table->options[i];
        const char *text = row->default_text;
        if (!text || row->kind == SPEC_KIND_LATER ||
            (origins && g_hash_table_contains(origins, row->info.path))) {
            continue;
        }
        g_autoptr(SpecNode) node = spec_node_new_scalar(text, strlen(text), true);
        spec_read_value(&reader, row, node, row->info.path, base);
    }
    g_assert(base_report_n_errors(report) == 0);
}
