#include "base/child.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/error.h"
#include "base/fd.h"
#include "base/proc.h"

/* `sh` here is a program under test like any other: the library itself never uses a shell. */
static bool run_sh(const char *script, unsigned timeout_ms, char **out, int *status, GError **error)
{
    const char *const argv[] = {"sh", "-c", script, NULL};
    BaseChild child = BASE_CHILD_INIT;
    child.argv = argv;
    child.timeout_ms = timeout_ms;
    return base_child_run(&child, out, status, error);
}

static void test_run_success_then_output_and_status(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    g_autofree char *out = NULL;
    int status = -5;
    assert_true(run_sh("echo hello; echo noise >&2; cat", 10000, &out, &status, &error));
    assert_string_equal(out, "hello\n"); /* and cat found /dev/null at its stdin */
    assert_int_equal(status, 0);
}

static void test_run_failure_then_status_and_escaped_last_line(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    g_autofree char *out = NULL;
    int status = 0;
    assert_false(run_sh("echo part; printf 'first\\nlast \\033[31m\\n\\n' >&2; exit 3", 10000, &out,
                        &status, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_HOST));
    assert_string_equal(error->message, "sh ended with status 3: last \\x1b[31m");
    assert_int_equal(status, 3);
    assert_string_equal(out, "part\n");
}

static void test_run_signal_then_named(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    int status = 0;
    assert_false(run_sh("kill -TERM $$", 10000, NULL, &status, &error));
    assert_int_equal(status, 128 + SIGTERM);
    assert_non_null(strstr(error->message, "signal 15"));
}

static void test_run_missing_or_not_executable_then_own_codes(void **state)
{
    (void)state;
    const char *const cases[][2] = {
        {"no-such-program-here", NULL}, {"/nonexistent/x", NULL}, {"/etc/passwd", NULL}};
    const VmError codes[] = {VM_ERROR_NOT_FOUND, VM_ERROR_NOT_FOUND, VM_ERROR_DENIED};
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        BaseChild child = BASE_CHILD_INIT;
        int status = 0;
        child.argv = cases[i];
        assert_false(base_child_run(&child, NULL, &status, &error));
        assert_true(g_error_matches(error, VM_ERROR, (int)codes[i]));
        assert_int_equal(status, -1);
    }
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* all reaped */
    assert_int_equal(errno, ECHILD);
}

static void test_run_deadline_then_killed_with_its_group(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    g_autofree char *folder = g_dir_make_tmp("child-XXXXXX", NULL);
    g_autofree char *file = g_strdup_printf("%s/pid", folder);
    g_autofree char *script =
        g_strdup_printf("sleep 300 & echo $! >%s; echo why >&2; sleep 300", file);
    gint64 start = g_get_monotonic_time();
    assert_false(run_sh(script, 300, NULL, NULL, &error));
    assert_true(g_get_monotonic_time() - start < 5L * G_USEC_PER_SEC);
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_TIMEOUT));
    assert_string_equal(error->message, "sh did not end within 300 ms: why");
    g_autofree char *text = NULL;
    assert_true(g_file_get_contents(file, &text, NULL, NULL));
    pid_t grandchild = atoi(text);
    assert_true(grandchild > 0);
    autofd int pidfd = base_proc_open(grandchild, base_proc_start_ticks(grandchild));
    if (pidfd >= 0) { /* still ending */
        assert_true(base_proc_wait_end(pidfd, 5000, NULL));
    }
    assert_int_equal(base_proc_start_ticks(grandchild), 0);
    unlink(file);
    rmdir(folder);
}

static void test_run_flood_then_bounded(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    g_autoptr(GError) second = NULL;
    g_autofree char *out = NULL;
    assert_false(run_sh("yes", 20000, &out, NULL, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_HOST));
    assert_non_null(strstr(error->message, "too much output"));
    assert_null(out);
    assert_false(run_sh("yes >&2", 300, NULL, NULL, &second)); /* stderr: only its tail is kept */
    assert_true(g_error_matches(second, VM_ERROR, VM_ERROR_TIMEOUT));
}

static void test_run_grandchild_keeps_pipe_then_does_not_hang(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    g_autofree char *out = NULL;
    assert_true(run_sh("sleep 20 & echo done $!", 10000, &out, NULL, &error));
    assert_true(g_str_has_prefix(out, "done "));
    kill(atoi(out + 5), SIGKILL);
}

static void test_run_then_nothing_inherited(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    g_autofree char *fds = NULL;
    g_autofree char *env = NULL;
    int leaky = open("/dev/null", O_RDONLY); /* without CLOEXEC, as a library might */
    g_setenv("SECRET_TOKEN", "hunter2", TRUE);
    signal(SIGPIPE, SIG_IGN);
    assert_true(run_sh("ls /proc/self/fd | tr '\\n' ' '; "
                       "sed -En 's/^Sig(Blk|Ign):.*(....)$/\\2/p' /proc/self/status",
                       10000, &fds, NULL, &error));
    assert_string_equal(fds, "0 1 2 3 "       /* 3: of ls */
                             "0000\n0000\n"); /* signals 1 to 16, SIGPIPE among them */
    signal(SIGPIPE, SIG_DFL);
    const char *const argv[] = {"env", NULL};
    const char *const extra[] = {"PATH=/bin", "LIBGUESTFS_BACKEND=direct", NULL};
    BaseChild child = BASE_CHILD_INIT;
    child.argv = argv;
    child.extra_env = extra;
    assert_true(base_child_run(&child, &env, NULL, &error));
    assert_non_null(strstr(env, "PATH=/bin\n"));
    assert_non_null(strstr(env, "LIBGUESTFS_BACKEND=direct\n"));
    assert_null(strstr(env, "SECRET"));
    g_unsetenv("SECRET_TOKEN");
    close(leaky);
}

static void test_run_limits_then_enforced(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    g_autofree char *out = NULL;
    int status = 0;
    const char *const limits[] = {"sh", "-c", "ulimit -v; ulimit -t; ulimit -c", NULL};
    const char *const writer[] = {"dd",      "if=/dev/zero", "of=/dev/shm/child-limit",
                                  "bs=4096", "count=4",      NULL};
    BaseChild child = BASE_CHILD_INIT;
    child.argv = limits;
    child.limit_as_bytes = 512ull << 20;
    child.limit_cpu_s = 7;
    assert_true(base_child_run(&child, &out, NULL, &error));
    assert_string_equal(out, "524288\n7\n0\n");
    child.argv = writer;
    child.limit_fsize_bytes = 4096;
    assert_false(base_child_run(&child, NULL, &status, &error));
    assert_int_equal(status, 128 + SIGXFSZ);
    unlink("/dev/shm/child-limit");
}

static void test_run_descriptors_named_crosswise_then_placed(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    int to_child[2], from_child[2];
    char text[16] = "";
    assert_int_equal(pipe2(to_child, O_CLOEXEC), 0);
    assert_int_equal(pipe2(from_child, O_CLOEXEC), 0);
    const char *const argv[] = {"cat", NULL};
    BaseChild child = BASE_CHILD_INIT;
    child.argv = argv;
    child.stdin_fd = to_child[0];
    child.stdout_fd = from_child[1];
    child.stderr_fd = STDOUT_FILENO;
    assert_int_equal(write(to_child[1], "ping", 4), 4);
    close(to_child[1]);
    assert_true(base_child_run(&child, NULL, NULL, &error));
    assert_int_equal(read(from_child[0], text, sizeof text), 4);
    assert_string_equal(text, "ping");
    close(to_child[0]);
    close(from_child[0]);
    close(from_child[1]);
}

static void test_spawn_then_pidfd_and_own_session(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    const char *const argv[] = {"sleep", "300", NULL};
    BaseChild child = BASE_CHILD_INIT;
    child.argv = argv;
    child.is_new_session = true;
    autofd int pidfd = -1;
    pid_t pid = base_child_spawn(&child, &pidfd, &error);
    assert_true(pid > 0 && pidfd >= 0);
    assert_int_equal(getsid(pid), pid);
    assert_int_equal(fcntl(pidfd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_spawn_dies_with_us_then_killed_at_our_end(void **state)
{
    (void)state;
    int report[2];
    pid_t orphan = 0;
    assert_int_equal(pipe2(report, O_CLOEXEC), 0);
    pid_t parent = fork();
    if (parent == 0) {
        const char *const argv[] = {"sleep", "300", NULL};
        BaseChild child = BASE_CHILD_INIT;
        child.argv = argv;
        child.dies_with_us = true;
        pid_t pid = base_child_spawn(&child, NULL, NULL);
        _exit(write(report[1], &pid, sizeof pid) == sizeof pid ? 0 : 1);
    }
    assert_int_equal(read(report[0], &orphan, sizeof orphan), sizeof orphan);
    uint64_t ticks = base_proc_start_ticks(orphan);
    assert_int_equal(waitpid(parent, NULL, 0), parent);
    autofd int pidfd = ticks ? base_proc_open(orphan, ticks) : -1;
    if (pidfd >= 0) {
        assert_true(base_proc_wait_end(pidfd, 5000, NULL));
    }
    assert_int_equal(base_proc_start_ticks(orphan), 0);
    close(report[0]);
    close(report[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run_success_then_output_and_status),
        cmocka_unit_test(test_run_failure_then_status_and_escaped_last_line),
        cmocka_unit_test(test_run_signal_then_named),
        cmocka_unit_test(test_run_missing_or_not_executable_then_own_codes),
        cmocka_unit_test(test_run_deadline_then_killed_with_its_group),
        cmocka_unit_test(test_run_flood_then_bounded),
        cmocka_unit_test(test_run_grandchild_keeps_pipe_then_does_not_hang),
        cmocka_unit_test(test_run_then_nothing_inherited),
        cmocka_unit_test(test_run_limits_then_enforced),
        cmocka_unit_test(test_run_descriptors_named_crosswise_then_placed),
        cmocka_unit_test(test_spawn_then_pidfd_and_own_session),
        cmocka_unit_test(test_spawn_dies_with_us_then_killed_at_our_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
