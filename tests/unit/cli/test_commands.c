#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <glib.h>

#include "cli/command.h"
#include "cli/emit.h"
#include "cli/help.h"

/* What holds for every row of the command table, so that a new command can't break it. */

static void check_doc(const char *of, const char *doc)
{
    if (!doc || !*doc || doc[strlen(doc) - 1] != '.') {
        fail_msg("'%s' has no sentence as its doc: '%s'", of, doc ? doc : "");
    }
}

static void check_flags(const CmdCommand *command)
{
    g_autofree CmdFlag *flags = cmd_command_flags(command);
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
    bool is_letter_taken[256] = {false};
    for (const CmdFlag *flag = flags; flag->name; flag++) {
        unsigned char letter = (unsigned char)flag->letter;
        check_doc(flag->name, flag->doc);
        if (!g_hash_table_add(names, (gpointer)flag->name) || (letter && is_letter_taken[letter])) {
            fail_msg("%s: flag --%s (-%c) stands twice", command->name, flag->name,
                     letter ? letter : ' ');
        }
        is_letter_taken[letter] = true;
    }
}

static void test_rows_when_listed_then_whole_and_without_clash(void **state)
{
    (void)state;
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
    for (unsigned i = 0; cmd_command(i); i++) {
        const CmdCommand *command = cmd_command(i);
        check_doc(command->name, command->doc);
        assert_true(g_hash_table_add(names, (gpointer)command->name));
        assert_non_null(command->handler);
        assert_non_null(command->synopsis);
        assert_true(command->n_operands_min <= command->n_operands_max);
        check_flags(command);
    }
}

static void test_commands_when_promised_then_there(void **state)
{
    (void)state;
    static const char *const promised[] = {
        "run",   "start",  "stop",    "restart", "rm",     "ps",         "ls",
        "show",  "logs",   "console", "ssh",     "events", "stats",      "update",
        "check", "schema", "gc",      "doctor",  "seed",   "completion", "version"};
    unsigned n_words = 0;
    for (gsize i = 0; i < G_N_ELEMENTS(promised); i++) {
        const char *const argv[] = {promised[i], NULL};
        assert_non_null(cmd_command_find(argv, &n_words));
        assert_int_equal(n_words, 1);
    }
    static const char *const network[] = {"ls", "show", "add", "rm", "check"};
    for (gsize i = 0; i < G_N_ELEMENTS(network); i++) {
        const char *const argv[] = {"network", network[i], "x", NULL};
        assert_non_null(cmd_command_find(argv, &n_words));
        assert_int_equal(n_words, 2);
    }
    static const char *const image[] = {"probe", "inspect", "overlay"};
    for (gsize i = 0; i < G_N_ELEMENTS(image); i++) {
        const char *const argv[] = {"image", image[i], "x", NULL};
        assert_non_null(cmd_command_find(argv, &n_words));
        assert_int_equal(n_words, 2);
    }
    assert_null(cmd_command_find((const char *const[]){"image", NULL}, &n_words));
    assert_true(cmd_command_is_group("image"));
    assert_false(cmd_command_is_group("imag"));
    assert_false(cmd_command_is_group("run"));
}

static void test_flags_of_run_when_promised_then_there(void **state)
{
    (void)state;
    static const char *const promised[] = {
        "name",     "cpus",           "memory",         "disk",
        "ssh-key",  "user-data",      "network-config", "hostname",
        "timezone", "user",           "network",        "publish",
        "rm",       "detach",         "wait",           "timeout",
        "set",      "save-spec",      "file",           "connect",
        "accel",    "state-dir",      "json",           "quiet",
        "no-color", "allow-degraded", "sha256"};
    const char *const argv[] = {"run", NULL};
    unsigned n_words = 0;
    g_autofree CmdFlag *flags = cmd_command_flags(cmd_command_find(argv, &n_words));
    for (gsize i = 0; i < G_N_ELEMENTS(promised); i++) {
        bool is_there = false;
        for (const CmdFlag *flag = flags; flag->name; flag++) {
            is_there |= g_str_equal(flag->name, promised[i]);
        }
        if (!is_there) {
            fail_msg("run has no --%s", promised[i]);
        }
    }
}

static void test_documents_when_made_then_name_every_command(void **state)
{
    (void)state;
    g_autofree char *help = cmd_help_program(NULL);
    g_autofree char *man = cmd_emit_man();
    g_autofree char *markdown = cmd_emit_cli_md();
    for (unsigned i = 0; cmd_command(i); i++) {
        const CmdCommand *command = cmd_command(i);
        g_autofree char *in_help = g_strdup_printf("\n  %s ", command->name);
        g_autofree char *in_man = g_strdup_printf("\n.SS \"vm\\-run %s ", command->name);
        g_autofree char *in_markdown = g_strdup_printf("\n## vm-run %s\n", command->name);
        assert_int_equal(!strstr(help, in_help), command->is_hidden);
        assert_int_equal(!strstr(man, in_man), command->is_hidden);
        assert_int_equal(!strstr(markdown, in_markdown), command->is_hidden);
    }
}

static void test_help_when_long_then_within_columns(void **state)
{
    (void)state;
    for (unsigned i = 0; cmd_command(i); i++) {
        g_autofree char *help = cmd_help_command(cmd_command(i));
        g_auto(GStrv) lines = g_strsplit(help, "\n", -1);
        for (char **line = lines; *line; line++) {
            assert_true(g_utf8_strlen(*line, -1) <= 100);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_when_listed_then_whole_and_without_clash),
        cmocka_unit_test(test_commands_when_promised_then_there),
        cmocka_unit_test(test_flags_of_run_when_promised_then_there),
        cmocka_unit_test(test_documents_when_made_then_name_every_command),
        cmocka_unit_test(test_help_when_long_then_within_columns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
