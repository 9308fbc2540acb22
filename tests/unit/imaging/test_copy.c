#include "tests/unit/imaging/images.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "base/dir.h"
#include "base/fd.h"
#include "imaging/copy.h"

typedef struct {
    char *path;
    int fd;
} Dir;

static Dir dir_new_in(const char *parent)
{
    Dir dir = {g_build_filename(parent, "vm-copy-XXXXXX", NULL), -1};
    assert_non_null(g_mkdtemp(dir.path));
    dir.fd = open(dir.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dir;
}

static void dir_free(Dir *dir)
{
    close(dir->fd);
    assert_true(base_dir_remove_tree(AT_FDCWD, dir->path, NULL));
    g_free(dir->path);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Dir, dir_free)

static char *in(const Dir *dir, const char *name)
{
    return g_build_filename(dir->path, name, NULL);
}

static bool is_absent(const Dir *dir, const char *name)
{
    g_autoptr(GDir) listing = g_dir_open(dir->path, 0, NULL);
    for (const char *entry = g_dir_read_name(listing); entry; entry = g_dir_read_name(listing)) {
        if (strcmp(entry, name) == 0 || g_str_has_prefix(entry, ".tmp")) {
            return false;
        }
    }
    return true;
}

/* A raw disk of 256 MiB with 3 MiB of data in three places. */
static ImgSource *make_sparse(const Dir *dir)
{
    g_autofree char *path = in(dir, "sparse.raw");
    g_autofree char *data = g_malloc(1 << 20);
    memset(data, 'x', 1 << 20);
    autofd int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    assert_int_equal(ftruncate(fd, 256 << 20), 0);
    assert_int_equal(pwrite(fd, data, 1 << 20, 0), 1 << 20);
    assert_int_equal(pwrite(fd, data, 1 << 20, 100 << 20), 1 << 20);
    assert_int_equal(pwrite(fd, data, 1 << 20, 255 << 20), 1 << 20);
    return img_source_open(path, NULL, -1, NULL);
}

static ImgSource *make_qcow2(const Dir *dir)
{
    g_autofree char *path = in(dir, "image.qcow2");
    g_free(RUN("qemu-img", "create", "-q", "-f", "qcow2", path, "2G"));
    g_free(RUN("qemu-io", "-c", "write -P 9 1G 3M", path));
    return img_source_open(path, NULL, -1, NULL);
}

static void check_same_bytes(const char *a, const char *b)
{
    g_free(RUN("cmp", a, b));
}

static void copy_between(const char *from, const char *to)
{
    g_auto(Dir) dir = dir_new_in(from);
    g_auto(Dir) target = dir_new_in(to);
    g_autoptr(ImgSource) source = make_sparse(&dir);
    g_autoptr(GError) error = NULL;
    g_autofree char *copy = in(&target, "copy.raw");
    struct stat st;
    if (!img_copy_create(source, target.fd, "copy.raw", 0, NULL, NULL, &error)) {
        fail_msg("%s", error->message);
    }
    check_same_bytes(source->path, copy);
    assert_int_equal(stat(copy, &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0600);
    assert_true(st.st_blocks * 512 <= 4 << 20); /* the holes are holes */
}

static void test_raw_image_when_copied_then_same_bytes_and_holes_kept(void **state)
{
    (void)state;
    copy_between("/tmp", "/tmp");
}

static void test_image_when_copied_to_another_file_system_then_the_same(void **state)
{
    struct statfs a, b;
    (void)state;
    assert_int_equal(statfs("/tmp", &a), 0);
    assert_int_equal(statfs("/dev/shm", &b), 0);
    if (memcmp(&a.f_fsid, &b.f_fsid, sizeof(a.f_fsid)) == 0 && a.f_type == b.f_type) {
        print_message("skipped: /tmp and /dev/shm are one file system\n");
        skip();
    }
    copy_between("/tmp", "/dev/shm");
    copy_between("/dev/shm", "/tmp");
}

static void test_copy_when_larger_then_grown_and_clean(void **state)
{
    (void)state;
    g_auto(Dir) dir = dir_new_in("/tmp");
    g_autoptr(ImgSource) raw = make_sparse(&dir);
    g_autoptr(ImgSource) qcow2 = make_qcow2(&dir);
    g_autofree char *raw_copy = in(&dir, "r");
    g_autofree char *qcow2_copy = in(&dir, "q");
    g_autoptr(GError) error = NULL;
    struct stat st;
    assert_true(img_copy_create(raw, dir.fd, "r", UINT64_C(5000000001), NULL, NULL, &error));
    assert_int_equal(stat(raw_copy, &st), 0);
    assert_int_equal(st.st_size, 5000000512);
    if (!img_copy_create(qcow2, dir.fd, "q", UINT64_C(3) << 40, NULL, NULL, &error)) {
        fail_msg("%s", error->message);
    }
    g_free(RUN("qemu-img", "check", "-q", qcow2_copy));
    g_free(RUN("qemu-io", "-c", "read -P 9 1G 3M", "-c", "read -P 0 2T 1M", qcow2_copy));
    g_autoptr(ImgSource) grown = img_source_open(qcow2_copy, NULL, IMG_FORMAT_QCOW2, &error);
    assert_int_equal(grown->header->virtual_bytes, UINT64_C(3) << 40);
    assert_int_equal(qcow2->header->virtual_bytes, UINT64_C(2) << 30);
}

static void test_copy_when_smaller_or_over_the_cap_then_range_error(void **state)
{
    (void)state;
    g_auto(Dir) dir = dir_new_in("/tmp");
    g_autoptr(ImgSource) source = make_sparse(&dir);
    const uint64_t sizes[] = {512, (256 << 20) - 512, IMG_VIRTUAL_BYTES_MAX + 1};
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autoptr(GError) error = NULL;
        assert_false(img_copy_create(source, dir.fd, "c", sizes[i], NULL, NULL, &error));
        assert_int_equal(error->code, VM_ERROR_RANGE);
        assert_true(is_absent(&dir, "c"));
    }
}

typedef struct {
    unsigned n_calls;
    uint64_t last_done, total;
    const char *write_to; /* changes this file at the first call */
    bool is_cancelled;
} Watch;

static bool watch(uint64_t done_bytes, uint64_t total_bytes, void *data)
{
    Watch *it = data;
    assert_true(done_bytes >= it->last_done && done_bytes <= total_bytes);
    it->n_calls++;
    it->last_done = done_bytes;
    it->total = total_bytes;
    if (it->write_to) {
        autofd int fd = open(it->write_to, O_WRONLY | O_CLOEXEC);
        assert_int_equal(pwrite(fd, "y", 1, 50 << 20), 1);
    }
    return !it->is_cancelled;
}

static void test_copy_when_watched_then_progress_reaches_its_total(void **state)
{
    (void)state;
    g_auto(Dir) dir = dir_new_in("/tmp");
    g_autoptr(ImgSource) source = make_sparse(&dir);
    Watch it = {0};
    assert_true(img_copy_create(source, dir.fd, "c", 0, watch, &it, NULL));
    assert_true(it.n_calls >= 1);
    assert_int_equal(it.last_done, 256 << 20);
    assert_int_equal(it.total, 256 << 20);
}

static void test_copy_when_cancelled_then_nothing_is_left(void **state)
{
    (void)state;
    g_auto(Dir) dir = dir_new_in("/tmp");
    g_autoptr(ImgSource) source = make_sparse(&dir);
    g_autoptr(GError) error = NULL;
    Watch it = {.is_cancelled = true};
    assert_false(img_copy_create(source, dir.fd, "c", 0, watch, &it, &error));
    assert_int_equal(error->code, VM_ERROR_CANCELLED);
    assert_int_equal(it.n_calls, 1);
    assert_true(is_absent(&dir, "c"));
}

static void test_copy_when_the_image_is_written_to_meanwhile_then_refused(void **state)
{
    (void)state;
    g_auto(Dir) dir = dir_new_in("/tmp");
    g_autoptr(ImgSource) source = make_sparse(&dir);
    g_autoptr(GError) error = NULL;
    Watch it = {.write_to = source->path};
    assert_false(img_copy_create(source, dir.fd, "c", 0, watch, &it, &error));
    assert_int_equal(error->code, VM_ERROR_IMAGE);
    assert_non_null(strstr(error->message, "written to since it was checked"));
    assert_true(is_absent(&dir, "c"));
}

static void test_target_when_something_is_there_then_exists_and_untouched(void **state)
{
    (void)state;
    g_auto(Dir) dir = dir_new_in("/tmp");
    g_autoptr(ImgSource) source = make_sparse(&dir);
    g_autoptr(GError) error = NULL;
    g_autofree char *victim = in(&dir, "victim");
    assert_true(g_file_set_contents(victim, "mine", 4, NULL));
    assert_int_equal(symlinkat("victim", dir.fd, "c"), 0);
    assert_false(img_copy_create(source, dir.fd, "c", 0, NULL, NULL, &error));
    assert_int_equal(error->code, VM_ERROR_EXISTS);
    g_autofree char *text = NULL;
    assert_true(g_file_get_contents(victim, &text, NULL, NULL));
    assert_string_equal(text, "mine");
}

/* In a child with a mount namespace: a tmpfs of 1 MiB, the image has 3 MiB of data. 0: as it should
 * be. */
static int copy_to_small_tmpfs(const Dir *dir, const ImgSource *source)
{
    if (!enter_mount_namespace() || mkdirat(dir->fd, "small", 0700) != 0) {
        return 77;
    }
    g_autofree char *path = in(dir, "small");
    if (mount("none", path, "tmpfs", 0, "size=1M,mode=0700") != 0) {
        return 77;
    }
    Dir small = {path, open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    g_autoptr(GError) error = NULL;
    struct statfs before, after;
    bool is_made =
        statfs(path, &before) == 0 && img_copy_create(source, small.fd, "c", 0, NULL, NULL, &error);
    bool is_clean = statfs(path, &after) == 0 && before.f_bfree == after.f_bfree &&
                    before.f_ffree == after.f_ffree && is_absent(&small, "c");
    path = NULL;
    return !is_made && error->code == VM_ERROR_NO_SPACE && is_clean ? 0 : 1;
}

static void test_copy_when_the_disk_is_full_then_no_space_and_nothing_left(void **state)
{
    (void)state;
    g_auto(Dir) dir = dir_new_in("/tmp");
    g_autoptr(ImgSource) source = make_sparse(&dir);
    pid_t pid = fork();
    if (pid == 0) {
        _exit(copy_to_small_tmpfs(&dir, source));
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        print_message("skipped: no right to mount\n");
        skip();
    }
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_raw_image_when_copied_then_same_bytes_and_holes_kept),
        cmocka_unit_test(test_image_when_copied_to_another_file_system_then_the_same),
        cmocka_unit_test(test_copy_when_larger_then_grown_and_clean),
        cmocka_unit_test(test_copy_when_smaller_or_over_the_cap_then_range_error),
        cmocka_unit_test(test_copy_when_watched_then_progress_reaches_its_total),
        cmocka_unit_test(test_copy_when_cancelled_then_nothing_is_left),
        cmocka_unit_test(test_copy_when_the_image_is_written_to_meanwhile_then_refused),
        cmocka_unit_test(test_target_when_something_is_there_then_exists_and_untouched),
        cmocka_unit_test(test_copy_when_the_disk_is_full_then_no_space_and_nothing_left),
    };
    return cmocka_run_group_tests_name("imaging/copy", tests, NULL, NULL);
}
