#include "tests/unit/net/helper_lan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/ethernet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "net/bridge.h"
#include "net/filter.h"
#include "tests/unit/net/helper_ip.h"
#include "tests/unit/net/netns.h"

enum { WAIT_MS = 10000 };

#define GLOBAL(last)                                                                               \
    {                                                                                              \
        0xfd, 7, [15] = (last)                                                                     \
    }
#define EUI(last)                                                                                  \
    {                                                                                              \
        0xfe, 0x80, [8] = 0x50, 0x54, 0, 0xff, 0xfe, 0, 0, (last)                                  \
    }
#define STABLE(last)                                                                               \
    {                                                                                              \
        0xfe, 0x80, [8] = 0x8a, 0x11, 0x5b, 0xd0, 0x37, 0x42, 0xc6, (last)                         \
    }
#define MAC(last)                                                                                  \
    {                                                                                              \
        0x52, 0x54, 0, 0, 0, (last)                                                                \
    }

const FrameHost lan_hosts[] = {
    {'A', MAC(2), {10, 7, 0, 2}, GLOBAL(2), EUI(2)},
    {'B', MAC(3), {10, 7, 0, 3}, GLOBAL(3), EUI(3)},
    {'C', MAC(4), {10, 7, 0, 4}, GLOBAL(4), EUI(4)},
    /* what net_bridge_mac() gives for the network "lab" of LAN_STORE; lan_make() compares */
    {'G', {0}, {10, 7, 0, 1}, GLOBAL(1), {0}},
    {'S', MAC(2), {10, 7, 0, 2}, GLOBAL(2), STABLE(1)},
    {'T', MAC(3), {10, 7, 0, 3}, GLOBAL(3), STABLE(2)},
    {'R', MAC(0x77), {10, 7, 0, 77}, GLOBAL(0x77), EUI(0x77)},
    {'O', MAC(0x78), {10, 7, 0, 78}, GLOBAL(0x78), EUI(0x78)},
    {'P', MAC(0x79), {192, 168, 9, 9}, {0xfd, 9, [15] = 9}, EUI(0x79)},
    {'W', MAC(0x7a), {93, 184, 216, 34}, {0x20, 1, 0xd, 0xb8, [15] = 9}, EUI(0x7a)},
    {'Z', {0}, {0}, {0}, {0}},
    {'L', {0}, {127, 0, 0, 1}, {[15] = 1}, {[15] = 1}},
    {'M', {1, 0, 0x5e, 0, 0, 1}, {224, 0, 0, 1}, {0xff, 2, [15] = 1}, {0xff, 2, [15] = 1}},
    {'N',
     {0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
     {255, 255, 255, 255},
     {0xff, 2, [15] = 1},
     {0xff, 2, [15] = 1}},
    {.name = 0},
};

static FrameHost hosts[G_N_ELEMENTS(lan_hosts)]; /* with the gateway's MAC */
static int taps[128];
static int bridge_fd = -1;

static void make_bridge(void)
{
    g_autofree char *tag = net_bridge_owner_tag(LAN_STORE, "lab");
    char mac[18];
    memcpy(hosts, lan_hosts, sizeof hosts);
    FrameHost *gateway = hosts;
    while (gateway->name != 'G') {
        gateway++;
    }
    net_bridge_mac(tag, gateway->mac);
    BaseIp link_local = base_ip_link_local_of_mac(gateway->mac);
    memcpy(gateway->link_local, link_local.bytes, 16);
    base_mac_format(gateway->mac, mac);
    /* no snooping, all groups forwarded: the bridge itself keeps nothing back */
    test_ip_run("link add " LAN_BRIDGE " address %s up type bridge mcast_snooping 0 "
                "group_fwd_mask 0xfff8",
                mac);
    bridge_fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL));
    struct sockaddr_ll address = {.sll_family = AF_PACKET,
                                  .sll_protocol = htons(ETH_P_ALL),
                                  .sll_ifindex = (int)if_nametoindex(LAN_BRIDGE)};
    assert_int_equal(bind(bridge_fd, (struct sockaddr *)&address, sizeof address), 0);
}

int lan_tap_open(const char *name)
{
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    assert_true(fd >= 0);
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    assert_int_equal(ioctl(fd, TUNSETIFF, &request), 0);
    /* without learning a forged source does not lead what comes next astray */
    test_ip_run("link set %s up master " LAN_BRIDGE, name);
    test_ip_run("link set %s type bridge_slave learning off", name);
    return fd;
}

int lan_tap_of(char host)
{
    return taps[(unsigned char)host];
}

bool lan_make_bridge(void)
{
    if (!test_netns_enter()) {
        return false;
    }
    make_bridge();
    return true;
}

bool lan_make(void)
{
    if (!lan_make_bridge()) {
        return false;
    }
    taps['A'] = taps['S'] = lan_tap_open("vmta");
    taps['B'] = taps['T'] = lan_tap_open("vmtb");
    taps['C'] = lan_tap_open("vmtc");
    taps['O'] = lan_tap_open("out0");
    taps['G'] = bridge_fd;
    return true;
}

/* --- the table ---------------------------------------------------------------- */

static void run_text(const char *text)
{
    g_autoptr(GError) error = NULL;
    if (!net_nft_run_text(text, &error)) {
        fail_msg("%s", error->message);
    }
}

void lan_uninstall(void)
{
    run_text("add table bridge vm_driver\ndelete table bridge vm_driver\n");
}

void lan_install(void)
{
    lan_uninstall();
    run_text(net_filter_base_text);
}

NetMember *lan_member(char name)
{
    const FrameHost *host = lan_hosts;
    while (host->name != name) {
        host++;
    }
    NetMember *member = net_member_new();
    member->owner = g_strdup_printf(LAN_STORE ":00000000-0000-0000-0000-%012x:0", name);
    member->network = g_strdup("lab");
    member->bridge = g_strdup(LAN_BRIDGE);
    member->tap = g_strdup_printf("vmt%c", g_ascii_tolower(name));
    memcpy(member->mac, host->mac, 6);
    if (name != 'C') {
        member->ip4.n_bytes = 4;
        memcpy(member->ip4.bytes, host->ip4, 4);
        member->ip6.n_bytes = 16;
        memcpy(member->ip6.bytes, host->global6, 16);
    }
    return member;
}

void lan_apply(const NetMember *member, const NetMember *old)
{
    g_autoptr(NetNftBatch) batch = net_nft_batch_new();
    g_autoptr(GError) error = NULL;
    net_filter_append(batch, member, old);
    if (!net_nft_commit(batch, &error)) {
        fail_msg("%s", error->message);
    }
}

void lan_register_all(void)
{
    for (const char *name = "ABC"; *name; name++) {
        g_autoptr(NetMember) member = lan_member(*name);
        lan_apply(member, NULL);
    }
}

/* --- frames ------------------------------------------------------------------- */

/* One frame that came in; 0: none is there now. */
static unsigned take(int fd, uint8_t *bytes, unsigned n_max)
{
    struct sockaddr_ll from = {.sll_pkttype = 0};
    socklen_t n_from = sizeof from;
    for (;;) {
        ssize_t n = fd == bridge_fd
                        ? recvfrom(fd, bytes, n_max, 0, (struct sockaddr *)&from, &n_from)
                        : read(fd, bytes, n_max);
        if (n < 0) {
            assert_int_equal(errno, EAGAIN);
            return 0;
        }
        if (from.sll_pkttype != PACKET_OUTGOING) {
            return (unsigned)n;
        }
    }
}

static void await(int fd)
{
    struct pollfd poller = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&poller, 1, WAIT_MS), 1);
}

static void write_frame(int fd, const Frame *frame)
{
    assert_int_equal(write(fd, frame->bytes, frame->n_bytes), frame->n_bytes);
}

bool lan_frame_passes(char from, const Frame *frame, char to)
{
    static uint32_t serial;
    g_autofree char *line = g_strdup_printf("mN mO 88b6 %08x x40", ++serial);
    Frame last = frame_build(line, hosts, to);
    uint8_t seen[FRAME_MAX_BYTES];
    bool has_come = false;
    while (take(lan_tap_of(to), seen, sizeof seen)) {
    }
    write_frame(lan_tap_of(from), frame);
    write_frame(lan_tap_of(to == 'O' ? 'G' : 'O'), &last);
    for (;;) {
        unsigned n_seen = take(lan_tap_of(to), seen, sizeof seen);
        if (!n_seen) {
            await(lan_tap_of(to));
        } else if (frame_is_same(&last, seen, n_seen)) {
            return has_come;
        }
        has_come = has_come || (n_seen && frame_is_same(frame, seen, n_seen));
    }
}

bool lan_passes(char from, const char *line, char to)
{
    Frame frame = frame_build(line, hosts, to);
    return lan_frame_passes(from, &frame, to);
}

void lan_set_br_netfilter(bool is_on)
{
    test_sysctl_set("bridge/bridge-nf-call-iptables", is_on);
    test_sysctl_set("bridge/bridge-nf-call-ip6tables", is_on);
    test_sysctl_set("bridge/bridge-nf-call-arptables", is_on);
    assert_int_equal(test_sysctl("bridge/bridge-nf-call-iptables"), is_on);
}
