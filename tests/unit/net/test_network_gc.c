#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/dir.h"
#include "base/error.h"
#include "base/file.h"
#include "net/dnsmasq.h"
#include "net/network_internal.h"
#include "net/network_supervisor.h"
#include "net/rules.h"
#include "net/tap.h"
#include "tests/unit/net/helper_network.h"
#include "tests/unit/net/netns.h"

static TestStore store;

static int begin(void **state)
{
    (void)state;
    test_store_begin(&store);
    g_mkdir_with_parents("/run/vm-run", 0711);
    return 0;
}

static int end(void **state)
{
    (void)state;
    test_store_end(&store);
    return 0;
}

/* Machines that there are, and whether they run; the same for all that are asked about. */
static bool answer(const char *uuid, void *data)
{
    (void)uuid;
    return *(bool *)data;
}

typedef struct {
    bool are_there, are_running;
} Machines;

static bool is_there(const char *uuid, void *data)
{
    return answer(uuid, &((Machines *)data)->are_there);
}

static bool is_running(const char *uuid, void *data)
{
    return answer(uuid, &((Machines *)data)->are_running);
}

/* The lines of gc, joined. */
static char *gc(bool are_there, bool are_running, bool is_dry_run)
{
    Machines machines = {are_there, are_running};
    NetGcMachines ask = {is_there, is_running, &machines};
    GError *error = NULL;
    g_autoptr(GPtrArray) lines = net_store_gc(store.store, &ask, is_dry_run, &error);
    assert_null(error);
    g_ptr_array_add(lines, NULL);
    return g_strjoinv("\n", (char **)lines->pdata);
}

static void expect_gc(bool are_there, bool are_running, const char *words)
{
    g_autofree char *dry = gc(are_there, are_running, true);
    g_autofree char *text = gc(are_there, are_running, false);
    if (!strstr(text, words) || !strstr(dry, words)) {
        fail_msg("gc says '%s' (dry: '%s'), not '%s'", text, dry, words);
    }
    g_autofree char *again = gc(are_there, are_running, false);
    assert_string_equal(again, "");
}

/* All that may be left of us anywhere. */
static char *census(void)
{
    GString *text = g_string_new(NULL);
    g_autofree char *networks = g_build_filename(store.dir, "networks", NULL);
    g_autofree char *files = test_run("find", networks, "-mindepth", "1", NULL);
    g_autofree char *links = test_run("ip", "-br", "link", NULL);
    g_autofree char *rules = test_run("nft", "list", "ruleset", NULL);
    g_autofree char *runs = test_run("ls", "/run/vm-run", NULL);
    g_string_append(text, files);
    g_string_append(text, strstr(links, "vmb") || strstr(links, "vmt") ? links : "");
    g_string_append(text, strstr(rules, store.id) ? "elements of ours\n" : "");
    g_string_append(text, strstr(runs, store.id) ? "run folder\n" : "");
    return g_string_free(text, FALSE);
}

/* Processes whose arguments name this store. */
static unsigned count_processes(void)
{
    unsigned n = 0;
    DIR *dir = opendir("/proc");
    struct dirent *entry;
    while ((entry = readdir(dir))) {
        g_autofree char *path = g_build_filename("/proc", entry->d_name, "cmdline", NULL);
        size_t size = 0;
        g_autofree char *text = g_ascii_isdigit(entry->d_name[0])
                                    ? base_file_read(AT_FDCWD, path, 65536, &size, NULL)
                                    : NULL;
        n += atoi(entry->d_name) != getpid() && text && memmem(text, size, store.id, 8);
    }
    closedir(dir);
    return n;
}

static void assert_nothing_left(const char *when)
{
    g_autofree char *left = census();
    if (*left) {
        fail_msg("%s: left: %s", when, left);
    }
    for (int i = 0; count_processes() > 0; i++) { /* a killed one's dnsmasq is on its way */
        assert_true(i < 1000);
        g_usleep(2000);
    }
}

static NetMember *begin_lab(bool is_kept)
{
    g_autoptr(NetworkSpec) spec = test_spec("lab", "keep", is_kept ? "true" : "false", NULL);
    NetNetwork *network = test_define(&store, spec);
    NetMember *member = test_member(&store, network, "web");
    member->is_up = true;
    member->tap = g_strdup("vmtabcdefghijkl");
    member->tap_tag = g_strdup_printf("vm-run:%s", member->owner);
    test_put(network, member);
    test_up(network);
    assert_true(net_rules_apply(&member, 1, NULL, 0, NULL));
    test_close(&store);
    return member;
}

static void test_gc_leaves_what_is_in_use(void **state)
{
    (void)state;
    g_autoptr(NetMember) member = begin_lab(false);
    g_autofree char *before = census();
    g_autofree char *text = gc(true, true, false);
    assert_string_equal(text, "");
    g_autofree char *after = census();
    assert_string_equal(before, after);
    g_autofree char *closed = gc(true, false, false);
    assert_non_null(strstr(closed, "marked as down, its machine does not run"));
    assert_non_null(strstr(closed, "network 'lab': taken down"));
    NetNetwork *network = test_open(&store, "lab");
    const NetMember *kept = net_network_member(network, member->owner);
    assert_true(kept && base_ip_equal(&kept->ip4, &member->ip4)); /* its address is its own */
    assert_false(net_network_view(network)->is_up);
}

static void test_gc_removes_members_whose_machine_is_gone(void **state)
{
    (void)state;
    g_autoptr(NetMember) member = begin_lab(false);
    expect_gc(false, false, "member 'web' removed, its machine is gone");
    assert_nothing_left("gc");
}

static void test_gc_keeps_a_kept_network(void **state)
{
    (void)state;
    g_autoptr(NetMember) member = begin_lab(true);
    expect_gc(false, false, "member 'web' removed, its machine is gone");
    NetNetwork *network = test_open(&store, "lab");
    assert_true(net_network_view(network)->is_up);
    assert_true(net_network_view(network)->supervisor_pid > 0);
    assert_non_null(network->record);
    g_autoptr(GPtrArray) lines = test_check(network);
    assert_int_equal(lines->len, 0);
}

static void test_gc_replaces_a_killed_supervisor(void **state)
{
    (void)state;
    g_autoptr(NetMember) member = begin_lab(false);
    g_autoptr(NetNetwork) peek = net_network_peek(store.store, "lab", NULL);
    kill(net_network_view(peek)->supervisor_pid, SIGKILL);
    while (net_network_view(peek)->supervisor_pid) {
        g_usleep(1000);
    }
    expect_gc(true, true, "supervisor started again");
    assert_true(net_network_view(peek)->supervisor_pid > 0);
}

static void test_gc_removes_what_no_folder_speaks_for(void **state)
{
    (void)state;
    g_autoptr(NetMember) member = begin_lab(false);
    g_autofree char *path = g_build_filename(store.dir, "networks/lab", NULL);
    g_free(test_run("rm", "-r", path, NULL)); /* bridge and rules are nobody's now */
    for (int i = 0; count_processes() > 0 && i < 1000; i++) {
        g_usleep(2000);
    }
    g_autofree char *run = net_dnsmasq_folder(store.id, "lab");
    assert_int_equal(mkdir(run, 0700), 0);
    g_autofree char *text = gc(true, true, false);
    assert_non_null(strstr(text, "removed, no network has it"));
    assert_nothing_left("gc");
}

static void test_gc_sweeps_what_writes_left(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec = test_spec("lab", "keep", "true", NULL);
    NetNetwork *network = test_define(&store, spec);
    g_autoptr(NetMember) member = test_member(&store, network, "web");
    test_put(network, member);
    test_up(network);
    int dirfd = network->dirfd;
    assert_int_equal(close(openat(dirfd, ".tmp-1234-network.json", O_CREAT | O_WRONLY, 0600)), 0);
    assert_int_equal(close(openat(dirfd, "members/.tmp-1-x", O_CREAT | O_WRONLY, 0600)), 0);
    assert_int_equal(symlinkat("abc:def:0", dirfd, "taken/10.9.9.9"), 0);
    assert_int_equal(symlinkat("abc", dirfd, "up/abc:def:0"), 0);
    g_autofree char *gone = g_build_filename(store.dir, "networks/.gone-x", NULL);
    g_autofree char *empty = g_build_filename(store.dir, "networks/empty", NULL);
    assert_int_equal(mkdir(gone, 0700) | mkdir(empty, 0700), 0);
    test_close(&store);
    g_autofree char *text = gc(true, true, false);
    assert_non_null(strstr(text, ".tmp-1234-network.json"));
    assert_non_null(strstr(text, "mark of address 10.9.9.9 removed"));
    assert_non_null(strstr(text, "networks/.gone-x: removed"));
    assert_non_null(strstr(text, "network 'empty': removed, it was never finished"));
    g_autofree char *again = gc(true, true, false);
    assert_string_equal(again, "");
    network = test_open(&store, "lab");
    assert_non_null(net_network_member(network, member->owner));
    g_autofree char *files = test_run("find", store.dir, NULL);
    assert_null(strstr(files, ".tmp-"));
    assert_null(strstr(files, "def:0"));
}

/* One damaged record keeps nobody else from the network; its addresses stay taken. */
static void test_damaged_member_is_told_and_swept(void **state)
{
    (void)state;
    g_autoptr(NetMember) member = begin_lab(true);
    g_autofree char *path =
        g_strdup_printf("%s/networks/lab/members/%s.json", store.dir, member->owner);
    assert_true(g_file_set_contents(path, "{\"v\":", -1, NULL));
    NetNetwork *network = test_open(&store, "lab");
    g_autoptr(GPtrArray) lines = test_check(network);
    assert_true(lines->len > 0);
    assert_non_null(strstr(lines->pdata[lines->len - 1], "is damaged"));
    g_autoptr(NetMember) other = net_member_new();
    other->owner = g_strdup("abc:def:0");
    other->machine = g_strdup("other");
    other->ip4 = member->ip4;
    assert_false(net_network_choose(network, other, NULL));
    other->ip4 = (BaseIp){0};
    assert_true(net_network_choose(network, other, NULL));
    test_put(network, other);
    test_put(network, member); /* its machine's next start */
    assert_non_null(net_network_member(network, member->owner));
    assert_true(g_file_set_contents(path, "", -1, NULL));
    test_close(&store);
    g_autofree char *kept = gc(true, true, false);
    assert_int_equal(access(path, F_OK), 0);
    g_autofree char *text = gc(false, false, false);
    assert_non_null(strstr(text, "damaged record of member"));
    assert_int_not_equal(access(path, F_OK), 0);
}

/* After a boot: the marks are of another one, nothing of the network is there. */
static void test_kept_network_comes_back_after_a_boot_by_a_check(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec = test_spec("lab", "keep", "true", NULL);
    NetNetwork *network = test_define(&store, spec);
    assert_int_equal(symlinkat("another-boot.1", network->dirfd, "is-up"), 0);
    assert_false(net_network_view(network)->is_up);
    g_autoptr(GPtrArray) left = test_check(network);
    g_autoptr(GPtrArray) mended = g_ptr_array_new_with_free_func(g_free);
    assert_int_equal(left->len, 1);
    assert_string_equal(left->pdata[0], "the network is not up");
    g_ptr_array_set_size(left, 0);
    assert_true(net_network_check(network, true, left, mended, NULL));
    assert_int_equal(left->len, 0);
    assert_int_equal(mended->len, 1);
    assert_true(net_network_view(network)->is_up);
}

static void test_gc_leaves_another_stores_things(void **state)
{
    (void)state;
    g_autoptr(NetMember) member = begin_lab(false);
    TestStore other;
    test_store_begin(&other);
    NetGcMachines none = {is_there, is_running, &(Machines){false, false}};
    g_autoptr(GPtrArray) lines = net_store_gc(other.store, &none, false, NULL);
    assert_int_equal(lines->len, 0);
    test_store_end(&other);
    NetNetwork *network = test_open(&store, "lab");
    g_autoptr(GPtrArray) differences = test_check(network);
    g_ptr_array_remove_index(differences, 0); /* the tap, that this test never made */
    assert_int_equal(differences->len, 0);
}

/* --- death at any instant --------------------------------------------------------------------- */

/* A machine's whole life, as its starts and stops do it. */
static void live(void)
{
    g_autofree char *uuid = test_uuid("web");
    g_autoptr(NetworkSpec) spec = net_network_default_spec();
    g_autoptr(NetMember) member = net_member_new();
    member->owner = g_strdup_printf("%s:%s:0", store.id, uuid);
    member->machine = g_strdup("web");
    member->tap = net_tap_name(uuid, 0);
    member->tap_tag = g_strdup_printf("vm-run:%s", member->owner);
    NetNetwork *network = net_network_define(store.store, spec, 5000, NULL, NULL);
    if (!network || !net_network_choose(network, member, NULL)) {
        return;
    }
    member->network = g_strdup(network->record->name);
    member->bridge = g_strdup(network->record->bridge);
    NetTap tap = {.name = member->tap, .owner_tag = member->tap_tag, .bridge = member->bridge};
    net_network_put_member(network, member, NULL);
    member->is_up = true;
    net_network_put_member(network, member, NULL);
    if (net_network_up(network, NULL) && net_rules_apply(&member, 1, NULL, 0, NULL) &&
        net_tap_create(&tap, NULL)) {
        net_tap_remove(member->tap, member->tap_tag, NULL);
    }
    member->is_up = false;
    net_network_put_member(network, member, NULL);
    net_rules_remove(&member, 1, NULL);
    net_network_down_if_unused(network, NULL, NULL);
    net_network_drop_member(network, member->owner, NULL);
}

static void assert_gc_takes_all(const char *when)
{
    g_autoptr(GPtrArray) taps = net_tap_list(NULL); /* a machine's own, that its gc removes first */
    for (guint i = 0; i < taps->len; i++) {
        g_auto(GStrv) words = g_strsplit(taps->pdata[i], " ", 2);
        assert_true(net_tap_remove(words[0], words[1], NULL));
    }
    g_autofree char *text = gc(false, false, false);
    assert_nothing_left(when);
}

static void test_killed_at_any_instant_leaves_nothing_for_gc(void **state)
{
    (void)state;
    unsigned n = 40;
    for (unsigned i = 0; i < n; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            live();
            _exit(0);
        }
        g_usleep(i * 3500); /* a whole life takes 120 ms */
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        g_autofree char *when = g_strdup_printf("killed after %.1f ms", i * 3.5);
        assert_gc_takes_all(when);
    }
}

static const char *const points[] = {
    "member.taken",
    "member.record",
    "member.up",
    "member.dnsmasq",
    "member.drop",
    "network.mark",
    "network.rules",
    "network.bridge",
    "network.hooks",
    "network.files",
    "network.supervisor",
    "network.ready",
    "network.end-supervisor",
    "network.end-files",
    "network.end-rules",
    "network.end-mark",
    "network.gone",
    "file.write",
    "file.rename",
};

/* In a build with failpoints: dead at each write, and failed at each. */
static void test_failpoints_leave_nothing_for_gc(void **state)
{
    static const char *const actions[] = {"=kill", "#2=kill", "=errno:28", "#2=errno:5"};
    (void)state;
#ifndef VM_FAILPOINTS
    print_message("skipped: built without failpoints\n");
    skip();
#endif
    for (size_t i = 0; i < G_N_ELEMENTS(points) * G_N_ELEMENTS(actions); i++) {
        g_autofree char *spec = g_strconcat(points[i / G_N_ELEMENTS(actions)],
                                            actions[i % G_N_ELEMENTS(actions)], NULL);
        pid_t pid = fork();
        if (pid == 0) {
            setenv("VM_FAILPOINTS", spec, 1);
            live();
            _exit(0);
        }
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_gc_takes_all(spec);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
        TEST(test_gc_leaves_what_is_in_use),
        TEST(test_gc_removes_members_whose_machine_is_gone),
        TEST(test_gc_keeps_a_kept_network),
        TEST(test_gc_replaces_a_killed_supervisor),
        TEST(test_gc_removes_what_no_folder_speaks_for),
        TEST(test_gc_sweeps_what_writes_left),
        TEST(test_damaged_member_is_told_and_swept),
        TEST(test_kept_network_comes_back_after_a_boot_by_a_check),
        TEST(test_gc_leaves_another_stores_things),
        TEST(test_killed_at_any_instant_leaves_nothing_for_gc),
        TEST(test_failpoints_leave_nothing_for_gc),
#undef TEST
    };
    if (!test_netns_enter()) {
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
