#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/error.h"
#include "base/fd.h"
#include "driver/qmp.h"

/* --- the real one: a QEMU without a disk, its CPUs stopped ---------------------------------------
 */

typedef struct {
    char dir[64];
    char *path;
    pid_t pid;
} Qemu;

/* Between bind(2) and listen(2) the path is there and refuses: the kernel's list says when it
 * listens (flag SO_ACCEPTCON, 00010000, of proc(5)). */
static bool is_listening(const char *path)
{
    g_autofree char *sockets = NULL;
    assert_true(g_file_get_contents("/proc/net/unix", &sockets, NULL, NULL));
    g_auto(GStrv) lines = g_strsplit(sockets, "\n", -1);
    for (char **line = lines; *line; line++) {
        if (g_str_has_suffix(*line, path) && strstr(*line, " 00010000 ")) {
            return true;
        }
    }
    return false;
}

static void await_listener(const char *path)
{
    for (int i = 0; i < 1000 && !is_listening(path); i++) {
        poll(NULL, 0, 10);
    }
}

static int start_qemu(void **state)
{
    Qemu *qemu = g_new0(Qemu, 1);
    strcpy(qemu->dir, "/tmp/test-qmp-XXXXXX");
    assert_non_null(mkdtemp(qemu->dir));
    qemu->path = g_build_filename(qemu->dir, "q", NULL);
    g_autofree char *monitor = g_strdup_printf("unix:%s,server=on,wait=off", qemu->path);
    qemu->pid = fork();
    if (qemu->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execlp("qemu-system-x86_64", "qemu-system-x86_64", "-accel", "tcg", "-M", "q35", "-display",
               "none", "-nodefaults", "-m", "32", "-S", "-netdev", "user,id=hostnet0", "-device",
               "virtio-net-pci,netdev=hostnet0", "-qmp", monitor, NULL);
        _exit(127);
    }
    await_listener(qemu->path);
    *state = qemu;
    return 0;
}

static int end_qemu(void **state)
{
    Qemu *qemu = *state;
    kill(qemu->pid, SIGKILL);
    waitpid(qemu->pid, NULL, 0);
    unlink(qemu->path);
    rmdir(qemu->dir);
    g_free(qemu->path);
    g_free(qemu);
    return 0;
}

static MachineQmp *open_qemu(const Qemu *qemu)
{
    g_autoptr(GError) error = NULL;
    pid_t pid = 0;
    MachineQmp *qmp = machine_qmp_open(qemu->path, 10000, &pid, &error);
    assert_null(error);
    assert_int_equal(pid, qemu->pid);
    return qmp;
}

/* Is somebody listening there? */
static bool is_open(const char *addr, uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, addr, &address.sin_addr);
    autofd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
}

/* A port that this test listens on. */
static int taken_port(uint16_t *out_port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, n), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &n), 0);
    *out_port = ntohs(address.sin_port);
    return fd;
}

static void test_forward_of_port_0_gives_the_real_port(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(MachineQmp) qmp = open_qemu(*state);
    uint16_t first = 0, second = 0;
    assert_true(machine_qmp_forward(qmp, "hostnet0", "tcp", "127.0.0.1", 0, 22, &first, &error));
    assert_true(machine_qmp_forward(qmp, "hostnet0", "tcp", "127.0.0.1", 0, 22, &second, &error));
    assert_int_not_equal(first, 0);
    assert_int_not_equal(first, second);
    assert_true(is_open("127.0.0.1", first));
    assert_true(is_open("127.0.0.1", second));
}

static void test_forward_of_a_named_port_is_that_port(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(MachineQmp) qmp = open_qemu(*state);
    uint16_t wanted, got = 0;
    int fd = taken_port(&wanted);
    close(fd);
    assert_true(machine_qmp_forward(qmp, "hostnet0", "tcp", "127.0.0.1", wanted, 80, &got, &error));
    assert_int_equal(got, wanted);
}

static void test_forward_of_udp_and_every_address_is_found(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(MachineQmp) qmp = open_qemu(*state);
    uint16_t udp = 0, any = 0;
    assert_true(machine_qmp_forward(qmp, "hostnet0", "udp", "127.0.0.1", 0, 53, &udp, &error));
    assert_true(machine_qmp_forward(qmp, "hostnet0", "tcp", "0.0.0.0", 0, 53, &any, &error));
    assert_int_not_equal(udp, 0);
    assert_int_not_equal(any, 0);
    assert_true(is_open("127.0.0.1", any));
}

static void test_forward_of_a_taken_port_is_exists(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(MachineQmp) qmp = open_qemu(*state);
    uint16_t wanted, got = 7;
    autofd int fd = taken_port(&wanted);
    assert_false(
        machine_qmp_forward(qmp, "hostnet0", "tcp", "127.0.0.1", wanted, 80, &got, &error));
    assert_int_equal(error->code, VM_ERROR_EXISTS);
    assert_int_equal(got, 7);
    g_autofree char *shown = g_strdup_printf("127.0.0.1:%u is taken", wanted);
    assert_non_null(strstr(error->message, shown));
}

static void test_forward_of_a_foreign_address_is_host(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(MachineQmp) qmp = open_qemu(*state);
    assert_false(machine_qmp_forward(qmp, "hostnet0", "tcp", "192.0.2.1", 0, 80, NULL, &error));
    assert_int_equal(error->code, VM_ERROR_HOST);
}

static void test_forward_of_no_netdev_is_not_found(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(MachineQmp) qmp = open_qemu(*state);
    assert_false(machine_qmp_forward(qmp, "hostnet7", "tcp", "127.0.0.1", 0, 80, NULL, &error));
    assert_int_equal(error->code, VM_ERROR_NOT_FOUND);
}

static void test_forward_of_words_that_are_none_never_reaches_qemu(void **state)
{
    static const struct {
        const char *netdev, *proto, *addr;
        int code;
    } cases[] = {
        {"hostnet0", "sctp", "127.0.0.1", VM_ERROR_PORT},
        {"hostnet0", "tcp", "localhost", VM_ERROR_PORT},
        {"hostnet0", "tcp", "127.0.0.1:1-:2\nquit", VM_ERROR_PORT},
        {"hostnet0", "tcp", "::1", VM_ERROR_PORT},
        {"hostnet0 tcp::1-:2\nquit", "tcp", "127.0.0.1", VM_ERROR_INTERNAL},
    };
    g_autoptr(MachineQmp) qmp = open_qemu(*state);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        assert_false(machine_qmp_forward(qmp, cases[i].netdev, cases[i].proto, cases[i].addr, 0, 80,
                                         NULL, &error));
        assert_int_equal(error->code, cases[i].code);
    }
    g_autoptr(GError) error = NULL; /* and QEMU is still there */
    assert_true(machine_qmp_forward(qmp, "hostnet0", "tcp", "127.0.0.1", 0, 80, NULL, &error));
}

static void test_open_while_another_client_talks_is_timeout(void **state)
{
    Qemu *qemu = *state;
    g_autoptr(GError) error = NULL;
    MachineQmp *first = open_qemu(qemu);
    assert_null(machine_qmp_open(qemu->path, 300, NULL, &error));
    assert_int_equal(error->code, VM_ERROR_TIMEOUT);
    machine_qmp_close(first);
    MachineQmp *again = open_qemu(qemu);
    machine_qmp_close(again);
}

static void test_forward_when_qemu_has_ended_is_host(void **state)
{
    Qemu *qemu = *state;
    g_autoptr(GError) error = NULL;
    g_autoptr(MachineQmp) qmp = open_qemu(qemu);
    kill(qemu->pid, SIGKILL);
    assert_false(machine_qmp_forward(qmp, "hostnet0", "tcp", "127.0.0.1", 0, 22, NULL, &error));
    assert_int_equal(error->code, VM_ERROR_HOST);
    assert_null(machine_qmp_open(qemu->path, 300, NULL, NULL));
}

/* --- what the real one can't be made to do: a monitor that says what the test says ---------------
 */

typedef struct {
    const char *greeting; /* sent at once */
    const char *answer;   /* to every request */
    size_t n_flood;       /* bytes without a line's end, sent after the greeting */
} Script;

static void play(int listen_fd, const Script *script)
{
    char request[4096];
    int fd = accept(listen_fd, NULL, NULL);
    send(fd, script->greeting, strlen(script->greeting), MSG_NOSIGNAL);
    for (size_t i = 0; i < script->n_flood; i += sizeof request) {
        memset(request, '[', sizeof request);
        if (send(fd, request, sizeof request, MSG_NOSIGNAL) < 0) {
            return;
        }
    }
    while (recv(fd, request, sizeof request, 0) > 0) {
        send(fd, script->answer, strlen(script->answer), MSG_NOSIGNAL);
    }
}

/* What machine_qmp_open says about such a monitor; 0: it is fine. */
static int open_script(const Script *script, int timeout_ms)
{
    g_autoptr(GError) error = NULL;
    char dir[] = "/tmp/test-qmp-XXXXXX";
    assert_non_null(mkdtemp(dir));
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/q", dir);
    autofd int listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listen_fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listen_fd, 1), 0);
    pid_t pid = fork();
    if (pid == 0) {
        play(listen_fd, script);
        _exit(0);
    }
    g_autoptr(MachineQmp) qmp = machine_qmp_open(address.sun_path, timeout_ms, NULL, &error);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    unlink(address.sun_path);
    rmdir(dir);
    return qmp ? 0 : error->code;
}

#define GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\n"

static void test_open_of_a_silent_monitor_is_timeout(void **state)
{
    (void)state;
    const Script silent = {"", "", 0};
    const Script deaf = {GREETING, "", 0};
    assert_int_equal(open_script(&silent, 200), VM_ERROR_TIMEOUT);
    assert_int_equal(open_script(&deaf, 200), VM_ERROR_TIMEOUT);
}

static void test_open_reads_over_events_and_rubbish(void **state)
{
    (void)state;
    const Script noisy = {GREETING, "\n[]\nnonsense\n{\"event\": \"STOP\"}\n{\"return\": {}}\n", 0};
    assert_int_equal(open_script(&noisy, 5000), 0);
}

static void test_open_of_something_else_is_host(void **state)
{
    (void)state;
    const Script other = {"{\"hello\": 1}\n", "", 0};
    const Script error = {GREETING,
                          "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\n", 0};
    const Script bare_error = {GREETING, "{\"error\": 7}\n", 0};
    assert_int_equal(open_script(&other, 5000), VM_ERROR_HOST);
    assert_int_equal(open_script(&error, 5000), VM_ERROR_HOST);
    assert_int_equal(open_script(&bare_error, 5000), VM_ERROR_HOST);
}

static void test_open_of_an_endless_message_is_bounded(void **state)
{
    (void)state;
    const Script flood = {"", "", 64 * 1024 * 1024};
    assert_int_equal(open_script(&flood, 1000), VM_ERROR_TIMEOUT);
}

static void test_open_of_no_socket_says_why(void **state)
{
    (void)state;
    g_autofree char *longer = g_strnfill(200, 'x');
    g_autoptr(GError) missing = NULL, too_long = NULL;
    assert_null(machine_qmp_open("/tmp/test-qmp-none", 100, NULL, &missing));
    assert_int_equal(missing->code, VM_ERROR_NOT_FOUND);
    assert_null(machine_qmp_open(longer, 100, NULL, &too_long));
    assert_int_equal(too_long->code, VM_ERROR_PATH);
}

#define with_qemu(test) cmocka_unit_test_setup_teardown(test, start_qemu, end_qemu)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_qemu(test_forward_of_port_0_gives_the_real_port),
        with_qemu(test_forward_of_a_named_port_is_that_port),
        with_qemu(test_forward_of_udp_and_every_address_is_found),
        with_qemu(test_forward_of_a_taken_port_is_exists),
        with_qemu(test_forward_of_a_foreign_address_is_host),
        with_qemu(test_forward_of_no_netdev_is_not_found),
        with_qemu(test_forward_of_words_that_are_none_never_reaches_qemu),
        with_qemu(test_open_while_another_client_talks_is_timeout),
        with_qemu(test_forward_when_qemu_has_ended_is_host),
        cmocka_unit_test(test_open_of_a_silent_monitor_is_timeout),
        cmocka_unit_test(test_open_reads_over_events_and_rubbish),
        cmocka_unit_test(test_open_of_something_else_is_host),
        cmocka_unit_test(test_open_of_an_endless_message_is_bounded),
        cmocka_unit_test(test_open_of_no_socket_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
