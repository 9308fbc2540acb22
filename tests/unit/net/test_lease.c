#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/dir.h"
#include "base/file.h"
#include "net/lease.h"
#include "tests/unit/net/helper_ip.h"
#include "tests/unit/net/netns.h"

static const uint8_t our_mac[6] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};
static char *folder;

static int make_folder(void **state)
{
    (void)state;
    folder = g_dir_make_tmp("vm-lease-XXXXXX", NULL);
    return folder ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    base_dir_remove_tree(AT_FDCWD, folder, NULL);
    g_clear_pointer(&folder, g_free);
    return 0;
}

static void write_file(const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    assert_true(g_file_set_contents(path, text, -1, NULL));
}

static BaseIp find(unsigned timeout_ms)
{
    g_autofree char *status = g_build_filename(folder, "%s.status", NULL);
    g_autofree char *leases = g_build_filename(folder, "dnsmasq.leases", NULL);
    const char *const files[] = {status, leases, NULL};
    g_autoptr(GError) error = NULL;
    BaseIp ip;
    assert_true(net_lease_find(files, "br0", our_mac, timeout_ms, &ip, &error));
    return ip;
}

static void assert_ip(BaseIp ip, const char *wanted)
{
    char text[BASE_IP_TEXT_BYTES];
    assert_string_equal(base_ip_format(&ip, text), wanted);
}

static void test_status_of_libvirt_gives_the_newest_of_the_mac(void **state)
{
    (void)state;
    write_file("br0.status",
               "[{\"ip-address\": \"192.168.122.9\", \"mac-address\": \"52:54:00:aa:bb:cc\", "
               "\"expiry-time\": 99999999999},"
               " {\"ip-address\": \"192.168.122.10\", \"mac-address\": \"52:54:00:12:34:56\", "
               "\"expiry-time\": 99999999999},"
               " {\"ip-address\": \"192.168.122.11\", \"mac-address\": \"52:54:00:12:34:56\", "
               "\"expiry-time\": 99999999999}]");
    assert_ip(find(0), "192.168.122.11");
}

static void test_lines_of_dnsmasq_are_read_too(void **state)
{
    (void)state;
    write_file("dnsmasq.leases", "99999999999 52:54:00:aa:bb:cc 10.0.0.5 x *\n"
                                 "99999999999 52:54:00:12:34:56 10.0.0.6 web *\n"
                                 "duid 00:01\n");
    assert_ip(find(0), "10.0.0.6");
}

static void test_lease_that_ran_out_counts_no_more(void **state)
{
    (void)state;
    write_file("dnsmasq.leases", "1000 52:54:00:12:34:56 10.0.0.6 web *\n");
    assert_ip(find(0), "");
}

static void test_other_bridge_and_broken_files_are_passed_over(void **state)
{
    (void)state;
    write_file("br1.status", "[{\"ip-address\": \"10.1.1.1\", \"mac-address\": "
                             "\"52:54:00:12:34:56\", \"expiry-time\": 0}]");
    write_file("br0.status", "[{\"ip-address\": 7, \"mac-address\": null}, 3, {\"");
    write_file("dnsmasq.leases", "99999999999 52:54:00:12:34:56 not-an-address web *\n\n  \n");
    assert_ip(find(0), "");
}

static void *write_later(void *data)
{
    (void)data;
    write_file("br0.status", "[{\"ip-address\": \"10.2.2.2\", \"mac-address\": "
                             "\"52:54:00:12:34:56\", \"expiry-time\": 0}]");
    return NULL;
}

static void test_lease_that_comes_is_waited_for(void **state)
{
    (void)state;
    pthread_t writer;
    write_file("br0.status", "[]");
    assert_int_equal(pthread_create(&writer, NULL, write_later, NULL), 0);
    assert_ip(find(60000), "10.2.2.2");
    pthread_join(writer, NULL);
}

static void test_nothing_is_waited_for_where_no_file_is(void **state)
{
    (void)state;
    gint64 before_us = g_get_monotonic_time();
    assert_ip(find(600000), "");
    assert_true(g_get_monotonic_time() - before_us < 300 * G_USEC_PER_SEC);
}

static void test_neighbour_is_found_on_its_bridge_only(void **state)
{
    (void)state;
    const uint8_t other[6] = {0x52, 0x54, 0, 0, 0, 1};
    BaseIp ip;
    test_ip_run("link add br0 type bridge");
    test_ip_run("link add br1 type bridge");
    test_ip_run("neigh add 10.3.3.3 lladdr 52:54:00:12:34:56 dev br0");
    test_ip_run("neigh add 10.4.4.4 lladdr 52:54:00:00:00:09 dev br0");
    assert_true(net_neighbour_find("br0", our_mac, &ip, NULL));
    assert_ip(ip, "10.3.3.3");
    assert_true(net_neighbour_find("br1", our_mac, &ip, NULL));
    assert_ip(ip, "");
    assert_true(net_neighbour_find("br0", other, &ip, NULL));
    assert_ip(ip, "");
    assert_true(net_neighbour_find("no-such", our_mac, &ip, NULL));
    assert_ip(ip, "");
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        CASE(test_status_of_libvirt_gives_the_newest_of_the_mac),
        CASE(test_lines_of_dnsmasq_are_read_too),
        CASE(test_lease_that_ran_out_counts_no_more),
        CASE(test_other_bridge_and_broken_files_are_passed_over),
        CASE(test_lease_that_comes_is_waited_for),
        CASE(test_nothing_is_waited_for_where_no_file_is),
        CASE(test_neighbour_is_found_on_its_bridge_only),
    };
    if (!test_netns_enter()) {
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
