#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/dir.h"
#include "driver/journal.h"

typedef struct {
    char path[64];
    int dirfd;
} Folder;

static int set_up(void **state)
{
    Folder *folder = g_new0(Folder, 1);
    strcpy(folder->path, "/tmp/test_journal.XXXXXX");
    assert_non_null(mkdtemp(folder->path));
    folder->dirfd = open(folder->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *state = folder;
    return 0;
}

static int tear_down(void **state)
{
    Folder *folder = *state;
    close(folder->dirfd);
    base_dir_remove_tree(AT_FDCWD, folder->path, NULL);
    g_free(folder);
    return 0;
}

static void test_journal_when_missing_is_none_and_closed(void **state)
{
    Journal journal;
    machine_journal_read(((Folder *)*state)->dirfd, &journal);
    assert_int_equal(journal.op, JOURNAL_NONE);
    assert_false(journal.is_open);
}

static void test_journal_after_intents_tells_what_was_reached(void **state)
{
    int fd = ((Folder *)*state)->dirfd;
    assert_true(machine_journal_begin(fd, JOURNAL_START, NULL));
    assert_true(machine_journal_intent(fd, STEP_DISK, 0, NULL));
    assert_true(machine_journal_intent(fd, STEP_DEFINE, 0, NULL));
    Journal journal;
    machine_journal_read(fd, &journal);
    assert_int_equal(journal.op, JOURNAL_START);
    assert_true(journal.is_open);
    assert_true(journal.has_reached[STEP_DISK]);
    assert_true(journal.has_reached[STEP_DEFINE]);
    assert_false(journal.has_reached[STEP_BOOT]);
    assert_true(machine_journal_is_alive(&journal));
    assert_true(machine_journal_commit(fd, NULL));
    machine_journal_read(fd, &journal);
    assert_false(journal.is_open);
}

static void test_journal_of_a_dead_process_is_not_alive(void **state)
{
    int fd = ((Folder *)*state)->dirfd;
    pid_t pid = fork();
    if (pid == 0) {
        _exit(machine_journal_begin(fd, JOURNAL_START_NEW, NULL) ? 0 : 1);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
    Journal journal;
    machine_journal_read(fd, &journal);
    assert_int_equal(journal.op, JOURNAL_START_NEW);
    assert_true(journal.is_open);
    assert_false(machine_journal_is_alive(&journal));
}

/* A power loss may cut the last line anywhere: what stands before it still counts, and it never
 * counts as a commit. */
static void test_journal_cut_at_each_byte_never_reads_as_done(void **state)
{
    Folder *folder = *state;
    assert_true(machine_journal_begin(folder->dirfd, JOURNAL_DESTROY, NULL));
    assert_true(machine_journal_intent(folder->dirfd, STEP_DISK, 1, NULL));
    g_autofree char *path = g_build_filename(folder->path, "journal", NULL);
    g_autofree char *before = NULL;
    gsize n_before = 0;
    assert_true(g_file_get_contents(path, &before, &n_before, NULL));
    assert_true(machine_journal_commit(folder->dirfd, NULL));
    g_autofree char *whole = NULL;
    gsize n = 0;
    assert_true(g_file_get_contents(path, &whole, &n, NULL));
    for (gsize cut = n_before; cut + 2 < n; cut++) {
        assert_true(g_file_set_contents(path, whole, (gssize)cut, NULL));
        Journal journal;
        machine_journal_read(folder->dirfd, &journal);
        assert_int_equal(journal.op, JOURNAL_DESTROY);
        assert_true(journal.is_open);
        assert_true(journal.has_reached[STEP_DISK]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_journal_when_missing_is_none_and_closed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_journal_after_intents_tells_what_was_reached, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_journal_of_a_dead_process_is_not_alive, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_journal_cut_at_each_byte_never_reads_as_done, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
