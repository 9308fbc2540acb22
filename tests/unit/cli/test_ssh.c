#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <glib.h>

#include "base/child.h"
#include "base/error.h"
#include "cli/ssh.h"

static MachineView view = {.name = "web",
                           .dir = "/st ate/100%/machines/web",
                           .ssh_addr = "127.0.0.1",
                           .ssh_port = 40022,
                           .login_user = "debian"};

static bool has_pair(char **argv, const char *first, const char *second)
{
    for (char **at = argv; at[0] && at[1]; at++) {
        if (g_str_equal(at[0], first) && g_str_equal(at[1], second)) {
            return true;
        }
    }
    return false;
}

static void test_argv_when_shell_then_isolated_and_checked(void **state)
{
    (void)state;
    g_auto(GStrv) argv = cmd_ssh_argv(&view, NULL, false, NULL);
    assert_string_equal(argv[0], "ssh");
    assert_true(has_pair(argv, "-F", "none"));
    assert_true(has_pair(argv, "-p", "40022"));
    assert_true(has_pair(argv, "-l", "debian"));
    assert_true(has_pair(argv, "-o", "StrictHostKeyChecking=yes"));
    assert_true(has_pair(argv, "-o", "HostKeyAlgorithms=ssh-ed25519"));
    assert_true(has_pair(argv, "-o", "HostKeyAlias=web"));
    assert_true(
        has_pair(argv, "-o", "UserKnownHostsFile=\"/st ate/100%%/machines/web/known_hosts\""));
    assert_true(has_pair(argv, "-o", "IdentityFile=\"/st ate/100%%/machines/web/id_ed25519\""));
    assert_string_equal(argv[g_strv_length(argv) - 1], "127.0.0.1");
    assert_false(g_strv_contains((const char *const *)argv, "-T"));
    assert_false(has_pair(argv, "-o", "BatchMode=yes"));
}

/* What the guest's shell makes of the last word is what was typed here: asked of a real shell. */
static void test_command_when_full_of_specials_then_comes_out_the_same(void **state)
{
    (void)state;
    const char *const command[] = {"printf", "%s\\n", "a b", "it's", "$HOME", "`id`",
                                   "*",      "\"",    "",    "-n",   "ü\n;",  NULL};
    g_auto(GStrv) argv = cmd_ssh_argv(&view, command, false, NULL);
    assert_true(g_strv_contains((const char *const *)argv, "-T"));
    assert_true(has_pair(argv, "-o", "BatchMode=yes"));
    const char *const shell[] = {"/bin/sh", "-c", argv[g_strv_length(argv) - 1], NULL};
    BaseChild child = BASE_CHILD_INIT;
    child.argv = shell;
    g_autofree char *output = NULL;
    assert_true(base_child_run(&child, &output, NULL, NULL));
    assert_string_equal(output, "a b\nit's\n$HOME\n`id`\n*\n\"\n\n-n\nü\n;\n");
}

/* ssh itself reads the options as we mean them: `ssh -G` prints what it understood. */
static void test_options_when_read_by_ssh_then_understood(void **state)
{
    (void)state;
    g_auto(GStrv) argv = cmd_ssh_argv(&view, NULL, false, NULL);
    g_autoptr(GPtrArray) words = g_ptr_array_new();
    g_ptr_array_add(words, (gpointer) "ssh");
    g_ptr_array_add(words, (gpointer) "-G");
    for (char **word = argv + 1; *word; word++) {
        g_ptr_array_add(words, *word);
    }
    g_ptr_array_add(words, NULL);
    BaseChild child = BASE_CHILD_INIT;
    child.argv = (const char *const *)words->pdata;
    g_autofree char *output = NULL;
    assert_true(base_child_run(&child, &output, NULL, NULL));
    assert_non_null(strstr(output, "\nuser debian\n") ? output : strstr(output, "user debian\n"));
    assert_non_null(strstr(output, "port 40022\n"));
    assert_non_null(strstr(output, "hostname 127.0.0.1\n"));
    assert_non_null(strstr(output, "stricthostkeychecking true\n"));
    assert_non_null(strstr(output, "machines/web/known_hosts\n"));
    assert_non_null(strstr(output, "machines/web/id_ed25519\n"));
    assert_null(strstr(output, "/.ssh/"));
}

static void test_argv_when_no_address_then_says_what_else(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    MachineView no_address = {.name = "web", .dir = "/x", .login_user = "debian"};
    assert_null(cmd_ssh_argv(&no_address, NULL, false, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_HOST));
    assert_non_null(strstr(error->message, "vm-run console web"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_argv_when_shell_then_isolated_and_checked),
        cmocka_unit_test(test_command_when_full_of_specials_then_comes_out_the_same),
        cmocka_unit_test(test_options_when_read_by_ssh_then_understood),
        cmocka_unit_test(test_argv_when_no_address_then_says_what_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
