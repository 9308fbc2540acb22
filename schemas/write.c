#include "schemas/write.h"

#include <string.h>
#include "schemas/value.h"

#define MEMBER(type, option, base)                                                                 \
    (*(type const *)(const void *)((const char *)(base) + (option)->offset))

typedef struct {
    const SpecWriter *writer;
    const SpecOption *option;
    const char *path;
    const void *base;
} Slot;

static SpecNode *text_node(const char *text)
{
    return text ? spec_node_new_scalar(text, strlen(text), false) : NULL;
}

static SpecNode *plain_node(const char *text)
{
    return spec_node_new_scalar(text, strlen(text), true);
}

static SpecNode *number_node(uint64_t value)
{
    g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, value);
    return plain_node(text);
}

static SpecNode *write_string(const Slot *slot)
{
    return text_node(MEMBER(char *, slot->option, slot->base));
}

static SpecNode *write_uint(const Slot *slot)
{
    unsigned value = MEMBER(unsigned, slot->option, slot->base);
    return value < slot->option->min ? NULL : number_node(value);
}

static SpecNode *write_measure(const Slot *slot)
{
    uint64_t value = MEMBER(uint64_t, slot->option, slot->base);
    if (value < slot->option->min) {
        return NULL; /* 0: not given */
    }
    SpecKind kind = slot->option->kind;
    g_autofree char *text = kind == SPEC_KIND_SIZE   ? spec_format_size(value)
                            : kind == SPEC_KIND_RATE ? spec_format_rate(value)
                                                     : spec_format_duration(value);
    return text_node(text);
}

static SpecNode *write_enum(const Slot *slot)
{
    unsigned index = slot->option->size == sizeof(bool)
                         ? MEMBER(bool, slot->option, slot->base)
                         : MEMBER(unsigned, slot->option, slot->base);
    return text_node(slot->option->choices->texts[index]);
}

static SpecNode *write_bool(const Slot *slot)
{
    return plain_node(MEMBER(bool, slot->option, slot->base) ? "true" : "false");
}

static SpecNode *write_strings(const Slot *slot)
{
    SpecNode *list = spec_node_new(SPEC_NODE_LIST);
    const GPtrArray *items = MEMBER(GPtrArray *, slot->option, slot->base);
    for (unsigned i = 0; items && i < items->len; i++) {
        spec_node_append(list, text_node(g_ptr_array_index(items, i)));
    }
    return list;
}

static SpecNode *write_words(const Slot *slot)
{
    SpecNode *list = spec_node_new(SPEC_NODE_LIST);
    unsigned set = MEMBER(unsigned, slot->option, slot->base);
    for (unsigned i = 0; slot->option->choices->texts[i]; i++) {
        if (set & (1u << i)) {
            spec_node_append(list, text_node(slot->option->choices->texts[i]));
        }
    }
    return list;
}

static SpecNode *write_pairs(const Slot *slot)
{
    SpecNode *map = spec_node_new(SPEC_NODE_MAP);
    GHashTable *pairs = MEMBER(GHashTable *, slot->option, slot->base);
    g_autoptr(GList) keys = pairs ? g_hash_table_get_keys(pairs) : NULL;
    keys = g_list_sort(keys, (GCompareFunc)strcmp);
    for (const GList *key = keys; key; key = key->next) {
        spec_node_put_key(map, key->data, text_node(g_hash_table_lookup(pairs, key->data)));
    }
    return map;
}

/* How many keys of the record at `path` were written. */
static unsigned n_written(GHashTable *origins, const char *path)
{
    g_autofree char *below = g_strconcat(path, ".", NULL);
    GHashTableIter iter;
    gpointer key;
    unsigned n = 0;
    g_hash_table_iter_init(&iter, origins);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        n += g_str_has_prefix(key, below);
    }
    return n;
}

/* The one-line form of a record that has a map form says one key; ours keep all of them. */
static bool is_one_line(const Slot *slot, const char *path)
{
    const SpecRecordType *type = slot->option->record;
    if (!type->table || !type->to_text) {
        return type->to_text != NULL;
    }
    return slot->writer->origins && n_written(slot->writer->origins, path) <= 1;
}

static SpecNode *write_record(const Slot *slot, const void *record, unsigned i)
{
    const SpecRecordType *type = slot->option->record;
    g_autofree char *path = g_strdup_printf("%s[%u]", slot->path, i);
    g_autofree char *text = is_one_line(slot, path) ? type->to_text(record) : NULL;
    if (text) {
        return text_node(text);
    }
    SpecNode *map = spec_write_table(slot->writer, type->table, path, record);
    if (type->to_map) {
        type->to_map(record, map);
    }
    return map;
}

static SpecNode *write_records(const Slot *slot)
{
    SpecNode *list = spec_node_new(SPEC_NODE_LIST);
    const GPtrArray *records = MEMBER(GPtrArray *, slot->option, slot->base);
    for (unsigned i = 0; records && i < records->len; i++) {
        spec_node_append(list, write_record(slot, g_ptr_array_index(records, i), i));
    }
    return list;
}

/* As schemas/source.c reads it back. */
static SpecNode *source_record(const SpecText *text)
{
    SpecNode *map = spec_node_new(SPEC_NODE_MAP);
    bool is_text = g_utf8_validate(text->text, (gssize)text->n_bytes, NULL) &&
                   strlen(text->text) == text->n_bytes;
    if (is_text) {
        spec_node_put_key(map, "text", text_node(text->text));
    } else {
        g_autofree char *base64 = g_base64_encode((const guchar *)text->text, text->n_bytes);
        spec_node_put_key(map, "base64", text_node(base64));
    }
    spec_node_put_key(map, "file", text_node(text->pos.file ? text->pos.file : ""));
    spec_node_put_key(map, "line", number_node(text->pos.line));
    spec_node_put_key(map, "col", number_node(text->pos.col));
    spec_node_put_key(map, "is_file", plain_node(text->is_file ? "true" : "false"));
    return map;
}

static SpecNode *write_source(const Slot *slot)
{
    const SpecText *text = &MEMBER(SpecText, slot->option, slot->base);
    if (!text->text) {
        return NULL;
    }
    if (slot->writer->is_record) {
        return source_record(text);
    }
    return text_node(text->is_file ? text->pos.file : text->text);
}

static SpecNode *write_nothing(const Slot *slot)
{
    (void)slot;
    return NULL;
}

static SpecNode *(*const writers[])(const Slot *) = {
    [SPEC_KIND_STRING] = write_string,   [SPEC_KIND_UINT] = write_uint,
    [SPEC_KIND_SIZE] = write_measure,    [SPEC_KIND_DURATION] = write_measure,
    [SPEC_KIND_RATE] = write_measure,    [SPEC_KIND_ENUM] = write_enum,
    [SPEC_KIND_BOOL] = write_bool,       [SPEC_KIND_TEXT] = write_string,
    [SPEC_KIND_SOURCE] = write_source,   [SPEC_KIND_STRINGS] = write_strings,
    [SPEC_KIND_WORDS] = write_words,     [SPEC_KIND_MAP] = write_pairs,
    [SPEC_KIND_RECORDS] = write_records, [SPEC_KIND_OBJECTS] = write_nothing,
    [SPEC_KIND_GROUP] = write_nothing,   [SPEC_KIND_LATER] = write_nothing,
};
G_STATIC_ASSERT(G_N_ELEMENTS(writers) == SPEC_KIND_N);

/* The map that `option` stands in: the top, or that of its group, made at its first key. */
static SpecNode *map_of(SpecNode *top, const SpecOption *option)
{
    const char *key = spec_option_key(option);
    if (key == option->info.path) {
        return top;
    }
    g_autofree char *group = g_strndup(option->info.path, (size_t)(key - option->info.path - 1));
    SpecNode *map = spec_node_get(top, group);
    if (!map) {
        map = spec_node_new(SPEC_NODE_MAP);
        spec_node_put_key(top, group, map);
    }
    return map;
}

static bool is_wanted(const SpecWriter *writer, const SpecOption *option, const char *path)
{
    if (option->info.is_secret && !writer->with_secrets) {
        return false;
    }
    if (option->is_map_key && !writer->is_record) {
        return false;
    }
    return !writer->origins || g_hash_table_contains(writer->origins, path);
}

SpecNode *spec_write_table(const SpecWriter *writer, const SpecTable *table, const char *path,
                           const void *base)
{
    SpecNode *top = spec_node_new(SPEC_NODE_MAP);
    for (unsigned i = 0; i < table->n_options; i++) {
        const SpecOption *option = &table->options[i];
        g_autofree char *full =
            *path ? g_strdup_printf("%s.%s", path, option->info.path) : g_strdup(option->info.path);
        Slot slot = {writer, option, full, base};
        SpecNode *node = is_wanted(writer, option, full) ? writers[option->kind](&slot) : NULL;
        if (node) {
            spec_node_put_key(map_of(top, option), spec_option_key(option), node);
        }
    }
    return top;
}
