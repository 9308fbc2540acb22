#include "tests/unit/imaging/images.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <jansson.h>

#include "base/dir.h"
#include "base/fd.h"
#include "imaging/overlay.h"

typedef struct {
    char *path;
    int fd;
} Dir;

static Dir dir_new(void)
{
    Dir dir = {g_dir_make_tmp("vm-overlay-XXXXXX", NULL), -1};
    dir.fd = open(dir.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(dir.fd >= 0);
    return dir;
}

static void dir_free(Dir *dir)
{
    close(dir->fd);
    assert_true(base_dir_remove_tree(AT_FDCWD, dir->path, NULL));
    g_free(dir->path);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Dir, dir_free)

static unsigned n_entries(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    unsigned n = 0;
    while (g_dir_read_name(dir)) {
        n++;
    }
    return n;
}

/* `qemu-img info` of the file, without what may differ: its name and its size on disk. */
static json_t *info_of(const char *path)
{
    g_autofree char *text = RUN("qemu-img", "info", "--output", "json", path);
    json_t *info = json_loads(text, 0, NULL);
    assert_non_null(info);
    json_object_del(info, "filename");
    json_object_del(info, "actual-size");
    return info;
}

static void check_equals_qemu(const char *ours, const char *theirs)
{
    json_t *a = info_of(ours), *b = info_of(theirs);
    if (!json_equal(a, b)) {
        fail_msg("ours: %s\nqemu-img: %s", json_dumps(a, JSON_INDENT(1)),
                 json_dumps(b, JSON_INDENT(1)));
    }
    json_decref(a);
    json_decref(b);
    g_free(RUN("qemu-img", "check", "-q", ours));
}

static void check_size(const char *base_size, const char *format, const char *size)
{
    g_auto(Dir) dir = dir_new();
    g_autofree char *base = g_build_filename(dir.path, "base", NULL);
    g_autofree char *ours = g_build_filename(dir.path, "ours.qcow2", NULL);
    g_autofree char *theirs = g_build_filename(dir.path, "theirs.qcow2", NULL);
    g_free(RUN("qemu-img", "create", "-q", "-f", format, base, base_size));
    g_free(RUN("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", format, theirs, size));
    autofd int fd = open(base, O_RDONLY | O_CLOEXEC);
    g_autoptr(GError) error = NULL;
    g_autoptr(ImgHeader) header = img_header_read(fd, -1, &error);
    assert_null(error);
    ImgOverlay overlay = {base, header->format, header->virtual_bytes,
                          size ? g_ascii_strtoull(size, NULL, 10) : 0};
    uint64_t bytes = 0;
    assert_true(img_overlay_create(dir.fd, "ours.qcow2", &overlay, &bytes, &error));
    check_equals_qemu(ours, theirs);
    assert_int_equal(bytes % 512, 0);
}

static void test_overlay_when_made_then_equal_to_that_of_qemu_img(void **state)
{
    (void)state;
    check_size("1M", "qcow2", NULL);
    check_size("20G", "qcow2", NULL);
    check_size("2T", "qcow2", NULL);
    check_size("16T", "qcow2", NULL);
    check_size("1536", "qcow2", NULL);
    check_size("536870912", "raw", NULL); /* exactly one L1 entry */
    check_size("536871424", "raw", NULL); /* one sector more */
    check_size("512", "raw", "5368709120");
    check_size("3G", "qcow2", "10737418241"); /* rounded up to sectors */
    check_size("1G", "qcow2", "17592186044416");
}

static void test_overlay_when_written_by_qemu_then_clean_and_read_through(void **state)
{
    (void)state;
    g_auto(Dir) dir = dir_new();
    g_autofree char *base = g_build_filename(dir.path, "base.qcow2", NULL);
    g_autofree char *ours = g_build_filename(dir.path, "ours.qcow2", NULL);
    g_free(RUN("qemu-img", "create", "-q", "-f", "qcow2", base, "20G"));
    g_free(RUN("qemu-io", "-c", "write -P 17 1M 64k", base));
    ImgOverlay overlay = {base, IMG_FORMAT_QCOW2, UINT64_C(20) << 30, UINT64_C(2) << 40};
    assert_true(img_overlay_create(dir.fd, "ours.qcow2", &overlay, NULL, NULL));
    g_free(RUN("qemu-io", "-c", "read -P 17 1M 64k", "-c", "write -P 5 30G 1M", "-c",
               "write -P 6 2047G 1M", "-c", "read -P 5 30G 1M", "-c", "read -P 0 21G 4k", ours));
    g_free(RUN("qemu-img", "check", "-q", ours));
    g_free(RUN("qemu-img", "snapshot", "-c", "s", ours));
    g_free(RUN("qemu-img", "resize", "-q", ours, "3T"));
    g_free(RUN("qemu-img", "check", "-q", ours));
}

static void test_blank_disk_when_made_then_equal_to_that_of_qemu_img(void **state)
{
    static const char *const sizes[] = {"512", "1048576", "21474836480", "17592186044416"};
    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_auto(Dir) dir = dir_new();
        g_autofree char *ours = g_build_filename(dir.path, "ours.qcow2", NULL);
        g_autofree char *theirs = g_build_filename(dir.path, "theirs.qcow2", NULL);
        g_free(RUN("qemu-img", "create", "-q", "-f", "qcow2", theirs, sizes[i]));
        ImgOverlay blank = {.virtual_bytes = g_ascii_strtoull(sizes[i], NULL, 10)};
        assert_true(img_overlay_create(dir.fd, "ours.qcow2", &blank, NULL, NULL));
        check_equals_qemu(ours, theirs);
    }
}

/* A path of n bytes below the folder, with what has to be made for it. */
static char *long_path(const char *dir, size_t n)
{
    GString *path = g_string_new(dir);
    while (path->len + 201 < n) {
        g_string_append_c(path, '/');
        for (int i = 0; i < 99; i++) {
            g_string_append_c(path, 'd');
        }
    }
    assert_int_equal(g_mkdir_with_parents(path->str, 0700), 0);
    g_string_append_c(path, '/');
    while (path->len < n) {
        g_string_append_c(path, 'f');
    }
    return g_string_free(path, FALSE);
}

static void test_backing_path_when_up_to_1023_bytes_then_recorded_else_refused(void **state)
{
    static const size_t lengths[] = {255, 512, 1000, 1022, 1023, 1024, 3000};
    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(lengths); i++) {
        g_auto(Dir) dir = dir_new();
        g_autofree char *base = long_path(dir.path, lengths[i]);
        g_autofree char *ours = g_build_filename(dir.path, "ours.qcow2", NULL);
        g_autofree char *theirs = g_build_filename(dir.path, "theirs.qcow2", NULL);
        ImgOverlay overlay = {base, IMG_FORMAT_RAW, 1 << 20, 0};
        g_autoptr(GError) error = NULL;
        bool is_made = img_overlay_create(dir.fd, "ours.qcow2", &overlay, NULL, &error);
        assert_int_equal(is_made, lengths[i] <= 1023);
        if (!is_made) {
            assert_int_equal(error->code, VM_ERROR_PATH);
            assert_int_equal(access(ours, F_OK), -1);
            continue;
        }
        g_free(RUN("qemu-img", "create", "-q", "-f", "raw", base, "1M"));
        g_free(RUN("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", theirs));
        check_equals_qemu(ours, theirs);
    }
}

static void test_overlay_when_smaller_than_base_or_over_the_cap_then_range_error(void **state)
{
    static const ImgOverlay cases[] = {
        {"/b", IMG_FORMAT_RAW, 1 << 20, 512},
        {"/b", IMG_FORMAT_RAW, 1 << 20, (1 << 20) - 1},
        {"/b", IMG_FORMAT_RAW, 0, 0},
        {"/b", IMG_FORMAT_RAW, 512, IMG_VIRTUAL_BYTES_MAX + 1},
        {"/b", IMG_FORMAT_RAW, 512, UINT64_MAX},
        {NULL, IMG_FORMAT_RAW, 0, 0},
    };
    (void)state;
    g_auto(Dir) dir = dir_new();
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        assert_false(img_overlay_create(dir.fd, "o", &cases[i], NULL, &error));
        assert_int_equal(error->code, VM_ERROR_RANGE);
    }
    ImgOverlay relative = {"base", IMG_FORMAT_RAW, 512, 0};
    g_autoptr(GError) error = NULL;
    assert_false(img_overlay_create(dir.fd, "o", &relative, NULL, &error));
    assert_int_equal(error->code, VM_ERROR_PATH);
    assert_int_equal(n_entries(dir.path), 0);
}

static const ImgOverlay some = {"/base.raw", IMG_FORMAT_RAW, 1 << 20, 0};

static void test_overlay_when_made_then_mode_0600_whatever_the_umask(void **state)
{
    static const mode_t masks[] = {0, 022, 077, 0777};
    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(masks); i++) {
        g_auto(Dir) dir = dir_new();
        mode_t before = umask(masks[i]);
        bool is_made = img_overlay_create(dir.fd, "o", &some, NULL, NULL);
        umask(before);
        struct stat st;
        assert_true(is_made);
        assert_int_equal(fstatat(dir.fd, "o", &st, AT_SYMLINK_NOFOLLOW), 0);
        assert_int_equal(st.st_mode, S_IFREG | 0600);
    }
}

static void plant(const Dir *dir, const char *kind)
{
    if (strcmp(kind, "dangling") == 0) {
        assert_int_equal(symlinkat("nowhere", dir->fd, kind), 0);
    } else if (strcmp(kind, "symlink") == 0) {
        assert_int_equal(symlinkat("regular", dir->fd, kind), 0);
    } else if (strcmp(kind, "folder") == 0) {
        assert_int_equal(mkdirat(dir->fd, kind, 0700), 0);
    } else if (strcmp(kind, "fifo") == 0) {
        assert_int_equal(mkfifoat(dir->fd, kind, 0600), 0);
    } else {
        autofd int fd = openat(dir->fd, kind, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
        assert_int_equal(write(fd, "mine", 4), 4);
    }
}

static void test_target_when_something_is_there_then_exists_and_it_is_untouched(void **state)
{
    static const char *const kinds[] = {"regular", "symlink", "dangling", "folder", "fifo"};
    (void)state;
    g_auto(Dir) dir = dir_new();
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        plant(&dir, kinds[i]);
        struct stat before, after;
        assert_int_equal(fstatat(dir.fd, kinds[i], &before, AT_SYMLINK_NOFOLLOW), 0);
        g_autoptr(GError) error = NULL;
        assert_false(img_overlay_create(dir.fd, kinds[i], &some, NULL, &error));
        assert_int_equal(error->code, VM_ERROR_EXISTS);
        assert_int_equal(fstatat(dir.fd, kinds[i], &after, AT_SYMLINK_NOFOLLOW), 0);
        assert_int_equal(before.st_ino, after.st_ino);
        assert_int_equal(before.st_size, after.st_size);
        assert_int_equal(before.st_mode, after.st_mode);
    }
    assert_int_equal(n_entries(dir.path), G_N_ELEMENTS(kinds)); /* no temporary file either */
}

static void test_overlay_when_the_disk_is_full_then_absent_and_no_space(void **state)
{
    (void)state;
    g_auto(Dir) dir = dir_new();
    struct rlimit before, small = {4096, 4096};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small.rlim_max = before.rlim_max;
    void (*old)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    g_autoptr(GError) error = NULL;
    bool is_made = img_overlay_create(dir.fd, "o", &some, NULL, &error);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, old);
    assert_false(is_made);
    assert_int_equal(error->code, VM_ERROR_NO_SPACE); /* EFBIG; the real thing: test_copy */
    assert_int_equal(n_entries(dir.path), 0);
}

/* As a file system without O_TMPFILE answers: in a child, since the filter stays. */
static int make_without_tmpfile(const Dir *dir)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_TMPFILE & ~O_DIRECTORY, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOPNOTSUPP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {G_N_ELEMENTS(rules), rules};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        return 1;
    }
    g_autoptr(GError) error = NULL;
    bool is_refused = !img_overlay_create(dir->fd, "taken", &some, NULL, &error) &&
                      error->code == VM_ERROR_EXISTS;
    return is_refused && img_overlay_create(dir->fd, "o.qcow2", &some, NULL, NULL) ? 0 : 2;
}

static void test_overlay_when_the_file_system_has_no_tmpfile_then_made_by_rename(void **state)
{
    (void)state;
    g_auto(Dir) dir = dir_new();
    plant(&dir, "taken");
    pid_t pid = fork();
    if (pid == 0) {
        _exit(make_without_tmpfile(&dir));
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(n_entries(dir.path), 2);
    struct stat st;
    assert_int_equal(fstatat(dir.fd, "o.qcow2", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0600);
    assert_int_equal(st.st_size, 4 << 16);
}

static void test_name_when_a_path_or_empty_then_error_and_nothing_made(void **state)
{
    static const char *const names[] = {"", "no/such", "..", "."};
    (void)state;
    g_auto(Dir) dir = dir_new();
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autoptr(GError) error = NULL;
        assert_false(img_overlay_create(dir.fd, names[i], &some, NULL, &error));
        assert_non_null(error);
    }
    assert_int_equal(n_entries(dir.path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_overlay_when_made_then_equal_to_that_of_qemu_img),
        cmocka_unit_test(test_overlay_when_written_by_qemu_then_clean_and_read_through),
        cmocka_unit_test(test_blank_disk_when_made_then_equal_to_that_of_qemu_img),
        cmocka_unit_test(test_backing_path_when_up_to_1023_bytes_then_recorded_else_refused),
        cmocka_unit_test(test_overlay_when_smaller_than_base_or_over_the_cap_then_range_error),
        cmocka_unit_test(test_overlay_when_made_then_mode_0600_whatever_the_umask),
        cmocka_unit_test(test_target_when_something_is_there_then_exists_and_it_is_untouched),
        cmocka_unit_test(test_overlay_when_the_disk_is_full_then_absent_and_no_space),
        cmocka_unit_test(test_overlay_when_the_file_system_has_no_tmpfile_then_made_by_rename),
        cmocka_unit_test(test_name_when_a_path_or_empty_then_error_and_nothing_made),
    };
    return cmocka_run_group_tests_name("imaging/overlay", tests, NULL, NULL);
}
