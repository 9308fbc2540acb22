#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/dir.h"
#include "base/error.h"
#include "base/fd.h"
#include "tests/unit/base/mountns.h"

static bool has_mountns; /* found out once, before the tests */

typedef struct {
    char *path;
    int fd;
} Folder;

static int set_up(void **state)
{
    Folder *folder = g_new0(Folder, 1);
    folder->path = g_dir_make_tmp("file-XXXXXX", NULL);
    folder->fd = open(folder->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *state = folder;
    return folder->fd < 0;
}

static int tear_down(void **state)
{
    Folder *folder = *state;
    close(folder->fd);
    bool is_removed = base_dir_remove_tree(AT_FDCWD, folder->path, NULL);
    g_free(folder->path);
    g_free(folder);
    return is_removed ? 0 : 1;
}

static unsigned n_entries(const Folder *folder)
{
    unsigned n = 0;
    g_autoptr(GDir) dir = g_dir_open(folder->path, 0, NULL);
    while (g_dir_read_name(dir)) {
        n++;
    }
    return n;
}

static void assert_code(GError *error, VmError code)
{
    assert_non_null(error);
    if (!g_error_matches(error, VM_ERROR, (int)code)) {
        fail_msg("code %d, expected %d: %s", error->code, (int)code, error->message);
    }
}

static void test_write_new_and_over_old_then_whole_with_mode(void **state)
{
    Folder *folder = *state;
    g_autoptr(GError) error = NULL;
    struct stat st;
    size_t n = 0;
    mode_t old = umask(0077);
    assert_true(base_file_write_atomic(folder->fd, "a", "one", 3, 0644, &error));
    assert_true(base_file_write_whole(folder->fd, "a", "tw\0o", 4, 0640, &error));
    umask(old);
    assert_int_equal(fstatat(folder->fd, "a", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    g_autofree char *text = base_file_read(folder->fd, "a", 100, &n, &error);
    assert_int_equal(n, 4);
    assert_memory_equal(text, "tw\0o", 5);
    assert_int_equal(n_entries(folder), 1);
}

static void test_write_by_path_then_beside_its_target(void **state)
{
    Folder *folder = *state;
    g_autoptr(GError) error = NULL;
    g_autofree char *path = g_strdup_printf("%s/sub", folder->path);
    assert_int_equal(mkdirat(folder->fd, "sub", 0700), 0);
    assert_true(base_file_write_atomic(folder->fd, "sub/x", "1", 1, 0600, &error));
    g_autofree char *absolute = g_strdup_printf("%s/y", path);
    assert_true(base_file_write_atomic(AT_FDCWD, absolute, "2", 1, 0600, &error));
    assert_int_equal(faccessat(folder->fd, "sub/x", F_OK, 0), 0);
    assert_int_equal(faccessat(folder->fd, "sub/y", F_OK, 0), 0);
    g_autofree char *long_name = g_strnfill(255, 'n');
    assert_true(base_file_write_atomic(folder->fd, long_name, "3", 1, 0600, &error));
}

static void test_write_over_symlink_then_target_untouched(void **state)
{
    Folder *folder = *state;
    g_autoptr(GError) error = NULL;
    struct stat st;
    assert_true(base_file_write_whole(folder->fd, "victim", "keep", 4, 0600, &error));
    assert_int_equal(symlinkat("victim", folder->fd, "link"), 0);
    assert_true(base_file_write_whole(folder->fd, "link", "new", 3, 0600, &error));
    assert_int_equal(fstatat(folder->fd, "link", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_true(S_ISREG(st.st_mode));
    g_autofree char *kept = base_file_read(folder->fd, "victim", 100, NULL, &error);
    assert_string_equal(kept, "keep");
}

static void test_write_impossible_then_nothing_left(void **state)
{
    Folder *folder = *state;
    g_autoptr(GError) over_folder = NULL;
    g_autoptr(GError) no_parent = NULL;
    g_autoptr(GError) no_name = NULL;
    g_autoptr(GError) too_long = NULL;
    g_autofree char *long_name = g_strnfill(256, 'n');
    assert_int_equal(mkdirat(folder->fd, "d", 0700), 0);
    assert_false(base_file_write_atomic(folder->fd, "d", "x", 1, 0600, &over_folder));
    assert_false(base_file_write_atomic(folder->fd, "none/x", "x", 1, 0600, &no_parent));
    assert_false(base_file_write_atomic(folder->fd, "d/..", "x", 1, 0600, &no_name));
    assert_false(base_file_write_atomic(folder->fd, long_name, "x", 1, 0600, &too_long));
    assert_code(no_parent, VM_ERROR_NOT_FOUND);
    assert_code(no_name, VM_ERROR_PATH);
    assert_non_null(strstr(over_folder->message, folder->path)); /* names the whole path */
    assert_int_equal(n_entries(folder), 1);
}

static void test_read_not_regular_then_refused_without_hanging(void **state)
{
    Folder *folder = *state;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    autofd int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_snprintf(addr.sun_path, sizeof addr.sun_path, "%s/sock", folder->path);
    assert_int_equal(bind(sock, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(mkfifoat(folder->fd, "fifo", 0600), 0);
    assert_int_equal(mkdirat(folder->fd, "dir", 0700), 0);
    assert_int_equal(symlinkat("/etc/passwd", folder->fd, "link"), 0);
    assert_int_equal(symlinkat("loop", folder->fd, "loop"), 0);
    const char *const names[] = {"fifo", "dir", "link", "loop", "sock", "/dev/null", "/dev/zero"};
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(base_file_read(folder->fd, names[i], 100, NULL, &error));
        assert_code(error, VM_ERROR_PATH);
    }
    g_autoptr(GError) error = NULL;
    assert_false(base_file_append_line(folder->fd, "link", "x", false, &error));
    assert_code(error, VM_ERROR_PATH);
    g_clear_error(&error);
    assert_false(base_file_append_line(folder->fd, "dir", "x", false, &error));
    assert_code(error, VM_ERROR_PATH);
}

static void test_read_user_symlink_then_followed(void **state)
{
    Folder *folder = *state;
    g_autoptr(GError) error = NULL;
    g_autofree char *link = g_strdup_printf("%s/link", folder->path);
    g_autofree char *fifo = g_strdup_printf("%s/fifo", folder->path);
    assert_true(base_file_write_whole(folder->fd, "t", "text", 4, 0600, &error));
    assert_int_equal(symlinkat("t", folder->fd, "link"), 0);
    g_autofree char *text = base_file_read_user(link, 4, NULL, &error);
    assert_string_equal(text, "text");
    assert_int_equal(mkfifoat(folder->fd, "fifo", 0600), 0);
    assert_null(base_file_read_user(fifo, 4, NULL, &error));
    assert_code(error, VM_ERROR_PATH);
}

static void test_read_limit_then_exact_fits_and_larger_refused(void **state)
{
    Folder *folder = *state;
    g_autoptr(GError) error = NULL;
    assert_true(base_file_write_whole(folder->fd, "t", "12345", 5, 0600, &error));
    g_autofree char *fits = base_file_read(folder->fd, "t", 5, NULL, &error);
    assert_string_equal(fits, "12345");
    assert_null(base_file_read(folder->fd, "t", 4, NULL, &error));
    assert_code(error, VM_ERROR_RANGE);
    g_clear_error(&error);
    /* a file that says it is empty and is not */
    assert_null(base_file_read(AT_FDCWD, "/proc/self/status", 10, NULL, &error));
    assert_code(error, VM_ERROR_RANGE);
    g_clear_error(&error);
    assert_null(base_file_read(folder->fd, "none", 4, NULL, &error));
    assert_code(error, VM_ERROR_NOT_FOUND);
}

static void test_append_after_cut_line_then_only_that_one_is_spoilt(void **state)
{
    Folder *folder = *state;
    g_autoptr(GError) error = NULL;
    struct stat st;
    assert_true(base_file_append_line(folder->fd, "log", "one", true, &error));
    autofd int fd = openat(folder->fd, "log", O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_int_equal(write(fd, "tor", 3), 3);
    assert_true(base_file_append_line(folder->fd, "log", "two", false, &error));
    assert_false(base_file_append_line(folder->fd, "log", "a\nb", false, &error));
    assert_code(error, VM_ERROR_INTERNAL);
    g_autofree char *text = base_file_read(folder->fd, "log", 100, NULL, NULL);
    assert_string_equal(text, "one\ntor\ntwo\n");
    assert_int_equal(fstatat(folder->fd, "log", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
}

/* Fills the small file system up to the last byte. */
static void fill_disk(int folder_fd)
{
    char block[4096] = "";
    autofd int fd = openat(folder_fd, "filler", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    while (write(fd, block, sizeof block) > 0) {
    }
}

static void test_write_disk_full_then_no_space_and_old_one_whole(void **state)
{
    Folder *folder = *state;
    if (!has_mountns) {
        print_message("skipped: no mount namespace of our own (said above)\n");
        skip();
    }
    g_autoptr(GError) full = NULL;
    g_autoptr(GError) append = NULL;
    g_autofree char *mounted = g_strdup_printf("%s/small", folder->path);
    g_autofree char *large = g_strnfill(200000, 'x');
    assert_int_equal(mkdir(mounted, 0700), 0);
    assert_int_equal(mount("none", mounted, "tmpfs", 0, "size=64k"), 0);
    int fd = open(mounted, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(base_file_write_atomic(fd, "a", "old", 3, 0600, NULL));
    assert_true(base_file_append_line(fd, "log", "one", true, NULL));
    assert_false(base_file_write_atomic(fd, "a", large, strlen(large), 0600, &full));
    g_autofree char *kept = base_file_read(fd, "a", 100, NULL, NULL);
    fill_disk(fd);
    assert_false(base_file_append_line(fd, "log", large, true, &append));
    assert_int_equal(unlinkat(fd, "filler", 0), 0);
    assert_true(base_file_append_line(fd, "log", "two", true, NULL));
    g_autofree char *log = base_file_read(fd, "log", 65536, NULL, NULL);
    Folder small = {mounted, fd};
    unsigned n_left = n_entries(&small);
    close(fd);
    assert_int_equal(umount(mounted), 0);
    assert_code(full, VM_ERROR_NO_SPACE);
    assert_code(append, VM_ERROR_NO_SPACE);
    assert_string_equal(kept, "old");
    assert_int_equal(n_left, 2); /* a and log: no temporary file */
    assert_true(g_str_has_prefix(log, "one\n"));
    assert_true(g_str_has_suffix(log, "\ntwo\n"));
}

static void test_write_read_only_then_error_and_nothing_changed(void **state)
{
    Folder *folder = *state;
    if (!has_mountns) {
        print_message("skipped: no mount namespace of our own (said above)\n");
        skip();
    }
    g_autoptr(GError) error = NULL;
    g_autofree char *mounted = g_strdup_printf("%s/ro", folder->path);
    assert_int_equal(mkdir(mounted, 0700), 0);
    assert_int_equal(mount("none", mounted, "tmpfs", MS_RDONLY, "size=64k"), 0);
    int fd = open(mounted, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool is_written = base_file_write_atomic(fd, "a", "x", 1, 0600, &error);
    close(fd);
    assert_int_equal(umount(mounted), 0);
    assert_false(is_written);
    assert_code(error, VM_ERROR_HOST);
    assert_true(g_str_has_suffix(error->message, "ro/a': Read-only file system"));
}

int main(void)
{
    has_mountns = test_mountns_enter();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_write_new_and_over_old_then_whole_with_mode, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_write_by_path_then_beside_its_target, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_write_over_symlink_then_target_untouched, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_write_impossible_then_nothing_left, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_read_not_regular_then_refused_without_hanging, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_read_user_symlink_then_followed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_read_limit_then_exact_fits_and_larger_refused, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_append_after_cut_line_then_only_that_one_is_spoilt,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_write_disk_full_then_no_space_and_old_one_whole,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_write_read_only_then_error_and_nothing_changed, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
