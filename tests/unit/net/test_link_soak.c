/* Many rounds of making and removing taps and bridges leave nothing, and the 1,000th tap costs what
 * the first does (net/tap, bridge). */
#include "net/tap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "net/bridge.h"
#include "tests/unit/net/helper_ip.h"
#include "tests/unit/net/netns.h"

#define TAG "vm-run:abcdefgh:net:lab"

enum { N_TAP_ROUNDS = 1000, N_BRIDGE_ROUNDS = 50, N_TAPS = 1000, N_TIMED = 25 };

static NetBridge lab(const char *name)
{
    NetBridge bridge = {
        .name = name, .owner_tag = TAG, .mode = SPEC_NET_MODE_NAT, .n_bits4 = 16, .n_bits6 = 64};
    base_ip_parse("10.87.0.1", &bridge.gateway4);
    base_ip_parse("fd00:87::1", &bridge.gateway6);
    net_bridge_mac(TAG, bridge.mac);
    return bridge;
}

static bool make_tap(const char *bridge, unsigned number)
{
    g_autofree char *uuid = g_strdup_printf("abcdefgh:machine-%u", number);
    g_autofree char *name = net_tap_name(uuid, 0);
    g_autofree char *tag = net_tap_owner_tag(uuid, 0);
    NetTap tap = {.name = name,
                  .owner_tag = tag,
                  .bridge = bridge,
                  .mac = "52:54:00:12:34:56",
                  .owner_uid = 77,
                  .owner_gid = 77};
    return net_tap_create(&tap, NULL);
}

static bool remove_tap(unsigned number)
{
    g_autofree char *uuid = g_strdup_printf("abcdefgh:machine-%u", number);
    g_autofree char *name = net_tap_name(uuid, 0);
    g_autofree char *tag = net_tap_owner_tag(uuid, 0);
    return net_tap_remove(name, tag, NULL);
}

static void test_bridge_50_rounds_then_nothing_left(void **state)
{
    (void)state;
    g_autofree char *name = net_bridge_name(TAG);
    NetBridge bridge = lab(name);
    g_autofree char *before = test_net_census();
    for (int i = 0; i < N_BRIDGE_ROUNDS; i++) {
        assert_true(net_bridge_create(&bridge, NULL));
        assert_true(net_bridge_remove(name, TAG, NULL));
    }
    g_autofree char *after = test_net_census();
    assert_string_equal(before, after);
}

static void test_tap_1000_rounds_then_nothing_left(void **state)
{
    (void)state;
    test_ip_run("link add br0 address 02:00:00:00:00:01 type bridge");
    g_autofree char *before = test_net_census();
    for (unsigned i = 0; i < N_TAP_ROUNDS; i++) {
        assert_true(make_tap("br0", i));
        assert_true(remove_tap(i));
    }
    g_autofree char *after = test_net_census();
    assert_string_equal(before, after);
    test_ip_run("link del br0");
}

static int compare_us(const void *a, const void *b)
{
    const gint64 *left = a, *right = b;
    return *left < *right ? -1 : *left > *right;
}

/* The fifth that was least disturbed by others, who hold the kernel's lock of links. */
static gint64 quick_us(gint64 *times, gsize n)
{
    qsort(times, n, sizeof *times, compare_us);
    return times[n / 5];
}

/* 1.4 on an idle host; a look at all links would make it 10. The benchmark has the real bound. */
static void test_1000th_tap_then_no_dearer_than_the_first(void **state)
{
    (void)state;
    static gint64 us[N_TAPS];
    g_autofree char *name = net_bridge_name(TAG);
    NetBridge bridge = lab(name);
    assert_true(net_bridge_create(&bridge, NULL));
    for (unsigned i = 0; i < N_TAPS; i++) {
        gint64 begin_us = g_get_monotonic_time();
        assert_true(net_bridge_create(&bridge, NULL));
        assert_true(make_tap(name, i));
        us[i] = g_get_monotonic_time() - begin_us;
    }
    gint64 first = quick_us(us, N_TIMED);
    gint64 last = quick_us(us + N_TAPS - N_TIMED, N_TIMED);
    print_message("a tap: %d us at first, %d us at the 1,000th\n", (int)first, (int)last);
    assert_true(last < 3 * first);
    /* the namespace takes them away with the program */
}

int main(void)
{
    if (!test_netns_enter()) {
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bridge_50_rounds_then_nothing_left),
        cmocka_unit_test(test_tap_1000_rounds_then_nothing_left),
        cmocka_unit_test(test_1000th_tap_then_no_dearer_than_the_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
