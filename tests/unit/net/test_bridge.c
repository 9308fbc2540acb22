#include "net/bridge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <fcntl.h>
#include <net/if.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/error.h"
#include "base/fd.h"
#include "net/bridge_forward.h"
#include "net/link_birth.h"
#include "net/tap.h"
#include "tests/unit/net/helper_ip.h"
#include "tests/unit/net/netns.h"

#define TAG "vm-run:abcdefgh:net:lab"

typedef struct {
    char *name;
    NetBridge bridge;
} Fixture;

static BaseIp ip(const char *text)
{
    BaseIp found;
    assert_true(base_ip_parse(text, &found));
    return found;
}

/* An uplink up0 (its other end is up1) with default routes of both families. */
static int set_up(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    f->name = net_bridge_name(TAG);
    f->bridge = (NetBridge){.name = f->name,
                            .owner_tag = TAG,
                            .mode = SPEC_NET_MODE_NAT,
                            .gateway4 = ip("10.87.0.1"),
                            .gateway6 = ip("fd00:87::1"),
                            .n_bits4 = 24,
                            .n_bits6 = 64,
                            .mtu = 1400};
    net_bridge_mac(TAG, f->bridge.mac);
    test_ip_run("link add up0 type veth peer name up1");
    test_ip_run("link set up1 up");
    test_ip_run("link set up0 up");
    test_ip_run("address add 192.0.2.2/24 dev up0");
    test_ip_run("address add 2001:db8::2/64 dev up0 nodad");
    test_ip_run("route add default via 192.0.2.1");
    test_ip_run("-6 route add default via 2001:db8::1 dev up0 metric 512");
    test_sysctl_set("ipv4/ip_forward", 0);
    test_sysctl_set("ipv6/conf/all/forwarding", 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    if (if_nametoindex(f->name)) {
        test_ip_run("link del %s", f->name);
    }
    test_ip_run("link del up0");
    g_free(f->name);
    g_free(f);
    return 0;
}

static void assert_created(const NetBridge *bridge)
{
    g_autoptr(GError) error = NULL;
    if (!net_bridge_create(bridge, &error)) {
        fail_msg("%s", error->message);
    }
}

/* Takes the error. */
static void assert_code(bool is_done, GError **error, VmError code)
{
    assert_false(is_done);
    if (!g_error_matches(*error, VM_ERROR, (int)code)) {
        fail_msg("code %d, expected %d: %s", (*error)->code, (int)code, (*error)->message);
    }
    g_clear_error(error);
}

static char *differences(const NetBridge *bridge)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    assert_true(net_bridge_check(bridge, lines, NULL));
    g_ptr_array_add(lines, NULL);
    return g_strjoinv("\n", (char **)lines->pdata);
}

static void assert_no_differences(const NetBridge *bridge)
{
    g_autofree char *text = differences(bridge);
    assert_string_equal(text, "");
}

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

#define WITH_UPLINK(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
