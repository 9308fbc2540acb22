#include "net/rules.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <arpa/inet.h>
#include <poll.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/fd.h"
#include "net/nft.h"
#include "tests/unit/net/helper_rules_lab.h"
#include "tests/unit/net/netns.h"
#include "tests/unit/net/rules_fixture.h"

/* Port maps with real sockets, from wherever a person may try them. */

enum { HOST_PORT = 8080, GUEST_PORT = 80, LOOPBACK_PORT = 7777 };

static void apply(NetMember *member, NetMember *old)
{
    g_autoptr(GError) error = NULL;
    if (!net_rules_apply(&member, 1, old ? &old : NULL, old != NULL, &error)) {
        fail_msg("%s", error->message);
    }
}

static void remove_member(NetMember *member)
{
    g_autoptr(GError) error = NULL;
    if (!net_rules_remove(&member, 1, &error)) {
        fail_msg("%s", error->message);
    }
}

static bool is_refused(int where, int type, const char *address, uint16_t port, int server)
{
    lab_expect(false);
    bool is_reached = lab_reach(where, type, address, port, server, NULL);
    lab_expect(true);
    return !is_reached;
}

/* tcp and udp, IPv4 and IPv6, of guest A. */
static void map_all(const char *host4, const char *host6)
{
    for (int is_udp = 0; is_udp < 2; is_udp++) {
        test_port(lab_member_a, host4, HOST_PORT, GUEST_PORT, is_udp, false);
        test_port(lab_member_a, host6, HOST_PORT, GUEST_PORT, is_udp, true);
    }
    apply(lab_member_a, NULL);
}

/* --- the matrix --------------------------------------------------------------- */

typedef struct {
    int from;
    const char *address;
    const char *seen_as; /* by the guest */
} Place;

static const Place places[] = {
    {LAB_OUTSIDE, "198.51.100.1", "198.51.100.2"},
    {LAB_HOST, "198.51.100.1", "10.9.0.1"},
    {LAB_HOST, "10.9.0.1", "10.9.0.1"},
    {LAB_HOST, "127.0.0.1", "10.9.0.1"},
    {LAB_HOST, "127.0.0.5", "10.9.0.1"},
    {LAB_B, "10.9.0.1", "10.9.0.1"},
    {LAB_B, "198.51.100.1", "10.9.0.1"},
    {LAB_A, "10.9.0.1", "10.9.0.1"},
    {LAB_A, "198.51.100.1", "10.9.0.1"},
    {LAB_OUTSIDE, "2001:db8:1::1", "2001:db8:1::2"},
    {LAB_HOST, "2001:db8:1::1", "fd09::1"},
    {LAB_HOST, "fd09::1", "fd09::1"},
    {LAB_HOST, "::1", "fd09::1"},
    {LAB_B, "fd09::1", "fd09::1"},
    {LAB_B, "2001:db8:1::1", "fd09::1"},
    {LAB_A, "fd09::1", "fd09::1"},
    {LAB_A, "2001:db8:1::1", "fd09::1"},
};

/* How many cases fail; with br_netfilter those of ::1 must, and doctor tells so. */
static unsigned run_matrix(bool is_br_netfilter_on)
{
    static const int types[] = {SOCK_STREAM, SOCK_DGRAM};
    static const char *const names[] = {"host", "outside", "guest A", "guest B"};
    unsigned n_failed = 0, n_cases = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        autofd int server4 = lab_serve(LAB_A, types[i], "0.0.0.0", GUEST_PORT);
        autofd int server6 = lab_serve(LAB_A, types[i], "::", GUEST_PORT);
        for (size_t j = 0; j < G_N_ELEMENTS(places); j++) {
            char peer[INET6_ADDRSTRLEN] = "";
            int server = strchr(places[j].address, ':') ? server6 : server4;
            bool is_reached =
                lab_reach(places[j].from, types[i], places[j].address, HOST_PORT, server, peer);
            bool is_hopeless = is_br_netfilter_on && strcmp(places[j].address, "::1") == 0;
            n_cases++;
            if (is_hopeless) {
                n_failed += is_reached; /* then the word of doctor is wrong */
            } else if (!is_reached || strcmp(peer, places[j].seen_as) != 0) {
                n_failed++;
                print_message("%s from %s to %s: %s, seen as '%s'\n",
                              types[i] == SOCK_STREAM ? "tcp" : "udp", names[places[j].from],
                              places[j].address, is_reached ? "reached" : "not reached", peer);
            }
        }
    }
    assert_int_equal(n_cases, 34);
    return n_failed;
}

/* How many of doctor's texts have this part? */
static unsigned find_told(const char *part)
{
    g_autoptr(GPtrArray) texts = g_ptr_array_new_with_free_func(g_free);
    unsigned n = 0;
    assert_true(net_rules_find_foreign_drops(TEST_BRIDGE, texts, NULL));
    assert_int_equal(texts->len, 0);
    assert_true(net_rules_find_limits(texts, NULL));
    for (unsigned i = 0; i < texts->len; i++) {
        n += strstr(texts->pdata[i], part) != NULL;
    }
    return n;
}

static void check_matrix(bool is_br_netfilter_on)
{
    lab_make(SPEC_NET_MODE_NAT, is_br_netfilter_on);
    lab_add_rules(SPEC_NET_MODE_NAT);
    assert_int_equal(find_told("[::1]"), 0);
    lab_expect(false);
    assert_int_equal(run_matrix(false), 34); /* without a map nothing is reached */
    lab_expect(true);
    map_all(NULL, NULL);
    assert_int_equal(run_matrix(is_br_netfilter_on), 0);
    assert_int_equal(find_told("[::1]"), is_br_netfilter_on);
    lab_remove();
}

static void test_ports_when_br_netfilter_is_off_then_reached_from_everywhere(void **state)
{
    (void)state;
    check_matrix(false);
}

static void test_ports_when_br_netfilter_is_on_then_reached_from_everywhere(void **state)
{
    (void)state;
    check_matrix(true);
}

static void test_ports_when_at_one_address_then_only_there(void **state)
{
    (void)state;
    lab_make(SPEC_NET_MODE_NAT, false);
    lab_add_rules(SPEC_NET_MODE_NAT);
    map_all("198.51.100.1", "::1");
    autofd int server4 = lab_serve(LAB_A, SOCK_STREAM, "0.0.0.0", GUEST_PORT);
    autofd int server6 = lab_serve(LAB_A, SOCK_STREAM, "::", GUEST_PORT);
    assert_true(lab_reach(LAB_OUTSIDE, SOCK_STREAM, "198.51.100.1", HOST_PORT, server4, NULL));
    assert_true(lab_reach(LAB_HOST, SOCK_STREAM, "198.51.100.1", HOST_PORT, server4, NULL));
    assert_true(is_refused(LAB_HOST, SOCK_STREAM, "127.0.0.1", HOST_PORT, server4));
    assert_true(is_refused(LAB_B, SOCK_STREAM, "10.9.0.1", HOST_PORT, server4));
    assert_true(lab_reach(LAB_HOST, SOCK_STREAM, "::1", HOST_PORT, server6, NULL));
    assert_true(is_refused(LAB_OUTSIDE, SOCK_STREAM, "2001:db8:1::1", HOST_PORT, server6));
    lab_remove();
}

/* Its router is somebody else, so answers come back only to an address on the bridge itself. */
static void test_ports_when_the_bridge_is_foreign_then_answered_without_a_route(void **state)
{
    (void)state;
    lab_make(SPEC_NET_MODE_ROUTED, true);
    lab_add_rules(SPEC_NET_MODE_BRIDGE);
    lab_ip(LAB_A, "route del default");
    lab_ip(LAB_A, "-6 route del default");
    map_all(NULL, NULL);
    char peer[INET6_ADDRSTRLEN] = "";
    autofd int server4 = lab_serve(LAB_A, SOCK_STREAM, "0.0.0.0", GUEST_PORT);
    autofd int server6 = lab_serve(LAB_A, SOCK_DGRAM, "::", GUEST_PORT);
    autofd int outside = lab_serve(LAB_OUTSIDE, SOCK_STREAM, "0.0.0.0", GUEST_PORT);
    assert_true(lab_reach(LAB_OUTSIDE, SOCK_STREAM, "198.51.100.1", HOST_PORT, server4, peer));
    assert_string_equal(peer, "10.9.0.1");
    assert_true(lab_reach(LAB_OUTSIDE, SOCK_DGRAM, "2001:db8:1::1", HOST_PORT, server6, peer));
    assert_string_equal(peer, "fd09::1");
    assert_true(lab_reach(LAB_B, SOCK_STREAM, "10.9.0.1", HOST_PORT, server4, peer));
    assert_true(lab_reach(LAB_HOST, SOCK_STREAM, "127.0.0.1", HOST_PORT, server4, peer));
    /* what its guests send elsewhere keeps their address: that is not our business */
    assert_true(lab_reach(LAB_B, SOCK_STREAM, "198.51.100.2", GUEST_PORT, outside, peer));
    assert_string_equal(peer, "10.9.0.3");
    lab_remove();
}

/* --- the host's loopback ------------------------------------------------------ */

/* A guest whose kernel sends packets to 127.0.0.1 and ::1 to the gateway. */
static void make_hostile(int where)
{
    lab_sysctl(where, "ipv4/conf/all/route_localnet", "1");
    lab_ip(where, "route add 127.0.0.0/8 via 10.9.0.1");
    lab_ip(where, "-6 route add ::1/128 via fd09::1");
}

static void test_loopback_when_a_guest_sends_there_then_not_reached(void **state)
{
    (void)state;
    lab_make(SPEC_NET_MODE_NAT, true);
    lab_add_rules(SPEC_NET_MODE_NAT);
    make_hostile(LAB_A);
    autofd int server4 = lab_serve(LAB_HOST, SOCK_STREAM, "127.0.0.1", LOOPBACK_PORT);
    autofd int server6 = lab_serve(LAB_HOST, SOCK_STREAM, "::1", LOOPBACK_PORT);
    autofd int udp4 = lab_serve(LAB_HOST, SOCK_DGRAM, "127.0.0.1", LOOPBACK_PORT);
    assert_true(lab_reach(LAB_HOST, SOCK_STREAM, "127.0.0.1", LOOPBACK_PORT, server4, NULL));
    assert_true(lab_reach(LAB_HOST, SOCK_STREAM, "::1", LOOPBACK_PORT, server6, NULL));
    assert_true(is_refused(LAB_A, SOCK_STREAM, "127.0.0.1", LOOPBACK_PORT, server4));
    assert_true(is_refused(LAB_A, SOCK_DGRAM, "127.0.0.1", LOOPBACK_PORT, udp4));
    assert_true(is_refused(LAB_A, SOCK_STREAM, "::1", LOOPBACK_PORT, server6));
    /* it is the guard that stops it */
    assert_true(net_nft_run_text("flush chain inet vm_driver guard\n", NULL));
    assert_true(lab_reach(LAB_A, SOCK_STREAM, "127.0.0.1", LOOPBACK_PORT, server4, NULL));
    assert_true(net_rules_ensure_base(NULL));
    assert_true(is_refused(LAB_A, SOCK_STREAM, "127.0.0.1", LOOPBACK_PORT, server4));
    lab_remove();
}

/* --- change under traffic ----------------------------------------------------- */

static void test_change_when_a_port_leads_elsewhere_then_old_flows_end(void **state)
{
    (void)state;
    lab_make(SPEC_NET_MODE_NAT, true);
    lab_add_rules(SPEC_NET_MODE_NAT);
    autofd int first = lab_serve(LAB_A, SOCK_STREAM, "0.0.0.0", GUEST_PORT);
    autofd int second = lab_serve(LAB_A, SOCK_STREAM, "0.0.0.0", GUEST_PORT + 1);
    autofd int client = -1, served = -1, kept = -1, kept_served = -1;
    NetMember *old = test_member(2);
    test_port(old, NULL, HOST_PORT, GUEST_PORT, false, false);
    test_port(old, NULL, HOST_PORT + 1, GUEST_PORT, false, false);
    test_port(lab_member_a, NULL, HOST_PORT, GUEST_PORT + 1, false, false);
    test_port(lab_member_a, NULL, HOST_PORT + 1, GUEST_PORT, false, false);
    apply(old, NULL);
    assert_true(lab_connect(LAB_OUTSIDE, "198.51.100.1", HOST_PORT, first, &client, &served));
    assert_true(
        lab_connect(LAB_OUTSIDE, "198.51.100.1", HOST_PORT + 1, first, &kept, &kept_served));
    apply(lab_member_a, old);
    assert_false(lab_is_alive(client, served));
    assert_true(lab_is_alive(kept, kept_served)); /* its port did not change */
    assert_true(lab_reach(LAB_OUTSIDE, SOCK_STREAM, "198.51.100.1", HOST_PORT, second, NULL));
    remove_member(lab_member_a);
    assert_false(lab_is_alive(kept, kept_served));
    assert_true(is_refused(LAB_OUTSIDE, SOCK_STREAM, "198.51.100.1", HOST_PORT, second));
    test_member_free(old);
    lab_remove();
}

/* A client that goes on asking from one socket is heard as soon as there is a map. */
static void test_map_when_a_client_asked_too_early_then_it_is_heard(void **state)
{
    (void)state;
    lab_make(SPEC_NET_MODE_NAT, true);
    lab_add_rules(SPEC_NET_MODE_NAT);
    autofd int server = lab_serve(LAB_A, SOCK_DGRAM, "0.0.0.0", GUEST_PORT);
    autofd int sink = lab_serve(LAB_HOST, SOCK_DGRAM, "0.0.0.0", HOST_PORT); /* no ICMP back */
    autofd int client = lab_socket(LAB_OUTSIDE, SOCK_DGRAM, "198.51.100.1", 0);
    socklen_t n;
    struct sockaddr_storage to = lab_address("198.51.100.1", HOST_PORT, &n);
    assert_int_equal(sendto(client, "1", 1, 0, (struct sockaddr *)&to, n), 1);
    assert_true(lab_wait(sink, POLLIN, 1000));
    test_port(lab_member_a, NULL, HOST_PORT, GUEST_PORT, true, false);
    apply(lab_member_a, NULL);
    assert_int_equal(sendto(client, "2", 1, 0, (struct sockaddr *)&to, n), 1);
    assert_true(lab_wait(server, POLLIN, 1000));
    lab_remove();
}

enum { N_CHANGES = 40 };

/* Connects until told to stop; 0: each try reached one of the two servers. */
static int hammer(int stop_fd, int first, int second)
{
    unsigned n_tries = 0;
    while (!lab_wait(stop_fd, POLLIN, 0)) {
        autofd int client = lab_socket(LAB_OUTSIDE, SOCK_STREAM, "198.51.100.1", 0);
        socklen_t n;
        struct sockaddr_storage to = lab_address("198.51.100.1", HOST_PORT, &n);
        connect(client, (struct sockaddr *)&to, n);
        int status = 0;
        socklen_t n_status = sizeof status;
        if (!lab_wait(client, POLLOUT, 900) ||
            getsockopt(client, SOL_SOCKET, SO_ERROR, &status, &n_status) || status) {
            return 1;
        }
        for (int i = 0; i < 2; i++) {
            autofd int served = accept(i ? first : second, NULL, NULL);
            (void)served;
        }
        n_tries++;
    }
    return n_tries > 10 ? 0 : 2;
}

static void test_change_when_clients_hammer_then_no_gap(void **state)
{
    (void)state;
    lab_make(SPEC_NET_MODE_NAT, true);
    lab_add_rules(SPEC_NET_MODE_NAT);
    autofd int first = lab_serve(LAB_A, SOCK_STREAM, "0.0.0.0", GUEST_PORT);
    autofd int second = lab_serve(LAB_A, SOCK_STREAM, "0.0.0.0", GUEST_PORT + 1);
    NetMember *one = test_member(2), *two = test_member(2);
    test_port(one, NULL, HOST_PORT, GUEST_PORT, false, false);
    test_port(two, NULL, HOST_PORT, GUEST_PORT + 1, false, false);
    two->net_egress.is_restricted = true;
    apply(one, NULL);
    int stop[2], status = -1;
    assert_int_equal(pipe(stop), 0);
    pid_t pid = fork();
    if (pid == 0) {
        _exit(hammer(stop[0], first, second));
    }
    for (int i = 0; i < N_CHANGES; i++) {
        apply(i % 2 ? one : two, i % 2 ? two : one);
        g_usleep(5000); /* lets some connections through between two changes */
    }
    assert_int_equal(write(stop[1], "x", 1), 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(stop[0]);
    close(stop[1]);
    test_member_free(one);
    test_member_free(two);
    lab_remove();
}

static void test_ports_when_the_ruleset_was_flushed_then_applied_again(void **state)
{
    (void)state;
    lab_make(SPEC_NET_MODE_NAT, true);
    lab_add_rules(SPEC_NET_MODE_NAT);
    map_all(NULL, NULL);
    autofd int server = lab_serve(LAB_A, SOCK_STREAM, "0.0.0.0", GUEST_PORT);
    assert_true(lab_reach(LAB_OUTSIDE, SOCK_STREAM, "198.51.100.1", HOST_PORT, server, NULL));
    assert_true(net_nft_run_text("flush ruleset\n", NULL));
    assert_true(is_refused(LAB_OUTSIDE, SOCK_STREAM, "198.51.100.1", HOST_PORT, server));
    NetRulesNetwork network = test_network(SPEC_NET_MODE_NAT);
    assert_true(net_rules_add_network(&network, NULL));
    apply(lab_member_a, NULL);
    assert_true(lab_reach(LAB_OUTSIDE, SOCK_STREAM, "198.51.100.1", HOST_PORT, server, NULL));
    lab_remove();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ports_when_br_netfilter_is_off_then_reached_from_everywhere),
        cmocka_unit_test(test_ports_when_br_netfilter_is_on_then_reached_from_everywhere),
        cmocka_unit_test(test_ports_when_at_one_address_then_only_there),
        cmocka_unit_test(test_ports_when_the_bridge_is_foreign_then_answered_without_a_route),
        cmocka_unit_test(test_loopback_when_a_guest_sends_there_then_not_reached),
        cmocka_unit_test(test_change_when_a_port_leads_elsewhere_then_old_flows_end),
        cmocka_unit_test(test_map_when_a_client_asked_too_early_then_it_is_heard),
        cmocka_unit_test(test_change_when_clients_hammer_then_no_gap),
        cmocka_unit_test(test_ports_when_the_ruleset_was_flushed_then_applied_again),
    };
    return test_netns_enter() ? cmocka_run_group_tests(tests, NULL, NULL) : 77;
}
