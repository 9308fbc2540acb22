#include "net/shape.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/error.h"
#include "base/fd.h"
#include "net/link_birth.h"
#include "net/tap.h"
#include "tests/unit/net/helper_ip.h"
#include "tests/unit/net/netns.h"

#define UUID "1b4e28ba-2fa1-5d2b-883f-b9a761bde3fb"
#define TAG  "vm-run:" UUID ":0"

enum { MBIT = 1000000, RATE = 20 * MBIT };

typedef struct {
    char *tap, *from, *to; /* names: the tap's, its ifbs' */
} Fixture;

static int set_up(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    f->tap = net_tap_name(UUID, 0);
    f->from = g_strconcat("vmi", f->tap + 3, NULL);
    f->to = g_strconcat("vmo", f->tap + 3, NULL);
    NetTap tap = {.name = f->tap, .owner_tag = TAG, .bridge = "br0"};
    test_ip_run("link add br0 type bridge");
    assert_true(net_tap_create(&tap, NULL));
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    net_tap_remove(f->tap, TAG, NULL);
    test_ip_run("link del br0");
    g_free(f->tap);
    g_free(f->from);
    g_free(f->to);
    g_free(f);
    return 0;
}

static void assert_applied(const char *tap, uint64_t to, uint64_t from)
{
    g_autoptr(GError) error = NULL;
    if (!net_shape_apply(tap, TAG, to, from, &error)) {
        fail_msg("%s", error->message);
    }
}

static char *differences(const char *tap, uint64_t to, uint64_t from)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    assert_true(net_shape_check(tap, TAG, to, from, lines, NULL));
    g_ptr_array_add(lines, NULL);
    return g_strjoinv("\n", (char **)lines->pdata);
}

static void assert_as_asked(const char *tap, uint64_t to, uint64_t from)
{
    g_autofree char *lines = differences(tap, to, from);
    assert_string_equal(lines, "");
}

static void test_apply_then_as_asked_and_again_nothing_changes(void **state)
{
    Fixture *f = *state;
    g_autofree char *before = test_ip("-o link show type ifb");
    assert_applied(f->tap, RATE, 5ULL * 1000 * MBIT * 10); /* above 2^32 bytes/s: 50 Gbit/s */
    assert_as_asked(f->tap, RATE, 5ULL * 1000 * MBIT * 10);
    g_autofree char *to = test_command("tc qdisc show dev %s", f->to);
    g_autofree char *from = test_command("tc qdisc show dev %s", f->from);
    assert_non_null(strstr(to, "tbf 766d: root"));
    assert_non_null(strstr(to, "rate 20Mbit"));
    assert_non_null(strstr(from, "rate 50Gbit"));
    autofd int watch = test_net_watch();
    assert_applied(f->tap, RATE, 5ULL * 1000 * MBIT * 10);
    assert_applied(f->tap, RATE, 5ULL * 1000 * MBIT * 10);
    assert_int_equal(test_net_n_changes(watch), 0);
    assert_applied(f->tap, 2 * RATE, 0); /* live: one changed, one gone */
    assert_as_asked(f->tap, 2 * RATE, 0);
    assert_int_equal(if_nametoindex(f->from), 0);
    assert_applied(f->tap, 0, 0);
    g_autofree char *after = test_ip("-o link show type ifb");
    assert_string_equal(before, after);
    g_autofree char *left = test_command("tc qdisc show dev %s", f->tap);
    assert_null(strstr(left, "clsact"));
    test_net_n_changes(watch);
    assert_applied(f->tap, 0, 0);
    assert_int_equal(test_net_n_changes(watch), 0);
}

/* libvirt does this to the tap of each machine that it starts. */
static void test_root_qdisc_replaced_then_limits_stand(void **state)
{
    Fixture *f = *state;
    assert_applied(f->tap, RATE, RATE);
    g_free(test_command("tc qdisc replace dev %s root noqueue", f->tap));
    assert_as_asked(f->tap, RATE, RATE);
}

static void test_disturbed_then_told_and_mended(void **state)
{
    Fixture *f = *state;
    assert_applied(f->tap, RATE, RATE);
    test_ip_run("link del %s", f->to); /* its filter now drops everything */
    test_ip_run("link set %s down", f->from);
    g_free(test_command("tc qdisc del dev %s root", f->from));
    g_autofree char *lines = differences(f->tap, RATE, RATE);
    assert_non_null(strstr(lines, "limit of 0 bits/s to the guest, not 20000000"));
    assert_non_null(strstr(lines, "limit of 0 bits/s from the guest, not 20000000"));
    assert_non_null(strstr(lines, "frames to the guest don't go through"));
    assert_non_null(strstr(lines, "frames from the guest don't go through"));
    assert_applied(f->tap, RATE, RATE);
    assert_as_asked(f->tap, RATE, RATE);
}

static void test_filters_of_others_then_left(void **state)
{
    Fixture *f = *state;
    g_free(test_command("tc qdisc add dev %s clsact", f->tap));
    g_free(test_command("tc filter add dev %s egress prio 5 protocol all u32 match u32 0 0 action "
                        "mirred egress redirect dev br0",
                        f->tap));
    assert_applied(f->tap, RATE, RATE);
    assert_applied(f->tap, 0, 0);
    g_autofree char *left = test_command("tc filter show dev %s egress", f->tap);
    assert_non_null(strstr(left, "pref 5 u32"));
    assert_null(strstr(left, "pref 30"));
}

static void test_not_ours_then_refused_and_untouched(void **state)
{
    Fixture *f = *state;
    g_autoptr(GError) error = NULL;
    assert_false(net_shape_apply("vmtnope", TAG, RATE, 0, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_NOT_FOUND));
    g_clear_error(&error);
    assert_false(net_shape_apply(f->tap, "vm-run:other:0", RATE, 0, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_EXISTS));
    g_clear_error(&error);
    assert_false(net_shape_apply(f->tap, TAG, 7, 0, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_NET));
    g_clear_error(&error);
    test_ip_run("link add %s type ifb", f->to);
    unsigned index = if_nametoindex(f->to);
    assert_false(net_shape_apply(f->tap, TAG, RATE, 0, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_EXISTS));
    assert_true(net_tap_remove(f->tap, TAG, NULL));
    assert_int_equal(if_nametoindex(f->to), index);
    test_ip_run("link del %s", f->to);
}

static void test_tap_gone_then_listed_and_removed_as_a_tap(void **state)
{
    Fixture *f = *state;
    g_autofree char *line = g_strdup_printf("%s " TAG, f->tap);
    g_autofree char *before = test_ip("-o link show type ifb");
    assert_applied(f->tap, RATE, RATE);
    test_ip_run("link del %s", f->tap); /* by hand */
    g_autoptr(GPtrArray) taps = net_tap_list(NULL);
    assert_int_equal(taps->len, 1);
    assert_string_equal(taps->pdata[0], line);
    assert_true(net_tap_remove(f->tap, TAG, NULL));
    g_autofree char *after = test_ip("-o link show type ifb");
    assert_string_equal(before, after);
    test_ip_run("link add %s group %u type ifb", f->to, net_link_birth_group(f->to));
    g_autoptr(GPtrArray) swept = net_shape_sweep(false, NULL);
    assert_int_equal(swept->len, 1);
    assert_int_equal(if_nametoindex(f->to), 0);
}

/* --- a real stream --------------------------------------------------------------- */

enum { STREAM_MS = 2000, PORT = 7001 };

/* Sends for STREAM_MS. */
static void send_stream(int fd)
{
    static char block[65536];
    gint64 end_us = g_get_monotonic_time() + STREAM_MS * 1000L;
    while (g_get_monotonic_time() < end_us && send(fd, block, sizeof block, MSG_NOSIGNAL) > 0) {
    }
    shutdown(fd, SHUT_WR);
}

/* Bits a second of what comes until the end. */
static double receive_stream(int fd)
{
    static char block[65536];
    double n_bytes = 0;
    gint64 begin_us = 0, last_us = 0;
    for (ssize_t n; (n = recv(fd, block, sizeof block, 0)) > 0; n_bytes += (double)n) {
        last_us = g_get_monotonic_time();
        begin_us = begin_us ? begin_us : last_us;
    }
    return n_bytes * 8 * G_USEC_PER_SEC / (double)MAX(last_us - begin_us, 1);
}

/* Nobody waits for ever, whatever became of the other side. */
static int socket_with_limit(void)
{
    const struct timeval limit = {.tv_sec = 60};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    return fd;
}

static int connect_to(const char *address)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    int fd = socket_with_limit();
    inet_pton(AF_INET, address, &to.sin_addr);
    if (connect(fd, (struct sockaddr *)&to, sizeof to)) {
        close(fd);
        return -1;
    }
    return fd;
}

/* The guest: a namespace of its own, which takes the other end of the veth; gone with the test. */
static void be_guest(int ready, int go)
{
    char byte = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    bool is_fine = test_netns_enter() && write(ready, "1", 1) == 1 && read(go, &byte, 1) == 1;
    test_ip_run("link set vg1 up");
    test_ip_run("address add 198.51.100.2/24 dev vg1");
    int fd = is_fine ? connect_to("198.51.100.1") : -1;
    if (fd >= 0) {
        send_stream(fd);
        double rate = receive_stream(fd);
        is_fine = write(ready, &rate, sizeof rate) == sizeof rate && read(go, &byte, 1) == 1;
    }
    _exit(fd >= 0 && is_fine ? 0 : 1);
}

static int listen_here(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    int fd = socket_with_limit();
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static void assert_rate(double rate, double wanted)
{
    print_message("%.1f of %.1f Mbit/s\n", rate / MBIT, wanted / MBIT);
    assert_true(rate < wanted * 1.2);
    assert_true(rate > wanted * 0.5); /* a busy host may be slower than the limit */
}

/* A stream from the guest and one to it, through the limits of `name`, which is on the way to vg1;
 * `end` is the other end of vg1. */
static void stream_through(const char *name, const char *end, const char *const *setup)
{
    g_autoptr(GError) error = NULL;
    int ready[2], go[2];
    char byte;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    assert_int_equal(pipe2(go, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        be_guest(ready[1], go[0]);
    }
    close(ready[1]); /* its end is the end of what is read here */
    close(go[0]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    for (; *setup; setup++) {
        test_ip_run("%s", *setup);
    }
    test_ip_run("link property add dev %s altname " TAG "x", name);
    test_ip_run("link set vg1 netns %d", (int)pid);
    test_ip_run("link set %s up", name);
    test_ip_run("address add 198.51.100.1/24 dev %s", name);
    assert_true(net_shape_apply(name, TAG "x", RATE, RATE / 2, &error));
    autofd int listener = listen_here();
    assert_int_equal(write(go[1], "1", 1), 1);
    autofd int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    double from = receive_stream(fd), to = 0;
    send_stream(fd);
    assert_int_equal(read(ready[0], &to, sizeof to), sizeof to);
    int status = 1;
    assert_true(net_shape_remove(name, TAG "x", &error));
    test_ip_run("link del %s", end); /* a namespace that ends lets go of it some time later */
    assert_int_equal(write(go[1], "2", 1), 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    /* which of the two is the guest's depends on the end that `name` is */
    bool is_macvtap = g_str_has_prefix(name, "vmm");
    assert_rate(is_macvtap ? to : from, RATE / 2.0);
    assert_rate(is_macvtap ? from : to, RATE);
    close(ready[0]);
    close(go[1]);
}

/* Like a tap, a veth takes what the other end sends as coming in. */
static void test_stream_then_as_fast_as_allowed_both_ways(void **state)
{
    (void)state;
    const char *const setup[] = {"link add vmtstream type veth peer name vg1", NULL};
    stream_through("vmtstream", "vmtstream", setup);
}

/* Here this side is the guest: what it sends goes out by the macvtap. */
static void test_stream_by_macvtap_then_the_same(void **state)
{
    (void)state;
    /* else low0 answers for the macvtap's address as well, and the stream may go past the limits */
    assert_true(g_file_set_contents_full("/proc/sys/net/ipv4/conf/all/arp_ignore", "1", 1,
                                         G_FILE_SET_CONTENTS_NONE, 0600, NULL));
    const char *const setup[] = {"link add low0 type veth peer name vg1", "link set low0 up",
                                 "link add link low0 name vmmstream type macvtap mode bridge",
                                 NULL};
    stream_through("vmmstream", "low0", setup);
}

#define WITH_TAP(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    if (!test_netns_enter()) {
        return 77;
    }
    const struct CMUnitTest tests[] = {
        WITH_TAP(test_apply_then_as_asked_and_again_nothing_changes),
        WITH_TAP(test_root_qdisc_replaced_then_limits_stand),
        WITH_TAP(test_disturbed_then_told_and_mended),
        WITH_TAP(test_filters_of_others_then_left),
        WITH_TAP(test_not_ours_then_refused_and_untouched),
        WITH_TAP(test_tap_gone_then_listed_and_removed_as_a_tap),
        cmocka_unit_test(test_stream_then_as_fast_as_allowed_both_ways),
        cmocka_unit_test(test_stream_by_macvtap_then_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
