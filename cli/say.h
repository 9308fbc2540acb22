#pragma once
#include <stdbool.h>
#include <glib.h>
#include "base/report.h"
#include "cli/command.h"

/*
 * What is said on standard error: one line a message, escaped, since names and causes may come from
 * a guest or a file. Results go to standard output and are not said here.
 */

/* "vm-run: error[CLASS]: ..."; never silent. */
void cmd_say_error(const GError *error);
/* "vm-run: warning: ..." and "vm-run: ..."; silent with --quiet. */
void cmd_say_warning(const CmdContext *context, const char *format, ...) G_GNUC_PRINTF(2, 3);
void cmd_say_note(const CmdContext *context, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* A line of a log or a console: "  | ..."; silent with --quiet. */
void cmd_say_quoted(const CmdContext *context, const char *line);

/* Every item of the report (its warnings not with --quiet). Returns the exit status: 0 without an
 * error. */
int cmd_say_report(const CmdContext *context, BaseReport *report);

/* A standard output that can't be written: 0, the exit status otherwise (141 as by SIGPIPE, said in
 * no word). */
int cmd_say_flush(void);
