#include <string.h>
#include "schemas/check_text.h"
#include "schemas/slot.h"
#include "schemas/value.h"

void spec_slot_expected(const SpecSlot *slot, const char *hint)
{
    g_autofree char *shown = spec_node_shown(slot->node);
    spec_read_mistake(slot->reader, VM_ERROR_SCHEMA, slot->node, slot->path, hint,
                      "expected %s, got %s", spec_kind_name(slot->option->kind), shown);
}

void spec_read_string(const SpecSlot *slot)
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
        char **member = SPEC_MEMBER(char *, o, slot->base);
        g_free(*member);
        *member = value;
    }
}

static char *number_text(const SpecOption *o, uint64_t value)
{
    return o->kind == SPEC_KIND_SIZE       ? spec_format_size(value)
           : o->kind == SPEC_KIND_DURATION ? spec_format_duration(value)
           : o->kind == SPEC_KIND_RATE     ? spec_format_rate(value)
                                           : g_strdup_printf("%" G_GUINT64_FORMAT, value);
}

/* got: how the number was read. true: the value is within the row's limits. */
static bool check_number(const SpecSlot *slot, SpecNumber got, uint64_t value)
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

void spec_read_uint(const SpecSlot *slot)
{
    const SpecNode *node = slot->node;
    uint64_t value = 0;
    if (!spec_check_scalar(slot->reader, slot->option, node, slot->path, false)) {
        return;
    }
    SpecNumber got = spec_parse_decimal(node->text, node->n_bytes, &value);
    if (!node->is_plain) {
        spec_slot_expected(slot, "write it without quotes");
    } else if (got == SPEC_NUMBER_MALFORMED) {
        spec_slot_expected(slot, "write it in decimal digits");
    } else if (check_number(slot, got, value)) {
        *SPEC_MEMBER(unsigned, slot->option, slot->base) = (unsigned)value;
    }
}

static const char *unit_hint(const SpecSlot *slot)
{
    bool is_bare = strspn(slot->node->text, "-0123456789") == slot->node->n_bytes;
    if (slot->option->kind == SPEC_KIND_SIZE) {
        return is_bare ? "add a unit: KiB, MiB, GiB or TiB"
                       : "write digits and one of KiB, MiB, GiB, TiB (or K, M, G, T), such as 2GiB";
    }
    if (slot->option->kind == SPEC_KIND_RATE) {
        return is_bare ? "add a unit: kbit, Mbit or Gbit"
                       : "write digits and one of kbit, Mbit, Gbit, such as 20Mbit";
    }
    return is_bare ? "add a unit: ms, s, m, h or d"
                   : "write digits and one of ms, s, m, h, d, such as 90s";
}

void spec_read_measure(const SpecSlot *slot)
{
    const SpecNode *node = slot->node;
    uint64_t value = 0;
    if (!spec_check_scalar(slot->reader, slot->option, node, slot->path, false)) {
        return;
    }
    SpecKind kind = slot->option->kind;
    SpecNumber got = spec_node_has_nul(node)  ? SPEC_NUMBER_MALFORMED
                     : kind == SPEC_KIND_SIZE ? spec_parse_size_form(node->text, &value)
                     : kind == SPEC_KIND_RATE ? spec_parse_rate_form(node->text, &value)
                                              : spec_parse_duration_form(node->text, &value);
    if (got == SPEC_NUMBER_MALFORMED) {
        spec_slot_expected(slot, unit_hint(slot));
    } else if (check_number(slot, got, value)) {
        *SPEC_MEMBER(uint64_t, slot->option, slot->base) = value;
    }
}

void spec_read_bool(const SpecSlot *slot)
{
    const SpecNode *node = slot->node;
    bool is_true = node->kind == SPEC_NODE_SCALAR && g_str_equal(node->text, "true");
    bool is_false = node->kind == SPEC_NODE_SCALAR && g_str_equal(node->text, "false");
    if (!spec_check_scalar(slot->reader, slot->option, node, slot->path, false)) {
        return;
    }
    if (!node->is_plain || !(is_true || is_false)) {
        spec_slot_expected(slot, (is_true || is_false) ? "write it without quotes" : NULL);
        return;
    }
    *SPEC_MEMBER(bool, slot->option, slot->base) = is_true;
}

bool spec_text_is_among(const char *text, const char *const *texts)
{
    return texts && g_strv_contains(texts, text);
}

/* The index of the node's text among the row's choices, -1: reported. */
int spec_slot_choice(const SpecSlot *slot)
{
    const SpecChoices *choices = slot->option->choices;
    const char *text = slot->node->text;
    for (int i = 0; choices->texts[i]; i++) {
        if (g_str_equal(choices->texts[i], text)) {
            return i;
        }
    }
    g_autofree char *shown = spec_node_shown(slot->node);
    if (spec_text_is_among(text, choices->later)) {
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

void spec_read_enum(const SpecSlot *slot)
{
    if (!spec_check_scalar(slot->reader, slot->option, slot->node, slot->path, false)) {
        return;
    }
    int index = spec_slot_choice(slot);
    if (index < 0) {
        return;
    }
    if (slot->option->size == sizeof(bool)) {
        *SPEC_MEMBER(bool, slot->option, slot->base) = index != 0;
    } else {
        *SPEC_MEMBER(unsigned, slot->option, slot->base) = (unsigned)index;
    }
}
