#include "net/filter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/fd.h"
#include "tests/unit/net/helper_ip.h"
#include "tests/unit/net/helper_lan.h"

/*
 * Guests with a kernel's whole network stack: two namespaces behind links that are named as taps
 * are. They make their link-local addresses by RFC 7217, look for duplicates, find each other and
 * the host, and talk.
 */
enum { WAIT_MS = 15000, REFUSED_MS = 1500 };
enum { GUEST_A, GUEST_B, HOST, N_PLACES };

typedef struct {
    int netns_fd;
    char ip4[INET_ADDRSTRLEN], global6[INET6_ADDRSTRLEN], link_local[INET6_ADDRSTRLEN];
} Place;
static Place places[N_PLACES];

static void enter(const Place *place)
{
    assert_int_equal(setns(place->netns_fd, CLONE_NEWNET), 0);
}

/* --- guests ------------------------------------------------------------------- */

/* Until no address looks for duplicates any more; the one of RFC 7217 is noted. */
static void await_addresses(Place *place, const char *link)
{
    int watch_fd = test_net_watch();
    for (;;) {
        g_autofree char *tentative = test_ip("-6 -o addr show dev %s tentative", link);
        g_autofree char *local = test_ip("-6 -o addr show dev %s scope link", link);
        const char *text = strstr(local, "inet6 ");
        bool is_found = text && sscanf(text, "inet6 %45[^/]", place->link_local) == 1;
        if (is_found && !*tentative) {
            break;
        }
        struct pollfd poller = {.fd = watch_fd, .events = POLLIN};
        assert_int_equal(poll(&poller, 1, WAIT_MS), 1);
        test_net_n_changes(watch_fd);
    }
    close(watch_fd);
    g_autofree char *failed = test_ip("-6 -o addr show dev %s dadfailed", link);
    assert_string_equal(failed, "");
}

static void make_guest(Place *place, char name)
{
    g_autoptr(NetMember) member = lan_member(name);
    char mac[18];
    assert_int_equal(unshare(CLONE_NEWNET), 0);
    place->netns_fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    enter(&places[HOST]);
    test_ip_run("link add %s type veth peer name eth0 netns /proc/%d/fd/%d", member->tap,
                (int)getpid(), place->netns_fd);
    test_ip_run("link set %s master " LAN_BRIDGE " up", member->tap);
    enter(place);
    test_sysctl_set("ipv6/conf/eth0/addr_gen_mode", 3); /* RFC 7217, a secret of its own */
    base_ip_format(&member->ip4, place->ip4);
    base_ip_format(&member->ip6, place->global6);
    test_ip_run("link set eth0 address %s up", base_mac_format(member->mac, mac));
    test_ip_run("addr add %s/24 dev eth0", place->ip4);
    test_ip_run("addr add %s/64 dev eth0", place->global6);
    enter(&places[HOST]);
}

static void make_host(Place *host)
{
    host->netns_fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    g_strlcpy(host->ip4, "10.7.0.1", sizeof host->ip4);
    g_strlcpy(host->global6, "fd07::1", sizeof host->global6);
    test_ip_run("addr add 10.7.0.1/24 dev " LAN_BRIDGE);
    test_ip_run("addr add fd07::1/64 dev " LAN_BRIDGE);
}

static int set_up(void **state)
{
    (void)state;
    lan_install();
    for (const char *name = "AB"; *name; name++) {
        g_autoptr(NetMember) member = lan_member(*name);
        lan_apply(member, NULL);
    }
    make_host(&places[HOST]);
    make_guest(&places[GUEST_A], 'A');
    make_guest(&places[GUEST_B], 'B');
    await_addresses(&places[HOST], LAN_BRIDGE);
    for (unsigned i = GUEST_A; i <= GUEST_B; i++) {
        enter(&places[i]);
        await_addresses(&places[i], "eth0");
        enter(&places[HOST]);
    }
    return 0;
}

/* --- talk --------------------------------------------------------------------- */

/* An address of a place, as seen from `from`: a link-local one with the link there. */
static socklen_t address_of(const Place *from, const char *text, uint16_t port,
                            struct sockaddr_storage *out)
{
    struct sockaddr_in *in4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, text, &in4->sin_addr) == 1) {
        in4->sin_family = AF_INET;
        in4->sin_port = htons(port);
        return sizeof *in4;
    }
    assert_int_equal(inet_pton(AF_INET6, text, &in6->sin6_addr), 1);
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(port);
    if (IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr)) {
        in6->sin6_scope_id = if_nametoindex(from == &places[HOST] ? LAN_BRIDGE : "eth0");
    }
    return sizeof *in6;
}

static int open_socket(const Place *place, const char *text, int type, uint16_t port)
{
    struct sockaddr_storage address;
    int yes = 1;
    enter(place);
    socklen_t n_bytes = address_of(place, text, port, &address);
    int fd = socket(address.ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, n_bytes), 0);
    enter(&places[HOST]);
    return fd;
}

static bool await(int fd, short events, int timeout_ms)
{
    struct pollfd poller = {.fd = fd, .events = events};
    return poll(&poller, 1, timeout_ms) == 1;
}

static bool can_connect(const Place *from, const char *source, const char *to, const Place *server,
                        int timeout_ms)
{
    struct sockaddr_storage address;
    autofd int listener = open_socket(server, to, SOCK_STREAM, 7777);
    autofd int fd = open_socket(from, source, SOCK_STREAM, 0);
    int failure = 0;
    socklen_t n_failure = sizeof failure;
    assert_int_equal(listen(listener, 8), 0);
    enter(from);
    socklen_t n_bytes = address_of(from, to, 7777, &address);
    int result = connect(fd, (struct sockaddr *)&address, n_bytes);
    enter(&places[HOST]);
    assert_true(result == 0 || errno == EINPROGRESS);
    bool is_done = await(fd, POLLOUT, timeout_ms);
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &n_failure);
    return is_done && failure == 0;
}

/* A question there and, when asked for, its answer back. */
static bool can_ask(const Place *from, const char *source, const char *to, const Place *server,
                    int timeout_ms)
{
    struct sockaddr_storage address;
    socklen_t n_bytes = sizeof address;
    char text[8];
    autofd int there = open_socket(server, to, SOCK_DGRAM, 7777);
    autofd int here = open_socket(from, source, SOCK_DGRAM, 0);
    enter(from);
    socklen_t n_to = address_of(from, to, 7777, &address);
    assert_int_equal(sendto(here, "hello", 5, 0, (struct sockaddr *)&address, n_to), 5);
    enter(&places[HOST]);
    if (!await(there, POLLIN, timeout_ms)) {
        return false;
    }
    assert_int_equal(recvfrom(there, text, sizeof text, 0, (struct sockaddr *)&address, &n_bytes),
                     5);
    enter(server);
    assert_int_equal(sendto(there, "there", 5, 0, (struct sockaddr *)&address, n_bytes), 5);
    enter(&places[HOST]);
    return await(here, POLLIN, timeout_ms);
}

/* By each kind of address. */
static void check_talk(const Place *from, const Place *to)
{
    const char *const ways[][2] = {
        {from->ip4, to->ip4}, {from->global6, to->global6}, {from->link_local, to->link_local}};
    for (size_t i = 0; i < G_N_ELEMENTS(ways); i++) {
        if (!can_connect(from, ways[i][0], ways[i][1], to, WAIT_MS)) {
            fail_msg("no TCP from %s to %s", ways[i][0], ways[i][1]);
        }
        if (!can_ask(from, ways[i][0], ways[i][1], to, WAIT_MS)) {
            fail_msg("no UDP from %s to %s", ways[i][0], ways[i][1]);
        }
    }
}

static void check_all_talk(void)
{
    for (unsigned from = 0; from < N_PLACES; from++) {
        for (unsigned to = 0; to < N_PLACES; to++) {
            if (from != to) {
                check_talk(&places[from], &places[to]);
            }
        }
    }
}

/* --- tests -------------------------------------------------------------------- */

static void test_guests_with_stable_privacy_talk(void **state)
{
    (void)state;
    g_autoptr(NetMember) a = lan_member('A');
    char eui[BASE_IP_TEXT_BYTES];
    BaseIp link_local = base_ip_link_local_of_mac(a->mac);
    assert_string_not_equal(places[GUEST_A].link_local, base_ip_format(&link_local, eui));
    g_autoptr(GPtrArray) claims = net_nft_list(NET_NFT_BRIDGE, "own", NULL);
    assert_int_equal(claims->len, 2);
    check_all_talk();
}

static void test_guests_talk_with_br_netfilter(void **state)
{
    (void)state;
    lan_set_br_netfilter(true);
    check_all_talk();
    lan_set_br_netfilter(false);
}

static void test_guest_of_default_deny_answers_only(void **state)
{
    (void)state;
    const Place *a = &places[GUEST_A], *b = &places[GUEST_B];
    g_autoptr(NetMember) old = lan_member('A'), denied = lan_member('A');
    denied->egress.is_default_deny = true;
    lan_apply(denied, old);
    check_talk(b, a);
    check_talk(&places[HOST], a);
    check_talk(a, &places[HOST]); /* judged elsewhere */
    assert_false(can_connect(a, a->ip4, b->ip4, b, REFUSED_MS));
    assert_false(can_connect(a, a->link_local, b->link_local, b, REFUSED_MS));
    assert_false(can_ask(a, a->global6, b->global6, b, REFUSED_MS));
    lan_apply(old, denied);
    check_talk(a, b);
}

/* A guest that is told its neighbour's address by hand. */
static void test_guest_with_stolen_address_is_not_heard(void **state)
{
    (void)state;
    const Place *a = &places[GUEST_A], *b = &places[GUEST_B], *host = &places[HOST];
    enter(b);
    test_ip_run("addr add %s/64 dev eth0 nodad", a->link_local);
    test_ip_run("addr add %s/24 dev eth0", a->ip4);
    enter(host);
    assert_false(can_ask(b, a->link_local, host->link_local, host, REFUSED_MS));
    assert_false(can_ask(b, a->ip4, host->ip4, host, REFUSED_MS));
    check_talk(a, host);
    enter(b);
    test_ip_run("addr del %s/64 dev eth0", a->link_local);
    test_ip_run("addr del %s/24 dev eth0", a->ip4);
    enter(host);
    check_all_talk();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_guests_with_stable_privacy_talk),
        cmocka_unit_test(test_guests_talk_with_br_netfilter),
        cmocka_unit_test(test_guest_of_default_deny_answers_only),
        cmocka_unit_test(test_guest_with_stolen_address_is_not_heard),
    };
    if (!lan_make_bridge()) {
        return 77;
    }
    lan_set_br_netfilter(false);
    return cmocka_run_group_tests(tests, set_up, NULL);
}
