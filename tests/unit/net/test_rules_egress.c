#include "net/rules.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <arpa/inet.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/fd.h"
#include "net/bridge.h"
#include "net/nft.h"
#include "tests/unit/net/helper_rules_lab.h"
#include "tests/unit/net/netns.h"
#include "tests/unit/net/rules_fixture.h"

/* Where guests may go, with real sockets, by policy and by the network's mode. */

enum { HOST_PORT = 8080, GUEST_PORT = 80, OTHER_PORT = 9001, SERVICE_PORT = 9000, DNS_PORT = 53 };

static void apply(NetMember *member, NetMember *old)
{
    g_autoptr(GError) error = NULL;
    if (!net_rules_apply(&member, 1, old ? &old : NULL, old != NULL, &error)) {
        fail_msg("%s", error->message);
    }
}

/* --- where guest A may try to go ---------------------------------------------- */

static const struct {
    const char *name;
    int server;
    int type;
    const char *listen, *address;
    uint16_t port;
} goals[] = {
    {"outside", LAB_OUTSIDE, SOCK_STREAM, "198.51.100.2", "198.51.100.2", SERVICE_PORT},
    {"outside, other port", LAB_OUTSIDE, SOCK_STREAM, "198.51.100.2", "198.51.100.2", OTHER_PORT},
    {"outside, udp", LAB_OUTSIDE, SOCK_DGRAM, "198.51.100.2", "198.51.100.2", SERVICE_PORT},
    {"outside, IPv6", LAB_OUTSIDE, SOCK_STREAM, "2001:db8:1::2", "2001:db8:1::2", SERVICE_PORT},
    {"private", LAB_OUTSIDE, SOCK_STREAM, "192.168.77.1", "192.168.77.1", SERVICE_PORT},
    {"host", LAB_HOST, SOCK_STREAM, "10.9.0.1", "10.9.0.1", SERVICE_PORT},
    {"host's public address", LAB_HOST, SOCK_STREAM, "198.51.100.1", "198.51.100.1", SERVICE_PORT},
    {"host, IPv6", LAB_HOST, SOCK_STREAM, "fd09::1", "fd09::1", SERVICE_PORT},
    {"host, link-local", LAB_HOST, SOCK_STREAM, "::", "fe80::%eth0", OTHER_PORT},
    {"gateway's DNS", LAB_HOST, SOCK_DGRAM, "10.9.0.1", "10.9.0.1", DNS_PORT},
    {"gateway's DNS, IPv6", LAB_HOST, SOCK_STREAM, "fd09::1", "fd09::1", DNS_PORT},
    {"DNS at another address", LAB_HOST, SOCK_DGRAM, "198.51.100.1", "198.51.100.1", DNS_PORT},
    {"neighbour", LAB_B, SOCK_STREAM, "10.9.0.3", "10.9.0.3", SERVICE_PORT},
};

enum {
    OUT = 1 << 0,
    OUT_PORT = 1 << 1,
    OUT_UDP = 1 << 2,
    OUT6 = 1 << 3,
    PRIVATE = 1 << 4,
    HOST4 = 1 << 5,
    HOST_PUBLIC = 1 << 6,
    HOST6 = 1 << 7,
    HOST_LL = 1 << 8,
    DNS4 = 1 << 9,
    DNS6 = 1 << 10,
    DNS_ELSEWHERE = 1 << 11,
    NEIGHBOUR = 1 << 12,
    EVERYTHING = (1 << 13) - 1,
    ALL_OUT = OUT | OUT_PORT | OUT_UDP | OUT6,
    GATEWAY_DNS = DNS4 | DNS6,
};

/* The bridge's link-local address, as a guest would use it. */
static char *gateway_link_local(void)
{
    uint8_t mac[6];
    char text[BASE_IP_TEXT_BYTES];
    net_bridge_mac("vm-run:" TEST_STORE ":net:lab", mac);
    BaseIp ip = base_ip_link_local_of_mac(mac);
    return g_strdup_printf("%s%%eth0", base_ip_format(&ip, text));
}

/* Bits of the goals that guest A reaches. */
static unsigned reached_by_a(unsigned wanted)
{
    g_autofree char *link_local = gateway_link_local();
    unsigned reached = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(goals); i++) {
        autofd int server =
            lab_serve(goals[i].server, goals[i].type, goals[i].listen, goals[i].port);
        const char *address = strchr(goals[i].address, '%') ? link_local : goals[i].address;
        lab_expect(wanted & 1u << i);
        if (lab_reach(LAB_A, goals[i].type, address, goals[i].port, server, NULL)) {
            reached |= 1u << i;
        }
    }
    lab_expect(true);
    return reached;
}

/* A port map into guest A answers, whatever its policy. */
static bool is_answering(void)
{
    autofd int server = lab_serve(LAB_A, SOCK_STREAM, "0.0.0.0", GUEST_PORT);
    lab_expect(true);
    return lab_reach(LAB_OUTSIDE, SOCK_STREAM, "198.51.100.1", HOST_PORT, server, NULL);
}

static void assert_reached(const char *what, unsigned wanted)
{
    unsigned reached = reached_by_a(wanted);
    for (size_t i = 0; i < G_N_ELEMENTS(goals); i++) {
        if ((reached ^ wanted) & 1u << i) {
            fail_msg("%s: '%s' is %s", what, goals[i].name,
                     reached & 1u << i ? "reached" : "not reached");
        }
    }
    if (!is_answering()) {
        fail_msg("%s: the port map does not answer", what);
    }
}

/* --- policies ----------------------------------------------------------------- */

static const struct {
    const char *name;
    SpecEgress own, net; /* the lists come from: */
    const char *own_allow[3], *own_deny[3], *net_allow[3], *net_deny[3];
    unsigned reached;
} policies[] = {
    {.name = "none", .reached = EVERYTHING},
    {.name = "restricted",
     .own = {.is_restricted = true},
     .reached = ALL_OUT | GATEWAY_DNS | NEIGHBOUR},
    {.name = "hermetic", .own = {.is_hermetic = true}, .reached = 0},
    {.name = "hermetic network", .net = {.is_hermetic = true}, .reached = 0},
    {.name = "default deny", .own = {.is_default_deny = true}, .reached = GATEWAY_DNS},
    {.name = "default deny but one port",
     .own = {.is_default_deny = true},
     .own_allow = {"198.51.100.2:9000/tcp"},
     .reached = GATEWAY_DNS | OUT},
    {.name = "default deny but ports of any protocol, and IPv6",
     .own = {.is_default_deny = true},
     .own_allow = {"198.51.100.0/24:8999-9000", "::/0"},
     .reached = GATEWAY_DNS | OUT | OUT_UDP | OUT6 | HOST_PUBLIC | HOST6 | HOST_LL},
    {.name = "one denied", .own_deny = {"198.51.100.2/32:9000/tcp"}, .reached = EVERYTHING & ~OUT},
    {.name = "all of IPv4 denied",
     .own_deny = {"0.0.0.0/0"},
     .reached = OUT6 | HOST6 | HOST_LL | GATEWAY_DNS},
    {.name = "restricted but one private address",
     .own = {.is_restricted = true},
     .own_allow = {"192.168.77.1"},
     .reached = ALL_OUT | GATEWAY_DNS | NEIGHBOUR | PRIVATE},
    {.name = "allowed by itself, denied by the network",
     .net = {.is_default_deny = true},
     .own_allow = {"198.51.100.2:9000"},
     .net_allow = {"2001:db8:1::/64"},
     .reached = GATEWAY_DNS | OUT6},
    {.name = "allowed by both",
     .own = {.is_default_deny = true},
     .net = {.is_restricted = true},
     .own_allow = {"198.51.100.2:9000/tcp", "192.168.77.1"},
     .reached = GATEWAY_DNS | OUT},
    {.name = "open to itself, hermetic network",
     .net = {.is_hermetic = true},
     .own_allow = {"0.0.0.0/0", "::/0"},
     .reached = 0},
    {.name = "denied by itself, allowed by the network",
     .own_deny = {"198.51.100.2:9000/udp"},
     .net_allow = {"198.51.100.2"},
     .net_deny = {"198.51.100.0/24"},
     .reached = EVERYTHING & ~(OUT_UDP | HOST_PUBLIC | DNS_ELSEWHERE)},
};

static void add_texts(GPtrArray *rules, const char *const *texts)
{
    for (size_t i = 0; i < 3 && texts[i]; i++) {
        test_rule(rules, texts[i]);
    }
}

static void set_policy(NetMember *member, size_t i)
{
    member->egress.is_hermetic = policies[i].own.is_hermetic;
    member->egress.is_restricted = policies[i].own.is_restricted;
    member->egress.is_default_deny = policies[i].own.is_default_deny;
    member->net_egress.is_hermetic = policies[i].net.is_hermetic;
    member->net_egress.is_restricted = policies[i].net.is_restricted;
    member->net_egress.is_default_deny = policies[i].net.is_default_deny;
    add_texts(member->egress.allow, policies[i].own_allow);
    add_texts(member->egress.deny, policies[i].own_deny);
    add_texts(member->net_egress.allow, policies[i].net_allow);
    add_texts(member->net_egress.deny, policies[i].net_deny);
}

/* Each policy follows the one before on a running machine. */
static void check_policies(bool is_br_netfilter_on)
{
    lab_make(SPEC_NET_MODE_NAT, is_br_netfilter_on);
    lab_add_rules(SPEC_NET_MODE_NAT);
    NetMember *old = test_member(2);
    test_port(old, NULL, HOST_PORT, GUEST_PORT, false, false);
    apply(old, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(policies); i++) {
        NetMember *member = test_member(2);
        test_port(member, NULL, HOST_PORT, GUEST_PORT, false, false);
        set_policy(member, i);
        apply(member, old);
        assert_reached(policies[i].name, policies[i].reached);
        test_member_free(old);
        old = member;
    }
    test_member_free(old);
    lab_remove();
}

static void test_policies_when_br_netfilter_is_off_then_as_written(void **state)
{
    (void)state;
    check_policies(false);
}

static void test_policies_when_br_netfilter_is_on_then_as_written(void **state)
{
    (void)state;
    check_policies(true);
}

static void test_policy_when_tightened_then_denied_connections_end(void **state)
{
    (void)state;
    lab_make(SPEC_NET_MODE_NAT, true);
    lab_add_rules(SPEC_NET_MODE_NAT);
    autofd int service = lab_serve(LAB_OUTSIDE, SOCK_STREAM, "198.51.100.2", SERVICE_PORT);
    autofd int other = lab_serve(LAB_OUTSIDE, SOCK_STREAM, "198.51.100.2", OTHER_PORT);
    autofd int own = lab_serve(LAB_A, SOCK_STREAM, "0.0.0.0", GUEST_PORT);
    autofd int allowed = -1, allowed_served = -1, denied = -1, denied_served = -1;
    autofd int inbound = -1, inbound_served = -1;
    NetMember *old = test_member(2), *member = test_member(2);
    test_port(old, NULL, HOST_PORT, GUEST_PORT, false, false);
    test_port(member, NULL, HOST_PORT, GUEST_PORT, false, false);
    apply(old, NULL);
    assert_true(
        lab_connect(LAB_A, "198.51.100.2", SERVICE_PORT, service, &allowed, &allowed_served));
    assert_true(lab_connect(LAB_A, "198.51.100.2", OTHER_PORT, other, &denied, &denied_served));
    assert_true(
        lab_connect(LAB_OUTSIDE, "198.51.100.1", HOST_PORT, own, &inbound, &inbound_served));
    member->egress.is_default_deny = true;
    test_rule(member->egress.allow, "198.51.100.2:9000/tcp");
    apply(member, old);
    assert_false(lab_is_alive(denied, denied_served));
    assert_true(lab_is_alive(allowed, allowed_served));
    assert_true(lab_is_alive(inbound, inbound_served));
    test_member_free(old);
    test_member_free(member);
    lab_remove();
}

/* --- modes -------------------------------------------------------------------- */

static const struct {
    SpecNetMode mode;
    bool goes_out, is_open;
    const char *seen_as; /* by whom it reaches outside */
} modes[] = {
    {SPEC_NET_MODE_NAT, true, false, "198.51.100.1"},
    {SPEC_NET_MODE_ISOLATED, false, false, ""},
    {SPEC_NET_MODE_ROUTED, true, true, "10.9.0.2"},
};

static bool reach(int where, const char *address, int server, bool is_expected)
{
    lab_expect(is_expected);
    bool is_reached = lab_reach(where, SOCK_STREAM, address, SERVICE_PORT, server, NULL);
    lab_expect(true);
    return is_reached;
}

static void check_mode(size_t i, bool is_br_netfilter_on)
{
    char seen_as[INET6_ADDRSTRLEN] = "";
    lab_make(modes[i].mode, is_br_netfilter_on);
    lab_add_rules(modes[i].mode);
    test_port(lab_member_a, NULL, HOST_PORT, GUEST_PORT, false, false);
    apply(lab_member_a, NULL);
    autofd int outside = lab_serve(LAB_OUTSIDE, SOCK_STREAM, "0.0.0.0", SERVICE_PORT);
    autofd int outside6 = lab_serve(LAB_OUTSIDE, SOCK_STREAM, "::", SERVICE_PORT);
    autofd int guest = lab_serve(LAB_A, SOCK_STREAM, "0.0.0.0", SERVICE_PORT);
    autofd int guest6 = lab_serve(LAB_A, SOCK_STREAM, "::", SERVICE_PORT);
    autofd int host = lab_serve(LAB_HOST, SOCK_STREAM, "10.9.0.1", SERVICE_PORT);
    lab_expect(modes[i].goes_out);
    bool goes_out = lab_reach(LAB_A, SOCK_STREAM, "198.51.100.2", SERVICE_PORT, outside, seen_as);
    assert_int_equal(goes_out, modes[i].goes_out);
    assert_true(!goes_out || strcmp(seen_as, modes[i].seen_as) == 0);
    assert_int_equal(reach(LAB_A, "2001:db8:1::2", outside6, goes_out), goes_out);
    assert_int_equal(reach(LAB_OUTSIDE, "10.9.0.2", guest, modes[i].is_open), modes[i].is_open);
    assert_int_equal(reach(LAB_OUTSIDE, "fd09::2", guest6, modes[i].is_open), modes[i].is_open);
    assert_true(reach(LAB_B, "10.9.0.2", guest, true));
    assert_true(reach(LAB_HOST, "10.9.0.2", guest, true));
    assert_true(reach(LAB_A, "10.9.0.1", host, true));
    assert_true(is_answering());
    lab_remove();
}

static void test_modes_when_tried_then_open_and_closed_as_they_say(void **state)
{
    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(modes); i++) {
        check_mode(i, false);
        check_mode(i, true);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_policies_when_br_netfilter_is_off_then_as_written),
        cmocka_unit_test(test_policies_when_br_netfilter_is_on_then_as_written),
        cmocka_unit_test(test_policy_when_tightened_then_denied_connections_end),
        cmocka_unit_test(test_modes_when_tried_then_open_and_closed_as_they_say),
    };
    return test_netns_enter() ? cmocka_run_group_tests(tests, NULL, NULL) : 77;
}
