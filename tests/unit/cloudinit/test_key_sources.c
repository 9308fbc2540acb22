#include "cloudinit/keys.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include "base/fd.h"
#include "tests/unit/cloudinit/scratch.h"

#define KEY_A "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJi0WTMn4XzmjZWJJ4UJfxhE6fC6TR6zsyLqmjHbVBkK"

static char *resolve(const char *const *options, const char *home, GPtrArray **out_lines)
{
    g_autoptr(BaseReport) report = base_report_new();
    g_autoptr(MachineSpec) spec = spec_machine_new();
    for (; *options; options++) {
        g_ptr_array_add(spec->ssh_keys, g_strdup(*options));
    }
    *out_lines = seed_keys_resolve(spec, home, report);
    GString *all = g_string_new(NULL);
    for (unsigned i = 0; i < base_report_n_items(report); i++) {
        g_autofree char *line = base_report_item_text(base_report_item(report, i));
        g_string_append_printf(all, "%s\n", line);
    }
    return g_string_free(all, FALSE);
}
#define RESOLVE(home, out, ...) resolve((const char *const[]){__VA_ARGS__, NULL}, home, out)

static void test_sources_when_literals_and_files_then_each_key_once(void **state)
{
    g_autofree char *path =
        scratch_write(state, "keys.pub", "# mine\n\n" KEY_A " me@home\r\n  " KEY_A " again\n");
    g_autoptr(GPtrArray) lines = NULL;
    g_autofree char *said = RESOLVE(*state, &lines, path, "~/keys.pub", KEY_A "\tagain");
    assert_string_equal(said, "");
    assert_int_equal(lines->len, 1);
    assert_string_equal(lines->pdata[0], KEY_A " me@home");
    assert_null(lines->pdata[1]);
}

static void test_sources_when_none_then_empty_and_terminated(void **state)
{
    (void)state;
    g_autoptr(GPtrArray) lines = NULL;
    g_autofree char *said = resolve((const char *const[]){NULL}, NULL, &lines);
    assert_string_equal(said, "");
    assert_int_equal(lines->len, 0);
    assert_null(lines->pdata[0]);
}

static void test_sources_when_wrong_then_says_which(void **state)
{
    g_autofree char *private = scratch_path(state, "secret");
    g_autofree char *output =
        SCRATCH_RUN("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", private);
    g_autofree char *empty = scratch_write(state, "empty.pub", "# nothing\n");
    g_autofree char *odd = scratch_write(state, "odd.pub", KEY_A "\nfrom=\"x\" " KEY_A "\n");
    g_autofree char *fifo = scratch_path(state, "fifo");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    g_autoptr(GPtrArray) lines = NULL;
    g_autofree char *said =
        RESOLVE(NULL, &lines, private, empty, odd, "/nowhere/x.pub", "gh:octocat",
                KEY_A "\nssh-rsa AAAA", fifo, "-----BEGIN OPENSSH PRIVATE KEY-----\nx");
    g_auto(GStrv) got = g_strsplit(said, "\n", -1);
    g_autofree char *first = g_strdup_printf(
        "error[E_SECRET]: ssh_keys: '%s' is a private key - name its public half: %s.pub", private,
        private);
    assert_string_equal(got[0], first);
    assert_non_null(strstr(got[1], "empty.pub' holds no key"));
    assert_non_null(strstr(got[2], "odd.pub' line 2: options in front of a key are not allowed"));
    assert_non_null(strstr(got[3], "error[E_NOT_FOUND]: ssh_keys: "));
    assert_non_null(strstr(got[3], "/nowhere/x.pub"));
    assert_non_null(strstr(got[4], "error[E_SCHEMA]"));
    assert_non_null(strstr(got[5], "error[E_CI]: ssh_keys: a line break in a key"));
    assert_non_null(strstr(got[6], "error[E_PATH]"));
    assert_non_null(strstr(got[7], "error[E_SECRET]"));
    assert_string_equal(got[8], "");
    assert_int_equal(lines->len, 1); /* the first line of odd.pub */
}

/* --- the agent ----------------------------------------------------------------------------------
 */

/* Not for the file alone: between its making and listen(2) nobody gets through. */
static void wait_for_listener(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    int result = -1;
    for (int i = 0; i < 500 && result != 0; i++) {
        autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        result = connect(fd, (struct sockaddr *)&address, sizeof address);
        if (result != 0) {
            g_usleep(10000);
        }
    }
    assert_int_equal(result, 0);
}

static void test_agent_when_it_holds_keys_then_lists_them(void **state)
{
    g_autofree char *socket_path = scratch_path(state, "agent");
    g_autofree char *variable = g_strconcat("SSH_AUTH_SOCK=", socket_path, NULL);
    const char *argv[] = {"ssh-agent", "-D", "-a", socket_path, NULL};
    BaseChild agent = BASE_CHILD_INIT;
    agent.argv = argv;
    agent.dies_with_us = true;
    pid_t pid = base_child_spawn(&agent, NULL, NULL);
    assert_true(pid > 0);
    wait_for_listener(socket_path);
    g_autoptr(GError) error = NULL;
    assert_null(seed_agent_list(socket_path, 2000, &error));
    assert_non_null(strstr(error->message, "holds no key"));

    g_setenv("SSH_AUTH_SOCK", socket_path, TRUE);
    static const char *const types[] = {"ed25519", "ecdsa", "rsa"};
    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        g_autofree char *key = scratch_path(state, types[i]);
        g_autofree char *made =
            SCRATCH_RUN("ssh-keygen", "-q", "-t", types[i], "-N", "", "-C", "my key", "-f", key);
        const char *add_argv[] = {"ssh-add", "-q", key, NULL};
        const char *env[] = {variable, NULL};
        BaseChild add = BASE_CHILD_INIT;
        add.argv = add_argv;
        add.extra_env = env;
        assert_true(base_child_run(&add, NULL, NULL, NULL));
    }
    g_autoptr(GPtrArray) lines = NULL;
    g_autofree char *said = RESOLVE(NULL, &lines, "agent");
    g_unsetenv("SSH_AUTH_SOCK");
    kill(pid, SIGTERM);
    waitpid(pid, NULL, 0);
    assert_string_equal(said, "");
    assert_int_equal(lines->len, 3);
    for (unsigned i = 0; i < lines->len; i++) {
        g_autofree char *name = g_strconcat(types[i], ".pub", NULL);
        g_autofree char *path = scratch_path(state, name);
        g_autofree char *line = scratch_read(path);
        assert_string_equal(lines->pdata[i], g_strstrip(line));
    }
}

static int listen_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 4), 0);
    return fd;
}

static void test_agent_when_it_is_silent_then_times_out(void **state)
{
    g_autofree char *path = scratch_path(state, "silent");
    autofd int fd = listen_at(path);
    g_autoptr(GError) error = NULL;
    gint64 start_us = g_get_monotonic_time();
    assert_null(seed_agent_list(path, 150, &error));
    gint64 took_us = g_get_monotonic_time() - start_us;
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_TIMEOUT));
    assert_true(took_us >= 140000 && took_us < 2000000);
}

typedef struct {
    int fd;
    const void *answer;
    size_t n_bytes;
} FakeAgent;

static void *fake_agent(void *data)
{
    const FakeAgent *fake = data;
    int fd = accept4(fake->fd, NULL, NULL, SOCK_CLOEXEC);
    char request[5];
    if (recv(fd, request, sizeof request, MSG_WAITALL) == 5) {
        send(fd, fake->answer, fake->n_bytes, MSG_NOSIGNAL);
    }
    close(fd);
    return NULL;
}

static void test_agent_when_it_speaks_nonsense_then_error(void **state)
{
    static const struct {
        const char *bytes;
        size_t n_bytes;
    } answers[] = {
#define A(text) {text, sizeof text - 1}
        A(""),
        A("\0\0"),
        A("\0\0\0\0"),
        A("\xff\xff\xff\xff"),
        A("HTTP/1.1 400 Bad Request\r\n\r\n"),
        A("\0\0\0\1\5"),
        A("\0\0\0\5\14\0\0\0\1"),
        A("\0\0\0\5\14\0\0\0\0"),
        A("\0\0\0\11\14\xff\xff\xff\xff\xff\xff\xff\xff"),
        A("\0\0\0\15\14\0\0\0\1\0\0\0\1x\0\0\0\0"),
        A("\0\0\0\40\14\0\0\0\1"),
#undef A
    };
    for (size_t i = 0; i < G_N_ELEMENTS(answers); i++) {
        g_autofree char *name = g_strdup_printf("fake%zu", i);
        g_autofree char *path = scratch_path(state, name);
        autofd int fd = listen_at(path);
        FakeAgent fake = {fd, answers[i].bytes, answers[i].n_bytes};
        GThread *thread = g_thread_new("fake", fake_agent, &fake);
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) lines = seed_agent_list(path, 2000, &error);
        g_thread_join(thread);
        assert_null(lines);
        assert_true(error->domain == VM_ERROR);
    }
}

static void test_agent_when_not_there_then_says_so(void **state)
{
    (void)state;
    g_unsetenv("SSH_AUTH_SOCK");
    g_autoptr(GPtrArray) lines = NULL;
    g_autofree char *unset = RESOLVE(NULL, &lines, "agent");
    assert_string_equal(unset, "error[E_CI]: ssh_keys: agent: no ssh agent: SSH_AUTH_SOCK is not "
                               "set - start one, or name a key file\n");
    g_autoptr(GError) gone = NULL;
    assert_null(seed_agent_list("/nowhere/agent", 100, &gone));
    assert_true(g_error_matches(gone, VM_ERROR, VM_ERROR_NOT_FOUND));
    g_autofree char *long_path = g_strnfill(200, 'x');
    assert_null(seed_agent_list(long_path, 100, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sources_when_literals_and_files_then_each_key_once),
        cmocka_unit_test(test_sources_when_none_then_empty_and_terminated),
        cmocka_unit_test(test_sources_when_wrong_then_says_which),
        cmocka_unit_test(test_agent_when_it_holds_keys_then_lists_them),
        cmocka_unit_test(test_agent_when_it_is_silent_then_times_out),
        cmocka_unit_test(test_agent_when_it_speaks_nonsense_then_error),
        cmocka_unit_test(test_agent_when_not_there_then_says_so),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
