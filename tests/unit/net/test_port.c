#include "net/port.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/error.h"
#include "base/fd.h"
#include "tests/unit/net/netns.h"

#define UUID "1b4e28ba-2fa1-5d2b-883f-b9a761bde3fb"

/* Binds a socket of this test; type SOCK_STREAM also listens. v6: "::" forms. */
static int hold(const char *addr, uint16_t port, int type)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    bool is_v6 = strchr(addr, ':') != NULL;
    int fd = socket(is_v6 ? AF_INET6 : AF_INET, type | SOCK_CLOEXEC, 0);
    assert_int_equal(inet_pton(is_v6 ? AF_INET6 : AF_INET, addr,
                               is_v6 ? (void *)&v6.sin6_addr : (void *)&v4.sin_addr),
                     1);
    assert_int_equal(bind(fd, is_v6 ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4,
                          is_v6 ? sizeof v6 : sizeof v4),
                     0);
    if (type == SOCK_STREAM) {
        assert_int_equal(listen(fd, 1), 0);
    }
    return fd;
}

static void assert_probe(const char *addr, uint16_t port, SpecProto proto, int code)
{
    g_autoptr(GError) error = NULL;
    bool is_free = net_port_probe(addr, port, proto, &error);
    if (is_free != (code < 0) || (!is_free && !g_error_matches(error, VM_ERROR, code))) {
        fail_msg("%s:%u: %s", addr, port, error ? error->message : "free");
    }
}

static void test_mac_of_id_then_steady_and_of_one_station(void **state)
{
    (void)state;
    g_autofree char *mac = net_mac_for(UUID, 0);
    g_autofree char *again = net_mac_for(UUID, 0);
    g_autofree char *second = net_mac_for(UUID, 1);
    assert_int_equal(strlen(mac), 17);
    assert_true(g_str_has_prefix(mac, "52:54:00:"));
    assert_string_equal(mac, again);
    assert_string_not_equal(mac, second);
}

static void test_probe_free_then_true_and_left_free(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_probe("127.0.0.1", 18080, SPEC_PROTO_BOTH, -1);
        assert_probe("0.0.0.0", 18080, SPEC_PROTO_TCP, -1);
    }
}

static void test_probe_taken_then_exists_and_names_holder(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    autofd int fd = hold("127.0.0.1", 18080, SOCK_STREAM);
    assert_false(net_port_probe("127.0.0.1", 18080, SPEC_PROTO_TCP, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_EXISTS));
    g_autofree char *holder =
        g_strdup_printf("127.0.0.1:18080/tcp is taken by pid %d (test-net-port)", (int)getpid());
    assert_non_null(strstr(error->message, holder));
    assert_probe("0.0.0.0", 18080, SPEC_PROTO_TCP, VM_ERROR_EXISTS);
    assert_probe("127.0.0.1", 18080, SPEC_PROTO_BOTH, VM_ERROR_EXISTS);
    assert_probe("127.0.0.1", 18080, SPEC_PROTO_UDP, -1);
    assert_probe("127.0.0.2", 18080, SPEC_PROTO_TCP, -1);
}

static void test_probe_udp_and_ipv6_taken_then_exists(void **state)
{
    (void)state;
    autofd int udp = hold("0.0.0.0", 18081, SOCK_DGRAM);
    autofd int v6 = hold("::", 18082, SOCK_STREAM);
    assert_probe("127.0.0.1", 18081, SPEC_PROTO_UDP, VM_ERROR_EXISTS);
    assert_probe("127.0.0.1", 18081, SPEC_PROTO_TCP, -1);
    assert_probe("127.0.0.1", 18082, SPEC_PROTO_TCP, VM_ERROR_EXISTS); /* :: takes IPv4 too */
    assert_probe("::1", 18082, SPEC_PROTO_TCP, VM_ERROR_EXISTS);
}

static void test_probe_wrong_address_or_port_then_own_codes(void **state)
{
    (void)state;
    const char *const bad[] = {"",      "localhost", "1.2.3",   "127.0.0.1 ",
                               "[::1]", "::1%lo",    "\x1b[2J", "01.2.3.4"};
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        assert_probe(bad[i], 18080, SPEC_PROTO_TCP, VM_ERROR_NET);
    }
    assert_probe("192.0.2.77", 18080, SPEC_PROTO_TCP, VM_ERROR_NET);
    assert_probe("127.0.0.1", 0, SPEC_PROTO_TCP, VM_ERROR_PORT);
}

static void test_probe_low_port_as_ordinary_user_then_denied(void **state)
{
    (void)state;
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        g_autoptr(GError) error = NULL;
        bool is_dropped = !setgid(65534) && !setuid(65534);
        bool is_free = net_port_probe("127.0.0.1", 80, SPEC_PROTO_TCP, &error);
        _exit(is_dropped && !is_free && g_error_matches(error, VM_ERROR, VM_ERROR_DENIED) ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void test_listener_find_then_only_listeners_that_cover(void **state)
{
    (void)state;
    NetListener found = {0};
    autofd int tcp = hold("127.0.0.1", 18090, SOCK_STREAM);
    autofd int v6 = hold("::1", 18091, SOCK_DGRAM);
    assert_true(net_listener_find("127.0.0.1", 18090, SPEC_PROTO_TCP, &found, NULL));
    assert_true(found.is_taken);
    assert_int_equal(found.pid, getpid());
    assert_string_equal(found.comm, "test-net-port");
    assert_true(net_listener_find("0.0.0.0", 18090, SPEC_PROTO_BOTH, &found, NULL));
    assert_true(found.is_taken);
    assert_true(net_listener_find("127.0.0.2", 18090, SPEC_PROTO_TCP, &found, NULL));
    assert_false(found.is_taken);
    assert_true(net_listener_find("127.0.0.1", 18090, SPEC_PROTO_UDP, &found, NULL));
    assert_false(found.is_taken);
    assert_true(net_listener_find("::1", 18091, SPEC_PROTO_UDP, &found, NULL));
    assert_true(found.is_taken);
    assert_true(net_listener_find("::", 18090, SPEC_PROTO_TCP, &found, NULL));
    assert_true(found.is_taken);
}

static void test_listener_connected_socket_then_not_a_listener(void **state)
{
    (void)state;
    NetListener found = {0};
    struct sockaddr_in own = {0};
    socklen_t n = sizeof own;
    autofd int server = hold("127.0.0.1", 18092, SOCK_STREAM);
    autofd int client = hold("127.0.0.1", 18093, SOCK_DGRAM);
    assert_int_equal(getsockname(server, (struct sockaddr *)&own, &n), 0);
    assert_int_equal(connect(client, (struct sockaddr *)&own, n), 0); /* UDP, connected */
    assert_true(net_listener_find("127.0.0.1", 18093, SPEC_PROTO_UDP, &found, NULL));
    assert_false(found.is_taken);
}

int main(void)
{
    if (!test_netns_enter()) {
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mac_of_id_then_steady_and_of_one_station),
        cmocka_unit_test(test_probe_free_then_true_and_left_free),
        cmocka_unit_test(test_probe_taken_then_exists_and_names_holder),
        cmocka_unit_test(test_probe_udp_and_ipv6_taken_then_exists),
        cmocka_unit_test(test_probe_wrong_address_or_port_then_own_codes),
        cmocka_unit_test(test_probe_low_port_as_ordinary_user_then_denied),
        cmocka_unit_test(test_listener_find_then_only_listeners_that_cover),
        cmocka_unit_test(test_listener_connected_socket_then_not_a_listener),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
