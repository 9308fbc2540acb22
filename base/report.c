#include "base/report.h"

#include <string.h>

struct BaseReport {
    GPtrArray *items; /* of BaseReportItem*, in order of arrival until is_sorted */
    unsigned n_errors;
    bool is_sorted;
};

enum { NEAREST_MAX_LEN = 64 }; /* longer words get no suggestion */

BasePos base_pos_copy(const BasePos *pos)
{
    return (BasePos){g_strdup(pos->file), pos->line, pos->col};
}

static void item_free(gpointer data)
{
    BaseReportItem *item = data;
    g_free(item->pos.file);
    g_free(item->what);
    g_free(item->hint);
    g_free(item);
}

BaseReport *base_report_new(void)
{
    BaseReport *report = g_new0(BaseReport, 1);
    report->items = g_ptr_array_new_with_free_func(item_free);
    report->is_sorted = true;
    return report;
}

void base_report_free(BaseReport *report)
{
    if (!report) {
        return;
    }
    g_ptr_array_unref(report->items);
    g_free(report);
}

static void add(BaseReport *report, bool is_warning, VmError code, const BasePos *pos,
                const char *hint, char *what)
{
    BaseReportItem *item = g_new0(BaseReportItem, 1);
    item->is_warning = is_warning;
    item->code = code;
    item->what = what;
    item->hint = g_strdup(hint);
    if (pos) {
        item->pos = (BasePos){g_strdup(pos->file), pos->line, pos->col};
    }
    g_ptr_array_add(report->items, item);
    report->n_errors += is_warning ? 0 : 1;
    report->is_sorted = false;
}

void base_report_error(BaseReport *report, VmError code, const BasePos *pos, const char *hint,
                       const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add(report, false, code, pos, hint, g_strdup_vprintf(format, args));
    va_end(args);
}

void base_report_warning(BaseReport *report, VmError code, const BasePos *pos, const char *hint,
                         const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add(report, true, code, pos, hint, g_strdup_vprintf(format, args));
    va_end(args);
}

unsigned base_report_n_errors(const BaseReport *report)
{
    return report->n_errors;
}

unsigned base_report_n_items(const BaseReport *report)
{
    return report->items->len;
}

static int compare_unsigned(unsigned a, unsigned b)
{
    return (a > b) - (a < b);
}

static int compare_items(gconstpointer a, gconstpointer b)
{
    const BasePos *x = &(*(const BaseReportItem *const *)a)->pos;
    const BasePos *y = &(*(const BaseReportItem *const *)b)->pos;
    int by_file = g_strcmp0(x->file, y->file);
    if (by_file) {
        return by_file;
    }
    int by_line = compare_unsigned(x->line, y->line);
    return by_line ? by_line : compare_unsigned(x->col, y->col);
}

const BaseReportItem *base_report_item(BaseReport *report, unsigned i)
{
    g_assert(i < report->items->len);
    if (!report->is_sorted) {
        /* a merge sort (GLib): items of one position keep their order of arrival */
        g_ptr_array_sort(report->items, compare_items);
        report->is_sorted = true;
    }
    return report->items->pdata[i];
}

static void append_escaped(GString *out, const char *text)
{
    g_autofree char *escaped = base_report_escape(text, 0);
    g_string_append(out, escaped);
}

static void append_position(GString *out, const BasePos *pos)
{
    if (!pos->file) {
        return;
    }
    append_escaped(out, pos->file);
    if (pos->line) {
        g_string_append_printf(out, ":%u", pos->line);
        if (pos->col) {
            g_string_append_printf(out, ":%u", pos->col);
        }
    }
    g_string_append(out, ": ");
}

static void append_what(GString *out, const BaseReportItem *item)
{
    append_escaped(out, item->what);
    if (item->hint) {
        g_string_append(out, " - ");
        append_escaped(out, item->hint);
    }
}

char *base_report_item_text(const BaseReportItem *item)
{
    GString *out = g_string_new(NULL);
    append_position(out, &item->pos);
    g_string_append_printf(out, "%s[%s]: ", item->is_warning ? "warning" : "error",
                           base_error_row((int)item->code)->cls);
    append_what(out, item);
    return g_string_free(out, FALSE);
}

static const BaseReportItem *first_error(BaseReport *report)
{
    for (unsigned i = 0; i < base_report_n_items(report); i++) {
        const BaseReportItem *item = base_report_item(report, i);
        if (!item->is_warning) {
            return item;
        }
    }
    return NULL;
}

int base_report_exit_status(BaseReport *report)
{
    const BaseReportItem *item = first_error(report);
    return item ? base_error_row((int)item->code)->exit_status : 0;
}

bool base_report_check(BaseReport *report, GError **error)
{
    const BaseReportItem *item = first_error(report);
    if (!item) {
        return true;
    }
    g_autoptr(GString) text = g_string_new(NULL);
    append_position(text, &item->pos);
    append_what(text, item);
    return base_fail(error, item->code, "%s", text->str);
}

/* May this character stand in a message as it is? What can't be seen or told apart may not. */
static bool is_plain(gunichar c)
{
    if (c < 0x80) {
        return c >= 0x20 && c < 0x7f;
    }
    switch (g_unichar_type(c)) {
    case G_UNICODE_LINE_SEPARATOR:
    case G_UNICODE_PARAGRAPH_SEPARATOR:
    case G_UNICODE_SPACE_SEPARATOR:
    case G_UNICODE_PRIVATE_USE:
        return false;
    default:
        return g_unichar_isprint(c) && !g_unichar_iszerowidth(c);
    }
}

/* Appends the character or byte at `text`; returns how many bytes of `text` were used. */
static size_t append_character(GString *out, const char *text)
{
    gunichar c = g_utf8_get_char_validated(text, -1);
    bool is_valid = c != (gunichar)-1 && c != (gunichar)-2;
    size_t n_bytes = is_valid ? (size_t)(g_utf8_next_char(text) - text) : 1;
    if (is_valid && is_plain(c)) {
        g_string_append_len(out, text, (gssize)n_bytes);
        return n_bytes;
    }
    for (size_t i = 0; i < n_bytes; i++) {
        g_string_append_printf(out, "\\x%02x", (unsigned char)text[i]);
    }
    return n_bytes;
}

char *base_report_escape(const char *text, size_t max_bytes)
{
    static const char dots[] = "...";
    GString *out = g_string_new(NULL);
    size_t cut = 0; /* the longest whole-character prefix that leaves room for the dots */
    while (*text) {
        text += append_character(out, text);
        if (max_bytes && out->len > max_bytes) {
            g_string_truncate(out, cut);
            g_string_append_len(out, dots, (gssize)MIN(max_bytes, strlen(dots)));
            break;
        }
        if (out->len + strlen(dots) <= max_bytes) {
            cut = out->len;
        }
    }
    return g_string_free(out, FALSE);
}

/* Optimal string alignment: insert, delete, replace, swap of neighbours cost 1 each. */
static unsigned distance(const char *a, size_t n_a, const char *b, size_t n_b)
{
    unsigned d[NEAREST_MAX_LEN + 1][NEAREST_MAX_LEN + 1];
    for (unsigned i = 0; i <= n_a; i++) {
        d[i][0] = i;
    }
    for (unsigned j = 0; j <= n_b; j++) {
        d[0][j] = j;
    }
    for (size_t i = 1; i <= n_a; i++) {
        for (size_t j = 1; j <= n_b; j++) {
            unsigned replace = d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
            unsigned best = MIN(replace, MIN(d[i - 1][j], d[i][j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                best = MIN(best, d[i - 2][j - 2] + 1);
            }
            d[i][j] = best;
        }
    }
    return d[n_a][n_b];
}

const char *base_report_nearest(const char *word, const char *const *candidates)
{
    size_t n_word = strlen(word);
    if (n_word == 0 || n_word > NEAREST_MAX_LEN) {
        return NULL;
    }
    const char *nearest = NULL;
    unsigned limit = MAX(1, (unsigned)n_word / 3);
    for (; *candidates; candidates++) {
        size_t n_candidate = strlen(*candidates);
        if (n_candidate > NEAREST_MAX_LEN) {
            continue;
        }
        unsigned found = distance(word, n_word, *candidates, n_candidate);
        if (found <= limit && found < n_word) {
            nearest = *candidates;
            if (found == 0) {
                break;
            }
            limit = found - 1;
        }
    }
    return nearest;
}
