#pragma once
#include <glib.h>

/* Documents made from the command table and the error table, for the build and the tests. Transfer
 * full. */
char *cmd_emit_man(void);              /* vm-run.1: man(7) roff */
char *cmd_emit_cli_md(void);           /* docs/reference/cli.md */
char *cmd_emit_exit_statuses_md(void); /* docs/reference/exit-statuses.md */

/* Statuses that no class of the error table has, in order: the number and what it means; ends with
 * a NULL text. */
typedef struct {
    const char *status; /* "125" */
    const char *doc;
} CmdExitRow;
extern const CmdExitRow cmd_exit_rows[];

/* Environment variables that the program reads: name, doc, name, doc ... NULL. */
extern const char *const cmd_environment[];
