#include "cli/say.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "base/error.h"

void cmd_say_error(const GError *error)
{
    g_autofree char *text = base_report_escape(error->message, 0);
    fprintf(stderr, "vm-run: error[%s]: %s\n", base_error_row_of(error)->cls, text);
}

static void say(const char *prefix, const char *format, va_list args) G_GNUC_PRINTF(2, 0);

static void say(const char *prefix, const char *format, va_list args)
{
    g_autofree char *raw = g_strdup_vprintf(format, args);
    g_autofree char *text = base_report_escape(raw, 0);
    fprintf(stderr, "%s%s\n", prefix, text);
}

void cmd_say_warning(const CmdContext *context, const char *format, ...)
{
    if (context->is_quiet) {
        return;
    }
    va_list args;
    va_start(args, format);
    say("vm-run: warning: ", format, args);
    va_end(args);
}

void cmd_say_note(const CmdContext *context, const char *format, ...)
{
    if (context->is_quiet) {
        return;
    }
    va_list args;
    va_start(args, format);
    say("vm-run: ", format, args);
    va_end(args);
}

void cmd_say_quoted(const CmdContext *context, const char *line)
{
    if (context->is_quiet) {
        return;
    }
    g_autofree char *text = base_report_escape(line, 400);
    fprintf(stderr, "  | %s\n", text);
}

int cmd_say_report(const CmdContext *context, BaseReport *report)
{
    for (unsigned i = 0; i < base_report_n_items(report); i++) {
        const BaseReportItem *item = base_report_item(report, i);
        if (item->is_warning && context->is_quiet) {
            continue;
        }
        g_autofree char *text = base_report_item_text(item);
        fprintf(stderr, "%s%s\n", item->pos.file ? "" : "vm-run: ", text);
    }
    return base_report_exit_status(report);
}

int cmd_say_flush(void)
{
    int write_errno = fflush(stdout) ? errno : 0;
    if (!write_errno && !ferror(stdout)) {
        return 0;
    }
    if (write_errno == EPIPE || !write_errno) {
        return 128 + SIGPIPE;
    }
    g_autoptr(GError) error = NULL;
    base_error_set_errno(&error, write_errno, "cannot write to standard output");
    cmd_say_error(error);
    return base_error_row_of(error)->exit_status;
}
