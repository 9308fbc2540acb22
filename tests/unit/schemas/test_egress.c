#include "specs.h"

/* What a machine may reach: rules as texts, and a whole policy. */

static void test_egress_rules_then_written_alike(void **state)
{
    (void)state;
    static const char *const good[] = {"10.0.0.0/8",
                                       "0.0.0.0/0:443/tcp",
                                       "[2001:db8::/32]:8000-8099/udp",
                                       "192.0.2.0/24/icmp",
                                       "2001:db8::/32/tcp",
                                       "10.0.0.1/32:53",
                                       "::/0",
                                       "2001:db8::/32"};
    static const char *const bad[] = {
        "example.org",      "10.0.0.0/33",      "10.0.0.1/8",      "10.0.0.0/8:0",
        "10.0.0.0/8:70000", "10.0.0.0/8:90-80", "10.0.0.0/8/sctp", "10.0.0.0/8:80/icmp",
        "[10.0.0.1]:80",    "[fd00::1",         "fd00::/64:80",    "10.0.0.0/8:",
        "10.0.0.0/8:80-",   "10.0.0.0/8/",      "[fd00::/64]x",    "10.0.0.0/8:80:90"};
    VmError code;
    const char *why;
    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        SpecEgressRule rule = {0};
        if (!spec_egress_rule_from_text(&rule, good[i], &code, &why)) {
            fail_msg("%s %s", good[i], why);
        }
        g_autofree char *text = spec_egress_rule_to_text(&rule);
        assert_string_equal(text, good[i]);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        SpecEgressRule rule = {0};
        if (spec_egress_rule_from_text(&rule, bad[i], &code, &why)) {
            fail_msg("%s was taken", bad[i]);
        }
        assert_non_null(why);
    }
    SpecEgressRule whole = {0};
    assert_true(spec_egress_rule_from_text(&whole, "10.0.0.1:22", &code, &why));
    assert_int_equal(whole.to.n_bits, 32);
    assert_int_equal(whole.port_last, 22);
}

static void test_egress_of_a_machine_then_needs_a_filter(void **state)
{
    (void)state;
    static const char *const unable[] = {"user", "none", "macvtap=eth0"};
    for (size_t i = 0; i < G_N_ELEMENTS(unable); i++) {
        g_autofree char *lines = g_strdup_printf(
            "    networks: [%s]\n    egress: {restricted: true, default: deny}\n", unable[i]);
        assert_machine_mistakes(lines, "f:7:26: error[E_SCHEMA]: vms.web.egress.restricted: no "
                                       "network of the machine can be filtered - use a managed "
                                       "network or a bridge");
    }
    g_autoptr(MachineSpec) spec = machine_with(
        "    networks: [user, lab]\n    egress: {default: deny, allow: [10.0.0.0/8]}\n");
    assert_true(spec->egress.is_default_deny);
    assert_int_equal(spec->egress.allow->len, 1);
    assert_int_equal(((SpecEgressRule *)g_ptr_array_index(spec->egress.allow, 0))->pos.line, 7);
    g_autoptr(MachineSpec) silent = machine_with("    networks: [user]\n");
    assert_true(spec_egress_is_open(&silent->egress));
    assert_machine_mistakes(
        "    networks: [lab]\n    egress: {hermetic: true, allow: [10.0.0.0/8]}\n",
        "f:7:37: error[E_SCHEMA]: vms.web.egress.allow: has no effect beside hermetic - drop one "
        "of them");
}

static void test_egress_to_json_then_back(void **state)
{
    (void)state;
    static const char text[] = "{\"hermetic\":false,\"restricted\":true,\"default\":\"deny\","
                               "\"allow\":[\"10.0.0.0/8:1-2/tcp\"],\"deny\":[\"::/0\"]}";
    SpecEgress egress = {0}, copy = {0};
    assert_true(spec_egress_from_json(text, &egress, NULL));
    spec_egress_copy(&egress, &copy);
    spec_egress_clear(&egress);
    g_autofree char *again = spec_egress_to_json(&copy);
    assert_string_equal(again, text);
    spec_egress_clear(&copy);
    spec_egress_clear(&copy);
    static const char *const bad[] = {"",
                                      "[]",
                                      "{}",
                                      "{\"hermetic\":1}",
                                      "{\"hermetic\":false,\"restricted\":false,\"default\":\"x\","
                                      "\"allow\":[],\"deny\":[]}",
                                      "{\"hermetic\":false,\"restricted\":false,\"default\":"
                                      "\"deny\",\"allow\":[1],\"deny\":[]}",
                                      "{\"hermetic\":false,\"restricted\":false,\"default\":"
                                      "\"deny\",\"allow\":[\"10.0.0.1/8\"],\"deny\":[]}"};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        assert_false(spec_egress_from_json(bad[i], &copy, &error));
        assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_STATE));
    }
    assert_null(copy.allow);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_egress_rules_then_written_alike),
        cmocka_unit_test(test_egress_of_a_machine_then_needs_a_filter),
        cmocka_unit_test(test_egress_to_json_then_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
