#include <arpa/inet.h>
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
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/fd.h"
#include "base/file.h"
#include "driver/event_line.h"
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

static void assert_stages(TestMachine *machine, const char *wanted)
{
    g_autofree char *stages = NULL;
    for (int i = 0; i < 100; i++) { /* 5 s at most; then what is there is what there is */
        g_free(stages);
        stages = test_machine_stages(machine, 50);
        if (strcmp(stages, wanted) == 0) {
            return;
        }
    }
    assert_string_equal(stages, wanted);
}

static int accept_status(int listen_fd)
{
    struct pollfd in = {.fd = listen_fd, .events = POLLIN};
    assert_int_equal(poll(&in, 1, 5000), 1);
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* --- the serial log
 * ------------------------------------------------------------------------------------ */

static char *read_file(const TestMachine *machine, const char *name)
{
    g_autofree char *path = g_build_filename(machine->dir, name, NULL);
    return base_file_read(AT_FDCWD, path, 16 * 1024 * 1024, NULL, NULL);
}

static void test_log_above_its_limit_keeps_the_last_half(void **state)
{
    TestMachine *machine = *state;
    g_autofree char *filler = g_strnfill(9000, 'x');
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    for (int i = 0; i < 8; i++) {
        g_autofree char *piece = g_strdup_printf("%s %d\n", filler, i);
        test_machine_serial(machine, piece, -1);
    }
    g_autofree char *path = g_build_filename(machine->dir, "serial.log.1", NULL);
    assert_true(test_await_path(path, true, 40000));
    struct stat log;
    g_autofree char *log_path = g_build_filename(machine->dir, "serial.log", NULL);
    for (int i = 0; i < 200 && stat(log_path, &log) == 0 && log.st_size > 0; i++) {
        poll(NULL, 0, 5);
    }
    assert_int_equal(log.st_size, 0);
    g_autofree char *kept = read_file(machine, "serial.log.1");
    assert_int_equal(strlen(kept), 32768);
    assert_true(g_str_has_suffix(kept, "x 7\n"));
    test_machine_serial(machine, "Linux version 6.1\n",
                        -1); /* and it is read on from the beginning */
    test_machine_await(machine, "stage", "stage", "kernel");
}

static void test_log_that_is_replaced_or_truncated_is_read_on(void **state)
{
    TestMachine *machine = *state;
    g_autofree char *path = g_build_filename(machine->dir, "serial.log", NULL);
    g_autofree char *old = g_build_filename(machine->dir, "serial.log.old", NULL);
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    test_machine_serial(machine, "SeaBIOS (version 1.16)\r\nGRUB loading\r\n", -1);
    assert_stages(machine, "firmware+ firmware-");
    assert_int_equal(truncate(path, 0), 0);
    test_machine_serial(machine, "Linux version 6.1\n", -1);
    test_machine_await(machine, "stage", "stage", "kernel");
    assert_int_equal(rename(path, old), 0);
    test_machine_serial(machine, "Welcome to Debian!\n", -1);
    test_machine_await(machine, "stage", "stage", "init");
}

static void test_log_of_earlier_boots_is_not_read(void **state)
{
    static const char old[] = "Kernel panic - not syncing: earlier\n";
    TestMachine *machine = *state;
    test_machine_serial(machine, old, -1);
    test_machine_set(machine, "log_offset", json_integer(strlen(old)));
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    test_machine_serial(machine, "Linux version 6.1\n", -1);
    test_machine_await(machine, "stage", "stage", "kernel");
    assert_int_equal(test_machine_count(machine, "stall", NULL, NULL), 0);
}

static void test_log_written_before_the_watcher_is_read(void **state)
{
    TestMachine *machine = *state;
    test_machine_serial(machine, "No bootable device.\n", -1);
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    test_machine_await(machine, "stall", "kind", "no-bootable-device");
}

static void test_log_that_is_a_fifo_or_link_is_left_alone(void **state)
{
    TestMachine *machine = *state;
    g_autofree char *path = g_build_filename(machine->dir, "serial.log", NULL);
    assert_int_equal(mkfifo(path, 0600), 0);
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    assert_true(test_machine_watcher(machine) > 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    poll(NULL, 0, 100);
    assert_true(test_machine_watcher(machine) > 0);
    assert_int_equal(unlink(path), 0);
    test_machine_serial(machine, "Linux version 6.1\n", -1);
    test_machine_await(machine, "stage", "stage", "kernel");
}

static void test_real_serial_port_reaches_the_events(void **state)
{
    TestMachine *machine = *state;
    test_machine_boot_sector(machine, "", 0, "\r\nLinux version 6.1\r\n\r\nbox login: ");
    test_machine_start(machine, TEST_QEMU_BOOTS, NULL);
    assert_stages(machine, "firmware+ firmware- kernel+ kernel- init+ init- ready-");
}

/* --- hostile guests
 * ------------------------------------------------------------------------------------- */

static void test_hostile_bytes_end_nothing_and_stay_bounded(void **state)
{
    TestMachine *machine = *state;
    autofd int listener = test_machine_listen_status(machine);
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    autofd int port = accept_status(listener);
    unsigned seed = 7;
    for (int i = 0; i < 200; i++) {
        char bytes[1024];
        for (size_t k = 0; k < sizeof bytes; k++) {
            bytes[k] = (char)(rand_r(&seed) >> 5);
        }
        test_machine_serial(machine, bytes, sizeof bytes);
        send(port, bytes, sizeof bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    g_autofree char *endless = g_strnfill(300000, 'a');
    test_machine_serial(machine, endless, -1);
    for (int i = 0; i < 3000; i++) { /* every line would be an event */
        g_autofree char *line = g_strdup_printf(
            "\n1.0 x - y[DEBUG]: start: modules-final/config-\xff\x1b[2J%d: running\n", i);
        say(port, line);
    }
    say(port, "1.0 x - y[DEBUG]: start: \n1e999 \nhello\ndone\nresult\nresult {\nresult []\nresult "
              "{\"v1\": 3}\n");
    test_machine_has(machine, 2500, "stage", NULL, NULL);
    assert_true(machine->seen->len < 600);
    assert_true(test_machine_watcher(machine) > 0);
    kill(machine->qemu_pid, SIGUSR1);
    test_machine_await(machine, "end", "reason", "crashed"); /* vital, whatever the budget says */
}

static void test_flood_of_reboots_is_bounded(void **state)
{
    static const unsigned char reset[] = {0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee};
    TestMachine *machine = *state;
    autofd int dirfd = open(machine->dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    g_autofree char *filler = g_strnfill(60000, 'x');
    json_auto_t *members = json_pack("{s:s}", "x", filler);
    EventStamp stamp = {.boot = 1};
    for (int i = 0; i < 70; i++) { /* the file is at its limit */
        assert_int_equal(event_line_append(dirfd, true, &stamp, "filler", members), 0);
    }
    test_machine_boot_sector(machine, reset, sizeof reset, NULL);
    test_machine_start(machine, TEST_QEMU_BOOTS, NULL);
    assert_false(test_machine_has(machine, 1500, "reboot", NULL, NULL));
    kill(machine->qemu_pid, SIGKILL);
    test_machine_await(machine, "end", "reason", "killed");
}

#define with_machine(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        with_machine(test_log_above_its_limit_keeps_the_last_half),
        with_machine(test_log_that_is_replaced_or_truncated_is_read_on),
        with_machine(test_log_of_earlier_boots_is_not_read),
        with_machine(test_log_written_before_the_watcher_is_read),
        with_machine(test_log_that_is_a_fifo_or_link_is_left_alone),
        with_machine(test_real_serial_port_reaches_the_events),
        with_machine(test_hostile_bytes_end_nothing_and_stay_bounded),
        with_machine(test_flood_of_reboots_is_bounded),
    };
    int status = test_machine_starter_main(argc, argv);
    return status >= 0 ? status : cmocka_run_group_tests(tests, NULL, NULL);
}
