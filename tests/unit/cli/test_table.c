#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "cli/table.h"

static void expect(const CmdTable *table, const char *expected)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    cmd_table_print(table, out);
    fclose(out);
    assert_string_equal(text, expected);
    free(text);
}

static void test_cells_when_printed_then_aligned_and_escaped(void **state)
{
    (void)state;
    static const char *const titles[] = {"NAME", "STATUS", NULL};
    static const char *const cells[] = {"web", "running", "müller-x7k2", NULL, "a\033[31m", ""};
    g_autoptr(CmdTable) table = cmd_table_new(titles);
    expect(table, "NAME  STATUS\n");
    for (size_t i = 0; i < G_N_ELEMENTS(cells); i++) {
        cmd_table_add(table, cells[i]);
    }
    expect(table, "NAME         STATUS\n"
                  "web          running\n"
                  "müller-x7k2  -\n"
                  "a\\x1b[31m    -\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cells_when_printed_then_aligned_and_escaped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
