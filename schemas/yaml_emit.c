#include <string.h>
#include <yaml.h>
#include "schemas/yaml.h"

static int append_bytes(void *out, unsigned char *bytes, size_t n_bytes)
{
    g_string_append_len(out, (const char *)bytes, (gssize)n_bytes);
    return 1;
}

/* The emitter takes the event over, also on failure. Only a lack of memory, or our own misuse,
 * fails. */
static void emit(yaml_emitter_t *emitter, yaml_event_t *event)
{
    int is_done = yaml_emitter_emit(emitter, event);
    g_assert(is_done);
}

/* Would another YAML reader take the plain text for something else than a text? */
static bool is_ambiguous(const char *text)
{
    static const char *const words[] = {"true", "false", "yes", "no", "on", "off",
                                        "null", "~",     "y",   "n",  "",   NULL};
    g_autofree char *lower = g_ascii_strdown(text, -1);
    bool is_number_like = g_ascii_isdigit(*text) || strchr("+-.", *text);
    return g_strv_contains(words, lower) ||
           (is_number_like && strspn(lower, "0123456789abcdefox_+-.:") == strlen(lower));
}

static yaml_scalar_style_t style_of(const SpecNode *node)
{
    if (node->is_plain) {
        return YAML_PLAIN_SCALAR_STYLE;
    }
    if (memchr(node->text, '\n', node->n_bytes)) {
        return YAML_LITERAL_SCALAR_STYLE;
    }
    return is_ambiguous(node->text) ? YAML_DOUBLE_QUOTED_SCALAR_STYLE : YAML_ANY_SCALAR_STYLE;
}

static void emit_scalar(yaml_emitter_t *emitter, const SpecNode *node)
{
    yaml_event_t event;
    yaml_scalar_event_initialize(&event, NULL, NULL, (yaml_char_t *)node->text, (int)node->n_bytes,
                                 1, 1, style_of(node));
    emit(emitter, &event);
}

static void emit_node(yaml_emitter_t *emitter, const SpecNode *node)
{
    yaml_event_t event;
    if (node->kind == SPEC_NODE_SCALAR) {
        emit_scalar(emitter, node);
    } else if (node->kind == SPEC_NODE_LIST) {
        yaml_sequence_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_SEQUENCE_STYLE);
        emit(emitter, &event);
        for (unsigned i = 0; i < spec_node_n(node); i++) {
            emit_node(emitter, spec_node_item(node, i));
        }
        yaml_sequence_end_event_initialize(&event);
        emit(emitter, &event);
    } else {
        yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE);
        emit(emitter, &event);
        for (unsigned i = 0; i < spec_node_n(node); i++) {
            emit_scalar(emitter, spec_node_key(node, i));
            emit_node(emitter, spec_node_item(node, i));
        }
        yaml_mapping_end_event_initialize(&event);
        emit(emitter, &event);
    }
}

char *spec_yaml_emit(const SpecNode *root)
{
    GString *out = g_string_new(NULL);
    yaml_emitter_t emitter;
    yaml_event_t event;
    int is_ready = yaml_emitter_initialize(&emitter);
    g_assert(is_ready);
    yaml_emitter_set_output(&emitter, append_bytes, out);
    yaml_emitter_set_unicode(&emitter, 1);
    yaml_emitter_set_width(&emitter, -1);
    yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING);
    emit(&emitter, &event);
    yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1);
    emit(&emitter, &event);
    emit_node(&emitter, root);
    yaml_document_end_event_initialize(&event, 1);
    emit(&emitter, &event);
    yaml_stream_end_event_initialize(&event);
    emit(&emitter, &event);
    yaml_emitter_delete(&emitter);
    return g_string_free(out, FALSE);
}

char *spec_yaml_extract(const SpecNode *node, const char *text, BasePos *out_pos)
{
    *out_pos = spec_node_pos(node);
    unsigned indent = node->col > 0 ? node->col - 1 : 0;
    GString *out = g_string_new(NULL);
    for (size_t at = node->begin; at < node->end;) {
        char c = text[at++];
        g_string_append_c(out, c);
        for (unsigned cut = 0; c == '\n' && cut < indent && at < node->end && text[at] == ' ';
             cut++) {
            at++;
        }
    }
    if (out->len == 0 || out->str[out->len - 1] != '\n') {
        g_string_append_c(out, '\n');
    }
    return g_string_free(out, FALSE);
}
