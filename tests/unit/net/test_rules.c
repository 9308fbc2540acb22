#include "net/rules.h"
#include "net/rules_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/error.h"
#include "base/fd.h"
#include "net/nft.h"
#include "tests/unit/net/netns.h"
#include "tests/unit/net/rules_fixture.h"

static uint32_t generation(void)
{
    uint32_t value = 0;
    assert_true(net_nft_generation(&value, NULL));
    return value;
}

static void must(bool is_done, GError *const *error)
{
    if (!is_done) {
        fail_msg("%s", error && *error ? (*error)->message : "failed without an error");
    }
}

static void flush_all(void)
{
    assert_true(net_nft_run_text("flush ruleset\n", NULL));
}

static void apply(NetMember *member, NetMember *old)
{
    g_autoptr(GError) error = NULL;
    must(net_rules_apply(&member, 1, old ? &old : NULL, old != NULL, &error), &error);
}

static void remove_member(NetMember *member)
{
    g_autoptr(GError) error = NULL;
    must(net_rules_remove(&member, 1, &error), &error);
}

/* Lines of net_rules_check(), one under another; "": all well. Transfer full. */
static char *check(NetMember *member)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    must(net_rules_check(&member, 1, lines, &error), &error);
    g_ptr_array_add(lines, NULL);
    return g_strjoinv("\n", (char **)lines->pdata);
}

static void assert_well(NetMember *member)
{
    g_autofree char *lines = check(member);
    assert_string_equal(lines, "");
}

static unsigned count(const char *set)
{
    g_autoptr(GPtrArray) all = net_nft_list(NET_NFT_INET, set, NULL);
    unsigned n = 0;
    assert_non_null(all);
    for (unsigned i = 0; i < all->len; i++) {
        n += !((NetNftElement *)all->pdata[i])->is_end;
    }
    return n;
}

static void add_network(SpecNetMode mode)
{
    g_autoptr(GError) error = NULL;
    NetRulesNetwork network = test_network(mode);
    must(net_rules_add_network(&network, &error), &error);
}

/* Change the text? Then BASE_VERSION (net/rules_base.c) and both numbers here. */
static void test_base_when_its_text_changes_then_its_version_does(void **state)
{
    (void)state;
    uint32_t hash = 0;
    assert_int_equal(net_rules_base_version(&hash), 1);
    assert_int_equal(hash, 0x8e9e211c);
}

/* The seal of a newer program on rules that are as it wrote them. */
static void test_base_when_a_newer_program_wrote_it_then_it_stays(void **state)
{
    (void)state;
    flush_all();
    must(net_rules_ensure_base(NULL), NULL);
    uint32_t one = 1;
    NetNftFound found = NET_NFT_ABSENT;
    NetNftBytes key = {0};
    g_autofree char *seal = NULL;
    net_nft_bytes_add(&key, &one, sizeof one);
    must(net_nft_get(NET_NFT_INET, "base", &key, &found, NULL, &seal, NULL), NULL);
    assert_true(g_str_has_prefix(seal, "1 "));
    g_autofree char *newer = g_strdup_printf("99%s", seal + 1);
    for (unsigned i = 0; i < 2; i++) {
        g_autoptr(NetNftBatch) batch = net_nft_batch_new();
        net_nft_delete_element(batch, NET_NFT_INET, "base", json_integer(1));
        net_nft_add_element(batch, NET_NFT_INET, "base", json_integer(1), NULL,
                            i ? "99 0 0" : newer); /* first whole, then harmed */
        must(net_nft_commit(batch, NULL), NULL);
        must(net_rules_ensure_base(NULL), NULL);
        g_autofree char *now = NULL;
        must(net_nft_get(NET_NFT_INET, "base", &key, &found, NULL, &now, NULL), NULL);
        assert_string_equal(now, i ? seal : newer);
    }
}

static void test_base_when_asked_again_then_nothing_is_written(void **state)
{
    (void)state;
    flush_all();
    must(net_rules_ensure_base(NULL), NULL);
    uint32_t first = generation();
    must(net_rules_ensure_base(NULL), NULL);
    must(net_rules_ensure_base(NULL), NULL);
    assert_int_equal(generation(), first);
}

static void test_base_when_harmed_then_mended_and_elements_stay(void **state)
{
    (void)state;
    static const char *const harms[] = {
        "flush chain inet vm_driver pre\n",
        "insert rule inet vm_driver guard accept\n",
        "add chain inet vm_driver routed { policy drop; }\n",
        "flush chain inet vm_driver pre\ndelete chain inet vm_driver pre\n",
        "flush table bridge vm_driver\n",
        "delete table bridge vm_driver\n",
        "add table inet vm_driver { flags dormant; }\n",
        "flush set inet vm_driver base\n",
        "flush chain inet vm_driver pre\ndelete chain inet vm_driver pre\nadd chain inet vm_driver "
        "pre { type nat hook prerouting priority -99; }\n",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(harms); i++) {
        g_autoptr(GError) error = NULL;
        NetMember *member = test_member(2);
        flush_all();
        add_network(SPEC_NET_MODE_NAT);
        test_port(member, NULL, 8080, 80, false, false);
        apply(member, NULL);
        must(net_nft_run_text(harms[i], &error), &error);
        g_autofree char *lines = check(member);
        if (!g_str_has_prefix(lines, "base rules of nf_tables are missing or changed")) {
            fail_msg("after %s: '%s'", harms[i], lines);
        }
        must(net_rules_mend_base(&error), &error);
        assert_int_equal(count("pm4any"), 1);
        assert_int_equal(count("bridges"), 1);
        apply(member, NULL); /* what was in the bridge table, too */
        assert_well(member);
        uint32_t before = generation();
        must(net_rules_mend_base(&error), &error);
        assert_int_equal(generation(), before);
        test_member_free(member);
    }
}

static void test_base_when_a_set_has_another_type_then_all_anew(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    flush_all();
    must(net_nft_run_text("add table inet vm_driver\n"
                          "add set inet vm_driver bridges { type mark; }\n",
                          &error),
         &error);
    must(net_rules_ensure_base(&error), &error);
    add_network(SPEC_NET_MODE_NAT);
}

static void test_network_when_added_thrice_then_written_once_and_removed_whole(void **state)
{
    (void)state;
    flush_all();
    must(net_rules_ensure_base(NULL), NULL);
    for (SpecNetMode mode = SPEC_NET_MODE_NAT; mode < SPEC_NET_MODE_N; mode++) {
        g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
        NetRulesNetwork network = test_network(mode);
        add_network(mode);
        uint32_t first = generation();
        add_network(mode);
        add_network(mode);
        assert_int_equal(generation(), first);
        must(net_rules_check_network(&network, lines, NULL), NULL);
        assert_int_equal(lines->len, 0);
        must(net_rules_remove_network(&network, NULL), NULL);
        must(net_rules_remove_network(&network, NULL), NULL);
        static const char *const sets[] = {"bridges", "own",  "closed", "isolated", "foreign",
                                           "nat4",    "nat6", "nets4",  "nets6",    "users"};
        for (size_t i = 0; i < G_N_ELEMENTS(sets); i++) {
            assert_int_equal(count(sets[i]), 0);
        }
        g_autoptr(GPtrArray) chains = net_nft_list_chains(NET_NFT_INET, NULL);
        assert_int_equal(chains->len, 0); /* the last one takes the tables along */
        must(net_rules_check_network(&network, lines, NULL), NULL);
        assert_true(lines->len > 0);
    }
}

static void test_network_when_two_have_one_foreign_bridge_then_last_one_clears_it(void **state)
{
    (void)state;
    flush_all();
    NetRulesNetwork one = test_network(SPEC_NET_MODE_BRIDGE), two = one;
    two.owner = "zzzzzzzz:net:other";
    must(net_rules_add_network(&one, NULL), NULL);
    must(net_rules_add_network(&two, NULL), NULL);
    assert_int_equal(count("users"), 2);
    must(net_rules_remove_network(&one, NULL), NULL);
    assert_int_equal(count("foreign"), 1);
    must(net_rules_remove_network(&two, NULL), NULL);
    assert_int_equal(count("foreign"), 0);
    assert_int_equal(count("users"), 0);
}

static void test_network_when_prefix_is_anothers_then_exists(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    flush_all();
    add_network(SPEC_NET_MODE_NAT);
    NetRulesNetwork other = test_network(SPEC_NET_MODE_NAT);
    other.owner = "zzzzzzzz:net:other";
    assert_false(net_rules_add_network(&other, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_EXISTS));
    assert_non_null(strstr(error->message, "network 'lab' of state " TEST_STORE));
}

static void test_apply_when_repeated_then_generation_stays(void **state)
{
    (void)state;
    flush_all();
    NetMember *member = test_member(2);
    add_network(SPEC_NET_MODE_NAT);
    test_port(member, NULL, 8080, 80, false, false);
    test_port(member, NULL, 8080, 80, true, true);
    test_port(member, "127.0.0.1", 9090, 90, false, false);
    test_rule(member->egress.deny, "192.0.2.0/24:443/tcp");
    member->net_egress.is_restricted = true;
    apply(member, NULL);
    assert_well(member);
    uint32_t first = generation();
    apply(member, NULL);
    apply(member, member);
    assert_int_equal(generation(), first);
    remove_member(member);
    uint32_t gone = generation();
    remove_member(member);
    remove_member(member);
    assert_int_equal(generation(), gone);
    assert_int_equal(count("pm4") + count("pm4any") + count("pm6any") + count("held4"), 0);
    assert_int_equal(count("egress"), 0);
    g_autoptr(GPtrArray) macs = net_nft_list(NET_NFT_BRIDGE, "macs", NULL);
    assert_int_equal(macs->len, 0);
    g_autofree char *lines = check(member);
    assert_non_null(strstr(lines, "port tcp *:8080 -> 10.9.0.2:80 is missing"));
    assert_non_null(strstr(lines, "port udp [*]:8080 -> [fd09::2]:80 is missing"));
    assert_non_null(strstr(lines, "egress policy of web2 on " TEST_BRIDGE " is missing"));
    test_member_free(member);
}

static void test_apply_when_ruleset_was_flushed_then_all_is_restored(void **state)
{
    (void)state;
    flush_all();
    NetMember *member = test_member(2);
    add_network(SPEC_NET_MODE_ISOLATED);
    test_port(member, NULL, 8080, 80, false, false);
    member->egress.is_default_deny = true;
    apply(member, NULL);
    flush_all();
    remove_member(member); /* nothing there: success */
    apply(member, NULL);
    add_network(SPEC_NET_MODE_ISOLATED);
    assert_well(member);
    test_member_free(member);
}

static void test_apply_when_ports_change_then_only_the_difference(void **state)
{
    (void)state;
    flush_all();
    NetMember *old = test_member(2), *member = test_member(2);
    test_port(old, NULL, 8080, 80, false, false);
    test_port(old, NULL, 8081, 81, false, false);
    test_port(old, "127.0.0.1", 8082, 82, true, false);
    test_port(member, NULL, 8080, 8000, false, false); /* to another guest port */
    test_port(member, NULL, 8083, 83, false, false);
    apply(old, NULL);
    assert_int_equal(count("held4"), 1);
    apply(member, old);
    assert_well(member);
    assert_int_equal(count("pm4any"), 2);
    assert_int_equal(count("pm4"), 0);
    assert_int_equal(count("held4"), 0);
    test_member_free(old);
    test_member_free(member);
}

static void test_apply_when_policy_changes_then_one_chain_is_left(void **state)
{
    (void)state;
    flush_all();
    NetMember *old = test_member(2), *member = test_member(2);
    old->egress.is_restricted = true;
    member->egress.is_hermetic = true;
    apply(old, NULL);
    assert_well(old);
    apply(member, old);
    assert_well(member);
    g_autofree char *lines = check(old);
    assert_non_null(strstr(lines, "is another one"));
    g_autoptr(GPtrArray) chains = net_nft_list_chains(NET_NFT_INET, NULL);
    unsigned n_members = 0;
    for (unsigned i = 0; i < chains->len; i++) {
        n_members += g_str_has_prefix(chains->pdata[i], NET_NFT_MEMBER_PREFIX);
    }
    assert_int_equal(n_members, 1);
    member->egress.is_hermetic = false;
    apply(member, NULL);
    assert_int_equal(count("egress"), 0);
    test_member_free(old);
    test_member_free(member);
}

static void test_apply_when_a_members_rule_is_harmed_then_seen_and_mended(void **state)
{
    (void)state;
    flush_all();
    NetMember *member = test_member(2);
    member->egress.is_restricted = true;
    test_rule(member->egress.deny, "192.0.2.0/24");
    apply(member, NULL);
    g_autoptr(GPtrArray) chains = net_nft_list_chains(NET_NFT_INET, NULL);
    for (unsigned i = 0; i < chains->len; i++) {
        if (g_str_has_prefix(chains->pdata[i], NET_NFT_MEMBER_PREFIX)) {
            g_autoptr(NetNftBatch) batch = net_nft_batch_new();
            net_nft_flush_chain(batch, NET_NFT_INET, chains->pdata[i]);
            assert_true(net_nft_commit(batch, NULL));
        }
    }
    g_autofree char *lines = check(member);
    assert_non_null(strstr(lines, "egress policy"));
    apply(member, NULL);
    assert_well(member);
    test_member_free(member);
}

static void test_remove_when_port_is_anothers_then_it_stays(void **state)
{
    (void)state;
    flush_all();
    NetMember *one = test_member(2), *two = test_member(3);
    test_port(one, NULL, 8080, 80, false, false);
    test_port(two, NULL, 8080, 80, false, false);
    apply(one, NULL);
    remove_member(two); /* never got it */
    assert_well(one);
    g_autoptr(GError) error = NULL;
    assert_false(net_rules_apply(&two, 1, NULL, 0, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_EXISTS));
    assert_string_equal(error->message, "port tcp *:8080 is taken by machine "
                                        "1b4e28ba-2fa1-5d2b-883f-b9a761000002 of state " TEST_STORE
                                        " - choose another");
    remove_member(one);
    test_member_free(one);
    test_member_free(two);
}

/* --- choosing ----------------------------------------------------------------- */

static VmError choose(NetMember *member, char **out_message)
{
    GError *error = NULL;
    if (net_rules_choose_ports(&member, 1, 20000, 20003, &error)) {
        return VM_ERROR_N;
    }
    VmError code = (VmError)error->code;
    assert_null(strchr(error->message, '\n'));
    if (out_message) {
        *out_message = g_strdup(error->message);
    }
    g_error_free(error);
    return code;
}

static void test_choice_when_wildcard_meets_address_then_exists(void **state)
{
    (void)state;
    flush_all();
    NetMember *one = test_member(2), *two = test_member(3), *three = test_member(4);
    test_port(one, NULL, 8080, 80, false, false);
    test_port(one, "127.0.0.1", 9090, 80, false, false);
    test_port(two, "127.0.0.1", 8080, 80, false, false);
    test_port(three, NULL, 9090, 80, false, false);
    assert_int_equal(choose(one, NULL), VM_ERROR_N);
    apply(one, NULL);
    assert_int_equal(choose(two, NULL), VM_ERROR_EXISTS);
    assert_int_equal(choose(three, NULL), VM_ERROR_EXISTS);
    assert_false(net_rules_apply(&two, 1, NULL, 0, NULL));
    assert_false(net_rules_apply(&three, 1, NULL, 0, NULL));
    assert_int_equal(choose(one, NULL), VM_ERROR_N); /* its own are no hindrance */
    remove_member(one);
    assert_int_equal(choose(two, NULL), VM_ERROR_N);
    assert_int_equal(choose(three, NULL), VM_ERROR_N);
    test_member_free(one);
    test_member_free(two);
    test_member_free(three);
}

static void test_choice_when_auto_then_free_and_one_number_for_tcp_and_udp(void **state)
{
    (void)state;
    flush_all();
    NetMember *members[3] = {test_member(2), test_member(3), test_member(4)};
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    for (size_t i = 0; i < 3; i++) {
        NetPortMap *tcp = test_port(members[i], NULL, 0, 53, false, false);
        NetPortMap *udp = test_port(members[i], NULL, 0, 53, true, false);
        NetPortMap *six = test_port(members[i], NULL, 0, 53, true, true);
        assert_int_equal(choose(members[i], NULL), VM_ERROR_N);
        assert_true(tcp->host_port >= 20000 && tcp->host_port <= 20003);
        assert_true(tcp->host_port == udp->host_port && six->host_port == udp->host_port);
        assert_true(g_hash_table_add(seen, GINT_TO_POINTER(tcp->host_port)));
        apply(members[i], NULL);
    }
    NetMember *more = test_member(5);
    test_port(more, NULL, 0, 1, false, false);
    test_port(more, NULL, 0, 2, false, false);
    g_autofree char *message = NULL;
    assert_int_equal(choose(more, &message), VM_ERROR_EXISTS); /* one is left */
    assert_non_null(strstr(message, "no host port from 20000 to 20003 is free"));
    for (size_t i = 0; i < 3; i++) {
        test_member_free(members[i]);
    }
    test_member_free(more);
}

static void test_choice_when_a_process_listens_then_it_is_named(void **state)
{
    (void)state;
    flush_all();
    static const struct {
        int type;
        const char *host, *bound;
    } cases[] = {{SOCK_STREAM, NULL, "127.0.0.1"},
                 {SOCK_STREAM, "127.0.0.1", "0.0.0.0"},
                 {SOCK_DGRAM, NULL, "127.0.0.5"},
                 {SOCK_DGRAM, "127.0.0.5", "0.0.0.0"}};
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(7070)};
        autofd int fd = socket(AF_INET, cases[i].type | SOCK_CLOEXEC, 0);
        inet_pton(AF_INET, cases[i].bound, &address.sin_addr);
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
        assert_true(cases[i].type == SOCK_DGRAM || listen(fd, 1) == 0);
        NetMember *member = test_member(2);
        test_port(member, cases[i].host, 7070, 80, cases[i].type == SOCK_DGRAM, false);
        g_autofree char *message = NULL;
        g_autofree char *pid = g_strdup_printf("is taken by pid %d (", (int)getpid());
        assert_int_equal(choose(member, &message), VM_ERROR_EXISTS);
        assert_non_null(strstr(message, pid));
        test_member_free(member);
    }
}

/* A connection of this host's own holds its port, but listens to nobody. */
static void test_choice_when_only_a_connection_has_the_port_then_free(void **state)
{
    (void)state;
    flush_all();
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof address;
    autofd int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    autofd int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(server, 1), 0);
    assert_int_equal(getsockname(server, (struct sockaddr *)&address, &n), 0);
    assert_int_equal(connect(client, (struct sockaddr *)&address, n), 0);
    assert_int_equal(getsockname(client, (struct sockaddr *)&address, &n), 0);
    NetMember *member = test_member(2);
    test_port(member, NULL, ntohs(address.sin_port), 80, false, false);
    assert_int_equal(choose(member, NULL), VM_ERROR_N);
    test_member_free(member);
}

static void test_choice_when_port_is_wrong_then_port_error(void **state)
{
    (void)state;
    flush_all();
    static const uint16_t reserved[] = {53, 67, 547};
    for (size_t i = 0; i < G_N_ELEMENTS(reserved); i++) {
        NetMember *member = test_member(2);
        test_port(member, NULL, reserved[i], 80, i > 0, false);
        assert_int_equal(choose(member, NULL), VM_ERROR_PORT);
        assert_false(net_rules_apply(&member, 1, NULL, 0, NULL));
        test_member_free(member);
    }
    NetMember *many = test_member(2), *twice = test_member(3), *homeless = test_member(4);
    for (uint16_t i = 0; i < 1025; i++) {
        test_port(many, NULL, (uint16_t)(30000 + i), 80, false, false);
    }
    assert_int_equal(choose(many, NULL), VM_ERROR_PORT);
    test_port(twice, NULL, 8080, 80, false, false);
    test_port(twice, "127.0.0.1", 8080, 81, false, false);
    assert_int_equal(choose(twice, NULL), VM_ERROR_PORT);
    g_ptr_array_set_size(twice->ports, 0);
    test_port(twice, NULL, 0, 80, false, false);
    test_port(twice, NULL, 0, 80, false, false);
    assert_int_equal(choose(twice, NULL), VM_ERROR_PORT);
    homeless->ip4 = (BaseIp){0};
    test_port(homeless, NULL, 8080, 80, false, false);
    assert_int_equal(choose(homeless, NULL), VM_ERROR_PORT);
    g_ptr_array_set_size(homeless->ports, 0);
    test_port(homeless, "203.0.113.1", 8080, 80, false, true); /* another family */
    assert_int_equal(choose(homeless, NULL), VM_ERROR_PORT);
    g_ptr_array_set_size(homeless->ports, 0);
    homeless->ip4 = test_ip("10.9.0.4");
    test_port(homeless, "203.0.113.1", 8080, 80, false, false); /* no address of this host */
    assert_int_equal(choose(homeless, NULL), VM_ERROR_NET);
    test_member_free(many);
    test_member_free(twice);
    test_member_free(homeless);
}

static void test_apply_when_as_many_ports_as_may_be_then_all_there(void **state)
{
    (void)state;
    flush_all();
    NetMember *member = test_member(2);
    for (uint16_t i = 0; i < 1024; i++) {
        test_port(member, i % 2 ? NULL : "127.0.0.1", (uint16_t)(30000 + i), i + 1, i % 3 == 0,
                  false);
    }
    assert_int_equal(choose(member, NULL), VM_ERROR_N);
    apply(member, NULL);
    assert_well(member);
    assert_int_equal(count("pm4"), 512);
    assert_int_equal(count("pm4any"), 512);
    remove_member(member);
    assert_int_equal(count("pm4") + count("pm4any") + count("held4"), 0);
    test_member_free(member);
}

/* --- many processes ----------------------------------------------------------- */

enum { N_RACERS = 64 };

/* 0: won; 1: one clear line; 2: else */
static int race(unsigned n)
{
    NetMember *member = test_member(n + 2);
    GError *error = NULL;
    test_port(member, NULL, 8080, 80, false, false);
    if (net_rules_apply(&member, 1, NULL, 0, &error)) {
        return 0;
    }
    bool is_clear = g_error_matches(error, VM_ERROR, VM_ERROR_EXISTS) &&
                    g_str_has_prefix(error->message, "port tcp *:8080 is taken by machine ") &&
                    !strchr(error->message, '\n');
    return is_clear ? 1 : 2;
}

static void test_apply_when_64_processes_want_one_port_then_one_wins(void **state)
{
    (void)state;
    flush_all();
    unsigned n_ends[3] = {0};
    for (unsigned i = 0; i < N_RACERS; i++) {
        if (fork() == 0) {
            _exit(race(i));
        }
    }
    for (unsigned i = 0; i < N_RACERS; i++) {
        int status = 0;
        assert_true(wait(&status) > 0);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 3);
        n_ends[WEXITSTATUS(status)]++;
    }
    assert_int_equal(n_ends[0], 1);
    assert_int_equal(n_ends[1], N_RACERS - 1);
    assert_int_equal(count("pm4any"), 1);
}

static void test_lock_when_held_by_another_then_busy_names_it(void **state)
{
    (void)state;
    int ready[2], done[2];
    char byte;
    g_autoptr(GError) error = NULL;
    assert_int_equal(pipe(ready) | pipe(done), 0);
    pid_t pid = fork();
    if (pid == 0) {
        NetRulesLock *lock = net_rules_lock(1000, NULL);
        _exit(!lock || write(ready[1], "x", 1) != 1 || read(done[0], &byte, 1) != 1);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_null(net_rules_lock(20, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_BUSY));
    g_autofree char *holder = g_strdup_printf("pid %d (", (int)pid);
    assert_non_null(strstr(error->message, holder));
    assert_int_equal(write(done[1], "x", 1), 1);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    NetRulesLock *lock = net_rules_lock(1000, NULL), *again = net_rules_lock(0, NULL);
    assert_true(lock && again); /* by one thread twice */
    net_rules_unlock(again);
    net_rules_unlock(lock);
    for (int i = 0; i < 2; i++) {
        close(ready[i]);
        close(done[i]);
    }
}

static void *try_lock(void *unused)
{
    (void)unused;
    NetRulesLock *lock = net_rules_lock(0, NULL);
    bool is_taken = lock != NULL;
    net_rules_unlock(lock);
    return GINT_TO_POINTER(is_taken);
}

/* What any user may do. */
static void test_lock_when_the_namespace_is_held_by_a_stranger_then_taken(void **state)
{
    (void)state;
    autofd int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    struct stat st;
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_int_equal(fstat(fd, &st), 0);
    g_autofree char *path = g_strdup_printf("/run/vm-run/rules-%ju.lock", (uintmax_t)st.st_ino);
    NetRulesLock *lock = net_rules_lock(0, NULL);
    assert_non_null(lock);
    struct stat file;
    assert_int_equal(stat(path, &file), 0);
    assert_int_equal(file.st_mode & 0777, 0600);
    assert_int_equal(stat("/run/vm-run", &file), 0);
    assert_int_equal(file.st_mode & 0066, 0); /* nobody else can open a file there, or the folder */
    net_rules_unlock(lock);
    assert_int_equal(stat(path, &file), -1); /* nothing stays */
}

static void test_lock_when_its_holder_was_killed_then_taken_and_swept(void **state)
{
    (void)state;
    g_autofree char *path =
        g_strdup_printf("/run/vm-run/rules-%d.lock", (int)getpid()); /* no namespace */
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)net_rules_lock(1000, NULL);
        _exit(write(ready[1], "x", 1) != 1 || pause());
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    NetRulesLock *lock = net_rules_lock(0, NULL);
    assert_non_null(lock);
    assert_true(g_file_set_contents(path, "", 0, NULL));
    net_rules_lock_sweep();
    assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
    assert_null(g_thread_join(g_thread_new("try", try_lock, NULL))); /* ours is held still */
    net_rules_unlock(lock);
    close(ready[0]);
    close(ready[1]);
}

static void *unlock_elsewhere(void *lock)
{
    net_rules_unlock(lock);
    return NULL;
}

static void test_lock_when_given_back_by_another_thread_then_free(void **state)
{
    (void)state;
    NetRulesLock *lock = net_rules_lock(0, NULL);
    assert_non_null(lock);
    assert_null(g_thread_join(g_thread_new("try", try_lock, NULL)));
    g_thread_join(g_thread_new("unlock", unlock_elsewhere, lock));
    assert_non_null(g_thread_join(g_thread_new("try", try_lock, NULL)));
    assert_non_null(try_lock(NULL));
}

/* --- many times --------------------------------------------------------------- */

enum { N_ROUNDS = 60, N_AT_ONCE = 4 };

/* Adds and removes a machine until it is killed. */
static void churn(unsigned n)
{
    for (unsigned i = 0;; i++) {
        NetMember *member = test_member(n + 2);
        test_port(member, NULL, 0, 80, false, false);
        test_port(member, "127.0.0.1", 0, 81, true, false);
        member->egress.is_restricted = i % 2;
        GError *error = NULL;
        if (!net_rules_choose_ports(&member, 1, 20000, 29999, &error) ||
            !net_rules_apply(&member, 1, NULL, 0, &error)) {
            fprintf(stderr, "%s\n", error->message);
            _exit(1);
        }
        if (i % 3) {
            net_rules_remove(&member, 1, NULL);
        }
        test_member_free(member);
    }
}

static char *list_elements(void)
{
    static const char *const sets[] = {"pm4", "pm4any", "held4", "egress"};
    GString *text = g_string_new(NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(sets); i++) {
        g_string_append_printf(text, "%s %u\n", sets[i], count(sets[i]));
    }
    for (NetNftFamily family = NET_NFT_INET; family < NET_NFT_N; family++) {
        g_autoptr(GPtrArray) chains = net_nft_list_chains(family, NULL);
        for (unsigned i = 0; i < chains->len; i++) {
            g_string_append_printf(text, "%s\n", (char *)chains->pdata[i]);
        }
    }
    return g_string_free(text, FALSE);
}

static void test_rules_when_appliers_are_killed_then_a_sweep_leaves_nothing(void **state)
{
    (void)state;
    flush_all();
    g_autoptr(GHashTable) owners = g_hash_table_new(g_str_hash, g_str_equal);
    must(net_rules_ensure_base(NULL), NULL);
    g_autofree char *before = list_elements();
    for (unsigned round = 0; round < N_ROUNDS / N_AT_ONCE; round++) {
        pid_t pids[N_AT_ONCE];
        for (unsigned i = 0; i < N_AT_ONCE; i++) {
            pids[i] = fork();
            if (pids[i] == 0) {
                churn(round * N_AT_ONCE + i);
            }
        }
        g_usleep(15000 + round * 3000); /* they are at different places each time */
        for (unsigned i = 0; i < N_AT_ONCE; i++) {
            int status = 0;
            kill(pids[i], SIGKILL);
            assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
            assert_true(WIFSIGNALED(status)); /* else it ended with an error of its own */
        }
    }
    g_autoptr(GPtrArray) texts = NULL;
    must(net_rules_sweep(TEST_STORE, owners, false, &texts, NULL), NULL);
    assert_true(texts->len > 0);
    g_autofree char *nothing = list_elements(); /* nobody has anything: nor are there tables */
    assert_null(strstr(nothing, "guest"));
    must(net_rules_ensure_base(NULL), NULL);
    g_autofree char *after = list_elements();
    assert_string_equal(after, before);
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    must(net_rules_check(NULL, 0, lines, NULL), NULL);
    assert_int_equal(lines->len, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base_when_its_text_changes_then_its_version_does),
        cmocka_unit_test(test_base_when_a_newer_program_wrote_it_then_it_stays),
        cmocka_unit_test(test_base_when_asked_again_then_nothing_is_written),
        cmocka_unit_test(test_base_when_harmed_then_mended_and_elements_stay),
        cmocka_unit_test(test_base_when_a_set_has_another_type_then_all_anew),
        cmocka_unit_test(test_network_when_added_thrice_then_written_once_and_removed_whole),
        cmocka_unit_test(test_network_when_two_have_one_foreign_bridge_then_last_one_clears_it),
        cmocka_unit_test(test_network_when_prefix_is_anothers_then_exists),
        cmocka_unit_test(test_apply_when_repeated_then_generation_stays),
        cmocka_unit_test(test_apply_when_ruleset_was_flushed_then_all_is_restored),
        cmocka_unit_test(test_apply_when_ports_change_then_only_the_difference),
        cmocka_unit_test(test_apply_when_policy_changes_then_one_chain_is_left),
        cmocka_unit_test(test_apply_when_a_members_rule_is_harmed_then_seen_and_mended),
        cmocka_unit_test(test_remove_when_port_is_anothers_then_it_stays),
        cmocka_unit_test(test_choice_when_wildcard_meets_address_then_exists),
        cmocka_unit_test(test_choice_when_auto_then_free_and_one_number_for_tcp_and_udp),
        cmocka_unit_test(test_choice_when_a_process_listens_then_it_is_named),
        cmocka_unit_test(test_choice_when_only_a_connection_has_the_port_then_free),
        cmocka_unit_test(test_choice_when_port_is_wrong_then_port_error),
        cmocka_unit_test(test_apply_when_as_many_ports_as_may_be_then_all_there),
        cmocka_unit_test(test_apply_when_64_processes_want_one_port_then_one_wins),
        cmocka_unit_test(test_lock_when_held_by_another_then_busy_names_it),
        cmocka_unit_test(test_lock_when_given_back_by_another_thread_then_free),
        cmocka_unit_test(test_lock_when_the_namespace_is_held_by_a_stranger_then_taken),
        cmocka_unit_test(test_lock_when_its_holder_was_killed_then_taken_and_swept),
        cmocka_unit_test(test_rules_when_appliers_are_killed_then_a_sweep_leaves_nothing),
    };
    return test_netns_enter() ? cmocka_run_group_tests(tests, NULL, NULL) : 77;
}
