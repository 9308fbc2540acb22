#include "helper_watch.h"

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
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/fd.h"
#include "base/file.h"
#include "base/child.h"
#include "base/dir.h"
#include "base/proc.h"
#include "driver/event_line.h"
#include "driver/watch.h"

#define AWAIT_MS 40000

/* --- the starter's part, below the watcher
 * -------------------------------------------------------- */

/* QEMU as libvirt runs it: it daemonizes itself, so its parent becomes the nearest subreaper. */
static pid_t run_qemu(const char *dir, bool is_running, char **more)
{
    g_autofree char *qmp = g_strdup_printf("unix:%s/q,server=on,wait=off", dir);
    g_autofree char *control = g_strdup_printf("unix:%s/t,server=on,wait=off", dir);
    g_autofree char *serial = g_strdup_printf("file,id=s0,path=%s/serial.log,append=on", dir);
    g_autofree char *agent = g_strdup_printf("socket,id=a0,path=%s/a,server=on,wait=off", dir);
    g_autofree char *drive = g_strdup_printf("if=none,id=d0,format=raw,file=%s/boot.img", dir);
    g_autofree char *pid_file = g_strdup_printf("%s/pid", dir);
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    const char *const common[] = {
        "qemu-system-x86_64",
        "-accel",
        "tcg",
        "-M",
        "q35,graphics=off",
        "-m",
        "32",
        "-display",
        "none",
        "-nodefaults",
        "-daemonize",
        "-pidfile",
        pid_file,
        "-qmp",
        qmp,
        "-qmp",
        control,
        "-device",
        "virtio-serial-pci",
        "-chardev",
        agent,
        "-device",
        "virtserialport,chardev=a0,name=org.qemu.guest_agent.0,id=channel0"};
    const char *const boots[] = {"-drive",   drive,  "-device", "virtio-blk-pci,drive=d0",
                                 "-chardev", serial, "-serial", "chardev:s0"};
    for (size_t i = 0; i < G_N_ELEMENTS(common); i++) {
        g_ptr_array_add(argv, (char *)common[i]);
    }
    /* a test that brings its own disk gets no other */
    size_t first = is_running && *more && strcmp(*more, "-blockdev") == 0 ? 4 : 0;
    for (size_t i = first; is_running && i < G_N_ELEMENTS(boots); i++) {
        g_ptr_array_add(argv, (char *)boots[i]);
    }
    if (!is_running) {
        g_ptr_array_add(argv, "-S");
    }
    for (; *more; more++) {
        g_ptr_array_add(argv, *more);
    }
    g_ptr_array_add(argv, NULL);
    BaseChild child = {
        .argv = (const char *const *)argv->pdata, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = 2};
    g_autoptr(GError) error = NULL;
    if (!base_child_run(&child, NULL, NULL, &error)) {
        fprintf(stderr, "qemu: %s\n", error->message);
        return 0;
    }
    g_autofree char *text = base_file_read(AT_FDCWD, pid_file, 32, NULL, NULL);
    return text ? atoi(text) : 0;
}

static void exit_7(int number)
{
    (void)number;
    _exit(7);
}

static pid_t run_sleeper(void)
{
    int report[2];
    pid_t pid = 0;
    if (pipe2(report, O_CLOEXEC) != 0) {
        return 0;
    }
    pid_t middle = fork();
    if (middle == 0) {
        signal(SIGUSR1, exit_7); /* before anybody knows the pid */
        pid = fork();
        if (pid != 0) {
            ssize_t ignored = write(report[1], &pid, sizeof pid);
            (void)ignored;
            _exit(0);
        }
        setsid();
        close_range(0, ~0U, 0);
        for (;;) {
            pause();
        }
    }
    close(report[1]);
    if (read(report[0], &pid, sizeof pid) != sizeof pid) {
        pid = 0;
    }
    close(report[0]);
    return pid;
}

static bool write_config(const char *dir, json_t *config)
{
    autofd int dirfd = open(dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    char *text = json_dumps(config, 0);
    bool is_ok = base_file_write_whole(dirfd, "watch.json", text, strlen(text), 0600, NULL);
    free(text);
    return is_ok;
}

/* argv: PROGRAM starter DIR WATCHER KIND MORE... */
static int starter(char **argv)
{
    g_autoptr(GError) error = NULL;
    const char *dir = argv[2];
    g_autofree char *path = g_build_filename(dir, "watch.json", NULL);
    json_auto_t *config = json_load_file(path, 0, NULL);
    TestQemu kind = (TestQemu)atoi(argv[4]);
    pid_t pid =
        kind == TEST_QEMU_NONE ? run_sleeper() : run_qemu(dir, kind == TEST_QEMU_BOOTS, argv + 5);
    if (pid <= 0 || !config) {
        printf("cannot start\n");
        return 1;
    }
    json_object_set_new(config, "qemu_pid", json_integer(pid));
    json_object_set_new(config, "qemu_start", json_integer((json_int_t)base_proc_start_ticks(pid)));
    const char *beside =
        json_string_value(json_object_get(config, "beside")); /* a second machine */
    if (!write_config(dir, config) || !machine_watch_begin(argv[3], dir, &error) ||
        (beside &&
         (!write_config(beside, config) || !machine_watch_begin(argv[3], beside, &error)))) {
        printf("%s\n", error ? error->message : "cannot write watch.json");
        return 1;
    }
    printf("started %d\n", pid);
    return 0;
}

int test_machine_starter_main(int argc, char **argv)
{
    if (argc >= 2 && strcmp(argv[1], "silent") == 0) {
        return 3;
    }
    if (argc >= 2 && strcmp(argv[1], "quit") == 0) {
        int fd = atoi(getenv("VM_RUN_WATCH_FD"));
        char byte;
        ssize_t n = write(fd, "quit\n", 5);
        return n == 5 && read(fd, &byte, 1) == 0 ? 0 : 1; /* the watcher has ended */
    }
    return argc >= 5 && strcmp(argv[1], "starter") == 0 ? starter(argv) : -1;
}

/* --- the test's part
 * ------------------------------------------------------------------------------ */

TestMachine *test_machine_new(void)
{
    TestMachine *machine = g_new0(TestMachine, 1);
    strcpy(machine->dir, "/tmp/test-watch-XXXXXX");
    assert_non_null(mkdtemp(machine->dir));
    machine->watch_program = g_build_filename(TEST_BUILD_DIR, "vm-run-watch", NULL);
    machine->seen = g_ptr_array_new_with_free_func((GDestroyNotify)json_decref);
    machine->starter_out = -1;
    g_autofree char *qmp = g_build_filename(machine->dir, "q", NULL);
    g_autofree char *log = g_build_filename(machine->dir, "serial.log", NULL);
    g_autofree char *ended = g_build_filename(machine->dir, "ended", NULL);
    machine->config =
        json_pack("{s:i, s:s, s:i, s:I, s:s, s:s, s:i, s:s, s:b, s:s, s:i, s:b, s:b, s:s, s:i, "
                  "s:i, s:i, s:i, s:[s, s]}",
                  "v", 1, "name", "m", "boot", 1, "start_ms", (json_int_t)event_clock_ms(), "qmp",
                  qmp, "serial_log", log, "log_limit_bytes", 65536, "status", "", "agent", 1,
                  "ssh_addr", "127.0.0.1", "ssh_port", 0, "has_seed", 1, "wants_cloud_init", 1,
                  "firmware", "bios", "stall_ms", 0, "boot_ms", 0, "ready_ms", 0, "ready", 1,
                  "end_command", "/usr/bin/touch", ended);
    assert_non_null(machine->config);
    return machine;
}

void test_machine_set(TestMachine *machine, const char *member, json_t *value)
{
    assert_int_equal(json_object_set_new(machine->config, member, value), 0);
}

void test_machine_boot_sector(TestMachine *machine, const void *code, size_t n, const char *text)
{
    /* cli (or SeaBIOS goes on writing what it has left); cld; xor ax,ax; mov ds,ax; mov
     * si,7c00h+text; mov dx,3f8h; next: lodsb; test al,al; jz code; out dx,al; jmp next */
    static const unsigned char print[] = {0xfa, 0xfc, 0x31, 0xc0, 0x8e, 0xd8, 0xbe,
                                          0x00, 0x7d, 0xba, 0xf8, 0x03, 0xac, 0x84,
                                          0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8};
    static const unsigned char halt[] = {0xf4, 0xeb, 0xfd};
    unsigned char sector[512] = {0};
    assert_true(n <= 200 && (!text || strlen(text) < 250));
    memcpy(sector, print, sizeof print);
    memcpy(sector + sizeof print, code, n);
    memcpy(sector + sizeof print + n, halt, sizeof halt);
    strcpy((char *)sector + 256, text ? text : "");
    sector[510] = 0x55;
    sector[511] = 0xaa;
    g_autofree char *path = g_build_filename(machine->dir, "boot.img", NULL);
    autofd int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, sector, sizeof sector), sizeof sector);
    assert_int_equal(ftruncate(fd, 1024 * 1024), 0); /* SeaBIOS boots no smaller disk */
}

static char *read_line(int fd)
{
    GString *line = g_string_new(NULL);
    char c;
    while (read(fd, &c, 1) == 1 && c != '\n') {
        g_string_append_c(line, c);
    }
    return g_string_free(line, FALSE);
}

void test_machine_start(TestMachine *machine, TestQemu kind, const char *const *more)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    const char *const words[] = {"/proc/self/exe", "starter", machine->dir, machine->watch_program};
    g_autofree char *self = g_file_read_link(words[0], NULL);
    g_ptr_array_add(argv, g_strdup(self));
    for (size_t i = 1; i < G_N_ELEMENTS(words); i++) {
        g_ptr_array_add(argv, g_strdup(words[i]));
    }
    g_ptr_array_add(argv, g_strdup_printf("%d", kind));
    for (; more && *more; more++) {
        g_ptr_array_add(argv, g_strdup(*more));
    }
    g_ptr_array_add(argv, NULL);
    int out[2];
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_true(write_config(machine->dir, machine->config));
    autofd int dirfd = open(machine->dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    assert_true(
        machine_event_append(dirfd, "start", 1, event_clock_ms(), "{\"command\":\"run\"}", &error));
    machine->follower = machine_follower_new(machine->dir, 0, &error);
    assert_non_null(machine->follower);
    pid_t pid = machine_watch_exec(machine->watch_program, (const char *const *)argv->pdata, -1,
                                   out[1], 2, NULL, &error);
    assert_true(pid > 0);
    close(out[1]);
    g_autofree char *said = read_line(out[0]);
    if (sscanf(said, "started %d", &machine->qemu_pid) != 1) {
        fail_msg("the starter says: %s", said);
    }
    assert_int_equal(test_machine_watcher(machine), pid);
    machine->starter_out = out[0];
}

pid_t test_machine_watcher(const TestMachine *machine)
{
    return machine_watch_pid(machine->dir);
}

void test_machine_free(TestMachine *machine)
{
    machine_watch_end(machine->dir, NULL);
    if (machine->qemu_pid > 0) {
        kill(machine->qemu_pid, SIGKILL);
    }
    machine_follower_free(machine->follower);
    g_ptr_array_free(machine->seen, TRUE);
    base_fd_close(&machine->starter_out);
    json_decref(machine->config);
    base_dir_remove_tree(AT_FDCWD, machine->dir, NULL);
    g_free(machine->watch_program);
    g_free(machine);
}

void test_machine_qmp(TestMachine *machine, const char *command)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/t", machine->dir);
    autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    g_autofree char *greeting = read_line(fd);
    g_autofree char *text =
        g_strdup_printf("{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"%s\"}\n", command);
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
    for (int n_answers = 0; n_answers < 2;) {
        g_autofree char *line = read_line(fd);
        assert_null(strstr(line, "\"error\""));
        n_answers += !*line || strstr(line, "\"return\"") ? 1 : 0;
    }
}

/* --- events
 * --------------------------------------------------------------------------------------- */

const char *test_event_text(const json_t *event, const char *member)
{
    const char *text = json_string_value(json_object_get(event, member));
    return text ? text : "";
}

static bool is_it(const json_t *event, const char *type, const char *member, const char *value)
{
    return strcmp(test_event_text(event, "type"), type) == 0 &&
           (!member || strcmp(test_event_text(event, member), value) == 0);
}

/* Reads one more event, waiting until the deadline; false: none. */
static bool read_event(TestMachine *machine, gint64 deadline_us)
{
    for (;;) {
        bool is_gone;
        g_autofree char *line = machine_follower_next(machine->follower, &is_gone);
        if (line) {
            json_t *event = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
            assert_non_null(event);
            g_ptr_array_add(machine->seen, event);
            return true;
        }
        struct pollfd in = {.fd = machine_follower_fd(machine->follower), .events = POLLIN};
        gint64 left_us = deadline_us - g_get_monotonic_time();
        if (is_gone || left_us <= 0 || poll(&in, 1, (int)(left_us / 1000) + 1) == 0) {
            return false;
        }
    }
}

json_t *test_machine_await(TestMachine *machine, const char *type, const char *member,
                           const char *value)
{
    gint64 deadline_us = g_get_monotonic_time() + AWAIT_MS * 1000;
    guint next = 0;
    for (;;) {
        for (; next < machine->seen->len; next++) {
            if (is_it(machine->seen->pdata[next], type, member, value)) {
                return machine->seen->pdata[next];
            }
        }
        if (!read_event(machine, deadline_us)) {
            for (guint i = 0; i < machine->seen->len; i++) {
                char *text = json_dumps(machine->seen->pdata[i], JSON_COMPACT);
                print_message("seen: %s\n", text);
                free(text);
            }
            fail_msg("no event %s %s=%s", type, member ? member : "", value ? value : "");
        }
    }
}

unsigned test_machine_count(TestMachine *machine, const char *type, const char *member,
                            const char *value)
{
    unsigned n = 0;
    for (guint i = 0; i < machine->seen->len; i++) {
        n += is_it(machine->seen->pdata[i], type, member, value) ? 1 : 0;
    }
    return n;
}

bool test_machine_has(TestMachine *machine, int ms, const char *type, const char *member,
                      const char *value)
{
    gint64 deadline_us = g_get_monotonic_time() + (gint64)ms * 1000;
    while (read_event(machine, deadline_us)) {
        continue;
    }
    return test_machine_count(machine, type, member, value) > 0;
}

char *test_machine_stages(TestMachine *machine, int ms)
{
    test_machine_has(machine, ms, "stage", NULL, NULL);
    GString *stages = g_string_new(NULL);
    for (guint i = 0; i < machine->seen->len; i++) {
        const json_t *event = machine->seen->pdata[i];
        if (!is_it(event, "stage", NULL, NULL)) {
            continue;
        }
        const char *state = test_event_text(event, "state");
        const char *detail = test_event_text(event, "detail");
        g_string_append_printf(stages, "%s%s%c", stages->len ? " " : "",
                               test_event_text(event, "stage"),
                               strcmp(state, "begin") == 0  ? '+'
                               : strcmp(state, "done") == 0 ? '-'
                                                            : '!');
        if (*detail) {
            g_string_append_printf(stages, "(%s)", detail);
        }
    }
    return g_string_free(stages, FALSE);
}

void test_machine_serial(TestMachine *machine, const char *bytes, ssize_t n)
{
    g_autofree char *path = g_build_filename(machine->dir, "serial.log", NULL);
    autofd int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    size_t n_bytes = n < 0 ? strlen(bytes) : (size_t)n;
    assert_int_equal(write(fd, bytes, n_bytes), n_bytes);
}

int test_machine_listen_status(TestMachine *machine)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/s", machine->dir);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 1), 0);
    test_machine_set(machine, "status", json_string(address.sun_path));
    return fd;
}

bool test_await_gone(pid_t pid, int ms)
{
    g_autofree char *path = g_strdup_printf("/proc/%d", pid);
    return test_await_path(path, false, ms);
}

bool test_await_path(const char *path, bool is_there, int ms)
{
    for (int i = 0; i < ms / 5; i++) {
        if ((access(path, F_OK) == 0) == is_there) {
            return true;
        }
        poll(NULL, 0, 5);
    }
    return (access(path, F_OK) == 0) == is_there;
}
