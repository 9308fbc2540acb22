#include "net/bridge.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "net/link_birth.h"
#include "net/tap.h"
#include "tests/unit/net/bridge_fixture.h"

static void test_create_then_everything_is_there(void **state)
{
    Fixture *f = *state;
    char mac[18];
    assert_created(&f->bridge);
    assert_no_differences(&f->bridge);
    json_t *link = test_ip_link(f->name);
    json_t *data = json_object_get(json_object_get(link, "linkinfo"), "info_data");
    assert_string_equal(test_json_text(link, "address"), base_mac_format(f->bridge.mac, mac));
    assert_string_equal(json_string_value(json_array_get(json_object_get(link, "altnames"), 0)),
                        TAG);
    assert_string_equal(test_json_text(link, "group"), "default");
    assert_int_equal(json_integer_value(json_object_get(link, "mtu")), 1400);
    assert_int_equal(json_integer_value(json_object_get(data, "stp_state")), 0);
    assert_int_equal(json_integer_value(json_object_get(data, "forward_delay")), 0);
    assert_int_equal(json_integer_value(json_object_get(data, "ageing_time")), 30000);
    json_decref(link);
    g_autofree char *addresses = test_ip("-o address show dev %s", f->name);
    assert_non_null(strstr(addresses, "inet 10.87.0.1/24 "));
    assert_null(strstr(addresses, " brd "));
    assert_non_null(strstr(addresses, "inet6 fd00:87::1/64 "));
    assert_non_null(strstr(addresses, "inet6 fe80::"));
    assert_null(strstr(addresses, "tentative"));
    g_autofree char *local = test_ip("-6 route show table local ::1");
    assert_non_null(strstr(local, f->name));
    assert_int_equal(test_sysctl("ipv4/conf/%s/route_localnet", f->name), 1);
    assert_int_equal(test_sysctl("ipv4/conf/all/route_localnet"), 0);
    assert_int_equal(test_sysctl("ipv4/conf/%s/forwarding", f->name), 1);
    assert_int_equal(test_sysctl("ipv4/conf/up0/forwarding"), 1);
    assert_int_equal(test_sysctl("ipv4/conf/up1/forwarding"), 0);
    assert_int_equal(test_sysctl("ipv4/conf/all/forwarding"), 0);
    assert_int_equal(test_sysctl("ipv6/conf/%s/accept_ra", f->name), 0);
}

static void test_create_three_times_then_the_second_and_third_change_nothing(void **state)
{
    Fixture *f = *state;
    assert_created(&f->bridge);
    test_net_await_state(f->name, "DOWN"); /* no ports: no carrier */
    char link_local[BASE_IP_TEXT_BYTES];
    BaseIp address = base_ip_link_local_of_mac(f->bridge.mac);
    test_net_await_address(base_ip_format(&address, link_local));
    test_net_await_address("fd00:87::1");
    test_net_await_address("2001:db8::2");
    autofd int watch = test_net_watch();
    g_autofree char *before = test_net_census();
    for (int i = 0; i < 2; i++) {
        assert_created(&f->bridge);
        assert_int_equal(test_net_n_changes(watch), 0);
    }
    g_autofree char *after = test_net_census();
    assert_string_equal(before, after);
}

static void test_create_disturbed_one_then_only_that_is_mended(void **state)
{
    Fixture *f = *state;
    assert_created(&f->bridge);
    unsigned index = if_nametoindex(f->name);
    test_ip_run("link set %s down mtu 1300 address 02:00:00:00:00:01", f->name);
    test_ip_run("link set %s type bridge stp_state 1 forward_delay 1500", f->name);
    test_ip_run("address flush dev %s", f->name);
    test_ip_run("address add 10.99.0.1/24 dev %s", f->name);
    g_autofree char *path = g_strdup_printf("ipv4/conf/%s/route_localnet", f->name);
    test_sysctl_set(path, 0);
    test_sysctl_set("ipv4/conf/up0/forwarding", 0);
    g_autofree char *lines = differences(&f->bridge);
    const char *const words[] = {
        "MAC",           "MTU 1300, not 1400", "STP",
        "is down",       "10.87.0.1/24",       "fd00:87::1/64",
        "route for ::1", "route_localnet",     "conf.up0.forwarding is 0, not 1"};
    for (gsize i = 0; i < G_N_ELEMENTS(words); i++) {
        if (!strstr(lines, words[i])) {
            fail_msg("no line about %s:\n%s", words[i], lines);
        }
    }
    assert_created(&f->bridge);
    assert_no_differences(&f->bridge);
    assert_int_equal(if_nametoindex(f->name), index);
    g_autofree char *addresses = test_ip("-o address show dev %s", f->name);
    assert_non_null(strstr(addresses, "10.99.0.1/24")); /* added by hand: stays */
}

static void test_create_name_of_foreign_link_then_untouched(void **state)
{
    Fixture *f = *state;
    const char *const adds[] = {"link add %s type bridge", "link add %s type veth peer name vx1"};
    for (gsize i = 0; i < G_N_ELEMENTS(adds); i++) {
        g_autoptr(GString) words = g_string_new(adds[i]);
        g_string_replace(words, "%s", f->name, 0);
        test_ip_run("%s", words->str);
        unsigned index = if_nametoindex(f->name);
        autofd int watch = test_net_watch();
        GError *error = NULL;
        assert_code(net_bridge_create(&f->bridge, &error), &error, VM_ERROR_EXISTS);
        assert_code(net_bridge_remove(f->name, TAG, &error), &error, VM_ERROR_EXISTS);
        assert_int_equal(test_net_n_changes(watch), 0);
        assert_int_equal(if_nametoindex(f->name), index);
        g_autofree char *lines = differences(&f->bridge);
        assert_non_null(strstr(lines, "not ours"));
        test_ip_run("link del %s", f->name);
    }
}

static void test_remove_then_gone_and_what_was_before_is_left(void **state)
{
    Fixture *f = *state;
    assert_true(net_bridge_remove(f->name, TAG, NULL)); /* absent */
    assert_created(&f->bridge); /* settings of the uplink stay: others may rely on them */
    assert_true(net_bridge_remove(f->name, TAG, NULL));
    g_autofree char *before = test_net_census();
    assert_created(&f->bridge);
    assert_true(net_bridge_remove(f->name, TAG, NULL));
    assert_int_equal(if_nametoindex(f->name), 0);
    g_autofree char *after = test_net_census();
    assert_string_equal(before, after);
    assert_int_equal(test_sysctl("ipv4/conf/up0/forwarding"), 1);
}

static void test_remove_with_foreign_port_or_address_then_kept_and_named(void **state)
{
    Fixture *f = *state;
    assert_created(&f->bridge);
    test_ip_run("link add vx0 type veth peer name vx1");
    test_ip_run("link set vx0 master %s", f->name);
    GError *error = NULL;
    assert_false(net_bridge_remove(f->name, TAG, &error));
    assert_non_null(strstr(error->message, "vx0"));
    assert_code(false, &error, VM_ERROR_BUSY);
    g_autoptr(GPtrArray) ports = net_bridge_ports(f->name, NULL);
    assert_int_equal(ports->len, 1);
    assert_string_equal(ports->pdata[0], "vx0");
    test_ip_run("link del vx0");

    const char *const by_hand[] = {"198.51.100.1/24", "fd00:99::1/64", "10.87.0.1/16"};
    for (gsize i = 0; i < G_N_ELEMENTS(by_hand); i++) {
        test_ip_run("address add %s dev %s", by_hand[i], f->name);
        assert_false(net_bridge_remove(f->name, TAG, &error));
        assert_non_null(strstr(error->message, by_hand[i]));
        assert_code(false, &error, VM_ERROR_BUSY);
        test_ip_run("address del %s dev %s", by_hand[i], f->name);
    }
    assert_true(net_bridge_remove(f->name, TAG, NULL));
    assert_int_equal(if_nametoindex(f->name), 0);
}

static void test_list_then_ours_only_and_one_cut_off_is_swept(void **state)
{
    Fixture *f = *state;
    test_ip_run("link add foreign0 type bridge");
    test_ip_run("link add %s group %u type bridge", f->name, net_link_birth_group(f->name));
    g_autoptr(GPtrArray) none = net_bridge_list(NULL);
    assert_int_equal(none->len, 0);
    g_autoptr(GPtrArray) found = net_bridge_sweep(true, NULL);
    assert_int_equal(found->len, 1);
    assert_int_not_equal(if_nametoindex(f->name), 0);
    g_autoptr(GPtrArray) swept = net_bridge_sweep(false, NULL);
    assert_int_equal(swept->len, 1);
    assert_string_equal(swept->pdata[0], f->name);
    assert_int_equal(if_nametoindex(f->name), 0);

    /* one that was cut off is completed as well */
    test_ip_run("link add %s group %u type bridge", f->name, net_link_birth_group(f->name));
    assert_created(&f->bridge);
    assert_no_differences(&f->bridge);
    g_autofree char *line = g_strdup_printf("%s " TAG, f->name);
    g_autoptr(GPtrArray) ours = net_bridge_list(NULL);
    assert_int_equal(ours->len, 1);
    assert_string_equal(ours->pdata[0], line);
    test_ip_run("link del foreign0");
}

static void test_ipv4_only_then_no_ipv6_on_it(void **state)
{
    Fixture *f = *state;
    f->bridge.n_bits6 = 0;
    assert_created(&f->bridge);
    assert_no_differences(&f->bridge);
    g_autofree char *addresses = test_ip("-o -6 address show dev %s", f->name);
    assert_string_equal(addresses, "");
    g_autofree char *local = test_ip("-6 route show table local ::1 dev %s", f->name);
    assert_string_equal(local, "");
}

static void test_two_bridges_then_each_has_its_route_of_loopback(void **state)
{
    Fixture *f = *state;
    NetBridge second = f->bridge;
    g_autofree char *name = net_bridge_name(TAG "2");
    second.name = name;
    second.owner_tag = TAG "2";
    net_bridge_mac(TAG "2", second.mac);
    second.gateway4 = ip("10.88.0.1");
    second.gateway6 = ip("fd00:88::1");
    assert_created(&f->bridge);
    assert_created(&second);
    assert_no_differences(&f->bridge);
    assert_no_differences(&second);
    g_autofree char *local = test_ip("-6 route show table local ::1");
    assert_non_null(strstr(local, f->name));
    assert_non_null(strstr(local, name));
    assert_true(net_bridge_remove(name, TAG "2", NULL));
}

static void test_create_hostile_values_then_refused_before_any_effect(void **state)
{
    Fixture *f = *state;
    const char *const names[] = {"", ".", "..", "a/b", "../x", "a b", "vmb%d", "sixteen-letters-"};
    const char *const tags[] = {"", "x", "vm-run:a b", "vm-run:/x", "vm-run:%d"};
    autofd int watch = test_net_watch();
    GError *error = NULL;
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        NetBridge bad = f->bridge;
        bad.name = names[i];
        assert_code(net_bridge_create(&bad, &error), &error, VM_ERROR_NET);
        assert_code(net_bridge_remove(names[i], TAG, &error), &error, VM_ERROR_NET);
        assert_null(net_bridge_ports(names[i], NULL));
    }
    for (gsize i = 0; i < G_N_ELEMENTS(tags); i++) {
        NetBridge bad = f->bridge;
        bad.owner_tag = tags[i];
        assert_code(net_bridge_create(&bad, &error), &error, VM_ERROR_NET);
    }
    const uint32_t mtus[] = {1, 67, 1279, 65536, UINT32_MAX};
    for (gsize i = 0; i < G_N_ELEMENTS(mtus); i++) {
        NetBridge bad = f->bridge;
        bad.mtu = mtus[i];
        assert_code(net_bridge_create(&bad, &error), &error, VM_ERROR_NET);
    }
    NetBridge group = f->bridge, none = f->bridge;
    group.mac[0] |= 1;
    memset(none.mac, 0, sizeof none.mac);
    assert_code(net_bridge_create(&group, &error), &error, VM_ERROR_NET);
    assert_code(net_bridge_create(&none, &error), &error, VM_ERROR_NET);
    assert_int_equal(test_net_n_changes(watch), 0);
}

static int work_unprivileged(const NetBridge *bridge)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    if (setgid(65534) || setuid(65534)) {
        return 1;
    }
    if (net_bridge_create(bridge, &error) || error->code != VM_ERROR_DENIED) {
        return 2;
    }
    return net_bridge_check(bridge, lines, NULL) && lines->len == 1 ? 0 : 3;
}

static void test_create_without_permission_then_denied(void **state)
{
    Fixture *f = *state;
    pid_t pid = fork();
    if (pid == 0) {
        _exit(work_unprivileged(&f->bridge));
    }
    int status = 1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* --- many at once ---------------------------------------------------------------- */

enum { N_AT_ONCE = 64 };

/* Runs `work` in 64 processes; all must end well. */
static void run_at_once(const NetBridge *bridge, bool (*work)(const NetBridge *, int, GError **))
{
    pid_t pids[N_AT_ONCE];
    int gate[2];
    char byte;
    assert_int_equal(pipe2(gate, O_CLOEXEC), 0);
    for (int i = 0; i < N_AT_ONCE; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            g_autoptr(GError) error = NULL;
            close(gate[1]);
            bool is_begun = read(gate[0], &byte, 1) == 0; /* all at the same instant */
            bool is_done = is_begun && work(bridge, i, &error);
            if (!is_done) {
                print_message("%d: %s\n", i, error ? error->message : "?");
            }
            _exit(is_done ? 0 : 1);
        }
    }
    close(gate[0]);
    close(gate[1]);
    int n_failed = 0;
    for (int i = 0; i < N_AT_ONCE; i++) {
        int status = 1;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        n_failed += status != 0;
    }
    assert_int_equal(n_failed, 0);
}

static bool create_it(const NetBridge *bridge, int i, GError **error)
{
    (void)i;
    return net_bridge_create(bridge, error);
}

static char *numbered_tag(int i)
{
    return g_strdup_printf("vm-run:abcdefgh:machine-%d:0", i);
}

static bool create_bridge_and_tap(const NetBridge *bridge, int i, GError **error)
{
    g_autofree char *tag = numbered_tag(i);
    g_autofree char *name = net_tap_name(tag, 0);
    NetTap tap = {.name = name, .owner_tag = tag, .bridge = bridge->name};
    return net_bridge_create(bridge, error) && net_tap_create(&tap, error);
}

static bool remove_tap(const NetBridge *bridge, int i, GError **error)
{
    (void)bridge;
    g_autofree char *tag = numbered_tag(i);
    g_autofree char *name = net_tap_name(tag, 0);
    return net_tap_remove(name, tag, error);
}

static void test_64_processes_create_it_then_all_succeed_and_there_is_one(void **state)
{
    Fixture *f = *state;
    for (int round = 0; round < 4; round++) {
        run_at_once(&f->bridge, create_it);
        assert_no_differences(&f->bridge);
        g_autoptr(GPtrArray) ours = net_bridge_list(NULL);
        assert_int_equal(ours->len, 1);
        assert_true(net_bridge_remove(f->name, TAG, NULL));
    }
}

/* A half of them sweeps while the others make it. */
static bool create_or_sweep(const NetBridge *bridge, int i, GError **error)
{
    bool is_fine = true;
    for (int round = 0; is_fine && round < 8; round++) {
        g_autoptr(GPtrArray) swept = i % 2 ? net_bridge_sweep(false, error) : NULL;
        is_fine = i % 2 ? swept != NULL : net_bridge_create(bridge, error);
    }
    return is_fine;
}

static void test_creation_beside_sweeps_then_all_succeed(void **state)
{
    Fixture *f = *state;
    for (int round = 0; round < 8; round++) {
        run_at_once(&f->bridge, create_or_sweep);
        assert_no_differences(&f->bridge);
        assert_true(net_bridge_remove(f->name, TAG, NULL));
    }
}

static void test_64_machines_at_once_then_64_ports(void **state)
{
    Fixture *f = *state;
    run_at_once(&f->bridge, create_bridge_and_tap);
    g_autoptr(GPtrArray) ports = net_bridge_ports(f->name, NULL);
    assert_int_equal(ports->len, N_AT_ONCE);
    assert_no_differences(&f->bridge);
    GError *error = NULL;
    assert_code(net_bridge_remove(f->name, TAG, &error), &error, VM_ERROR_BUSY);
    run_at_once(&f->bridge, remove_tap);
    g_autoptr(GPtrArray) none = net_bridge_ports(f->name, NULL);
    assert_int_equal(none->len, 0);
    assert_true(net_bridge_remove(f->name, TAG, NULL));
}

int main(void)
{
    if (!test_netns_enter()) {
        return 77;
    }
    const struct CMUnitTest tests[] = {
        WITH_UPLINK(test_create_then_everything_is_there),
        WITH_UPLINK(test_create_three_times_then_the_second_and_third_change_nothing),
        WITH_UPLINK(test_create_disturbed_one_then_only_that_is_mended),
        WITH_UPLINK(test_create_name_of_foreign_link_then_untouched),
        WITH_UPLINK(test_remove_then_gone_and_what_was_before_is_left),
        WITH_UPLINK(test_remove_with_foreign_port_or_address_then_kept_and_named),
        WITH_UPLINK(test_list_then_ours_only_and_one_cut_off_is_swept),
        WITH_UPLINK(test_ipv4_only_then_no_ipv6_on_it),
        WITH_UPLINK(test_two_bridges_then_each_has_its_route_of_loopback),
        WITH_UPLINK(test_create_hostile_values_then_refused_before_any_effect),
        WITH_UPLINK(test_create_without_permission_then_denied),
        WITH_UPLINK(test_64_processes_create_it_then_all_succeed_and_there_is_one),
        WITH_UPLINK(test_creation_beside_sweeps_then_all_succeed),
        WITH_UPLINK(test_64_machines_at_once_then_64_ports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
