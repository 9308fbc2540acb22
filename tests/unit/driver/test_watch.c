#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/dir.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/file.h"
#include "driver/watch.h"
#include "helper_watch.h"

static int set_up(void **state)
{
    *state = test_machine_new();
    return 0;
}

static int tear_down(void **state)
{
    test_machine_free(*state);
    return 0;
}

static bool has_file(const TestMachine *machine, const char *name, int ms)
{
    g_autofree char *path = g_build_filename(machine->dir, name, NULL);
    return test_await_path(path, true, ms);
}

static void append_stop(const TestMachine *machine)
{
    autofd int dirfd = open(machine->dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    assert_true(
        machine_event_append(dirfd, "stop", 1, 0, "{\"by\":\"command\",\"grace_s\":1}", NULL));
}

/* Waits for the end event and for everything that comes after it. */
static json_t *await_end(TestMachine *machine, const char *reason)
{
    json_t *end = test_machine_await(machine, "end", NULL, NULL);
    assert_string_equal(test_event_text(end, "reason"), reason);
    assert_true(has_file(machine, "ended", 3000));
    for (int i = 0; i < 400 && test_machine_watcher(machine) != 0; i++) {
        poll(NULL, 0, 5);
    }
    assert_int_equal(test_machine_watcher(machine), 0);
    g_autofree char *lock = g_build_filename(machine->dir, "watch.lock", NULL);
    assert_int_equal(access(lock, F_OK), -1);
    assert_false(test_machine_has(machine, 100, "end", "reason", "twice"));
    assert_int_equal(test_machine_count(machine, "end", NULL, NULL), 1);
    return end;
}

static json_int_t number_of(const json_t *event, const char *member)
{
    const json_t *number = json_object_get(event, member);
    return json_is_integer(number) ? json_integer_value(number) : -1;
}

/* --- the starter
 * ---------------------------------------------------------------------------------- */

static pid_t exec_self(const char *word, int out, const int *keep_fds)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *program = g_build_filename(TEST_BUILD_DIR, "vm-run-watch", NULL);
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    const char *const argv[] = {self, word, NULL};
    pid_t pid = machine_watch_exec(program, argv, -1, out, -1, keep_fds, &error);
    assert_null(error);
    return pid;
}

static void test_starter_that_ends_without_a_word_ends_the_watcher(void **state)
{
    (void)state;
    assert_true(test_await_gone(exec_self("silent", -1, NULL), 40000));
}

static void test_starter_that_says_quit_ends_the_watcher(void **state)
{
    (void)state;
    assert_true(test_await_gone(exec_self("quit", -1, NULL), 40000));
}

static void test_exec_of_no_starter_ends_the_watcher(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    g_autofree char *program = g_build_filename(TEST_BUILD_DIR, "vm-run-watch", NULL);
    const char *const argv[] = {"/nonexistent/starter", NULL};
    int err[2];
    assert_int_equal(pipe2(err, O_CLOEXEC), 0);
    pid_t pid = machine_watch_exec(program, argv, -1, -1, err[1], NULL, &error);
    close(err[1]);
    assert_true(pid > 0);
    assert_true(test_await_gone(pid, 40000));
    char text[200] = "";
    assert_true(read(err[0], text, sizeof text - 1) > 0);
    assert_non_null(strstr(text, "cannot start '/nonexistent/starter': No such file or directory"));
    close(err[0]);
}

static void test_exec_of_no_watcher_is_not_found(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    const char *const argv[] = {"/bin/true", NULL};
    assert_int_equal(
        machine_watch_exec("/nonexistent/vm-run-watch", argv, -1, -1, -1, NULL, &error), -1);
    assert_int_equal(error->code, VM_ERROR_NOT_FOUND);
}

static void test_exec_gives_the_starter_exactly_its_descriptors(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    g_autofree char *program = g_build_filename(TEST_BUILD_DIR, "vm-run-watch", NULL);
    const char *const argv[] = {"/bin/ls", "-l", "/proc/self/fd", NULL};
    int out[2];
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    autofd int kept = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    autofd int other = open("/etc/group", O_RDONLY); /* not CLOEXEC, and not given on */
    const int keep[] = {kept, -1};
    assert_true(other >= 0);
    assert_true(machine_watch_exec(program, argv, -1, out[1], -1, keep, &error) > 0);
    close(out[1]);
    char text[4096];
    ssize_t n, n_text = 0;
    while ((n = read(out[0], text + n_text, sizeof text - 1 - (size_t)n_text)) > 0) {
        n_text += n;
    }
    text[n_text] = '\0';
    g_autofree char *shown = g_strdup_printf("%d -> /etc/passwd", kept);
    assert_non_null(strstr(text, shown));
    assert_null(strstr(text, "/etc/group"));
    assert_non_null(strstr(text, "0 -> /dev/null"));
    assert_non_null(strstr(text, "socket:")); /* the way to the watcher */
    close(out[0]);
}

static void test_watcher_lets_go_of_the_callers_descriptors(void **state)
{
    TestMachine *machine = *state;
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    char rest[64];
    while (read(machine->starter_out, rest, sizeof rest) >
           0) { /* its end comes though the watcher lives */
        continue;
    }
    pid_t pid = test_machine_watcher(machine);
    assert_true(pid > 0);
    for (int fd = 0; fd < 3; fd++) {
        g_autofree char *path = g_strdup_printf("/proc/%d/fd/%d", pid, fd);
        g_autofree char *target = g_file_read_link(path, NULL);
        assert_string_equal(target, "/dev/null");
    }
    assert_int_equal(getsid(pid), pid);
}

/* --- the end
 * --------------------------------------------------------------------------------------- */

static void test_end_of_a_child_that_fails_is_crashed_with_its_status(void **state)
{
    TestMachine *machine = *state;
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    kill(machine->qemu_pid, SIGUSR1);
    json_t *end = await_end(machine, "crashed");
    assert_int_equal(number_of(end, "exit_status"), 7);
    assert_true(
        test_await_gone(machine->qemu_pid, 40000)); /* reaped: the daemon had become our child */
}

static void test_end_by_a_deadly_signal_is_crashed_with_its_number(void **state)
{
    TestMachine *machine = *state;
    test_machine_start(machine, TEST_QEMU_STOPPED, NULL);
    kill(machine->qemu_pid, SIGSEGV);
    json_t *end = await_end(machine, "crashed");
    assert_int_equal(number_of(end, "signal"), SIGSEGV);
}

/* Milliseconds from the signal to the event, as this process sees it. */
static double time_of_end(TestMachine *machine)
{
    test_machine_start(machine, TEST_QEMU_STOPPED, NULL);
    gint64 began_us = g_get_monotonic_time();
    kill(machine->qemu_pid, SIGKILL);
    test_machine_await(machine, "end", NULL, NULL);
    return (double)(g_get_monotonic_time() - began_us) / 1000;
}

static void test_end_by_sigkill_is_killed_and_told_at_once(void **state)
{
    TestMachine *machine = *state;
    double took_ms = time_of_end(machine);
    json_t *end = await_end(machine, "killed");
    assert_int_equal(number_of(end, "signal"), SIGKILL);
    for (int i = 0; i < 2 && took_ms >= 1000; i++) { /* a busy host is no reason */
        TestMachine *other = test_machine_new();
        took_ms = MIN(took_ms, time_of_end(other));
        test_machine_free(other);
    }
    print_message("SIGKILL to end event: %.1f ms\n", took_ms);
    assert_true(took_ms < 1000);
}

static void test_end_by_sigterm_is_killed(void **state)
{
    TestMachine *machine = *state;
    test_machine_start(machine, TEST_QEMU_STOPPED, NULL);
    kill(machine->qemu_pid, SIGTERM);
    json_t *end = await_end(machine, "killed");
    assert_string_equal(test_event_text(end, "detail"), "QEMU was ended by a signal");
    assert_int_equal(number_of(end, "exit_status"), 0);
}

static void test_end_by_sigterm_after_a_stop_event_is_stopped(void **state)
{
    TestMachine *machine = *state;
    test_machine_start(machine, TEST_QEMU_STOPPED, NULL);
    append_stop(machine);
    kill(machine->qemu_pid, SIGTERM);
    await_end(machine, "stopped");
}

static void test_end_by_sigkill_after_a_stop_event_is_stopped(void **state)
{
    TestMachine *machine = *state;
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    append_stop(machine);
    kill(machine->qemu_pid, SIGKILL);
    await_end(machine, "stopped");
}

static void test_end_by_quit_is_killed(void **state)
{
    TestMachine *machine = *state;
    test_machine_start(machine, TEST_QEMU_STOPPED, NULL);
    test_machine_qmp(machine, "quit");
    json_t *end = await_end(machine, "killed");
    assert_string_equal(test_event_text(end, "detail"), "QEMU was told to quit");
}

/* mov dx, 604h; mov ax, 2000h; out dx, ax: the ACPI sleep register of q35, as SeaBIOS places it */
static const unsigned char power_off[] = {0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef};
/* mov dx, 0cf9h; mov al, 6; out dx, al */
static const unsigned char reset[] = {0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee};
/* mov dx, 505h; mov al, 1; out dx, al: pvpanic */
static const unsigned char panic[] = {0xba, 0x05, 0x05, 0xb0, 0x01, 0xee};

static void test_end_by_the_guest_is_guest_shutdown(void **state)
{
    TestMachine *machine = *state;
    test_machine_boot_sector(machine, power_off, sizeof power_off, NULL);
    test_machine_start(machine, TEST_QEMU_BOOTS, NULL);
    json_t *end = await_end(machine, "guest-shutdown");
    assert_int_equal(number_of(end, "exit_status"), 0);
}

static void test_end_by_a_panic_is_guest_panic(void **state)
{
    TestMachine *machine = *state;
    const char *const more[] = {"-device", "pvpanic", NULL};
    test_machine_boot_sector(machine, panic, sizeof panic, NULL);
    test_machine_start(machine, TEST_QEMU_BOOTS, more);
    await_end(machine, "guest-panic");
    assert_int_equal(test_machine_count(machine, "stall", "kind", "panic"), 1);
}

static void test_reset_by_the_guest_is_reboot_and_begins_again(void **state)
{
    TestMachine *machine = *state;
    test_machine_boot_sector(machine, reset, sizeof reset, NULL);
    test_machine_start(machine, TEST_QEMU_BOOTS, NULL);
    test_machine_await(machine, "reboot", "by", "guest");
    test_machine_has(machine, 300, "reboot", NULL, NULL);
    assert_true(test_machine_count(machine, "stage", "stage", "firmware") >= 2);
    kill(machine->qemu_pid, SIGKILL);
    await_end(machine, "killed");
}

static void test_reset_by_the_host_is_reboot_by_host(void **state)
{
    TestMachine *machine = *state;
    test_machine_start(machine, TEST_QEMU_STOPPED, NULL);
    test_machine_qmp(machine, "system_reset");
    test_machine_await(machine, "reboot", "by", "host");
}

static void test_io_error_is_paused_with_its_reason(void **state)
{
    static const char rules[] =
        "[inject-error]\nevent = \"none\"\niotype = \"read\"\nerrno = \"5\"\n";
    TestMachine *machine = *state;
    autofd int dirfd = open(machine->dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    assert_true(base_file_write_whole(dirfd, "rules", rules, strlen(rules), 0600, NULL));
    test_machine_boot_sector(machine, power_off, 0, NULL);
    g_autofree char *drive =
        g_strdup_printf("driver=blkdebug,config=%s/"
                        "rules,node-name=bad,image.driver=file,image.filename=%s/boot.img",
                        machine->dir, machine->dir);
    const char *const more[] = {"-blockdev", drive, "-device",
                                "virtio-blk-pci,drive=bad,rerror=stop,werror=stop,bootindex=0",
                                NULL};
    test_machine_start(machine, TEST_QEMU_BOOTS, more);
    json_t *paused = test_machine_await(machine, "paused", NULL, NULL);
    assert_string_equal(test_event_text(paused, "reason"), "io-error");
    test_machine_qmp(machine, "cont");
    test_machine_await(machine, "resumed", NULL, NULL);
}

static void test_stop_and_cont_are_paused_and_resumed(void **state)
{
    TestMachine *machine = *state;
    test_machine_boot_sector(machine, power_off, 0, NULL);
    test_machine_start(machine, TEST_QEMU_BOOTS, NULL);
    test_machine_qmp(machine, "stop");
    test_machine_await(machine, "paused", "reason", "host");
    test_machine_qmp(machine, "cont");
    test_machine_await(machine, "resumed", NULL, NULL);
}

/* --- one watcher after another
 * ---------------------------------------------------------------------- */

static void kill_watcher(TestMachine *machine)
{
    pid_t pid = test_machine_watcher(machine);
    assert_true(pid > 0);
    kill(pid, SIGKILL);
    assert_true(test_await_gone(pid, 40000));
    assert_int_equal(test_machine_watcher(machine), 0);
}

static void test_killed_watcher_leaves_qemu_and_its_replacement_learns_the_reason(void **state)
{
    TestMachine *machine = *state;
    g_autoptr(GError) error = NULL;
    test_machine_start(machine, TEST_QEMU_STOPPED, NULL);
    kill_watcher(machine);
    assert_int_equal(kill(machine->qemu_pid, 0), 0);
    assert_true(machine_watch_begin(machine->watch_program, machine->dir, &error));
    assert_true(test_machine_watcher(machine) > 0);
    test_machine_qmp(machine, "quit");
    json_t *end = await_end(machine, "killed");
    assert_string_equal(test_event_text(end, "detail"), "QEMU was told to quit");
    assert_int_equal(test_machine_count(machine, "stage", "stage", "firmware"),
                     1); /* not told again */
}

static void test_replacement_for_an_ended_qemu_says_lost(void **state)
{
    TestMachine *machine = *state;
    g_autoptr(GError) error = NULL;
    test_machine_start(machine, TEST_QEMU_STOPPED, NULL);
    kill_watcher(machine);
    kill(machine->qemu_pid, SIGKILL);
    assert_true(test_await_gone(machine->qemu_pid, 40000));
    assert_true(machine_watch_begin(machine->watch_program, machine->dir, &error));
    await_end(machine, "lost");
}

static void test_replacement_after_the_end_event_runs_the_command_only(void **state)
{
    TestMachine *machine = *state;
    g_autoptr(GError) error = NULL;
    test_machine_start(machine, TEST_QEMU_STOPPED, NULL);
    kill_watcher(machine);
    kill(machine->qemu_pid, SIGKILL);
    assert_true(test_await_gone(machine->qemu_pid, 40000));
    autofd int dirfd = open(machine->dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    assert_true(machine_event_append(dirfd, "end", 1, 0, "{\"reason\":\"killed\"}", &error));
    assert_true(machine_watch_begin(machine->watch_program, machine->dir, &error));
    await_end(machine, "killed");
}

static void test_replacement_for_a_reused_pid_says_lost(void **state)
{
    TestMachine *machine = *state;
    g_autoptr(GError) error = NULL;
    test_machine_set(machine, "qemu_pid", json_integer(getpid()));
    test_machine_set(machine, "qemu_start", json_integer(1)); /* another process had this pid */
    char *text = json_dumps(machine->config, 0);
    autofd int dirfd = open(machine->dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    assert_true(base_file_write_whole(dirfd, "watch.json", text, strlen(text), 0600, NULL));
    assert_true(machine_event_append(dirfd, "start", 1, 0, "{}", NULL));
    free(text);
    machine->follower = machine_follower_new(machine->dir, 0, NULL);
    assert_true(machine_watch_begin(machine->watch_program, machine->dir, &error));
    await_end(machine, "lost");
}

static void test_begin_with_a_living_watcher_keeps_it(void **state)
{
    TestMachine *machine = *state;
    g_autoptr(GError) error = NULL;
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    pid_t pid = test_machine_watcher(machine);
    assert_true(machine_watch_begin(machine->watch_program, machine->dir, &error));
    assert_int_equal(test_machine_watcher(machine), pid);
}

static void test_begin_below_a_watcher_of_another_machine_starts_a_new_one(void **state)
{
    TestMachine *machine = *state;
    TestMachine *other = test_machine_new();
    test_machine_set(machine, "beside", json_string(other->dir)); /* read by the starter */
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    assert_true(test_machine_watcher(machine) > 0);
    assert_true(test_machine_watcher(other) > 0);
    assert_int_not_equal(test_machine_watcher(other), test_machine_watcher(machine));
    test_machine_free(other);
}

static void test_begin_of_a_broken_record_says_what_is_wrong(void **state)
{
    static const struct {
        const char *text, *said;
    } cases[] = {
        {"", "watch.json:"},
        {"[]", "watch.json:"},
        {"{\"v\":1}", "watch.json: 'name' is missing or out of range"},
        {"{\"v\":2}", "watch.json: no version 1"},
        {"{\"v\":", "watch.json:1:"},
    };
    TestMachine *machine = *state;
    autofd int dirfd = open(machine->dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        assert_true(base_file_write_whole(dirfd, "watch.json", cases[i].text, strlen(cases[i].text),
                                          0600, NULL));
        assert_false(machine_watch_begin(machine->watch_program, machine->dir, &error));
        assert_int_equal(error->code, VM_ERROR_HOST);
        assert_non_null(strstr(error->message, cases[i].said));
        assert_int_equal(test_machine_watcher(machine), 0);
    }
}

static void test_begin_without_a_record_or_folder_fails(void **state)
{
    TestMachine *machine = *state;
    g_autoptr(GError) no_record = NULL, no_folder = NULL;
    assert_false(machine_watch_begin(machine->watch_program, machine->dir, &no_record));
    assert_non_null(strstr(no_record->message, "No such file"));
    assert_false(machine_watch_begin(machine->watch_program, "/nonexistent", &no_folder));
    assert_int_equal(no_folder->code, VM_ERROR_NOT_FOUND);
}

static void test_watch_end_leaves_qemu_and_no_lock(void **state)
{
    TestMachine *machine = *state;
    g_autoptr(GError) error = NULL;
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    assert_true(machine_watch_end(machine->dir, &error));
    assert_int_equal(test_machine_watcher(machine), 0);
    assert_int_equal(kill(machine->qemu_pid, 0), 0);
    assert_false(has_file(machine, "watch.lock", 0));
    assert_false(has_file(machine, "ended", 100));
    assert_false(test_machine_has(machine, 0, "end", NULL, NULL));
    assert_true(machine_watch_end(machine->dir, &error)); /* absent is success */
}

static void test_watch_end_of_a_stopped_watcher_kills_it(void **state)
{
    TestMachine *machine = *state;
    g_autoptr(GError) error = NULL;
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    kill(test_machine_watcher(machine), SIGSTOP);
    assert_true(machine_watch_end(machine->dir, &error));
    assert_int_equal(test_machine_watcher(machine), 0);
    assert_false(has_file(machine, "watch.lock", 0));
}

static void test_removed_machine_ends_its_watcher(void **state)
{
    TestMachine *machine = *state;
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    pid_t pid = test_machine_watcher(machine);
    assert_true(base_dir_remove_tree(AT_FDCWD, machine->dir, NULL));
    assert_true(test_await_gone(pid, 40000));
    assert_int_equal(kill(machine->qemu_pid, 0), 0);
    assert_int_equal(access(machine->dir, F_OK), -1); /* and nothing was made anew */
}

/* --- what it costs
 * ----------------------------------------------------------------------------------- */

static long status_number(pid_t pid, const char *name)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", pid);
    g_autofree char *text = NULL;
    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    const char *at = strstr(text, name);
    assert_non_null(at);
    return strtol(at + strlen(name), NULL, 10);
}

static void test_watcher_is_small_and_sleeps(void **state)
{
    TestMachine *machine = *state;
    test_machine_start(machine, TEST_QEMU_STOPPED, NULL);
    pid_t pid = test_machine_watcher(machine);
    poll(NULL, 0, 300);
    long before = status_number(pid, "voluntary_ctxt_switches:");
    poll(NULL, 0, 1000);
    long after = status_number(pid, "voluntary_ctxt_switches:");
    long rss_kib = status_number(pid, "VmRSS:");
    print_message("watcher: %ld KiB resident (%ld KiB of its own), woke %ld times in 1 s\n",
                  rss_kib, status_number(pid, "RssAnon:"), after - before);
#ifndef TEST_SANITIZED /* a sanitizer takes 10 MiB itself */
    assert_true(rss_kib < 2560);
#endif
    assert_int_equal(after - before, 0);
    assert_int_equal(status_number(pid, "Threads:"), 1);
}

#define with_machine(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_starter_that_ends_without_a_word_ends_the_watcher),
        cmocka_unit_test(test_starter_that_says_quit_ends_the_watcher),
        cmocka_unit_test(test_exec_of_no_starter_ends_the_watcher),
        cmocka_unit_test(test_exec_of_no_watcher_is_not_found),
        cmocka_unit_test(test_exec_gives_the_starter_exactly_its_descriptors),
        with_machine(test_watcher_lets_go_of_the_callers_descriptors),
        with_machine(test_end_of_a_child_that_fails_is_crashed_with_its_status),
        with_machine(test_end_by_a_deadly_signal_is_crashed_with_its_number),
        with_machine(test_end_by_sigkill_is_killed_and_told_at_once),
        with_machine(test_end_by_sigterm_is_killed),
        with_machine(test_end_by_sigterm_after_a_stop_event_is_stopped),
        with_machine(test_end_by_sigkill_after_a_stop_event_is_stopped),
        with_machine(test_end_by_quit_is_killed),
        with_machine(test_end_by_the_guest_is_guest_shutdown),
        with_machine(test_end_by_a_panic_is_guest_panic),
        with_machine(test_reset_by_the_guest_is_reboot_and_begins_again),
        with_machine(test_reset_by_the_host_is_reboot_by_host),
        with_machine(test_io_error_is_paused_with_its_reason),
        with_machine(test_stop_and_cont_are_paused_and_resumed),
        with_machine(test_killed_watcher_leaves_qemu_and_its_replacement_learns_the_reason),
        with_machine(test_replacement_for_an_ended_qemu_says_lost),
        with_machine(test_replacement_after_the_end_event_runs_the_command_only),
        with_machine(test_replacement_for_a_reused_pid_says_lost),
        with_machine(test_begin_with_a_living_watcher_keeps_it),
        with_machine(test_begin_below_a_watcher_of_another_machine_starts_a_new_one),
        with_machine(test_begin_of_a_broken_record_says_what_is_wrong),
        with_machine(test_begin_without_a_record_or_folder_fails),
        with_machine(test_watch_end_leaves_qemu_and_no_lock),
        with_machine(test_watch_end_of_a_stopped_watcher_kills_it),
        with_machine(test_removed_machine_ends_its_watcher),
        with_machine(test_watcher_is_small_and_sleeps),
    };
    int status = test_machine_starter_main(argc, argv);
    return status >= 0 ? status : cmocka_run_group_tests(tests, NULL, NULL);
}
