#include "net/filter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <linux/sockios.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/unit/net/helper_lan.h"

/* The instants around creation and removal: a guest that writes all the time, from before its tap
 * is on the bridge until it is gone. */

enum { N_CYCLES = 20, N_FRAMES = 600, N_REINSTALLS = 100, WAIT_MS = 10000 };

#define LIE    "feedface feedface"
#define HONEST "d00dd00d d00dd00d"

/* A's frames; the last one is honest. */
static const char *const lines[] = {
    "mN mA 0806 00010800060400 02 mA aB mN aB " LIE,
    "mN mB 0800 ip4:A,N,17 udp:9,9 " LIE,
    "mN mA 0800 ip4:G,N,17 udp:67,68 " LIE,
    "mM mA 86dd ip6:lB,lM,17 udp:9,9 " LIE,
    "mM mA 86dd ip6:lA,lM,58 icmp6:134 40000708 x8 " LIE,
    "mN mA 88b5 x40 " LIE,
    "mN mA 0800 ip4:A,N,17 udp:9,9 " HONEST,
};

/* --- the guest ---------------------------------------------------------------- */

typedef struct {
    Frame frames[G_N_ELEMENTS(lines)];
    GMutex lock; /* of fd: held for one write, and while the tap changes */
    int fd;      /* -1: it has none */
    int told_fd; /* an event: that `n_awaited` were written */
    atomic_uint n_written, n_awaited;
    atomic_bool is_ended;
    GThread *thread;
} Guest;

static void *guest_main(void *data)
{
    Guest *guest = data;
    for (unsigned i = 0; !guest->is_ended; i = (i + 1) % G_N_ELEMENTS(lines)) {
        const Frame *frame = &guest->frames[i];
        g_mutex_lock(&guest->lock);
        /* EIO: the tap is down */
        bool is_tried =
            guest->fd >= 0 && (write(guest->fd, frame->bytes, frame->n_bytes) >= 0 || errno == EIO);
        g_mutex_unlock(&guest->lock);
        if (!is_tried) {
            g_thread_yield();
        } else if (++guest->n_written == guest->n_awaited) {
            eventfd_write(guest->told_fd, 1);
        }
    }
    return NULL;
}

static Guest *guest_start(void)
{
    Guest *guest = g_new0(Guest, 1);
    for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
        guest->frames[i] = frame_build(lines[i], lan_hosts, 'B');
    }
    g_mutex_init(&guest->lock);
    guest->fd = -1;
    guest->told_fd = eventfd(0, EFD_CLOEXEC);
    guest->thread = g_thread_new("guest", guest_main, guest);
    return guest;
}

static unsigned guest_end(Guest *guest)
{
    unsigned n_written = guest->n_written;
    guest->is_ended = true;
    g_thread_join(guest->thread);
    close(guest->told_fd);
    g_mutex_clear(&guest->lock);
    g_free(guest);
    return n_written;
}

/* The next N_FRAMES were written. */
static void guest_await(Guest *guest)
{
    struct pollfd poller = {.fd = guest->told_fd, .events = POLLIN};
    eventfd_t unused;
    g_mutex_lock(&guest->lock);
    guest->n_awaited = guest->n_written + N_FRAMES;
    g_mutex_unlock(&guest->lock);
    assert_int_equal(poll(&poller, 1, WAIT_MS), 1);
    eventfd_read(guest->told_fd, &unused);
}

/* Without a wait: the guest has it before it is on the bridge, or up. */
static void guest_plug(Guest *guest)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI, .ifr_name = "vmta"};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(ioctl(fd, TUNSETIFF, &request), 0);
    g_mutex_lock(&guest->lock);
    guest->fd = fd;
    g_mutex_unlock(&guest->lock);
    struct ifreq bridge = {.ifr_name = LAN_BRIDGE, .ifr_ifindex = (int)if_nametoindex("vmta")};
    assert_int_equal(ioctl(sock, SIOCBRADDIF, &bridge), 0);
    request.ifr_flags = IFF_UP;
    assert_int_equal(ioctl(sock, SIOCSIFFLAGS, &request), 0);
    close(sock);
}

static void guest_unplug(Guest *guest)
{
    g_mutex_lock(&guest->lock);
    close(guest->fd);
    guest->fd = -1;
    g_mutex_unlock(&guest->lock);
}

/* --- who listens -------------------------------------------------------------- */

typedef struct {
    unsigned n_lies, n_honest;
} Heard;

static void hear(char who, Heard *heard)
{
    uint8_t bytes[FRAME_MAX_BYTES];
    ssize_t n;
    while ((n = read(lan_tap_of(who), bytes, sizeof bytes)) > 0) {
        uint32_t mark = 0;
        memcpy(&mark, bytes + n - 4, sizeof mark);
        heard->n_lies += mark == GUINT32_TO_BE(0xfeedface);
        heard->n_honest += mark == GUINT32_TO_BE(0xd00dd00d);
    }
}

static Heard hear_all(void)
{
    Heard heard = {0};
    hear('B', &heard);
    hear('G', &heard);
    return heard;
}

/* --- tests -------------------------------------------------------------------- */

static void test_without_table_guest_is_heard_lying(void **state)
{
    (void)state;
    lan_uninstall();
    Guest *guest = guest_start();
    guest_plug(guest);
    guest_await(guest);
    guest_unplug(guest);
    Heard heard = hear_all();
    guest_end(guest);
    assert_true(heard.n_lies > 0 && heard.n_honest > 0);
}

/* Plugged first, registered then; removed in the same order as it came. */
static void live_registered_late(Guest *guest, const NetMember *a, Heard *sum)
{
    guest_plug(guest);
    guest_await(guest);
    Heard before = hear_all();
    assert_int_equal(before.n_lies + before.n_honest, 0);
    lan_apply(a, NULL);
    guest_await(guest);
    Heard during = hear_all();
    lan_apply(NULL, a);
    Heard rest = hear_all();
    guest_await(guest);
    Heard after = hear_all();
    assert_int_equal(after.n_honest, 0);
    guest_unplug(guest);
    sum->n_lies += during.n_lies + rest.n_lies + after.n_lies;
    sum->n_honest += during.n_honest;
    assert_true(during.n_honest > 0);
}

/* As a machine starts and stops: rules first, and last. */
static void live_registered_early(Guest *guest, const NetMember *a, Heard *sum)
{
    lan_apply(a, NULL);
    guest_plug(guest);
    guest_await(guest);
    guest_unplug(guest);
    lan_apply(NULL, a);
    Heard during = hear_all();
    sum->n_lies += during.n_lies;
    sum->n_honest += during.n_honest;
    assert_true(during.n_honest > 0);
}

/* The same with a policy that lets nothing out to neighbours. */
static void live_hermetic(Guest *guest, const NetMember *hermetic, Heard *sum)
{
    Heard neighbour = {0}, host = {0};
    lan_apply(hermetic, NULL);
    guest_plug(guest);
    guest_await(guest);
    lan_apply(NULL, hermetic);
    guest_unplug(guest);
    hear('B', &neighbour);
    hear('G', &host);
    sum->n_lies += neighbour.n_lies + neighbour.n_honest + host.n_lies;
    sum->n_honest += host.n_honest;
}

static void test_guest_leaks_nothing_while_it_comes_and_goes(void **state)
{
    (void)state;
    g_autoptr(NetMember) a = lan_member('A'), b = lan_member('B');
    g_autoptr(NetMember) hermetic = lan_member('A');
    Heard sum = {0};
    hermetic->egress.is_hermetic = true;
    lan_install();
    lan_apply(b, NULL);
    Guest *guest = guest_start();
    for (unsigned i = 0; i < N_CYCLES; i++) {
        live_registered_late(guest, a, &sum);
        live_registered_early(guest, a, &sum);
        live_hermetic(guest, hermetic, &sum);
    }
    unsigned n_written = guest_end(guest);
    print_message("%u frames around %u creations\n", n_written, 3 * N_CYCLES);
    assert_int_equal(sum.n_lies, 0);
    assert_true(n_written >= N_CYCLES * N_FRAMES);
}

static void *reinstall_main(void *data)
{
    atomic_bool *is_ended = data;
    bool is_ok = true;
    g_autoptr(NetMember) c = lan_member('C');
    c->egress.is_hermetic = true;
    for (unsigned i = 0; i < N_REINSTALLS && is_ok; i++) {
        g_autoptr(NetNftBatch) batch = net_nft_batch_new();
        net_filter_append(batch, i % 2 ? NULL : c, i % 2 ? c : NULL);
        is_ok = net_nft_run_text(net_filter_base_text, NULL) && net_nft_commit(batch, NULL);
    }
    *is_ended = true;
    return GINT_TO_POINTER(is_ok);
}

static void test_base_written_anew_leaks_and_loses_nothing(void **state)
{
    (void)state;
    atomic_bool is_ended = false;
    g_autoptr(NetMember) b = lan_member('B'), o = lan_member('A');
    unsigned n_tries = 0;
    lan_install();
    lan_apply(b, NULL);
    lan_apply(o, NULL);
    GThread *thread = g_thread_new("reinstall", reinstall_main, &is_ended);
    while (!is_ended) {
        assert_false(lan_passes('B', "mA mB 0800 ip4:A,G,17 udp:9,9 x20", 'G'));
        assert_false(lan_passes('B', "mM mB 86dd ip6:lB,lM,58 icmp6:134 40000708 x8", 'G'));
        static unsigned l1, l2;
        if (!lan_passes('B', "mG mB 0800 ip4:B,G,17 udp:9,9 x20", 'G'))
            print_message("lost4 %u\n", ++l1);
        if (!(lan_passes('B', "mM mB 86dd ip6:lT,lM,17 udp:9,9 x20", 'G')))
            print_message("lost6 %u\n", ++l2);
        n_tries++;
    }
    assert_true(GPOINTER_TO_INT(g_thread_join(thread)));
    print_message("%u rounds of frames in %u installations\n", n_tries, N_REINSTALLS);
    assert_true(n_tries > N_REINSTALLS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_table_guest_is_heard_lying),
        cmocka_unit_test(test_guest_leaks_nothing_while_it_comes_and_goes),
        cmocka_unit_test(test_base_written_anew_leaks_and_loses_nothing),
    };
    if (!lan_make()) {
        return 77;
    }
    lan_set_br_netfilter(false);
    close(lan_tap_of('A')); /* the guest of this program plugs it itself */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
