#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

/* GLib takes one writer a process, so each case is a child. Returns what it wrote to stderr. */
static char *log_as(const char *level)
{
    int ends[2];
    char text[4096] = "";
    size_t n = 0;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        if (level) {
            setenv("VM_RUN_LOG", level, 1);
        } else {
            unsetenv("VM_RUN_LOG");
        }
        base_log_init();
        base_log_debug("web1", "overlay", "made %d", 7);
        base_log_warning(NULL, NULL, "evil \x1b[31m\nline");
        g_critical("a bug");
        _exit(0);
    }
    close(ends[1]);
    for (ssize_t got; (got = read(ends[0], text + n, sizeof text - 1 - n)) > 0;) {
        n += (size_t)got;
    }
    close(ends[0]);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    return g_strdup(text);
}

#define CRITICAL "vm-driver: critical: a bug\n"
#define WARNING  "vm-driver: warning: evil \\x1b[31m\\x0aline\n"
#define DEBUG    "vm-driver: debug: machine=web1 step=overlay made 7\n"

static void test_log_levels_then_lines_from_that_level_on(void **state)
{
    (void)state;
    const struct {
        const char *level, *expected;
    } cases[] = {
        {NULL, CRITICAL},
        {"", CRITICAL},
        {"warning", WARNING CRITICAL},
        {"info", WARNING CRITICAL},
        {"debug", DEBUG WARNING CRITICAL},
        {"what?", DEBUG WARNING CRITICAL},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *text = log_as(cases[i].level);
        assert_string_equal(text, cases[i].expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_log_levels_then_lines_from_that_level_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
