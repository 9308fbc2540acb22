#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
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
    return 0;
}

static NetNetwork *lab(const char *cidr)
{
    g_autoptr(NetworkSpec) spec = test_spec("lab", "cidr", cidr, "cidr6", "fd12::/64", NULL);
    return test_define(&store, spec);
}

static NetMember *blank(const char *machine)
{
    g_autofree char *uuid = test_uuid(machine);
    NetMember *member = net_member_new();
    member->owner = g_strdup_printf("%s:%s:0", store.id, uuid);
    member->machine = g_strdup(machine);
    return member;
}

static void test_choice_follows_from_the_owner(void **state)
{
    (void)state;
    NetNetwork *network = lab("10.44.0.0/24");
    g_autoptr(NetMember) a = test_member(&store, network, "web");
    test_close(&store);
    network = test_open(&store, "lab");
    g_autoptr(NetMember) b = test_member(&store, network, "web");
    assert_memory_equal(a->mac, b->mac, 6);
    assert_true(base_ip_equal(&a->ip4, &b->ip4));
    assert_true(base_ip_equal(&a->ip6, &b->ip6));
    assert_true(base_cidr_contains(&network->record->cidr4, &a->ip4));
    assert_true(base_cidr_contains(&network->record->cidr6, &a->ip6));
    assert_true(base_ip_is_set(&a->cidr4.ip) && base_ip_is_set(&a->cidr6.ip));
    assert_int_equal(a->mac[0] & 1, 0);
}

/* All addresses of a small network are given, each once, and then no more. */
static void test_choice_fills_a_network_to_the_last_address(void **state)
{
    (void)state;
    NetNetwork *network = lab("10.44.0.0/28");
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (int i = 0; i < 13; i++) { /* 16, without network, broadcast and gateway */
        g_autofree char *name = g_strdup_printf("m%d", i);
        g_autoptr(NetMember) member = test_member(&store, network, name);
        char text[BASE_IP_TEXT_BYTES];
        assert_true(g_hash_table_add(seen, g_strdup(base_ip_format(&member->ip4, text))));
        test_put(network, member);
    }
    assert_false(g_hash_table_contains(seen, "10.44.0.0"));
    assert_false(g_hash_table_contains(seen, "10.44.0.1"));
    assert_false(g_hash_table_contains(seen, "10.44.0.15"));
    g_autoptr(NetMember) last = blank("last");
    GError *error = NULL;
    assert_false(net_network_choose(network, last, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_NO_SPACE));
    assert_false(base_ip_is_set(&last->ip4));
    g_error_free(error);
}

static void test_choice_on_one_handle_avoids_the_earlier_ones(void **state)
{
    (void)state;
    NetNetwork *network = lab("10.44.0.0/29");
    g_autoptr(NetMember) a = test_member(&store, network, "a");
    g_autoptr(NetMember) b = test_member(&store, network, "b");
    g_autoptr(NetMember) c = test_member(&store, network, "c");
    assert_false(base_ip_equal(&a->ip4, &b->ip4));
    assert_false(base_ip_equal(&a->ip4, &c->ip4));
    assert_false(base_ip_equal(&b->ip4, &c->ip4));
}

static void test_choice_honours_the_range(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec =
        test_spec("lab", "cidr", "10.44.0.0/16", "dhcp_range", "10.44.7.10-10.44.7.12", NULL);
    NetNetwork *network = test_define(&store, spec);
    BaseIp first, last;
    assert_true(base_ip_parse("10.44.7.10", &first) && base_ip_parse("10.44.7.12", &last));
    for (int i = 0; i < 3; i++) {
        g_autofree char *name = g_strdup_printf("m%d", i);
        g_autoptr(NetMember) member = test_member(&store, network, name);
        assert_true(base_ip_compare(&first, &member->ip4) <= 0);
        assert_true(base_ip_compare(&member->ip4, &last) <= 0);
        test_put(network, member);
    }
    g_autoptr(NetMember) more = blank("more");
    assert_false(net_network_choose(network, more, NULL));
    assert_true(base_ip_parse("10.44.9.9", &more->ip4)); /* fixed ones are free of it */
    assert_true(net_network_choose(network, more, NULL));
}

static void test_member_that_is_there_keeps_its_addresses(void **state)
{
    (void)state;
    NetNetwork *network = lab("10.44.0.0/24");
    g_autoptr(NetMember) member = blank("web");
    assert_true(base_ip_parse("10.44.0.77", &member->ip4));
    assert_true(net_network_choose(network, member, NULL));
    test_put(network, member);
    test_close(&store);
    network = test_open(&store, "lab");
    g_autoptr(NetMember) again = test_member(&store, network, "web");
    assert_true(base_ip_equal(&again->ip4, &member->ip4));
    assert_true(base_ip_equal(&again->ip6, &member->ip6));
    assert_memory_equal(again->mac, member->mac, 6);
}

static void refuse_ip(NetNetwork *network, const char *address, VmError code, const char *words)
{
    g_autoptr(NetMember) member = blank("asker");
    GError *error = NULL;
    BaseIp ip;
    assert_true(base_ip_parse(address, &ip));
    if (ip.n_bytes == 4) {
        member->ip4 = ip;
    } else {
        member->ip6 = ip;
    }
    if (net_network_choose(network, member, &error)) {
        fail_msg("%s was taken", address);
    }
    if (!g_error_matches(error, VM_ERROR, (int)code) || !strstr(error->message, words)) {
        fail_msg("%s: %s", address, error->message);
    }
    g_error_free(error);
}

static void test_fixed_addresses_are_checked(void **state)
{
    (void)state;
    NetNetwork *network = lab("10.44.0.0/24");
    g_autoptr(NetMember) web = blank("web");
    assert_true(base_ip_parse("10.44.0.9", &web->ip4) && base_ip_parse("fd12::9", &web->ip6));
    assert_true(net_network_choose(network, web, NULL));
    test_put(network, web);
    refuse_ip(network, "10.45.0.9", VM_ERROR_NET, "outside of network 'lab' (10.44.0.0/24)");
    refuse_ip(network, "fd13::9", VM_ERROR_NET, "outside of network 'lab'");
    refuse_ip(network, "10.44.0.0", VM_ERROR_NET, "network's own address");
    refuse_ip(network, "fd12::", VM_ERROR_NET, "anycast");
    refuse_ip(network, "10.44.0.255", VM_ERROR_NET, "broadcast");
    refuse_ip(network, "10.44.0.1", VM_ERROR_NET, "gateway");
    refuse_ip(network, "fd12::1", VM_ERROR_NET, "gateway");
    refuse_ip(network, "10.44.0.9", VM_ERROR_EXISTS, "belongs to machine 'web'");
    refuse_ip(network, "fd12::9", VM_ERROR_EXISTS, "belongs to machine 'web'");
}

static void test_fixed_address_of_a_family_that_is_not_there_is_refused(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec = test_spec("lab", "cidr", "10.44.0.0/24", "cidr6", "none", NULL);
    NetNetwork *network = test_define(&store, spec);
    refuse_ip(network, "fd12::9", VM_ERROR_NET, "has no IPv6");
    g_autoptr(NetMember) member = test_member(&store, network, "web");
    assert_false(base_ip_is_set(&member->ip6));
}

static void test_macs_are_unique_on_the_network(void **state)
{
    (void)state;
    NetNetwork *network = lab("10.44.0.0/24");
    g_autoptr(NetMember) web = test_member(&store, network, "web");
    g_autoptr(NetMember) first = blank("first"); /* has by request what web would get by its hash */
    memcpy(first->mac, web->mac, 6);
    test_close(&store);
    network = test_open(&store, "lab");
    assert_true(net_network_choose(network, first, NULL));
    test_put(network, first);
    g_autoptr(NetMember) again = test_member(&store, network, "web");
    assert_true(memcmp(again->mac, first->mac, 6));
    g_autoptr(NetMember) third = blank("third");
    memcpy(third->mac, web->mac, 6);
    GError *error = NULL;
    assert_false(net_network_choose(network, third, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_EXISTS));
    assert_non_null(strstr(error->message, "belongs to machine 'first'"));
    g_error_free(error);
}

static void test_address_of_a_dropped_member_is_free(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec = test_spec("lab", "cidr", "10.44.0.0/24", "keep", "true", NULL);
    NetNetwork *network = test_define(&store, spec);
    g_autoptr(NetMember) web = blank("web");
    assert_true(base_ip_parse("10.44.0.9", &web->ip4));
    assert_true(net_network_choose(network, web, NULL));
    test_put(network, web);
    assert_true(net_network_drop_member(network, web->owner, NULL));
    assert_true(net_network_drop_member(network, web->owner, NULL));
    test_close(&store);
    network = test_open(&store, "lab");
    g_autoptr(NetMember) other = blank("other");
    assert_true(base_ip_parse("10.44.0.9", &other->ip4));
    assert_true(net_network_choose(network, other, NULL));
    test_put(network, other);
    refuse_ip(network, "10.44.0.9", VM_ERROR_EXISTS, "machine 'other'");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
        TEST(test_choice_follows_from_the_owner),
        TEST(test_choice_fills_a_network_to_the_last_address),
        TEST(test_choice_on_one_handle_avoids_the_earlier_ones),
        TEST(test_choice_honours_the_range),
        TEST(test_member_that_is_there_keeps_its_addresses),
        TEST(test_fixed_addresses_are_checked),
        TEST(test_fixed_address_of_a_family_that_is_not_there_is_refused),
        TEST(test_macs_are_unique_on_the_network),
        TEST(test_address_of_a_dropped_member_is_free),
#undef TEST
    };
    if (!test_netns_enter()) {
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
