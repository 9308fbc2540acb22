#pragma once
#include <stdbool.h>
#include <stdio.h>
#include <glib.h>

/* A table of text for people: columns as wide as their widest cell, two spaces between them. */
typedef struct CmdTable CmdTable;

/* titles: NULL-terminated, borrowed. */
CmdTable *cmd_table_new(const char *const *titles);
void cmd_table_free(CmdTable *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CmdTable, cmd_table_free)

/* Adds a cell to the current row, a new row after the last column; NULL is "-". Escaped here,
 * copied. */
void cmd_table_add(CmdTable *table, const char *cell);

/* The titles and all rows. A row's last cell is not padded. */
void cmd_table_print(const CmdTable *table, FILE *out);
