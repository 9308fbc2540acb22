/* Death at each system call of what makes and removes links (net/bridge, tap, macvtap, shape): the
 * next call completes it, or a sweep by tags leaves nothing. */
#include "net/link_birth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <net/if.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <cmocka.h>
#include "net/bridge.h"
#include "net/macvtap.h"
#include "net/shape.h"
#include "net/tap.h"
#include "tests/unit/net/helper_ip.h"
#include "tests/unit/net/helper_trace.h"
#include "tests/unit/net/netns.h"

#define STORE    "vm-run:abcdefgh:"
#define TAG      STORE "net:lab"
#define TAP_TAG  STORE "1b4e28ba-2fa1-5d2b-883f-b9a761bde3fb:0"
#define MVT_TAG  STORE "1b4e28ba-2fa1-5d2b-883f-b9a761bde3fb:1"
#define RATE_BPS 20000000

typedef struct {
    char *bridge_name, *tap_name, *macvtap_name;
    NetBridge bridge;
    NetTap tap;
    NetMacvtap macvtap;
} Fixture;

static int set_up(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    f->bridge_name = net_bridge_name(TAG);
    f->tap_name = net_tap_name("u", 0);
    f->macvtap_name = net_macvtap_name("u", 1);
    f->bridge = (NetBridge){.name = f->bridge_name,
                            .owner_tag = TAG,
                            .mode = SPEC_NET_MODE_NAT,
                            .n_bits4 = 24,
                            .n_bits6 = 64};
    base_ip_parse("10.87.0.1", &f->bridge.gateway4);
    base_ip_parse("fd00:87::1", &f->bridge.gateway6);
    net_bridge_mac(TAG, f->bridge.mac);
    f->tap = (NetTap){.name = f->tap_name,
                      .owner_tag = TAP_TAG,
                      .bridge = "br0",
                      .mac = "52:54:00:12:34:56",
                      .owner_uid = 77,
                      .owner_gid = 78,
                      .n_queues = 2};
    f->macvtap = (NetMacvtap){.name = f->macvtap_name,
                              .owner_tag = MVT_TAG,
                              .lower = "low0",
                              .mode = NET_MACVTAP_BRIDGE,
                              .mac = "52:54:00:12:34:57"};
    test_ip_run("link add br0 type bridge");
    test_ip_run("link add low0 type veth peer name low1");
    test_ip_run("link set low1 up");
    test_ip_run("link set low0 up");
    test_ip_run("address add 192.0.2.2/24 dev low0");
    test_ip_run("route add default via 192.0.2.1");
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    test_ip_run("link del br0");
    test_ip_run("link del low0");
    g_free(f->bridge_name);
    g_free(f->tap_name);
    g_free(f->macvtap_name);
    g_free(f);
    return 0;
}

/* As gc does it: what carries our tags, and what was cut off before. */
static bool sweep(void)
{
    static const struct {
        GPtrArray *(*list)(GError **error);
        bool (*remove)(const char *name, const char *tag, GError **error);
    } kinds[] = {{net_tap_list, net_tap_remove},
                 {net_macvtap_list, net_macvtap_remove},
                 {net_bridge_list, net_bridge_remove}};
    bool is_fine = true;
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autoptr(GPtrArray) lines = kinds[i].list(NULL);
        for (guint k = 0; lines && k < lines->len; k++) {
            g_auto(GStrv) words = g_strsplit(lines->pdata[k], " ", 2);
            is_fine = kinds[i].remove(words[0], words[1], NULL) && is_fine;
        }
    }
    g_autoptr(GPtrArray) bridges = net_bridge_sweep(false, NULL);
    g_autoptr(GPtrArray) macvtaps = net_macvtap_sweep(false, NULL);
    g_autoptr(GPtrArray) ifbs = net_shape_sweep(false, NULL);
    return is_fine && bridges && macvtaps && ifbs;
}

/* Names of all links with all they are called. */
static char *links(void)
{
    g_autoptr(NetSocket) sock = net_socket_open(NULL);
    g_autoptr(GPtrArray) all = net_link_list(sock, NULL, 0, NULL);
    GString *text = g_string_new(NULL);
    for (guint i = 0; i < all->len; i++) {
        const NetLink *link = all->pdata[i];
        g_string_append_printf(text, "%s %s %s\n", link->name, link->kind,
                               net_link_tag(link) ? net_link_tag(link) : "-");
    }
    return g_string_free(text, FALSE);
}

/* What is done and dies; what is there before it and must be so again; and how all that is wanted
 * is checked after it was done again. */
typedef struct {
    bool (*prepare)(void *data);
    bool (*work)(void *data);
    bool (*is_done)(Fixture *f);
} Case;

static void die_at_each_call(Fixture *f, const Case *c)
{
    g_autofree char *before = links();
    unsigned n_calls = 0;
    for (unsigned n = 1; n == 1 || n_calls >= n - 1; n++) {
        for (int is_again = 0; is_again < 2; is_again++) {
            assert_true(!c->prepare || c->prepare(f));
            TestTrace trace = test_trace(c->work, f, n);
            n_calls = trace.n_calls;
            if (!trace.is_killed) { /* it has fewer calls: done */
                assert_int_equal(trace.status, 0);
                assert_true(c->is_done(f));
                assert_true(sweep());
                assert_true(n > 5);
                print_message("killed at each of %u calls\n", n - 1);
                return;
            }
            assert_true(WIFSIGNALED(trace.status) && WTERMSIG(trace.status) == SIGKILL);
            if (is_again && !(c->work(f) && c->is_done(f))) {
                fail_msg("killed at call %u, it can't be completed", n);
            }
            assert_true(sweep());
            g_autofree char *after = links();
            if (strcmp(before, after) != 0) {
                fail_msg("killed at call %u, left:\n%s", n, after);
            }
        }
    }
}

static bool make_bridge(void *data)
{
    return net_bridge_create(&((Fixture *)data)->bridge, NULL);
}

static bool is_bridge_right(Fixture *f)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    return net_bridge_check(&f->bridge, lines, NULL) && lines->len == 0;
}

static bool remove_bridge(void *data)
{
    return net_bridge_remove(((Fixture *)data)->bridge_name, TAG, NULL);
}

static bool is_bridge_gone(Fixture *f)
{
    return if_nametoindex(f->bridge_name) == 0;
}

static bool make_tap(void *data)
{
    return net_tap_create(&((Fixture *)data)->tap, NULL);
}

static bool is_tap_right(Fixture *f)
{
    json_t *link = test_ip_link(f->tap_name);
    json_t *info = json_object_get(json_object_get(link, "linkinfo"), "info_data");
    bool is_right = !strcmp(test_json_text(link, "master"), "br0") &&
                    json_integer_value(json_object_get(info, "user")) == 77 &&
                    json_integer_value(json_object_get(link, "txqlen")) == 32 &&
                    json_is_true(json_object_get(info, "persist")) &&
                    json_is_true(json_object_get(info, "multi_queue"));
    json_decref(link);
    return is_right;
}

static bool make_macvtap(void *data)
{
    return net_macvtap_create(&((Fixture *)data)->macvtap, NULL);
}

static bool is_macvtap_right(Fixture *f)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    return net_macvtap_check(&f->macvtap, lines, NULL) && lines->len == 0;
}

static bool make_shape(void *data)
{
    return net_shape_apply(((Fixture *)data)->tap_name, TAP_TAG, RATE_BPS, RATE_BPS, NULL);
}

static bool is_shape_right(Fixture *f)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    return net_shape_check(f->tap_name, TAP_TAG, RATE_BPS, RATE_BPS, lines, NULL) &&
           lines->len == 0;
}

static bool make_shaped_tap(void *data)
{
    return make_tap(data) && make_shape(data);
}

static bool remove_tap(void *data)
{
    return net_tap_remove(((Fixture *)data)->tap_name, TAP_TAG, NULL);
}

static bool is_tap_gone(Fixture *f)
{
    g_autoptr(GPtrArray) shaped = net_shape_list(NULL);
    return if_nametoindex(f->tap_name) == 0 && shaped->len == 0;
}

static void test_bridge_creation_dies_then_completed_or_swept(void **state)
{
    die_at_each_call(*state, &(Case){NULL, make_bridge, is_bridge_right});
}

static void test_bridge_removal_dies_then_completed_or_swept(void **state)
{
    Fixture *f = *state;
    assert_true(make_bridge(f));
    assert_true(sweep());
    die_at_each_call(f, &(Case){make_bridge, remove_bridge, is_bridge_gone});
}

static void test_tap_creation_dies_then_completed_or_swept(void **state)
{
    die_at_each_call(*state, &(Case){NULL, make_tap, is_tap_right});
}

static void test_macvtap_creation_dies_then_completed_or_swept(void **state)
{
    die_at_each_call(*state, &(Case){NULL, make_macvtap, is_macvtap_right});
}

static void test_shaping_dies_then_completed_or_swept(void **state)
{
    die_at_each_call(*state, &(Case){make_tap, make_shape, is_shape_right});
}

static void test_removal_of_shaped_tap_dies_then_completed_or_swept(void **state)
{
    die_at_each_call(*state, &(Case){make_shaped_tap, remove_tap, is_tap_gone});
}

/* The other half of idempotency: no file is opened for writing, either. */
static void test_second_call_then_no_file_is_written(void **state)
{
    Fixture *f = *state;
    bool (*const makes[])(void *data) = {make_bridge, make_tap, make_macvtap};
    for (gsize i = 0; i < G_N_ELEMENTS(makes); i++) {
        TestTrace first = test_trace(makes[i], f, 0);
        TestTrace second = test_trace(makes[i], f, 0);
        assert_int_equal(first.status, 0);
        assert_int_equal(second.status, 0);
        assert_true(first.n_write_opens > 0);
        assert_int_equal(second.n_write_opens, 0);
        assert_true(second.n_calls < first.n_calls);
    }
    assert_true(sweep());
}

#define WITH_LINKS(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    if (!test_netns_enter()) {
        return 77;
    }
    const struct CMUnitTest tests[] = {
        WITH_LINKS(test_bridge_creation_dies_then_completed_or_swept),
        WITH_LINKS(test_bridge_removal_dies_then_completed_or_swept),
        WITH_LINKS(test_tap_creation_dies_then_completed_or_swept),
        WITH_LINKS(test_macvtap_creation_dies_then_completed_or_swept),
        WITH_LINKS(test_shaping_dies_then_completed_or_swept),
        WITH_LINKS(test_removal_of_shaped_tap_dies_then_completed_or_swept),
        WITH_LINKS(test_second_call_then_no_file_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
