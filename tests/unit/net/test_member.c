#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "base/error.h"
#include "net/member.h"

static NetMember *example(void)
{
    NetMember *member = net_member_new();
    const char *why = NULL;
    VmError code;
    NetPortMap port = {.is_udp = true, .host_port = 8080, .guest_port = 80};
    member->owner = g_strdup("abcdefgh:11111111-2222-5333-a444-555555555555:0");
    member->machine = g_strdup("web");
    member->hostname = g_strdup("www.example.org");
    member->network = g_strdup("lab");
    member->bridge = g_strdup("vmb0");
    member->tap = g_strdup("vmt0");
    member->tap_tag = g_strdup("vm-run:x:0");
    assert_true(base_mac_parse("52:54:00:01:02:03", member->mac));
    assert_true(base_ip_parse("10.1.2.3", &member->ip4));
    assert_true(base_ip_parse("fd00::3", &member->ip6));
    assert_true(base_cidr_parse("10.1.2.0/24", &member->cidr4, &why));
    assert_true(base_cidr_parse("fd00::/64", &member->cidr6, &why));
    member->is_ip4_fixed = member->is_up = member->is_link_down = true;
    assert_true(base_ip_parse("198.51.100.1", &port.host));
    port.guest = member->ip4;
    g_ptr_array_add(member->ports, g_memdup2(&port, sizeof port));
    SpecEgressRule *rule = g_new0(SpecEgressRule, 1);
    assert_true(spec_egress_rule_from_text(rule, "10.0.0.0/8:443/tcp", &code, &why));
    g_ptr_array_add(member->egress.allow, rule);
    member->net_egress.is_hermetic = true;
    member->rate_in_bps = 20000000;
    member->rate_out_bps = UINT64_C(5000000000);
    member->n_queues = 4;
    return member;
}

static void test_member_through_json_is_equal(void **state)
{
    (void)state;
    g_autoptr(NetMember) member = example();
    g_autofree char *json = net_member_to_json(member);
    GError *error = NULL;
    g_autoptr(NetMember) read = net_member_from_json(json, &error);
    assert_null(error);
    g_autofree char *again = net_member_to_json(read);
    assert_string_equal(json, again);
    assert_null(strchr(json, '\n'));
    assert_string_equal(read->hostname, "www.example.org");
    assert_int_equal(read->rate_out_bps, UINT64_C(5000000000));
    assert_true(read->is_up && read->is_link_down && read->is_ip4_fixed && !read->is_ip6_fixed);
    assert_int_equal(((SpecEgressRule *)read->egress.allow->pdata[0])->port_first, 443);
    assert_true(((NetPortMap *)read->ports->pdata[0])->is_udp);
    g_autoptr(NetMember) copy = net_member_copy(read);
    g_autofree char *copied = net_member_to_json(copy);
    assert_string_equal(json, copied);
}

static void test_empty_member_through_json_has_nothing(void **state)
{
    (void)state;
    g_autoptr(NetMember) member = net_member_new();
    member->owner = g_strdup("a:b:0");
    g_autofree char *json = net_member_to_json(member);
    g_autoptr(NetMember) read = net_member_from_json(json, NULL);
    assert_non_null(read);
    assert_false(base_ip_is_set(&read->ip4));
    assert_false(base_ip_is_set(&read->cidr6.ip));
    assert_null(read->machine);
    assert_int_equal(read->n_queues, 1);
}

/* Every cut of a good record, and every byte of it changed, is refused or read: never a crash. */
static void test_damaged_member_is_refused(void **state)
{
    (void)state;
    g_autoptr(NetMember) member = example();
    g_autofree char *json = net_member_to_json(member);
    for (size_t n = 0; n < strlen(json); n++) {
        g_autofree char *cut = g_strndup(json, n);
        GError *error = NULL;
        assert_null(net_member_from_json(cut, &error));
        assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_STATE));
        g_error_free(error);
    }
    for (size_t i = 0; i < strlen(json); i++) {
        g_autofree char *changed = g_strdup(json);
        changed[i] = changed[i] == '9' ? 'x' : '9';
        g_autoptr(NetMember) read = net_member_from_json(changed, NULL);
        (void)read;
    }
}

static void test_wrong_values_of_a_member_are_refused(void **state)
{
    static const char *const texts[] = {
        "[]",
        "null",
        "{\"v\":2,\"owner\":\"a\"}",
        "{\"v\":1}",
        "{\"v\":1,\"owner\":\"a\",\"owner\":\"b\"}",
        "{\"v\":1,\"owner\":\"a\",\"ports\":[],\"egress\":{},\"net_egress\":{},\"ip4\":\"fd00::"
        "1\"}",
        "{\"v\":1,\"owner\":\"a\",\"ports\":[],\"egress\":{},\"net_egress\":{},\"ip4\":7}",
        "{\"v\":1,\"owner\":\"a\",\"ports\":[],\"egress\":{},\"net_egress\":{},\"queues\":-1}",
        "{\"v\":1,\"owner\":\"a\",\"ports\":[{}],\"egress\":{},\"net_egress\":{}}",
        "{\"v\":1,\"owner\":\"a\",\"ports\":{},\"egress\":{},\"net_egress\":{}}",
        "{\"v\":1,\"owner\":\"a\",\"ports\":[],\"egress\":7,\"net_egress\":{}}",
    };
    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        GError *error = NULL;
        NetMember *read = net_member_from_json(texts[i], &error);
        if (read) {
            fail_msg("taken: %s", texts[i]);
        }
        assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_STATE));
        g_error_free(error);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_member_through_json_is_equal),
        cmocka_unit_test(test_empty_member_through_json_has_nothing),
        cmocka_unit_test(test_damaged_member_is_refused),
        cmocka_unit_test(test_wrong_values_of_a_member_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
