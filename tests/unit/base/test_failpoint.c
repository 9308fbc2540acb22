/* Compiled in here whatever the build's FAILPOINTS says, so that every build tests it. */
#ifndef VM_FAILPOINTS
#define VM_FAILPOINTS 1
#define INCLUDES_FAILPOINTS
#endif
#include "base/failpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#ifdef INCLUDES_FAILPOINTS
#include "base/failpoint.c" /* NOLINT(bugprone-suspicious-include): see the first line */
#else
#include <glib.h>
#endif

/* The rules are read once a process, so each case is a child; its wait status. */
static int run_as(const char *rules, int (*body)(void))
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        if (rules) {
            setenv("VM_FAILPOINTS", rules, 1);
        } else {
            unsetenv("VM_FAILPOINTS");
        }
        _exit(body());
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static int pass_twice(void)
{
    int first = base_failpoint("overlay.before");
    int other = base_failpoint("overlay");
    int second = base_failpoint("overlay.before");
    return first * 100 + other * 10 + second;
}

static int sleep_once(void)
{
    gint64 start = g_get_monotonic_time();
    return base_failpoint("boot.after") || g_get_monotonic_time() - start < 40000;
}

static void test_errno_rules_then_at_each_or_the_nth_pass(void **state)
{
    (void)state;
    assert_int_equal(run_as(NULL, pass_twice), 0);
    assert_int_equal(run_as("", pass_twice), 0);
    assert_int_equal(run_as("x=kill,y=errno:3", pass_twice), 0);
    assert_int_equal(WEXITSTATUS(run_as("overlay.before=errno:2", pass_twice)), 202);
    assert_int_equal(WEXITSTATUS(run_as("overlay.before#2=errno:28,z=kill", pass_twice)), 28);
    assert_int_equal(WEXITSTATUS(run_as("overlay.before#1=errno:1,overlay=errno:4", pass_twice)),
                     140);
}

static void test_kill_rule_then_killed(void **state)
{
    (void)state;
    int status = run_as("overlay.before#2=kill", pass_twice);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGKILL);
}

static void test_sleep_rule_then_slept_and_no_error(void **state)
{
    (void)state;
    assert_int_equal(run_as("boot.after=sleep:40", sleep_once), 0);
}

static void test_broken_rule_then_stopped_at_once(void **state)
{
    (void)state;
    assert_true(WIFSIGNALED(run_as("overlay.before", pass_twice)));
    assert_true(WIFSIGNALED(run_as("overlay.before=explode", pass_twice)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errno_rules_then_at_each_or_the_nth_pass),
        cmocka_unit_test(test_kill_rule_then_killed),
        cmocka_unit_test(test_sleep_rule_then_slept_and_no_error),
        cmocka_unit_test(test_broken_rule_then_stopped_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
