#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <utmp.h>
#include <unistd.h>
#include <cmocka.h>
#include <glib.h>
#include <glib/gstdio.h>

#include "base/error.h"
#include "cli/console.h"
#include "cli/say.h"

/*
 * The console with both its ends played by the test: a socket in QEMU's place and a pseudo terminal
 * in the person's. The side under test is a child process, so that signals and the terminal are
 * real.
 */
enum { WAIT_MS = 10000 };

typedef struct {
    char *dir;
    int listen_fd; /* in QEMU's place */
    int guest_fd;  /* the connection, once accepted */
    MachineView view;
} Place;

typedef struct {
    pid_t pid;
    int master_fd; /* the person's side; -1: pipes are used */
    int in_fd, out_fd;
    int slave_fd; /* kept to look at the terminal's settings */
    struct termios before;
} Person;

static void place_open(Place *place)
{
    *place = (Place){.dir = g_dir_make_tmp("vm-cli-console-XXXXXX", NULL), .guest_fd = -1};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/c", place->dir);
    place->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(place->listen_fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(place->listen_fd, 5), 0);
    place->view = (MachineView){
        .name = (char *)"web", .dir = place->dir, .console_socket = g_strdup(address.sun_path)};
}

static void place_close(Place *place)
{
    static const char *const files[] = {"c", "console.lock", "console.force"};
    close(place->listen_fd);
    if (place->guest_fd >= 0) {
        close(place->guest_fd);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = g_build_filename(place->dir, files[i], NULL);
        g_unlink(path);
    }
    assert_int_equal(g_rmdir(place->dir), 0);
    g_free(place->view.console_socket);
    g_free(place->dir);
}

/* In the child: attaches and ends with 10 + how it ended, or the error's exit status. */
static _Noreturn void attach(const Place *place, bool is_forced)
{
    CmdContext context = {.is_quiet = false};
    CmdConsoleEnd end = CMD_CONSOLE_LEFT;
    g_autoptr(GError) error = NULL;
    if (!cmd_console_attach(&context, &place->view, is_forced, &end, &error)) {
        cmd_say_error(error);
        _exit(base_error_row_of(error)->exit_status);
    }
    fflush(stdout);
    _exit(10 + (int)end);
}

static void sit_at_terminal(Person *person, const Place *place, bool is_forced)
{
    assert_int_equal(openpty(&person->master_fd, &person->slave_fd, NULL, NULL, NULL), 0);
    assert_int_equal(tcgetattr(person->slave_fd, &person->before), 0);
    person->pid = fork();
    if (!person->pid) {
        close(person->master_fd);
        login_tty(person->slave_fd);
        attach(place, is_forced);
    }
}

static void sit_at_pipes(Person *person, const Place *place)
{
    int in[2], out[2];
    assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC), 0);
    *person = (Person){.master_fd = -1, .slave_fd = -1, .in_fd = in[1], .out_fd = out[0]};
    person->pid = fork();
    if (!person->pid) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        close(in[1]);
        attach(place, false);
    }
    close(in[0]);
    close(out[1]);
}

/* Reads until `part` was seen; fails when it does not come. */
static void expect(int fd, const char *part)
{
    g_autoptr(GString) seen = g_string_new(NULL);
    while (!strstr(seen->str, part)) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        char bytes[512];
        ssize_t n = poll(&poll_fd, 1, WAIT_MS) > 0 ? read(fd, bytes, sizeof bytes) : 0;
        if (n <= 0) {
            fail_msg("'%s' did not come; seen: '%s'", part, seen->str);
        }
        g_string_append_len(seen, bytes, n);
    }
}

static void guest_accepts(Place *place)
{
    struct pollfd poll_fd = {.fd = place->listen_fd, .events = POLLIN};
    assert_int_equal(poll(&poll_fd, 1, WAIT_MS), 1);
    place->guest_fd = accept4(place->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    assert_true(place->guest_fd >= 0);
}

static void say(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static int wait_for(Person *person)
{
    int status = 0;
    assert_int_equal(waitpid(person->pid, &status, 0), person->pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void expect_restored(const Person *person)
{
    struct termios after;
    assert_int_equal(tcgetattr(person->slave_fd, &after), 0);
    assert_int_equal(after.c_lflag, person->before.c_lflag);
    assert_int_equal(after.c_iflag, person->before.c_iflag);
    assert_int_equal(after.c_oflag, person->before.c_oflag);
}

static void stand_up(Person *person)
{
    close(person->master_fd);
    close(person->slave_fd);
}

static void talk(Place *place, Person *person)
{
    expect(person->master_fd, "Ctrl-] leaves it");
    guest_accepts(place);
    say(place->guest_fd, "\033[1mlogin: ");
    expect(person->master_fd, "\033[1mlogin: ");
    say(person->master_fd, "root\003\r"); /* Ctrl-C is the guest's */
    expect(place->guest_fd, "root\003\r");
    struct termios raw;
    assert_int_equal(tcgetattr(person->slave_fd, &raw), 0);
    assert_int_equal(raw.c_lflag & (ICANON | ECHO | ISIG), 0);
}

static void test_terminal_when_left_then_restored(void **state)
{
    (void)state;
    Place place;
    Person person;
    place_open(&place);
    sit_at_terminal(&person, &place, false);
    talk(&place, &person);
    say(person.master_fd, "bye\035ignored");
    expect(place.guest_fd, "bye");
    expect(person.master_fd, "still runs");
    assert_int_equal(wait_for(&person), 10 + CMD_CONSOLE_LEFT);
    expect_restored(&person);
    stand_up(&person);
    place_close(&place);
}

static void test_terminal_when_signalled_then_restored(void **state)
{
    (void)state;
    static const int signals[] = {SIGTERM, SIGHUP, SIGINT, SIGQUIT};
    for (gsize i = 0; i < G_N_ELEMENTS(signals); i++) {
        Place place;
        Person person;
        place_open(&place);
        sit_at_terminal(&person, &place, false);
        talk(&place, &person);
        kill(person.pid, signals[i]);
        assert_int_equal(wait_for(&person), 10 + CMD_CONSOLE_SIGNAL);
        expect_restored(&person);
        stand_up(&person);
        place_close(&place);
    }
}

static void test_terminal_when_machine_ends_then_restored(void **state)
{
    (void)state;
    Place place;
    Person person;
    place_open(&place);
    sit_at_terminal(&person, &place, false);
    talk(&place, &person);
    close(place.guest_fd);
    place.guest_fd = -1;
    expect(person.master_fd, "the machine has ended");
    assert_int_equal(wait_for(&person), 10 + CMD_CONSOLE_ENDED);
    expect_restored(&person);
    stand_up(&person);
    place_close(&place);
}

/* A guest that reads nothing can't keep anybody: the socket's buffers are full long before 4 MiB.
 */
static void test_terminal_when_guest_is_deaf_then_can_be_left(void **state)
{
    (void)state;
    Place place;
    Person person;
    place_open(&place);
    sit_at_terminal(&person, &place, false);
    talk(&place, &person);
    g_autofree char *much = g_strnfill(4096, 'x');
    for (int i = 0; i < 1024; i++) {
        say(person.master_fd, much);
    }
    say(person.master_fd, "\035");
    expect(person.master_fd, "still runs");
    assert_int_equal(wait_for(&person), 10 + CMD_CONSOLE_LEFT);
    expect_restored(&person);
    stand_up(&person);
    place_close(&place);
}

static void test_second_when_first_is_there_then_refused_or_takes_over(void **state)
{
    (void)state;
    Place place;
    Person first, second, third;
    place_open(&place);
    sit_at_terminal(&first, &place, false);
    talk(&place, &first);
    sit_at_terminal(&second, &place, false);
    expect(second.master_fd, "take it over with --force");
    assert_int_equal(wait_for(&second), 6);
    close(place.guest_fd);
    place.guest_fd = -1;
    expect(first.master_fd, "has ended");
    wait_for(&first);
    stand_up(&first);
    sit_at_terminal(&first, &place, false);
    talk(&place, &first);
    int first_guest_fd = place.guest_fd;
    sit_at_terminal(&third, &place, true);
    expect(first.master_fd, "taken over by somebody else");
    assert_int_equal(wait_for(&first), 10 + CMD_CONSOLE_TAKEN);
    expect_restored(&first);
    close(first_guest_fd);
    talk(&place, &third);
    say(third.master_fd, "\035");
    assert_int_equal(wait_for(&third), 10 + CMD_CONSOLE_LEFT);
    stand_up(&first);
    stand_up(&second);
    stand_up(&third);
    place_close(&place);
}

static void test_pipes_when_used_then_escaped_and_end_of_input_leaves(void **state)
{
    (void)state;
    Place place;
    Person person;
    place_open(&place);
    sit_at_pipes(&person, &place);
    guest_accepts(&place);
    say(place.guest_fd, "\033[1mlogin\033[0m: \007\r\n");
    expect(person.out_fd, "login: \\x07\n");
    say(person.in_fd, "data \035 more\n"); /* Ctrl-] is a byte as any other here */
    expect(place.guest_fd, "data \035 more\n");
    close(person.in_fd);
    assert_int_equal(wait_for(&person), 10 + CMD_CONSOLE_LEFT);
    close(person.out_fd);
    place_close(&place);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_terminal_when_left_then_restored),
        cmocka_unit_test(test_terminal_when_signalled_then_restored),
        cmocka_unit_test(test_terminal_when_machine_ends_then_restored),
        cmocka_unit_test(test_terminal_when_guest_is_deaf_then_can_be_left),
        cmocka_unit_test(test_second_when_first_is_there_then_refused_or_takes_over),
        cmocka_unit_test(test_pipes_when_used_then_escaped_and_end_of_input_leaves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
