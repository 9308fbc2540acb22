#include "schemas/rows.h"
#include "schemas/value.h"
#include "specs.h"

/* Each row of the table at its limits: n - 1, n and n + 1. */

static void assert_number(const SpecOption *row, uint64_t value, bool is_fine)
{
    g_autofree char *text = row->kind == SPEC_KIND_SIZE ? spec_format_size(value)
                            : row->kind == SPEC_KIND_DURATION
                                ? spec_format_duration(value)
                                : g_strdup_printf("%" G_GUINT64_FORMAT, value);
    const char *got = class_of_set(row->info.path, text);
    if (is_fine ? got != NULL : g_strcmp0(got, "E_RANGE") != 0) {
        fail_msg("%s: %s gives %s", row->info.path, text, got ? got : "no error");
    }
}

static void test_numbers_of_every_row_at_their_limits(void **state)
{
    (void)state;
    unsigned n = 0;
    for (unsigned i = 0; i < spec_machine_table.n_options; i++) {
        const SpecOption *row = &spec_machine_table.options[i];
        if (row->kind != SPEC_KIND_UINT && row->kind != SPEC_KIND_SIZE &&
            row->kind != SPEC_KIND_DURATION) {
            continue;
        }
        uint64_t step = row->unit ? row->unit : 1;
        if (row->min > 0) {
            assert_number(row, row->min - step, false);
        }
        assert_number(row, row->min, true);
        assert_number(row, row->min + step, true);
        assert_number(row, row->max - step, true);
        assert_number(row, row->max, true);
        assert_number(row, row->max + step, false);
        if (step > 1) {
            assert_number(row, row->min + step / 2, false);
        }
        n++;
    }
    assert_true(n >= 6);
}

/* Elements that are right for the row, "a, b, c" without brackets; NULL: not known here. */
static char *elements_for(const SpecOption *row, unsigned n)
{
    GString *out = g_string_new(NULL);
    for (unsigned i = 0; i < n; i++) {
        g_string_append(out, i ? ", " : "");
        if (row->kind == SPEC_KIND_MAP) {
            g_string_append_printf(out, "k%u: v", i);
        } else if (row->kind == SPEC_KIND_STRINGS) {
            g_string_append(out, row->is_loadable ? "\"a\\n\"" : "a");
        } else if (g_str_equal(row->info.path, "disks")) {
            g_string_append(out, "{size: 1GiB}");
        } else if (g_str_equal(row->info.path, "networks")) {
            g_string_append(out, "user");
        } else if (g_str_equal(row->info.path, "ports")) {
            g_string_append(out, "auto:80");
        } else if (g_str_has_prefix(row->info.path, "egress.")) {
            g_string_append(out, "10.0.0.0/8");
        } else if (g_str_equal(row->info.path, "write_files")) {
            g_string_append(out, "{path: /x}");
        } else {
            g_string_append(out, "{xpath: /x, value: y}");
        }
    }
    return g_string_free(out, FALSE);
}

static void test_counts_of_every_list_at_their_limits(void **state)
{
    (void)state;
    unsigned n_rows = 0;
    for (unsigned i = 0; i < spec_machine_table.n_options; i++) {
        const SpecOption *row = &spec_machine_table.options[i];
        if (row->kind != SPEC_KIND_STRINGS && row->kind != SPEC_KIND_MAP &&
            row->kind != SPEC_KIND_RECORDS) {
            continue;
        }
        for (int over = -1; over <= 1; over++) {
            g_autofree char *items = elements_for(row, (unsigned)((int)row->max_items + over));
            g_autofree char *text =
                g_strdup_printf(row->kind == SPEC_KIND_MAP ? "{%s}" : "[%s]", items);
            const char *got = class_of_set(row->info.path, text);
            if (g_strcmp0(got, over > 0 ? "E_RANGE" : NULL) != 0) {
                fail_msg("%s with %d: %s", row->info.path, (int)row->max_items + over,
                         got ? got : "no error");
            }
        }
        n_rows++;
    }
    assert_true(n_rows >= 10);
}

static void test_texts_at_their_length(void **state)
{
    (void)state;
    static const struct {
        const char *path, *head;
        char fill;
        unsigned max;
        const char *cls;
    } cases[] = {
        {"name", "", 'a', 63, "E_NAME"},
        {"user", "", 'a', 32, "E_CI"},
        {"image", "/", 'a', 4095, "E_PATH"},
        {"cpu_model", "", 'a', 64, "E_NAME"},
        {"timezone", "", 'a', 64, "E_CI"},
        {"locale", "", 'a', 64, "E_CI"},
        {"packages", "", 'a', 255, "E_CI"},
        {"qemu_args", "", 'a', 4096, "E_SCHEMA"},
        {"hostname",
         "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a."
         "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a."
         "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.",
         'a', 253, "E_NAME"},
        {"networks", "bridge=", 'a', 15 + 7, "E_NAME"},
        {"password_hash", "$6$", 'a', 512, "E_CI"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        for (int over = -1; over <= 1; over++) {
            size_t n = cases[i].max - strlen(cases[i].head) + (size_t)over;
            g_autofree char *fill = g_strnfill(n, cases[i].fill);
            g_autofree char *text = g_strconcat(cases[i].head, fill, NULL);
            const char *got = class_of_set(cases[i].path, text);
            if (g_strcmp0(got, over > 0 ? cases[i].cls : NULL) != 0) {
                fail_msg("%s with %u%+d bytes: %s", cases[i].path, cases[i].max, over,
                         got ? got : "no error");
            }
        }
    }
}

static void test_machines_at_their_count(void **state)
{
    (void)state;
    for (int n = 999; n <= 1001; n++) {
        g_autoptr(GString) text = g_string_new("version: 1\nname: t\nvms:\n");
        for (int i = 0; i < n; i++) {
            g_string_append_printf(text, "  m%d: {image: x}\n", i);
        }
        g_autofree char *lines = mistakes_of(text->str, text->len);
        assert_string_equal(
            lines, n > 1000
                       ? "f:4:3: error[E_RANGE]: vms: 1001 are more than the 1000 that are allowed"
                       : "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_of_every_row_at_their_limits),
        cmocka_unit_test(test_counts_of_every_list_at_their_limits),
        cmocka_unit_test(test_texts_at_their_length),
        cmocka_unit_test(test_machines_at_their_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
