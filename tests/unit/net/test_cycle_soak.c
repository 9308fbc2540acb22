/* 1,000 machines come and go on one bridge, with filter, ports, policy and tap each, and nothing of
 * them is left (net/rules.h, net/tap.h). */
#include "net/rules.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>
#include <cmocka.h>
#include "net/bridge.h"
#include "net/tap.h"
#include "tests/unit/net/helper_ip.h"
#include "tests/unit/net/netns.h"

#define TEST_STORE "abcdefgh"
#define BRIDGE_TAG "vm-run:" TEST_STORE ":net:lab"

enum { N_CYCLES = 1000, N_WARM = 20, MEMORY_ROOM_KIB = 2048 };

static void must(bool is_done, GError *error)
{
    if (!is_done) {
        fail_msg("%s", error->message);
    }
}

static BaseIp fixture_ip(const char *text)
{
    BaseIp ip = {0};
    assert_true(base_ip_parse(text, &ip));
    return ip;
}

static NetBridge lab(const char *name)
{
    NetBridge bridge = {.name = name,
                        .owner_tag = BRIDGE_TAG,
                        .mode = SPEC_NET_MODE_NAT,
                        .gateway4 = fixture_ip("10.9.0.1"),
                        .gateway6 = fixture_ip("fd09::1"),
                        .n_bits4 = 16,
                        .n_bits6 = 64};
    net_bridge_mac(BRIDGE_TAG, bridge.mac);
    return bridge;
}

static void add_port(NetMember *member, BaseIp host, BaseIp guest, uint16_t guest_port, bool is_udp)
{
    NetPortMap *port = g_new0(NetPortMap, 1);
    *port = (NetPortMap){.is_udp = is_udp, .host = host, .guest = guest, .guest_port = guest_port};
    g_ptr_array_add(member->ports, port);
}

static BaseCidr fixture_cidr(const char *text)
{
    BaseCidr cidr = {0};
    const char *why;
    assert_true(base_cidr_parse(text, &cidr, &why));
    return cidr;
}

static NetMember *member_new(const char *bridge, unsigned i)
{
    BaseCidr cidr4 = fixture_cidr("10.9.0.0/16"), cidr6 = fixture_cidr("fd09::/64");
    g_autofree char *owner = g_strdup_printf(TEST_STORE ":machine-%u", i);
    NetMember *member = net_member_new();
    member->owner = g_strdup_printf("%s:0", owner);
    member->machine = g_strdup_printf("web%u", i);
    member->network = g_strdup("lab");
    member->bridge = g_strdup(bridge);
    member->tap = net_tap_name(owner, 0);
    member->tap_tag = net_tap_owner_tag(owner, 0);
    member->mac[0] = 0x52;
    member->mac[4] = (uint8_t)(i >> 8);
    member->mac[5] = (uint8_t)i;
    member->ip4 = base_cidr_nth(&cidr4, i + 2);
    member->ip6 = base_cidr_nth(&cidr6, i + 2);
    member->is_up = true;
    member->egress.is_restricted = i % 3 == 0;
    add_port(member, (BaseIp){0}, member->ip4, 80, false);
    add_port(member, (BaseIp){0}, member->ip6, 80, false);
    add_port(member, fixture_ip("127.0.0.1"), member->ip4, 53, true);
    return member;
}

static void cycle(const char *bridge, unsigned i)
{
    g_autoptr(GError) error = NULL;
    NetMember *member = member_new(bridge, i);
    const char *tag = member->tap_tag;
    must(net_rules_choose_ports(&member, 1, 20000, 29999, &error), error);
    must(net_rules_apply(&member, 1, NULL, 0, &error), error);
    NetTap tap = {.name = member->tap, .owner_tag = tag, .bridge = bridge};
    must(net_tap_create(&tap, &error), error);
    must(net_tap_remove(member->tap, tag, &error), error);
    must(net_rules_remove(&member, 1, &error), error);
    net_member_free(member);
}

static long peak_kib(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

static unsigned n_open(void)
{
    unsigned n = 0;
    for (int fd = 0; fd < 256; fd++) {
        n += fcntl(fd, F_GETFD) >= 0;
    }
    return n;
}

static void test_1000_cycles_leave_nothing(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    g_autofree char *name = net_bridge_name(BRIDGE_TAG);
    g_autofree char *bare = test_net_census();
    NetBridge bridge = lab(name);
    NetRulesNetwork network = {.owner = TEST_STORE ":net:lab",
                               .bridge = name,
                               .mode = SPEC_NET_MODE_NAT,
                               .cidr4 = fixture_cidr("10.9.0.0/16"),
                               .cidr6 = fixture_cidr("fd09::/64")};
    must(net_bridge_create(&bridge, &error), error);
    must(net_rules_add_network(&network, &error), error);
    for (unsigned i = 0; i < N_WARM; i++) { /* libraries are loaded, sockets open */
        cycle(name, i);
    }
    test_net_await_state(name, "DOWN"); /* the kernel says so by and by: it has no port any more */
    g_autofree char *links = test_net_census();
    g_autofree char *rules = test_command("nft list ruleset");
    unsigned n_fds = n_open();
    long kib = peak_kib();
    for (unsigned i = 0; i < N_CYCLES; i++) {
        cycle(name, i);
    }
    test_net_await_state(name, "DOWN");
    g_autofree char *links_after = test_net_census();
    g_autofree char *rules_after = test_command("nft list ruleset");
    assert_string_equal(links_after, links);
    assert_string_equal(rules_after, rules);
    assert_int_equal(n_open(), n_fds);
#ifndef TEST_SANITIZED
    assert_in_range(peak_kib() - kib, 0, MEMORY_ROOM_KIB);
#endif
    must(net_rules_remove_network(&network, &error), error);
    must(net_bridge_remove(name, BRIDGE_TAG, &error), error);
    g_autofree char *end = test_net_census();
    g_autofree char *no_rules = test_command("nft list ruleset");
    assert_string_equal(end, bare);
    assert_string_equal(no_rules, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_1000_cycles_leave_nothing),
    };
    if (!test_netns_enter()) {
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
