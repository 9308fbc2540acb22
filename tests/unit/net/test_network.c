#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/error.h"
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
    return 0;
}

static int end(void **state)
{
    (void)state;
    test_store_end(&store);
    return 0;
}

/* A member that runs: put, network up, rules, tap, as a start does it. */
static NetMember *start(NetNetwork *network, const char *machine)
{
    GError *error = NULL;
    NetMember *member = test_member(&store, network, machine);
    g_autofree char *uuid = test_uuid(machine);
    member->tap = net_tap_name(uuid, 0);
    member->tap_tag = net_tap_owner_tag(uuid, 0);
    member->is_up = true;
    test_put(network, member);
    test_up(network);
    if (!net_rules_apply(&member, 1, NULL, 0, &error)) {
        fail_msg("rules: %s", error->message);
    }
    NetTap tap = {.name = member->tap, .owner_tag = member->tap_tag, .bridge = member->bridge};
    if (!net_tap_create(&tap, &error)) {
        fail_msg("tap: %s", error->message);
    }
    return member;
}

/* The same backwards; then it is down, and still a member. */
static void stop(NetNetwork *network, NetMember *member)
{
    GError *error = NULL;
    g_autofree char *kept = NULL;
    assert_true(net_tap_remove(member->tap, member->tap_tag, &error));
    member->is_up = false;
    test_put(network, member);
    assert_true(net_rules_remove(&member, 1, &error));
    assert_true(net_network_down_if_unused(network, &kept, &error));
    assert_null(kept);
}

/* Everything of a network that a host can see. */
static char *census(void)
{
    g_autofree char *links = test_run("ip", "-br", "link", NULL);
    g_autofree char *elements = test_run("nft", "list", "ruleset", NULL);
    g_autofree char *prefix = g_strdup_printf("%s.net.", store.id);
    g_autofree char *runs = test_run("ls", "/run/vm-run", NULL);
    GString *text = g_string_new(links);
    g_string_append(text, strstr(elements, store.id) ? "elements of ours\n" : "");
    g_string_append(text, strstr(runs, prefix) ? "run folder\n" : "");
    return g_string_free(text, FALSE);
}

static void assert_well(NetNetwork *network)
{
    g_autoptr(GPtrArray) lines = test_check(network);
    if (lines->len) {
        fail_msg("differs: %s", (char *)lines->pdata[0]);
    }
}

static void test_network_goes_up_and_away_without_a_trace(void **state)
{
    (void)state;
    g_mkdir_with_parents("/run/vm-run", 0711);
    g_autofree char *before = census();
    g_autoptr(NetworkSpec) spec = net_network_default_spec();
    NetNetwork *network = test_define(&store, spec);
    g_autoptr(NetMember) member = start(network, "web");
    const NetNetworkView *view = net_network_view(network);
    assert_true(view->is_up);
    assert_true(view->supervisor_pid > 0 && view->dnsmasq_pid > 0);
    assert_well(network);
    stop(network, member);
    assert_false(net_network_view(network)->is_up);
    assert_int_equal(net_network_view(network)->supervisor_pid, 0);
    assert_non_null(net_network_member(network, member->owner)); /* the address stays */
    assert_well(network);
    g_autofree char *down = census();
    assert_string_equal(before, down);
    GError *error = NULL;
    assert_true(net_network_drop_member(network, member->owner, &error));
    assert_null(error);
    test_close(&store);
    assert_null(net_network_open(store.store, "default", 0, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_NOT_FOUND));
    g_error_free(error);
    g_autofree char *folder = g_build_filename(store.dir, "networks", NULL);
    g_autofree char *locks = g_build_filename(store.dir, "locks", NULL);
    g_autofree char *left = test_run("ls", "-A", folder, NULL);
    g_autofree char *locked = test_run("ls", "-A", locks, NULL);
    assert_string_equal(left, "");
    assert_string_equal(locked, "networks.lock\n");
}

/* Inodes and times of all files below a folder: unchanged means that nothing was written. */
static char *stamps(const char *folder)
{
    return test_run("find", folder, "-printf", "%p %i %T@ %C@ %s\n", NULL);
}

static void test_second_and_third_time_write_nothing(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec = test_spec("lab", NULL);
    NetNetwork *network = test_define(&store, spec);
    g_autoptr(NetMember) member = start(network, "web");
    g_autofree char *run = net_dnsmasq_folder(store.id, "lab");
    g_autofree char *files = stamps(store.dir), *run_files = stamps(run);
    uint32_t generation = 0, later = 0;
    assert_true(net_nft_generation(&generation, NULL));
    int events = test_rtnl_listen();
    test_rtnl_settle(events); /* what the tap's carrier brings about */
    pid_t supervisor = net_network_view(network)->supervisor_pid;
    for (int i = 0; i < 2; i++) {
        test_put(network, member);
        test_up(network);
        assert_true(net_rules_apply(&member, 1, NULL, 0, NULL));
        assert_true(net_network_down_if_unused(network, NULL, NULL));
        assert_well(network);
    }
    assert_true(net_nft_generation(&later, NULL));
    assert_int_equal(generation, later);
    assert_int_equal(test_rtnl_count(events), 0);
    g_autofree char *files_later = stamps(store.dir), *run_files_later = stamps(run);
    assert_string_equal(files, files_later);
    assert_string_equal(run_files, run_files_later);
    assert_int_equal(supervisor, net_network_view(network)->supervisor_pid);
    close(events);
    stop(network, member);
    for (int i = 0; i < 2; i++) {
        g_autofree char *before = stamps(store.dir);
        assert_true(net_network_down_if_unused(network, NULL, NULL));
        g_autofree char *after = stamps(store.dir);
        assert_string_equal(before, after);
    }
}

static void test_network_stays_up_for_its_other_member(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec = test_spec("lab", NULL);
    NetNetwork *network = test_define(&store, spec);
    g_autoptr(NetMember) a = start(network, "a");
    g_autoptr(NetMember) b = start(network, "b");
    stop(network, a);
    assert_true(net_network_view(network)->is_up);
    assert_true(net_network_drop_member(network, a->owner, NULL));
    assert_well(network);
    stop(network, b);
    assert_false(net_network_view(network)->is_up);
}

static void test_kept_network_stays_and_is_removed_by_request(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec = test_spec("lab", "keep", "true", NULL);
    NetNetwork *network = test_define(&store, spec);
    g_autoptr(NetMember) member = start(network, "web");
    GError *error = NULL;
    stop(network, member);
    assert_true(net_network_view(network)->is_up);
    assert_false(net_network_remove(network, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_BUSY));
    assert_non_null(strstr(error->message, "'web'"));
    g_clear_error(&error);
    assert_true(net_network_drop_member(network, member->owner, &error));
    assert_true(net_network_view(network)->is_up);
    assert_true(net_network_remove(network, &error));
    assert_null(error);
    assert_true(network->is_gone);
    g_autofree char *links = test_run("ip", "-br", "link", NULL);
    assert_null(strstr(links, "vmb"));
}

static void test_network_ends_with_a_choice_that_came_to_nothing(void **state)
{
    (void)state;
    GError *error = NULL;
    g_autoptr(NetworkSpec) spec = test_spec("lab", NULL),
                           kept_spec = test_spec("kept", "keep", "true", NULL);
    NetNetwork *network = test_define(&store, spec);
    g_autoptr(NetMember) member = test_member(&store, network, "web");
    assert_true(net_network_choose(network, member, &error));
    assert_true(net_network_put_member(network, member, &error));
    assert_true(net_network_end_if_empty(network, &error));
    assert_false(network->is_gone); /* it has a member */
    assert_true(net_network_drop_member(network, member->owner, &error));
    assert_true(network->is_gone);
    test_close(&store);
    network = test_define(&store, spec);
    assert_true(net_network_choose(network, member, &error));
    assert_true(net_network_end_if_empty(network, &error));
    assert_true(net_network_end_if_empty(network, &error));
    assert_true(network->is_gone);
    test_close(&store);
    network = test_define(&store, kept_spec);
    assert_true(net_network_end_if_empty(network, &error));
    assert_false(network->is_gone);
    assert_null(error);
}

static void test_foreign_port_keeps_the_bridge_and_is_named(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec = test_spec("lab", NULL);
    NetNetwork *network = test_define(&store, spec);
    g_autoptr(NetMember) member = start(network, "web");
    g_autofree char *kept = NULL;
    g_free(test_run("ip", "link", "add", "va", "type", "veth", "peer", "name", "vb", NULL));
    g_free(test_run("ip", "link", "set", "va", "master", network->record->bridge, NULL));
    assert_true(net_tap_remove(member->tap, member->tap_tag, NULL));
    member->is_up = false;
    test_put(network, member);
    assert_true(net_rules_remove(&member, 1, NULL));
    assert_true(net_network_down_if_unused(network, &kept, NULL));
    assert_non_null(kept);
    assert_non_null(strstr(kept, "'va'"));
    assert_true(net_network_view(network)->supervisor_pid > 0); /* whole, as it was */
    assert_well(network);
    g_free(test_run("ip", "link", "del", "va", NULL));
    g_clear_pointer(&kept, g_free);
    assert_true(net_network_down_if_unused(network, &kept, NULL));
    assert_null(kept);
    assert_false(net_network_view(network)->is_up);
}

static void test_foreign_link_with_our_name_is_not_touched(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec = test_spec("lab", NULL);
    NetNetwork *network = test_define(&store, spec);
    GError *error = NULL;
    g_free(test_run("ip", "link", "add", network->record->bridge, "type", "bridge", NULL));
    g_autofree char *before = test_run("ip", "-d", "link", NULL);
    assert_false(net_network_up(network, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_EXISTS));
    g_clear_error(&error);
    g_autofree char *after = test_run("ip", "-d", "link", NULL);
    assert_string_equal(before, after);
    assert_false(net_network_view(network)->is_up);
    assert_int_equal(net_network_view(network)->supervisor_pid, 0);
    g_free(test_run("ip", "link", "del", network->record->bridge, NULL));
}

static void test_route_that_came_since_is_told(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec = test_spec("lab", "cidr", "10.44.0.0/24", NULL);
    NetNetwork *network = test_define(&store, spec);
    GError *error = NULL;
    g_free(test_run("ip", "route", "add", "unreachable", "10.44.0.0/16", NULL));
    assert_false(net_network_up(network, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_EXISTS));
    assert_non_null(strstr(error->message, "overlaps 10.44.0.0/16"));
    g_error_free(error);
    g_free(test_run("ip", "route", "del", "unreachable", "10.44.0.0/16", NULL));
    test_up(network);
    assert_well(network);
}

static void test_foreign_bridge_gets_rules_and_a_supervisor_only(void **state)
{
    (void)state;
    g_free(test_run("ip", "link", "add", "br7", "type", "bridge", NULL));
    g_free(test_run("ip", "link", "set", "br7", "up", NULL));
    g_autofree char *before = test_run("ip", "-d", "addr", NULL);
    g_autoptr(NetworkSpec) spec = net_network_bridge_spec("br7");
    NetNetwork *network = test_define(&store, spec);
    g_autoptr(NetMember) member = start(network, "web");
    const NetNetworkView *view = net_network_view(network);
    assert_true(view->is_up && view->supervisor_pid > 0);
    assert_int_equal(view->dnsmasq_pid, 0);
    assert_well(network);
    stop(network, member);
    assert_int_equal(net_network_view(network)->supervisor_pid, 0);
    g_autofree char *after = test_run("ip", "-d", "addr", NULL);
    assert_non_null(strstr(after, "br7"));
    assert_null(strstr(after, "vmt"));
    g_free(test_run("ip", "link", "del", "br7", NULL));
}

static void test_network_without_dhcp_and_dns_has_no_dnsmasq(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec = test_spec("lab", "dhcp", "false", "dns", "false", NULL);
    NetNetwork *network = test_define(&store, spec);
    test_up(network);
    assert_true(net_network_view(network)->supervisor_pid > 0);
    assert_int_equal(net_network_view(network)->dnsmasq_pid, 0);
    assert_well(network);
}

static bool has_mark(const NetNetwork *network, char family, const NetMember *member)
{
    g_autofree char *path = g_strdup_printf("ports/%c.%s", family, member->owner);
    return faccessat(network->dirfd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* What an isolated bridge is forwarded to follows from them, without reading all members. */
static void test_ports_are_marked_by_where_they_lead(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec = test_spec("lab", "mode", "isolated", "keep", "true", NULL);
    NetNetwork *network = test_define(&store, spec);
    g_autoptr(NetMember) member = test_member(&store, network, "web");
    NetBridge bridge;
    test_put(network, member);
    net_network_describe_bridge(network, "vm-run:t", &bridge);
    assert_false(bridge.has_ports || has_mark(network, '4', member));
    NetPortMap port = {.host_port = 8080, .guest = member->ip6, .guest_port = 80};
    g_ptr_array_add(member->ports, g_memdup2(&port, sizeof port));
    test_put(network, member);
    net_network_describe_bridge(network, "vm-run:t", &bridge);
    assert_true(bridge.has_ports && has_mark(network, '6', member));
    assert_false(has_mark(network, '4', member));
    test_up(network);
    assert_well(network);
    assert_true(net_network_drop_member(network, member->owner, NULL));
    assert_false(has_mark(network, '6', member));
}

/* In a namespace of its own: what another one has up is told and left alone. */
static int visit_from_elsewhere(void)
{
    GError *error = NULL;
    g_autofree char *kept = NULL;
    if (unshare(CLONE_NEWNET)) {
        return 1;
    }
    g_autoptr(NetNetwork) network = net_network_open(store.store, "lab", 5000, NULL);
    if (!network || net_network_up(network, &error) ||
        !g_error_matches(error, VM_ERROR, VM_ERROR_BUSY) ||
        !strstr(error->message, "up in another network namespace")) {
        return 2;
    }
    if (!net_network_down_if_unused(network, &kept, NULL) || !kept) {
        return 3;
    }
    g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);
    return !net_network_check(network, true, left, NULL, NULL) || left->len != 1 ? 4 : 0;
}

static void test_network_that_is_up_elsewhere_is_left_alone(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec = test_spec("lab", NULL);
    NetNetwork *network = test_define(&store, spec);
    g_autoptr(NetMember) member = start(network, "web");
    pid_t supervisor = net_network_view(network)->supervisor_pid;
    test_close(&store);
    pid_t pid = fork();
    if (pid == 0) {
        _exit(visit_from_elsewhere());
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), 0);
    network = test_open(&store, "lab");
    assert_int_equal(net_network_view(network)->supervisor_pid, supervisor);
    assert_well(network);
    stop(network, member);
}

/* --- many at once ----------------------------------------------------------------------------- */

static void add_some(int first, int n)
{
    for (int i = first; i < first + n; i++) {
        g_autofree char *name = g_strdup_printf("m%d", i);
        g_autofree char *uuid = test_uuid(name);
        g_autoptr(NetNetwork) network = net_network_open(store.store, "lab", 60000, NULL);
        g_autoptr(NetMember) member = net_member_new();
        member->owner = g_strdup_printf("%s:%s:0", store.id, uuid);
        member->machine = g_strdup(name);
        member->network = g_strdup("lab");
        if (!network || !net_network_choose(network, member, NULL) ||
            !net_network_put_member(network, member, NULL)) {
            _exit(1);
        }
    }
    _exit(0);
}

static void test_two_processes_add_members_at_once(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec = test_spec("lab", "cidr", "10.44.0.0/24", "keep", "true", NULL);
    NetNetwork *network = test_define(&store, spec);
    test_up(network);
    test_close(&store);
    pid_t pids[2];
    for (int i = 0; i < 2; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            add_some(i * 32, 32);
        }
    }
    for (int i = 0; i < 2; i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    network = test_open(&store, "lab");
    const GPtrArray *members = net_network_members(network, NULL);
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    assert_int_equal(members->len, 64);
    for (guint i = 0; i < members->len; i++) {
        const NetMember *member = members->pdata[i];
        char text[BASE_IP_TEXT_BYTES];
        assert_true(g_hash_table_add(seen, g_strdup(base_ip_format(&member->ip4, text))));
        assert_true(g_hash_table_add(seen, g_strdup(base_ip_format(&member->ip6, text))));
        g_autofree char *found = test_dns(&network->record->gateway4, member->machine, 1, 2000);
        assert_string_equal(found, base_ip_format(&member->ip4, text));
    }
    assert_well(network);
}

static void start_same(void)
{
    g_autoptr(NetworkSpec) spec = net_network_default_spec();
    g_autoptr(NetNetwork) network = net_network_define(store.store, spec, 60000, NULL, NULL);
    _exit(!network || !net_network_up(network, NULL));
}

static void test_many_processes_take_one_network_up(void **state)
{
    (void)state;
    pid_t pids[16];
    for (size_t i = 0; i < G_N_ELEMENTS(pids); i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            start_same();
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(pids); i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    NetNetwork *network = test_open(&store, "default");
    assert_well(network);
    g_autofree char *links = test_run("ip", "-br", "link", "show", "type", "bridge", NULL);
    assert_ptr_equal(strchr(links, '\n'), strrchr(links, '\n')); /* one line */
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
        TEST(test_network_goes_up_and_away_without_a_trace),
        TEST(test_second_and_third_time_write_nothing),
        TEST(test_network_stays_up_for_its_other_member),
        TEST(test_kept_network_stays_and_is_removed_by_request),
        TEST(test_network_ends_with_a_choice_that_came_to_nothing),
        TEST(test_foreign_port_keeps_the_bridge_and_is_named),
        TEST(test_foreign_link_with_our_name_is_not_touched),
        TEST(test_route_that_came_since_is_told),
        TEST(test_foreign_bridge_gets_rules_and_a_supervisor_only),
        TEST(test_network_without_dhcp_and_dns_has_no_dnsmasq),
        TEST(test_ports_are_marked_by_where_they_lead),
        TEST(test_network_that_is_up_elsewhere_is_left_alone),
        TEST(test_two_processes_add_members_at_once),
        TEST(test_many_processes_take_one_network_up),
#undef TEST
    };
    if (!test_netns_enter()) {
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
