#include "cloudinit/yaml_tree.h"

#include <string.h>
#include <yaml.h>

#define MAX_DEPTH 100
#define MAX_NODES 100000
#define TAG_BASE  "tag:yaml.org,2002:"

typedef struct {
    yaml_parser_t parser;
    YamlTree *tree;
    GHashTable *anchors; /* char* -> YamlNode*, only finished nodes */
    YamlMistake *mistake;
} Reader;

static void yaml_node_free(void *data)
{
    YamlNode *node = data;
    g_free(node->text);
    if (node->items) {
        g_ptr_array_unref(node->items);
    }
    g_free(node);
}

void seed_yaml_free(YamlTree *tree)
{
    if (tree) {
        g_ptr_array_unref(tree->nodes);
        g_free(tree);
    }
}

static bool fail_at(Reader *reader, yaml_mark_t mark, const char *what)
{
    if (!reader->mistake->what) {
        reader->mistake->what = g_strdup(what);
        reader->mistake->line = (unsigned)mark.line + 1;
        reader->mistake->col = (unsigned)mark.column + 1;
    }
    return false;
}

/* libyaml knows only an offset when the bytes themselves are wrong. */
static yaml_mark_t offset_mark(const yaml_parser_t *parser, const char *text, size_t n_bytes)
{
    yaml_mark_t mark = {0};
    size_t end = MIN(parser->problem_offset, n_bytes);
    for (size_t i = 0; i < end; i++) {
        mark.line += text[i] == '\n';
        mark.column = text[i] == '\n' ? 0 : mark.column + (((unsigned char)text[i] & 0xc0) != 0x80);
    }
    return mark;
}

static bool next_event(Reader *reader, yaml_event_t *event)
{
    yaml_parser_t *parser = &reader->parser;
    if (yaml_parser_parse(parser, event)) {
        return true;
    }
    const char *problem = parser->problem ? parser->problem : "out of memory";
    if (parser->error == YAML_READER_ERROR) {
        const yaml_char_t *start = parser->input.string.start;
        size_t n_bytes = (size_t)(parser->input.string.end - start);
        return fail_at(reader, offset_mark(parser, (const char *)start, n_bytes), problem);
    }
    if (!reader->mistake->what && parser->context) {
        reader->mistake->context = parser->context;
        reader->mistake->context_line = (unsigned)parser->context_mark.line + 1;
    }
    return fail_at(reader, parser->problem_mark, problem);
}

static YamlNode *node_new(Reader *reader, YamlKind kind, const yaml_event_t *event)
{
    YamlNode *node = g_new0(YamlNode, 1);
    node->kind = kind;
    node->line = (unsigned)event->start_mark.line + 1;
    node->col = (unsigned)event->start_mark.column + 1;
    node->items = kind == YAML_SCALAR ? NULL : g_ptr_array_new();
    g_ptr_array_add(reader->tree->nodes, node);
    return node;
}

static bool tag_type(const char *name, YamlType *out_type)
{
    static const struct {
        const char *name;
        YamlType type;
    } known[] = {
        {"str", YAML_STRING},    {"int", YAML_INT},
        {"float", YAML_FLOAT},   {"bool", YAML_BOOL},
        {"null", YAML_NULL},     {"timestamp", YAML_TIME},
        {"binary", YAML_STRING}, {"python/unicode", YAML_STRING},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
        if (strcmp(known[i].name, name) == 0) {
            *out_type = known[i].type;
            return true;
        }
    }
    return false;
}

static bool is_known_tag(const char *tag, YamlKind kind, YamlType *out_type)
{
    if (!tag || strcmp(tag, "!") == 0) {
        return true;
    }
    if (!g_str_has_prefix(tag, TAG_BASE)) {
        return false;
    }
    const char *name = tag + strlen(TAG_BASE);
    switch (kind) {
    case YAML_SCALAR:
        return tag_type(name, out_type);
    case YAML_LIST:
        return strcmp(name, "seq") == 0 || strcmp(name, "omap") == 0 || strcmp(name, "pairs") == 0;
    case YAML_MAP:
        return strcmp(name, "map") == 0 || strcmp(name, "set") == 0;
    }
    return false;
}

static bool tag_check(Reader *reader, const yaml_event_t *event, const char *tag, YamlNode *node)
{
    return is_known_tag(tag, node->kind, &node->tagged) ||
           fail_at(reader, event->start_mark, "a tag that cloud-init does not know");
}

static void anchor_set(Reader *reader, const char *name, YamlNode *node)
{
    if (name) {
        g_hash_table_replace(reader->anchors, g_strdup(name), node);
    }
}

static YamlNode *read_node(Reader *reader, yaml_event_t *event, unsigned depth);

static YamlNode *read_scalar(Reader *reader, const yaml_event_t *event)
{
    YamlNode *node = node_new(reader, YAML_SCALAR, event);
    const char *value = (const char *)event->data.scalar.value;
    const char *tag = (const char *)event->data.scalar.tag;
    node->is_plain =
        event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && (!tag || strcmp(tag, "!") == 0);
    node->text = g_strdup(value);
    if (strlen(value) != event->data.scalar.length) {
        fail_at(reader, event->start_mark, "a NUL character");
        return NULL;
    }
    anchor_set(reader, (const char *)event->data.scalar.anchor, node);
    return tag_check(reader, event, tag, node) ? node : NULL;
}

static YamlNode *read_alias(Reader *reader, const yaml_event_t *event)
{
    YamlNode *node = g_hash_table_lookup(reader->anchors, (const char *)event->data.alias.anchor);
    if (!node) {
        fail_at(reader, event->start_mark, "an alias without its anchor");
    }
    return node;
}

/* Reads the next node below `node`; false at its end or at a mistake. */
static bool read_item(Reader *reader, YamlNode *node, yaml_event_type_t end, unsigned depth,
                      bool *out_is_end)
{
    yaml_event_t event;
    if (!next_event(reader, &event)) {
        return false;
    }
    *out_is_end = event.type == end;
    YamlNode *item = *out_is_end ? NULL : read_node(reader, &event, depth + 1);
    yaml_event_delete(&event);
    if (item) {
        g_ptr_array_add(node->items, item);
    }
    return item != NULL;
}

static YamlNode *read_list(Reader *reader, const yaml_event_t *event, unsigned depth)
{
    YamlNode *node = node_new(reader, YAML_LIST, event);
    g_autofree char *anchor = g_strdup((const char *)event->data.sequence_start.anchor);
    bool is_end = false;
    if (!tag_check(reader, event, (const char *)event->data.sequence_start.tag, node)) {
        return NULL;
    }
    while (read_item(reader, node, YAML_SEQUENCE_END_EVENT, depth, &is_end)) {
    }
    anchor_set(reader, anchor, node);
    return is_end ? node : NULL;
}

static bool keys_check(Reader *reader, const YamlNode *map)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    for (unsigned i = 0; i + 1 < map->items->len; i += 2) {
        YamlNode *key = map->items->pdata[i];
        if (key->kind != YAML_SCALAR) {
            yaml_mark_t mark = {.line = key->line - 1, .column = key->col - 1};
            return fail_at(reader, mark,
                           "a key that is a list or a map (quote it if it is a text "
                           "that begins with a bracket or a brace)");
        }
        bool is_merge = key->is_plain && strcmp(key->text, "<<") == 0;
        key->is_duplicate |= !g_hash_table_add(seen, key->text) && !is_merge;
    }
    return true;
}

static YamlNode *read_map(Reader *reader, const yaml_event_t *event, unsigned depth)
{
    YamlNode *node = node_new(reader, YAML_MAP, event);
    g_autofree char *anchor = g_strdup((const char *)event->data.mapping_start.anchor);
    bool is_end = false;
    if (!tag_check(reader, event, (const char *)event->data.mapping_start.tag, node)) {
        return NULL;
    }
    while (read_item(reader, node, YAML_MAPPING_END_EVENT, depth, &is_end)) {
    }
    anchor_set(reader, anchor, node);
    return is_end && keys_check(reader, node) ? node : NULL;
}

static YamlNode *read_node(Reader *reader, yaml_event_t *event, unsigned depth)
{
    if (depth > MAX_DEPTH || reader->tree->nodes->len >= MAX_NODES) {
        fail_at(reader, event->start_mark, "more or deeper values than are taken");
        return NULL;
    }
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return read_scalar(reader, event);
    case YAML_ALIAS_EVENT:
        return read_alias(reader, event);
    case YAML_SEQUENCE_START_EVENT:
        return read_list(reader, event, depth);
    case YAML_MAPPING_START_EVENT:
        return read_map(reader, event, depth);
    default:
        fail_at(reader, event->start_mark, "this is no YAML value");
        return NULL;
    }
}

/* Stream start, document start, one node, document end, stream end. */
static bool read_document(Reader *reader)
{
    bool is_good = true;
    for (bool is_end = false; is_good && !is_end;) {
        yaml_event_t event;
        if (!next_event(reader, &event)) {
            return false;
        }
        switch (event.type) {
        case YAML_STREAM_START_EVENT:
        case YAML_DOCUMENT_END_EVENT:
            break;
        case YAML_STREAM_END_EVENT:
            is_end = true;
            break;
        case YAML_DOCUMENT_START_EVENT:
            is_good = !reader->tree->root || fail_at(reader, event.start_mark,
                                                     "a second document (---): only one is read");
            break;
        default:
            reader->tree->root = read_node(reader, &event, 0);
            is_good = reader->tree->root != NULL;
        }
        yaml_event_delete(&event);
    }
    return is_good;
}

YamlTree *seed_yaml_parse(const char *text, size_t n_bytes, YamlMistake *out_mistake)
{
    g_autoptr(YamlTree) tree = g_new0(YamlTree, 1);
    tree->nodes = g_ptr_array_new_with_free_func(yaml_node_free);
    g_autoptr(GHashTable) anchors = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    Reader reader = {.tree = tree, .anchors = anchors, .mistake = out_mistake};
    *out_mistake = (YamlMistake){0};
    if (!yaml_parser_initialize(&reader.parser)) {
        out_mistake->what = g_strdup("out of memory");
        return NULL;
    }
    yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text, n_bytes);
    bool is_good = read_document(&reader);
    yaml_parser_delete(&reader.parser);
    return is_good ? g_steal_pointer(&tree) : NULL;
}

/* --- looking ---------------------------------------------------------------------------------- */

static int map_find(const YamlNode *map, const char *key)
{
    int at = -1;
    for (unsigned i = 0; map && map->kind == YAML_MAP && i + 1 < map->items->len; i += 2) {
        const YamlNode *node = map->items->pdata[i];
        if (strcmp(node->text, key) == 0) {
            at = (int)i;
        }
    }
    return at;
}

const YamlNode *seed_yaml_key(const YamlNode *map, const char *key)
{
    int at = map_find(map, key);
    return at < 0 ? NULL : map->items->pdata[at];
}

const YamlNode *seed_yaml_value(const YamlNode *map, const char *key)
{
    int at = map_find(map, key);
    return at < 0 ? NULL : map->items->pdata[at + 1];
}

/* The patterns of PyYAML 6.0, resolver.py. */
static const struct {
    YamlType type;
    const char *pattern;
} plain_types[] = {
    {YAML_NULL, "^(?:~|null|Null|NULL|)$"},
    {YAML_BOOL, "^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$"},
    {YAML_INT, "^(?:[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+"
               "|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$"},
    {YAML_FLOAT, "^(?:[-+]?(?:[0-9][0-9_]*)\\.[0-9_]*(?:[eE][-+][0-9]+)?"
                 "|\\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?"
                 "|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\\.[0-9_]*"
                 "|[-+]?\\.(?:inf|Inf|INF)|\\.(?:nan|NaN|NAN))$"},
    {YAML_TIME,
     "^(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{4}-[0-9][0-9]?-[0-9][0-9]?(?:[Tt]|[ \\t]+)[0-9].*)$"},
};

YamlType seed_yaml_scalar_type(const YamlNode *node)
{
    if (!node->is_plain) {
        return node->tagged;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(plain_types); i++) {
        if (g_regex_match_simple(plain_types[i].pattern, node->text, G_REGEX_DOLLAR_ENDONLY, 0)) {
            return plain_types[i].type;
        }
    }
    return YAML_STRING;
}

const char *seed_yaml_noun(const YamlNode *node)
{
    static const char *const nouns[] = {"a string",      "a number", "a number",
                                        "true or false", "nothing",  "a time"};
    if (node->kind != YAML_SCALAR) {
        return node->kind == YAML_LIST ? "a list" : "a map";
    }
    return nouns[seed_yaml_scalar_type(node)];
}

/* --- to JSON -------------------------------------------------------------------------------- */

static json_t *int_to_json(const char *text)
{
    g_autofree char *digits = g_strdup(text);
    char *to = digits;
    for (const char *from = text; *from != '\0'; from++) {
        if (*from != '_') {
            *to++ = *from;
        }
    }
    *to = '\0';
    const char *number = digits + (*digits == '-' || *digits == '+');
    bool is_binary = g_str_has_prefix(number, "0b");
    char *end;
    gint64 value = g_ascii_strtoll(is_binary ? number + 2 : number, &end, is_binary ? 2 : 0);
    return *end == '\0' ? json_integer(*digits == '-' ? -value : value) : json_string(text);
}

static json_t *scalar_to_json(const YamlNode *node)
{
    switch (seed_yaml_scalar_type(node)) {
    case YAML_INT:
        return int_to_json(node->text);
    case YAML_FLOAT: {
        char *end;
        double value = g_ascii_strtod(node->text, &end);
        json_t *number = *end == '\0' ? json_real(value) : NULL; /* NULL: not finite */
        return number ? number : json_string(node->text);
    }
    case YAML_BOOL:
        return json_boolean(strchr("yYtT", node->text[0]) ||
                            g_ascii_strcasecmp(node->text, "on") == 0);
    case YAML_NULL:
        return json_null();
    case YAML_STRING:
    case YAML_TIME:
        break;
    }
    return json_string(node->text);
}

static json_t *to_json(const YamlNode *node, unsigned *n_left)
{
    if (*n_left == 0) {
        return NULL;
    }
    --*n_left;
    if (node->kind == YAML_SCALAR) {
        return scalar_to_json(node);
    }
    bool is_map = node->kind == YAML_MAP;
    json_t *whole = is_map ? json_object() : json_array();
    for (unsigned i = 0; i < node->items->len; i += is_map ? 2 : 1) {
        const YamlNode *key = node->items->pdata[i];
        json_t *value = to_json(is_map ? node->items->pdata[i + 1] : key, n_left);
        int status = is_map ? json_object_set_new(whole, key->text, value)
                            : json_array_append_new(whole, value);
        if (status != 0) {
            json_decref(whole);
            return NULL;
        }
    }
    return whole;
}

json_t *seed_yaml_to_json(const YamlNode *node)
{
    unsigned n_left = MAX_NODES;
    return to_json(node, &n_left);
}
