#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <glib.h>

#include "base/error.h"
#include "cli/flags.h"

static const char *const levels[] = {"low", "high", NULL};
static const CmdFlag table[] = {
    {.name = "name", .letter = 'n', .metavar = "NAME", .doc = "A text."},
    {.name = "size", .metavar = "SIZE", .doc = "A size."},
    {.name = "timeout", .metavar = "TIME", .doc = "A duration."},
    {.name = "level", .metavar = "LEVEL", .choices = levels, .doc = "A choice."},
    {.name = "detach", .letter = 'd', .doc = "A switch."},
    {.name = "quiet", .letter = 'q', .doc = "Another."},
    {.name = "memory", .metavar = "SIZE", .spec_path = "memory", .doc = "An option of a machine."},
    {.name = NULL},
};

#define PARSE(...)            parse((const char *const[]){__VA_ARGS__, NULL})
#define REFUSE(expected, ...) refuse((const char *const[]){__VA_ARGS__, NULL}, expected)

static CmdArgs *parse(const char *const *argv)
{
    g_autoptr(GError) error = NULL;
    CmdFlag *flags = g_memdup2(table, sizeof table);
    CmdArgs *args = cmd_args_parse(flags, argv, false, NULL, &error);
    assert_null(error);
    assert_non_null(args);
    return args;
}

static void refuse(const char *const *argv, const char *expected)
{
    g_autoptr(GError) error = NULL;
    CmdFlag *flags = g_memdup2(table, sizeof table);
    assert_null(cmd_args_parse(flags, argv, false, NULL, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_CLI));
    assert_string_equal(error->message, expected);
}

static void test_values_when_written_in_any_way_then_read(void **state)
{
    (void)state;
    static const char *const ways[][3] = {{"--name", "web", NULL},
                                          {"--name=web", NULL},
                                          {"-n", "web", NULL},
                                          {"-nweb", NULL},
                                          {"-n=web", NULL}};
    for (gsize i = 0; i < G_N_ELEMENTS(ways); i++) {
        g_autoptr(CmdArgs) args = parse(ways[i]);
        assert_string_equal(cmd_args_text(args, "name"), "web");
        assert_int_equal(args->operands->len, 0);
    }
}

static void test_bundle_when_last_takes_value_then_read(void **state)
{
    (void)state;
    g_autoptr(CmdArgs) args = PARSE("-dqn", "web", "image");
    assert_true(cmd_args_has(args, "detach"));
    assert_true(cmd_args_has(args, "quiet"));
    assert_string_equal(cmd_args_text(args, "name"), "web");
    assert_string_equal(cmd_args_operand(args, 0), "image");
    assert_null(cmd_args_operand(args, 1));
}

static void test_words_when_after_dashes_then_rest(void **state)
{
    (void)state;
    g_autoptr(CmdArgs) args = PARSE("image", "-d", "--", "ls", "--all", "--");
    assert_string_equal(cmd_args_operand(args, 0), "image");
    assert_int_equal(g_strv_length(args->rest), 3);
    assert_string_equal(args->rest[1], "--all");
    g_autoptr(CmdArgs) without = PARSE("image");
    assert_null(without->rest);
}

static void test_flag_when_twice_then_last_counts(void **state)
{
    (void)state;
    g_autoptr(CmdArgs) args = PARSE("--name=a", "x", "--name=b", "-");
    assert_string_equal(cmd_args_text(args, "name"), "b");
    assert_string_equal(cmd_args_operand(args, 1), "-");
}

static void test_leading_when_operand_comes_then_stops(void **state)
{
    (void)state;
    unsigned n_used = 0;
    const char *const argv[] = {"-q", "--name", "x", "run", "--unknown", NULL};
    g_autoptr(GError) error = NULL;
    g_autoptr(CmdArgs) args =
        cmd_args_parse(g_memdup2(table, sizeof table), argv, true, &n_used, &error);
    assert_non_null(args);
    assert_int_equal(n_used, 3);
}

static void test_mistakes_when_made_then_named(void **state)
{
    (void)state;
    REFUSE("unknown flag '--nmae' - did you mean '--name'?", "--nmae", "x");
    REFUSE("unknown flag '--zzzzzz'", "--zzzzzz");
    REFUSE("unknown flag '-x'", "-dx");
    REFUSE("flag '--name' needs a value: --name NAME", "--name");
    REFUSE("flag '--name' needs a value: --name NAME", "--name", "--detach");
    REFUSE("flag '--name' needs a value: --name NAME", "--name", "--", "x");
    REFUSE("flag '--detach' takes no value", "--detach=1");
    REFUSE("--name: its value is empty - give NAME", "--name=");
    REFUSE("--level 'hihg': must be one of low, high - did you mean 'high'?", "--level", "hihg");
}

static void test_option_of_machine_when_empty_then_left_to_its_table(void **state)
{
    (void)state;
    g_autoptr(CmdArgs) args = PARSE("--memory=");
    assert_string_equal(cmd_args_text(args, "memory"), "");
}

static void test_typed_values_when_wrong_then_refused(void **state)
{
    (void)state;
    uint64_t size = 7, time_ms = 7;
    g_autoptr(CmdArgs) good = PARSE("--size=2GiB", "--timeout", "90s");
    assert_true(cmd_args_size(good, "size", &size, NULL));
    assert_true(cmd_args_duration(good, "timeout", &time_ms, NULL));
    assert_int_equal(size, (uint64_t)2 << 30);
    assert_int_equal(time_ms, 90000);
    static const char *const bad[] = {"abc", "-1", "1e99", "9999999999999999999999s"};
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(CmdArgs) args = PARSE("--timeout", bad[i]);
        assert_false(cmd_args_duration(args, "timeout", &time_ms, &error));
        assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_CLI));
    }
    g_autoptr(CmdArgs) none = PARSE("x");
    assert_true(cmd_args_size(none, "size", &size, NULL));
    assert_int_equal(size, (uint64_t)2 << 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_when_written_in_any_way_then_read),
        cmocka_unit_test(test_bundle_when_last_takes_value_then_read),
        cmocka_unit_test(test_words_when_after_dashes_then_rest),
        cmocka_unit_test(test_flag_when_twice_then_last_counts),
        cmocka_unit_test(test_leading_when_operand_comes_then_stops),
        cmocka_unit_test(test_mistakes_when_made_then_named),
        cmocka_unit_test(test_option_of_machine_when_empty_then_left_to_its_table),
        cmocka_unit_test(test_typed_values_when_wrong_then_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
