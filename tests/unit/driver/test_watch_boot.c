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

enum { READY_BOOT = 1, READY_SSH = 2, READY_CLOUD_INIT = 4, READY_AGENT = 8 };

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

/* --- from the console
 * ------------------------------------------------------------------------------ */

#define DEBIAN                                                                                     \
    "SeaBIOS (version 1.16.2-debian-1.16.2-1)\r\nGRUB loading...\r\nWelcome to GRUB!\r\n"          \
    "[    0.000000] Linux version 6.1.0-56-cloud-amd64 (x)\r\n"                                    \
    "\r\nWelcome to \x1b[1mDebian GNU/Linux 12 (bookworm)\x1b[0m!\r\n"
#define CI_STAGE(name)                                                                             \
    "[   16.0] cloud-init[300]: Cloud-init v. 22.4.2 running '" name "' at Sat, 22 Nov\r\n"
#define CI_DONE                                                                                    \
    "[   39.0] cloud-init[500]: Cloud-init v. 22.4.2 finished at Sat. Datasource "                 \
    "DataSourceNoCloud. Up 40 seconds\r\n"

static void test_console_tells_all_stages(void **state)
{
    TestMachine *machine = *state;
    test_machine_set(machine, "ready", json_integer(READY_CLOUD_INIT));
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    test_machine_serial(machine, DEBIAN, -1);
    assert_stages(machine, "firmware+ firmware- kernel+ kernel- init+");
    test_machine_serial(machine, CI_STAGE("init-local") CI_STAGE("init") CI_STAGE("modules:config"),
                        -1);
    test_machine_serial(machine, CI_STAGE("modules:final") CI_DONE "\r\nweb1 login: ", -1);
    assert_stages(
        machine,
        "firmware+ firmware- kernel+ kernel- init+ init- network+ cloud-init+(local) network- "
        "cloud-init+(network) cloud-init+(config) cloud-init+(final) cloud-init- ready-");
    json_t *provision = test_machine_await(machine, "provision", NULL, NULL);
    assert_string_equal(test_event_text(provision, "status"), "done");
    assert_int_equal(json_array_size(json_object_get(provision, "errors")), 0);
}

static void test_login_prompt_is_boot(void **state)
{
    TestMachine *machine = *state;
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    test_machine_serial(machine, "something unheard of\r\nbox login: ", -1);
    assert_stages(machine, "firmware+ firmware- init+ init- ready-");
}

static void test_failed_module_on_the_console_is_a_provision_error(void **state)
{
    TestMachine *machine = *state;
    test_machine_set(machine, "ready", json_integer(READY_BOOT | READY_CLOUD_INIT));
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    test_machine_serial(machine, DEBIAN CI_STAGE("modules:config"), -1);
    test_machine_serial(
        machine,
        "[   30.0] cloud-init[500]: 2026-11-22 10:00:00,000 - util.py[WARNING]: Running module "
        "locale (<module 'cloudinit.config.cc_locale' from '/x'>) failed\r\n" CI_DONE,
        -1);
    json_t *provision = test_machine_await(machine, "provision", "status", "error");
    const json_t *errors = json_object_get(provision, "errors");
    assert_int_equal(json_array_size(errors), 1);
    assert_string_equal(test_event_text(json_array_get(errors, 0), "module"), "locale");
    assert_int_equal(json_array_size(json_object_get(provision, "lines")), 1);
    assert_stages(machine,
                  "firmware+ firmware- kernel+ kernel- init+ init- network- cloud-init+(config) "
                  "cloud-init! ready!");
}

/* --- from the status port
 * ---------------------------------------------------------------------------- */

#define LOG(text) "12.5 2026-11-22 10:00:00,000 - handlers.py[DEBUG]: " text "\n"

static void test_feeder_tells_modules_and_the_console_does_not_interfere(void **state)
{
    TestMachine *machine = *state;
    autofd int listener = test_machine_listen_status(machine);
    test_machine_set(machine, "ready", json_integer(READY_CLOUD_INIT));
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    autofd int port = accept_status(listener);
    test_machine_serial(machine, DEBIAN, -1);
    assert_stages(machine, "firmware+ firmware- kernel+ kernel- init+");
    say(port, "hello 10.5\n" LOG("start: init-local/search-NoCloud: searching for local data"));
    say(port, LOG("finish: init-local/search-NoCloud: SUCCESS: found local data"));
    say(port, LOG("start: init-network/config-users-groups: running config-users-groups"));
    assert_stages(machine,
                  "firmware+ firmware- kernel+ kernel- init+ init- network+ "
                  "cloud-init+(local/search-NoCloud) network- cloud-init+(network/users-groups)");
    test_machine_serial(machine, CI_STAGE("modules:config") CI_DONE,
                        -1); /* it says no more than the stage */
    assert_false(test_machine_has(machine, 300, "provision", NULL, NULL));
    say(port,
        LOG("start: init-local/check-cache: late news") LOG("start: init-network: late news"));
    say(port, LOG("start: modules-final: running modules for final"));
    say(port, "result {\"v1\": {\"datasource\": \"x\", \"errors\": []}}\ndone 40.1 done\n");
    test_machine_await(machine, "provision", "status", "done");
    assert_stages(machine,
                  "firmware+ firmware- kernel+ kernel- init+ init- network+ "
                  "cloud-init+(local/search-NoCloud) network- cloud-init+(network/users-groups) "
                  "cloud-init+(config) cloud-init+(final) cloud-init- ready-");
}

static void test_feeder_errors_name_module_message_and_lines(void **state)
{
    TestMachine *machine = *state;
    autofd int listener = test_machine_listen_status(machine);
    test_machine_set(machine, "ready", json_integer(READY_CLOUD_INIT));
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    autofd int port = accept_status(listener);
    say(port, "hello 10.5\n"
              "30.1 2026-11-22 10:00:00,000 - cc_scripts_user.py[WARNING]: Failed to run module "
              "scripts-user\n" LOG(
                  "finish: modules-final/config-scripts-user: FAIL: running config-scripts-user")
                  LOG("finish: modules-config/config-locale: FAIL: running config-locale"));
    say(port, "result {\"v1\": {\"errors\": [\"('scripts-user', RuntimeError('Runparts: 1 failures "
              "(runcmd)'))\", "
              "\"odd\", 7]}}\ndone 40.1 error\n");
    json_t *provision = test_machine_await(machine, "provision", "status", "error");
    const json_t *errors = json_object_get(provision, "errors");
    assert_int_equal(json_array_size(errors), 3);
    assert_string_equal(test_event_text(json_array_get(errors, 0), "module"), "scripts-user");
    assert_string_equal(test_event_text(json_array_get(errors, 0), "message"),
                        "RuntimeError('Runparts: 1 failures (runcmd)'))");
    assert_string_equal(test_event_text(json_array_get(errors, 1), "module"), "locale");
    assert_string_equal(test_event_text(json_array_get(errors, 2), "module"), "cloud-init");
    assert_int_equal(json_array_size(json_object_get(provision, "lines")), 1);
    assert_true(test_machine_has(machine, 100, "stage", "state", "failed"));
}

static void test_feeder_degraded_is_degraded_and_ready(void **state)
{
    TestMachine *machine = *state;
    autofd int listener = test_machine_listen_status(machine);
    test_machine_set(machine, "ready", json_integer(READY_CLOUD_INIT));
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    autofd int port = accept_status(listener);
    say(port, "hello 1.0\n20.0 2026 - x.py[WARNING]: deprecated\ndone 40.1 degraded\n");
    json_t *provision = test_machine_await(machine, "provision", "status", "degraded");
    assert_int_equal(json_array_size(json_object_get(provision, "lines")), 1);
    test_machine_await(machine, "stage", "stage", "ready");
}

static void test_silent_feeder_is_overruled_by_the_console(void **state)
{
    TestMachine *machine = *state;
    autofd int listener = test_machine_listen_status(machine);
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    autofd int port = accept_status(listener);
    say(port, "hello 1.0\n");
    test_machine_serial(machine, DEBIAN CI_DONE, -1);
    test_machine_await(machine, "provision", "status", "done"); /* 5 s later */
}

static void test_status_port_that_closes_is_connected_again(void **state)
{
    TestMachine *machine = *state;
    autofd int listener = test_machine_listen_status(machine);
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    close(accept_status(listener));
    autofd int port = accept_status(listener);
    say(port, "hello 1.0\ndone 2.0 done\n");
    test_machine_await(machine, "provision", "status", "done");
}

/* --- ssh
 * --------------------------------------------------------------------------------------------- */

static int listen_ssh(TestMachine *machine)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, n), 0);
    assert_int_equal(listen(fd, 4), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &n), 0);
    test_machine_set(machine, "ssh_port", json_integer(ntohs(address.sin_port)));
    return fd;
}

static bool has_caller(int listen_fd, int ms)
{
    struct pollfd in = {.fd = listen_fd, .events = POLLIN};
    return poll(&in, 1, ms) == 1;
}

static void test_ssh_counts_the_banner_only(void **state)
{
    TestMachine *machine = *state;
    autofd int listener = listen_ssh(machine);
    test_machine_set(machine, "ready", json_integer(READY_SSH));
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    assert_false(has_caller(listener, 300)); /* not before init */
    test_machine_serial(machine, DEBIAN, -1);
    close(accept_status(listener)); /* accepted and closed, as slirp does */
    int second = accept_status(listener);
    say(second, "HTTP/1.0 400\r\n");
    close(second);
    assert_int_equal(test_machine_count(machine, "stage", "stage", "ready"), 0);
    int third = accept_status(listener);
    say(third, "SS");
    poll(NULL, 0, 50);
    say(third, "H-2.0-OpenSSH_9.2p1\r\n");
    test_machine_await(machine, "stage", "stage", "ready");
    close(third);
    assert_stages(machine, "firmware+ firmware- kernel+ kernel- init+ ssh+ init- ssh- ready-");
    assert_false(has_caller(listener, 1000)); /* and no more tries */
}

static void test_ssh_word_of_the_feeder_hurries_the_probe(void **state)
{
    TestMachine *machine = *state;
    autofd int ssh = listen_ssh(machine);
    autofd int listener = test_machine_listen_status(machine);
    test_machine_set(machine, "ready", json_integer(READY_SSH));
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    autofd int port = accept_status(listener);
    say(port, "hello 1.0\n");
    for (int i = 0; i < 3; i++) { /* the wait grows: 0.5, 1, 2 s */
        close(accept_status(ssh));
    }
    say(port, "ssh 20.0\n");
    assert_true(has_caller(ssh, 1000));
    autofd int caller = accept_status(ssh);
    say(caller, "SSH-2.0-x\r\n");
    test_machine_await(machine, "stage", "stage", "ready");
}

/* --- the agent: no guest opens the real port here, so a monitor is played
 * ------------------------------ */

static void serve_monitor(int listen_fd, int told_fd)
{
    static const struct {
        const char *asked, *answer;
    } answers[] = {
        {"qmp_capabilities", "{\"return\": {}, \"id\": 1}\n"},
        {"query-status", "{\"return\": {\"status\": \"running\"}, \"id\": 2}\n"},
        {"qom-list",
         "{\"return\": [{\"name\": \"type\", \"type\": \"string\"}, {\"name\": \"ch0\", \"type\": "
         "\"child<virtserialport>\"}, {\"name\": \"ch1\", \"type\": \"child<virtserialport>\"}], "
         "\"id\": 3}\n"},
        {"ch0\",\"property\":\"name", "{\"return\": \"vmrun.status\", \"id\": 6}\n"},
        {"ch1\",\"property\":\"name", "{\"return\": \"org.qemu.guest_agent.0\", \"id\": 7}\n"},
        {"ch1\",\"property\":\"chardev", "{\"return\": \"cc\", \"id\": 4}\n"},
        {"query-chardev",
         "{\"return\": [{\"label\": \"cc\", \"frontend-open\": true}], \"id\": 5}\n"
         "{\"event\": \"VSERPORT_CHANGE\", \"data\": {\"id\": \"ch0\", \"open\": false}}\n"},
    };
    int fd = accept(listen_fd, NULL, NULL);
    char request[8192];
    ssize_t n;
    say(fd, "{\"QMP\": {\"version\": {}}}\n");
    while ((n = recv(fd, request, sizeof request - 1, 0)) > 0) {
        request[n] = '\0';
        g_auto(GStrv) lines = g_strsplit(request, "\n", -1);
        for (char **line = lines; *line; line++) {
            for (size_t i = 0; i < G_N_ELEMENTS(answers); i++) {
                if (strstr(*line, answers[i].asked)) {
                    say(fd, answers[i].answer);
                }
            }
            if (strstr(*line, "query-chardev")) {
                char go;
                ssize_t ignored = read(told_fd, &go, 1);
                (void)ignored;
                say(fd, "{\"event\": \"VSERPORT_CHANGE\", \"data\": {\"id\": \"ch1\", \"open\": "
                        "false}}\n");
            }
        }
    }
}

static void test_agent_is_found_by_its_port_and_followed(void **state)
{
    TestMachine *machine = *state;
    autofd int unused = test_machine_listen_status(machine);
    char *status = g_strdup(json_string_value(json_object_get(machine->config, "status")));
    test_machine_set(machine, "qmp", json_string(status));
    test_machine_set(machine, "status", json_string(""));
    test_machine_set(machine, "ready", json_integer(READY_AGENT));
    g_free(status);
    int told[2];
    assert_int_equal(pipe2(told, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        serve_monitor(unused, told[0]);
        _exit(0);
    }
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    test_machine_await(machine, "agent", "state", "connected");
    test_machine_await(machine, "stage", "stage", "ready");
    assert_int_equal(test_machine_count(machine, "agent", "state", "disconnected"), 0);
    assert_int_equal(write(told[1], "x", 1), 1);
    test_machine_await(machine, "agent", "state", "disconnected");
    close(told[0]);
    close(told[1]);
    kill(pid, SIGKILL);
}

/* --- stalls
 * ------------------------------------------------------------------------------------------- */

static void test_silence_is_told_once_with_the_last_lines(void **state)
{
    TestMachine *machine = *state;
    test_machine_set(machine, "stall_ms", json_integer(300));
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    test_machine_serial(machine, "SeaBIOS (version 1)\r\nlast words", -1);
    json_t *stall = test_machine_await(machine, "stall", "kind", "no-output");
    const json_t *lines = json_object_get(stall, "lines");
    assert_int_equal(json_array_size(lines), 2);
    assert_string_equal(json_string_value(json_array_get(lines, 1)), "last words");
    assert_string_equal(test_event_text(stall, "text"), "the console has been silent for 0 s");
    test_machine_serial(machine, " and more", -1);
    test_machine_has(machine, 800, "stall", NULL, NULL);
    assert_int_equal(test_machine_count(machine, "stall", NULL, NULL), 1);
}

static void test_output_holds_the_silence_off(void **state)
{
    TestMachine *machine = *state;
    test_machine_set(machine, "stall_ms", json_integer(1500));
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    for (int i = 0; i < 20; i++) {
        test_machine_serial(machine, ".", -1);
        assert_false(test_machine_has(machine, 100, "stall", NULL, NULL));
    }
    test_machine_await(machine, "stall", "kind", "no-output");
}

static void test_ready_machine_may_be_silent(void **state)
{
    TestMachine *machine = *state;
    test_machine_set(machine, "stall_ms", json_integer(1000));
    test_machine_set(machine, "ready_ms", json_integer(1500));
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    test_machine_serial(machine, "box login: ", -1);
    test_machine_await(machine, "stage", "stage", "ready");
    assert_false(test_machine_has(machine, 1800, "stall", NULL, NULL));
    test_machine_serial(machine, "\r\n(initramfs) \r\n[ 99.0] Kernel panic - not syncing: oops\r\n",
                        -1);
    test_machine_await(machine, "stall", "kind", "panic");
    assert_int_equal(test_machine_count(machine, "stall", NULL, NULL), 1);
}

static void test_signs_of_a_stall_are_told_once_a_kind(void **state)
{
    static const struct {
        const char *said, *kind;
    } cases[] = {
        {"\r\ngrub> ", "grub"},
        {"\r\nNo bootable device.\r\n", "no-bootable-device"},
        {"\r\n(initramfs) ", "initramfs"},
        {"\r\nYou are in emergency mode. After\r\n", "emergency"},
        {"\r\nUEFI Interactive Shell v2.2\r\n", "uefi-shell"},
        {"\r\nKernel panic - not syncing: x\r\n", "panic"},
    };
    TestMachine *machine = *state;
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
            test_machine_serial(machine, cases[i].said, -1);
            test_machine_await(machine, "stall", "kind", cases[i].kind);
        }
    }
    test_machine_has(machine, 200, "stall", NULL, NULL);
    assert_int_equal(test_machine_count(machine, "stall", NULL, NULL), G_N_ELEMENTS(cases));
}

static void test_limits_of_time_are_stalls(void **state)
{
    TestMachine *machine = *state;
    test_machine_set(machine, "boot_ms", json_integer(400));
    test_machine_set(machine, "ready_ms", json_integer(700));
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    test_machine_await(machine, "stall", "kind", "boot-timeout");
    test_machine_await(machine, "stall", "kind", "ready-timeout");
}

static void test_reset_begins_anew_and_stalls_may_come_again(void **state)
{
    TestMachine *machine = *state;
    test_machine_start(machine, TEST_QEMU_STOPPED, NULL);
    test_machine_serial(machine, "\r\ngrub> ", -1);
    test_machine_await(machine, "stall", "kind", "grub");
    test_machine_serial(machine, "\r\n" DEBIAN, -1);
    test_machine_await(machine, "stage", "stage", "ready");
    test_machine_qmp(machine, "system_reset");
    test_machine_await(machine, "reboot", NULL, NULL);
    test_machine_serial(machine, "\r\ngrub> ", -1);
    assert_stages(machine, "firmware+ firmware- kernel+ kernel- init+ init- ready- firmware+");
    assert_true(test_machine_has(machine, 300, "stall", "kind", "grub"));
    assert_int_equal(test_machine_count(machine, "stall", "kind", "grub"), 2);
}

/* --- taking over
 * ----------------------------------------------------------------------------------------- */

static void test_replacement_goes_on_where_the_first_one_was(void **state)
{
    TestMachine *machine = *state;
    autofd int ssh = listen_ssh(machine);
    test_machine_set(machine, "ready", json_integer(READY_SSH | READY_CLOUD_INIT));
    test_machine_start(machine, TEST_QEMU_NONE, NULL);
    test_machine_serial(machine, DEBIAN CI_STAGE("init-local") CI_STAGE("init") CI_DONE, -1);
    test_machine_await(machine, "provision", NULL, NULL);
    kill(test_machine_watcher(machine), SIGKILL);
    for (int i = 0; i < 400 && test_machine_watcher(machine) != 0; i++) {
        poll(NULL, 0, 5);
    }
    g_autofree char *before = test_machine_stages(machine, 50);
    assert_true(machine_watch_begin(machine->watch_program, machine->dir, NULL));
    while (test_machine_count(machine, "stage", "stage", "ready") == 0) {
        autofd int caller = accept_status(ssh);
        send(caller, "SSH-2.0-x\r\n", 11, MSG_NOSIGNAL);
        test_machine_has(machine, 100, "stage", "stage", "ready");
    }
    g_autofree char *after = test_machine_stages(machine, 200);
    g_autofree char *wanted = g_strdup_printf("%s ssh- ready-", before);
    assert_string_equal(after, wanted);
    assert_int_equal(test_machine_count(machine, "provision", NULL, NULL), 1);
}

#define with_machine(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        with_machine(test_console_tells_all_stages),
        with_machine(test_login_prompt_is_boot),
        with_machine(test_failed_module_on_the_console_is_a_provision_error),
        with_machine(test_feeder_tells_modules_and_the_console_does_not_interfere),
        with_machine(test_feeder_errors_name_module_message_and_lines),
        with_machine(test_feeder_degraded_is_degraded_and_ready),
        with_machine(test_silent_feeder_is_overruled_by_the_console),
        with_machine(test_status_port_that_closes_is_connected_again),
        with_machine(test_ssh_counts_the_banner_only),
        with_machine(test_ssh_word_of_the_feeder_hurries_the_probe),
        with_machine(test_agent_is_found_by_its_port_and_followed),
        with_machine(test_silence_is_told_once_with_the_last_lines),
        with_machine(test_output_holds_the_silence_off),
        with_machine(test_ready_machine_may_be_silent),
        with_machine(test_signs_of_a_stall_are_told_once_a_kind),
        with_machine(test_limits_of_time_are_stalls),
        with_machine(test_reset_begins_anew_and_stalls_may_come_again),
        with_machine(test_replacement_goes_on_where_the_first_one_was),
    };
    int status = test_machine_starter_main(argc, argv);
    return status >= 0 ? status : cmocka_run_group_tests(tests, NULL, NULL);
}
