#include "net/rules.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/child.h"
#include "net/nft.h"
#include "tests/unit/net/netns.h"
#include "tests/unit/net/rules_fixture.h"

/* What other programs have in nf_tables, and what of ours is left behind. */

#define FREE_TEXTS __attribute__((cleanup(free_texts)))

static void free_texts(GPtrArray **texts)
{
    if (*texts) {
        g_ptr_array_unref(*texts);
    }
}

/* Output of a program, NULL: it failed. Transfer full. */
static char *run(const char *words)
{
    g_auto(GStrv) argv = g_strsplit(words, " ", -1);
    g_autoptr(GError) error = NULL;
    char *out = NULL;
    BaseChild child = BASE_CHILD_INIT;
    child.argv = (const char *const *)argv;
    if (!base_child_run(&child, &out, NULL, &error)) {
        print_message("%s: %s\n", words, error->message);
        return NULL;
    }
    return out;
}

static void must_run(const char *words)
{
    g_autofree char *out = run(words);
    assert_non_null(out);
}

static void write_rules(const char *text)
{
    g_autoptr(GError) error = NULL;
    if (!net_nft_run_text(text, &error)) {
        fail_msg("%s", error->message);
    }
}

/* All texts, one a line. Transfer full. */
static char *find_drops(void)
{
    g_autoptr(GPtrArray) texts = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    if (!net_rules_find_foreign_drops(TEST_BRIDGE, texts, &error)) {
        fail_msg("%s", error->message);
    }
    g_ptr_array_add(texts, NULL);
    return g_strjoinv("\n", (char **)texts->pdata);
}

/* --- drops -------------------------------------------------------------------- */

#define BASE(hook, policy)                                                                         \
    "table inet other {\n"                                                                         \
    "chain c { type filter hook " hook " priority 0; policy " policy ";\n"

static const struct {
    const char *rules;
    const char *found; /* part of the text, "": nothing is told */
} drop_cases[] = {
    {"", ""},
    {BASE("forward", "accept") "ct state invalid drop\n}\n}\n", ""},
    {BASE("forward", "drop") "}\n}\n", "chain c: policy drop drops what guests on 'vmbt' send out"},
    {BASE("forward", "drop") "ct state established,related accept\n}\n}\n",
     "chain c: policy drop drops what comes in for guests on 'vmbt'"},
    {BASE("forward", "drop") "iifname \"vmb*\" accept\noifname vmbt accept\n}\n}\n", ""},
    {BASE("forward", "drop") "iifname { vmbt, docker0 } accept\nct status dnat accept\n}\n}\n", ""},
    {BASE("forward", "accept") "iifname docker0 drop\noifname != docker0 ip saddr 10.0.0.0/8 "
                               "drop\n}\n}\n",
     ""},
    {BASE("forward", "accept") "iifname vmbt reject\n}\n}\n", "chain c: reject (rule with handle"},
    {BASE("input", "drop") "iifname lo accept\n}\n}\n",
     "chain c: policy drop drops what guests on 'vmbt' ask this host for (DNS)"},
    {"table inet firewalld {\nchain deep {\nreject with icmpx admin-prohibited\n}\n"
     "chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept;\n"
     "ct state established,related accept\nct status dnat accept\niifname lo accept\n"
     "jump deep\n}\n}\n",
     "table inet firewalld, chain deep: reject (rule with handle 3) drops what guests on 'vmbt' "
     "send out - firewall-cmd --zone=trusted --add-interface=vmbt"},
    {"table bridge other {\nchain c { type filter hook forward priority 0; policy drop;\n"
     "iifname \"vmt*\" oifname \"vmt*\" accept\n}\n}\n",
     ""},
    {"table bridge other {\nchain c { type filter hook forward priority 0; policy accept;\n"
     "iifname \"vmt*\" drop\n}\n}\n",
     "table bridge other, chain c: drop (rule with handle 2) drops what guests on 'vmbt' send each "
     "other - "},
    {BASE("prerouting", "drop") "}\n}\n", ""}, /* none of these packets is judged there by name */
};

static void test_drops_when_other_tables_have_them_then_each_is_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(drop_cases); i++) {
        write_rules("flush ruleset\n");
        write_rules(*drop_cases[i].rules ? drop_cases[i].rules : "flush ruleset\n");
        g_autofree char *texts = find_drops();
        bool is_as_wanted =
            *drop_cases[i].found ? strstr(texts, drop_cases[i].found) != NULL : *texts == '\0';
        if (!is_as_wanted) {
            fail_msg("case %zu: '%s'", i, texts);
        }
    }
}

static void test_drops_when_only_our_own_rules_refuse_then_none_is_told(void **state)
{
    (void)state;
    write_rules("flush ruleset\n");
    NetRulesNetwork network = test_network(SPEC_NET_MODE_ISOLATED);
    assert_true(net_rules_add_network(&network, NULL));
    g_autofree char *texts = find_drops();
    assert_string_equal(texts, "");
}

/* --- hooks -------------------------------------------------------------------- */

/* As Docker leaves it: its own links pass, the rest meets the policy. */
static void make_docker(void)
{
    static const char *const commands[] = {
        "iptables -w 10 -N DOCKER-USER",
        "iptables -w 10 -A DOCKER-USER -j RETURN",
        "iptables -w 10 -A FORWARD -j DOCKER-USER",
        "iptables -w 10 -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "iptables -w 10 -A FORWARD -i docker0 -j ACCEPT",
        "iptables -w 10 -P FORWARD DROP",
    };
    write_rules("flush ruleset\n");
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        must_run(commands[i]);
    }
}

static void test_hooks_when_docker_is_there_then_let_through_and_iptables_still_reads(void **state)
{
    (void)state;
    make_docker();
    g_autofree char *before = run("iptables -w 10 -S"), *texts = find_drops();
    assert_non_null(strstr(texts, "table ip filter, chain FORWARD: policy drop"));
    NetRulesNetwork network = test_network(SPEC_NET_MODE_NAT);
    assert_true(net_rules_add_hooks(&network, NULL));
    uint32_t first = 0, second = 0;
    assert_true(net_nft_generation(&first, NULL));
    assert_true(net_rules_add_hooks(&network, NULL));
    assert_true(net_rules_add_hooks(&network, NULL));
    assert_true(net_nft_generation(&second, NULL));
    assert_int_equal(first, second);

    g_autofree char *shown = run("iptables -w 10 -S DOCKER-USER");
    assert_non_null(strstr(shown, "-A DOCKER-USER -s 10.9.0.0/16 -i vmbt -m comment --comment"));
    assert_non_null(strstr(shown, "-A DOCKER-USER -d 10.9.0.0/16 -o vmbt -m comment --comment"));
    must_run("iptables -w 10 -L -v -n");
    must_run(
        "iptables -w 10 -A DOCKER-USER -s 192.0.2.0/24 -j DROP"); /* Docker goes on as before */
    must_run("iptables -w 10 -D DOCKER-USER -s 192.0.2.0/24 -j DROP");
    g_autofree char *now = find_drops();
    assert_string_equal(now, "");

    assert_true(net_rules_remove_hooks(&network, NULL));
    assert_true(net_rules_remove_hooks(&network, NULL));
    g_autofree char *after = run("iptables -w 10 -S");
    assert_string_equal(after, before);
}

static void test_hooks_when_the_prefix_changed_then_the_old_rule_goes(void **state)
{
    (void)state;
    make_docker();
    NetRulesNetwork network = test_network(SPEC_NET_MODE_NAT);
    assert_true(net_rules_add_hooks(&network, NULL));
    network.cidr4 = test_cidr("10.77.0.0/24");
    assert_true(net_rules_add_hooks(&network, NULL));
    g_autofree char *shown = run("iptables -w 10 -S DOCKER-USER");
    assert_non_null(strstr(shown, "10.77.0.0/24"));
    assert_null(strstr(shown, "10.9.0.0/16"));
}

static void test_hooks_when_libvirt_refuses_then_ports_into_its_bridge_pass(void **state)
{
    (void)state;
    write_rules("flush ruleset\n");
    must_run("iptables -w 10 -N LIBVIRT_FWI");
    must_run("iptables -w 10 -A FORWARD -j LIBVIRT_FWI");
    must_run("iptables -w 10 -A LIBVIRT_FWI -o vmbt -j REJECT");
    g_autofree char *before = find_drops();
    assert_non_null(strstr(before, "chain LIBVIRT_FWI: REJECT"));
    NetRulesNetwork network = test_network(SPEC_NET_MODE_BRIDGE);
    assert_true(net_rules_add_hooks(&network, NULL));
    must_run("iptables -w 10 -L LIBVIRT_FWI");
    g_autofree char *after = find_drops();
    assert_string_equal(after, "");
    assert_true(net_rules_remove_hooks(&network, NULL));
}

static void test_hooks_when_there_are_none_then_nothing_is_written(void **state)
{
    (void)state;
    write_rules("flush ruleset\n");
    uint32_t first = 0, second = 0;
    NetRulesNetwork network = test_network(SPEC_NET_MODE_NAT);
    assert_true(net_nft_generation(&first, NULL));
    assert_true(net_rules_add_hooks(&network, NULL));
    assert_true(net_rules_remove_hooks(&network, NULL));
    assert_true(net_nft_generation(&second, NULL));
    assert_int_equal(first, second);
}

/* --- gc ----------------------------------------------------------------------- */

static void add_all(NetMember *member)
{
    g_autoptr(GError) error = NULL;
    test_port(member, NULL, (uint16_t)(8000 + member->mac[5]), 80, false, false);
    test_port(member, "127.0.0.1", (uint16_t)(9000 + member->mac[5]), 80, true, false);
    member->egress.is_restricted = true;
    if (!net_rules_apply(&member, 1, NULL, 0, &error)) {
        fail_msg("%s", error->message);
    }
}

static void assert_well(NetMember *member)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    assert_true(net_rules_check(&member, 1, lines, NULL));
    if (lines->len) {
        fail_msg("%s", (char *)lines->pdata[0]);
    }
}

static void test_sweep_when_owners_are_gone_then_theirs_goes_and_no_more(void **state)
{
    (void)state;
    make_docker();
    g_autoptr(GHashTable) owners = g_hash_table_new(g_str_hash, g_str_equal);
    NetMember *dead = test_member(2), *alive = test_member(3), *others = test_member(4);
    g_free(others->owner);
    others->owner = g_strdup("zzzzzzzz:1b4e28ba-2fa1-5d2b-883f-b9a761000004:0");
    NetRulesNetwork network = test_network(SPEC_NET_MODE_NAT), kept = network;
    kept.owner = TEST_STORE ":net:kept";
    kept.bridge = "vmbk";
    kept.cidr4 = test_cidr("10.10.0.0/16");
    kept.cidr6 = test_cidr("fd10::/64");
    assert_true(net_rules_add_network(&kept, NULL));
    g_autofree char *empty = run("nft list table inet vm_driver");
    add_all(alive);
    add_all(others);
    g_autofree char *before = run("nft list ruleset"), *iptables = run("iptables -w 10 -S");
    assert_true(net_rules_add_network(&network, NULL) && net_rules_add_hooks(&network, NULL));
    add_all(dead);

    g_hash_table_add(owners, alive->owner);
    g_hash_table_add(owners, (gpointer)kept.owner);
    FREE_TEXTS GPtrArray *dry = NULL, *texts = NULL, *none = NULL;
    uint32_t first = 0, second = 0;
    assert_true(net_nft_generation(&first, NULL));
    assert_true(net_rules_sweep(TEST_STORE, owners, true, &dry, NULL));
    assert_true(net_nft_generation(&second, NULL));
    assert_int_equal(first, second);
    assert_true(net_rules_sweep(TEST_STORE, owners, false, &texts, NULL));
    assert_int_equal(dry->len, texts->len);
    assert_true(texts->len >= 2);
    assert_true(net_rules_sweep(TEST_STORE, owners, false, &none, NULL));
    assert_int_equal(none->len, 0);

    g_autofree char *after = run("nft list ruleset"), *iptables_after = run("iptables -w 10 -S");
    assert_string_equal(after, before);
    assert_string_equal(iptables_after, iptables);
    assert_well(alive);
    assert_well(others);
    assert_non_null(strstr(empty, "10.10.0.0/16"));
    test_member_free(dead);
    test_member_free(alive);
    test_member_free(others);
}

static void test_sweep_when_a_foreign_bridge_has_another_user_then_it_stays(void **state)
{
    (void)state;
    write_rules("flush ruleset\n");
    g_autoptr(GHashTable) owners = g_hash_table_new(g_str_hash, g_str_equal);
    NetRulesNetwork dead = test_network(SPEC_NET_MODE_BRIDGE), alive = dead;
    alive.owner = "zzzzzzzz:net:other";
    assert_true(net_rules_add_network(&dead, NULL) && net_rules_add_network(&alive, NULL));
    FREE_TEXTS GPtrArray *texts = NULL, *lines = g_ptr_array_new_with_free_func(g_free);
    assert_true(net_rules_sweep(TEST_STORE, owners, false, &texts, NULL));
    assert_true(net_rules_check_network(&alive, lines, NULL));
    assert_int_equal(lines->len, 0);
}

static void test_sweep_when_there_are_no_tables_then_success(void **state)
{
    (void)state;
    write_rules("flush ruleset\n");
    g_autoptr(GHashTable) owners = g_hash_table_new(g_str_hash, g_str_equal);
    FREE_TEXTS GPtrArray *texts = NULL;
    assert_true(net_rules_sweep(TEST_STORE, owners, false, &texts, NULL));
    assert_int_equal(texts->len, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_drops_when_other_tables_have_them_then_each_is_named),
        cmocka_unit_test(test_drops_when_only_our_own_rules_refuse_then_none_is_told),
        cmocka_unit_test(test_hooks_when_docker_is_there_then_let_through_and_iptables_still_reads),
        cmocka_unit_test(test_hooks_when_the_prefix_changed_then_the_old_rule_goes),
        cmocka_unit_test(test_hooks_when_libvirt_refuses_then_ports_into_its_bridge_pass),
        cmocka_unit_test(test_hooks_when_there_are_none_then_nothing_is_written),
        cmocka_unit_test(test_sweep_when_owners_are_gone_then_theirs_goes_and_no_more),
        cmocka_unit_test(test_sweep_when_a_foreign_bridge_has_another_user_then_it_stays),
        cmocka_unit_test(test_sweep_when_there_are_no_tables_then_success),
    };
    return test_netns_enter() ? cmocka_run_group_tests(tests, NULL, NULL) : 77;
}
