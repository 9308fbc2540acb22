#pragma once
#include <string.h>
#include "net/rules.h"

/*
 * Members and networks for the tests of net/rules.h, made by hand: "10.9.0.N" on the bridge `vmbt`.
 */
#define TEST_STORE  "abcdefgh"
#define TEST_BRIDGE "vmbt"

static inline BaseIp test_ip(const char *text)
{
    BaseIp ip = {0};
    g_assert_true(base_ip_parse(text, &ip));
    return ip;
}

static inline BaseCidr test_cidr(const char *text)
{
    BaseCidr cidr = {0};
    const char *why = NULL;
    g_assert_true(base_cidr_parse(text, &cidr, &why));
    return cidr;
}

static inline void test_free_rule(gpointer data)
{
    g_free(data);
}

static inline void test_member_free(NetMember *member)
{
    g_free(member->owner);
    g_free(member->machine);
    g_free(member->network);
    g_free(member->bridge);
    g_free(member->tap);
    g_ptr_array_unref(member->ports);
    g_ptr_array_unref(member->egress.allow);
    g_ptr_array_unref(member->egress.deny);
    g_ptr_array_unref(member->net_egress.allow);
    g_ptr_array_unref(member->net_egress.deny);
    g_free(member);
}

/* The n-th machine, 2-250. */
static inline NetMember *test_member(unsigned n)
{
    NetMember *member = g_new0(NetMember, 1);
    char text[64];
    member->owner = g_strdup_printf(TEST_STORE ":1b4e28ba-2fa1-5d2b-883f-b9a76100%04x:0", n);
    member->machine = g_strdup_printf("web%u", n);
    member->network = g_strdup("lab");
    member->bridge = g_strdup(TEST_BRIDGE);
    member->tap = g_strdup_printf("vmt%012u", n);
    member->mac[0] = 0x52;
    member->mac[1] = 0x54;
    member->mac[4] = (uint8_t)(n >> 8);
    member->mac[5] = (uint8_t)n;
    g_snprintf(text, sizeof text, "10.9.%u.%u", n >> 8, n & 255);
    member->ip4 = test_ip(text);
    g_snprintf(text, sizeof text, "fd09::%x", n);
    member->ip6 = test_ip(text);
    member->cidr4 = test_cidr("10.9.0.0/16");
    member->cidr6 = test_cidr("fd09::/64");
    member->is_up = true;
    member->n_queues = 1;
    member->ports = g_ptr_array_new_with_free_func(g_free);
    member->egress.allow = g_ptr_array_new_with_free_func(test_free_rule);
    member->egress.deny = g_ptr_array_new_with_free_func(test_free_rule);
    member->net_egress.allow = g_ptr_array_new_with_free_func(test_free_rule);
    member->net_egress.deny = g_ptr_array_new_with_free_func(test_free_rule);
    return member;
}

/* host: NULL: all addresses. */
static inline NetPortMap *test_port(NetMember *member, const char *host, uint16_t host_port,
                                    uint16_t guest_port, bool is_udp, bool is_ipv6)
{
    NetPortMap *port = g_new0(NetPortMap, 1);
    port->is_udp = is_udp;
    port->host_port = host_port;
    port->guest_port = guest_port;
    port->guest = is_ipv6 ? member->ip6 : member->ip4;
    if (host) {
        port->host = test_ip(host);
    }
    g_ptr_array_add(member->ports, port);
    return port;
}

static inline void test_rule(GPtrArray *rules, const char *text)
{
    SpecEgressRule *rule = g_new0(SpecEgressRule, 1);
    const char *why = NULL;
    VmError code;
    g_assert_true(spec_egress_rule_from_text(rule, text, &code, &why));
    g_ptr_array_add(rules, rule);
}

static inline NetRulesNetwork test_network(SpecNetMode mode)
{
    return (NetRulesNetwork){.owner = TEST_STORE ":net:lab",
                             .bridge = TEST_BRIDGE,
                             .mode = mode,
                             .cidr4 = test_cidr("10.9.0.0/16"),
                             .cidr6 = test_cidr("fd09::/64")};
}
