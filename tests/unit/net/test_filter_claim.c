#include "net/filter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/unit/net/helper_ip.h"
#include "tests/unit/net/helper_lan.h"

/* Link-local addresses that guests choose (S is A's, T is B's), and taps of which nobody knows the
 * addresses (C). */

enum { CLAIMS_MAX = 8, LIFE_S = 86400 };

#define DAD(target)          "mM mA 86dd ip6:gZ,lM,58 icmp6:135 x4 " target
#define DAD_B(target)        "mM mB 86dd ip6:gZ,lM,58 icmp6:135 x4 " target
#define USE(source)          "mD mA 86dd ip6:" source ",lD,17 udp:9,9 x20"
#define USE_B(source)        "mD mB 86dd ip6:" source ",lD,17 udp:9,9 x20"
#define NA(source, target)   "mM mA 86dd ip6:" source ",lM,58 icmp6:136 20000000 " target " 0201 mA"
#define NA_B(source, target) "mM mB 86dd ip6:" source ",lM,58 icmp6:136 20000000 " target " 0201 mB"

/* The mark is ours only while a frame is judged: a witness behind us drops what still has one. */
static const char witness[] =
    "add table bridge witness\n"
    "add chain bridge witness behind { type filter hook prerouting priority 100; }\n"
    "flush chain bridge witness behind\n"
    "add rule bridge witness behind meta mark != 0 drop\n";

static int set_up(void **state)
{
    (void)state;
    lan_install();
    lan_register_all();
    assert_true(net_nft_run_text(witness, NULL));
    return 0;
}

static void test_stable_private_guest_works(void **state)
{
    (void)state;
    for (const char *to = "BG"; *to; to++) {
        assert_true(lan_passes('A', DAD("lS"), *to));
        assert_true(lan_passes('A', USE("lS"), *to));
        assert_true(lan_passes('A', NA("lS", "lS"), *to));
        assert_true(lan_passes('A', "mM mA 86dd ip6:lS,lM,58 icmp6:135 x4 gD 0101 mA", *to));
        assert_true(lan_passes('A', "mM mA 86dd ip6:lS,lM,58 icmp6:133 x4 0101 mA", *to));
        assert_true(lan_passes('A', "mM mA 86dd ip6:lS,lM,17,1 udp:546,547 01000001 x20", *to));
        /* its EUI-64 address stays its own, and its neighbour has its own one */
        assert_true(lan_passes('A', USE("lA"), *to));
    }
    assert_true(lan_passes('B', DAD_B("lT"), 'A'));
    assert_true(lan_passes('B', USE_B("lT"), 'A'));
    /* other frames are judged as before */
    assert_false(lan_passes('A', "mM mA 86dd ip6:lS,lM,58 icmp6:134 40000708 x8 0101 mA", 'B'));
    assert_false(lan_passes('A', "mM mA 86dd ip6:lS,lM,17 udp:547,546 x20", 'B'));
    assert_false(lan_passes('A', "mM mA 86dd ip6:lS,lM,58 icmp6:135 x4 gD 0101 mB", 'B'));
}

static void test_first_use_without_dad_claims(void **state)
{
    (void)state;
    assert_true(lan_passes('A', USE("lS"), 'B'));
    assert_false(lan_passes('B', USE_B("lS"), 'A'));
    assert_true(lan_passes('A', USE("lS"), 'B'));
}

/* That A's claim can't be used, announced or disturbed by B. */
static void check_not_for_b(void)
{
    for (const char *to = "AG"; *to; to++) {
        assert_false(lan_passes('B', USE_B("lS"), *to));
        assert_false(lan_passes('B', DAD_B("lS"), *to));
        assert_false(lan_passes('B', NA_B("lS", "lS"), *to));
        assert_false(lan_passes('B', NA_B("lB", "lS"), *to));
        assert_false(lan_passes('B', NA_B("gB", "lS"), *to));
        assert_false(lan_passes('B', "mM mB 86dd ip6:lS,lM,58 icmp6:135 x4 gD 0101 mB", *to));
        assert_false(lan_passes('B', "mM mB 86dd ip6:lS,lM,58 icmp6:133 x4 0101 mB", *to));
    }
}

static void test_claimed_by_neighbour_is_refused(void **state)
{
    (void)state;
    assert_true(lan_passes('A', DAD("lS"), 'B'));
    check_not_for_b();
    assert_true(lan_passes('A', USE("lS"), 'B'));
    /* nor by the one without addresses */
    assert_false(lan_passes('C', "mD mC 86dd ip6:lS,lD,17 udp:9,9 x20", 'B'));
    assert_false(lan_passes('C', "mM mC 86dd ip6:gZ,lM,58 icmp6:135 x4 lS", 'B'));
}

static void test_claims_outlive_new_base_rules(void **state)
{
    (void)state;
    assert_true(lan_passes('A', DAD("lS"), 'B'));
    assert_true(net_nft_run_text(net_filter_base_text, NULL));
    check_not_for_b();
    assert_true(lan_passes('A', USE("lS"), 'B'));
}

/* What an administrator saves with nft can be read by nft again, and is the same. */
static void test_listed_table_can_be_loaded(void **state)
{
    (void)state;
    g_autofree char *path = NULL;
    int fd = g_file_open_tmp("filter-XXXXXX", &path, NULL);
    g_autoptr(NetMember) b = lan_member('B'), denied = lan_member('B');
    const char *why;
    SpecEgressRule *rule = g_new0(SpecEgressRule, 1);
    assert_true(base_cidr_parse("10.7.0.0/24", &rule->to, &why));
    rule->port_first = 80;
    rule->port_last = 90;
    g_ptr_array_add(denied->egress.allow, rule);
    denied->egress.is_restricted = true;
    denied->net_egress.is_default_deny = denied->net_egress.is_restricted = true;
    lan_apply(denied, b);
    assert_true(lan_passes('A', DAD("lS"), 'B'));
    assert_true(lan_passes('O', "mM mO 86dd ip6:lO,lM,58 icmp6:134 40000708 x8 0101 mO", 'B'));
    assert_true(lan_passes('A', "mB mA 0800 ip4:A,B,17 udp:9,9 x20", 'B'));
    g_autofree char *listed = test_command("nft list table bridge vm_driver");
    assert_int_equal(write(fd, listed, strlen(listed)), strlen(listed));
    close(fd);
    lan_uninstall();
    g_autofree char *loaded = test_command("nft -f %s", path);
    unlink(path);
    assert_non_null(loaded);
    check_not_for_b();
    assert_true(lan_passes('A', USE("lS"), 'B'));
    assert_false(lan_passes('A', USE("lO"), 'B'));
    assert_false(lan_passes('B', "mA mB 0800 ip4:B,A,6 tcp:9,9,02", 'A'));
    assert_true(lan_passes('B', "mA mB 0800 ip4:B,A,17 udp:9,9 x20", 'A'));
    g_autoptr(GPtrArray) differences = g_ptr_array_new_with_free_func(g_free);
    assert_true(net_filter_check(denied, differences, NULL));
    assert_int_equal(differences->len, 0);
}

static void test_addresses_of_members_and_gateway_are_never_claimed(void **state)
{
    (void)state;
    static const char *const lines[] = {
        DAD("lB"),
        USE("lB"),
        NA("lA", "lB"),
        DAD("lG"),
        USE("lG"),
        NA("lA", "lG"),
        NA("gA", "lG"),
        /* the prefix itself, and what is no fe80::/64 */
        "mD mA 86dd 60000000 0008 11 ff fe800000000000000000000000000000 lD udp:9,9",
        "mD mA 86dd 60000000 0008 11 ff fe900000000000000000000000000009 lD udp:9,9",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
        assert_false(lan_passes('A', lines[i], 'B'));
        assert_false(lan_passes('A', lines[i], 'G'));
    }
    assert_true(lan_passes('B', USE_B("lB"), 'A'));
}

static void test_member_that_comes_later_gets_its_own(void **state)
{
    (void)state;
    g_autoptr(NetMember) b = lan_member('B');
    lan_apply(NULL, b);
    assert_true(lan_passes('A', DAD("lB"), 'G'));
    assert_true(lan_passes('A', USE("lB"), 'G'));
    lan_apply(b, NULL);
    assert_false(lan_passes('A', USE("lB"), 'G'));
    assert_false(lan_passes('A', NA("lA", "lB"), 'G'));
    assert_true(lan_passes('B', USE_B("lB"), 'A'));
    assert_true(lan_passes('B', DAD_B("lB"), 'A'));
}

static void test_router_that_was_heard_wins(void **state)
{
    (void)state;
    /* A was faster than the router's first advertisement */
    assert_true(lan_passes('A', USE("lO"), 'B'));
    assert_true(lan_passes('O', "mM mO 86dd ip6:lO,lM,58 icmp6:134 40000708 x8 0101 mO", 'B'));
    assert_false(lan_passes('A', USE("lO"), 'B'));
    assert_false(lan_passes('A', NA("lA", "lO"), 'B'));
    assert_false(lan_passes('A', DAD("lO"), 'B'));
    /* what a guest sends makes it no router */
    assert_false(lan_passes('A', "mM mA 86dd ip6:lT,lM,58 icmp6:134 40000708 x8", 'B'));
    assert_true(lan_passes('B', USE_B("lT"), 'A'));
}

/* Uses fe80::NUMBER as `from`. */
static bool use_number(char from, unsigned number, char to)
{
    g_autofree char *line = g_strdup_printf(
        "mD m%c 86dd 60000000 0010 11 40 fe800000000000000000ffff%08x lD udp:9,9 x8", from, number);
    return lan_passes(from, line, to);
}

static void test_claims_are_limited_for_each_tap(void **state)
{
    (void)state;
    for (unsigned i = 1; i <= CLAIMS_MAX; i++) {
        assert_true(use_number('A', i, 'B'));
    }
    for (unsigned i = CLAIMS_MAX + 1; i <= 100; i++) {
        assert_false(use_number('A', i, 'B'));
    }
    /* what it has works on; others have their own */
    for (unsigned i = 1; i <= CLAIMS_MAX; i++) {
        assert_true(use_number('A', i, 'B'));
    }
    assert_true(lan_passes('A', USE("lA"), 'B'));
    assert_true(lan_passes('B', DAD_B("lT"), 'A'));
    assert_true(use_number('B', CLAIMS_MAX + 1, 'A'));
}

static void test_limit_of_claims_holds_for_targets(void **state)
{
    (void)state;
    unsigned n_passed = 0;
    for (unsigned i = 1; i <= 100; i++) {
        g_autofree char *line =
            g_strdup_printf("mM mA 86dd ip6:gZ,lM,58 icmp6:135 x4 fe800000000000000000ffff%08x", i);
        n_passed += lan_passes('A', line, 'B');
    }
    assert_int_equal(n_passed, CLAIMS_MAX);
    assert_false(use_number('A', 1000, 'B'));
}

static void test_refused_frames_claim_nothing(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3 * CLAIMS_MAX; i++) {
        lan_passes('A', USE("lB"), 'B');
        lan_passes('A', DAD("lG"), 'B');
    }
    for (unsigned i = 1; i <= CLAIMS_MAX; i++) {
        assert_true(use_number('A', i, 'B'));
    }
}

/* --- how long a claim lives --------------------------------------------------- */

static json_int_t seconds_left(const char *set)
{
    g_autofree char *text = test_command("nft -j list set bridge vm_driver %s", set);
    json_int_t left = -1;
    json_t *element = NULL;
    json_t *root = json_loads(text, 0, NULL);
    if (!json_unpack(root, "{s:[{},{s:{s:[{s:o}]}}]}", "nftables", "set", "elem", "elem",
                     &element)) {
        left = json_integer_value(json_object_get(element, "expires"));
    }
    json_decref(root);
    return left;
}

static void test_use_renews_claim(void **state)
{
    (void)state;
    const char *sets[] = {"own", "held"};
    assert_true(lan_passes('A', USE("lS"), 'B'));
    for (size_t i = 0; i < G_N_ELEMENTS(sets); i++) {
        assert_in_range(seconds_left(sets[i]), LIFE_S - 60, LIFE_S);
    }
    /* as if it had been silent for nearly all of it */
    g_autoptr(GPtrArray) own = net_nft_list(NET_NFT_BRIDGE, "own", NULL);
    g_autoptr(GPtrArray) held = net_nft_list(NET_NFT_BRIDGE, "held", NULL);
    assert_int_equal(own->len, 1);
    assert_int_equal(held->len, 1);
    uint32_t mark;
    memcpy(&mark, ((NetNftElement *)held->pdata[0])->key.bytes, sizeof mark);
    g_autofree char *text = g_strdup_printf(
        "flush set bridge vm_driver own\nflush set bridge vm_driver held\n"
        "add element bridge vm_driver own { \"vmta\" . 0xfe800000000000008a115bd03742c601 timeout "
        "1d expires 90s }\n"
        "add element bridge vm_driver held { 0x%08x . 0xfe800000000000008a115bd03742c601 timeout "
        "1d expires 90s }\n",
        mark);
    assert_true(net_nft_run_text(text, NULL));
    assert_in_range(seconds_left("own"), 1, 90);
    assert_in_range(seconds_left("held"), 1, 90);
    assert_true(lan_passes('A', NA("lS", "lS"), 'B'));
    assert_in_range(seconds_left("own"), LIFE_S - 60, LIFE_S);
    assert_in_range(seconds_left("held"), LIFE_S - 60, LIFE_S);
    /* somebody else's try renews nothing */
    assert_true(net_nft_run_text(text, NULL));
    check_not_for_b();
    assert_in_range(seconds_left("held"), 1, 90);
}

/* --- taps of unknown addresses ------------------------------------------------ */

static const char *const free_passes[] = {
    "mN mC 0806 00010800060400 01 mC aR x6 aD x18",
    "mD mC 0806 00010800060400 02 mC aR mD aD x18",
    "mN mC 0806 00010800060400 01 mC x4 x6 aR x18",
    "mD mC 0800 ip4:R,D,17 udp:9,9 x20",
    "mD mC 0800 ip4:W,D,6 tcp:9,9,02",
    "mN mC 0800 ip4:Z,N,17 udp:68,67 01010600 x24 mC x10 x192 63825363 350101",
    "mD mC 0800 ip4:R,D,17 udp:68,67 01010600 x8 aR x12 mC x10 x192 63825363 350103",
    "mD mC 86dd ip6:gR,gD,17 udp:9,9 x20",
    "mD mC 86dd ip6:gW,gD,6 tcp:9,9,02",
    "mM mC 86dd ip6:gZ,lM,58 icmp6:135 x4 gR",
    "mM mC 86dd ip6:gR,lM,58 icmp6:135 x4 gD 0101 mC",
    "mM mC 86dd ip6:gR,lM,58 icmp6:136 20000000 gR 0201 mC",
    "mD mC 86dd ip6:lC,lD,17 udp:9,9 x20",
    "mD mC 86dd ip6:lR,lD,17 udp:9,9 x20",
};

static const char *const free_refused[] = {
    /* MAC */
    "mD mB 0800 ip4:R,D,17 udp:9,9 x20",
    "mN mC 0806 00010800060400 01 mB aR x6 aD x18",
    "mD mC 86dd ip6:gR,gD,58 icmp6:136 60000000 gR 0201 mB",
    "mD mC 86dd ip6:gR,gD,58 icmp6:135 x4 gD 0101 mB",
    /* what is known to be another's */
    "mD mC 0800 ip4:B,D,17 udp:9,9 x20",
    "mD mC 0806 00010800060400 02 mC aB mD aD x18",
    "mN mC 0806 00010800060400 01 mC x4 x6 aB x18",
    "mD mC 86dd ip6:gB,gD,17 udp:9,9 x20",
    "mD mC 86dd ip6:lB,lD,17 udp:9,9 x20",
    "mM mC 86dd ip6:gZ,lM,58 icmp6:135 x4 gB",
    "mM mC 86dd ip6:gR,lM,58 icmp6:136 20000000 gB 0201 mC",
    "mM mC 86dd ip6:lC,lM,58 icmp6:136 20000000 lB 0201 mC",
    "mD mC 86dd ip6:lG,lD,17 udp:9,9 x20",
    /* what nobody is */
    "mD mC 0800 ip4:L,D,17 udp:9,9 x20",
    "mD mC 0800 ip4:M,D,17 udp:9,9 x20",
    "mD mC 86dd ip6:gL,gD,17 udp:9,9 x20",
    "mD mC 86dd ip6:lM,gD,17 udp:9,9 x20",
    /* a server, router, bridge */
    "mN mC 0800 ip4:R,N,17 udp:67,68 020106 x100",
    "mD mC 0800 ip4:R,D,17 udp:68,67 01010600 x8 aB x12 mB x10 x192 63825363 350107",
    "mD mC 86dd ip6:gR,lD,17 udp:547,546 07000001 x20",
    "mM mC 86dd ip6:lC,lM,58 icmp6:134 40000708 x8 0101 mC",
    "mD mC 86dd ip6:lC,lD,58 icmp6:137 x4 lC gW x8",
    "mD mC 0800 ip4:R,D,1 0501 0000 aR 4500001c 00010000 4011 0000 aD aW x8",
    "0180c2000000 mC 0026 424203 000000 x50",
    "mD mC 8100 0005 0800 ip4:R,D,17 udp:9,9 x20",
    "mD mC 88b5 x46",
};

static void check_free(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(free_passes); i++) {
        if (!lan_passes('C', free_passes[i], 'B') || !lan_passes('C', free_passes[i], 'G')) {
            fail_msg("did not come: %s", free_passes[i]);
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(free_refused); i++) {
        if (lan_passes('C', free_refused[i], 'B') || lan_passes('C', free_refused[i], 'G')) {
            fail_msg("came: %s", free_refused[i]);
        }
    }
}

static void test_tap_of_unknown_addresses_keeps_to_its_mac(void **state)
{
    (void)state;
    lan_uninstall();
    for (size_t i = 0; i < G_N_ELEMENTS(free_refused); i++) {
        assert_true(lan_passes('C', free_refused[i], 'B'));
    }
    set_up(NULL);
    check_free();
    lan_set_br_netfilter(true);
    check_free();
    lan_set_br_netfilter(false);
}

static void test_known_address_makes_tap_strict(void **state)
{
    (void)state;
    g_autoptr(NetMember) c = lan_member('C');
    g_autoptr(NetMember) known = net_member_copy(c);
    base_ip_parse("10.7.0.4", &known->ip4);
    lan_apply(known, c);
    assert_true(lan_passes('C', "mD mC 0800 ip4:C,D,17 udp:9,9 x20", 'B'));
    assert_false(lan_passes('C', "mD mC 0800 ip4:R,D,17 udp:9,9 x20", 'B'));
    assert_true(lan_passes('C', "mD mC 86dd ip6:gR,gD,17 udp:9,9 x20", 'B'));
    lan_apply(c, known);
    assert_true(lan_passes('C', "mD mC 0800 ip4:R,D,17 udp:9,9 x20", 'B'));
}

/* --- towards a tap ------------------------------------------------------------ */

static void test_tap_gets_only_what_is_for_it(void **state)
{
    (void)state;
    static const char *const lines[] = {"mR mO 0800 ip4:O,R,17 udp:9,9 x20",
                                        "mC mO 0800 ip4:O,C,17 udp:9,9 x20",
                                        "0180c2000000 mO 0026 424203 000000 x50"};
    for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
        assert_false(lan_passes('O', lines[i], 'B'));
    }
    assert_true(lan_passes('O', "mB mO 0800 ip4:O,B,17 udp:9,9 x20", 'B'));
    assert_true(lan_passes('O', "mN mO 0806 00010800060400 01 mO aO x6 aB x18", 'B'));
    assert_true(lan_passes('O', "mM mO 88b5 x46", 'B'));
    lan_uninstall();
    for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
        assert_true(lan_passes('O', lines[i], 'B'));
    }
}

static void test_links_of_others_are_not_judged(void **state)
{
    (void)state;
    assert_true(lan_passes('O', "mG mR 0800 ip4:W,G,17 udp:9,9 x20", 'G'));
    assert_true(lan_passes('O', "mG mR 88b5 x46", 'G'));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_stable_private_guest_works, set_up),
        cmocka_unit_test_setup(test_first_use_without_dad_claims, set_up),
        cmocka_unit_test_setup(test_claimed_by_neighbour_is_refused, set_up),
        cmocka_unit_test_setup(test_claims_outlive_new_base_rules, set_up),
        cmocka_unit_test_setup(test_listed_table_can_be_loaded, set_up),
        cmocka_unit_test_setup(test_addresses_of_members_and_gateway_are_never_claimed, set_up),
        cmocka_unit_test_setup(test_member_that_comes_later_gets_its_own, set_up),
        cmocka_unit_test_setup(test_router_that_was_heard_wins, set_up),
        cmocka_unit_test_setup(test_claims_are_limited_for_each_tap, set_up),
        cmocka_unit_test_setup(test_limit_of_claims_holds_for_targets, set_up),
        cmocka_unit_test_setup(test_refused_frames_claim_nothing, set_up),
        cmocka_unit_test_setup(test_use_renews_claim, set_up),
        cmocka_unit_test_setup(test_tap_of_unknown_addresses_keeps_to_its_mac, set_up),
        cmocka_unit_test_setup(test_known_address_makes_tap_strict, set_up),
        cmocka_unit_test_setup(test_tap_gets_only_what_is_for_it, set_up),
        cmocka_unit_test_setup(test_links_of_others_are_not_judged, set_up),
    };
    if (!lan_make()) {
        return 77;
    }
    lan_set_br_netfilter(false);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
