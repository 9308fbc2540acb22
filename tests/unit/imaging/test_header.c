#include "tests/unit/imaging/images.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <jansson.h>

#include "base/fd.h"

static char *refusal(int fd, int *out_code)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ImgHeader) header = img_header_read(fd, -1, &error);
    if (header && img_header_vet(header, &error)) {
        return NULL;
    }
    *out_code = error->domain == VM_ERROR ? error->code : -1;
    return g_strdup(error->message);
}

static void test_hostile_image_when_vetted_then_refused_with_its_reason(void **state)
{
    (void)state;
    assert_true(G_N_ELEMENTS(hostiles) >= 40);
    for (size_t i = 0; i < G_N_ELEMENTS(hostiles); i++) {
        Image image = image_new_hostile(&hostiles[i]);
        autofd int fd = image_open(&image);
        if (strcmp(hostiles[i].name, "cut-0") == 0) {
            assert_int_equal(ftruncate(fd, 0), 0);
        }
        int code = 0;
        g_autofree char *message = refusal(fd, &code);
        if (!message || code != VM_ERROR_IMAGE || !strstr(message, hostiles[i].what) ||
            !strstr(message, " - ")) {
            fail_msg("%s: '%s' (code %d), expected '%s'", hostiles[i].name, message, code,
                     hostiles[i].what);
        }
        g_free(image.bytes);
    }
}

static void test_hostile_image_when_vetted_then_it_takes_under_1_ms(void **state)
{
    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(hostiles); i++) {
        Image image = image_new_hostile(&hostiles[i]);
        autofd int fd = image_open(&image);
        gint64 best_us = G_MAXINT64;
        for (int run = 0; run < 7; run++) {
            int code = 0;
            gint64 before_us = g_get_monotonic_time();
            g_autofree char *message = refusal(fd, &code);
            best_us = MIN(best_us, g_get_monotonic_time() - before_us);
        }
        g_free(image.bytes);
        if (best_us >= 1000) {
            fail_msg("%s: %" G_GINT64_FORMAT " us", hostiles[i].name, best_us);
        }
    }
}

/* From here on the process can read what is open and nothing else: any open, exec, fork or socket
 * ends it. */
static bool forbid_all_but_reading(void)
{
    static const unsigned allowed[] = {
        SYS_pread64, SYS_fstat,      SYS_newfstatat,     SYS_brk,         SYS_mmap,
        SYS_munmap,  SYS_mremap,     SYS_madvise,        SYS_mprotect,    SYS_futex,
        SYS_write,   SYS_exit_group, SYS_clock_gettime,  SYS_sched_yield, SYS_getpid,
        SYS_gettid,  SYS_getrandom,  SYS_rt_sigprocmask, SYS_sigaltstack,
    };
    struct sock_filter rules[2 * G_N_ELEMENTS(allowed) + 2];
    unsigned short n = 0;
    rules[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(allowed); i++) {
        rules[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i], 0, 1);
        rules[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    rules[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    struct sock_fprog program = {n, rules};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static int vet_all_in_sandbox(const int *fds, size_t n_fds)
{
    if (!forbid_all_but_reading()) {
        return 100;
    }
    for (size_t i = 0; i < n_fds; i++) {
        int code = 0;
        g_autofree char *message = refusal(fds[i], &code);
        if (!message) {
            return 101;
        }
    }
    return 0;
}

static void test_hostile_image_when_vetted_then_nothing_is_opened_or_started(void **state)
{
    (void)state;
    int fds[G_N_ELEMENTS(hostiles)];
    for (size_t i = 0; i < G_N_ELEMENTS(hostiles); i++) {
        Image image = image_new_hostile(&hostiles[i]);
        fds[i] = image_open(&image);
        g_free(image.bytes);
    }
    assert_int_equal(ftruncate(fds[0], 0), 0);
    pid_t pid = fork();
    if (pid == 0) {
        _exit(vet_all_in_sandbox(fds, G_N_ELEMENTS(hostiles)));
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status)); /* SIGSYS: a forbidden call */
    assert_int_equal(WEXITSTATUS(status), 0);
    for (size_t i = 0; i < G_N_ELEMENTS(hostiles); i++) {
        close(fds[i]);
    }
}

static void test_sound_image_when_read_then_its_fields_are_told(void **state)
{
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        Image image = image_new_qcow2(version);
        autofd int fd = image_open(&image);
        g_autoptr(GError) error = NULL;
        g_autoptr(ImgHeader) header = img_header_read(fd, IMG_FORMAT_QCOW2, &error);
        g_free(image.bytes);
        assert_null(error);
        assert_int_equal(header->format, IMG_FORMAT_QCOW2);
        assert_int_equal(header->version, version);
        assert_int_equal(header->virtual_bytes, SMALL_VIRTUAL);
        assert_int_equal(header->file_bytes, SMALL_BYTES);
        assert_int_equal(header->cluster_bits, SMALL_BITS);
        assert_int_equal(header->refcount_bits, 16);
        assert_string_equal(header->compression, "zlib");
        assert_null(header->foreign);
        assert_true(img_header_vet(header, &error));
    }
}

static void test_allowed_features_when_vetted_then_accepted(void **state)
{
    (void)state;
    Image image = image_new_qcow2(3);
    image_put(&image, offsetof(ImgQcow2Disk, incompatible), 8,
              IMG_QCOW2_DIRTY | IMG_QCOW2_COMPRESSION);
    image_put(&image, offsetof(ImgQcow2Disk, compression), 1, 1);
    image_put(&image, offsetof(ImgQcow2Disk, compatible), 8, UINT64_MAX);
    image_put(&image, offsetof(ImgQcow2Disk, autoclear), 8, UINT64_MAX);
    autofd int fd = image_open(&image);
    g_free(image.bytes);
    g_autoptr(GError) error = NULL;
    g_autoptr(ImgHeader) header = img_header_read(fd, -1, &error);
    assert_non_null(header);
    assert_string_equal(header->compression, "zstd");
    assert_true(img_header_vet(header, &error));
}

static void test_image_when_cut_at_any_length_then_refused_until_its_tables_are_whole(void **state)
{
    (void)state;
    const size_t n_whole = (3 << SMALL_BITS) + 32 * 8; /* the L1 table comes last */
    Image image = image_new_qcow2(3);
    autofd int fd = image_open(&image);
    for (size_t n = 0; n <= image.n; n++) {
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pwrite(fd, image.bytes, n, 0), (ssize_t)n);
        int code = VM_ERROR_IMAGE;
        g_autofree char *message = refusal(fd, &code);
        assert_int_equal(code, VM_ERROR_IMAGE);
        assert_int_equal(message == NULL, n >= n_whole);
    }
    g_free(image.bytes);
}

static void check_declared(const Image *image, int declared, const char *expected)
{
    autofd int fd = image_open(image);
    g_autoptr(GError) error = NULL;
    g_autoptr(ImgHeader) header = img_header_read(fd, declared, &error);
    assert_null(header);
    assert_int_equal(error->code, VM_ERROR_IMAGE);
    assert_non_null(strstr(error->message, expected));
}

static void test_image_when_declared_as_another_format_then_refused(void **state)
{
    (void)state;
    Image qcow2 = image_new_qcow2(3), raw = image_new_raw();
    check_declared(&qcow2, IMG_FORMAT_RAW, "declared raw, but the file has a qcow2 header");
    check_declared(&raw, IMG_FORMAT_QCOW2, "has no qcow2 header");
    image_put(&raw, 0, 4, 0x7f454c46);
    check_declared(&raw, IMG_FORMAT_QCOW2, "declared qcow2, but this is ELF");
    g_free(qcow2.bytes);
    g_free(raw.bytes);
}

static void test_virtual_size_when_over_the_cap_then_refused_with_reason(void **state)
{
    (void)state;
    ImgHeader header = {.format = IMG_FORMAT_RAW, .virtual_bytes = IMG_VIRTUAL_BYTES_MAX};
    g_autoptr(GError) error = NULL;
    assert_true(img_header_vet(&header, &error));
    header.virtual_bytes += 512;
    assert_false(img_header_vet(&header, &error));
    assert_non_null(strstr(error->message, "more than 16 TiB"));
}

static void test_folder_when_read_as_image_then_path_error(void **state)
{
    (void)state;
    autofd int fd = open("/tmp", O_RDONLY | O_CLOEXEC);
    g_autoptr(GError) error = NULL;
    assert_null(img_header_read(fd, -1, &error));
    assert_int_equal(error->code, VM_ERROR_PATH);
}

/* --- images that QEMU made -------------------------------------------------------------------- */

typedef struct {
    const char *options;
    const char *size;
} QemuCase;

static void check_as_qemu_says(const char *path)
{
    g_autofree char *text = RUN("qemu-img", "info", "--output", "json", path);
    json_t *info = json_loads(text, 0, NULL);
    json_t *data = json_object_get(json_object_get(info, "format-specific"), "data");
    autofd int fd = open(path, O_RDONLY | O_CLOEXEC);
    g_autoptr(GError) error = NULL;
    g_autoptr(ImgHeader) header = img_header_read(fd, IMG_FORMAT_QCOW2, &error);
    if (!header || !img_header_vet(header, &error)) {
        fail_msg("%s: %s", text, error->message);
    }
    assert_int_equal(header->virtual_bytes,
                     json_integer_value(json_object_get(info, "virtual-size")));
    assert_int_equal(1u << header->cluster_bits,
                     json_integer_value(json_object_get(info, "cluster-size")));
    assert_int_equal(header->refcount_bits,
                     json_integer_value(json_object_get(data, "refcount-bits")));
    const char *compression = json_string_value(json_object_get(data, "compression-type"));
    assert_string_equal(header->compression, compression ? compression : "zlib");
    assert_string_equal(header->version == 2 ? "0.10" : "1.1",
                        json_string_value(json_object_get(data, "compat")));
    json_decref(info);
}

static void test_image_of_qemu_when_read_then_it_says_what_qemu_says(void **state)
{
    static const QemuCase cases[] = {
        {"compat=0.10", "1M"},           {"compat=1.1", "1536"},
        {"cluster_size=512", "1G"},      {"cluster_size=2M", "2T"},
        {"refcount_bits=1", "20G"},      {"refcount_bits=64", "20G"},
        {"compression_type=zstd", "3G"}, {"extended_l2=on", "10G"},
        {"lazy_refcounts=on", "5G"},     {"preallocation=metadata", "64M"},
        {"preallocation=falloc", "1M"},  {"preallocation=metadata,extended_l2=on", "64M"},
        {"cluster_size=64k", "16T"},
    };
    (void)state;
    g_autofree char *dir = g_dir_make_tmp("vm-header-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "i.qcow2", NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_free(RUN("qemu-img", "create", "-q", "-f", "qcow2", "-o", cases[i].options, path,
                   cases[i].size));
        check_as_qemu_says(path);
        g_free(RUN("qemu-io", "-c", "write -P 7 0 512", "-c", "write -z 1024 512", path));
        if (strcmp(cases[i].options, "refcount_bits=1") != 0) { /* counts to 1: no snapshots */
            g_free(RUN("qemu-img", "snapshot", "-c", "one", path));
            check_as_qemu_says(path);
        }
        if (strcmp(cases[i].options, "compat=0.10") != 0) {
            g_free(RUN("qemu-img", "bitmap", "--add", path, "b0"));
            check_as_qemu_says(path);
        }
    }
    unlink(path);
    rmdir(dir);
}

/* A converted image, as images are published, cut at every cluster from its end down. */
static void check_broken_download(const char *dir, const char *compress)
{
    g_autofree char *raw = g_build_filename(dir, "r.raw", NULL);
    g_autofree char *path = g_build_filename(dir, "d.qcow2", NULL);
    g_autofree char *noise = g_malloc(4 << 20);
    for (size_t i = 0; i < 4 << 20; i += 4) {
        memcpy(noise + i, &(uint32_t){g_random_int()}, 4);
    }
    assert_true(g_file_set_contents(raw, noise, 4 << 20, NULL));
    g_free(RUN("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path, compress));
    check_as_qemu_says(path);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    for (off_t n = (st.st_size - 1) & ~(off_t)0xffff; n > 0; n -= 0x10000) {
        assert_int_equal(truncate(path, n), 0);
        autofd int fd = open(path, O_RDONLY | O_CLOEXEC);
        int code = 0;
        g_autofree char *message = refusal(fd, &code);
        assert_non_null(message);
        assert_non_null(strstr(message, "truncated"));
    }
    unlink(raw);
    unlink(path);
}

static void test_download_when_broken_off_then_refused_as_truncated(void **state)
{
    (void)state;
    g_autofree char *dir = g_dir_make_tmp("vm-header-XXXXXX", NULL);
    check_broken_download(dir, NULL);
    check_broken_download(dir, "-c");
    rmdir(dir);
}

/* Zeros at the end of a raw disk teach a fuzzer nothing. */
static void trim(Image *image)
{
    while (image->n > 512 && image->bytes[image->n - 1] == 0) {
        image->n--;
    }
    image->n = (image->n + 511) / 512 * 512;
}

/* Writes every image of the table into a folder: seeds of the fuzz corpus, or whole, for tests of
 * the command. */
static int write_images(const char *dir, bool is_seeds)
{
    for (size_t i = 0; i < G_N_ELEMENTS(hostiles) + (is_seeds ? 2 : 0); i++) {
        bool is_hostile = i < G_N_ELEMENTS(hostiles);
        Image image = is_hostile ? image_new_hostile(&hostiles[i])
                                 : image_new_qcow2((uint32_t)(i - G_N_ELEMENTS(hostiles)) + 2);
        g_autofree char *path = g_build_filename(dir,
                                                 is_hostile ? hostiles[i].name
                                                 : i % 2    ? "sound-a"
                                                            : "sound-b",
                                                 NULL);
        if (is_seeds && is_hostile && hostiles[i].is_raw && hostiles[i].text_at >= 0) {
            trim(&image);
        }
        if (!g_file_set_contents(path, (char *)image.bytes, (gssize)image.n, NULL)) {
            return 1;
        }
        g_free(image.bytes);
    }
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hostile_image_when_vetted_then_refused_with_its_reason),
        cmocka_unit_test(test_hostile_image_when_vetted_then_it_takes_under_1_ms),
        cmocka_unit_test(test_hostile_image_when_vetted_then_nothing_is_opened_or_started),
        cmocka_unit_test(test_sound_image_when_read_then_its_fields_are_told),
        cmocka_unit_test(test_allowed_features_when_vetted_then_accepted),
        cmocka_unit_test(test_image_when_cut_at_any_length_then_refused_until_its_tables_are_whole),
        cmocka_unit_test(test_image_when_declared_as_another_format_then_refused),
        cmocka_unit_test(test_virtual_size_when_over_the_cap_then_refused_with_reason),
        cmocka_unit_test(test_folder_when_read_as_image_then_path_error),
        cmocka_unit_test(test_image_of_qemu_when_read_then_it_says_what_qemu_says),
        cmocka_unit_test(test_download_when_broken_off_then_refused_as_truncated),
    };
    bool is_seeds = argc == 3 && strcmp(argv[1], "--write-seeds") == 0;
    if (is_seeds || (argc == 3 && strcmp(argv[1], "--write-images") == 0)) {
        return write_images(argv[2], is_seeds);
    }
    return cmocka_run_group_tests_name("imaging/header", tests, NULL, NULL);
}
