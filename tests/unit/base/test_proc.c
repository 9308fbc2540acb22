#include "base/proc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/error.h"
#include "base/fd.h"

/* A child that sleeps under that name until it is killed. */
static pid_t start_sleeper(const char *name)
{
    int ready[2];
    char byte;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_NAME, name);
        if (write(ready[1], "r", 1) == 1) {
            pause();
        }
        _exit(0);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return pid;
}

static void test_start_ticks_living_then_steady_whatever_the_name(void **state)
{
    (void)state;
    uint64_t own = base_proc_start_ticks(getpid());
    pid_t pid = start_sleeper("a) Z (b 1 2 3");
    uint64_t ticks = base_proc_start_ticks(pid);
    assert_true(own > 0);
    assert_true(ticks >= own && ticks < own + 100000);
    assert_int_equal(base_proc_start_ticks(pid), ticks);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void test_start_ticks_gone_or_zombie_then_zero(void **state)
{
    (void)state;
    pid_t pid = start_sleeper("z");
    autofd int pidfd = base_proc_open(pid, base_proc_start_ticks(pid));
    assert_true(pidfd >= 0);
    kill(pid, SIGKILL);
    assert_true(base_proc_wait_end(pidfd, 10000, NULL));
    assert_int_equal(base_proc_start_ticks(pid), 0); /* a zombie */
    waitpid(pid, NULL, 0);
    assert_int_equal(base_proc_start_ticks(pid), 0);
    assert_int_equal(base_proc_start_ticks(0), 0);
    assert_int_equal(base_proc_start_ticks(-1), 0);
}

static void test_open_other_start_time_then_esrch(void **state)
{
    (void)state;
    pid_t pid = start_sleeper("s");
    uint64_t ticks = base_proc_start_ticks(pid);
    assert_int_equal(base_proc_open(pid, ticks + 1), -1);
    assert_int_equal(errno, ESRCH);
    assert_int_equal(base_proc_open(pid, 0), -1);
    assert_int_equal(errno, ESRCH);
    assert_int_equal(base_proc_open(-1, ticks), -1);
    assert_int_equal(errno, ESRCH);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_int_equal(base_proc_open(pid, ticks), -1);
    assert_int_equal(errno, ESRCH);
}

static void test_wait_end_living_then_timeout(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    g_autoptr(GError) bad = NULL;
    autofd int pidfd = base_proc_open(getpid(), base_proc_start_ticks(getpid()));
    gint64 start = g_get_monotonic_time();
    assert_false(base_proc_wait_end(pidfd, 30, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_TIMEOUT));
    assert_true(g_get_monotonic_time() - start >= 30000);
    g_clear_error(&error);
    assert_false(base_proc_wait_end(pidfd, 0, &error));
    assert_false(base_proc_wait_end(1000, 30, &bad)); /* no descriptor: not a spin, not a success */
    assert_non_null(bad);
}

static void test_boot_id_then_a_uuid(void **state)
{
    (void)state;
    assert_true(g_uuid_string_is_valid(base_proc_boot_id()));
    assert_ptr_equal(base_proc_boot_id(), base_proc_boot_id());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_start_ticks_living_then_steady_whatever_the_name),
        cmocka_unit_test(test_start_ticks_gone_or_zombie_then_zero),
        cmocka_unit_test(test_open_other_start_time_then_esrch),
        cmocka_unit_test(test_wait_end_living_then_timeout),
        cmocka_unit_test(test_boot_id_then_a_uuid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
