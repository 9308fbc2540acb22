#include "schemas/rules.h"

#include "specs.h"

static void test_name_then_rfc1123_label(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "0a", "web-1", "a--b", "1a"};
    static const char *const bad[] = {"",
                                      "a/b",
                                      "..",
                                      ".",
                                      "-x",
                                      "--help",
                                      "a\nb",
                                      "\x1b[31mx",
                                      "café",
                                      "\xd0\xb0",
                                      "A",
                                      "a b",
                                      " a",
                                      "a ",
                                      "x\"/><disk type='file'>",
                                      "%s%n",
                                      "${IFS}",
                                      "$(id)",
                                      "`id`",
                                      "a-",
                                      "a.b",
                                      "a_b",
                                      "\xe2\x80\xae"
                                      "a"};
    const char *why;
    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        assert_true(spec_rule_name(good[i], &why));
    }
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(BaseReport) report = base_report_new();
        assert_false(spec_name_check(bad[i], NULL, report));
        assert_int_equal(base_report_item(report, 0)->code, VM_ERROR_NAME);
        g_autofree char *line = base_report_item_text(base_report_item(report, 0));
        assert_null(strpbrk(line, "\n\x1b"));
    }
}

static void test_hostname_then_labels(void **state)
{
    (void)state;
    assert_set_fine("hostname", "Web-1.lab.test");
    assert_set_fine("hostname", "1a");
    static const char *const bad[] = {
        "a..b", ".a", "a.", "12", "1.2", "-a", "a_b", "a b", "x\nruncmd: [reboot]", "é"};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        assert_set_refused("hostname", bad[i], "E_NAME");
    }
}

static void test_bridge_then_interface_name(void **state)
{
    (void)state;
    static const char *const good[] = {"br0", "virbr0", "br-lan", "a.b", "abcdefghijklmno"};
    static const char *const bad[] = {
        "abcdefghijklmnop",           "a%d",  "lo",  "all", "default", ".", "..", "-x", "",
        "x\" accept ; flush ruleset", "vm-*", "a/b", "a b", "a:b",     "é"};
    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        g_autofree char *text = g_strconcat("bridge=", good[i], NULL);
        g_autofree char *map = g_strdup_printf("[{bridge: \"%s\"}]", good[i]);
        assert_set_fine("networks", text);
        assert_set_fine("networks", map);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *text = g_strconcat("bridge=", bad[i], NULL);
        g_autofree char *map = g_strdup_printf("[{bridge: '%s'}]", bad[i]);
        assert_set_refused("networks", text, "E_NAME");
        assert_set_refused("networks", map, "E_NAME");
    }
}

static void test_mac_then_one_station(void **state)
{
    (void)state;
    assert_set_fine("networks", "[{mac: \"52:54:00:12:34:56\"}]");
    static const char *const bad[] = {
        "zz:00:00:00:00:01", "01:00:5e:00:00:01", "00:00:00:00:00:00",
        "ff:ff:ff:ff:ff:ff", "52:54:00:12:34",    "52:54:00:12:34:56:78",
        "52-54-00-12-34-56", "525400123456",      ""};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *text = g_strdup_printf("[{mac: \"%s\"}]", bad[i]);
        assert_set_refused("networks", text, "E_NET");
    }
    g_autoptr(MachineSpec) spec = machine_with("    networks: [{mac: \"52:54:00:AA:BB:CC\"}]\n");
    assert_string_equal(((SpecNetwork *)g_ptr_array_index(spec->networks, 0))->mac,
                        "52:54:00:aa:bb:cc");
}

static void test_networks_then_kinds(void **state)
{
    (void)state;
    g_autoptr(MachineSpec) spec = machine_with(
        "    networks: [user, bridge=br0, {bridge: br1}, {network: bridge, bridge: br2}]\n");
    static const SpecNetKind kinds[] = {SPEC_NET_USER, SPEC_NET_BRIDGE, SPEC_NET_BRIDGE,
                                        SPEC_NET_BRIDGE};
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        assert_int_equal(((SpecNetwork *)g_ptr_array_index(spec->networks, i))->kind, kinds[i]);
    }
    assert_string_equal(((SpecNetwork *)g_ptr_array_index(spec->networks, 2))->bridge, "br1");
    assert_set_refused("networks", "[{network: bridge}]", "E_SCHEMA");
}

/* --- ports ------------------------------------------------------------------------------------ */

static void assert_port(const char *text, const SpecPort *expected, const char *again)
{
    SpecPort port = {0};
    VmError code;
    const char *why = NULL;
    assert_true(spec_port_from_text(&port, text, &code, &why));
    assert_string_equal(port.host_addr ? port.host_addr : "",
                        expected->host_addr ? expected->host_addr : "");
    assert_int_equal(port.host_first, expected->host_first);
    assert_int_equal(port.host_last, expected->host_last);
    assert_int_equal(port.guest_first, expected->guest_first);
    assert_int_equal(port.guest_last, expected->guest_last);
    assert_int_equal(port.proto, expected->proto);
    g_autofree char *written = spec_port_to_text(&port);
    assert_string_equal(written, again);
    spec_port_clear(&port);
}

static void test_port_then_parts_and_back(void **state)
{
    (void)state;
    assert_port("8080:80", &(SpecPort){NULL, 8080, 8080, 80, 80, SPEC_PROTO_TCP, {0}}, "8080:80");
    assert_port("1:65535/tcp", &(SpecPort){NULL, 1, 1, 65535, 65535, SPEC_PROTO_TCP, {0}},
                "1:65535");
    assert_port("0:22", &(SpecPort){NULL, 0, 0, 22, 22, SPEC_PROTO_TCP, {0}}, "auto:22");
    assert_port("auto:22-23/udp", &(SpecPort){NULL, 0, 0, 22, 23, SPEC_PROTO_UDP, {0}},
                "auto:22-23/udp");
    assert_port("127.0.0.1:53:53/both",
                &(SpecPort){(char *)"127.0.0.1", 53, 53, 53, 53, SPEC_PROTO_BOTH, {0}},
                "127.0.0.1:53:53/both");
    assert_port("[::1]:auto:80", &(SpecPort){(char *)"::1", 0, 0, 80, 80, SPEC_PROTO_TCP, {0}},
                "[::1]:auto:80");
    assert_port("9000-9009:1-10", &(SpecPort){NULL, 9000, 9009, 1, 10, SPEC_PROTO_TCP, {0}},
                "9000-9009:1-10");
}

static void test_port_that_is_wrong_then_class(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "80",        "65536:80", "80:65536", "-1:80",  "80:0",   "80:-1",  "80:80/sctpx",
        "80-70:1-2", "80-81:1",  "0-5:1-6",  "a:b",    ":80",    "80:",    "80:80:80:80:80",
        "80:80/",    "+80:80",   "080:80",   "8 0:80", "80-:80", "-80:80", "80:80-"};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        const char *got = class_of_set("ports", bad[i]);
        if (g_strcmp0(got, "E_PORT") != 0 && g_strcmp0(got, "E_NET") != 0) {
            fail_msg("%s: %s", bad[i], got ? got : "no error");
        }
    }
    static const char *const addresses[] = {"10.0.0.256:1:1", "010.0.0.1:1:1", "::1:1:1",
                                            "localhost:1:1", "1.2.3:1:1"};
    for (size_t i = 0; i < G_N_ELEMENTS(addresses); i++) {
        assert_set_refused("ports", addresses[i], "E_NET");
    }
    g_autoptr(MachineSpec) spec = spec_machine_new();
    g_autoptr(BaseReport) report = base_report_new();
    assert_false(spec_machine_set(spec, "ports", "[\"[::1:1:1\", \"[::g]:1:1\"]", "-p", report));
    assert_int_equal(base_report_n_errors(report), 2);
    assert_int_equal(base_report_item(report, 0)->code, VM_ERROR_NET);
}

/* --- paths and other texts -------------------------------------------------------------------- */

static void test_image_then_path_or_url(void **state)
{
    (void)state;
    static const char *const good[] = {
        "/a b/c.qcow2", "x.qcow2",           "./a:b",        "../x", "~/x",
        "a/b:c",        "https://h/x.qcow2", "http://h:80/x"};
    static const char *const bad[] = {"json:{\"driver\":\"raw\"}",
                                      "nbd://h/x",
                                      "ssh://h/x",
                                      "rbd:pool/x",
                                      "fat:/etc",
                                      "file:x",
                                      "debian:12",
                                      "http://",
                                      "https:///x",
                                      "https://u:p@h/x",
                                      "https://h/a b",
                                      "~root/x",
                                      "a\nb",
                                      "",
                                      "a\tb"};
    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        assert_set_fine("image", good[i]);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        assert_set_refused("image", bad[i], "E_PATH");
    }
    assert_set_refused("disks", "[{source: \"https://h/x\"}]", "E_PATH");
}

static void test_cloud_init_texts_then_class(void **state)
{
    (void)state;
    static const struct {
        const char *path, *value, *cls;
    } cases[] = {
        {"timezone", "../../etc/x", "E_CI"},
        {"timezone", "/etc/x", "E_CI"},
        {"timezone", "Etc/GMT+1", NULL},
        {"locale", "C\nx", "E_CI"},
        {"locale", "C.UTF-8", NULL},
        {"user", "root:0", "E_CI"},
        {"user", "a b", "E_CI"},
        {"user", "ops", NULL},
        {"password_hash", "$1$abc$def", "E_CI"},
        {"password_hash", "!", "E_CI"},
        {"password_hash", "", "E_CI"},
        {"password_hash", "$6$salt$hash", NULL},
        {"packages", "a b", "E_CI"},
        {"packages", "-y", "E_CI"},
        {"packages", "g++-12=1:2.0~x", NULL},
        {"tags", "a b=1", "E_NAME"},
        {"tags", "a=", "E_NAME"},
        {"tags", "a", "E_SCHEMA"},
        {"tags", "a=b=c", NULL},
        {"cpu_model", "x'/>", "E_NAME"},
        {"arch", "sparc", "E_SCHEMA"},
        {"machine", "isapc", "E_SCHEMA"},
        {"sha256", "abc", "E_SCHEMA"},
        {"write_files", "[{path: a}]", "E_CI"},
        {"write_files", "[{path: /a/../b}]", "E_CI"},
        {"write_files", "[{path: /a/}]", "E_CI"},
        {"write_files", "[{path: /a, permissions: \"999\"}]", "E_CI"},
        {"write_files", "[{path: /a, permissions: \"0644\", owner: \"root:root\"}]", NULL},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        const char *got = class_of_set(cases[i].path, cases[i].value);
        if (g_strcmp0(got, cases[i].cls) != 0) {
            fail_msg("%s=%s: %s", cases[i].path, cases[i].value, got ? got : "no error");
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_name_then_rfc1123_label),
        cmocka_unit_test(test_hostname_then_labels),
        cmocka_unit_test(test_bridge_then_interface_name),
        cmocka_unit_test(test_mac_then_one_station),
        cmocka_unit_test(test_networks_then_kinds),
        cmocka_unit_test(test_port_then_parts_and_back),
        cmocka_unit_test(test_port_that_is_wrong_then_class),
        cmocka_unit_test(test_image_then_path_or_url),
        cmocka_unit_test(test_cloud_init_texts_then_class),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
