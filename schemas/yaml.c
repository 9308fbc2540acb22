#include "schemas/yaml.h"

#include <string.h>
#include <yaml.h>
#include "schemas/encoding.h"

/*
 * How it works: the encoding is checked first, so that libyaml's reader never fails (its marks
 * would be 1:1). Then libyaml's events build the tree over a stack of open containers. libyaml
 * counts characters; byte offsets are wanted for spec_yaml_extract(), and since marks only grow,
 * one cursor walks along with them.
 */
typedef struct {
    yaml_parser_t parser;
    BaseReport *report;
    const char *file;
    const char *text, *end;
    const char *cursor; /* byte of character cursor_index */
    size_t cursor_index;
    SpecNode *open[SPEC_YAML_MAX_DEPTH];
    SpecNode *key[SPEC_YAML_MAX_DEPTH];    /* owned: the key that waits for its value */
    GHashTable *seen[SPEC_YAML_MAX_DEPTH]; /* owned: key text -> its SpecNode (borrowed) */
    unsigned depth;
    unsigned n_nodes;
    unsigned n_documents;
    SpecNode *root; /* owned */
    bool is_failed, is_done;
} Builder;

static void fail_at(Builder *b, VmError code, yaml_mark_t mark, const char *hint, const char *what)
{
    BasePos pos = {(char *)b->file, (unsigned)mark.line + 1, (unsigned)mark.column + 1};
    base_report_error(b->report, code, &pos, hint, "%s", what);
    b->is_failed = true;
}

static size_t byte_of(Builder *b, yaml_mark_t mark)
{
    while (b->cursor_index < mark.index && b->cursor < b->end) {
        b->cursor = g_utf8_next_char(b->cursor);
        b->cursor_index++;
    }
    return (size_t)(MIN(b->cursor, b->end) - b->text);
}

static void report_duplicate(Builder *b, const SpecNode *first, const SpecNode *again)
{
    g_autofree char *shown = base_report_escape(again->text, 60);
    BasePos pos = spec_node_pos(again);
    base_report_error(b->report, VM_ERROR_YAML_DUP, &pos, "remove one of the two",
                      "key '%s' stands twice, first in line %u", shown, first->line);
}

/* A scalar where a map wants a key. Steals `key`. */
static void take_key(Builder *b, SpecNode *key, yaml_mark_t mark)
{
    unsigned top = b->depth - 1;
    if (key->n_bytes > SPEC_YAML_MAX_KEY) {
        fail_at(b, VM_ERROR_YAML_LIMIT, mark, NULL, "a key is longer than 255 bytes");
    } else if (key->is_plain && g_str_equal(key->text, "<<")) {
        fail_at(b, VM_ERROR_YAML_FEATURE, mark, "write the keys out", "merge keys are not allowed");
    }
    b->key[top] = key;
}

static void attach(Builder *b, SpecNode *node)
{
    if (b->depth == 0) {
        b->root = node;
        return;
    }
    SpecNode *parent = b->open[b->depth - 1];
    if (parent->kind == SPEC_NODE_LIST) {
        spec_node_append(parent, node);
        return;
    }
    SpecNode *key = g_steal_pointer(&b->key[b->depth - 1]);
    GHashTable *seen = b->seen[b->depth - 1];
    SpecNode *first = g_hash_table_lookup(seen, key->text);
    spec_node_put(parent, key, node);
    if (first) {
        key->is_duplicate = true;
        report_duplicate(b, first, key);
    } else {
        g_hash_table_insert(seen, key->text, key);
    }
}

static bool wants_key(const Builder *b)
{
    return b->depth > 0 && b->open[b->depth - 1]->kind == SPEC_NODE_MAP && !b->key[b->depth - 1];
}

static bool refuse_feature(Builder *b, const yaml_event_t *event)
{
    const yaml_char_t *anchor = NULL, *tag = NULL;
    if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
    }
    if (anchor) {
        fail_at(b, VM_ERROR_YAML_FEATURE, event->start_mark, "write the value out",
                "anchors are not allowed");
    } else if (tag) {
        fail_at(b, VM_ERROR_YAML_FEATURE, event->start_mark, "leave it out",
                "tags are not allowed");
    }
    return anchor || tag;
}

static bool count_node(Builder *b, const yaml_event_t *event)
{
    if (++b->n_nodes > SPEC_YAML_MAX_NODES) {
        fail_at(b, VM_ERROR_YAML_LIMIT, event->start_mark, NULL,
                "more than 20,000 values and keys");
    }
    return !b->is_failed;
}

static void on_scalar(Builder *b, const yaml_event_t *event)
{
    if (event->data.scalar.length > SPEC_YAML_MAX_SCALAR) {
        fail_at(b, VM_ERROR_YAML_LIMIT, event->start_mark, "keep large texts in files of their own",
                "a text is longer than 64 KiB");
        return;
    }
    bool is_plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    SpecNode *node = spec_node_new_scalar((const char *)event->data.scalar.value,
                                          event->data.scalar.length, is_plain);
    node->file = b->file;
    node->line = (unsigned)event->start_mark.line + 1;
    node->col = (unsigned)event->start_mark.column + 1;
    node->begin = byte_of(b, event->start_mark);
    node->end = byte_of(b, event->end_mark);
    if (wants_key(b)) {
        take_key(b, node, event->start_mark);
    } else {
        attach(b, node);
    }
}

static void on_open(Builder *b, const yaml_event_t *event, SpecNodeKind kind)
{
    if (wants_key(b)) {
        fail_at(b, VM_ERROR_YAML_FEATURE, event->start_mark, NULL,
                "a list or map as a key is not allowed");
        return;
    }
    if (b->depth == SPEC_YAML_MAX_DEPTH) {
        fail_at(b, VM_ERROR_YAML_LIMIT, event->start_mark, NULL, "nested deeper than 32 levels");
        return;
    }
    SpecNode *node = spec_node_new(kind);
    node->file = b->file;
    node->line = (unsigned)event->start_mark.line + 1;
    node->col = (unsigned)event->start_mark.column + 1;
    node->begin = byte_of(b, event->start_mark);
    attach(b, node);
    b->open[b->depth] = node;
    b->seen[b->depth] = kind == SPEC_NODE_MAP ? g_hash_table_new(g_str_hash, g_str_equal) : NULL;
    b->depth++;
}

/* A block container's own end mark is that of the next token, so its end is that of its last item.
 */
static void on_close(Builder *b, const yaml_event_t *event)
{
    b->depth--;
    SpecNode *node = b->open[b->depth];
    g_clear_pointer(&b->seen[b->depth], g_hash_table_unref);
    bool is_flow = event->end_mark.index > event->start_mark.index;
    unsigned n = spec_node_n(node);
    node->end = is_flow ? byte_of(b, event->end_mark) : n ? spec_node_item(node, n - 1)->end : 0;
    node->end = MAX(node->end, node->begin);
}

static void on_document(Builder *b, const yaml_event_t *event)
{
    if (event->data.document_start.version_directive ||
        event->data.document_start.tag_directives.start !=
            event->data.document_start.tag_directives.end) {
        fail_at(b, VM_ERROR_YAML_FEATURE, event->start_mark, "leave the line out",
                "directives are not allowed");
    } else if (++b->n_documents > 1) {
        fail_at(b, VM_ERROR_YAML_FEATURE, event->start_mark, "one file is one document",
                "a second document begins here");
    }
}

static void on_event(Builder *b, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        on_document(b, event);
        break;
    case YAML_ALIAS_EVENT:
        fail_at(b, VM_ERROR_YAML_FEATURE, event->start_mark, "write the value out",
                "aliases are not allowed");
        break;
    case YAML_SCALAR_EVENT:
        if (!refuse_feature(b, event) && count_node(b, event)) {
            on_scalar(b, event);
        }
        break;
    case YAML_SEQUENCE_START_EVENT:
    case YAML_MAPPING_START_EVENT:
        if (!refuse_feature(b, event) && count_node(b, event)) {
            on_open(b, event,
                    event->type == YAML_MAPPING_START_EVENT ? SPEC_NODE_MAP : SPEC_NODE_LIST);
        }
        break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        on_close(b, event);
        break;
    case YAML_STREAM_END_EVENT:
        b->is_done = true;
        break;
    default:
        break;
    }
}

/* The byte where line `line` (from 0) begins; breaks as libyaml counts them but for the rare
 * U+2028. */
static const char *line_start(const Builder *b, size_t line)
{
    const char *at = b->text;
    while (line > 0 && at < b->end) {
        const char *nl = memchr(at, '\n', (size_t)(b->end - at));
        at = nl ? nl + 1 : b->end;
        line--;
    }
    return at;
}

/* libyaml gives up on a simple key after 1024 characters, with a message about something else. */
static bool is_long_key(const Builder *b, yaml_mark_t mark)
{
    const char *at = line_start(b, mark.line);
    size_t room = (size_t)(b->end - at);
    const char *colon = memchr(at, ':', room);
    return colon && colon - at > SPEC_YAML_MAX_KEY && (size_t)(colon - at) >= mark.column;
}

static void report_syntax(Builder *b)
{
    const yaml_parser_t *p = &b->parser;
    const char *problem = p->problem ? p->problem : "the text can't be read";
    const char *context = p->context ? p->context : "";
    yaml_mark_t at = p->problem_mark;
    bool has_context = p->context && p->context_mark.index <= at.index;
    const char *line = line_start(b, at.line);
    if (line < b->end && *line == '%') {
        fail_at(b, VM_ERROR_YAML_FEATURE, (yaml_mark_t){.line = at.line}, "leave the line out",
                "directives are not allowed");
    } else if (strstr(problem, "tag") || strstr(context, " tag")) {
        fail_at(b, VM_ERROR_YAML_FEATURE, has_context ? p->context_mark : at, "leave it out",
                "tags are not allowed");
    } else if (strstr(context, "anchor") || strstr(context, "alias")) {
        fail_at(b, VM_ERROR_YAML_FEATURE, has_context ? p->context_mark : at, "write the value out",
                "anchors and aliases are not allowed");
    } else if (is_long_key(b, has_context ? p->context_mark : at)) {
        fail_at(b, VM_ERROR_YAML_LIMIT,
                (yaml_mark_t){.line = has_context ? p->context_mark.line : at.line}, NULL,
                "a key is longer than 255 bytes");
    } else {
        bool is_end = strstr(problem, "end of stream") ||
                      at.index >= (size_t)g_utf8_strlen(b->text, b->end - b->text);
        g_autofree char *what =
            *context ? g_strdup_printf("%s, %s", context, problem) : g_strdup(problem);
        fail_at(b, VM_ERROR_YAML_SYNTAX, has_context && is_end ? p->context_mark : at, NULL, what);
    }
}

static void build(Builder *b)
{
    while (!b->is_done && !b->is_failed) {
        yaml_event_t event;
        if (!yaml_parser_parse(&b->parser, &event)) {
            report_syntax(b);
            return;
        }
        on_event(b, &event);
        yaml_event_delete(&event);
    }
}

static void builder_clear(Builder *b)
{
    for (unsigned i = 0; i < SPEC_YAML_MAX_DEPTH; i++) {
        spec_node_free(b->key[i]);
        if (i < b->depth) {
            g_clear_pointer(&b->seen[i], g_hash_table_unref);
        }
    }
    spec_node_free(b->root);
    yaml_parser_delete(&b->parser);
}

SpecNode *spec_yaml_parse(const char *text, size_t n_bytes, const char *file, BaseReport *report)
{
    BasePos top = {(char *)file, 1, 1};
    if (n_bytes > SPEC_YAML_MAX_BYTES) {
        base_report_error(report, VM_ERROR_YAML_LIMIT, &top, NULL, "the text is larger than 1 MiB");
        return NULL;
    }
    size_t n_bom = n_bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    if (!spec_encoding_check(text + n_bom, n_bytes - n_bom, file, report)) {
        return NULL;
    }
    Builder b = {.report = report,
                 .file = file,
                 .text = text,
                 .end = text + n_bytes,
                 .cursor = text + n_bom};
    if (!yaml_parser_initialize(&b.parser)) {
        base_report_error(report, VM_ERROR_NO_SPACE, &top, NULL, "no memory for the YAML reader");
        return NULL;
    }
    yaml_parser_set_encoding(&b.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&b.parser, (const unsigned char *)text + n_bom, n_bytes - n_bom);
    build(&b);
    SpecNode *root = b.is_failed ? NULL : g_steal_pointer(&b.root);
    if (!root && !b.is_failed) {
        base_report_error(report, VM_ERROR_SCHEMA, &top, NULL, "the document is empty");
    }
    builder_clear(&b);
    return root;
}
