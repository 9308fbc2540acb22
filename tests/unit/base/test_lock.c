#include "base/lock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/dir.h"
#include "base/error.h"
#include "base/file.h"

static int set_up(void **state)
{
    *state = g_dir_make_tmp("lock-XXXXXX", NULL);
    return *state && !chdir(*state) ? 0 : 1;
}

static int tear_down(void **state)
{
    bool is_removed = !chdir("/") && base_dir_remove_tree(AT_FDCWD, *state, NULL);
    g_free(*state);
    return is_removed ? 0 : 1;
}

/* A child that holds the lock until it is killed or, told by a byte on *out_stop_fd, unlinks it. */
static pid_t start_holder(int *out_stop_fd)
{
    int ready[2], stop[2];
    char byte = 0;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    assert_int_equal(pipe2(stop, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(stop[1]);
        BaseLock *lock = base_lock_take(AT_FDCWD, "l", 0, NULL);
        if (!lock || write(ready[1], "r", 1) != 1 || read(stop[0], &byte, 1) != 1) {
            _exit(1);
        }
        base_lock_free_and_unlink(lock);
        _exit(0);
    }
    close(ready[1]);
    close(stop[0]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    *out_stop_fd = stop[1];
    return pid;
}

static void test_take_free_lock_then_held_and_given_back(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    for (int i = 0; i < 3; i++) {
        g_autoptr(BaseLock) lock = base_lock_take(AT_FDCWD, "l", 0, &error);
        assert_non_null(lock);
        assert_null(base_lock_take(AT_FDCWD, "l", 0, NULL));
    }
    g_autofree char *text = base_file_read(AT_FDCWD, "l", 1000, NULL, NULL);
    g_autofree char *pid = g_strdup_printf("%d ", (int)getpid());
    assert_true(g_str_has_prefix(text, pid));
    base_lock_free(NULL);
    base_lock_free_and_unlink(NULL);
}

static void test_take_held_by_other_then_busy_and_names_it(void **state)
{
    (void)state;
    g_autoptr(GError) at_once = NULL;
    g_autoptr(GError) later = NULL;
    int stop_fd = -1;
    pid_t holder = start_holder(&stop_fd);
    assert_null(base_lock_take(AT_FDCWD, "l", 0, &at_once));
    gint64 start = g_get_monotonic_time();
    assert_null(base_lock_take(AT_FDCWD, "l", 60, &later));
    gint64 waited_us = g_get_monotonic_time() - start;
    g_autofree char *expected =
        g_strdup_printf("'l' is held by pid %d (test-base-lock) since ", (int)holder);
    assert_true(g_error_matches(at_once, VM_ERROR, VM_ERROR_BUSY));
    assert_true(g_error_matches(later, VM_ERROR, VM_ERROR_BUSY));
    assert_true(g_str_has_prefix(later->message, expected));
    assert_true(waited_us >= 60000 && waited_us < 5000000);
    kill(holder, SIGKILL);
    waitpid(holder, NULL, 0);
    close(stop_fd);
}

static void test_take_after_holder_killed_then_held_at_once(void **state)
{
    (void)state;
    int stop_fd = -1;
    pid_t holder = start_holder(&stop_fd);
    kill(holder, SIGKILL);
    assert_int_equal(waitpid(holder, NULL, 0), holder);
    g_autoptr(GError) error = NULL;
    g_autoptr(BaseLock) lock = base_lock_take(AT_FDCWD, "l", 0, &error);
    assert_non_null(lock);
    close(stop_fd);
}

static void test_take_waits_then_gets_the_new_file_after_unlink(void **state)
{
    (void)state;
    int stop_fd = -1;
    struct stat before, after;
    pid_t holder = start_holder(&stop_fd);
    assert_int_equal(stat("l", &before), 0);
    assert_int_equal(write(stop_fd, "s", 1), 1);
    g_autoptr(GError) error = NULL;
    g_autoptr(BaseLock) lock = base_lock_take(AT_FDCWD, "l", -1, &error);
    assert_non_null(lock);
    assert_int_equal(waitpid(holder, NULL, 0), holder);
    assert_int_equal(stat("l", &after), 0); /* a lock on a file without a name excludes nobody */
    assert_null(base_lock_take(AT_FDCWD, "l", 0, NULL));
    close(stop_fd);
}

static void test_free_and_unlink_of_replaced_file_then_other_one_stays(void **state)
{
    (void)state;
    BaseLock *lock = base_lock_take(AT_FDCWD, "l", 0, NULL);
    assert_int_equal(unlink("l"), 0);
    g_autoptr(BaseLock) second = base_lock_take(AT_FDCWD, "l", 0, NULL);
    assert_non_null(second);
    base_lock_free_and_unlink(lock);
    assert_int_equal(access("l", F_OK), 0);
}

static void test_take_not_regular_then_path_error(void **state)
{
    (void)state;
    assert_int_equal(mkfifo("fifo", 0600), 0);
    assert_int_equal(mkdir("dir", 0700), 0);
    assert_int_equal(symlink("target", "link"), 0);
    const char *const names[] = {"fifo", "dir", "link", "/dev/null", "dir/.."};
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(base_lock_take(AT_FDCWD, names[i], -1, &error));
        assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_PATH));
    }
    assert_int_not_equal(access("target", F_OK), 0);
}

static void test_busy_with_hostile_or_no_holder_text_then_one_clean_line(void **state)
{
    (void)state;
    const char *const texts[] = {"", "garbage", "1 2", "99999999999999999999 1 x",
                                 "12 3 a\x1b[31m\nb"};
    g_autoptr(BaseLock) lock = base_lock_take(AT_FDCWD, "l", 0, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;
        int fd = open("l", O_WRONLY | O_TRUNC | O_CLOEXEC);
        assert_int_equal(write(fd, texts[i], strlen(texts[i])), strlen(texts[i]));
        close(fd);
        assert_null(base_lock_take(AT_FDCWD, "l", 0, &error));
        assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_BUSY));
        for (const char *c = error->message; *c; c++) {
            assert_true(*c >= ' ' && *c < 0x7f);
        }
    }
}

enum { N_WORKERS = 6, N_ROUNDS = 150 };

static void work(atomic_int *n_inside, atomic_int *n_clashes, atomic_int *n_done)
{
    for (int i = 0; i < N_ROUNDS; i++) {
        BaseLock *lock = base_lock_take(AT_FDCWD, "l", -1, NULL);
        if (!lock || atomic_fetch_add(n_inside, 1) != 0) {
            atomic_fetch_add(n_clashes, 1);
        }
        atomic_fetch_add(n_done, 1);
        atomic_fetch_sub(n_inside, 1);
        (i % 3 ? base_lock_free : base_lock_free_and_unlink)(lock);
    }
}

static void test_many_processes_lock_and_unlink_then_never_two_inside(void **state)
{
    (void)state;
    atomic_int *shared =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pids[N_WORKERS];
    for (int i = 0; i < N_WORKERS; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            work(&shared[0], &shared[1], &shared[2]);
            _exit(0);
        }
    }
    for (int i = 0; i < N_WORKERS; i++) {
        int status = 1;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    assert_int_equal(atomic_load(&shared[1]), 0);
    assert_int_equal(atomic_load(&shared[2]), N_WORKERS * N_ROUNDS);
    munmap(shared, 4096);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_take_free_lock_then_held_and_given_back),
        IN_FOLDER(test_take_held_by_other_then_busy_and_names_it),
        IN_FOLDER(test_take_after_holder_killed_then_held_at_once),
        IN_FOLDER(test_take_waits_then_gets_the_new_file_after_unlink),
        IN_FOLDER(test_free_and_unlink_of_replaced_file_then_other_one_stays),
        IN_FOLDER(test_take_not_regular_then_path_error),
        IN_FOLDER(test_busy_with_hostile_or_no_holder_text_then_one_clean_line),
        IN_FOLDER(test_many_processes_lock_and_unlink_then_never_two_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
