#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/error.h"
#include "net/network_internal.h"
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
    g_free(test_run("ip", "link", "set", "lo", "up", NULL));
    return 0;
}

static void refuse(const NetworkSpec *spec, VmError code, const char *words)
{
    GError *error = NULL;
    g_autoptr(BaseReport) report = base_report_new();
    NetNetwork *network = net_network_define(store.store, spec, 5000, report, &error);
    if (network) {
        fail_msg("network '%s' was taken, not refused with '%s'", spec->name, words);
    }
    if (!g_error_matches(error, VM_ERROR, (int)code) || !strstr(error->message, words)) {
        fail_msg("%s: %s", spec->name, error->message);
    }
    g_error_free(error);
}

static char *record_text(const char *name)
{
    g_autofree char *path = g_build_filename(store.dir, "networks", name, "network.json", NULL);
    char *text = NULL;
    g_file_get_contents(path, &text, NULL, NULL);
    return text;
}

static void test_default_network_has_a_private_range_and_a_ula(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec = net_network_default_spec();
    NetNetwork *network = test_define(&store, spec);
    const NetNetworkView *view = net_network_view(network);
    assert_string_equal(view->name, "default");
    assert_int_equal(view->mode, SPEC_NET_MODE_NAT);
    assert_int_equal(view->cidr4.n_bits, 24);
    assert_int_equal(view->cidr4.ip.bytes[0], 10);
    assert_int_equal(view->cidr6.n_bits, 64);
    assert_int_equal(view->cidr6.ip.bytes[0], 0xfd);
    assert_int_equal(base_cidr_index(&view->cidr4, &view->gateway4), 1);
    assert_int_equal(base_cidr_index(&view->cidr6, &view->gateway6), 1);
    assert_int_equal(view->mtu, 1500);
    assert_true(view->has_dhcp && view->has_dns && view->is_ours);
    assert_false(view->is_up || view->is_kept);
    assert_int_equal(view->supervisor_pid, 0);
    assert_int_equal(strlen(view->bridge), 15);
    struct stat st;
    assert_int_equal(fstat(network->dirfd, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(fstatat(network->dirfd, "network.json", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
}

static void test_definition_three_times_writes_once(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec =
        test_spec("lab", "cidr", "10.44.0.0/24", "domain", "lab.test", NULL);
    struct stat first, third;
    NetNetwork *network = test_define(&store, spec);
    assert_int_equal(fstatat(network->dirfd, "network.json", &first, 0), 0);
    for (int i = 0; i < 2; i++) {
        test_close(&store);
        network = test_define(&store, spec);
    }
    assert_int_equal(fstatat(network->dirfd, "network.json", &third, 0), 0);
    assert_int_equal(first.st_ino, third.st_ino);
    test_close(&store);
    g_autoptr(NetworkSpec) loose = test_spec("lab", "domain", "lab.test", NULL);
    test_define(&store, loose); /* what it leaves open is as it is */
}

static void test_definition_that_differs_says_both_values(void **state)
{
    static const struct {
        const char *option, *text, *words;
    } rows[] = {
        {"mode", "isolated", "exists with mode 'nat', not 'isolated'"},
        {"cidr", "10.45.0.0/24", "exists with cidr '10.44.0.0/24', not '10.45.0.0/24'"},
        {"cidr", "10.44.0.9/24", "exists with cidr '10.44.0.1', not '10.44.0.9'"},
        {"cidr6", "fd99::/64", "exists with cidr6"},
        {"domain", "other.test", "exists with domain 'lab.test', not 'other.test'"},
        {"mtu", "1400", "exists with mtu '1500', not '1400'"},
        {"dhcp", "false", "exists with dhcp 'on', not 'off'"},
        {"dns", "false", "exists with dns 'on', not 'off'"},
        {"port_range", "30000-30010", "exists with port_range '20000-29999'"},
    };
    (void)state;
    g_autoptr(NetworkSpec) spec =
        test_spec("lab", "cidr", "10.44.0.0/24", "domain", "lab.test", NULL);
    test_define(&store, spec);
    test_close(&store);
    g_autofree char *before = record_text("lab");
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        bool is_cidr = !strcmp(rows[i].option, "cidr"),
             is_domain = !strcmp(rows[i].option, "domain");
        g_autoptr(NetworkSpec) other =
            is_cidr     ? test_spec("lab", "cidr", rows[i].text, "domain", "lab.test", NULL)
            : is_domain ? test_spec("lab", "cidr", "10.44.0.0/24", "domain", rows[i].text, NULL)
                        : test_spec("lab", "cidr", "10.44.0.0/24", "domain", "lab.test",
                                    rows[i].option, rows[i].text, NULL);
        refuse(other, VM_ERROR_EXISTS, rows[i].words);
    }
    g_autofree char *after = record_text("lab");
    assert_string_equal(before, after);
}

static void test_network_that_is_kept_later_is_kept(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec = test_spec("lab", "cidr", "10.44.0.0/24", NULL);
    g_autoptr(NetworkSpec) kept = test_spec("lab", "cidr", "10.44.0.0/24", "keep", "true", NULL);
    test_define(&store, spec);
    test_close(&store);
    assert_true(net_network_view(test_define(&store, kept))->is_kept);
    test_close(&store);
    assert_true(net_network_view(test_define(&store, spec))->is_kept);
}

static void test_prefix_that_overlaps_is_refused_with_its_owner(void **state)
{
    (void)state;
    g_free(test_run("ip", "link", "add", "up0", "type", "bridge", NULL));
    g_free(test_run("ip", "addr", "add", "192.0.2.5/24", "dev", "up0", NULL));
    g_free(test_run("ip", "link", "set", "up0", "up", NULL));
    g_free(test_run("ip", "route", "add", "10.70.0.0/16", "via", "192.0.2.1", NULL));
    g_autoptr(NetworkSpec) a = test_spec("a", "cidr", "10.44.0.0/24", "cidr6", "fd44::/64", NULL);
    g_autoptr(NetworkSpec) b = test_spec("b", "cidr", "10.44.0.128/25", NULL);
    g_autoptr(NetworkSpec) c = test_spec("c", "cidr", "10.70.3.0/24", NULL);
    g_autoptr(NetworkSpec) d = test_spec("d", "cidr", "192.0.0.0/16", NULL);
    g_autoptr(NetworkSpec) e = test_spec("e", "cidr6", "fd44::/64", NULL);
    test_define(&store, a);
    test_close(&store);
    refuse(b, VM_ERROR_NET, "cidr 10.44.0.128/25 overlaps 10.44.0.0/24, network 'a'");
    refuse(c, VM_ERROR_NET,
           "10.70.3.0/24: network 'c': cidr 10.70.3.0/24 overlaps 10.70.0.0/16, a "
           "route of this host");
    refuse(d, VM_ERROR_NET, "overlaps 192.0.2.0/24, a route of this host");
    refuse(e, VM_ERROR_NET, "cidr6 fd44::/64 overlaps fd44::/64, network 'a'");
    g_auto(GStrv) names = net_store_names(store.store, NULL);
    assert_int_equal(g_strv_length(names), 1); /* nothing is left of the others */
    g_autofree char *locks = g_build_filename(store.dir, "locks", NULL);
    g_autofree char *left = test_run("ls", locks, NULL);
    assert_null(strstr(left, "net.b"));
    g_free(test_run("ip", "link", "del", "up0", NULL));
}

/* Where 10/8 is the host's own, the others are looked at, without what Docker, libvirt and podman
 * use. */
static void test_chosen_prefixes_avoid_routes_and_usual_ranges(void **state)
{
    (void)state;
    g_free(test_run("ip", "route", "add", "unreachable", "10.0.0.0/8", NULL));
    g_autoptr(NetworkSpec) a = test_spec("a", NULL);
    BaseCidr first = net_network_view(test_define(&store, a))->cidr4;
    test_close(&store);
    assert_int_equal(first.ip.bytes[0], 172);
    assert_in_range(first.ip.bytes[1], 16, 31);
    assert_int_not_equal(first.ip.bytes[1], 17);
    g_free(test_run("ip", "route", "add", "unreachable", "172.16.0.0/12", NULL));
    g_autoptr(NetworkSpec) b = test_spec("b", NULL);
    BaseCidr second = net_network_view(test_define(&store, b))->cidr4;
    test_close(&store);
    assert_int_equal(second.ip.bytes[0], 192);
    assert_int_not_equal(second.ip.bytes[2], 122);
    g_free(test_run("ip", "route", "add", "unreachable", "192.168.0.0/16", NULL));
    g_autoptr(NetworkSpec) c = test_spec("c", NULL);
    refuse(c, VM_ERROR_NET, "no private range is free");
    g_free(test_run("ip", "route", "flush", "type", "unreachable", NULL));
}

static void test_networks_choose_prefixes_of_their_own(void **state)
{
    (void)state;
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (int i = 0; i < 40; i++) {
        g_autofree char *name = g_strdup_printf("n%d", i);
        g_autoptr(NetworkSpec) spec = test_spec(name, "mode", i % 2 ? "isolated" : "nat", NULL);
        const NetNetworkView *view = net_network_view(test_define(&store, spec));
        char text[BASE_CIDR_TEXT_BYTES];
        assert_true(g_hash_table_add(seen, g_strdup(base_cidr_format(&view->cidr4, text))));
        assert_true(g_hash_table_add(seen, g_strdup(base_cidr_format(&view->cidr6, text))));
        assert_true(g_hash_table_add(seen, g_strdup(view->bridge)));
        test_close(&store);
    }
}

static void test_mode_bridge_needs_its_bridge(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec = net_network_bridge_spec("br7");
    assert_string_equal(spec->name, "bridge.br7");
    refuse(spec, VM_ERROR_NOT_FOUND, "there is no bridge 'br7'");
    g_free(test_run("ip", "link", "add", "br7", "type", "bridge", NULL));
    NetNetwork *network = test_define(&store, spec);
    const NetNetworkView *view = net_network_view(network);
    assert_false(view->is_ours || view->has_dhcp || view->has_dns);
    assert_int_equal(view->mtu, 0);
    assert_false(base_ip_is_set(&view->cidr4.ip));
    g_autoptr(NetMember) member = test_member(&store, network, "web");
    assert_false(base_ip_is_set(&member->ip4) || base_ip_is_set(&member->ip6));
    g_free(test_run("ip", "link", "del", "br7", NULL));
}

static void test_bridge_name_of_another_network_is_refused(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) a = test_spec("a", "bridge", "labbr0", NULL);
    g_autoptr(NetworkSpec) b = test_spec("b", "bridge", "labbr0", NULL);
    test_define(&store, a);
    test_close(&store);
    refuse(b, VM_ERROR_EXISTS, "bridge 'labbr0' belongs to network 'a'");
}

static void test_names_that_are_none_are_refused(void **state)
{
    static const char *const names[] = {
        "",       ".",  "..",      "a/b",        "A",
        "-a",     "a-", "bridge.", "bridge.a/b", "bridge.0123456789abcdef",
        ".gone-a"};
    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        GError *error = NULL;
        assert_null(net_network_open(store.store, names[i], 0, &error));
        assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_NAME));
        g_clear_error(&error);
        assert_null(net_network_peek(store.store, names[i], &error));
        g_clear_error(&error);
    }
    GError *error = NULL;
    assert_null(net_network_open(store.store, "nobody", 0, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_NOT_FOUND));
    g_error_free(error);
}

static void test_network_that_is_open_is_busy_and_can_be_peeked_at(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec = test_spec("lab", NULL);
    test_define(&store, spec);
    GError *error = NULL;
    assert_null(net_network_open(store.store, "lab", 20, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_BUSY));
    assert_non_null(strstr(error->message, "held by pid"));
    g_clear_error(&error);
    g_autoptr(NetNetwork) peek = net_network_peek(store.store, "lab", &error);
    assert_non_null(peek);
    assert_string_equal(net_network_view(peek)->name, "lab");
}

static void test_damaged_record_is_told_and_kept(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec = test_spec("lab", NULL);
    test_define(&store, spec);
    test_close(&store);
    g_autofree char *path = g_build_filename(store.dir, "networks/lab/network.json", NULL);
    assert_true(g_file_set_contents(path, "{\"v\":1,", -1, NULL));
    GError *error = NULL;
    assert_null(net_network_open(store.store, "lab", 100, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_STATE));
    g_clear_error(&error);
    assert_null(net_network_define(store.store, spec, 100, NULL, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_STATE));
    g_clear_error(&error);
    assert_int_equal(unlink(path), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
        TEST(test_default_network_has_a_private_range_and_a_ula),
        TEST(test_definition_three_times_writes_once),
        TEST(test_definition_that_differs_says_both_values),
        TEST(test_network_that_is_kept_later_is_kept),
        TEST(test_prefix_that_overlaps_is_refused_with_its_owner),
        TEST(test_chosen_prefixes_avoid_routes_and_usual_ranges),
        TEST(test_networks_choose_prefixes_of_their_own),
        TEST(test_mode_bridge_needs_its_bridge),
        TEST(test_bridge_name_of_another_network_is_refused),
        TEST(test_names_that_are_none_are_refused),
        TEST(test_network_that_is_open_is_busy_and_can_be_peeked_at),
        TEST(test_damaged_record_is_told_and_kept),
#undef TEST
    };
    if (!test_netns_enter()) {
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
