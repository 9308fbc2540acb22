#include "tests/unit/net/helper_rules_lab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/child.h"
#include "base/fd.h"
#include "net/bridge.h"
#include "tests/unit/net/rules_fixture.h"

enum { PATIENT_MS = 3000, IMPATIENT_MS = 250, PASS_MS = 600 };

NetMember *lab_member_a, *lab_member_b;
static int reach_ms = PATIENT_MS;
static int spaces[LAB_N] = {-1, -1, -1, -1};

static void enter(int where)
{
    assert_int_equal(setns(spaces[where], CLONE_NEWNET), 0);
}

void lab_ip(int where, const char *words)
{
    g_auto(GStrv) rest = g_strsplit(words, " ", -1);
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_autoptr(GError) error = NULL;
    BaseChild child = BASE_CHILD_INIT;
    g_ptr_array_add(argv, (gpointer) "ip");
    for (char **word = rest; *word; word++) {
        g_ptr_array_add(argv, *word);
    }
    g_ptr_array_add(argv, NULL);
    child.argv = (const char *const *)argv->pdata;
    enter(where);
    bool is_done = base_child_run(&child, NULL, NULL, &error);
    enter(LAB_HOST);
    if (!is_done) {
        fail_msg("ip %s: %s", words, error->message);
    }
}

void lab_sysctl(int where, const char *path, const char *value)
{
    g_autofree char *whole = g_strdup_printf("/proc/sys/net/%s", path);
    enter(where);
    int fd = open(whole, O_WRONLY | O_CLOEXEC);
    enter(LAB_HOST);
    if (fd < 0) {
        fail_msg("%s: %s", whole, strerror(errno));
    }
    assert_int_equal(write(fd, value, strlen(value)), strlen(value));
    close(fd);
}

/* --- links -------------------------------------------------------------------- */

/* All anew, so that a test that failed leaves nothing to the next one. */
static void make_spaces(void)
{
    for (int i = LAB_N - 1; i >= LAB_HOST; i--) {
        base_fd_close(&spaces[i]);
        assert_int_equal(unshare(CLONE_NEWNET), 0);
        spaces[i] = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        assert_true(spaces[i] >= 0);
    }
    lab_ip(LAB_HOST, "link set lo up");
}

/* A pair: `name` here, `peer` there. */
static void make_pair(const char *name, const char *peer, int where)
{
    g_autofree char *words =
        g_strdup_printf("link add %s type veth peer name %s netns /proc/%d/fd/%d", name, peer,
                        (int)getpid(), spaces[where]);
    lab_ip(LAB_HOST, words);
}

static void make_outside(void)
{
    make_pair("up0", "eth0", LAB_OUTSIDE);
    lab_sysctl(LAB_HOST, "ipv6/conf/up0/accept_dad",
               "0"); /* else solicitations wait for a second */
    lab_sysctl(LAB_OUTSIDE, "ipv6/conf/eth0/accept_dad", "0");
    lab_ip(LAB_HOST, "link set up0 up");
    lab_ip(LAB_HOST, "addr add 198.51.100.1/24 dev up0");
    lab_ip(LAB_HOST, "addr add 2001:db8:1::1/64 dev up0 nodad");
    lab_ip(LAB_OUTSIDE, "link set lo up");
    lab_ip(LAB_OUTSIDE, "link set eth0 up");
    lab_ip(LAB_OUTSIDE, "addr add 198.51.100.2/24 dev eth0");
    lab_ip(LAB_OUTSIDE, "addr add 192.168.77.1/32 dev lo");
    lab_ip(LAB_OUTSIDE, "addr add 2001:db8:1::2/64 dev eth0 nodad");
    lab_ip(LAB_HOST, "route add default via 198.51.100.2");
    lab_ip(LAB_HOST, "-6 route add default via 2001:db8:1::2");
    lab_ip(LAB_OUTSIDE, "route add 10.9.0.0/16 via 198.51.100.1");
    lab_ip(LAB_OUTSIDE, "-6 route add fd09::/64 via 2001:db8:1::1");
}

static void make_guest(int where, const NetMember *member)
{
    char ip4[BASE_IP_TEXT_BYTES], ip6[BASE_IP_TEXT_BYTES], mac[18];
    base_ip_format(&member->ip4, ip4);
    base_ip_format(&member->ip6, ip6);
    base_mac_format(member->mac, mac);
    g_autofree char *master = g_strdup_printf("link set %s master " TEST_BRIDGE, member->tap);
    g_autofree char *silent = g_strdup_printf("link set %s addrgenmode none", member->tap);
    g_autofree char *hairpin =
        g_strdup_printf("link set %s type bridge_slave hairpin on", member->tap);
    g_autofree char *up = g_strdup_printf("link set %s up", member->tap);
    g_autofree char *own = g_strdup_printf("link set eth0 address %s", mac);
    g_autofree char *add4 = g_strdup_printf("addr add %s/16 dev eth0", ip4);
    g_autofree char *add6 = g_strdup_printf("addr add %s/64 dev eth0 nodad", ip6);
    make_pair(member->tap, "eth0", where);
    const char *const host[] = {silent, master, hairpin, up};
    const char *const guest[] = {own,
                                 "link set eth0 up",
                                 add4,
                                 add6,
                                 "route add default via 10.9.0.1",
                                 "-6 route add default via fd09::1"};
    lab_sysctl(where, "ipv6/conf/eth0/accept_dad", "0");
    lab_sysctl(where, "ipv6/conf/eth0/accept_ra", "0");
    for (size_t i = 0; i < G_N_ELEMENTS(host); i++) {
        lab_ip(LAB_HOST, host[i]);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(guest); i++) {
        lab_ip(where, guest[i]);
    }
}

void lab_make(SpecNetMode mode, bool is_br_netfilter_on)
{
    g_autoptr(GError) error = NULL;
    NetBridge bridge = {.name = TEST_BRIDGE,
                        .owner_tag = "vm-run:" TEST_STORE ":net:lab",
                        .mode = mode,
                        .gateway4 = test_ip("10.9.0.1"),
                        .gateway6 = test_ip("fd09::1"),
                        .n_bits4 = 16,
                        .n_bits6 = 64,
                        .has_ports = true};
    net_bridge_mac(bridge.owner_tag, bridge.mac);
    make_spaces();
    lab_sysctl(LAB_HOST, "ipv4/ip_forward", "0");     /* new namespaces have it on here */
    lab_sysctl(LAB_HOST, "ipv4/icmp_ratelimit", "0"); /* refusals are to be told at once */
    lab_sysctl(LAB_HOST, "ipv6/icmp/ratelimit", "0");
    lab_sysctl(LAB_HOST, "ipv4/conf/all/rp_filter", "1");
    lab_sysctl(LAB_HOST, "ipv4/conf/default/rp_filter", "1");
    lab_sysctl(LAB_HOST, "bridge/bridge-nf-call-iptables", is_br_netfilter_on ? "1" : "0");
    lab_sysctl(LAB_HOST, "bridge/bridge-nf-call-ip6tables", is_br_netfilter_on ? "1" : "0");
    make_outside();
    if (!net_bridge_create(&bridge, &error)) {
        fail_msg("%s", error->message);
    }
    lab_member_a = test_member(2);
    lab_member_b = test_member(3);
    make_guest(LAB_A, lab_member_a);
    make_guest(LAB_B, lab_member_b);
}

void lab_add_rules(SpecNetMode mode)
{
    g_autoptr(GError) error = NULL;
    NetRulesNetwork network = test_network(mode);
    NetMember *members[] = {lab_member_a, lab_member_b};
    if (!net_nft_run_text("flush ruleset\n", &error) || !net_rules_add_network(&network, &error) ||
        !net_rules_apply(members, G_N_ELEMENTS(members), NULL, 0, &error)) {
        fail_msg("%s", error->message);
    }
}

void lab_remove(void)
{
    g_clear_pointer(&lab_member_a, test_member_free);
    g_clear_pointer(&lab_member_b, test_member_free);
}

/* --- traffic ------------------------------------------------------------------ */

/* "fe80::1%eth0" has a scope, which only the namespace knows that it is used in: call it there. */
struct sockaddr_storage lab_address(const char *address, uint16_t port, socklen_t *out_n)
{
    struct sockaddr_storage storage = {0};
    struct sockaddr_in *ip4 = (void *)&storage;
    struct sockaddr_in6 *ip6 = (void *)&storage;
    g_auto(GStrv) parts = g_strsplit(address, "%", 2);
    if (strchr(address, ':')) {
        ip6->sin6_family = AF_INET6;
        ip6->sin6_port = htons(port);
        ip6->sin6_scope_id = parts[1] ? if_nametoindex(parts[1]) : 0;
        assert_int_equal(inet_pton(AF_INET6, parts[0], &ip6->sin6_addr), 1);
        *out_n = sizeof *ip6;
    } else {
        ip4->sin_family = AF_INET;
        ip4->sin_port = htons(port);
        assert_int_equal(inet_pton(AF_INET, address, &ip4->sin_addr), 1);
        *out_n = sizeof *ip4;
    }
    return storage;
}

int lab_socket(int where, int type, const char *address, uint16_t port)
{
    const int on = 1;
    socklen_t n;
    enter(where);
    struct sockaddr_storage to = lab_address(address, port, &n);
    int fd = socket(to.ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    enter(LAB_HOST);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    return fd;
}

void lab_expect(bool is_reached)
{
    reach_ms = is_reached ? PATIENT_MS : IMPATIENT_MS;
}

bool lab_wait(int fd, short events, int timeout_ms)
{
    struct pollfd poll_fd = {.fd = fd, .events = events};
    return poll(&poll_fd, 1, timeout_ms) == 1;
}

int lab_serve(int where, int type, const char *address, uint16_t port)
{
    socklen_t n;
    int fd = lab_socket(where, type, address, port);
    const int on = 1;
    enter(where);
    struct sockaddr_storage at = lab_address(address, port, &n);
    enter(LAB_HOST);
    if (at.ss_family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    }
    if (bind(fd, (struct sockaddr *)&at, n) || (type == SOCK_STREAM && listen(fd, 64))) {
        fail_msg("%s:%u: %s", address, port, strerror(errno));
    }
    return fd;
}

static void show_peer(const struct sockaddr_storage *peer, char *out)
{
    const struct sockaddr_in *ip4 = (const void *)peer;
    const struct sockaddr_in6 *ip6 = (const void *)peer;
    if (out) {
        inet_ntop(peer->ss_family,
                  peer->ss_family == AF_INET ? (const void *)&ip4->sin_addr
                                             : (const void *)&ip6->sin6_addr,
                  out, INET6_ADDRSTRLEN);
    }
}

static int begin(int where, int type, const char *address, uint16_t port)
{
    socklen_t n;
    int fd = lab_socket(where, type, address, 0);
    enter(where);
    struct sockaddr_storage to = lab_address(address, port, &n);
    enter(LAB_HOST);
    if (connect(fd, (struct sockaddr *)&to, n) && errno != EINPROGRESS) {
        base_fd_close(&fd); /* refused at once: no route */
    }
    return fd;
}

/* Waits for the server, but no longer than until the client is told that it can't be. */
static bool await_server(int client, int server, int timeout_ms)
{
    struct pollfd both[2] = {{.fd = server, .events = POLLIN}, {.fd = client, .events = POLLRDHUP}};
    return poll(both, 2, timeout_ms) > 0 && (both[0].revents & POLLIN);
}

static bool accept_one(int client, int server, int *out_served, char *out_peer)
{
    struct sockaddr_storage peer = {0};
    socklen_t n = sizeof peer;
    *out_served = -1;
    if (await_server(client, server, reach_ms)) {
        *out_served = accept4(server, (struct sockaddr *)&peer, &n, SOCK_CLOEXEC | SOCK_NONBLOCK);
    }
    show_peer(&peer, out_peer);
    return *out_served >= 0;
}

bool lab_connect(int where, const char *address, uint16_t port, int server, int *out_client,
                 int *out_served)
{
    autofd int client = begin(where, SOCK_STREAM, address, port);
    autofd int served = -1;
    if (client < 0 || !accept_one(client, server, &served, NULL) || !lab_is_alive(client, served)) {
        return false;
    }
    *out_client = base_fd_steal(&client);
    *out_served = base_fd_steal(&served);
    return true;
}

static bool pass(int from, int to, char byte)
{
    char got = 0;
    return send(from, &byte, 1, MSG_NOSIGNAL) == 1 && lab_wait(to, POLLIN, PASS_MS) &&
           recv(to, &got, 1, 0) == 1 && got == byte;
}

bool lab_is_alive(int client, int served)
{
    return pass(client, served, 'q') && pass(served, client, 'a');
}

static bool reach_tcp(int where, const char *address, uint16_t port, int server, char *out_peer)
{
    autofd int client = begin(where, SOCK_STREAM, address, port);
    autofd int served = -1;
    return client >= 0 && accept_one(client, server, &served, out_peer) &&
           lab_is_alive(client, served);
}

static bool reach_udp(int where, const char *address, uint16_t port, int server, char *out_peer)
{
    struct sockaddr_storage peer = {0};
    socklen_t n = sizeof peer;
    char byte;
    autofd int client = begin(where, SOCK_DGRAM, address, port);
    if (client < 0 || send(client, "q", 1, MSG_NOSIGNAL) != 1 ||
        !await_server(client, server, reach_ms) ||
        recvfrom(server, &byte, 1, 0, (struct sockaddr *)&peer, &n) != 1) {
        return false;
    }
    show_peer(&peer, out_peer);
    return sendto(server, "a", 1, MSG_NOSIGNAL, (struct sockaddr *)&peer, n) == 1 &&
           lab_wait(client, POLLIN, reach_ms) && recv(client, &byte, 1, 0) == 1 && byte == 'a';
}

bool lab_reach(int where, int type, const char *address, uint16_t port, int server, char *out_peer)
{
    return type == SOCK_STREAM ? reach_tcp(where, address, port, server, out_peer)
                               : reach_udp(where, address, port, server, out_peer);
}
