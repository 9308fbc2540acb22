#include "cli/flags.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/report.h"
#include "schemas/spec.h"

typedef struct {
    CmdArgs *args;
    const char *const *argv;
    unsigned i; /* the word being read */
} Parser;

static void given_clear(gpointer data)
{
    g_free(((CmdGiven *)data)->value);
}

static CmdArgs *args_new(CmdFlag *flags)
{
    CmdArgs *args = g_new0(CmdArgs, 1);
    args->flags = flags;
    args->given = g_array_new(FALSE, FALSE, sizeof(CmdGiven));
    g_array_set_clear_func(args->given, given_clear);
    args->operands = g_ptr_array_new_with_free_func(g_free);
    return args;
}

void cmd_args_free(CmdArgs *args)
{
    if (!args) {
        return;
    }
    g_array_unref(args->given);
    g_ptr_array_unref(args->operands);
    g_strfreev(args->rest);
    g_free(args->flags);
    g_free(args);
}

static const CmdFlag *find_long(const CmdArgs *args, const char *name, size_t n)
{
    for (const CmdFlag *flag = args->flags; flag->name; flag++) {
        if (strlen(flag->name) == n && !memcmp(flag->name, name, n)) {
            return flag;
        }
    }
    return NULL;
}

static const CmdFlag *find_short(const CmdArgs *args, char letter)
{
    for (const CmdFlag *flag = args->flags; flag->name; flag++) {
        if (flag->letter && flag->letter == letter) {
            return flag;
        }
    }
    return NULL;
}

static bool fail_unknown(const CmdArgs *args, const char *word, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    for (const CmdFlag *flag = args->flags; flag->name; flag++) {
        g_ptr_array_add(names, (gpointer)flag->name);
    }
    g_ptr_array_add(names, NULL);
    const char *nearest = base_report_nearest(word, (const char *const *)names->pdata);
    if (nearest) {
        return base_fail(error, VM_ERROR_CLI, "unknown flag '--%s' - did you mean '--%s'?", word,
                         nearest);
    }
    return base_fail(error, VM_ERROR_CLI, "unknown flag '--%s'", word);
}

static bool check_choice(const CmdFlag *flag, const char *value, GError **error)
{
    if (!flag->choices || flag->spec_path || g_strv_contains(flag->choices, value)) {
        return true;
    }
    const char *nearest = base_report_nearest(value, flag->choices);
    g_autofree char *all = g_strjoinv(", ", (char **)flag->choices);
    if (nearest) {
        return base_fail(error, VM_ERROR_CLI, "--%s '%s': must be one of %s - did you mean '%s'?",
                         flag->name, value, all, nearest);
    }
    return base_fail(error, VM_ERROR_CLI, "--%s '%s': must be one of %s", flag->name, value, all);
}

/* The checks of a machine's options are the option table's: its messages are the better ones. */
static bool add(Parser *parser, const CmdFlag *flag, const char *value, GError **error)
{
    if (flag->metavar && !*value && !flag->spec_path) {
        return base_fail(error, VM_ERROR_CLI, "--%s: its value is empty - give %s", flag->name,
                         flag->metavar);
    }
    if (flag->metavar && !check_choice(flag, value, error)) {
        return false;
    }
    CmdGiven given = {flag, flag->metavar ? g_strdup(value) : NULL};
    g_array_append_val(parser->args->given, given);
    return true;
}

/* A flag of ours where a value belongs is a forgotten value. */
static bool take_next(Parser *parser, const CmdFlag *flag, GError **error)
{
    const char *next = parser->argv[parser->i + 1];
    bool is_flag = next && g_str_has_prefix(next, "--") &&
                   (!next[2] || find_long(parser->args, next + 2, strcspn(next + 2, "=")));
    if (!next || is_flag) {
        return base_fail(error, VM_ERROR_CLI, "flag '--%s' needs a value: --%s %s", flag->name,
                         flag->name, flag->metavar);
    }
    parser->i++;
    return add(parser, flag, next, error);
}

static bool parse_long(Parser *parser, GError **error)
{
    const char *word = parser->argv[parser->i] + 2;
    size_t n = strcspn(word, "=");
    const CmdFlag *flag = find_long(parser->args, word, n);
    if (!flag) {
        g_autofree char *name = g_strndup(word, n);
        return fail_unknown(parser->args, name, error);
    }
    if (!flag->metavar && word[n]) {
        return base_fail(error, VM_ERROR_CLI, "flag '--%s' takes no value", flag->name);
    }
    if (!flag->metavar) {
        return add(parser, flag, NULL, error);
    }
    return word[n] ? add(parser, flag, word + n + 1, error) : take_next(parser, flag, error);
}

static bool parse_short(Parser *parser, GError **error)
{
    for (const char *at = parser->argv[parser->i] + 1; *at; at++) {
        const CmdFlag *flag = find_short(parser->args, *at);
        if (!flag) {
            return base_fail(error, VM_ERROR_CLI, "unknown flag '-%.*s'",
                             (int)(g_utf8_next_char(at) - at), at);
        }
        if (flag->metavar) {
            return at[1] ? add(parser, flag, at + 1 + (at[1] == '='), error)
                         : take_next(parser, flag, error);
        }
        if (!add(parser, flag, NULL, error)) {
            return false;
        }
    }
    return true;
}

static bool parse_word(Parser *parser, GError **error)
{
    const char *word = parser->argv[parser->i];
    if (word[0] == '-' && word[1] == '-') {
        return parse_long(parser, error);
    }
    if (word[0] == '-' && word[1]) {
        return parse_short(parser, error);
    }
    g_ptr_array_add(parser->args->operands, g_strdup(word));
    return true;
}

CmdArgs *cmd_args_parse(CmdFlag *flags, const char *const *argv, bool is_leading,
                        unsigned *out_n_used, GError **error)
{
    g_autoptr(CmdArgs) args = args_new(flags);
    Parser parser = {args, argv, 0};
    for (; argv[parser.i]; parser.i++) {
        const char *word = argv[parser.i];
        if (g_str_equal(word, "--")) {
            args->rest = g_strdupv((char **)argv + parser.i + 1);
            break;
        }
        if (is_leading && (word[0] != '-' || !word[1])) {
            break;
        }
        if (!parse_word(&parser, error)) {
            return NULL;
        }
    }
    if (out_n_used) {
        *out_n_used = parser.i;
    }
    return g_steal_pointer(&args);
}

static const CmdGiven *last_given(const CmdArgs *args, const char *name)
{
    for (guint i = args->given->len; i > 0; i--) {
        const CmdGiven *given = &g_array_index(args->given, CmdGiven, i - 1);
        if (g_str_equal(given->flag->name, name)) {
            return given;
        }
    }
    return NULL;
}

bool cmd_args_has(const CmdArgs *args, const char *name)
{
    return last_given(args, name);
}

const char *cmd_args_text(const CmdArgs *args, const char *name)
{
    const CmdGiven *given = last_given(args, name);
    return given ? given->value : NULL;
}

const char *cmd_args_operand(const CmdArgs *args, unsigned i)
{
    return i < args->operands->len ? args->operands->pdata[i] : NULL;
}

bool cmd_args_size(const CmdArgs *args, const char *name, uint64_t *out_bytes, GError **error)
{
    const char *text = cmd_args_text(args, name);
    if (text && !spec_parse_size(text, out_bytes)) {
        return base_fail(error, VM_ERROR_CLI, "--%s '%s': not a size - write 512MiB, 20G or 2GiB",
                         name, text);
    }
    return true;
}

bool cmd_args_duration(const CmdArgs *args, const char *name, uint64_t *out_ms, GError **error)
{
    const char *text = cmd_args_text(args, name);
    if (text && !spec_parse_duration(text, out_ms)) {
        return base_fail(error, VM_ERROR_CLI, "--%s '%s': not a duration - write 90s, 5m or 1h",
                         name, text);
    }
    return true;
}

bool cmd_args_count(const CmdArgs *args, const char *name, unsigned *out_n, GError **error)
{
    const char *text = cmd_args_text(args, name);
    guint64 value = 0;
    if (text && !g_ascii_string_to_unsigned(text, 10, 0, G_MAXINT32, &value, NULL)) {
        return base_fail(error, VM_ERROR_CLI, "--%s '%s': not a number", name, text);
    }
    if (text) {
        *out_n = (unsigned)value;
    }
    return true;
}
