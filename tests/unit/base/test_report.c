#include "base/report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void assert_escaped(const char *text, size_t max_bytes, const char *expected)
{
    g_autofree char *escaped = base_report_escape(text, max_bytes);
    assert_string_equal(escaped, expected);
}

static void test_escape_plain_and_letters_then_unchanged(void **state)
{
    (void)state;
    assert_escaped("", 0, "");
    assert_escaped("a b~\\", 0, "a b~\\");
    assert_escaped("Grüße 機械", 0, "Grüße 機械");
}

static void test_escape_hidden_or_broken_then_hex(void **state)
{
    (void)state;
    assert_escaped("a\x1b[31m\n\t\x7f", 0, "a\\x1b[31m\\x0a\\x09\\x7f");
    assert_escaped("\xff\xc3(", 0, "\\xff\\xc3(");
    assert_escaped("\xc3", 0, "\\xc3"); /* cut character */
    /* NOLINTNEXTLINE(misc-misleading-bidirectional): it is what is tested */
    assert_escaped("a\u202eb", 0, "a\\xe2\\x80\\xaeb"); /* right-to-left override */
    assert_escaped("a\u200bb", 0, "a\\xe2\\x80\\x8bb"); /* zero width space */
    assert_escaped("a\u00a0b", 0, "a\\xc2\\xa0b");      /* no-break space */
    assert_escaped("a\u2028b", 0, "a\\xe2\\x80\\xa8b"); /* line separator */
    assert_escaped("e\u0301", 0, "e\\xcc\\x81");        /* combining accent */
}

static void test_escape_long_then_cut_between_characters(void **state)
{
    (void)state;
    assert_escaped("abcdefgh", 8, "abcdefgh");
    assert_escaped("abcdefghi", 8, "abcde...");
    assert_escaped("abc\x01\x01", 8, "abc...");
    assert_escaped("abcdüüü", 8, "abcd...");
    assert_escaped("abcd", 2, "..");
}

static void test_nearest_typo_then_found_and_far_word_then_none(void **state)
{
    (void)state;
    const char *const words[] = {"memory", "cpus", "cpu_model", "networks", NULL};
    const char *const none[] = {NULL};
    assert_string_equal(base_report_nearest("memroy", words), "memory");
    assert_string_equal(base_report_nearest("mem", words) ? "found" : "none", "none");
    assert_string_equal(base_report_nearest("cpu", words), "cpus");
    assert_string_equal(base_report_nearest("netwroks", words), "networks");
    assert_null(base_report_nearest("x", words));
    assert_null(base_report_nearest("", words));
    assert_null(base_report_nearest("memory", none));
    g_autofree char *huge = g_strnfill(100000, 'm');
    assert_null(base_report_nearest(huge, words));
}

static void test_items_added_in_any_order_then_sorted_by_position(void **state)
{
    (void)state;
    g_autoptr(BaseReport) report = base_report_new();
    char file[] = "a.yaml";
    BasePos late = {file, 9, 1}, early = {file, 2, 7}, same = {file, 2, 7};
    base_report_error(report, VM_ERROR_RANGE, &late, NULL, "late");
    base_report_warning(report, VM_ERROR_CI, &early, "do that", "early %d", 1);
    base_report_error(report, VM_ERROR_SCHEMA, &same, NULL, "second");
    base_report_error(report, VM_ERROR_CLI, NULL, NULL, "flag");
    memset(file, 'z', sizeof file - 1); /* the report keeps its own copies */
    assert_int_equal(base_report_n_items(report), 4);
    assert_int_equal(base_report_n_errors(report), 3);
    const char *const expected[] = {
        "error[E_CLI]: flag", "a.yaml:2:7: warning[E_CI]: early 1 - do that",
        "a.yaml:2:7: error[E_SCHEMA]: second", "a.yaml:9:1: error[E_RANGE]: late"};
    for (unsigned i = 0; i < 4; i++) {
        g_autofree char *text = base_report_item_text(base_report_item(report, i));
        assert_string_equal(text, expected[i]);
    }
    assert_int_equal(base_report_exit_status(report), 2);
}

static void test_item_text_hostile_bytes_then_one_escaped_line(void **state)
{
    (void)state;
    g_autoptr(BaseReport) report = base_report_new();
    char file[] = "a\nb.yaml";
    BasePos pos = {file, 3, 0};
    base_report_error(report, VM_ERROR_NAME, &pos, "h\r", "bad \x1b name");
    g_autofree char *text = base_report_item_text(base_report_item(report, 0));
    assert_string_equal(text, "a\\x0ab.yaml:3: error[E_NAME]: bad \\x1b name - h\\x0d");
}

static void test_check_only_warnings_then_true_else_first_error(void **state)
{
    (void)state;
    g_autoptr(BaseReport) report = base_report_new();
    g_autoptr(GError) error = NULL;
    char file[] = "f";
    BasePos pos = {file, 1, 2};
    base_report_warning(report, VM_ERROR_CI, NULL, NULL, "w");
    assert_true(base_report_check(report, &error));
    assert_null(error);
    assert_int_equal(base_report_exit_status(report), 0);
    base_report_error(report, VM_ERROR_IMAGE, &pos, "h", "e");
    assert_false(base_report_check(report, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_IMAGE));
    assert_string_equal(error->message, "f:1:2: e - h");
    assert_int_equal(base_report_exit_status(report), 13);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_escape_plain_and_letters_then_unchanged),
        cmocka_unit_test(test_escape_hidden_or_broken_then_hex),
        cmocka_unit_test(test_escape_long_then_cut_between_characters),
        cmocka_unit_test(test_nearest_typo_then_found_and_far_word_then_none),
        cmocka_unit_test(test_items_added_in_any_order_then_sorted_by_position),
        cmocka_unit_test(test_item_text_hostile_bytes_then_one_escaped_line),
        cmocka_unit_test(test_check_only_warnings_then_true_else_first_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
