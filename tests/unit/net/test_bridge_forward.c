#include "net/bridge_forward.h"

#include <arpa/inet.h>
#include <netinet/icmp6.h>
#include <poll.h>
#include "net/route.h"
#include "tests/unit/net/bridge_fixture.h"

static void test_modes_then_forwarding_as_needed_only(void **state)
{
    Fixture *f = *state;
    f->bridge.mode = SPEC_NET_MODE_ISOLATED;
    assert_created(&f->bridge);
    assert_int_equal(test_sysctl("ipv4/conf/%s/forwarding", f->name), 0);
    assert_int_equal(test_sysctl("ipv4/conf/up0/forwarding"), 0);
    assert_int_equal(test_sysctl("ipv4/conf/%s/route_localnet", f->name), 1);
    f->bridge.has_ports = true;
    assert_created(&f->bridge);
    assert_int_equal(test_sysctl("ipv4/conf/%s/forwarding", f->name), 1);
    assert_int_equal(test_sysctl("ipv4/conf/up0/forwarding"), 1);
    f->bridge.has_ports = false;
    assert_created(&f->bridge); /* nothing is switched back */
    assert_int_equal(test_sysctl("ipv4/conf/up0/forwarding"), 1);
    assert_int_equal(test_sysctl("ipv4/conf/all/forwarding"), 0);
    assert_int_equal(test_sysctl("ipv4/conf/default/forwarding"), 0);
}

static void test_several_uplinks_then_each_is_a_forwarder(void **state)
{
    Fixture *f = *state;
    const char *const adds[] = {"link add up2 type veth peer name up3",
                                "link add up4 type veth peer name up5",
                                "link set up3 up",
                                "link set up2 up",
                                "link set up5 up",
                                "link set up4 up",
                                "address add 203.0.113.2/24 dev up2",
                                "address add 198.51.100.2/24 dev up4",
                                "route add default table 77 via 203.0.113.1",
                                "route add default metric 9 nexthop via 198.51.100.1 nexthop via "
                                "192.0.2.9"};
    for (gsize i = 0; i < G_N_ELEMENTS(adds); i++) {
        test_ip_run("%s", adds[i]);
    }
    assert_created(&f->bridge);
    assert_int_equal(test_sysctl("ipv4/conf/up0/forwarding"), 1);
    assert_int_equal(test_sysctl("ipv4/conf/up2/forwarding"), 1);
    assert_int_equal(test_sysctl("ipv4/conf/up4/forwarding"), 1);
    assert_int_equal(test_sysctl("ipv4/conf/up3/forwarding"), 0);
    test_ip_run("link del up2");
    test_ip_run("link del up4");
}

static bool has_force_forwarding(void)
{
    return test_sysctl("ipv6/conf/up0/force_forwarding") >= 0;
}

/* A router advertisement from up1, as its kernel would hear it from a router on the wire. */
static void advertise_router(void)
{
    struct nd_router_advert advert = {.nd_ra_type = ND_ROUTER_ADVERT,
                                      .nd_ra_router_lifetime = htons(600)};
    struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_scope_id = if_nametoindex("up1")};
    int hops = 255;
    int index = (int)if_nametoindex("up1");
    inet_pton(AF_INET6, "ff02::1", &to.sin6_addr);
    autofd int fd = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMPV6);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &hops, sizeof hops), 0);
    assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, &index, sizeof index), 0);
    assert_int_equal(sendto(fd, &advert, sizeof advert, 0, (struct sockaddr *)&to, sizeof to),
                     (int)sizeof advert);
}

static bool has_router(void)
{
    g_autofree char *routes = test_ip("-6 route show default proto ra");
    return routes && strstr(routes, "up0") != NULL;
}

/* Waits for the route that the kernel makes of an advertisement. */
static void hear_router(void)
{
    autofd int watch = test_net_watch();
    test_ip_run("address replace fe80::99/64 dev up1 nodad");
    test_ip_run("address replace fe80::98/64 dev up0 nodad");
    test_sysctl_set("ipv6/conf/up0/accept_ra", 1);
    test_sysctl_set("ipv6/conf/up0/accept_ra_from_local", 1); /* both ends are this host's */
    gint64 end_us = g_get_monotonic_time() + 10L * G_USEC_PER_SEC;
    advertise_router();
    while (!has_router()) {
        struct pollfd event = {.fd = watch, .events = POLLIN};
        assert_true(g_get_monotonic_time() < end_us);
        poll(&event, 1, 200);
        test_net_n_changes(watch);
        advertise_router();
    }
}

static void test_ipv6_forwarding_then_route_of_an_advertisement_is_kept(void **state)
{
    Fixture *f = *state;
    hear_router();
    assert_created(&f->bridge);
    assert_true(has_router());
    assert_no_differences(&f->bridge);
    if (has_force_forwarding()) {
        assert_int_equal(test_sysctl("ipv6/conf/%s/force_forwarding", f->name), 1);
        assert_int_equal(test_sysctl("ipv6/conf/up0/force_forwarding"), 1);
        assert_int_equal(test_sysctl("ipv6/conf/all/forwarding"), 0);
        assert_int_equal(test_sysctl("ipv6/conf/up0/accept_ra"), 1);
    }
    g_autoptr(NetSocket) sock = net_socket_open(NULL); /* as older kernels need it */
    for (int i = 0; i < 2; i++) {
        assert_true(net_bridge_settle_forward_all(sock, NULL, NULL));
        assert_int_equal(test_sysctl("ipv6/conf/all/forwarding"), 1);
        assert_int_equal(test_sysctl("ipv6/conf/up0/accept_ra"), 2);
        assert_int_equal(test_sysctl("ipv6/conf/up1/accept_ra"), 1);
        assert_true(has_router());
    }
    /* and that is what it takes: without it the route goes */
    test_sysctl_set("ipv6/conf/all/forwarding", 0);
    test_ip_run("-6 route del default dev up0 proto ra"); /* a new one is looked at again */
    hear_router();
    test_sysctl_set("ipv6/conf/all/forwarding", 1);
    assert_false(has_router());
    test_sysctl_set("ipv6/conf/all/forwarding", 0);
}

static void test_ipv6_forwarding_where_a_program_hears_the_router_then_left_to_it(void **state)
{
    (void)state;
    test_sysctl_set("ipv6/conf/up0/accept_ra", 0);
    test_ip_run("-6 route add default via fe80::1 dev up0 proto ra");
    g_autoptr(NetSocket) sock = net_socket_open(NULL);
    assert_true(net_bridge_settle_forward_all(sock, NULL, NULL));
    assert_int_equal(test_sysctl("ipv6/conf/up0/accept_ra"), 0);
    assert_true(has_router());
    test_sysctl_set("ipv6/conf/all/forwarding", 0);
}

static void test_route_list_then_what_is_taken_without_defaults(void **state)
{
    Fixture *f = *state;
    assert_created(&f->bridge);
    test_ip_run("route add 172.20.0.0/16 via 192.0.2.1 table 88");
    test_ip_run("route add blackhole 10.200.0.0/16");
    test_ip_run("route add 0.0.0.0/1 via 192.0.2.1");
    g_autoptr(GArray) prefixes = net_route_list(NULL);
    g_autoptr(GString) all = g_string_new(" ");
    for (guint i = 0; i < prefixes->len; i++) {
        char text[BASE_CIDR_TEXT_BYTES];
        g_string_append_printf(all, "%s ",
                               base_cidr_format(&g_array_index(prefixes, BaseCidr, i), text));
    }
    const char *const there[] = {" 10.87.0.0/24 ",  " 192.0.2.0/24 ", " 172.20.0.0/16 ",
                                 " 10.200.0.0/16 ", " fd00:87::/64 ", " 2001:db8::/64 "};
    for (gsize i = 0; i < G_N_ELEMENTS(there); i++) {
        if (!strstr(all->str, there[i])) {
            fail_msg("%s is not in %s", there[i], all->str);
        }
    }
    const char *const absent[] = {"/0 ", "/1 ", " 127.", " fe80:", " ff00:", " ::1"};
    for (gsize i = 0; i < G_N_ELEMENTS(absent); i++) {
        if (strstr(all->str, absent[i])) {
            fail_msg("%s is in %s", absent[i], all->str);
        }
    }
    test_ip_run("route flush table 88");
    test_ip_run("route del 10.200.0.0/16");
}

int main(void)
{
    if (!test_netns_enter()) {
        return 77;
    }
    const struct CMUnitTest tests[] = {
        WITH_UPLINK(test_modes_then_forwarding_as_needed_only),
        WITH_UPLINK(test_several_uplinks_then_each_is_a_forwarder),
        WITH_UPLINK(test_ipv6_forwarding_then_route_of_an_advertisement_is_kept),
        WITH_UPLINK(test_ipv6_forwarding_where_a_program_hears_the_router_then_left_to_it),
        WITH_UPLINK(test_route_list_then_what_is_taken_without_defaults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
