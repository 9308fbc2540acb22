#pragma once
#include <stdbool.h>
#include "base/error.h"

/*
 * A report: what is wrong (or doubtful) with some input, all of it, in one pass.
 * Readers and checks add to it; the entry point prints it once, sorted by position.
 * Text is one line: file:line:col: error[CLASS]: what - hint
 * Bytes that are not printable ASCII or valid UTF-8 letters are shown as \xNN.
 */
typedef struct {
    char *file;    /* owned, NULL: none (a flag, a value of --set) */
    unsigned line; /* from 1, 0: unknown */
    unsigned col;  /* from 1, counts characters, 0: unknown */
} BasePos;

/* Its file transfer full. */
BasePos base_pos_copy(const BasePos *pos);

typedef struct {
    bool is_warning;
    VmError code;
    BasePos pos;
    char *what; /* owned; "vms.web.memroy: unknown key" */
    char *hint; /* owned, may be NULL; "did you mean 'memory'?" */
} BaseReportItem;

typedef struct BaseReport BaseReport;

BaseReport *base_report_new(void);
void base_report_free(BaseReport *report);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BaseReport, base_report_free)

/* pos may be NULL; hint may be NULL; the rest is copied. */
void base_report_error(BaseReport *report, VmError code, const BasePos *pos, const char *hint,
                       const char *format, ...) G_GNUC_PRINTF(5, 6);
void base_report_warning(BaseReport *report, VmError code, const BasePos *pos, const char *hint,
                         const char *format, ...) G_GNUC_PRINTF(5, 6);

unsigned base_report_n_errors(const BaseReport *report);
unsigned base_report_n_items(const BaseReport *report);

/* Items sorted by file, line, column; i < base_report_n_items(). Borrowed. */
const BaseReportItem *base_report_item(BaseReport *report, unsigned i);

/* One line without its end, transfer full. */
char *base_report_item_text(const BaseReportItem *item);

/* Exit status of a command that ends with this report: that of the first error, 0 without one. */
int base_report_exit_status(BaseReport *report);

/* false and `error` set when there is an error: the code of the first, and as message its position,
 * text and hint, without the class, which whoever prints a GError adds. */
bool base_report_check(BaseReport *report, GError **error);

/* `text` with control characters, invalid UTF-8, bidirectional and zero-width characters written
 * as \xNN; at most max_bytes (0: no limit), cut with "...". Transfer full. */
char *base_report_escape(const char *text, size_t max_bytes);

/* The candidate nearest to `word` (Damerau-Levenshtein distance <= 1/3 of its length, at least 1),
 * or NULL. Borrowed from `candidates` (NULL-terminated). */
const char *base_report_nearest(const char *word, const char *const *candidates);
