#include "net/filter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/unit/net/helper_ip.h"
#include "tests/unit/net/helper_lan.h"

/* Frames with bytes changed by chance: whatever comes to the neighbour or the host must be honest
 * by a reader of its own, which knows nothing of the rules. */

enum { N_FRAMES = 100000, N_AT_ONCE = 50, ETHER = 14, IP6 = 40 };

static const char *const seeds[] = {
    "mN mA 0806 00010800060400 01 mA aA x6 aB x18",
    "mB mA 0806 00010800060400 02 mA aA mB aB x18",
    "mB mA 0800 ip4:A,B,17 udp:68,67 01010600 x8 aA x12 mA x10 x200",
    "mB mA 0800 ip4:A,B,17,0010 x40",
    "mB mA 0800 ip4:A,B,1 0800 x30",
    "mN mA 0800 ip4:Z,N,17 udp:68,67 01010600 x24 mA x10 x200",
    "mM mA 0800 ip4:A,M,2 2200 0000 x12",
    "mB mA 86dd ip6:gA,gB,17 udp:546,547 x20",
    "mB mA 86dd ip6:gA,gB,44,64 11000001 00000001 udp:9,9 x40",
    "mB mA 86dd ip6:gA,gB,60 3a00010400000000 icmp6:128 x40",
    "mM mA 86dd ip6:gA,lM,58 icmp6:135 x4 gB 0101 mA",
    "mB mA 86dd ip6:lA,lB,58 icmp6:136 60000000 gA 0201 mA",
    "mM mA 86dd ip6:gZ,lM,58 icmp6:135 x4 lA",
    "mM mA 86dd ip6:lA,lM,58 icmp6:133 x4 0101 mA",
    "mM mA 86dd ip6:lA,lM,58 icmp6:134 40000708 x8 0101 mA",
    "mM mA 86dd ip6:gA,lM,0,1 3a00050200000100 icmp6:143 00000001 04000000 lM",
};

/* --- who is honest ------------------------------------------------------------ */

static const FrameHost *self, *neighbour;

static bool is_own_mac(const uint8_t *mac)
{
    return !memcmp(mac, self->mac, 6);
}

static bool is_own_ip6(const uint8_t *ip)
{
    static const uint8_t link_local[8] = {0xfe, 0x80};
    return !memcmp(ip, self->global6, 16) ||
           (!memcmp(ip, link_local, 8) && memcmp(ip, neighbour->link_local, 16) != 0);
}

static const char *lie_of_arp(const uint8_t *arp, unsigned n_bytes)
{
    static const uint8_t start[] = {0, 1, 8, 0, 6, 4, 0}, zero[4];
    if (n_bytes < 18 || memcmp(arp, start, sizeof start) != 0 || arp[7] < 1 || arp[7] > 2) {
        return "ARP that is none";
    }
    bool is_probe = n_bytes >= 28 && arp[7] == 1 && !memcmp(arp + 14, zero, 4) &&
                    !memcmp(arp + 24, self->ip4, 4);
    return !is_own_mac(arp + 8)                               ? "ARP of another MAC"
           : memcmp(arp + 14, self->ip4, 4) != 0 && !is_probe ? "ARP of another address"
                                                              : NULL;
}

static unsigned u16(const uint8_t *bytes)
{
    return (unsigned)bytes[0] << 8 | bytes[1];
}

static const char *lie_of_dhcp(const uint8_t *udp, unsigned n_bytes)
{
    if (u16(udp + 4) > n_bytes) {
        return NULL; /* longer than its packet: nobody reads it */
    }
    return u16(udp) != 68 || u16(udp + 4) < 42 || udp[8] != 1 || !is_own_mac(udp + 36)
               ? "DHCP for somebody else"
               : NULL;
}

static const char *lie_of_ip4(const uint8_t *ip, unsigned n_bytes)
{
    static const uint8_t zero[4], broadcast[4] = {255, 255, 255, 255};
    unsigned n_header = (ip[0] & 15u) * 4;
    if (n_bytes < 20 || ip[0] >> 4 != 4 || n_header < 20 || u16(ip + 2) < n_header ||
        u16(ip + 2) > n_bytes) {
        return "IPv4 that is none";
    }
    const uint8_t *payload = ip + n_header;
    unsigned n_payload = u16(ip + 2) - n_header;
    bool is_first = !(u16(ip + 6) & 0x1fff);
    bool is_udp = is_first && ip[9] == IPPROTO_UDP && n_payload >= 8;
    if (is_udp && u16(payload + 2) == 67) {
        const char *lie = lie_of_dhcp(payload, n_payload);
        if (lie || (!memcmp(ip + 12, zero, 4) && !memcmp(ip + 16, broadcast, 4))) {
            return lie;
        }
    }
    return memcmp(ip + 12, self->ip4, 4) != 0                         ? "another's IPv4"
           : is_udp && (u16(payload) == 67 || u16(payload + 2) == 68) ? "a DHCP server"
           : is_first && ip[9] == IPPROTO_ICMP && n_payload && (payload[0] == 5 || payload[0] == 9)
               ? "a router's ICMP"
           : is_first && ip[9] == IPPROTO_IGMP && n_payload && payload[0] == 0x11
               ? "a querier's IGMP"
               : NULL;
}

/* Every option in there: of its own MAC, where it is of a MAC. */
static const char *lie_of_options(const uint8_t *at, const uint8_t *end)
{
    for (; at + 8 <= end && at[1]; at += at[1] * 8u) {
        if ((at[0] == 1 || at[0] == 2) && !is_own_mac(at + 2)) {
            return "an option of another MAC";
        }
    }
    return NULL;
}

static const char *lie_of_icmp6(const uint8_t *icmp, const uint8_t *end, bool is_from_nobody)
{
    switch (icmp[0]) {
    case 130:
    case 134:
    case 137:
        return "a router's ICMPv6";
    case 135:
        return end - icmp < 24                           ? "an NS that is none"
               : is_from_nobody && !is_own_ip6(icmp + 8) ? "DAD of another's"
                                                         : lie_of_options(icmp + 24, end);
    case 136:
        return end - icmp < 24         ? "an NA that is none"
               : !is_own_ip6(icmp + 8) ? "an NA of another's"
                                       : lie_of_options(icmp + 24, end);
    case 133:
        return end - icmp < 8 ? "an RS that is none" : lie_of_options(icmp + 8, end);
    case 131:
    case 132:
    case 143:
        return NULL;
    default:
        return is_from_nobody ? "ICMPv6 of nobody" : NULL;
    }
}

/* Behind all extension headers; fragment: as if the first one came alone. */
static const char *lie_of_ip6(const uint8_t *ip, unsigned n_bytes)
{
    static const uint8_t zero[16];
    if (n_bytes < IP6 || ip[0] >> 4 != 6 || u16(ip + 4) + IP6 > n_bytes) {
        return "IPv6 that is none";
    }
    bool is_from_nobody = !memcmp(ip + 8, zero, 16);
    const uint8_t *at = ip + IP6, *end = at + u16(ip + 4);
    uint8_t next = ip[6];
    while (at + 8 <= end && (next == 0 || next == 43 || next == 44 || next == 60)) {
        if (next == 44 && u16(at + 2) & 0xfff8) {
            return is_from_nobody || !is_own_ip6(ip + 8) ? "a fragment of another's" : NULL;
        }
        unsigned n_header = next == 44 ? 8 : (at[1] + 1u) * 8;
        next = at[0];
        at += n_header;
    }
    if (!is_from_nobody && !is_own_ip6(ip + 8)) {
        return "another's IPv6";
    }
    if (at + 4 <= end && next == IPPROTO_ICMPV6) {
        return lie_of_icmp6(at, end, is_from_nobody);
    }
    return is_from_nobody ? "IPv6 of nobody"
           : at + 4 <= end && next == IPPROTO_UDP && (u16(at) == 547 || u16(at + 2) == 546)
               ? "a DHCPv6 server"
               : NULL;
}

static const char *lie_of(const uint8_t *frame, unsigned n_bytes)
{
    const uint8_t *payload = frame + ETHER;
    unsigned n_payload = n_bytes - ETHER;
    switch (u16(frame + 12)) {
    case 0x0806:
        return lie_of_arp(payload, n_payload);
    case 0x0800:
        return lie_of_ip4(payload, n_payload);
    case 0x86dd:
        return lie_of_ip6(payload, n_payload);
    default:
        return "another protocol";
    }
}

/* --- by chance ---------------------------------------------------------------- */

/* A byte that means something, one with a bit turned, or any. */
static uint8_t other_byte(GRand *chance, uint8_t byte)
{
    static const uint8_t values[] = {0, 1, 2, 44, 58, 60, 67, 68, 128, 134, 135, 136, 137, 255};
    if (g_rand_boolean(chance)) {
        return values[g_rand_int_range(chance, 0, G_N_ELEMENTS(values))];
    }
    if (g_rand_boolean(chance)) {
        return (uint8_t)(byte ^ 1u << g_rand_int_range(chance, 0, 8));
    }
    return (uint8_t)g_rand_int(chance);
}

static Frame change(GRand *chance, Frame frame)
{
    int n_changes = g_rand_int_range(chance, 1, 4);
    for (int i = 0; i < n_changes; i++) {
        unsigned at = (unsigned)g_rand_int_range(chance, 6, (gint32)frame.n_bytes);
        frame.bytes[at] = other_byte(chance, frame.bytes[at]);
    }
    if (g_rand_int_range(chance, 0, 8) == 0) {
        frame.n_bytes = (unsigned)g_rand_int_range(chance, ETHER + 1, (gint32)frame.n_bytes + 1);
    }
    return frame;
}

typedef struct {
    unsigned n_came, n_lies;
    unsigned n_told; /* lies to print, at most */
} Count;

/* What A sent and came: nobody else says anything. */
static void hear(char who, Count *count)
{
    uint8_t bytes[FRAME_MAX_BYTES];
    ssize_t n;
    while ((n = read(lan_tap_of(who), bytes, sizeof bytes)) > 0) {
        const char *lie = n <= ETHER               ? "a frame that is none"
                          : !is_own_mac(bytes + 6) ? "another's MAC"
                                                   : lie_of(bytes, (unsigned)n);
        count->n_came++;
        if (lie && count->n_lies++ < count->n_told) {
            print_message("%c heard %s:", who, lie);
            for (ssize_t i = 0; i < n; i++) {
                print_message("%s%02x", i % 4 == 2 ? " " : "", bytes[i]);
            }
            print_message("\n");
        }
    }
}

static Count send_changed(guint32 seed, unsigned n_told)
{
    GRand *chance = g_rand_new_with_seed(seed);
    Count count = {.n_told = n_told}, before = {0};
    hear('B', &before); /* what the kernel said before it was silenced */
    hear('G', &before);
    for (unsigned i = 0; i < N_FRAMES; i++) {
        const char *line = seeds[g_rand_int_range(chance, 0, G_N_ELEMENTS(seeds))];
        Frame frame = change(chance, frame_build(line, lan_hosts, 'B'));
        assert_int_equal(write(lan_tap_of('A'), frame.bytes, frame.n_bytes), frame.n_bytes);
        if (i % N_AT_ONCE == 0) {
            hear('B', &count);
            hear('G', &count);
        }
    }
    hear('B', &count);
    hear('G', &count);
    g_rand_free(chance);
    return count;
}

static void test_changed_frames_come_only_when_honest(void **state)
{
    (void)state;
    lan_install();
    lan_register_all();
    Count count = send_changed(1, 5);
    print_message("%u of %u frames came, %u lies\n", count.n_came, 2 * N_FRAMES, count.n_lies);
    assert_int_equal(count.n_lies, 0);
    assert_true(count.n_came > N_FRAMES / 10);
}

static void test_reader_knows_lies(void **state)
{
    (void)state;
    lan_uninstall();
    Count count = send_changed(1, 0);
    assert_true(count.n_lies > N_FRAMES / 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changed_frames_come_only_when_honest),
        cmocka_unit_test(test_reader_knows_lies),
    };
    if (!lan_make()) {
        return 77;
    }
    lan_set_br_netfilter(false);
    for (const char *const *link =
             (const char *const[]){LAN_BRIDGE, "vmta", "vmtb", "vmtc", "out0", NULL};
         *link; link++) {
        g_autofree char *path = g_strdup_printf("ipv6/conf/%s/disable_ipv6", *link);
        test_sysctl_set(path, 1);
    }
    self = &lan_hosts[0];
    neighbour = &lan_hosts[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
