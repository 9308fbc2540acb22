#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/error.h"
#include "base/proc.h"
#include "net/dnsmasq.h"
#include "net/network_internal.h"
#include "net/network_supervisor.h"
#include "net/tap.h"
#include "tests/unit/net/helper_network.h"
#include "tests/unit/net/netns.h"

/* The supervisor's own deeds: nobody else is at work, so the handle is closed when others break
 * what is there, as it is when no command runs. */
enum { LIMIT_MS = 10000 };

static TestStore store;

static int begin(void **state)
{
    (void)state;
    test_store_begin(&store);
    return 0;
}

static int end(void **state)
{
    (void)state;
    test_store_end(&store);
    return 0;
}

/* A network with one member that runs, without its tap. */
static NetMember *begin_lab(void)
{
    g_autoptr(NetworkSpec) spec = test_spec("lab", "domain", "lab.test", NULL);
    NetNetwork *network = test_define(&store, spec);
    NetMember *member = test_member(&store, network, "web");
    GError *error = NULL;
    NetPortMap *port = g_new0(NetPortMap, 1);
    *port = (NetPortMap){.host_port = 8080, .guest = member->ip4, .guest_port = 80};
    g_ptr_array_add(member->ports, port);
    member->is_up = true;
    member->tap = g_strdup("vmtabcdefghijkl");
    member->tap_tag = g_strdup_printf("vm-run:%s", member->owner);
    test_put(network, member);
    test_up(network);
    NetTap tap = {.name = member->tap, .owner_tag = member->tap_tag, .bridge = member->bridge};
    if (!net_rules_apply(&member, 1, NULL, 0, &error) || !net_tap_create(&tap, &error)) {
        fail_msg("start: %s", error->message);
    }
    return member;
}

static int open_lab(void)
{
    g_autofree char *path = g_build_filename(store.dir, "networks/lab", NULL);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static NetSupervisor lab_state(void)
{
    NetSupervisor state;
    int fd = open_lab();
    net_supervisor_find(fd, &state);
    close(fd);
    return state;
}

/* How long until a check finds nothing. */
static double wait_until_well(void)
{
    gint64 begin_us = g_get_monotonic_time();
    for (;;) {
        g_autoptr(NetNetwork) network = net_network_peek(store.store, "lab", NULL);
        assert_non_null(network);
        g_autoptr(GPtrArray) lines = test_check(network);
        double ms = (double)(g_get_monotonic_time() - begin_us) / 1000;
        if (lines->len == 0) {
            return ms;
        }
        if (ms > LIMIT_MS) {
            fail_msg("still: %s", (char *)lines->pdata[0]);
        }
        g_usleep(2000);
    }
}

static void assert_broken(void)
{
    g_autoptr(NetNetwork) network = net_network_peek(store.store, "lab", NULL);
    g_autoptr(GPtrArray) lines = test_check(network);
    assert_true(lines->len > 0);
}

static void expect_mended(const char *what)
{
    double ms = wait_until_well();
    print_message("%s: as it should be after %.0f ms\n", what, ms);
}

static BaseIp gateway(void)
{
    g_autoptr(NetNetwork) network = net_network_peek(store.store, "lab", NULL);
    return network->record->gateway4;
}

static void assert_answers(const NetMember *member)
{
    BaseIp server = gateway();
    char text[BASE_IP_TEXT_BYTES];
    gint64 end_us = g_get_monotonic_time() + LIMIT_MS * 1000;
    for (;;) {
        g_autofree char *found = test_dns(&server, "web", 1, 200);
        if (!strcmp(found, base_ip_format(&member->ip4, text))) {
            return;
        }
        if (g_get_monotonic_time() > end_us) {
            fail_msg("web is %s", found);
        }
        g_usleep(2000);
    }
}

static void test_flushed_rules_come_back_by_the_event(void **state)
{
    (void)state;
    g_autoptr(NetMember) member = begin_lab();
    test_close(&store);
    g_free(test_run("nft", "flush", "ruleset", NULL));
    expect_mended("nft flush ruleset");
    g_free(test_run("nft", "flush", "chain", "bridge", NET_NFT_TABLE, "pre", NULL));
    expect_mended("nft flush chain");
    g_free(test_run("nft", "delete", "table", "inet", NET_NFT_TABLE, NULL));
    expect_mended("nft delete table");
}

/* What Docker's start does (imitated): its chain comes later than our network, and is made anew. */
static void test_hook_of_another_program_is_used_when_it_comes(void **state)
{
    (void)state;
    g_autoptr(NetMember) member = begin_lab();
    test_close(&store);
    for (int i = 0; i < 2; i++) {
        g_free(test_run("nft",
                        "add table ip filter; add chain ip filter DOCKER-USER; "
                        "flush chain ip filter DOCKER-USER",
                        NULL));
        expect_mended("DOCKER-USER");
        g_autofree char *text =
            test_run("nft", "list", "chain", "ip", "filter", "DOCKER-USER", NULL);
        assert_non_null(strstr(text, member->bridge));
        g_free(test_run("nft", "delete", "table", "ip", "filter", NULL));
    }
}

static void test_links_and_addresses_come_back_by_the_event(void **state)
{
    (void)state;
    g_autoptr(NetMember) member = begin_lab();
    test_close(&store);
    g_free(test_run("ip", "addr", "flush", "dev", member->bridge, NULL));
    expect_mended("ip addr flush");
    g_free(test_run("ip", "link", "set", member->bridge, "down", NULL));
    expect_mended("bridge down");
    g_free(test_run("ip", "link", "set", member->tap, "nomaster", NULL));
    expect_mended("tap off the bridge");
    assert_answers(member);
}

static void test_bridge_that_was_deleted_is_made_and_served_again(void **state)
{
    (void)state;
    g_autoptr(NetMember) member = begin_lab();
    test_close(&store);
    pid_t before = lab_state().dnsmasq_pid;
    g_free(test_run("ip", "link", "del", member->bridge, NULL));
    expect_mended("bridge deleted");
    assert_answers(member);
    gint64 end_us = g_get_monotonic_time() + LIMIT_MS * 1000;
    while (lab_state().dnsmasq_pid == before || !lab_state().is_dnsmasq_ready) {
        assert_true(g_get_monotonic_time() < end_us); /* its sockets were of the old bridge */
        g_usleep(2000);
    }
}

static void test_killed_dnsmasq_answers_again(void **state)
{
    (void)state;
    g_autoptr(NetMember) member = begin_lab();
    test_close(&store);
    assert_answers(member);
    for (int i = 0; i < 3; i++) {
        pid_t pid = lab_state().dnsmasq_pid;
        gint64 begin_us = g_get_monotonic_time();
        assert_int_equal(kill(pid, SIGKILL), 0);
        while (lab_state().dnsmasq_pid == pid) {
            g_usleep(1000);
        }
        assert_answers(member);
        print_message("dnsmasq killed: answers after %.0f ms\n",
                      (double)(g_get_monotonic_time() - begin_us) / 1000);
    }
    expect_mended("dnsmasq killed");
}

/* An up after a killed dnsmasq returns when it answers, not before. */
static void test_up_waits_for_dnsmasq(void **state)
{
    (void)state;
    g_autoptr(NetMember) member = begin_lab();
    BaseIp server = gateway();
    char text[BASE_IP_TEXT_BYTES];
    assert_int_equal(kill(lab_state().dnsmasq_pid, SIGKILL), 0);
    NetNetwork *network = store.networks->pdata[0];
    while (lab_state().dnsmasq_pid && lab_state().is_dnsmasq_ready) {
        g_usleep(500);
    }
    test_up(network);
    g_autofree char *found = test_dns(&server, "web", 1, LIMIT_MS);
    assert_string_equal(found, base_ip_format(&member->ip4, text));
}

static void test_killed_supervisor_takes_dnsmasq_along_and_up_replaces_it(void **state)
{
    (void)state;
    g_autoptr(NetMember) member = begin_lab();
    NetSupervisor before = lab_state();
    int pidfd = base_proc_open(before.dnsmasq_pid, before.dnsmasq_start);
    assert_true(pidfd >= 0);
    assert_int_equal(kill(before.pid, SIGKILL), 0);
    assert_true(base_proc_wait_end(pidfd, LIMIT_MS, NULL));
    close(pidfd);
    assert_int_equal(lab_state().pid, 0);
    assert_broken();
    NetNetwork *network = store.networks->pdata[0];
    test_up(network);
    NetSupervisor after = lab_state();
    assert_true(after.pid > 0 && after.pid != before.pid);
    assert_answers(member);
    g_autoptr(GPtrArray) lines = test_check(network);
    assert_int_equal(lines->len, 0);
}

static void test_check_with_fix_replaces_a_killed_supervisor(void **state)
{
    (void)state;
    g_autoptr(NetMember) member = begin_lab();
    NetNetwork *network = store.networks->pdata[0];
    g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) mended = g_ptr_array_new_with_free_func(g_free);
    pid_t pid = lab_state().pid;
    assert_int_equal(kill(pid, SIGKILL), 0);
    while (lab_state().pid) {
        g_usleep(500);
    }
    assert_true(net_network_check(network, true, left, mended, NULL));
    assert_int_equal(left->len, 0);
    assert_int_equal(mended->len, 1);
    assert_string_equal(mended->pdata[0], "the supervisor is not running");
    assert_true(lab_state().pid > 0);
}

static void test_changes_of_ours_are_not_mended(void **state)
{
    (void)state;
    g_autoptr(NetMember) member = begin_lab();
    g_autofree char *log = g_build_filename(store.dir, "networks/lab/supervisor.log", NULL);
    for (int i = 0; i < 20; i++) {
        assert_true(net_rules_remove(&member, 1, NULL));
        assert_true(net_rules_apply(&member, 1, NULL, 0, NULL));
    }
    test_close(&store); /* this program has another name, so checks come: they find nothing */
    expect_mended("own changes");
    g_autofree char *text = test_run("cat", log, NULL);
    assert_null(strstr(text, "mended"));
    assert_null(strstr(text, "warning"));
}

/* Until the table is there again, or (true) the supervisor says that it rests. */
static bool wait_for_table_or_rest(const char *log)
{
    for (gint64 end_us = g_get_monotonic_time() + LIMIT_MS * 1000;;) {
        uint64_t hash = 0;
        g_autofree char *text = test_run("cat", log, NULL);
        if (strstr(text, "again and again - resting")) {
            return true;
        }
        assert_true(net_nft_fingerprint(NET_NFT_BRIDGE, &hash, NULL));
        if (hash) {
            return false;
        }
        assert_true(g_get_monotonic_time() < end_us);
        g_usleep(1000);
    }
}

static void test_fight_ends_with_a_rest_and_a_warning(void **state)
{
    (void)state;
    g_autoptr(NetMember) member = begin_lab();
    test_close(&store);
    g_autofree char *log = g_build_filename(store.dir, "networks/lab/supervisor.log", NULL);
    unsigned n = 0;
    do {
        wait_until_well();
        g_free(test_run("nft", "delete", "table", "bridge", NET_NFT_TABLE, NULL));
    } while (!wait_for_table_or_rest(log) && ++n < 40);
    assert_in_range(n, 4, 39); /* more where a busy host gives it rests */
    g_autoptr(NetNetwork) network = net_network_open(store.store, "lab", LIMIT_MS, NULL);
    g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);
    assert_true(net_network_check(network, true, left, NULL, NULL));
    assert_int_equal(left->len, 0);
}

static void test_supervisor_ends_when_its_folder_is_removed(void **state)
{
    (void)state;
    g_autoptr(NetMember) member = begin_lab();
    NetSupervisor before = lab_state();
    int supervisor = base_proc_open(before.pid, base_proc_start_ticks(before.pid));
    int dnsmasq = base_proc_open(before.dnsmasq_pid, before.dnsmasq_start);
    g_autofree char *folder = net_dnsmasq_folder(store.id, "lab");
    g_autofree char *path = g_build_filename(store.dir, "networks/lab", NULL);
    assert_true(net_tap_remove(member->tap, member->tap_tag, NULL));
    assert_true(net_rules_remove(&member, 1, NULL));
    test_close(&store);
    g_free(test_run("rm", "-r", path, NULL));
    assert_true(base_proc_wait_end(supervisor, LIMIT_MS, NULL));
    assert_true(base_proc_wait_end(dnsmasq, LIMIT_MS, NULL));
    close(supervisor);
    close(dnsmasq);
    assert_int_not_equal(access(folder, F_OK), 0);
}

static void test_port_53_that_is_taken_fails_the_start_with_its_reason(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec = test_spec("lab", "cidr", "10.44.0.0/24", NULL);
    NetNetwork *network = test_define(&store, spec);
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(53)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof any), 0);
    GError *error = NULL;
    assert_false(net_network_up(network, &error));
    assert_non_null(strstr(error->message, "network 'lab': dnsmasq: "));
    assert_non_null(strstr(error->message, "Address already in use - another DNS server has"));
    g_clear_error(&error);
    assert_false(net_network_view(network)->is_up); /* nothing of it stays */
    g_autofree char *links = test_run("ip", "-br", "link", NULL);
    assert_null(strstr(links, "vmb"));
    close(fd);
    test_up(network);
}

static void test_supervisor_is_small_and_private(void **state)
{
    (void)state;
    g_autoptr(NetMember) member = begin_lab();
    NetSupervisor now = lab_state();
    g_autofree char *own = g_strdup_printf("/proc/%d/status", now.pid);
    g_autofree char *its = g_strdup_printf("/proc/%d/status", now.dnsmasq_pid);
    g_autofree char *text = NULL, *dnsmasq = NULL;
    assert_true(g_file_get_contents(own, &text, NULL, NULL));
    assert_true(g_file_get_contents(its, &dnsmasq, NULL, NULL));
    const char *rss = strstr(text, "VmRSS:");
    unsigned long kib = strtoul(rss + strlen("VmRSS:"), NULL, 10);
    print_message("supervisor: %lu KiB\n", kib);
#ifndef TEST_SANITIZED
    assert_true(kib < 6 * 1024);
#endif
    assert_null(strstr(dnsmasq, "Uid:\t0")); /* not root, and three capabilities */
    assert_non_null(strstr(dnsmasq, "CapEff:\t0000000000003400"));
    g_autofree char *folder = net_dnsmasq_folder(store.id, "lab");
    struct stat st;
    assert_int_equal(stat(folder, &st), 0);
    assert_int_equal(st.st_uid, 0);
    assert_int_equal(st.st_mode & 0027, 0); /* dnsmasq may not write there, others not look */
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
        TEST(test_flushed_rules_come_back_by_the_event),
        TEST(test_hook_of_another_program_is_used_when_it_comes),
        TEST(test_links_and_addresses_come_back_by_the_event),
        TEST(test_bridge_that_was_deleted_is_made_and_served_again),
        TEST(test_killed_dnsmasq_answers_again),
        TEST(test_up_waits_for_dnsmasq),
        TEST(test_killed_supervisor_takes_dnsmasq_along_and_up_replaces_it),
        TEST(test_check_with_fix_replaces_a_killed_supervisor),
        TEST(test_changes_of_ours_are_not_mended),
        TEST(test_fight_ends_with_a_rest_and_a_warning),
        TEST(test_supervisor_ends_when_its_folder_is_removed),
        TEST(test_port_53_that_is_taken_fails_the_start_with_its_reason),
        TEST(test_supervisor_is_small_and_private),
#undef TEST
    };
    if (!test_netns_enter()) {
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
