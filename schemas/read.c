#include "schemas/read.h"

#include <string.h>
#include "schemas/check_text.h"
#include "schemas/value.h"

#define MEMBER(type, option, base) ((type *)(void *)((char *)(base) + (option)->offset))

typedef struct {
    SpecReader *reader;
    const SpecOption *option;
    const SpecNode *node;
    const char *path;
    void *base;
} Slot;

BasePos spec_pos_copy(const BasePos *pos)
{
    return (BasePos){g_strdup(pos->file), pos->line, pos->col};
}

void spec_origin_keep(GHashTable *origins, const char *path, const BasePos *pos)
{
    if (origins) {
        BasePos copy = spec_pos_copy(pos);
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

static void slot_mistake(const Slot *slot, VmError code, const char *hint, const char *what)
{
    spec_read_mistake(slot->reader, code, slot->node, slot->path, hint, "%s", what);
}

static void expected(const Slot *slot, const char *hint)
{
    g_autofree char *shown = spec_node_shown(slot->node);
    spec_read_mistake(slot->reader, VM_ERROR_SCHEMA, slot->node, slot->path, hint,
                      "expected %s, got %s", spec_kind_name(slot->option->kind), shown);
}

/* --- scalars ---------------------------------------------------------------------------------- */

static void read_string(const Slot *slot)
{
    const SpecOption *o = slot->option;
    bool is_multiline = o->kind == SPEC_KIND_TEXT;
    if (!spec_check_scalar(slot->reader, o, slot->node, slot->path, is_multiline) ||
        !spec_check_text(slot->reader, o, slot->node, slot->path, is_multiline)) {
        return;
    }
    bool is_url = o->is_url_allowed && (g_str_has_prefix(slot->node->text, "http://") ||
                                        g_str_has_prefix(slot->node->text, "https://"));
    const char *text = slot->node->text;
    char *value = o->is_path && !is_url ? spec_read_path(slot->reader, slot->node, slot->path, text)
                  : o->is_lower         ? g_ascii_strdown(text, -1)
                                        : g_strdup(text);
    if (value) {
        char **member = MEMBER(char *, o, slot->base);
        g_free(*member);
        *member = value;
    }
}

static char *number_text(const SpecOption *o, uint64_t value)
{
    return o->kind == SPEC_KIND_SIZE       ? spec_format_size(value)
           : o->kind == SPEC_KIND_DURATION ? spec_format_duration(value)
                                           : g_strdup_printf("%" G_GUINT64_FORMAT, value);
}

/* got: how the number was read. true: the value is within the row's limits. */
static bool check_number(const Slot *slot, SpecNumber got, uint64_t value)
{
    const SpecOption *o = slot->option;
    g_autofree char *shown = base_report_escape(slot->node->text, 60);
    if (got == SPEC_NUMBER_OUT_OF_RANGE || value < o->min || value > o->max) {
        g_autofree char *min = number_text(o, o->min);
        g_autofree char *max = number_text(o, o->max);
        bool is_one = o->min == o->max;
        spec_read_mistake(slot->reader, o->code ? o->code : VM_ERROR_RANGE, slot->node, slot->path,
                          o->pattern_hint, is_one ? "%s is not %s" : "%s is outside %s to %s",
                          shown, min, max);
        return false;
    }
    if (o->unit && value % o->unit != 0) {
        g_autofree char *unit = number_text(o, o->unit);
        spec_read_mistake(slot->reader, VM_ERROR_RANGE, slot->node, slot->path, NULL,
                          "%s is no multiple of %s", shown, unit);
        return false;
    }
    return true;
}

static void read_uint(const Slot *slot)
{
    const SpecNode *node = slot->node;
    uint64_t value = 0;
    if (!spec_check_scalar(slot->reader, slot->option, node, slot->path, false)) {
        return;
    }
    SpecNumber got = spec_parse_decimal(node->text, node->n_bytes, &value);
    if (!node->is_plain) {
        expected(slot, "write it without quotes");
    } else if (got == SPEC_NUMBER_MALFORMED) {
        expected(slot, "write it in decimal digits");
    } else if (check_number(slot, got, value)) {
        *MEMBER(unsigned, slot->option, slot->base) = (unsigned)value;
    }
}

static const char *unit_hint(const Slot *slot)
{
    bool is_bare = strspn(slot->node->text, "-0123456789") == slot->node->n_bytes;
    if (slot->option->kind == SPEC_KIND_SIZE) {
        return is_bare ? "add a unit: KiB, MiB, GiB or TiB"
                       : "write digits and one of KiB, MiB, GiB, TiB (or K, M, G, T), such as 2GiB";
    }
    return is_bare ? "add a unit: ms, s, m, h or d"
                   : "write digits and one of ms, s, m, h, d, such as 90s";
}

static void read_measure(const Slot *slot)
{
    const SpecNode *node = slot->node;
    uint64_t value = 0;
    if (!spec_check_scalar(slot->reader, slot->option, node, slot->path, false)) {
        return;
    }
    SpecNumber got = spec_node_has_nul(node) ? SPEC_NUMBER_MALFORMED
                     : slot->option->kind == SPEC_KIND_SIZE
                         ? spec_parse_size_form(node->text, &value)
                         : spec_parse_duration_form(node->text, &value);
    if (got == SPEC_NUMBER_MALFORMED) {
        expected(slot, unit_hint(slot));
    } else if (check_number(slot, got, value)) {
        *MEMBER(uint64_t, slot->option, slot->base) = value;
    }
}

static void read_bool(const Slot *slot)
{
    const SpecNode *node = slot->node;
    bool is_true = node->kind == SPEC_NODE_SCALAR && g_str_equal(node->text, "true");
    bool is_false = node->kind == SPEC_NODE_SCALAR && g_str_equal(node->text, "false");
    if (!spec_check_scalar(slot->reader, slot->option, node, slot->path, false)) {
        return;
    }
    if (!node->is_plain || !(is_true || is_false)) {
        expected(slot, (is_true || is_false) ? "write it without quotes" : NULL);
        return;
    }
    *MEMBER(bool, slot->option, slot->base) = is_true;
}

static bool is_among(const char *text, const char *const *texts)
{
    return texts && g_strv_contains(texts, text);
}

/* The index of the node's text among the row's choices, -1: reported. */
static int read_choice(const Slot *slot)
{
    const SpecChoices *choices = slot->option->choices;
    const char *text = slot->node->text;
    for (int i = 0; choices->texts[i]; i++) {
        if (g_str_equal(choices->texts[i], text)) {
            return i;
        }
    }
    g_autofree char *shown = spec_node_shown(slot->node);
    if (is_among(text, choices->later)) {
        spec_read_mistake(slot->reader, VM_ERROR_SCHEMA, slot->node, slot->path, NULL,
                          "%s is not supported yet", shown);
        return -1;
    }
    const char *near = base_report_nearest(text, choices->texts);
    if (choices->later_others && !near) {
        spec_read_mistake(slot->reader, VM_ERROR_SCHEMA, slot->node, slot->path, NULL,
                          "%s: %s are not supported yet", shown, choices->later_others);
        return -1;
    }
    g_autofree char *hint = near ? g_strdup_printf("did you mean '%s'?", near) : NULL;
    g_autofree char *all = g_strjoinv(", ", (char **)choices->texts);
    spec_read_mistake(slot->reader, VM_ERROR_SCHEMA, slot->node, slot->path, hint,
                      "%s is none of %s", shown, all);
    return -1;
}

static void read_enum(const Slot *slot)
{
    if (!spec_check_scalar(slot->reader, slot->option, slot->node, slot->path, false)) {
        return;
    }
    int index = read_choice(slot);
    if (index < 0) {
        return;
    }
    if (slot->option->size == sizeof(bool)) {
        *MEMBER(bool, slot->option, slot->base) = index != 0;
    } else {
        *MEMBER(unsigned, slot->option, slot->base) = (unsigned)index;
    }
}

/* --- lists and maps --------------------------------------------------------------------------- */

static bool check_items(const Slot *slot, SpecNodeKind kind, unsigned n_had)
{
    const SpecNode *node = slot->node;
    if (node->kind != kind) {
        expected(slot, node->kind == SPEC_NODE_SCALAR && kind == SPEC_NODE_LIST &&
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

static char *read_element(const Slot *slot)
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

static void keep_item_origin(const Slot *slot)
{
    BasePos pos = spec_node_pos(slot->node);
    spec_origin_keep(slot->reader->origins, slot->path, &pos);
}

static GPtrArray *list_member(const Slot *slot, GDestroyNotify free_item)
{
    GPtrArray **member = MEMBER(GPtrArray *, slot->option, slot->base);
    if (!*member) {
        *member = g_ptr_array_new_with_free_func(free_item);
    }
    return *member;
}

static void read_strings(const Slot *slot)
{
    GPtrArray *list = list_member(slot, g_free);
    if (!check_items(slot, SPEC_NODE_LIST, list->len)) {
        return;
    }
    for (unsigned i = 0, at = list->len; i < spec_node_n(slot->node); i++, at++) {
        g_autofree char *path = g_strdup_printf("%s[%u]", slot->path, at);
        Slot item = {slot->reader, slot->option, spec_node_item(slot->node, i), path, NULL};
        char *text = read_element(&item);
        if (text) {
            keep_item_origin(&item);
            g_ptr_array_add(list, text);
        }
    }
}

static void read_words(const Slot *slot)
{
    if (!check_items(slot, SPEC_NODE_LIST, 0)) {
        return;
    }
    unsigned set = *MEMBER(unsigned, slot->option, slot->base);
    for (unsigned i = 0; i < spec_node_n(slot->node); i++) {
        const SpecNode *node = spec_node_item(slot->node, i);
        g_autofree char *path = g_strdup_printf("%s[%u]", slot->path, i);
        bool is_pair = node->kind == SPEC_NODE_MAP && spec_node_n(node) == 1;
        Slot item = {slot->reader, slot->option, is_pair ? spec_node_key(node, 0) : node, path,
                     NULL};
        int index = -1;
        if (item.node->kind != SPEC_NODE_SCALAR || spec_node_is_null(item.node) ||
            (is_pair && !is_among(item.node->text, slot->option->choices->later))) {
            slot_mistake(&item, VM_ERROR_SCHEMA, NULL, "expected a word");
        } else {
            index = read_choice(&item);
        }
        set |= index < 0 ? 0 : 1u << index;
    }
    *MEMBER(unsigned, slot->option, slot->base) = set;
}

static void read_map_entry(const Slot *slot, const SpecNode *key, GHashTable *map)
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

static void read_pairs(const Slot *slot)
{
    GHashTable **member = MEMBER(GHashTable *, slot->option, slot->base);
    if (!*member) {
        *member = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    }
    if (!check_items(slot, SPEC_NODE_MAP, g_hash_table_size(*member))) {
        return;
    }
    for (unsigned i = 0; i < spec_node_n(slot->node); i++) {
        const SpecNode *key = spec_node_key(slot->node, i);
        g_autofree char *path = g_strdup_printf("%s.%s", slot->path, key->text);
        Slot entry = {slot->reader, slot->option, spec_node_item(slot->node, i), path, NULL};
        if (!key->is_duplicate) {
            read_map_entry(&entry, key, *member);
        }
    }
}

/* --- records ---------------------------------------------------------------------------------- */

static bool read_record_text(const Slot *slot, void *record)
{
    const SpecRecordType *type = slot->option->record;
    VmError code = VM_ERROR_SCHEMA;
    const char *why = NULL;
    if (!spec_check_scalar(slot->reader, slot->option, slot->node, slot->path, false)) {
        return false;
    }
    if (!spec_node_has_nul(slot->node) && type->from_text(record, slot->node->text, &code, &why)) {
        return true;
    }
    const char *near =
        type->text_words ? base_report_nearest(slot->node->text, type->text_words) : NULL;
    g_autofree char *hint = near ? g_strdup_printf("did you mean '%s'?", near)
                                 : g_strdup_printf("write %s", type->text_doc);
    g_autofree char *shown = base_report_escape(slot->node->text, 60);
    spec_read_mistake(slot->reader, code, slot->node, slot->path, hint, "'%s' %s", shown,
                      why ? why : "holds a NUL character");
    return false;
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

static bool read_record_map(const Slot *slot, void *record)
{
    const SpecRecordType *type = slot->option->record;
    unsigned n_before = base_report_n_errors(slot->reader->report);
    spec_read_map(slot->reader, type->table, "", slot->node, slot->path, record);
    spec_read_required(slot->reader, type->table, slot->node, slot->path);
    return base_report_n_errors(slot->reader->report) == n_before;
}

static bool read_record(const Slot *slot, void *record)
{
    const SpecRecordType *type = slot->option->record;
    BasePos pos = spec_node_pos(slot->node);
    *(BasePos *)(void *)((char *)record + type->pos_offset) = spec_pos_copy(&pos);
    if (type->table) {
        spec_read_defaults(type->table, NULL, record);
    }
    bool is_map = slot->node->kind == SPEC_NODE_MAP && type->table;
    if (!is_map && (!type->from_text || slot->node->kind != SPEC_NODE_SCALAR)) {
        g_autofree char *shown = spec_node_shown(slot->node);
        spec_read_mistake(slot->reader, VM_ERROR_SCHEMA, slot->node, slot->path, NULL,
                          "expected %s, got %s", type->table ? "a map" : "a text", shown);
        return false;
    }
    if (!(is_map ? read_record_map(slot, record) : read_record_text(slot, record))) {
        return false;
    }
    if (type->settle) {
        type->settle(record);
    }
    if (type->rule && !slot->reader->is_record) {
        g_autofree char *path = slot->reader->prefix
                                    ? g_strdup_printf("%s.%s", slot->reader->prefix, slot->path)
                                    : g_strdup(slot->path);
        type->rule(record, path, &pos, slot->reader->report);
    }
    return true;
}

static void read_records(const Slot *slot)
{
    const SpecRecordType *type = slot->option->record;
    GPtrArray *list = list_member(slot, NULL);
    if (!check_items(slot, SPEC_NODE_LIST, list->len)) {
        g_autofree char *refused = g_strdup_printf("%s[%u]", slot->path, list->len);
        BasePos pos = spec_node_pos(slot->node);
        spec_origin_keep(slot->reader->origins, refused, &pos); /* an element that is not there */
        return;
    }
    for (unsigned i = 0, at = list->len; i < spec_node_n(slot->node); i++, at++) {
        g_autofree char *path = g_strdup_printf("%s[%u]", slot->path, at);
        Slot item = {slot->reader, slot->option, spec_node_item(slot->node, i), path, NULL};
        void *record = g_malloc0(type->size);
        keep_item_origin(&item);
        if (read_record(&item, record)) {
            g_ptr_array_add(list, record);
        } else {
            spec_record_free(type, record);
        }
    }
}

/* --- tables ----------------------------------------------------------------------------------- */

static void read_group(const Slot *slot)
{
    if (slot->node->kind != SPEC_NODE_MAP) {
        expected(slot, NULL);
        return;
    }
    spec_read_map(slot->reader, &spec_machine_table, slot->path, slot->node, slot->path,
                  slot->base);
}

static void read_source(const Slot *slot)
{
    spec_read_source(slot->reader, slot->option, slot->node, slot->path,
                     MEMBER(SpecText, slot->option, slot->base));
}

static void read_objects(const Slot *slot)
{
    GPtrArray *list = list_member(slot, (GDestroyNotify)spec_machine_free);
    if (check_items(slot, SPEC_NODE_MAP, list->len)) {
        spec_read_machines(slot->reader, slot->node, slot->path, list);
    }
}

/* The mistake stands at the key when there is one, else (--set) at the value. */
static void read_later_at(const Slot *slot, const SpecNode *key)
{
    const SpecNode *value = slot->node;
    const char *same = slot->option->default_text;
    if (!same || value->kind != SPEC_NODE_SCALAR || !g_str_equal(value->text, same)) {
        spec_read_mistake(slot->reader, VM_ERROR_SCHEMA, key, slot->path, NULL,
                          "not supported yet");
    }
}

static void read_later(const Slot *slot)
{
    read_later_at(slot, slot->node);
}

static void (*const readers[])(const Slot *) = {
    [SPEC_KIND_STRING] = read_string,   [SPEC_KIND_UINT] = read_uint,
    [SPEC_KIND_SIZE] = read_measure,    [SPEC_KIND_DURATION] = read_measure,
    [SPEC_KIND_ENUM] = read_enum,       [SPEC_KIND_BOOL] = read_bool,
    [SPEC_KIND_TEXT] = read_string,     [SPEC_KIND_SOURCE] = read_source,
    [SPEC_KIND_STRINGS] = read_strings, [SPEC_KIND_WORDS] = read_words,
    [SPEC_KIND_MAP] = read_pairs,       [SPEC_KIND_RECORDS] = read_records,
    [SPEC_KIND_OBJECTS] = read_objects, [SPEC_KIND_GROUP] = read_group,
    [SPEC_KIND_LATER] = read_later,
};
G_STATIC_ASSERT(G_N_ELEMENTS(readers) == SPEC_KIND_N);

void spec_read_value(SpecReader *reader, const SpecOption *option, const SpecNode *node,
                     const char *path, void *base)
{
    Slot slot = {reader, option, node, path, base};
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
    Slot slot = {reader, option, value, path, base};
    if (!option) {
        return;
    }
    if (option->is_map_key && !reader->is_record) {
        spec_read_mistake(reader, VM_ERROR_SCHEMA, key, path, "the key above it is the name",
                          "no key of a machine");
    } else if (option->kind == SPEC_KIND_LATER) {
        read_later_at(&slot, key);
    } else {
        spec_read_value(reader, option, value, path, base);
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
