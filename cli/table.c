#include "cli/table.h"

#include "base/report.h"

struct CmdTable {
    const char *const *titles;
    guint n_columns;
    GPtrArray *cells; /* of char*, owned, row by row */
};

CmdTable *cmd_table_new(const char *const *titles)
{
    CmdTable *table = g_new0(CmdTable, 1);
    table->titles = titles;
    table->n_columns = g_strv_length((char **)titles);
    table->cells = g_ptr_array_new_with_free_func(g_free);
    return table;
}

void cmd_table_free(CmdTable *table)
{
    if (!table) {
        return;
    }
    g_ptr_array_unref(table->cells);
    g_free(table);
}

void cmd_table_add(CmdTable *table, const char *cell)
{
    g_ptr_array_add(table->cells, cell && *cell ? base_report_escape(cell, 0) : g_strdup("-"));
}

static glong width_of(const CmdTable *table, guint column)
{
    glong width = g_utf8_strlen(table->titles[column], -1);
    for (guint i = column; i < table->cells->len; i += table->n_columns) {
        width = MAX(width, g_utf8_strlen(table->cells->pdata[i], -1));
    }
    return width;
}

static void print_cell(const CmdTable *table, guint column, const char *text, FILE *out)
{
    bool is_last = column + 1 == table->n_columns;
    glong padding = is_last ? 0 : width_of(table, column) - g_utf8_strlen(text, -1) + 2;
    fprintf(out, "%s%*s%s", text, (int)padding, "", is_last ? "\n" : "");
}

void cmd_table_print(const CmdTable *table, FILE *out)
{
    for (guint column = 0; column < table->n_columns; column++) {
        print_cell(table, column, table->titles[column], out);
    }
    for (guint i = 0, column = 0; i < table->cells->len; i++) {
        print_cell(table, column, table->cells->pdata[i], out);
        column = column + 1 == table->n_columns ? 0 : column + 1;
    }
}
