#include "net/filter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "tests/unit/net/helper_lan.h"

/* A is the guest that lies; D is who shall believe it: its neighbour B, then the host G. */
typedef struct {
    const char *what, *line;
    const char *to; /* NULL: both */
} Kind;

static const Kind hostile[] = {
    /* MAC */
    {"the neighbour's MAC", "mD mB 0800 ip4:A,D,17 udp:9,9 x20", NULL},
    {"the gateway's MAC", "mB mG 0800 ip4:A,B,17 udp:9,9 x20", "B"},
    {"an unknown MAC", "mD mR 0800 ip4:A,D,17 udp:9,9 x20", NULL},
    {"an unknown MAC, ARP", "mN mR 0806 00010800060400 01 mA aA x6 aD", NULL},
    {"an unknown MAC, IPv6", "mD mR 86dd ip6:gA,gD,17 udp:9,9 x20", NULL},
    /* IPv4 */
    {"the neighbour's IPv4", "mD mA 0800 ip4:B,D,17 udp:9,9 x20", NULL},
    {"the gateway's IPv4", "mD mA 0800 ip4:G,D,17 udp:9,9 x20", NULL},
    {"an unknown IPv4", "mD mA 0800 ip4:R,D,6 tcp:9,9,02", NULL},
    {"the world's IPv4", "mD mA 0800 ip4:W,D,1 0800 x30", NULL},
    {"IPv4 0.0.0.0 that is no DHCP", "mD mA 0800 ip4:Z,D,17 udp:9,9 x20", NULL},
    {"IPv4 of loopback", "mD mA 0800 ip4:L,D,17 udp:9,9 x20", NULL},
    {"IPv4 of a group", "mD mA 0800 ip4:M,D,17 udp:9,9 x20", NULL},
    {"a later fragment of another", "mD mA 0800 ip4:B,D,17,0010 x40", NULL},
    {"options and another's IPv4", "mD mA 0800 46 00 0030 0001 0000 40 11 0000 aB aD 94040000 x24",
     NULL},
    {"IPv4 of length 0", "mD mA 0800 45 00 0000 0001 0000 40 11 0000 aA aD 0043 0044 x60", NULL},
    {"IPv4 longer than it is", "mD mA 0800 45 00 0400 0001 0000 40 11 0000 aA aD 0043 0044 x60",
     NULL},
    {"IPv4 of version 6", "mD mA 0800 65 00 0050 0001 0000 40 11 0000 aA aD 0043 0044 x56", NULL},
    {"ICMP redirect", "mD mA 0800 ip4:A,D,1 0501 0000 aA ip4:D,W,17 x8", NULL},
    {"ICMP router", "mD mA 0800 ip4:A,D,1 0900 0000 0102 0708 aA x20", NULL},
    {"IGMP query", "mM mA 0800 ip4:A,M,2 1164 0000 x12", NULL},
    {"multicast router", "mM mA 0800 ip4:A,M,2 3014 0000 x12", NULL},
    /* DHCPv4 */
    {"DHCP server", "mN mA 0800 ip4:A,N,17 udp:67,68 020106 x4 x100", NULL},
    {"DHCP server, to one", "mD mA 0800 ip4:A,D,17 udp:67,68 020106 x4 x100", NULL},
    {"DHCP server of another port", "mD mA 0800 ip4:A,D,17 udp:6767,68 020106 x4 x100", NULL},
    {"DHCP server, first fragment", "mD mA 0800 ip4:A,D,17,2000 udp:67,68 020106 x100", NULL},
    {"DHCP as the gateway", "mN mA 0800 ip4:G,N,17 udp:67,68 020106 x100", NULL},
    {"DHCP for the neighbour's MAC",
     "mN mA 0800 ip4:Z,N,17 udp:68,67 01010600 x24 mB x10 x192 63825363 350101", NULL},
    {"DHCP release of the neighbour's",
     "mD mA 0800 ip4:A,D,17 udp:68,67 01010600 x8 aB x12 mB x10 x192 63825363 350107", NULL},
    {"DHCP renewal as the neighbour",
     "mD mA 0800 ip4:B,D,17 udp:68,67 01010600 x8 aB x12 mA x10 x192 63825363 350103", NULL},
    {"DHCP server's port, to another", "mD mA 0800 ip4:A,D,17 udp:67,99 x40", NULL},
    {"DHCP whose chaddr is padding", "mN mA 0800 ip4:Z,N,17 udp:68,67 01010600 end x24 mA x10 x200",
     NULL},
    {"DHCP reply to a server", "mN mA 0800 ip4:Z,N,17 udp:68,67 02010600 x24 mA x10 x200", NULL},
    {"DHCP as a relay", "mD mA 0800 ip4:A,D,17 udp:67,67 01010600 x24 mA x10 x200", NULL},
    /* ARP */
    {"ARP reply: the gateway is here", "mD mA 0806 00010800060400 02 mA aG mD aD x18", NULL},
    {"ARP request as the neighbour", "mN mA 0806 00010800060400 01 mA aB x6 aD x18", NULL},
    {"ARP of the neighbour's MAC", "mD mA 0806 00010800060400 02 mB aA mD aD x18", NULL},
    {"ARP: I am the neighbour", "mN mA 0806 00010800060400 01 mA aB x6 aB x18", NULL},
    {"ARP probe of the neighbour's", "mN mA 0806 00010800060400 01 mA x4 x6 aB x18", NULL},
    {"ARP probe of the gateway's", "mN mA 0806 00010800060400 01 mA x4 x6 aG x18", NULL},
    {"ARP of another hardware", "mD mA 0806 00060800060400 02 mA aA mD aD x18", NULL},
    {"ARP of another protocol", "mD mA 0806 000186dd060400 02 mA aA mD aD x18", NULL},
    {"ARP with long MACs", "mD mA 0806 00010800080400 02 mA aA mD aD x18", NULL},
    {"ARP with long addresses", "mD mA 0806 00010800061000 02 mA aA mD aD x18", NULL},
    {"RARP in ARP", "mD mA 0806 00010800060400 03 mA aA mD aD x18", NULL},
    {"RARP", "mN mA 8035 00010800060400 03 mA x4 mA x4 x18", NULL},
    /* IPv6 */
    {"the neighbour's IPv6", "mD mA 86dd ip6:gB,gD,17 udp:9,9 x20", NULL},
    {"the gateway's IPv6", "mD mA 86dd ip6:gG,gD,17 udp:9,9 x20", NULL},
    {"the neighbour's link-local", "mD mA 86dd ip6:lB,lD,17 udp:9,9 x20", NULL},
    {"the gateway's link-local", "mD mA 86dd ip6:lG,lD,17 udp:9,9 x20", NULL},
    {"the world's IPv6", "mD mA 86dd ip6:gW,gD,6 tcp:9,9,02", NULL},
    {"IPv6 :: that is no DAD", "mD mA 86dd ip6:gZ,gD,17 udp:9,9 x20", NULL},
    {"echo from ::", "mD mA 86dd ip6:gZ,gD,58 icmp6:128 x20", NULL},
    {"IPv6 of loopback", "mD mA 86dd ip6:gL,gD,17 udp:9,9 x20", NULL},
    {"a later fragment of another's", "mD mA 86dd ip6:gB,gD,44,64 11000010 00000001 x40", NULL},
    {"fragment of a link-local", "mD mA 86dd ip6:lA,lD,44,64 11000001 00000001 udp:9,9 x40", NULL},
    {"fragment of 255 hops", "mD mA 86dd ip6:gA,gD,44,255 3a000001 00000001 icmp6:128 x40", NULL},
    {"first fragment without its header", "mD mA 86dd ip6:gA,gD,44,64 3c000001 00000001 3a200104",
     NULL},
    {"IPv6 longer than it is", "mD mA 86dd 60000000 0400 11 ff lA lD 0223 0222 x40", NULL},
    {"IPv6 of version 4", "mD mA 86dd 45000000 0030 11 ff lA lD 0223 0222 x44", NULL},
    {"DHCPv6 server", "mD mA 86dd ip6:lA,lD,17 udp:547,546 07000001 x20", NULL},
    {"DHCPv6 server's port, to another", "mD mA 86dd ip6:gA,gD,17 udp:547,99 x40", NULL},
    {"DHCPv6 server of another port", "mD mA 86dd ip6:gA,lD,17 udp:99,546 07000001 x20", NULL},
    {"DHCPv6 server behind options", "mD mA 86dd ip6:lA,lD,60 1100010400000000 udp:547,546 x20",
     NULL},
    {"MLD report as the neighbour",
     "mM mA 86dd ip6:lB,lM,0,1 3a00050200000100 icmp6:143 00000001 04000000 lM", NULL},
    {"MLD query", "mM mA 86dd ip6:lA,lM,0 3a000502000001 00 icmp6:130 x20", NULL},
    {"multicast router, IPv6", "mM mA 86dd ip6:lA,lM,0 3a000502000001 00 icmp6:151 x8", NULL},
    /* neighbour discovery */
    {"RA", "mM mA 86dd ip6:lA,lM,58 icmp6:134 40000708 x8 0101 mA", NULL},
    {"RA to one", "mD mA 86dd ip6:lA,lD,58 icmp6:134 40000708 x8 0101 mA", NULL},
    {"RA as the gateway", "mM mA 86dd ip6:lG,lM,58 icmp6:134 40000708 x8 0101 mA", NULL},
    {"RA that ends the gateway", "mM mA 86dd ip6:lG,lM,58 icmp6:134 40000000 x8", NULL},
    {"RA behind options", "mM mA 86dd ip6:lA,lM,60 3a00010400000000 icmp6:134 40000708 x8 0101 mA",
     NULL},
    {"RA behind hop options",
     "mM mA 86dd ip6:lA,lM,0 3c00010400000000 3a00010400000000 icmp6:134 40000708 x8", NULL},
    {"RA in a first fragment", "mM mA 86dd ip6:lA,lM,44 3a000001 00000001 icmp6:134 40000708 x8",
     NULL},
    {"RA in a later fragment", "mM mA 86dd ip6:lA,lM,44 3a000008 00000001 icmp6:134 40000708 x8",
     NULL},
    {"redirect", "mD mA 86dd ip6:lA,lD,58 icmp6:137 x4 lA gW x8", NULL},
    {"NA: the gateway is here", "mM mA 86dd ip6:lA,lM,58 icmp6:136 20000000 gG 0201 mA", NULL},
    {"NA: the gateway's link-local", "mM mA 86dd ip6:lA,lM,58 icmp6:136 20000000 lG 0201 mA", NULL},
    {"NA: the neighbour is here", "mD mA 86dd ip6:gA,gD,58 icmp6:136 60000000 gB 0201 mA", NULL},
    {"NA: the neighbour's link-local", "mD mA 86dd ip6:lA,lD,58 icmp6:136 60000000 lB 0201 mA",
     NULL},
    {"NA without the option", "mD mA 86dd ip6:lA,lD,58 icmp6:136 60000000 gB", NULL},
    {"NA with the neighbour's MAC", "mD mA 86dd ip6:gA,gD,58 icmp6:136 60000000 gA 0201 mB", NULL},
    {"NA with the source's option", "mD mA 86dd ip6:gA,gD,58 icmp6:136 60000000 gA 0101 mA", NULL},
    {"NA with two options", "mD mA 86dd ip6:gA,gD,58 icmp6:136 60000000 gA 0201 mA 0201 mB", NULL},
    {"NA behind options", "mD mA 86dd ip6:gA,gD,60 3a00010400000000 icmp6:136 60000000 gB 0201 mA",
     NULL},
    {"NA of its own behind options",
     "mD mA 86dd ip6:gA,gD,60 3a00010400000000 icmp6:136 60000000 gA", NULL},
    {"NA of one hop less", "mD mA 86dd ip6:gA,gD,58,254 icmp6:136 60000000 gA 0201 mA", NULL},
    {"NS with the neighbour's MAC", "mD mA 86dd ip6:gA,gD,58 icmp6:135 x4 gD 0101 mB", NULL},
    {"NS with a second option", "mD mA 86dd ip6:gA,gD,58 icmp6:135 x4 gD 0e01000102030405 0101 mB",
     NULL},
    {"NS behind options", "mD mA 86dd ip6:gA,gD,60 3a00010400000000 icmp6:135 x4 gD 0101 mB", NULL},
    {"NS of one hop less", "mD mA 86dd ip6:gA,gD,58,254 icmp6:135 x4 gD 0101 mA", NULL},
    {"NS of its own behind options, padded",
     "mD mA 86dd ip6:gA,gD,60 3a00010400000000 icmp6:135 x4 gD end 0101 mA", NULL},
    {"NS as the neighbour", "mD mA 86dd ip6:gB,gD,58 icmp6:135 x4 gD 0101 mA", NULL},
    {"DAD of the neighbour's", "mM mA 86dd ip6:gZ,lM,58 icmp6:135 x4 gB", NULL},
    {"DAD of the neighbour's link-local", "mM mA 86dd ip6:gZ,lM,58 icmp6:135 x4 lB", NULL},
    {"DAD of the gateway's link-local", "mM mA 86dd ip6:gZ,lM,58 icmp6:135 x4 lG", NULL},
    {"DAD with a MAC", "mM mA 86dd ip6:gZ,lM,58 icmp6:135 x4 lA 0101 mB", NULL},
    {"DAD with two options", "mM mA 86dd ip6:gZ,lM,58 icmp6:135 x4 lA 0e01000102030405 0101 mB",
     NULL},
    {"RS of its own behind options, padded",
     "mM mA 86dd ip6:lA,lM,60 3a00010400000000 icmp6:133 x4 end 0101 mA", NULL},
    {"RS with the neighbour's MAC", "mM mA 86dd ip6:lA,lM,58 icmp6:133 x4 0101 mB", NULL},
    {"RS as the neighbour", "mM mA 86dd ip6:lB,lM,58 icmp6:133 x4 0101 mA", NULL},
    /* other protocols of the link */
    {"VLAN", "mD mA 8100 0005 0800 ip4:A,D,17 udp:9,9 x20", "B"},
    {"VLAN 0", "mD mA 8100 e000 0800 ip4:A,D,17 udp:9,9 x20", "B"},
    {"VLAN in VLAN", "mD mA 8100 0005 8100 0006 0800 ip4:A,D,17 udp:9,9 x20", "B"},
    {"provider VLAN", "mD mA 88a8 0005 8100 0006 0800 ip4:A,D,17 udp:9,9 x20", "B"},
    {"STP", "0180c2000000 mA 0026 424203 000000 x50", NULL},
    {"STP to one", "mD mA 0026 424203 000000 x50", NULL},
    {"PVST", "01000ccccccd mA 0032 aaaa03 00000c010b x50", NULL},
    {"LLDP", "0180c200000e mA 88cc 0207 04 mA 0403 076162 x40", NULL},
    {"802.1X", "0180c2000003 mA 888e 01010000 x42", NULL},
    {"IPv4 to a group of the link", "0180c200000e mA 0800 ip4:A,D,17 udp:9,9 x20", NULL},
    {"IPX over LLC", "mN mA 0028 e0e003 ffff x60", NULL},
    {"IPv4 over SNAP", "mD mA 0030 aaaa03 000000 0800 ip4:B,D,17 udp:9,9 x20", NULL},
    {"PPPoE", "mN mA 8863 1109 0000 x46", NULL},
    {"MPLS", "mD mA 8847 00064140 ip4:B,D,17 udp:9,9 x20", NULL},
    {"loop test", "mD mA 9000 0000 0100 x46", NULL},
    {"unknown type", "mD mA 88b5 x46", NULL},
    {"type 0", "mD mA 0000 x46", NULL},
};

static const Kind legitimate[] = {
    {"ARP request", "mN mA 0806 00010800060400 01 mA aA x6 aD x18", NULL},
    {"ARP reply", "mD mA 0806 00010800060400 02 mA aA mD aD x18", NULL},
    {"ARP: I am here", "mN mA 0806 00010800060400 01 mA aA x6 aA x18", NULL},
    {"ARP probe", "mN mA 0806 00010800060400 01 mA x4 x6 aA x18", NULL},
    {"IPv4 UDP", "mD mA 0800 ip4:A,D,17 udp:9,9 x20", NULL},
    {"IPv4 TCP", "mD mA 0800 ip4:A,D,6 tcp:9,9,02", NULL},
    {"IPv4 to the world", "mG mA 0800 ip4:A,W,6 tcp:9,9,02", "G"},
    {"echo", "mD mA 0800 ip4:A,D,1 0800 x30", NULL},
    {"a later fragment", "mD mA 0800 ip4:A,D,17,0010 x40", NULL},
    {"a later fragment with data like a DHCP server's",
     "mD mA 0800 ip4:A,D,17,0010 00430044 00280000 x40", NULL},
    {"a later fragment with data like a redirect", "mD mA 0800 ip4:A,D,1,0010 05010000 x40", NULL},
    {"broadcast", "mN mA 0800 ip4:A,N,17 udp:9,9 x20", NULL},
    {"DHCP discover", "mN mA 0800 ip4:Z,N,17 udp:68,67 01010600 x24 mA x10 x192 63825363 350101",
     NULL},
    {"DHCP renewal",
     "mD mA 0800 ip4:A,D,17 udp:68,67 01010600 x8 aA x12 mA x10 x192 63825363 350103", NULL},
    {"IGMP report", "mM mA 0800 ip4:A,M,2 2200 0000 x12", NULL},
    {"IPv6 UDP", "mD mA 86dd ip6:gA,gD,17,64 udp:9,9 x20", NULL},
    {"IPv6 of link-local", "mD mA 86dd ip6:lA,lD,6,64 tcp:9,9,02", NULL},
    {"echo, IPv6", "mD mA 86dd ip6:gA,gD,58,64 icmp6:128 x30", NULL},
    {"a first fragment, IPv6", "mD mA 86dd ip6:gA,gD,44,64 11000001 00000001 udp:9,9 x40", NULL},
    {"a first fragment with a checksum, IPv6",
     "mD mA 86dd ip6:gA,gD,44,64 11000001 00000001 00090009 00481234 x40", NULL},
    {"a first fragment of a tunnel, IPv6",
     "mD mA 86dd ip6:gA,gD,44,64 2f000001 00000001 00000800 x40", NULL},
    {"a later fragment, IPv6", "mD mA 86dd ip6:gA,gD,44,64 11000010 00000001 x40", NULL},
    {"a later fragment with data like a DHCPv6 server's",
     "mD mA 86dd ip6:gA,gD,44,64 11000010 00000001 02230222 x40", NULL},
    {"a later fragment with data like an RA",
     "mD mA 86dd ip6:gA,gD,44,64 3a000010 00000001 86000000 x40", NULL},
    {"DHCPv6 solicit", "mM mA 86dd ip6:lA,lM,17,1 udp:546,547 01000001 x20", NULL},
    {"NS", "mM mA 86dd ip6:gA,lM,58 icmp6:135 x4 gD 0101 mA", NULL},
    {"NS to one", "mD mA 86dd ip6:lA,lD,58 icmp6:135 x4 lD", NULL},
    {"NA", "mD mA 86dd ip6:gA,gD,58 icmp6:136 60000000 gA 0201 mA", NULL},
    {"NA of link-local", "mD mA 86dd ip6:lA,lD,58 icmp6:136 60000000 lA 0201 mA", NULL},
    {"NA without option", "mD mA 86dd ip6:lA,lD,58 icmp6:136 60000000 lA", NULL},
    {"DAD", "mM mA 86dd ip6:gZ,lM,58 icmp6:135 x4 lA", NULL},
    {"DAD of the global one", "mM mA 86dd ip6:gZ,lM,58 icmp6:135 x4 gA", NULL},
    {"DAD with a nonce", "mM mA 86dd ip6:gZ,lM,58 icmp6:135 x4 lA 0e01000102030405", NULL},
    {"RS", "mM mA 86dd ip6:lA,lM,58 icmp6:133 x4 0101 mA", NULL},
    {"RS without option", "mM mA 86dd ip6:lA,lM,58 icmp6:133 x4", NULL},
    {"RS of ::", "mM mA 86dd ip6:gZ,lM,58 icmp6:133 x4", NULL},
    {"MLD report", "mM mA 86dd ip6:lA,lM,0,1 3a00050200000100 icmp6:143 00000001 04000000 lM",
     NULL},
    {"MLD report of ::", "mM mA 86dd ip6:gZ,lM,0,1 3a00050200000100 icmp6:143 00000001 04000000 lM",
     NULL},
};

/* How many of the kinds do not fare as they should; each is printed. */
static unsigned count_wrong(const Kind *kinds, size_t n_kinds, bool shall_pass)
{
    unsigned n_wrong = 0;
    for (size_t i = 0; i < n_kinds; i++) {
        for (const char *to = kinds[i].to ? kinds[i].to : "BG"; *to; to++) {
            if (lan_passes('A', kinds[i].line, *to) != shall_pass) {
                print_message("%s: %s to %c\n", kinds[i].what, shall_pass ? "did not come" : "came",
                              *to);
                n_wrong++;
            }
        }
    }
    return n_wrong;
}

#define N_WRONG(kinds, shall_pass) count_wrong(kinds, G_N_ELEMENTS(kinds), shall_pass)

static void test_frames_without_table_all_pass(void **state)
{
    (void)state;
    lan_uninstall();
    assert_true(G_N_ELEMENTS(hostile) >= 38 && G_N_ELEMENTS(legitimate) >= 11);
    assert_int_equal(N_WRONG(hostile, true), 0);
    assert_int_equal(N_WRONG(legitimate, true), 0);
}

static void test_frames_of_tap_not_registered_never_pass(void **state)
{
    (void)state;
    lan_install();
    assert_int_equal(N_WRONG(legitimate, false), 0);
    assert_int_equal(N_WRONG(hostile, false), 0);
}

static void check_frames(void)
{
    lan_install();
    lan_register_all();
    assert_int_equal(N_WRONG(hostile, false), 0);
    assert_int_equal(N_WRONG(legitimate, true), 0);
}

static void test_frames_of_member_pass_only_when_honest(void **state)
{
    (void)state;
    check_frames();
}

/* O is none of ours: it gets what is for it, whoever that is. */
static void test_frames_to_another_port_pass(void **state)
{
    (void)state;
    lan_install();
    lan_register_all();
    assert_true(lan_passes('A', "mO mA 0800 ip4:A,O,17 udp:9,9 x20", 'O'));
    assert_true(lan_passes('A', "mR mA 86dd ip6:gA,gR,17 udp:9,9 x20", 'O'));
    assert_true(lan_passes('A', "mN mA 0806 00010800060400 01 mA aA x6 aO x18", 'O'));
    assert_false(lan_passes('A', "mO mA 0800 ip4:B,O,17 udp:9,9 x20", 'O'));
}

static void test_frames_with_br_netfilter_pass_only_when_honest(void **state)
{
    (void)state;
    lan_set_br_netfilter(true);
    check_frames();
    lan_set_br_netfilter(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_without_table_all_pass),
        cmocka_unit_test(test_frames_of_tap_not_registered_never_pass),
        cmocka_unit_test(test_frames_of_member_pass_only_when_honest),
        cmocka_unit_test(test_frames_to_another_port_pass),
        cmocka_unit_test(test_frames_with_br_netfilter_pass_only_when_honest),
    };
    if (!lan_make()) {
        return 77;
    }
    lan_set_br_netfilter(false);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
