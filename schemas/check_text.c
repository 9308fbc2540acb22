#include "schemas/check_text.h"

#include <string.h>

bool spec_pattern_matches(const char *pattern, const char *text)
{
    g_autofree char *whole = g_strdup_printf("\\A(?:%s)\\z", pattern);
    return g_regex_match_simple(whole, text, G_REGEX_DOLLAR_ENDONLY, 0);
}

bool spec_check_scalar(SpecReader *reader, const SpecOption *option, const SpecNode *node,
                       const char *path, bool is_multiline)
{
    if (node->kind != SPEC_NODE_SCALAR || spec_node_is_null(node)) {
        g_autofree char *shown = spec_node_shown(node);
        spec_read_mistake(reader, VM_ERROR_SCHEMA, node, path, NULL, "expected %s, got %s",
                          spec_kind_name(option->kind), shown);
        return false;
    }
    if (!is_multiline && !reader->is_record && strstr(node->text, "${")) {
        spec_read_mistake(reader, VM_ERROR_SCHEMA, node, path, "write the value out",
                          "expressions (${...}) are not supported yet");
        return false;
    }
    return true;
}

/* What is wrong with the characters, NULL: nothing. */
static const char *character_mistake(const SpecNode *node, bool is_multiline)
{
    if (spec_node_has_nul(node)) {
        return "holds a NUL character";
    }
    for (const char *at = node->text; *at; at = g_utf8_next_char(at)) {
        gunichar c = g_utf8_get_char(at);
        bool is_layout = c == '\n' || c == '\t' || c == '\r';
        if (is_layout && !is_multiline) {
            return "has several lines or a tab";
        }
        if (!is_layout && (c < 0x20 || (c >= 0x7f && c < 0xa0))) {
            return "holds a control character";
        }
    }
    return NULL;
}

static const char *text_mistake(const SpecOption *option, const SpecNode *node, bool is_multiline,
                                const char **out_hint)
{
    const char *why = character_mistake(node, is_multiline);
    if (why) {
        return why;
    }
    if (node->n_bytes == 0 && !is_multiline) {
        return "is empty";
    }
    if (option->rule && !option->rule(node->text, &why)) {
        return why;
    }
    if (option->pattern && option->kind != SPEC_KIND_MAP &&
        !spec_pattern_matches(option->pattern, node->text)) {
        *out_hint = option->pattern_hint;
        return "is not allowed";
    }
    return NULL;
}

bool spec_check_text(SpecReader *reader, const SpecOption *option, const SpecNode *node,
                     const char *path, bool is_multiline)
{
    VmError code = option->code ? option->code : VM_ERROR_SCHEMA;
    const char *hint = NULL;
    const char *why = text_mistake(option, node, is_multiline, &hint);
    g_autofree char *shown = base_report_escape(node->text, 80);
    const char *before = option->info.is_secret ? "the value" : shown;
    const char *quote = option->info.is_secret ? "" : "'";
    if (why) {
        spec_read_mistake(reader, code, node, path, hint, "%s%s%s %s", quote, before, quote, why);
    } else if (option->max > 0 && node->n_bytes > option->max) {
        spec_read_mistake(reader, code, node, path, NULL, "%s%s%s is longer than %u bytes", quote,
                          before, quote, (unsigned)option->max);
        return false;
    }
    return !why;
}
