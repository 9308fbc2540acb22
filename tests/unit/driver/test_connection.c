/* Which connection is chosen, and what stands before opening an embedded root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <glib/gstdio.h>
#include "base/dir.h"
#include "base/error.h"
#include "driver/connection.h"
#include "driver/embed_root.h"

#define STATE "/var/lib/vm-run"
#define EMBED "qemu:///embed?root=" STATE "/libvirt"

typedef struct {
    char *dir, *socket_path;
} Place;

static void setup_place(Place *p)
{
    p->dir = g_dir_make_tmp("vm-test-XXXXXX", NULL);
    p->socket_path = g_build_filename(p->dir, "sock", NULL);
    assert_int_equal(g_chmod(p->dir, 0711), 0);
}

static void remove_place(Place *p)
{
    assert_true(base_dir_remove_tree(AT_FDCWD, p->dir, NULL));
    g_free(p->dir);
    g_free(p->socket_path);
}

static int listen_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    assert_int_equal(bind(sock, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(sock, 5), 0);
    return sock;
}

static void unset_environment(void)
{
    g_unsetenv("VM_RUN_URI");
    g_unsetenv("LIBVIRT_DEFAULT_URI");
}

static void assert_choice(const MachineConnectionPlaces *places, const char *wish, const char *uri,
                          const char *why)
{
    const char *found_why = NULL;
    g_autofree char *found = machine_connection_choose(places, STATE, wish, &found_why);
    assert_string_equal(found, uri);
    assert_string_equal(found_why, why);
}

static void test_choose_order_is_flag_variables_daemon_embedded(void **context)
{
    (void)context;
    Place p;
    setup_place(&p);
    unset_environment();
    int sock = listen_at(p.socket_path);
    MachineConnectionPlaces there = {p.socket_path, "/nonexistent/q", "/nonexistent/c", true};
    MachineConnectionPlaces modular = {"/nonexistent/l", p.socket_path, "/nonexistent/c", true};
    MachineConnectionPlaces user = {p.socket_path, "/nonexistent/q", "/nonexistent/c", false};
    assert_choice(&there, NULL, "qemu:///system", "libvirtd answers");
    assert_choice(&modular, NULL, "qemu:///system", "libvirtd answers");
    assert_choice(&user, NULL, EMBED, "not root");
    g_setenv("LIBVIRT_DEFAULT_URI", "test:///default", TRUE);
    assert_choice(&there, NULL, "test:///default", "LIBVIRT_DEFAULT_URI");
    g_setenv("VM_RUN_URI", "qemu:///session", TRUE);
    assert_choice(&there, NULL, "qemu:///session", "VM_RUN_URI");
    assert_choice(&there, "qemu+ssh://h/system", "qemu+ssh://h/system", "--connect");
    g_setenv("VM_RUN_URI", "", TRUE); /* empty: as if not there */
    assert_choice(&there, NULL, "test:///default", "LIBVIRT_DEFAULT_URI");
    unset_environment();
    close(sock); /* the socket file stays, nobody answers */
    assert_choice(&there, NULL, EMBED, "no libvirtd answers");
    remove_place(&p);
}

static void test_choose_short_names_and_rootless_embed(void **context)
{
    (void)context;
    MachineConnectionPlaces places = {"/nonexistent/a", "/nonexistent/b", "/nonexistent/c", true};
    unset_environment();
    assert_choice(&places, "embed", EMBED, "--connect");
    assert_choice(&places, "system", "qemu:///system", "--connect");
    assert_choice(&places, "qemu:///embed", EMBED, "--connect");
    assert_choice(&places, "qemu:///embed?root=/x", "qemu:///embed?root=/x", "--connect");
    g_autofree char *odd = machine_connection_choose(&places, "/a b&c", NULL, NULL);
    assert_string_equal(odd, "qemu:///embed?root=/a%20b%26c/libvirt");
}

static void test_netns_of_a_process_in_another_one_is_seen(void **context)
{
    (void)context;
    assert_true(machine_connection_shares_netns(getpid()));
    assert_true(machine_connection_shares_netns(0));
    int ready[2];
    char byte = 0;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    pid_t child = fork();
    if (child == 0) {
        byte = unshare(geteuid() == 0 ? CLONE_NEWNET : CLONE_NEWUSER | CLONE_NEWNET) == 0;
        _exit(write(ready[1], &byte, 1) == 1 ? (pause(), 0) : 1);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    bool is_shared = machine_connection_shares_netns(child);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close(ready[0]);
    close(ready[1]);
    assert_int_equal(is_shared, !byte); /* where namespaces are forbidden it stayed in ours */
}

static void test_open_root_with_too_long_path_then_says_so(void **context)
{
    (void)context;
    unset_environment();
    g_autoptr(GError) error = NULL;
    const char *state = "/tmp/vm-test-0123456789-0123456789-0123456789-01234";
    assert_null(machine_connection_open(state, "embed", &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_PATH));
    assert_non_null(strstr(error->message, "--state-dir"));
    assert_int_equal(access(state, F_OK), -1); /* nothing was made */
}

static void test_open_relative_root_then_refused(void **context)
{
    (void)context;
    unset_environment();
    g_autoptr(GError) error = NULL;
    assert_null(machine_connection_open(STATE, "qemu:///embed?root=some/where", &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_CLI));
}

static void test_open_dead_daemon_then_says_what_to_do(void **context)
{
    (void)context;
    g_autoptr(GError) error = NULL;
    assert_null(
        machine_connection_open(STATE, "qemu+unix:///system?socket=/nonexistent/s", &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_HOST));
    assert_true(g_str_has_suffix(error->message, MACHINE_CONNECTION_HINT));
    g_autoptr(GError) foreign = NULL;
    assert_null(machine_connection_open(STATE, "xen:///system", &foreign));
    assert_null(strstr(foreign->message, MACHINE_CONNECTION_HINT)); /* has its own */
}

static void test_root_below_closed_folder_then_denied_names_it(void **context)
{
    (void)context;
    Place p;
    setup_place(&p);
    assert_int_equal(g_chmod(p.dir, 0700), 0);
    g_autofree char *root = g_build_filename(p.dir, "libvirt", NULL);
    QemuUser other = {4242, 4242};
    g_autoptr(GError) error = NULL;
    assert_false(machine_embed_root_prepare(root, &other, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_DENIED));
    assert_non_null(strstr(error->message, p.dir));
    assert_int_equal(access(root, F_OK), -1);
    remove_place(&p);
}

static void test_prepare_writes_conf_once_and_repairs_it(void **context)
{
    (void)context;
    Place p;
    setup_place(&p);
    g_autofree char *root = g_build_filename(p.dir, "libvirt", NULL);
    g_autofree char *conf = g_build_filename(root, "etc", "qemu.conf", NULL);
    QemuUser user = {geteuid(), getegid()};
    struct stat first, second;
    assert_true(machine_embed_root_prepare(root, &user, NULL));
    assert_int_equal(stat(conf, &first), 0);
    assert_true(machine_embed_root_prepare(root, &user, NULL));
    assert_int_equal(stat(conf, &second), 0);
    assert_int_equal(first.st_ino, second.st_ino); /* untouched */
    assert_true(g_file_set_contents(conf, "namespaces = [ \"mount\" ]\n", -1, NULL));
    assert_true(machine_embed_root_prepare(root, &user, NULL));
    g_autofree char *text = NULL;
    g_autofree char *wanted = machine_embed_conf(&user, geteuid() == 0);
    assert_true(g_file_get_contents(conf, &text, NULL, NULL));
    assert_string_equal(text, wanted);
    remove_place(&p);
}

/* A process that holds the lock for hold_ms, from now on (it has it when this returns). */
static pid_t hold_lock(const char *root, int hold_ms)
{
    int ready[2];
    char byte = 0;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    pid_t child = fork();
    if (child == 0) {
        BaseLock *lock = machine_embed_root_lock(root, 10000, NULL);
        byte = lock != NULL;
        byte = write(ready[1], &byte, 1) == 1 && byte;
        g_usleep((gulong)hold_ms * 1000);
        _exit(byte ? 0 : 1);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(byte, 1);
    close(ready[0]);
    close(ready[1]);
    return child;
}

static void test_lock_one_holder_stays_then_busy_names_it(void **context)
{
    (void)context;
    Place p;
    setup_place(&p);
    g_autofree char *root = g_build_filename(p.dir, "libvirt", NULL);
    pid_t holder = hold_lock(root, 60000);
    g_autofree char *named = g_strdup_printf("held by pid %d", (int)holder);
    g_autoptr(GError) error = NULL;
    BaseLock *lock = machine_embed_root_lock(root, 200, &error);
    kill(holder, SIGKILL);
    waitpid(holder, NULL, 0);
    assert_null(lock);
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_BUSY));
    assert_non_null(strstr(error->message, named));
    lock = machine_embed_root_lock(root, 200, NULL); /* the kernel gave it back */
    assert_non_null(lock);
    base_lock_free(lock);
    remove_place(&p);
}

static void test_lock_holders_change_then_waits_its_turn(void **context)
{
    (void)context;
    Place p;
    setup_place(&p);
    g_autofree char *root = g_build_filename(p.dir, "libvirt", NULL);
    pid_t first = hold_lock(root, 500);
    pid_t waiter = fork();
    if (waiter == 0) { /* waits less for one holder than both take together */
        BaseLock *lock = machine_embed_root_lock(root, 700, NULL);
        _exit(lock ? 0 : 1);
    }
    pid_t second = hold_lock(root, 500);
    int status = -1;
    assert_int_equal(waitpid(waiter, &status, 0), waiter);
    assert_int_equal(status, 0);
    waitpid(first, NULL, 0);
    waitpid(second, NULL, 0);
    remove_place(&p);
}

static void test_conf_names_a_user_only_for_root(void **context)
{
    (void)context;
    QemuUser user = {64055, 107};
    g_autofree char *root = machine_embed_conf(&user, true);
    g_autofree char *ordinary = machine_embed_conf(&user, false);
    assert_non_null(strstr(root, "user = \"+64055\"\ngroup = \"+107\"\n"));
    assert_null(strstr(ordinary, "user ="));
    assert_non_null(strstr(ordinary, "stdio_handler = \"file\""));
}

static void test_facts_through_the_test_driver_are_complete(void **context)
{
    (void)context;
    unset_environment();
    g_autoptr(GError) error = NULL;
    g_autoptr(MachineConnection) connection =
        machine_connection_open("/nonexistent", "test:///default", &error);
    g_autoptr(HostFacts) facts = host_facts_new();
    assert_non_null(connection);
    assert_non_null(machine_connection_virt(connection));
    assert_true(machine_connection_facts(connection, facts, &error));
    assert_int_equal(facts->kind, VIRT_KIND_TEST);
    assert_string_equal(facts->uri, "test:///default");
    assert_false(facts->is_kvm_usable);
    assert_non_null(facts->kvm_reason);
    assert_int_equal(access("/nonexistent", F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choose_order_is_flag_variables_daemon_embedded),
        cmocka_unit_test(test_choose_short_names_and_rootless_embed),
        cmocka_unit_test(test_netns_of_a_process_in_another_one_is_seen),
        cmocka_unit_test(test_open_root_with_too_long_path_then_says_so),
        cmocka_unit_test(test_open_relative_root_then_refused),
        cmocka_unit_test(test_open_dead_daemon_then_says_what_to_do),
        cmocka_unit_test(test_root_below_closed_folder_then_denied_names_it),
        cmocka_unit_test(test_prepare_writes_conf_once_and_repairs_it),
        cmocka_unit_test(test_lock_one_holder_stays_then_busy_names_it),
        cmocka_unit_test(test_lock_holders_change_then_waits_its_turn),
        cmocka_unit_test(test_conf_names_a_user_only_for_root),
        cmocka_unit_test(test_facts_through_the_test_driver_are_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
