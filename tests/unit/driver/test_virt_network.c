/*
 * Networks of libvirt: test:///default has one of its own (192.168.122.0/24); with
 * TEST_CONNECT=qemu:///system a NAT network of this test is started there, with a real dnsmasq.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/error.h"
#include "driver/domain_ns.h"
#include "driver/virt_network.h"
#include "driver/virt_ops.h"

#define MAC_A  "52:54:00:00:00:0a"
#define MAC_B  "52:54:00:00:00:0b"
#define PREFIX "192.168.122."

typedef struct {
    VirtConn *conn;
    const char *network, *bridge;
} Rig;

static Rig rig;

static const char *uri(void)
{
    const char *wish = g_getenv("TEST_CONNECT");
    return wish ? wish : "test:///default";
}

static bool is_real(void)
{
    return g_getenv("TEST_CONNECT");
}

static int setup(void **context)
{
    (void)context;
    g_autoptr(GError) error = NULL;
    rig.conn = virt_open(uri(), &error);
    rig.network = is_real() ? g_getenv("TEST_NETWORK") : "default";
    rig.bridge = is_real() ? g_getenv("TEST_BRIDGE") : "virbr0";
    if (!rig.conn) {
        print_error("%s\n", error->message);
    }
    return rig.conn ? 0 : -1;
}

static int teardown(void **context)
{
    (void)context;
    virt_close(rig.conn);
    return 0;
}

static BaseIp ip_of(const char *text)
{
    BaseIp ip = {0};
    assert_true(!text || base_ip_parse(text, &ip));
    return ip;
}

static VirtReservation wish_of(const char *mac, const char *ip, const char *hostname)
{
    return (VirtReservation){rig.network, mac, ip_of(ip), hostname};
}

/* The address that was reserved, "": `code` was the error. */
static const char *reserve(const char *mac, const char *ip, const char *hostname, int code)
{
    static char text[BASE_IP_TEXT_BYTES];
    VirtReservation wish = wish_of(mac, ip, hostname);
    g_autoptr(GError) error = NULL;
    BaseIp got = {0};
    bool is_ok = virt_network_reserve(rig.conn, &wish, &got, &error);
    if (is_ok != (code < 0) || (error && error->code != code)) {
        fail_msg("reserve %s %s: %s", mac, ip ? ip : "-", error ? error->message : "no error");
    }
    assert_true(!error || !strchr(error->message, '\n'));
    return base_ip_format(&got, text);
}

static void release(const char *mac, const char *hostname)
{
    VirtReservation wish = wish_of(mac, NULL, hostname);
    g_autoptr(GError) error = NULL;
    if (!virt_network_release(rig.conn, &wish, &error)) {
        fail_msg("%s", error->message);
    }
}

static void test_network_is_found_by_its_bridge(void **context)
{
    (void)context;
    g_autoptr(GError) error = NULL;
    char text[BASE_CIDR_TEXT_BYTES];
    g_autoptr(VirtNetwork) found = virt_network_by_bridge(rig.conn, rig.bridge, &error);
    assert_null(error);
    assert_non_null(found);
    assert_string_equal(found->name, rig.network);
    assert_string_equal(found->bridge, rig.bridge);
    assert_true(found->is_active && found->has_dhcp);
    assert_string_equal(base_cidr_format(&found->cidr4, text), PREFIX "1/24");
    assert_int_equal(found->cidr6.ip.n_bytes, is_real() ? 16 : 0);
}

static void test_other_bridges_belong_to_no_network(void **context)
{
    (void)context;
    static const char *const names[] = {"br0", "", "virbr0x", "<bridge/>'\""};
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(virt_network_by_bridge(rig.conn, names[i], &error));
        assert_null(error);
    }
}

static void test_reserved_once_is_the_same_the_second_and_third_time(void **context)
{
    (void)context;
    g_autofree char *first = g_strdup(reserve(MAC_A, NULL, "web", -1));
    assert_true(g_str_has_prefix(first, PREFIX));
    assert_string_equal(reserve(MAC_A, NULL, "web", -1), first);
    assert_string_equal(reserve(MAC_A, first, "web", -1), first);
    g_autofree char *other = g_strdup(reserve(MAC_B, NULL, "db", -1));
    assert_string_not_equal(first, other);
    reserve(MAC_B, first, "db", VM_ERROR_EXISTS);
    release(MAC_A, "web");
    release(MAC_A, "web");
    assert_string_equal(reserve(MAC_B, first, "db", -1), first); /* free again: ours moves */
    release(MAC_B, "db");
}

static void test_asked_for_address_is_checked(void **context)
{
    (void)context;
    assert_string_equal(reserve(MAC_A, PREFIX "77", "web", -1), PREFIX "77");
    reserve(MAC_B, PREFIX "77", "db", VM_ERROR_EXISTS);
    reserve(MAC_B, PREFIX "1", "db", VM_ERROR_NET);
    reserve(MAC_B, PREFIX "255", "db", VM_ERROR_NET);
    reserve(MAC_B, PREFIX "0", "db", VM_ERROR_NET);
    reserve(MAC_B, "10.0.0.5", "db", VM_ERROR_NET);
    reserve(MAC_B, "fd00::5", "db", VM_ERROR_NET);
    VirtReservation same_name = wish_of(MAC_B, PREFIX "78", "web");
    g_autoptr(GError) error = NULL;
    BaseIp ip;
    assert_false(virt_network_reserve(rig.conn, &same_name, &ip, &error));
    assert_true(g_str_has_prefix(error->message, "name 'web' is reserved for " MAC_A));
    release(MAC_A, "web");
}

static void test_foreign_reservation_is_used_and_stays(void **context)
{
    (void)context;
    assert_string_equal(reserve(MAC_A, PREFIX "55", "byhand", -1), PREFIX "55");
    assert_string_equal(reserve(MAC_A, NULL, "web", -1), PREFIX "55");
    reserve(MAC_A, PREFIX "56", "web", VM_ERROR_EXISTS);
    release(MAC_A, "web");
    assert_string_equal(reserve(MAC_A, NULL, "byhand", -1), PREFIX "55");
    release(MAC_A, "byhand");
    assert_string_equal(reserve(MAC_B, PREFIX "55", "db", -1), PREFIX "55");
    release(MAC_B, "db");
}

static void test_hostile_texts_stay_texts(void **context)
{
    (void)context;
    static const char name[] = "'/><host mac='52:54:00:00:00:0c' ip='192.168.122.9'/><x y='";
    VirtReservation wish = wish_of(MAC_A, NULL, name);
    BaseIp ip;
    if (virt_network_reserve(rig.conn, &wish, &ip, NULL)) {
        assert_true(virt_network_release(rig.conn, &wish, NULL));
    }
    assert_string_equal(reserve("52:54:00:00:00:0c", PREFIX "9", "c", -1), PREFIX "9");
    release("52:54:00:00:00:0c", "c");
    wish = (VirtReservation){"no/such network", MAC_A, {0}, "web"};
    g_autoptr(GError) error = NULL;
    assert_false(virt_network_reserve(rig.conn, &wish, &ip, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_NOT_FOUND));
    assert_true(virt_network_release(rig.conn, &wish, NULL));
    assert_false(virt_network_lease(rig.conn, wish.network, MAC_A, &ip, &ip, NULL));
}

static void test_nobody_has_leased_yet(void **context)
{
    (void)context;
    if (!is_real()) {
        skip(); /* the test driver knows no leases (libvirt 9.0) */
    }
    g_autoptr(GError) error = NULL;
    BaseIp ip4 = {.n_bytes = 1}, ip6 = {.n_bytes = 1};
    if (!virt_network_lease(rig.conn, rig.network, MAC_A, &ip4, &ip6, &error)) {
        fail_msg("%s", error->message);
    }
    assert_false(base_ip_is_set(&ip4) || base_ip_is_set(&ip6));
}

static int reserve_as(const char *number)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *mac = g_strdup_printf("52:54:00:00:01:%s", number);
    g_autofree char *name = g_strdup_printf("many%s", number);
    char text[BASE_IP_TEXT_BYTES];
    rig.network = g_getenv("TEST_NETWORK");
    VirtReservation wish = wish_of(mac, NULL, name);
    BaseIp ip = {0};
    VirtConn *conn = virt_open(uri(), &error);
    if (!conn || !virt_network_reserve(conn, &wish, &ip, &error)) {
        (void)fprintf(stderr, "%s: %s\n", name, error->message);
        return 1;
    }
    virt_close(conn);
    (void)printf("%s\n", base_ip_format(&ip, text));
    return 0;
}

/* Each in a program of its own: a mere fork would take along locks that libvirt's event thread
 * holds at that instant. */
static void test_eight_processes_get_eight_addresses(void **context)
{
    (void)context;
    if (strcmp(uri(), "qemu:///system") != 0) {
        skip(); /* the test driver's state is each process's own, an embedded root is one's only */
    }
    GPid pids[8];
    int out_fds[G_N_ELEMENTS(pids)];
    g_autoptr(GHashTable) got = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(pids); i++) {
        char number[] = {'0', (char)('0' + i), '\0'};
        char *argv[] = {"/proc/self/exe", "reserve", number, NULL};
        assert_true(g_spawn_async_with_pipes(NULL, argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL,
                                             NULL, &pids[i], NULL, &out_fds[i], NULL, NULL));
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(pids); i++) {
        char ip[BASE_IP_TEXT_BYTES] = "";
        int status = -1;
        assert_true(read(out_fds[i], ip, sizeof ip - 1) > 0); /* or it has said why not */
        assert_true(g_str_has_prefix(ip, PREFIX));
        assert_true(g_hash_table_add(got, g_strdup(ip))); /* nobody else's */
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
        close(out_fds[i]);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(pids); i++) {
        g_autofree char *mac = g_strdup_printf("52:54:00:00:01:%02x", i);
        g_autofree char *name = g_strdup_printf("many%02u", i);
        release(mac, name);
    }
}

/* Its one network is created by the caller (tests/quick/virt-network.sh): no bridge, or no DHCP. */
static void test_networks_without_bridge_or_dhcp_do_no_harm(void **context)
{
    (void)context;
    if (!is_real()) {
        skip(); /* needs a libvirtd of this test: tests/quick/virt-network.sh */
    }
    g_autoptr(VirtNetwork) found = virt_network_by_bridge(rig.conn, "vmtest1", NULL);
    assert_non_null(found);
    assert_false(found->has_dhcp);
    g_autoptr(GError) error = NULL;
    VirtReservation wish = {found->name, MAC_A, {0}, "web"};
    BaseIp ip;
    assert_false(virt_network_reserve(rig.conn, &wish, &ip, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_UNSUPPORTED));
    assert_true(virt_network_release(rig.conn, &wish, NULL));
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "reserve") == 0) {
        return reserve_as(argv[2]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_network_is_found_by_its_bridge),
        cmocka_unit_test(test_other_bridges_belong_to_no_network),
        cmocka_unit_test(test_reserved_once_is_the_same_the_second_and_third_time),
        cmocka_unit_test(test_asked_for_address_is_checked),
        cmocka_unit_test(test_foreign_reservation_is_used_and_stays),
        cmocka_unit_test(test_hostile_texts_stay_texts),
        cmocka_unit_test(test_nobody_has_leased_yet),
        cmocka_unit_test(test_eight_processes_get_eight_addresses),
        cmocka_unit_test(test_networks_without_bridge_or_dhcp_do_no_harm),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
