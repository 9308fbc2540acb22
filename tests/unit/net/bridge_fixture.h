#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <net/if.h>
#include <string.h>
#include <cmocka.h>
#include "base/error.h"
#include "base/fd.h"
#include "net/bridge.h"
#include "tests/unit/net/helper_ip.h"
#include "tests/unit/net/netns.h"

/* A bridge of the network "lab", and an uplink of this host; for tests of net/bridge*. */
#define TAG "vm-run:abcdefgh:net:lab"

typedef struct {
    char *name;
    NetBridge bridge;
} Fixture;

static inline BaseIp ip(const char *text)
{
    BaseIp found;
    assert_true(base_ip_parse(text, &found));
    return found;
}

/* An uplink up0 (its other end is up1) with default routes of both families. */
static inline int set_up(void **state)
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
    test_ip_run("link set up1 addrgenmode none up"); /* nothing that comes later by itself */
    test_ip_run("link set up0 addrgenmode none up");
    test_net_await_state("up0", "UP");
    test_net_await_state("up1", "UP");
    test_ip_run("address add 192.0.2.2/24 dev up0");
    test_ip_run("address add 2001:db8::2/64 dev up0 nodad");
    test_ip_run("route add default via 192.0.2.1");
    test_ip_run("-6 route add default via 2001:db8::1 dev up0 metric 512");
    test_sysctl_set("ipv4/ip_forward", 0);
    test_sysctl_set("ipv6/conf/all/forwarding", 0);
    *state = f;
    return 0;
}

static inline int tear_down(void **state)
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

static inline void assert_created(const NetBridge *bridge)
{
    g_autoptr(GError) error = NULL;
    if (!net_bridge_create(bridge, &error)) {
        fail_msg("%s", error->message);
    }
}

/* Takes the error. */
static inline void assert_code(bool is_done, GError **error, VmError code)
{
    assert_false(is_done);
    if (!g_error_matches(*error, VM_ERROR, (int)code)) {
        fail_msg("code %d, expected %d: %s", (*error)->code, (int)code, (*error)->message);
    }
    g_clear_error(error);
}

static inline char *differences(const NetBridge *bridge)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    assert_true(net_bridge_check(bridge, lines, NULL));
    g_ptr_array_add(lines, NULL);
    return g_strjoinv("\n", (char **)lines->pdata);
}

static inline void assert_no_differences(const NetBridge *bridge)
{
    g_autofree char *text = differences(bridge);
    assert_string_equal(text, "");
}

#define WITH_UPLINK(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
