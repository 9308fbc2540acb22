#include "net/nft.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <cmocka.h>
#include "base/error.h"
#include "base/fd.h"
#include "tests/unit/net/netns.h"

static const char base_text[] = "add table inet vm_driver\n"
                                "table inet vm_driver {\n"
                                " set names { type ifname; }\n"
                                " set nets { type ipv4_addr; flags interval; }\n"
                                " map ports { type inet_proto . inet_service : ipv4_addr . "
                                "inet_service; }\n"
                                " map chains { type ether_addr : verdict; }\n"
                                " chain one { type filter hook forward priority 0; }\n"
                                "}\n"
                                "flush chain inet vm_driver one\n"
                                "add rule inet vm_driver one iifname @names counter accept\n";

static void install(void)
{
    g_autoptr(GError) error = NULL;
    assert_true(net_nft_run_text("add table inet vm_driver\ndelete table inet vm_driver\n", NULL));
    if (!net_nft_run_text(base_text, &error)) {
        fail_msg("%s", error->message);
    }
}

static json_t *port_key(int proto, int port)
{
    return json_pack("{s:[i,i]}", "concat", proto, port);
}

static json_t *target(const char *ip, int port)
{
    return json_pack("{s:[s,i]}", "concat", ip, port);
}

static NetNftBytes port_bytes(uint8_t proto, uint16_t port)
{
    NetNftBytes key = {0};
    uint16_t wire = htons(port);
    net_nft_bytes_add(&key, &proto, sizeof proto);
    net_nft_bytes_add(&key, &wire, sizeof wire);
    return key;
}

static uint32_t generation(void)
{
    uint32_t value = 0;
    assert_true(net_nft_generation(&value, NULL));
    return value;
}

static uint64_t fingerprint(void)
{
    uint64_t value = 0;
    assert_true(net_nft_fingerprint(NET_NFT_INET, &value, NULL));
    return value;
}

static bool add_port(int port, const char *ip, const char *comment, GError **error)
{
    g_autoptr(NetNftBatch) batch = net_nft_batch_new();
    net_nft_add_element(batch, NET_NFT_INET, "ports", port_key(IPPROTO_TCP, port), target(ip, 80),
                        comment);
    return net_nft_commit(batch, error);
}

static bool has_port(uint16_t port, char **out_comment)
{
    NetNftFound found = NET_NFT_ABSENT;
    NetNftBytes key = port_bytes(IPPROTO_TCP, port);
    assert_true(net_nft_get(NET_NFT_INET, "ports", &key, &found, NULL, out_comment, NULL));
    return found == NET_NFT_PRESENT;
}

static void test_element_when_added_then_reads_back_with_value_and_comment(void **state)
{
    (void)state;
    install();
    assert_true(add_port(8080, "10.0.0.2", "abc:def:0", NULL));
    NetNftBytes key = port_bytes(IPPROTO_TCP, 8080), value = {0};
    NetNftFound found = NET_NFT_ABSENT;
    g_autofree char *comment = NULL;
    assert_true(net_nft_get(NET_NFT_INET, "ports", &key, &found, &value, &comment, NULL));
    assert_int_equal(found, NET_NFT_PRESENT);
    assert_string_equal(comment, "abc:def:0");
    const uint8_t wanted[] = {10, 0, 0, 2, 0, 80, 0, 0};
    assert_int_equal(value.n_bytes, sizeof wanted);
    assert_memory_equal(value.bytes, wanted, sizeof wanted);
    assert_false(has_port(8081, NULL));
}

static void test_read_when_table_is_absent_then_tells_absent(void **state)
{
    (void)state;
    assert_true(net_nft_run_text("add table inet vm_driver\ndelete table inet vm_driver\n", NULL));
    assert_false(has_port(8080, NULL));
    g_autoptr(GPtrArray) all = net_nft_list(NET_NFT_INET, "ports", NULL);
    assert_non_null(all);
    assert_int_equal(all->len, 0);
    assert_int_equal(fingerprint(), 0);
    GPtrArray *rules = all;
    assert_true(net_nft_list_rules(1, NET_NFT_TABLE, "one", &rules, NULL));
    assert_null(rules);
}

static void test_commit_when_repeated_then_generation_stays(void **state)
{
    (void)state;
    install();
    assert_true(add_port(8080, "10.0.0.2", "a", NULL));
    uint32_t before = generation();
    assert_true(add_port(8080, "10.0.0.2", "a", NULL));
    assert_int_equal(generation(), before);
    assert_true(add_port(8081, "10.0.0.2", "a", NULL));
    assert_int_not_equal(generation(), before);
}

static void test_commit_when_key_is_taken_then_exists_and_nothing_written(void **state)
{
    (void)state;
    install();
    g_autoptr(GError) error = NULL;
    assert_true(add_port(8080, "10.0.0.2", "a", NULL));
    g_autoptr(NetNftBatch) batch = net_nft_batch_new();
    net_nft_add_element(batch, NET_NFT_INET, "ports", port_key(IPPROTO_TCP, 9000),
                        target("10.0.0.3", 80), "b");
    net_nft_add_element(batch, NET_NFT_INET, "ports", port_key(IPPROTO_TCP, 8080),
                        target("10.0.0.3", 80), "b");
    assert_false(net_nft_commit(batch, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_EXISTS));
    assert_null(strchr(error->message, '\n'));
    assert_false(has_port(9000, NULL));
}

/* add own + delete: own or absent is gone, a foreign one stops it */
static void test_removal_when_element_is_foreign_then_it_stays(void **state)
{
    (void)state;
    install();
    static const struct {
        const char *there;
        bool is_removed;
    } cases[] = {{NULL, true}, {"10.0.0.2", true}, {"10.0.0.9", false}};
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(NetNftBatch) batch = net_nft_batch_new();
        assert_true(!cases[i].there || add_port(8080, cases[i].there, "x", NULL));
        net_nft_add_element(batch, NET_NFT_INET, "ports", port_key(IPPROTO_TCP, 8080),
                            target("10.0.0.2", 80), "x");
        net_nft_delete_element(batch, NET_NFT_INET, "ports", port_key(IPPROTO_TCP, 8080));
        assert_int_equal(net_nft_commit(batch, NULL), cases[i].is_removed);
        assert_int_equal(has_port(8080, NULL), !cases[i].is_removed);
    }
}

static void test_commit_when_set_or_element_is_absent_then_not_found(void **state)
{
    (void)state;
    install();
    g_autoptr(GError) error = NULL, second = NULL;
    g_autoptr(NetNftBatch) batch = net_nft_batch_new(), other = net_nft_batch_new();
    net_nft_delete_element(batch, NET_NFT_INET, "ports", port_key(IPPROTO_TCP, 1));
    assert_false(net_nft_commit(batch, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_NOT_FOUND));
    net_nft_add_element(other, NET_NFT_INET, "nowhere", json_string("x"), NULL, NULL);
    assert_false(net_nft_commit(other, &second));
    assert_true(g_error_matches(second, VM_ERROR, VM_ERROR_NOT_FOUND));
}

static void test_batch_when_a_text_is_no_utf8_then_refused(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    g_autoptr(NetNftBatch) batch = net_nft_batch_new();
    net_nft_add_element(batch, NET_NFT_INET, "names", json_string("\xff"), NULL, NULL);
    assert_false(net_nft_commit(batch, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_INTERNAL));
}

static void test_batch_when_text_has_nft_syntax_then_no_table_appears(void **state)
{
    (void)state;
    install();
    g_autoptr(NetNftBatch) batch = net_nft_batch_new();
    net_nft_add_element(batch, NET_NFT_INET, "ports", port_key(IPPROTO_TCP, 8080),
                        target("10.0.0.2", 80), "x\" accept }; add table inet pwn\n");
    net_nft_commit(batch, NULL);
    GPtrArray *rules = NULL;
    assert_true(net_nft_run_text("add table inet other\ndelete table inet other\n", NULL));
    assert_false(net_nft_run_text("delete table inet pwn\n", NULL));
    assert_true(net_nft_list_rules(1, "pwn", "x", &rules, NULL));
    assert_null(rules);
}

/* --- both ways ---------------------------------------------------------------- */

static char *list_table(void)
{
    g_autoptr(NetNftBatch) batch = net_nft_batch_new();
    net_nft_add_command(batch, json_pack("{s:{s:{s:s,s:s}}}", "list", "table", "family", "inet",
                                         "name", NET_NFT_TABLE));
    json_t *answer = net_nft_ask(batch, NULL), *entry;
    size_t i;
    assert_non_null(answer);
    json_array_foreach(json_object_get(answer, "nftables"), i, entry)
    {
        const char *kind;
        json_t *object;
        json_object_foreach(entry, kind, object)
        {
            json_object_del(object, "handle"); /* the kernel numbers on */
        }
    }
    char *text = json_dumps(answer, JSON_INDENT(1));
    json_decref(answer);
    return text;
}

/* A port, a name, and a member's chain with an element that leads there. */
static bool write_twins(bool is_long_way, bool is_removed)
{
    g_autoptr(NetNftBatch) batch = net_nft_batch_new();
    const uint8_t mac[6] = {0x52, 0x54, 0, 1, 2, 3}, target_bytes[] = {10, 0, 0, 2, 0, 80, 0, 0};
    NetNftBytes port = port_bytes(IPPROTO_TCP, 8080), value = {0}, name = {0};
    NetNftBytes key = {.n_bytes = sizeof mac};
    memcpy(key.bytes, mac, sizeof mac);
    net_nft_bytes_add(&value, target_bytes, sizeof target_bytes);
    net_nft_bytes_add_ifname(&name, "vmt0");
    NetNftTwin twins[] = {{"ports", &port, &value, NULL, NULL, port_key(IPPROTO_TCP, 8080),
                           target("10.0.0.2", 80), "a:b"},
                          {"names", &name, NULL, NULL, NULL, json_string("vmt0"), NULL, NULL},
                          {"chains", &key, NULL, NULL, "m_x", json_string("52:54:00:01:02:03"),
                           json_pack("{s:{s:s}}", "jump", "target", "m_x"), "a:b"}};
    net_nft_add_chain(batch, NET_NFT_INET, "m_x");
    for (size_t i = 0; i < G_N_ELEMENTS(twins); i++) {
        net_nft_add_twin(batch, NET_NFT_INET, &twins[i]);
        if (is_removed) {
            net_nft_delete_twin(batch, NET_NFT_INET, &twins[i]);
        }
        json_decref(twins[i].json_key);
        json_decref(twins[i].json_value);
    }
    if (is_removed) {
        net_nft_flush_chain(batch, NET_NFT_INET, "m_x");
        net_nft_delete_chain(batch, NET_NFT_INET, "m_x");
    }
    if (is_long_way) { /* a command that has no short form */
        net_nft_add_element(batch, NET_NFT_INET, "names", json_string("lo"), NULL, NULL);
        net_nft_delete_element(batch, NET_NFT_INET, "names", json_string("lo"));
    }
    return net_nft_commit(batch, NULL);
}

static void test_twins_when_written_either_way_then_the_same_is_there(void **state)
{
    (void)state;
    install();
    char *empty = list_table();
    assert_true(write_twins(true, false));
    char *long_way = list_table();
    install();
    assert_true(write_twins(false, false));
    char *short_way = list_table();
    assert_string_equal(short_way, long_way);
    assert_non_null(strstr(long_way, "m_x"));
    assert_true(write_twins(false, true));
    char *after = list_table();
    assert_string_equal(after, empty);
    assert_true(write_twins(false, false) && write_twins(true, true));
    char *after_long = list_table();
    assert_string_equal(after_long, empty);
    char *const all[] = {empty, long_way, short_way, after, after_long};
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
        free(all[i]);
    }
}

static void test_twins_when_one_fails_then_none_is_written(void **state)
{
    (void)state;
    install();
    g_autoptr(GError) error = NULL;
    g_autoptr(NetNftBatch) batch = net_nft_batch_new();
    assert_true(add_port(8080, "10.0.0.9", "other", NULL));
    assert_false(write_twins(false, false));
    assert_true(has_port(8080, NULL));
    g_autoptr(GPtrArray) names = net_nft_list(NET_NFT_INET, "names", NULL);
    g_autoptr(GPtrArray) chains = net_nft_list_chains(NET_NFT_INET, NULL);
    assert_int_equal(names->len, 0);
    assert_int_equal(chains->len, 1);
    NetNftBytes name = {0};
    net_nft_bytes_add_ifname(&name, "nobody");
    json_t *json = json_string("nobody");
    NetNftTwin absent = {.set = "names", .key = &name, .json_key = json};
    net_nft_delete_twin(batch, NET_NFT_INET, &absent);
    json_decref(json);
    assert_false(net_nft_commit(batch, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_NOT_FOUND));
    assert_true(add_port(9090, "10.0.0.2", "a", NULL)); /* the door is still good */
    assert_true(has_port(9090, NULL));
}

static void test_twins_when_very_many_then_one_transaction(void **state)
{
    (void)state;
    install();
    g_autoptr(NetNftBatch) batch = net_nft_batch_new();
    uint32_t before = generation();
    for (uint16_t i = 1; i <= 5000; i++) {
        const uint8_t bytes[] = {10, 0, 0, 2, 0, 80, 0, 0};
        NetNftBytes key = port_bytes(IPPROTO_UDP, i), value = {0};
        net_nft_bytes_add(&value, bytes, sizeof bytes);
        json_t *json_key = port_key(IPPROTO_UDP, i), *json_value = target("10.0.0.2", 80);
        NetNftTwin twin = {"ports", &key, &value, NULL, NULL, json_key, json_value, "abcdefgh:x:0"};
        net_nft_add_twin(batch, NET_NFT_INET, &twin);
        json_decref(json_key);
        json_decref(json_value);
    }
    assert_true(net_nft_commit(batch, NULL));
    assert_int_equal(generation(), before + 1);
    g_autoptr(GPtrArray) all = net_nft_list(NET_NFT_INET, "ports", NULL);
    assert_int_equal(all->len, 5000);
}

static void test_prefix_when_added_then_only_it_is_found(void **state)
{
    (void)state;
    install();
    g_autoptr(NetNftBatch) batch = net_nft_batch_new();
    json_t *prefix = json_pack("{s:{s:s,s:i}}", "prefix", "addr", "10.1.0.0", "len", 16);
    net_nft_add_element(batch, NET_NFT_INET, "nets", prefix, NULL, "s:net:lab");
    assert_true(net_nft_commit(batch, NULL));
    static const struct {
        const char *text;
        bool is_found;
    } cases[] = {{"10.1.0.0/16", true}, {"10.1.0.0/24", false}, {"10.1.5.0/24", false},
                 {"10.0.0.0/8", false}, {"10.2.0.0/16", false}, {"10.1.2.3/16", true}};
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        BaseCidr cidr;
        const char *why = NULL;
        NetNftFound found = NET_NFT_ABSENT;
        g_autofree char *comment = NULL;
        assert_true(base_cidr_parse(cases[i].text, &cidr, &why));
        assert_true(net_nft_get_prefix(NET_NFT_INET, "nets", &cidr, &found, &comment, NULL));
        assert_int_equal(found == NET_NFT_PRESENT, cases[i].is_found);
        assert_true(!cases[i].is_found || !strcmp(comment, "s:net:lab"));
    }
}

static void test_member_chain_when_added_then_verdict_leads_there(void **state)
{
    (void)state;
    install();
    const uint8_t mac[6] = {0x52, 0x54, 0, 1, 2, 3};
    g_autofree char *name = net_nft_member_chain("abc:1-2:0", "policy");
    g_autofree char *other = net_nft_member_chain("abc:1-2:0", "policy 2");
    assert_true(g_str_has_prefix(name, "m_abc_1_2_0_"));
    assert_string_not_equal(name, other);
    uint64_t before = fingerprint();
    g_autoptr(NetNftBatch) batch = net_nft_batch_new();
    net_nft_add_chain(batch, NET_NFT_INET, name);
    net_nft_add_rule(batch, NET_NFT_INET, name, json_pack("[{s:n}]", "accept"), "rule 1");
    net_nft_add_element(batch, NET_NFT_INET, "chains", json_string("52:54:00:01:02:03"),
                        json_pack("{s:{s:s}}", "jump", "target", name), "abc:1-2:0");
    assert_true(net_nft_commit(batch, NULL));
    assert_int_equal(fingerprint(), before);

    NetNftBytes key = {.n_bytes = sizeof mac};
    memcpy(key.bytes, mac, sizeof mac);
    g_autofree char *chain = NULL;
    g_autoptr(GPtrArray) rules = NULL, chains = net_nft_list_chains(NET_NFT_INET, NULL);
    assert_true(net_nft_get_chain(NET_NFT_INET, "chains", &key, &chain, NULL, NULL));
    assert_string_equal(chain, name);
    assert_true(net_nft_list_rules(1, NET_NFT_TABLE, name, &rules, NULL));
    assert_int_equal(rules->len, 1);
    assert_string_equal(((NetNftRule *)rules->pdata[0])->comment, "rule 1");
    assert_int_equal(chains->len, 2);
}

static void test_fingerprint_when_a_rule_is_harmed_then_differs(void **state)
{
    (void)state;
    static const char *const harms[] = {
        "flush chain inet vm_driver one\n",
        "insert rule inet vm_driver one drop\n",
        "add chain inet vm_driver one { policy drop; }\n",
        "add set inet vm_driver more { type mark; }\n",
        "add table inet vm_driver { flags dormant; }\n",
    };
    install();
    uint64_t whole = fingerprint();
    assert_true(add_port(8080, "10.0.0.2", "a", NULL));
    assert_int_equal(fingerprint(), whole);
    for (size_t i = 0; i < G_N_ELEMENTS(harms); i++) {
        install();
        assert_int_equal(fingerprint(), whole);
        assert_true(net_nft_run_text(harms[i], NULL));
        assert_int_not_equal(fingerprint(), whole);
    }
}

static void test_list_when_many_then_all_once(void **state)
{
    (void)state;
    install();
    g_autoptr(NetNftBatch) batch = net_nft_batch_new();
    for (int port = 1; port <= 5000; port++) {
        net_nft_add_element(batch, NET_NFT_INET, "ports", port_key(IPPROTO_UDP, port),
                            target("10.0.0.2", port), "abc:def:0");
    }
    assert_int_equal(net_nft_batch_size(batch), 1); /* one command with all of them */
    assert_true(net_nft_commit(batch, NULL));
    g_autoptr(GPtrArray) all = net_nft_list(NET_NFT_INET, "ports", NULL);
    g_autoptr(GHashTable) ports = g_hash_table_new(NULL, NULL);
    assert_int_equal(all->len, 5000);
    for (unsigned i = 0; i < all->len; i++) {
        const NetNftElement *element = all->pdata[i];
        uint16_t port;
        memcpy(&port, &element->key.bytes[4], sizeof port);
        g_hash_table_add(ports, GINT_TO_POINTER(ntohs(port)));
        assert_string_equal(element->comment, "abc:def:0");
    }
    assert_int_equal(g_hash_table_size(ports), 5000);
}

static void test_door_when_the_thread_changes_namespace_then_follows(void **state)
{
    (void)state;
    install();
    assert_true(add_port(8080, "10.0.0.2", "a", NULL));
    autofd int first = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    assert_int_equal(unshare(CLONE_NEWNET), 0);
    assert_false(has_port(8080, NULL));
    install();
    assert_true(add_port(9090, "10.0.0.2", "b", NULL));
    assert_int_equal(setns(first, CLONE_NEWNET), 0);
    assert_true(has_port(8080, NULL));
    assert_false(has_port(9090, NULL));
    assert_true(add_port(8081, "10.0.0.2", "a", NULL));
    assert_true(has_port(8081, NULL));
}

static void test_sockets_when_open_then_close_on_exec(void **state)
{
    (void)state;
    install();
    for (int fd = 3; fd < 64; fd++) {
        int domain = 0;
        socklen_t n = sizeof domain;
        if (!getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) && domain == AF_NETLINK) {
            assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        }
    }
}

static int without_capabilities(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0}};
    g_autoptr(GError) error = NULL, second = NULL;
    uint32_t value;
    if (syscall(SYS_capset, &header, none)) {
        return 2;
    }
    bool is_denied =
        !add_port(1, "10.0.0.2", "a", &error) && g_error_matches(error, VM_ERROR, VM_ERROR_DENIED);
    bool is_read_denied =
        !net_nft_generation(&value, &second) && g_error_matches(second, VM_ERROR, VM_ERROR_DENIED);
    return is_denied && is_read_denied ? 0 : 1;
}

/* also: nothing is printed by any failure */
static void test_commit_when_not_permitted_then_denied_in_silence(void **state)
{
    (void)state;
    int pipe_fds[2], status = 0;
    char printed[100];
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(pipe_fds[1], 1);
        dup2(pipe_fds[1], 2);
        close(pipe_fds[1]);
        _exit(without_capabilities());
    }
    close(pipe_fds[1]);
    ssize_t n_printed = read(pipe_fds[0], printed, sizeof printed);
    if (n_printed) {
        fail_msg("printed: %.*s", (int)MAX(n_printed, 0), printed);
    }
    close(pipe_fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_element_when_added_then_reads_back_with_value_and_comment),
        cmocka_unit_test(test_read_when_table_is_absent_then_tells_absent),
        cmocka_unit_test(test_commit_when_repeated_then_generation_stays),
        cmocka_unit_test(test_commit_when_key_is_taken_then_exists_and_nothing_written),
        cmocka_unit_test(test_removal_when_element_is_foreign_then_it_stays),
        cmocka_unit_test(test_commit_when_set_or_element_is_absent_then_not_found),
        cmocka_unit_test(test_batch_when_a_text_is_no_utf8_then_refused),
        cmocka_unit_test(test_batch_when_text_has_nft_syntax_then_no_table_appears),
        cmocka_unit_test(test_twins_when_written_either_way_then_the_same_is_there),
        cmocka_unit_test(test_twins_when_one_fails_then_none_is_written),
        cmocka_unit_test(test_twins_when_very_many_then_one_transaction),
        cmocka_unit_test(test_prefix_when_added_then_only_it_is_found),
        cmocka_unit_test(test_member_chain_when_added_then_verdict_leads_there),
        cmocka_unit_test(test_fingerprint_when_a_rule_is_harmed_then_differs),
        cmocka_unit_test(test_list_when_many_then_all_once),
        cmocka_unit_test(test_door_when_the_thread_changes_namespace_then_follows),
        cmocka_unit_test(test_sockets_when_open_then_close_on_exec),
        cmocka_unit_test(test_commit_when_not_permitted_then_denied_in_silence),
    };
    return test_netns_enter() ? cmocka_run_group_tests(tests, NULL, NULL) : 77;
}
