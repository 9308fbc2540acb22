#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/error.h"
#include "net/dnsmasq.h"
#include "net/network_internal.h"
#include "net/network_supervisor.h"
#include "tests/unit/net/helper_network.h"
#include "tests/unit/net/netns.h"

/*
 * The real dnsmasq, asked by a client in another network namespace, over a veth in place of a tap.
 */
static TestStore store;
static pid_t guest; /* holds the other namespace */

static void be_guest(int ready_fd)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (unshare(CLONE_NEWNET) || write(ready_fd, "x", 1) != 1) {
        _exit(1);
    }
    for (;;) {
        pause();
    }
}

static int begin(void **state)
{
    (void)state;
    int ready[2];
    char byte;
    test_store_begin(&store);
    if (pipe(ready)) {
        return 1;
    }
    guest = fork();
    if (guest == 0) {
        be_guest(ready[1]);
    }
    bool is_ready = read(ready[0], &byte, 1) == 1;
    close(ready[0]);
    close(ready[1]);
    return !is_ready;
}

static int end(void **state)
{
    (void)state;
    kill(guest, SIGKILL);
    waitpid(guest, NULL, 0);
    /* its end of a veth goes with it, a little later */
    for (int i = 0; i < 500 && if_nametoindex("va"); i++) {
        g_usleep(10000);
    }
    test_store_end(&store);
    return 0;
}

/* Plugs the guest in, with the member's MAC. */
static void plug(const NetMember *member)
{
    char mac[18];
    g_autofree char *pid = g_strdup_printf("%d", (int)guest);
    base_mac_format(member->mac, mac);
    g_free(test_run("ip", "link", "add", "va", "type", "veth", "peer", "name", "eth0", "address",
                    mac, "netns", pid, NULL));
    g_free(test_run("ip", "link", "set", "va", "master", member->bridge, "up", NULL));
    g_free(test_run("nsenter", "-t", pid, "-n", "ip", "link", "set", "eth0", "up", NULL));
}

static void set_mac(const NetMember *member)
{
    char mac[18];
    g_autofree char *pid = g_strdup_printf("%d", (int)guest);
    g_free(test_run("nsenter", "-t", pid, "-n", "ip", "link", "set", "eth0", "down", NULL));
    g_free(test_run("nsenter", "-t", pid, "-n", "ip", "link", "set", "eth0", "address",
                    base_mac_format(member->mac, mac), "up", NULL));
}

static char *ask(const char *what, const char *timeout)
{
    g_autofree char *pid = g_strdup_printf("%d", (int)guest);
    char *answer = test_run("nsenter", "-t", pid, "-n", "python3",
                            TEST_SOURCE_DIR "/lib/net_client.py", "eth0", what, timeout, NULL);
    return g_strchomp(answer);
}

static void expect(const char *what, const char *timeout, const char *format, ...)
    G_GNUC_PRINTF(3, 4);
static void expect(const char *what, const char *timeout, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    g_autofree char *wanted = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    g_autofree char *answer = ask(what, timeout);
    if (strcmp(answer, wanted)) {
        g_autofree char *log = g_build_filename(store.dir, "networks/lab/supervisor.log", NULL);
        g_autofree char *text = test_run("cat", log, NULL);
        fail_msg("%s is '%s', not '%s'; log:\n%s", what, answer, wanted, text);
    }
}

static NetMember *put_one(NetNetwork *network, const char *machine, const char *hostname)
{
    NetMember *member = test_member(&store, network, machine);
    member->hostname = g_strdup(hostname);
    test_put(network, member);
    return member;
}

static void test_guest_gets_its_reservations(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec = test_spec("lab", "cidr", "10.44.0.0/20", "cidr6", "fd44::/64",
                                            "domain", "lab.test", "mtu", "1400", NULL);
    NetNetwork *network = test_define(&store, spec);
    test_up(network);
    g_autoptr(NetMember) member = put_one(network, "web", "www");
    char ip4[BASE_IP_TEXT_BYTES], ip6[BASE_IP_TEXT_BYTES];
    base_ip_format(&member->ip4, ip4);
    base_ip_format(&member->ip6, ip6);
    plug(member);
    expect(
        "dhcp4", "10",
        "ip=%s mask=255.255.240.0 router=10.44.0.1 dns=10.44.0.1 host=www domain=lab.test mtu=1400",
        ip4);
    expect("ra", "10", "managed=1 router=1 prefix=fd44::/64 auto=0 mtu=1400");
    expect("dhcp6", "10", "ip=%s dns=fd44::1", ip6);
    /* a new dnsmasq, without leases, gives the same */
    assert_true(net_supervisor_end_dnsmasq(network->dirfd, NULL));
    test_up(network);
    g_autofree char *again = ask("dhcp4", "10");
    g_autofree char *wanted = g_strdup_printf("ip=%s ", ip4);
    assert_true(g_str_has_prefix(again, wanted));
}

static void test_unknown_guest_gets_nothing(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec = test_spec("lab", "cidr", "10.44.0.0/24", NULL);
    NetNetwork *network = test_define(&store, spec);
    test_up(network);
    g_autoptr(NetMember) member = test_member(&store, network, "web"); /* never put */
    plug(member);
    expect("dhcp4", "2", "none");
    expect("dhcp6", "2", "none");
    test_put(network, member); /* and at once when it is known */
    g_autofree char *answer = ask("dhcp4", "10");
    assert_true(g_str_has_prefix(answer, "ip=10.44.0."));
}

static void test_isolated_guest_gets_no_router(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec =
        test_spec("lab", "mode", "isolated", "cidr", "10.44.0.0/24", "cidr6", "fd44::/64", NULL);
    NetNetwork *network = test_define(&store, spec);
    test_up(network);
    g_autoptr(NetMember) member = put_one(network, "web", NULL);
    char ip4[BASE_IP_TEXT_BYTES];
    plug(member);
    expect("dhcp4", "10", "ip=%s mask=255.255.255.0 router= dns=10.44.0.1 host=web domain= mtu=0",
           base_ip_format(&member->ip4, ip4));
    expect("ra", "10", "managed=1 router=0 prefix=fd44::/64 auto=0 mtu=1500");
}

static void test_network_without_dns_tells_no_server(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec =
        test_spec("lab", "cidr", "10.44.0.0/24", "cidr6", "none", "dns", "false", NULL);
    NetNetwork *network = test_define(&store, spec);
    test_up(network);
    g_autoptr(NetMember) member = put_one(network, "web", NULL);
    char ip4[BASE_IP_TEXT_BYTES];
    plug(member);
    expect("dhcp4", "10", "ip=%s mask=255.255.255.0 router=10.44.0.1 dns= host=web domain= mtu=0",
           base_ip_format(&member->ip4, ip4));
    g_autofree char *dns = test_dns(&network->record->gateway4, "web", 1, 300);
    assert_string_equal(dns, "refused");
}

/* The address of a machine that had a lease goes to another one, at once; and so does the IPv6
 * address of one that is made again and has another DUID. */
static void test_leased_address_goes_to_the_next_machine(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec =
        test_spec("lab", "cidr", "10.44.0.0/24", "cidr6", "fd44::/64", "keep", "true", NULL);
    NetNetwork *network = test_define(&store, spec);
    test_up(network);
    g_autoptr(NetMember) old = put_one(network, "old", NULL);
    char ip4[BASE_IP_TEXT_BYTES], ip6[BASE_IP_TEXT_BYTES];
    base_ip_format(&old->ip4, ip4);
    base_ip_format(&old->ip6, ip6);
    g_autofree char *wanted = g_strdup_printf("ip=%s ", ip4);
    plug(old);
    g_autofree char *first = ask("dhcp4", "10");
    assert_true(g_str_has_prefix(first, wanted));
    expect("dhcp6", "10", "ip=%s dns=fd44::1", ip6);
    pid_t before = net_network_view(network)->dnsmasq_pid;
    assert_true(net_network_drop_member(network, old->owner, NULL));
    g_autoptr(NetMember) next = net_member_new();
    g_autofree char *uuid = test_uuid("next");
    next->owner = g_strdup_printf("%s:%s:0", store.id, uuid);
    next->machine = g_strdup("next");
    next->ip4 = old->ip4;
    next->ip6 = old->ip6;
    assert_true(net_network_choose(network, next, NULL));
    test_put(network, next);
    test_up(network);
    assert_int_not_equal(net_network_view(network)->dnsmasq_pid, before);
    set_mac(next);
    g_autofree char *second = ask("dhcp4", "10");
    assert_true(g_str_has_prefix(second, wanted));
    expect("dhcp6", "10", "ip=%s dns=fd44::1", ip6);
    g_autofree char *name = test_dns(&network->record->gateway4, "old", 1, 1000);
    assert_string_equal(name, "rcode 3");
}

/* --- names ------------------------------------------------------------------------------------ */

static NetNetwork *network;

static void resolve(const char *name, unsigned qtype, const char *wanted)
{
    for (int i = 0; i < 2; i++) {
        const BaseIp *server = i ? &network->record->gateway6 : &network->record->gateway4;
        g_autofree char *found = test_dns(server, name, qtype, 2000);
        if (strcmp(found, wanted)) {
            fail_msg("%s type %u is %s, not %s", name, qtype, found, wanted);
        }
    }
}

/* inotify is fast, but not at once: until it is so, for 3 s at most. */
static void resolves_soon(const char *name, unsigned qtype, const char *wanted)
{
    gint64 begin_us = g_get_monotonic_time();
    for (;;) {
        g_autofree char *found = test_dns(&network->record->gateway4, name, qtype, 200);
        if (!strcmp(found, wanted)) {
            return;
        }
        if (g_get_monotonic_time() - begin_us > 3000000) {
            fail_msg("%s is %s, not %s", name, found, wanted);
        }
        g_usleep(1000);
    }
}

static NetMember *fixed(const char *machine, const char *ip4, const char *ip6)
{
    g_autofree char *uuid = test_uuid(machine);
    NetMember *member = net_member_new();
    member->owner = g_strdup_printf("%s:%s:0", store.id, uuid);
    member->machine = g_strdup(machine);
    assert_true(base_ip_parse(ip4, &member->ip4) && base_ip_parse(ip6, &member->ip6));
    assert_true(net_network_choose(network, member, NULL));
    return member;
}

static void test_machines_resolve_by_their_names(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec =
        test_spec("lab", "mode", "isolated", "cidr", "10.44.0.0/24", "cidr6", "fd44::/64", "domain",
                  "lab.test", "keep", "true", NULL);
    network = test_define(&store, spec);
    g_autoptr(NetMember) web = fixed("web", "10.44.0.5", "fd44::5");
    g_autoptr(NetMember) db = fixed("db", "10.44.0.6", "fd44::6");
    web->hostname = g_strdup("front");
    test_put(network, web); /* one before it is up, one after */
    test_up(network);
    test_put(network, db);
    resolves_soon("db", 1, "10.44.0.6");
    resolve("web", 1, "10.44.0.5");
    resolve("web", 28, "fd44::5");
    resolve("web.lab.test", 1, "10.44.0.5");
    resolve("web.lab.test", 28, "fd44::5");
    resolve("front", 1, "10.44.0.5");
    resolve("front.lab.test", 28, "fd44::5");
    resolve("db.lab.test", 1, "10.44.0.6");
    resolve("5.0.44.10.in-addr.arpa", 12, "web.lab.test");
    resolve("5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.4.4.d.f.ip6.arpa", 12,
            "web.lab.test");
    resolve("nobody", 1, "rcode 3");
    resolve("nobody.lab.test", 1, "rcode 3");
    resolve("9.0.44.10.in-addr.arpa", 12, "rcode 3");
    resolve("example.org", 1, "rcode 3"); /* isolated: what we don't know does not exist */
}

static void test_names_come_change_and_go_at_once(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec = test_spec("lab", "mode", "isolated", "cidr", "10.44.0.0/24",
                                            "cidr6", "fd44::/64", "keep", "true", NULL);
    network = test_define(&store, spec);
    test_up(network);
    pid_t dnsmasq = net_network_view(network)->dnsmasq_pid;
    g_autoptr(NetMember) web = fixed("web", "10.44.0.5", "fd44::5");
    test_put(network, web);
    resolves_soon("web", 1, "10.44.0.5");
    assert_true(base_ip_parse("10.44.0.9", &web->ip4));
    web->hostname = g_strdup("www.example.org"); /* with a domain of its own */
    test_put(network, web);
    resolves_soon("web", 1, "10.44.0.9");
    resolves_soon("www.example.org", 1, "10.44.0.9");
    resolves_soon("9.0.44.10.in-addr.arpa", 12, "web");
    resolves_soon("5.0.44.10.in-addr.arpa", 12, "rcode 3");
    assert_true(net_network_drop_member(network, web->owner, NULL));
    resolves_soon("web", 1, "rcode 3");
    resolves_soon("9.0.44.10.in-addr.arpa", 12, "rcode 3");
    assert_int_equal(net_network_view(network)->dnsmasq_pid, dnsmasq); /* all by its own doing */
}

/* A server of the test's own: what is not ours is asked of it, names and addresses of ours are not.
 */
static void test_the_rest_is_asked_of_the_given_servers(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec = test_spec("lab", "cidr", "10.44.0.0/24", "cidr6", "fd44::/64",
                                            "domain", "lab.test", "dns_servers", "127.0.0.9", NULL);
    network = test_define(&store, spec);
    test_up(network);
    pid_t upstream = fork();
    if (upstream == 0) {
        execlp("dnsmasq", "dnsmasq", "-k", "--conf-file=/dev/null", "--pid-file=", "--no-hosts",
               "--no-resolv", "--listen-address=127.0.0.9", "--bind-interfaces", "--user=root",
               "--address=/#/203.0.113.7", "--log-facility=/dev/null", NULL);
        _exit(127);
    }
    resolves_soon("example.org", 1, "203.0.113.7");
    resolve("nobody.lab.test", 1, "rcode 3");
    resolve("nobody", 1, "rcode 3");
    resolve("77.0.44.10.in-addr.arpa", 12, "rcode 3");
    kill(upstream, SIGKILL);
    waitpid(upstream, NULL, 0);
}

static void test_files_that_others_change_are_mended(void **state)
{
    (void)state;
    g_autoptr(NetworkSpec) spec = test_spec("lab", "mode", "isolated", "cidr", "10.44.0.0/24",
                                            "cidr6", "fd44::/64", "keep", "true", NULL);
    network = test_define(&store, spec);
    test_up(network);
    g_autoptr(NetMember) web = fixed("web", "10.44.0.5", "fd44::5");
    test_put(network, web);
    g_autofree char *folder = net_dnsmasq_folder(store.id, "lab");
    g_autofree char *hosts = g_build_filename(folder, "hosts", web->owner, NULL);
    g_autofree char *foreign = g_build_filename(folder, "hosts", "foreign", NULL);
    g_autofree char *reservation = g_build_filename(folder, "reservations", web->owner, NULL);
    assert_true(g_file_set_contents(hosts, "10.44.0.66 web\n", -1, NULL));
    assert_true(g_file_set_contents(foreign, "10.44.0.67 evil\n", -1, NULL));
    assert_int_equal(unlink(reservation), 0);
    g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) mended = g_ptr_array_new_with_free_func(g_free);
    assert_true(net_network_check(network, false, left, NULL, NULL));
    assert_int_equal(left->len, 3);
    g_ptr_array_set_size(left, 0);
    assert_true(net_network_check(network, true, left, mended, NULL));
    assert_int_equal(left->len, 0);
    assert_int_equal(mended->len, 3);
    resolves_soon("web", 1, "10.44.0.5");
    resolves_soon("evil", 1, "rcode 3");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
        TEST(test_guest_gets_its_reservations),
        TEST(test_unknown_guest_gets_nothing),
        TEST(test_isolated_guest_gets_no_router),
        TEST(test_network_without_dns_tells_no_server),
        TEST(test_leased_address_goes_to_the_next_machine),
        TEST(test_machines_resolve_by_their_names),
        TEST(test_names_come_change_and_go_at_once),
        TEST(test_the_rest_is_asked_of_the_given_servers),
        TEST(test_files_that_others_change_are_mended),
#undef TEST
    };
    if (!test_netns_enter()) {
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
