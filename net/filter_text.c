#include "net/filter.h"

/*
 * How it works
 *
 * `pre` sees a frame when it leaves a tap, before the bridge learns its MAC. Links named vmt* are
 * ours: what `macs` does not know sends nothing, so a tap is silent until it was registered. Then
 * each protocol is judged by what names its sender: ARP (arps), IPv4 (ipv4), IPv6 (ipv6) and
 * neighbour discovery inside of it (ns, dad, na, rs). addr4 and addr6 hold what a tap may call its
 * own. free4 and free6 are taps whose addresses nobody knows: they may use anything but what is
 * known to be another's on their bridge (known4, known6). Keys of one set have one type, so IPv6
 * addresses, and MACs in options of ND and DHCP (`options`), are raw payload: @nh,64,128 is the
 * source, @th,64,128 the target of an NS or NA. Rules are so that nft reads what it has listed.
 *
 * Link-local addresses that don't follow from the MAC (RFC 7217) are claimed: the first tap that
 * asks for one (NS from ::) or uses it gets it into `own`, and its bridge into `held`. From then on
 * it is the tap's alone; each use renews it. Never claimable are the gateway's (`never`), those of
 * routers that were heard (`routers`) and of members (known6), also of later ones. A tap claims 8
 * and one more per hour (`claims`), so 32 in the life of a claim: nobody uses up what all have.
 * The bridge family can't name the bridge here, so `nets` gives its number for a tap, kept in the
 * mark while a frame is judged and 0 again afterwards.
 *
 * A transaction takes effect between two rules: a frame that began by the old ones looks into the
 * new sets. So what was found in a set is found again, or the frame is dropped; and there are no
 * maps without name, which would be empty by then.
 *
 * `post` keeps from a tap what is not for its MAC (the flood of unknown ones) and hears routers.
 * `between` sees only what goes from port to port: there the policy of a tap (m_* chains, through
 * `egress`) judges what it begins towards neighbours. Stateless, as this family has no conntrack:
 * `answer` lets out what begins nothing; UDP counts as an answer for 30 s after one of both was
 * heard (heard4, heard6), and nobody begins more than 1,000 such talks a second (`asking`).
 */

#define TABLE           "bridge vm_driver"
#define SET(name, spec) "add set " TABLE " " name " { " spec " }\n"
#define MAP(name, spec) "add map " TABLE " " name " { " spec " }\n"
#define HOOKED(name, hook)                                                                         \
    "add chain " TABLE " " name " { type filter hook " hook "; policy accept; }\n"                 \
    "flush chain " TABLE " " name "\n"
#define CHAIN(name)       "add chain " TABLE " " name "\nflush chain " TABLE " " name "\n"
#define RULE(chain, text) "add rule " TABLE " " chain " " text "\n"

#define LEARNT(key, n, life) "typeof " key "; size " n "; flags dynamic,timeout; timeout " life ";"

/* What is said by UDP to a tap, and what the tap answers. */
#define HEARD(ip)  "oifname . " ip " saddr . " ip " daddr . udp sport . udp dport"
#define ANSWER(ip) "iifname . " ip " daddr . " ip " saddr . udp dport . udp sport"

/* Fragments but the first: what stands where a header would is data, and the kernel (6.18) does not
 * mind: to be asked before. Without the first one they are worth nothing. */
#define LATER4 "ip frag-off & 0x1fff != 0"
#define LATER6 "frag frag-off != 0"

/* 0: its member was just removed */
#define BRIDGE_TO_MARK(chain)                                                                      \
    RULE(chain, "meta mark set iifname map @nets")                                                 \
    RULE(chain, "meta mark 0 drop")

/* Ends the judgement of a frame of which `address` (raw) must not be anybody else's. */
#define FREE(chain, set, address, end)                                                             \
    BRIDGE_TO_MARK(chain)                                                                          \
    RULE(chain, "meta mark . " address " @" set " drop")                                           \
    RULE(chain, "meta mark set 0 " end)

/* Is the link-local `address` (raw) this tap's, or can it become so? */
#define CLAIM(chain, address, interface_id, end)                                                   \
    CHAIN(chain)                                                                                   \
    RULE(chain, address " @routers drop")                                                          \
    RULE(chain, "iifname . " address " @never drop")                                               \
    BRIDGE_TO_MARK(chain)                                                                          \
    RULE(chain, "meta mark . " address " @known6 drop")                                            \
    RULE(chain, "iifname . " address " @own update @own { iifname . " address                      \
                " } update @held { meta mark . " address " } meta mark set 0 " end)                \
    RULE(chain, "meta mark . " address " @held drop")                                              \
    RULE(chain, interface_id " 0 drop")                                                            \
    RULE(chain, "update @claims { iifname limit rate over 1/hour burst 8 packets } drop")          \
    RULE(chain, "add @held { meta mark . " address " } add @own { iifname . " address              \
                " } meta mark set 0 " end)                                                         \
    RULE(chain, "drop")

/* One rule a line; a chain stands above those that lead to it. */
/* clang-format off */
const char net_filter_base_text[] =
    "add table " TABLE "\n"
    /* what members have */
    SET("macs", "type ifname . ether_addr;")
    SET("options", "typeof iifname . @th,208,48;")
    SET("addr4", "type ifname . ipv4_addr;")
    SET("addr6", "typeof iifname . @nh,64,128;")
    SET("known4", "type mark . ipv4_addr;")
    SET("known6", "typeof meta mark . @nh,64,128;")
    SET("never", "typeof iifname . @nh,64,128;")
    SET("free4", "type ifname;")
    SET("free6", "type ifname;")
    SET("policed", "type ifname;")
    MAP("nets", "type ifname : mark;")
    MAP("egress", "type ifname : verdict;")
    /* what is learnt */
    SET("own", LEARNT("iifname . @nh,64,128", "65536", "1d"))
    SET("held", LEARNT("meta mark . @nh,64,128", "65536", "1d"))
    SET("claims", LEARNT("iifname", "65536", "1d"))
    SET("routers", LEARNT("@nh,64,128", "1024", "2h"))
    SET("heard4", LEARNT(HEARD("ip"), "262144", "30s"))
    SET("heard6", LEARNT(HEARD("ip6"), "262144", "30s"))
    SET("asking", LEARNT("iifname", "65536", "1m"))

    CHAIN("arps_free")
    BRIDGE_TO_MARK("arps_free")
    RULE("arps_free", "arp saddr ip 0.0.0.0 meta mark . arp daddr ip @known4 drop")
    RULE("arps_free", "meta mark . arp saddr ip @known4 drop")
    RULE("arps_free", "meta mark set 0 accept")

    CHAIN("arps")
    RULE("arps", "arp htype != 1 drop")
    RULE("arps", "arp ptype != 0x0800 drop")
    RULE("arps", "arp hlen != 6 drop")
    RULE("arps", "arp plen != 4 drop")
    RULE("arps", "arp operation != { request, reply } drop")
    RULE("arps", "iifname . arp saddr ether != @macs drop")
    RULE("arps", "iifname . arp saddr ip @addr4 accept")
    RULE("arps", "iifname @free4 goto arps_free")
    /* a probe (RFC 5227), of its own address: another's would be taken for a conflict */
    RULE("arps", "arp operation request arp saddr ip 0.0.0.0 iifname . arp daddr ip @addr4 accept")

    CHAIN("src4_free")
    RULE("src4_free", "ip saddr { 127.0.0.0/8, 224.0.0.0/3 } drop")
    FREE("src4_free", "known4", "ip saddr", "accept")

    CHAIN("src4")
    RULE("src4", "iifname . ip saddr @addr4 accept")
    RULE("src4", "iifname @free4 goto src4_free")

    /* a client's, and chaddr is its own: else it takes or ends another's lease */
    CHAIN("dhcp4_own")
    RULE("dhcp4_own", "ip saddr 0.0.0.0 ip daddr 255.255.255.255 accept")
    RULE("dhcp4_own", "goto src4")
    CHAIN("dhcp4")
    RULE("dhcp4", "udp sport != 68 drop")
    RULE("dhcp4", "udp length < 244 drop") /* BOOTP's: chaddr is no padding */
    RULE("dhcp4", "@th,64,24 0x010106 iifname . @th,288,48 @options goto dhcp4_own")

    CHAIN("ipv4_whole")
    RULE("ipv4_whole", LATER4 " goto src4")
    RULE("ipv4_whole", "udp dport 67 goto dhcp4")
    /* a guest is no server of addresses; clients look at the destination only */
    RULE("ipv4_whole", "udp sport 67 drop")
    RULE("ipv4_whole", "udp dport 68 drop")
    RULE("ipv4_whole", "icmp type { redirect, router-advertisement } drop")
    /* no querier and no router of multicast: reports and leaves only */
    RULE("ipv4_whole", "igmp type != { 0x12, 0x16, 0x17, 0x22 } drop")
    RULE("ipv4_whole", "goto src4")
    /* what can't be taken apart would pass the rules that look into it (255: none has it) */
    CHAIN("ipv4")
    RULE("ipv4", "meta l4proto != 255 goto ipv4_whole")

    CLAIM("claim_src", "@nh,64,128", "@nh,128,64", "accept")
    CLAIM("claim_target", "@th,64,128", "@th,128,64", "return")

    CHAIN("src6_free")
    RULE("src6_free", "ip6 saddr { ::, ::1, fe80::/10, ff00::/8 } drop")
    FREE("src6_free", "known6", "@nh,64,128", "accept")

    CHAIN("src6")
    RULE("src6", "iifname . @nh,64,128 @addr6 accept")
    RULE("src6", "ip6 saddr fe80::/64 goto claim_src")
    RULE("src6", "iifname @free6 goto src6_free")

    /* In ns, dad, na, rs: one option at most, in its place, and nothing in front, so that one look
     * sees all there is. */
    CHAIN("dad_free")
    FREE("dad_free", "known6", "@th,64,128", "accept")
    CHAIN("dad")
    RULE("dad", "ip6 length != { 24, 32 } drop")
    RULE("dad", "ip6 length 32 @th,192,16 != 0x0e01 drop")
    RULE("dad", "iifname . @th,64,128 @addr6 accept")
    RULE("dad", "@th,64,64 0xfe80000000000000 jump claim_target")
    RULE("dad", "@th,64,64 0xfe80000000000000 accept")
    RULE("dad", "iifname @free6 goto dad_free")

    CHAIN("ns")
    RULE("ns", "ip6 nexthdr != ipv6-icmp drop")
    RULE("ns", "ip6 hoplimit != 255 drop")
    RULE("ns", "ip6 saddr :: goto dad")
    RULE("ns", "ip6 length 24 goto src6")
    RULE("ns", "ip6 length 32 @th,192,16 0x0101 iifname . @th,208,48 @options goto src6")

    CHAIN("na_free")
    FREE("na_free", "known6", "@th,64,128", "goto src6")
    CHAIN("na")
    RULE("na", "ip6 nexthdr != ipv6-icmp drop")
    RULE("na", "ip6 hoplimit != 255 drop")
    RULE("na", "ip6 length != { 24, 32 } drop")
    RULE("na", "ip6 length 32 @th,192,16 != 0x0201 drop")
    RULE("na", "ip6 length 32 iifname . @th,208,48 != @options drop")
    RULE("na", "iifname . @th,64,128 @addr6 goto src6")
    RULE("na", "@th,64,64 0xfe80000000000000 jump claim_target")
    RULE("na", "@th,64,64 0xfe80000000000000 goto src6")
    RULE("na", "iifname @free6 goto na_free")

    CHAIN("rs")
    RULE("rs", "ip6 nexthdr != ipv6-icmp drop")
    RULE("rs", "ip6 saddr :: ip6 length 8 accept")
    RULE("rs", "ip6 length 8 goto src6")
    RULE("rs", "ip6 length 16 @th,64,16 0x0101 iifname . @th,80,48 @options goto src6")

    CHAIN("mld")
    RULE("mld", "ip6 saddr :: accept")
    RULE("mld", "goto src6")

    CHAIN("icmp6")
    RULE("icmp6", "icmpv6 type nd-neighbor-solicit goto ns")
    RULE("icmp6", "icmpv6 type nd-neighbor-advert goto na")
    RULE("icmp6", "icmpv6 type nd-router-solicit goto rs")
    RULE("icmp6", "icmpv6 type { 131, 132, 143 } goto mld")
    /* querier, router, redirect, renumbering, certification, router of multicast */
    RULE("icmp6", "icmpv6 type { 130, 134, 137, 138, 148, 149, 151, 152, 153 } drop")
    RULE("icmp6", "goto src6")

    /* Discovery is never fragmented (RFC 6980). A first fragment shows what it carries (RFC 7112):
     * its eighth byte is there, whatever it is. */
    CHAIN("frag6")
    RULE("frag6", "ip6 saddr { ::, fe80::/10 } drop")
    RULE("frag6", "ip6 hoplimit 255 drop")
    RULE("frag6", LATER6 " goto src6")
    RULE("frag6", "@th,56,8 0 return")
    RULE("frag6", "@th,56,8 != 0 return")
    RULE("frag6", "drop")

    CHAIN("ipv6_whole")
    RULE("ipv6_whole", "exthdr frag exists jump frag6")
    RULE("ipv6_whole", "meta l4proto ipv6-icmp goto icmp6")
    RULE("ipv6_whole", "udp sport 547 drop")
    RULE("ipv6_whole", "udp dport 546 drop")
    RULE("ipv6_whole", "goto src6")
    CHAIN("ipv6")
    RULE("ipv6", "meta l4proto != 255 goto ipv6_whole")

    CHAIN("guest")
    RULE("guest", "iifname . ether saddr != @macs drop")
    RULE("guest", "ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 drop")
    RULE("guest", "ether type arp goto arps")
    RULE("guest", "ether type ip goto ipv4")
    RULE("guest", "ether type ip6 goto ipv6")
    HOOKED("pre", "prerouting priority -300")
    RULE("pre", "iifname \"vmt*\" jump guest")
    RULE("pre", "iifname \"vmt*\" drop") /* what no chain accepts */

    CHAIN("router")
    RULE("router", "update @routers { @nh,64,128 }")
    HOOKED("post", "postrouting priority -300")
    RULE("post", "oifname != \"vmt*\" accept")
    RULE("post", "ether daddr & 01:00:00:00:00:00 == 0 oifname . ether daddr != @macs drop")
    RULE("post", "ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 drop")
    RULE("post", "icmpv6 type nd-router-advert ip6 saddr fe80::/10 goto router")

    CHAIN("answer")
    RULE("answer", "ether type arp accept")
    RULE("answer", LATER4 " accept")
    RULE("answer", LATER6 " accept")
    RULE("answer", "tcp flags & (syn | ack) != syn accept")
    RULE("answer", ANSWER("ip") " @heard4 update @heard4 { " ANSWER("ip") " } accept")
    RULE("answer", ANSWER("ip6") " @heard6 update @heard6 { " ANSWER("ip6") " } accept")
    RULE("answer", "ip version 4 udp sport 68 udp dport 67 accept")
    RULE("answer", "ip6 version 6 udp sport 546 udp dport 547 accept")
    RULE("answer", "icmp type { echo-reply, destination-unreachable, time-exceeded, "
                   "parameter-problem } accept")
    RULE("answer", "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, "
                   "parameter-problem, echo-reply, mld-listener-report, mld-listener-done, "
                   "mld2-listener-report, nd-router-solicit, nd-neighbor-solicit, "
                   "nd-neighbor-advert } accept")
    CHAIN("hear")
    RULE("hear", HEARD("ip") " @heard4 update @heard4 { " HEARD("ip") " } return")
    RULE("hear", HEARD("ip6") " @heard6 update @heard6 { " HEARD("ip6") " } return")
    RULE("hear", "update @asking { iifname limit rate over 1000/second burst 2000 packets } return")
    RULE("hear", "update @heard4 { " HEARD("ip") " }")
    RULE("hear", "update @heard6 { " HEARD("ip6") " }")
    HOOKED("between", "forward priority -300")
    /* a port in hairpin mode would get back what it sent to all: its own ARP and DAD */
    RULE("between", "ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00 "
                    "oifname . ether saddr @macs drop")
    RULE("between", "oifname @policed meta l4proto udp jump hear")
    RULE("between", "iifname vmap @egress")
    RULE("between", "iifname \"vmt*\" iifname . ether saddr != @macs drop");
/* clang-format on */
