#include "net/filter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "tests/unit/net/helper_lan.h"

/* What A may begin towards B; P is a private address and W one of the world, both behind B. */

#define TCP4(to, port, flags) "mB mA 0800 ip4:A," to ",6 tcp:5555," port "," flags
#define UDP4(to, port)        "mB mA 0800 ip4:A," to ",17 udp:5555," port " x20"
#define ICMP4(to, type)       "mB mA 0800 ip4:A," to ",1 " type " x30"
#define TCP6(to, port, flags) "mB mA 86dd ip6:gA,g" to ",6 tcp:5555," port "," flags
#define UDP6(to, port)        "mB mA 86dd ip6:gA,g" to ",17 udp:5555," port " x20"
#define ICMP6(to, type)       "mB mA 86dd ip6:gA,g" to ",58 icmp6:" type " x30"

static NetMember *member, *applied;

static int set_up(void **state)
{
    (void)state;
    const char *why;
    lan_install();
    lan_register_all();
    member = lan_member('A');
    base_cidr_parse("10.7.0.0/24", &member->cidr4, &why);
    base_cidr_parse("fd07::/64", &member->cidr6, &why);
    applied = net_member_copy(member);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    g_clear_pointer(&member, net_member_free);
    g_clear_pointer(&applied, net_member_free);
    return 0;
}

/* What was changed in `member` counts from now on. */
static void apply(void)
{
    g_autoptr(GPtrArray) differences = g_ptr_array_new_with_free_func(g_free);
    lan_apply(member, applied);
    net_member_free(applied);
    applied = net_member_copy(member);
    assert_true(net_filter_check(member, differences, NULL));
    if (differences->len) {
        fail_msg("%s", (char *)differences->pdata[0]);
    }
}

static void add_rule(GPtrArray *rules, const char *prefix, SpecEgressProto proto, uint16_t first,
                     uint16_t last)
{
    const char *why;
    SpecEgressRule *rule = g_new0(SpecEgressRule, 1);
    assert_true(base_cidr_parse(prefix, &rule->to, &why));
    rule->proto = proto;
    rule->port_first = first;
    rule->port_last = last;
    g_ptr_array_add(rules, rule);
}

#define ALLOW(...) add_rule(member->egress.allow, __VA_ARGS__)
#define DENY(...)  add_rule(member->egress.deny, __VA_ARGS__)

static void check_all(const char *const *lines, size_t n_lines, bool shall_pass)
{
    for (size_t i = 0; i < n_lines; i++) {
        if (lan_passes('A', lines[i], 'B') != shall_pass) {
            fail_msg("%s: %s", shall_pass ? "did not come" : "came", lines[i]);
        }
    }
}
#define PASS(...)                                                                                  \
    check_all((const char *const[]){__VA_ARGS__},                                                  \
              G_N_ELEMENTS(((const char *const[]){__VA_ARGS__})), true)
#define REFUSE(...)                                                                                \
    check_all((const char *const[]){__VA_ARGS__},                                                  \
              G_N_ELEMENTS(((const char *const[]){__VA_ARGS__})), false)

/* What a policy never keeps in: answers, addresses' own protocols. */
static void check_answers(void)
{
    PASS(TCP4("B", "80", "12"), TCP4("B", "80", "10"), TCP4("B", "80", "11"), TCP4("B", "80", "04"),
         TCP6("B", "80", "12"), TCP6("B", "80", "10"), ICMP4("B", "0000"), ICMP4("B", "0304"),
         ICMP6("B", "129"), ICMP6("B", "2"), "mN mA 0806 00010800060400 01 mA aA x6 aB x18",
         "mB mA 86dd ip6:gA,gB,58 icmp6:135 x4 gB 0101 mA",
         "mB mA 86dd ip6:gA,gB,58 icmp6:136 60000000 gA 0201 mA",
         "mM mA 86dd ip6:gZ,lM,58 icmp6:135 x4 lA",
         "mN mA 0800 ip4:Z,N,17 udp:68,67 01010600 x24 mA x10 x192 63825363 350101",
         "mM mA 86dd ip6:lA,lM,17,1 udp:546,547 01000001 x20",
         /* fragments but the first: worth nothing without it */
         "mB mA 0800 ip4:A,B,17,0010 x40", "mB mA 0800 ip4:A,B,6,0010 00500050 x8 5002 x40",
         "mB mA 86dd ip6:gA,gB,44,64 11000010 00000001 x40");
}

static void check_nothing_begins(void)
{
    REFUSE(TCP4("B", "80", "02"), TCP4("B", "80", "03"), TCP4("B", "80", "c2"), UDP4("B", "53"),
           ICMP4("B", "0800"), ICMP4("B", "0d00"), TCP6("B", "80", "02"), UDP6("B", "53"),
           ICMP6("B", "128"), "mB mA 0800 ip4:A,B,47 x40", "mB mA 86dd ip6:gA,gB,47 x40",
           "mB mA 0800 ip4:A,B,132 x40", "mM mA 0800 ip4:A,M,17 udp:5353,5353 x20",

           "mB mA 86dd ip6:lA,lB,17 udp:9,9 x20", TCP4("W", "80", "02"), TCP6("W", "80", "02"));
}

static void test_without_policy_all_passes(void **state)
{
    (void)state;
    check_answers();
    PASS(TCP4("B", "80", "02"), UDP4("B", "53"), ICMP4("B", "0800"), TCP6("B", "80", "02"),
         UDP6("B", "53"), ICMP6("B", "128"), "mB mA 0800 ip4:A,B,47 x40",
         "mM mA 0800 ip4:A,M,17 udp:5353,5353 x20", TCP4("W", "80", "02"), UDP4("P", "9"));
}

static void check_default_deny(void)
{
    member->egress.is_default_deny = true;
    apply();
    check_nothing_begins();
    check_answers();
}

static void test_default_deny_lets_out_answers_only(void **state)
{
    (void)state;
    check_default_deny();
}

static void test_default_deny_with_br_netfilter(void **state)
{
    (void)state;
    lan_set_br_netfilter(true);
    check_default_deny();
    lan_set_br_netfilter(false);
}

static void test_answers_to_udp_pass_after_the_question(void **state)
{
    (void)state;
    member->egress.is_default_deny = true;
    apply();
    const char *answer4 = "mB mA 0800 ip4:A,B,17 udp:53,4444 x20";
    const char *answer6 = "mB mA 86dd ip6:gA,gB,17 udp:53,4444 x20";
    REFUSE(answer4, answer6);
    assert_true(lan_passes('B', "mA mB 0800 ip4:B,A,17 udp:4444,53 x20", 'A'));
    PASS(answer4);
    assert_true(lan_passes('B', "mA mB 86dd ip6:gB,gA,17 udp:4444,53 x20", 'A'));
    PASS(answer6);
    REFUSE("mB mA 0800 ip4:A,B,17 udp:54,4444 x20", "mB mA 0800 ip4:A,B,17 udp:53,4445 x20",
           "mB mA 0800 ip4:A,P,17 udp:53,4444 x20", "mB mA 86dd ip6:gA,gP,17 udp:53,4444 x20");
}

/* A neighbour that asks from ever new ports does not use up what all others need. */
static void test_who_asks_too_much_is_not_remembered(void **state)
{
    (void)state;
    enum { BURST = 2000, N_ASKED = 4 * BURST };
    member->egress.is_default_deny = true;
    apply();
    gint64 begin = g_get_monotonic_time();
    for (unsigned i = 0; i < N_ASKED; i++) {
        g_autofree char *line =
            g_strdup_printf("mA mB 0800 ip4:B,A,17 udp:%u,53 x20", 1024 + i % N_ASKED);
        assert_true(lan_passes('B', line, 'A'));
    }
    gint64 took_ms = (g_get_monotonic_time() - begin) / 1000 + 1;
    g_autoptr(GPtrArray) heard = net_nft_list(NET_NFT_BRIDGE, "heard4", NULL);
    assert_in_range(heard->len, BURST, BURST + took_ms + 1);
    assert_true(lan_passes('O', "mA mO 0800 ip4:O,A,17 udp:4444,53 x20", 'A'));
    assert_true(lan_passes('A', "mO mA 0800 ip4:A,O,17 udp:53,4444 x20", 'O'));
    /* what was heard before the limit goes on */
    PASS("mB mA 0800 ip4:A,B,17 udp:53,1024 x20");
}

/* One long talk is one, however much is said. */
static void test_long_talk_counts_once(void **state)
{
    (void)state;
    enum { N_SAID = 6000 };
    member->egress.is_default_deny = true;
    apply();
    for (unsigned i = 0; i < N_SAID; i++) {
        lan_passes('B', "mA mB 0800 ip4:B,A,17 udp:4444,53 x20", 'A');
        lan_passes('B', "mA mB 86dd ip6:gB,gA,17 udp:4444,53 x20", 'A');
    }
    assert_true(lan_passes('B', "mA mB 0800 ip4:B,A,17 udp:4445,53 x20", 'A'));
    assert_true(lan_passes('B', "mA mB 86dd ip6:gB,gA,17 udp:4445,53 x20", 'A'));
    PASS("mB mA 0800 ip4:A,B,17 udp:53,4445 x20", "mB mA 86dd ip6:gA,gB,17 udp:53,4445 x20");
}

static void test_hermetic_ignores_allow(void **state)
{
    (void)state;
    ALLOW("0.0.0.0/0", SPEC_EGRESS_PROTO_ALL, 0, 0);
    ALLOW("::/0", SPEC_EGRESS_PROTO_ALL, 0, 0);
    member->egress.is_hermetic = true;
    apply();
    check_nothing_begins();
    check_answers();
    /* what goes to the host is judged elsewhere */
    assert_true(lan_passes('A', "mG mA 0800 ip4:A,G,6 tcp:9,80,02", 'G'));
    assert_true(lan_passes('A', "mG mA 0800 ip4:A,W,6 tcp:9,80,02", 'G'));
    /* and it is only A's */
    assert_true(lan_passes('B', "mA mB 0800 ip4:B,A,6 tcp:9,80,02", 'A'));
}

static void test_allow_opens_what_it_names(void **state)
{
    (void)state;
    member->egress.is_default_deny = true;
    ALLOW("10.7.0.3/32", SPEC_EGRESS_PROTO_TCP, 443, 443);
    ALLOW("10.7.0.0/24", SPEC_EGRESS_PROTO_UDP, 5000, 5010);
    ALLOW("192.168.9.0/24", SPEC_EGRESS_PROTO_ALL, 53, 53);
    ALLOW("93.184.216.34", SPEC_EGRESS_PROTO_ALL, 0, 0);
    ALLOW("10.7.0.3", SPEC_EGRESS_PROTO_ICMP, 0, 0);
    ALLOW("fd07::/64", SPEC_EGRESS_PROTO_TCP, 8000, 8001);
    ALLOW("fd07::3", SPEC_EGRESS_PROTO_ICMP, 0, 0);
    apply();
    PASS(TCP4("B", "443", "02"), UDP4("B", "5000"), UDP4("B", "5010"), TCP4("P", "53", "02"),
         UDP4("P", "53"), UDP4("W", "1"), TCP4("W", "1", "02"), "mB mA 0800 ip4:A,W,47 x40",
         ICMP4("B", "0800"), TCP6("B", "8001", "02"), ICMP6("B", "128"),
         "mB mA 0800 ip4:A,B,17,2000 udp:9,5001 x40");
    REFUSE(TCP4("B", "444", "02"), TCP4("P", "443", "02"), UDP4("B", "443"), UDP4("B", "4999"),
           UDP4("B", "5011"), ICMP4("P", "0800"), TCP6("B", "8002", "02"), UDP6("B", "8001"),
           TCP6("P", "8001", "02"), "mB mA 0800 ip4:A,P,47 x40", UDP4("P", "54"),
           "mB mA 0800 ip4:A,B,17,2000 udp:9,5011 x40",
           "mB mA 86dd ip6:gA,gB,44,64 11000001 00000001 udp:9,8001 x40");
    check_answers();
}

static void test_allow_is_judged_before_deny(void **state)
{
    (void)state;
    ALLOW("10.7.0.3", SPEC_EGRESS_PROTO_TCP, 80, 80);
    DENY("10.7.0.0/24", SPEC_EGRESS_PROTO_TCP, 0, 0);
    DENY("0.0.0.0/0", SPEC_EGRESS_PROTO_UDP, 53, 53);
    DENY("::/0", SPEC_EGRESS_PROTO_ALL, 0, 0);
    apply();
    PASS(TCP4("B", "80", "02"), UDP4("B", "54"), TCP4("W", "81", "02"), ICMP4("B", "0800"));
    REFUSE(TCP4("B", "81", "02"), UDP4("B", "53"), UDP4("W", "53"), UDP6("B", "54"),
           TCP6("W", "80", "02"));
    check_answers();
}

static void test_restricted_reaches_own_network_and_world(void **state)
{
    (void)state;
    member->egress.is_restricted = true;
    apply();
    PASS(TCP4("B", "80", "02"), UDP4("B", "53"), TCP4("W", "80", "02"), TCP6("B", "80", "02"),
         TCP6("W", "80", "02"));
    REFUSE(TCP4("P", "80", "02"), UDP4("P", "53"), TCP6("P", "80", "02"),
           "mB mA 0800 45 00 001c 0001 0000 40 11 1d71 aA a9fea9fe 0009 0009 0008 0000");
    ALLOW("192.168.9.9", SPEC_EGRESS_PROTO_TCP, 80, 80);
    apply();
    PASS(TCP4("P", "80", "02"));
    REFUSE(TCP4("P", "81", "02"));
}

static void test_network_and_machine_must_both_allow(void **state)
{
    (void)state;
    member->net_egress.is_default_deny = true;
    add_rule(member->net_egress.allow, "10.7.0.3", SPEC_EGRESS_PROTO_TCP, 80, 90);
    ALLOW("10.7.0.3", SPEC_EGRESS_PROTO_UDP, 53, 53);
    DENY("10.7.0.3", SPEC_EGRESS_PROTO_TCP, 81, 81);
    apply();
    PASS(TCP4("B", "80", "02"), TCP4("B", "90", "02"));
    REFUSE(UDP4("B", "53"), TCP4("B", "81", "02"), UDP4("B", "54"), TCP4("W", "80", "02"),
           TCP6("B", "80", "02"));
    check_answers();
    add_rule(member->net_egress.allow, "10.7.0.3", SPEC_EGRESS_PROTO_UDP, 0, 0);
    apply();
    PASS(UDP4("B", "53"), UDP4("B", "54"), TCP4("B", "80", "02"));
    REFUSE(TCP4("B", "81", "02"), UDP4("W", "53"));
}

static void check_no_chains(void)
{
    g_autoptr(GPtrArray) chains = net_nft_list_chains(NET_NFT_BRIDGE, NULL);
    for (unsigned i = 0; i < chains->len; i++) {
        assert_false(g_str_has_prefix(chains->pdata[i], NET_NFT_MEMBER_PREFIX));
    }
}

static void test_policy_changes_and_goes(void **state)
{
    (void)state;
    uint32_t before, after;
    member->egress.is_hermetic = true;
    apply();
    REFUSE(TCP4("B", "80", "02"));
    member->egress.is_hermetic = false;
    DENY("10.7.0.3", SPEC_EGRESS_PROTO_TCP, 80, 80);
    apply();
    REFUSE(TCP4("B", "80", "02"));
    PASS(TCP4("B", "81", "02"));
    assert_true(net_nft_generation(&before, NULL));
    apply();
    assert_true(net_nft_generation(&after, NULL));
    assert_int_equal(before, after);
    g_free(g_ptr_array_steal_index(member->egress.deny, 0));
    apply();
    PASS(TCP4("B", "80", "02"));
    check_no_chains();
}

static unsigned count_differences(const NetMember *of)
{
    g_autoptr(GPtrArray) differences = g_ptr_array_new_with_free_func(g_free);
    assert_true(net_filter_check(of, differences, NULL));
    return differences->len;
}

/* Its change was written, and whoever did it died before telling. */
static void test_policy_without_memory_of_it_goes(void **state)
{
    (void)state;
    g_autoptr(NetMember) hermetic = net_member_copy(member);
    hermetic->egress.is_hermetic = true;
    lan_apply(hermetic, member);
    REFUSE(TCP4("B", "80", "02"));
    assert_int_equal(count_differences(member), 2);
    lan_apply(member, NULL);
    assert_int_equal(count_differences(member), 0);
    PASS(TCP4("B", "80", "02"));
    check_no_chains();
    /* and the other way round, other rules of the same name included */
    lan_apply(hermetic, NULL);
    member->egress.is_default_deny = true;
    ALLOW("10.7.0.3", SPEC_EGRESS_PROTO_TCP, 80, 80);
    assert_int_equal(count_differences(member), 1);
    lan_apply(member, NULL);
    assert_int_equal(count_differences(member), 0);
    PASS(TCP4("B", "80", "02"));
    REFUSE(TCP4("B", "81", "02"));
}

static void test_removal_is_repeatable_and_whole(void **state)
{
    (void)state;
    member->egress.is_hermetic = true;
    apply();
    for (int i = 0; i < 3; i++) {
        lan_apply(NULL, member);
    }
    for (const char *const *set = net_filter_sets; *set; set++) {
        g_autoptr(GPtrArray) list = net_nft_list(NET_NFT_BRIDGE, *set, NULL);
        for (unsigned i = 0; i < list->len; i++) {
            assert_string_not_equal(((NetNftElement *)list->pdata[i])->comment, member->owner);
        }
    }
    check_no_chains();
    REFUSE(TCP4("B", "80", "12"), "mN mA 0806 00010800060400 01 mA aA x6 aB x18");
}

static void test_without_tap_there_is_nothing(void **state)
{
    (void)state;
    g_autoptr(NetMember) none = net_member_new();
    g_autoptr(NetNftBatch) batch = net_nft_batch_new();
    net_filter_append(batch, none, NULL);
    net_filter_append(batch, NULL, none);
    net_filter_append(batch, NULL, NULL);
    assert_int_equal(net_nft_batch_size(batch), 0);
    assert_int_equal(count_differences(none), 0);
}

int main(void)
{
#define POLICY_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        POLICY_TEST(test_without_policy_all_passes),
        POLICY_TEST(test_default_deny_lets_out_answers_only),
        POLICY_TEST(test_default_deny_with_br_netfilter),
        POLICY_TEST(test_answers_to_udp_pass_after_the_question),
        POLICY_TEST(test_who_asks_too_much_is_not_remembered),
        POLICY_TEST(test_long_talk_counts_once),
        POLICY_TEST(test_hermetic_ignores_allow),
        POLICY_TEST(test_allow_opens_what_it_names),
        POLICY_TEST(test_allow_is_judged_before_deny),
        POLICY_TEST(test_restricted_reaches_own_network_and_world),
        POLICY_TEST(test_network_and_machine_must_both_allow),
        POLICY_TEST(test_policy_changes_and_goes),
        POLICY_TEST(test_policy_without_memory_of_it_goes),
        POLICY_TEST(test_removal_is_repeatable_and_whole),
        POLICY_TEST(test_without_tap_there_is_nothing),
    };
    if (!lan_make()) {
        return 77;
    }
    lan_set_br_netfilter(false);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
