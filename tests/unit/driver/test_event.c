#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include <jansson.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/file.h"
#include "driver/event.h"
#include "driver/event_line.h"

typedef struct {
    char dir[64];
    int dirfd;
} Folder;

static int set_up(void **state)
{
    Folder *folder = g_new0(Folder, 1);
    strcpy(folder->dir, "/tmp/test-event-XXXXXX");
    assert_non_null(mkdtemp(folder->dir));
    folder->dirfd = open(folder->dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    assert_true(folder->dirfd >= 0);
    *state = folder;
    return 0;
}

static int tear_down(void **state)
{
    Folder *folder = *state;
    unlinkat(folder->dirfd, EVENT_FILE, 0);
    close(folder->dirfd);
    rmdir(folder->dir);
    g_free(folder);
    return 0;
}

static char *contents(const Folder *folder)
{
    return base_file_read(folder->dirfd, EVENT_FILE, 1024 * 1024, NULL, NULL);
}

static void append(const Folder *folder, const char *members)
{
    g_autoptr(GError) error = NULL;
    assert_true(machine_event_append(folder->dirfd, "stage", 3, 0, members, &error));
}

static void test_append_writes_common_members_first(void **state)
{
    Folder *folder = *state;
    g_autoptr(GError) error = NULL;
    uint64_t start_ms = event_clock_ms() - 12345;
    assert_true(machine_event_append(folder->dirfd, "stage", 3, start_ms,
                                     "{\"stage\":\"overlay\",\"state\":\"done\"}", &error));
    g_autofree char *text = contents(folder);
    assert_true(g_str_has_prefix(text, "{\"v\":1,\"time\":\"20"));
    assert_true(
        g_str_has_suffix(text, ",\"type\":\"stage\",\"stage\":\"overlay\",\"state\":\"done\"}\n"));
    json_auto_t *event = json_loads(text, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(event, "boot")), 3);
    double t = json_real_value(json_object_get(event, "t"));
    assert_true(t >= 12.345 && t < 13);
    const char *time = json_string_value(json_object_get(event, "time"));
    assert_int_equal(strlen(time), strlen("2026-01-02T03:04:05.678Z"));
    double seconds;
    int n_digits;
    assert_int_equal(sscanf(strstr(text, "\"t\":"), "\"t\":%lf%n", &seconds, &n_digits), 1);
    assert_true(n_digits <= 10); /* 12.345, not 12.345000000000001 */
    struct stat file;
    assert_int_equal(fstatat(folder->dirfd, EVENT_FILE, &file, 0), 0);
    assert_int_equal(file.st_mode & 07777, 0600);
}

static void test_append_of_common_members_keeps_ours(void **state)
{
    append(*state, "{\"type\":\"end\",\"v\":2,\"boot\":9}");
    g_autofree char *text = contents(*state);
    assert_non_null(strstr(text, "\"type\":\"stage\""));
    assert_non_null(strstr(text, "\"boot\":3"));
    assert_null(strstr(text, "\"v\":2"));
}

static void test_append_of_no_object_fails_and_writes_nothing(void **state)
{
    static const char *const bad[] = {
        "", "[]", "{", "{\"a\":1,\"a\":2}", "\"x\"", "{\"a\":\"\xff\"}"};
    Folder *folder = *state;
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        assert_false(machine_event_append(folder->dirfd, "stage", 1, 0, bad[i], &error));
        assert_int_equal(error->code, VM_ERROR_INTERNAL);
    }
    assert_int_equal(faccessat(folder->dirfd, EVENT_FILE, F_OK, 0), -1);
}

static void test_append_through_a_symlink_is_refused(void **state)
{
    Folder *folder = *state;
    g_autoptr(GError) error = NULL;
    assert_int_equal(symlinkat("/tmp/test-event-victim", folder->dirfd, EVENT_FILE), 0);
    assert_false(machine_event_append(folder->dirfd, "stage", 1, 0, "{}", &error));
    assert_int_equal(access("/tmp/test-event-victim", F_OK), -1);
}

static void test_append_to_a_full_disk_is_no_space(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    char dir[] = "/tmp/test-event-full-XXXXXX";
    assert_non_null(mkdtemp(dir));
    g_autofree char *path = g_build_filename(dir, EVENT_FILE, NULL);
    autofd int dirfd = open(dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    pid_t pid = fork();
    if (pid == 0) { /* a file size limit acts as a full disk: the write is cut short */
        struct rlimit limit = {50, 50};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        bool is_ok = machine_event_append(dirfd, "stage", 1, 0, "{}", &error);
        _exit(!is_ok && error->code == VM_ERROR_NO_SPACE ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    /* the torn line is ended by the next one, which is whole */
    assert_true(machine_event_append(dirfd, "stage", 1, 0, "{\"n\":2}", &error));
    g_autoptr(MachineFollower) follower = machine_follower_new(dir, 0, &error);
    bool is_gone;
    g_autofree char *torn = machine_follower_next(follower, &is_gone);
    g_autofree char *whole = machine_follower_next(follower, &is_gone);
    assert_int_equal(strlen(torn), 50);
    assert_true(g_str_has_suffix(whole, "\"n\":2}"));
    unlink(path);
    rmdir(dir);
}

static void test_append_by_many_processes_keeps_lines_whole(void **state)
{
    enum { WRITERS = 4, LINES = 200 };
    Folder *folder = *state;
    for (int i = 0; i < WRITERS; i++) {
        if (fork() == 0) {
            for (int k = 0; k < LINES; k++) {
                machine_event_append(folder->dirfd, "stage", 1, 0,
                                     "{\"x\":\"0123456789012345678901234\"}", NULL);
            }
            _exit(0);
        }
    }
    for (int i = 0; i < WRITERS; i++) {
        assert_true(wait(NULL) > 0);
    }
    g_autofree char *text = contents(folder);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    assert_int_equal(g_strv_length(lines), WRITERS * LINES + 1);
    for (int i = 0; i < WRITERS * LINES; i++) {
        json_auto_t *event = json_loads(lines[i], 0, NULL);
        assert_non_null(event);
    }
}

static void test_event_text_replaces_what_is_no_utf8(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *text;
    } cases[] = {
        {"plain", 5, "plain"},
        {"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", 9, "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"a\xff"
         "b",
         3,
         "a\xef\xbf\xbd"
         "b"},
        {"\xc3", 1, "\xef\xbf\xbd"},                                 /* cut */
        {"\xc0\x80", 2, "\xef\xbf\xbd\xef\xbf\xbd"},                 /* overlong */
        {"\xed\xa0\x80", 3, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* surrogate */
        {"\xf4\x90\x80\x80", 4, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"a\0b", 3,
         "a\xef\xbf\xbd"
         "b"},
    };
    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        json_auto_t *text = event_text(cases[i].bytes, cases[i].n);
        assert_string_equal(json_string_value(text), cases[i].text);
    }
}

static void test_event_line_of_guest_text_is_ascii(void **state)
{
    Folder *folder = *state;
    char bytes[256];
    for (int i = 0; i < 256; i++) {
        bytes[i] = (char)i;
    }
    EventStamp stamp = {.boot = 1};
    json_auto_t *members = json_pack("{s:o}", "text", event_text(bytes, sizeof bytes));
    assert_int_equal(event_line_append(folder->dirfd, true, &stamp, "stall", members), 0);
    g_autofree char *text = contents(folder);
    for (const char *c = text; c[1]; c++) {
        assert_true(*c >= ' ' && *c < 127);
    }
    json_auto_t *event = json_loads(text, 0, NULL);
    assert_non_null(event);
}

static void test_event_line_without_file_is_enoent(void **state)
{
    Folder *folder = *state;
    EventStamp stamp = {.boot = 1};
    assert_int_equal(event_line_append(folder->dirfd, false, &stamp, "end", NULL), ENOENT);
}

static void test_event_line_that_is_too_long_is_refused(void **state)
{
    Folder *folder = *state;
    EventStamp stamp = {.boot = 1};
    g_autofree char *text = g_strnfill(EVENT_LINE_MAX, 'x');
    json_auto_t *members = json_pack("{s:s}", "text", text);
    assert_int_equal(event_line_append(folder->dirfd, true, &stamp, "stall", members), EINVAL);
}

static void test_stage_names_are_those_of_the_contract(void **state)
{
    (void)state;
    assert_string_equal(machine_stage_name(STAGE_IMAGE), "image");
    assert_string_equal(machine_stage_name(STAGE_CLOUD_INIT), "cloud-init");
    assert_string_equal(machine_stage_name(STAGE_READY), "ready");
    assert_string_equal(machine_stage_name(STAGE_N), "");
}

/* --- following -----------------------------------------------------------------------------------
 */

static bool is_readable(MachineFollower *follower, int timeout_ms)
{
    struct pollfd in = {.fd = machine_follower_fd(follower), .events = POLLIN};
    return poll(&in, 1, timeout_ms) == 1;
}

static void assert_next(MachineFollower *follower, const char *suffix)
{
    bool is_gone;
    g_autofree char *line = machine_follower_next(follower, &is_gone);
    assert_non_null(line);
    assert_true(g_str_has_suffix(line, suffix));
    assert_false(is_gone);
}

static void assert_none(MachineFollower *follower, bool is_gone)
{
    bool said;
    assert_null(machine_follower_next(follower, &said));
    assert_int_equal(said, is_gone);
}

static void test_follower_gives_old_and_new_lines(void **state)
{
    Folder *folder = *state;
    g_autoptr(GError) error = NULL;
    append(folder, "{\"n\":1}");
    append(folder, "{\"n\":2}");
    g_autoptr(MachineFollower) follower = machine_follower_new(folder->dir, 0, &error);
    assert_non_null(follower);
    assert_next(follower, "\"n\":1}");
    uint64_t offset = machine_follower_offset(follower);
    assert_next(follower, "\"n\":2}");
    assert_none(follower, false);
    assert_false(is_readable(follower, 0));
    append(folder, "{\"n\":3}");
    assert_true(is_readable(follower, 1000));
    assert_next(follower, "\"n\":3}");
    assert_none(follower, false);
    g_autoptr(MachineFollower) second = machine_follower_new(folder->dir, offset, &error);
    assert_next(second, "\"n\":2}");
}

static void test_follower_waits_for_the_end_of_a_line(void **state)
{
    Folder *folder = *state;
    g_autoptr(GError) error = NULL;
    autofd int fd = openat(folder->dirfd, EVENT_FILE, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, "half", 4), 4);
    g_autoptr(MachineFollower) follower = machine_follower_new(folder->dir, 0, &error);
    assert_none(follower, false);
    assert_int_equal(machine_follower_offset(follower), 0);
    assert_int_equal(write(fd, " and half\n", 10), 10);
    assert_true(is_readable(follower, 1000));
    assert_next(follower, "half and half");
    assert_int_equal(machine_follower_offset(follower), 14);
}

static void test_follower_of_a_file_to_come_gives_its_lines(void **state)
{
    Folder *folder = *state;
    g_autoptr(GError) error = NULL;
    g_autoptr(MachineFollower) follower = machine_follower_new(folder->dir, 0, &error);
    assert_non_null(follower);
    assert_none(follower, false);
    append(folder, "{\"n\":1}");
    assert_true(is_readable(follower, 1000));
    assert_next(follower, "\"n\":1}");
}

static void test_follower_of_other_files_sleeps(void **state)
{
    Folder *folder = *state;
    g_autoptr(GError) error = NULL;
    append(folder, "{}");
    autofd int disk = openat(folder->dirfd, "disk", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    g_autoptr(MachineFollower) follower = machine_follower_new(folder->dir, 0, &error);
    assert_next(follower, "}");
    assert_none(follower, false);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(write(disk, "x", 1), 1);
    }
    assert_false(is_readable(follower, 50));
    unlinkat(folder->dirfd, "disk", 0);
}

static void test_follower_of_a_removed_machine_gives_the_rest_and_says_so(void **state)
{
    Folder *folder = *state;
    g_autoptr(GError) error = NULL;
    append(folder, "{\"n\":1}");
    g_autoptr(MachineFollower) follower = machine_follower_new(folder->dir, 0, &error);
    assert_next(follower, "\"n\":1}");
    assert_none(follower, false);
    append(folder, "{\"n\":2}");
    /* this test holds the directory open, as a watcher does */
    unlinkat(folder->dirfd, EVENT_FILE, 0);
    rmdir(folder->dir);
    assert_true(is_readable(follower, 1000));
    assert_next(follower, "\"n\":2}");
    assert_none(follower, true);
    assert_none(follower, true);
}

static void test_follower_of_no_machine_is_not_found(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    assert_null(machine_follower_new("/tmp/test-event-none", 0, &error));
    assert_int_equal(error->code, VM_ERROR_NOT_FOUND);
}

#define with_folder(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_folder(test_append_writes_common_members_first),
        with_folder(test_append_of_common_members_keeps_ours),
        with_folder(test_append_of_no_object_fails_and_writes_nothing),
        with_folder(test_append_through_a_symlink_is_refused),
        cmocka_unit_test(test_append_to_a_full_disk_is_no_space),
        with_folder(test_append_by_many_processes_keeps_lines_whole),
        cmocka_unit_test(test_event_text_replaces_what_is_no_utf8),
        with_folder(test_event_line_of_guest_text_is_ascii),
        with_folder(test_event_line_without_file_is_enoent),
        with_folder(test_event_line_that_is_too_long_is_refused),
        cmocka_unit_test(test_stage_names_are_those_of_the_contract),
        with_folder(test_follower_gives_old_and_new_lines),
        with_folder(test_follower_waits_for_the_end_of_a_line),
        with_folder(test_follower_of_a_file_to_come_gives_its_lines),
        with_folder(test_follower_of_other_files_sleeps),
        with_folder(test_follower_of_a_removed_machine_gives_the_rest_and_says_so),
        cmocka_unit_test(test_follower_of_no_machine_is_not_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
