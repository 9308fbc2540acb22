#include "base/dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/error.h"
#include "base/fd.h"
#include "base/file.h"
#include "tests/unit/base/mountns.h"

static bool has_mountns; /* found out once, before the tests */

static int set_up(void **state)
{
    *state = g_dir_make_tmp("dir-XXXXXX", NULL);
    return *state && !chdir(*state) ? 0 : 1;
}

static int tear_down(void **state)
{
    bool is_removed = !chdir("/") && base_dir_remove_tree(AT_FDCWD, *state, NULL);
    g_free(*state);
    return is_removed ? 0 : 1;
}

static bool is_there(const char *path)
{
    struct stat st;
    return !lstat(path, &st);
}

static void put(const char *path)
{
    assert_true(base_file_write_whole(AT_FDCWD, path, "x", 1, 0600, NULL));
}

static void assert_made(const char *path, mode_t mode)
{
    g_autoptr(GError) error = NULL;
    struct stat st, named;
    autofd int fd = base_dir_open_make(path, mode, &error);
    if (fd < 0) {
        fail_msg("%s", error->message);
    }
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(stat(path, &named), 0);
    assert_int_equal(st.st_ino, named.st_ino);
    assert_int_equal(fsync(fd), 0); /* a real descriptor, not O_PATH */
}

static void assert_not_made(const char *path, VmError code)
{
    g_autoptr(GError) error = NULL;
    assert_int_equal(base_dir_open_make(path, 0700, &error), -1);
    if (!g_error_matches(error, VM_ERROR, (int)code)) {
        fail_msg("code %d, expected %d: %s", error->code, (int)code, error->message);
    }
}

static void test_make_missing_components_then_mode_whatever_the_umask(void **state)
{
    g_autofree char *path = g_strdup_printf("%s/abs//b/./c/", (const char *)*state);
    struct stat st;
    mode_t old = umask(0777);
    assert_made("a/b/c", 0750);
    assert_made(path, 0700);
    umask(old);
    assert_int_equal(stat("a/b", &st), 0);
    assert_int_equal(st.st_mode & 07777, 0750);
    assert_made("a/b/c", 0700); /* an existing one keeps its mode */
    assert_int_equal(stat("a/b/c", &st), 0);
    assert_int_equal(st.st_mode & 07777, 0750);
    assert_made("a/b/../d", 0700);
    assert_true(is_there("a/d"));
    assert_made("/", 0700);
}

static void test_make_through_our_symlinks_then_followed(void **state)
{
    g_autofree char *absolute = g_strdup_printf("%s/real", (const char *)*state);
    assert_int_equal(mkdir("real", 0700), 0);
    assert_int_equal(symlink("real", "relative"), 0);
    assert_int_equal(symlink(absolute, "absolute"), 0);
    assert_int_equal(symlink("relative/../absolute", "chain"), 0);
    assert_made("relative/x", 0700);
    assert_made("absolute/y", 0700);
    assert_made("chain/z", 0700);
    assert_made("chain", 0700);
    assert_true(is_there("real/x") && is_there("real/y") && is_there("real/z"));
}

static void test_make_through_foreign_symlink_then_refused(void **state)
{
    (void)state;
    assert_int_equal(mkdir("real", 0700), 0);
    assert_int_equal(symlink("real", "evil"), 0);
    if (lchown("evil", 65534, 65534)) {
        print_message("skipped: only root can make another user's symlink\n");
        skip();
    }
    assert_int_equal(symlink("evil", "ours"), 0);
    assert_not_made("evil/x", VM_ERROR_PATH);
    assert_not_made("evil", VM_ERROR_PATH);
    assert_not_made("ours/x", VM_ERROR_PATH); /* also behind one of ours */
    assert_false(is_there("real/x"));
}

static void test_make_impossible_then_error(void **state)
{
    (void)state;
    put("file");
    assert_int_equal(symlink("loop", "loop"), 0);
    assert_int_equal(symlink("gone/target", "dangling"), 0);
    assert_not_made("file/x", VM_ERROR_NOT_FOUND); /* ENOTDIR */
    assert_not_made("file", VM_ERROR_NOT_FOUND);
    assert_not_made("loop/x", VM_ERROR_HOST);
    assert_not_made("", VM_ERROR_NOT_FOUND);
    assert_not_made("/proc/x", VM_ERROR_NOT_FOUND);
    assert_made("dangling/x", 0700); /* as mkdir -p does with what a link of ours names */
    assert_true(is_there("gone/target/x"));
}

static void test_remove_tree_with_everything_then_gone(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    assert_made("t/a/b", 0700);
    put("t/f");
    put("t/a/.hidden");
    assert_int_equal(mkfifo("t/a/fifo", 0600), 0);
    assert_int_equal(symlink("nowhere", "t/a/b/dangling"), 0);
    assert_int_equal(chmod("t/f", 0), 0);
    assert_true(base_dir_remove_tree(AT_FDCWD, "t", &error));
    assert_false(is_there("t"));
    assert_true(base_dir_remove_tree(AT_FDCWD, "t", &error)); /* absent: success */
    assert_true(base_dir_remove_tree(AT_FDCWD, "no/such/thing", &error));
}

static void test_remove_tree_symlinks_then_never_followed(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    assert_made("outside", 0700);
    put("outside/keep");
    assert_made("t", 0700);
    assert_int_equal(symlink("../outside", "t/link"), 0);
    assert_int_equal(symlink("outside", "direct"), 0);
    assert_true(base_dir_remove_tree(AT_FDCWD, "t", &error));
    assert_true(base_dir_remove_tree(AT_FDCWD, "direct", &error)); /* the link itself */
    assert_false(is_there("t"));
    assert_false(is_there("direct"));
    assert_true(is_there("outside/keep"));
}

static void test_remove_tree_names_without_last_component_then_refused(void **state)
{
    (void)state;
    const char *const names[] = {"", ".", "..", "/", "t/", "t/..", "t/."};
    assert_made("t/x", 0700);
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autoptr(GError) error = NULL;
        assert_false(base_dir_remove_tree(AT_FDCWD, names[i], &error));
        assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_PATH));
    }
    assert_true(is_there("t/x"));
}

static void test_remove_tree_deep_then_gone(void **state)
{
    (void)state;
    g_autoptr(GString) path = g_string_new("t");
    for (int i = 0; i < 500; i++) {
        g_string_append(path, "/d");
    }
    assert_made(path->str, 0700);
    g_autoptr(GError) error = NULL;
    assert_true(base_dir_remove_tree(AT_FDCWD, "t", &error));
    assert_false(is_there("t"));
}

static void test_remove_tree_mounts_then_left_and_named(void **state)
{
    (void)state;
    if (!has_mountns) {
        print_message("skipped: no mount namespace of our own (said above)\n");
        skip();
    }
    g_autoptr(GError) error = NULL;
    assert_made("t/tmpfs", 0700);
    assert_made("t/bind", 0700);
    assert_made("t/z", 0700);
    assert_made("outside", 0700);
    put("outside/keep");
    put("t/file");
    put("t/bound-file");
    assert_int_equal(mount("none", "t/tmpfs", "tmpfs", 0, "size=64k"), 0);
    assert_int_equal(mount("outside", "t/bind", NULL, MS_BIND, NULL), 0); /* the same file system */
    assert_int_equal(mount("outside/keep", "t/bound-file", NULL, MS_BIND, NULL), 0);
    put("t/tmpfs/keep");
    bool is_removed = base_dir_remove_tree(AT_FDCWD, "t", &error);
    bool is_kept = is_there("t/tmpfs/keep") && is_there("outside/keep");
    bool is_rest_gone = !is_there("t/file") && !is_there("t/z");
    assert_int_equal(umount("t/tmpfs") | umount("t/bind") | umount("t/bound-file"), 0);
    assert_false(is_removed);
    assert_true(is_kept);
    assert_true(is_rest_gone);
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_LEFTOVER));
    assert_non_null(strstr(error->message, "/t/"));
    g_clear_error(&error);
    assert_true(base_dir_remove_tree(AT_FDCWD, "t", &error));
}

static void test_remove_tree_read_only_then_leftover(void **state)
{
    (void)state;
    if (!has_mountns) {
        print_message("skipped: no mount namespace of our own (said above)\n");
        skip();
    }
    g_autoptr(GError) error = NULL;
    assert_made("m", 0700);
    assert_int_equal(mount("none", "m", "tmpfs", 0, "size=64k"), 0);
    assert_made("m/t/a", 0700);
    put("m/t/a/f");
    assert_int_equal(mount("none", "m", NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
    bool is_removed = base_dir_remove_tree(AT_FDCWD, "m/t", &error);
    assert_int_equal(umount("m"), 0);
    assert_false(is_removed);
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_LEFTOVER));
    assert_true(g_str_has_suffix(error->message, "m/t': Read-only file system"));
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    has_mountns = test_mountns_enter();
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_make_missing_components_then_mode_whatever_the_umask),
        IN_FOLDER(test_make_through_our_symlinks_then_followed),
        IN_FOLDER(test_make_through_foreign_symlink_then_refused),
        IN_FOLDER(test_make_impossible_then_error),
        IN_FOLDER(test_remove_tree_with_everything_then_gone),
        IN_FOLDER(test_remove_tree_symlinks_then_never_followed),
        IN_FOLDER(test_remove_tree_names_without_last_component_then_refused),
        IN_FOLDER(test_remove_tree_deep_then_gone),
        IN_FOLDER(test_remove_tree_mounts_then_left_and_named),
        IN_FOLDER(test_remove_tree_read_only_then_leftover),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
