#include "specs.h"

static void test_required_then_at_the_machine(void **state)
{
    (void)state;
    assert_mistakes("version: 1\nname: t\nvms:\n  web: {cpus: 1}\n",
                    "f:4:3: error[E_SCHEMA]: vms.web.image: is missing");
    g_autoptr(BaseReport) report = base_report_new();
    g_autoptr(MachineSpec) spec = spec_machine_new();
    spec_machine_finish(spec, report);
    g_autofree char *lines = report_lines(report);
    assert_string_equal(
        lines,
        "error[E_SCHEMA]: image: is missing\nerror[E_SCHEMA]: name: is missing - pass --name");
}

static void test_board_then_fits(void **state)
{
    (void)state;
    assert_machine_mistakes("    accel: tcg\n    cpu_model: host\n",
                            "f:7:16: error[E_SCHEMA]: vms.web.cpu_model: 'host' needs KVM, and "
                            "accel is tcg - use max, or another accel");
    assert_machine_mistakes("    accel: auto\n    cpu_model: host\n", "");
    assert_machine_mistakes("    machine: pc\n    firmware: uefi-secure\n",
                            "f:7:15: error[E_SCHEMA]: vms.web.firmware: uefi-secure needs machine "
                            "q35 - use machine q35");
}

static void test_password_then_consent_or_hash(void **state)
{
    (void)state;
    assert_machine_mistakes("    password: abc\n",
                            "f:6:15: error[E_SECRET]: vms.web.password: a password stands here in "
                            "plain text - use password_hash, or "
                            "accept it with allow_plain_password: true");
    assert_machine_mistakes("    password: abc\n    allow_plain_password: true\n", "");
    assert_machine_mistakes(
        "    password: abc\n    allow_plain_password: true\n    password_hash: $6$a$b\n",
        "f:6:15: error[E_SCHEMA]: vms.web.password: stands beside password_hash - keep "
        "password_hash");
}

static void test_disks_then_names_unique(void **state)
{
    (void)state;
    assert_machine_mistakes("    disks:\n      - {name: a, size: 1GiB}\n      - {size: 1GiB}\n     "
                            " - {name: a, size: 1GiB}\n      - {name: root, size: 1GiB}\n",
                            "f:9:9: error[E_SCHEMA]: vms.web.disks[2].name: 'a' stands twice, "
                            "first in line 7 - choose another name\n"
                            "f:10:9: error[E_NAME]: vms.web.disks[3].name: 'root' is a disk that "
                            "every machine has - choose another name");
    assert_machine_mistakes("    disks: [{name: a}]\n",
                            "f:6:13: error[E_SCHEMA]: vms.web.disks[0]: 'size' is missing - a new "
                            "disk needs a size, a copy a source");
}

static void test_macs_then_unique(void **state)
{
    (void)state;
    assert_machine_mistakes("    networks:\n      - {mac: \"52:54:00:00:00:01\"}\n      - {mac: "
                            "\"52:54:00:00:00:0A\"}\n      - {mac: \"52:54:00:00:00:0a\"}\n",
                            "f:9:15: error[E_NET]: vms.web.networks[2].mac: '52:54:00:00:00:0a' "
                            "stands twice, first in line 8");
}

static void test_networks_none_then_no_interface(void **state)
{
    (void)state;
    g_autoptr(MachineSpec) none = machine_with("    networks: [none]\n");
    assert_int_equal(none->networks->len, 0);
    g_autoptr(MachineSpec) empty = machine_with("    networks: []\n");
    assert_int_equal(empty->networks->len, 0);
    assert_machine_mistakes(
        "    networks: [user, none]\n",
        "f:6:22: error[E_SCHEMA]: vms.web.networks[1]: 'none' stands beside other networks");
    assert_machine_mistakes(
        "    networks: [{network: none, mac: \"52:54:00:12:34:56\"}]\n",
        "f:6:37: error[E_SCHEMA]: vms.web.networks[0].mac: 'none' has no interface");
}

static void test_ports_then_network_that_can_and_unique(void **state)
{
    (void)state;
    static const char *const able[] = {"bridge=br0", "user", "auto", "lab"};
    static const char *const unable[] = {"", "none", "macvtap=eth0"};
    for (size_t i = 0; i < G_N_ELEMENTS(able); i++) {
        g_autofree char *text =
            g_strdup_printf("    networks: [%s]\n    ports: [\"1:1\"]\n", able[i]);
        assert_machine_mistakes(text, "");
    }
    for (size_t i = 0; i < G_N_ELEMENTS(unable); i++) {
        g_autofree char *text =
            g_strdup_printf("    networks: [%s]\n    ports: [\"1:1\"]\n", unable[i]);
        assert_machine_mistakes(text,
                                "f:7:12: error[E_SCHEMA]: vms.web.ports: no network of the machine "
                                "can have ports - add network user, or a managed one");
    }
    assert_machine_mistakes("    ports:\n      - \"80:1\"\n      - \"90-99:1-10\"\n      - "
                            "\"80:2/udp\"\n      - \"0.0.0.0:95:2\"\n      - \"127.0.0.2:80:1\"\n  "
                            "    - \"auto:1\"\n      - \"auto:1\"\n      - \"80:9/both\"\n",
                            "f:10:9: error[E_PORT]: vms.web.ports[3]: host port 95 is mapped "
                            "twice, first in line 8 - use another host port\n"
                            "f:14:9: error[E_PORT]: vms.web.ports[7]: host port 80 is mapped "
                            "twice, first in line 7 - use another host port");
}

static void test_plain_http_then_needs_sha256(void **state)
{
    (void)state;
    assert_mistakes("version: 1\nname: t\nvms: {web: {image: \"http://h/x\"}}\n",
                    "f:3:20: error[E_SCHEMA]: vms.web.image: a http: URL needs sha256, since "
                    "anybody on the way can change it - add sha256, or use https://");
    assert_mistakes("version: 1\nname: t\nvms: {web: {image: \"https://h/x\"}}\n", "");
    assert_mistakes("version: 1\nname: t\nvms: {web: {image: \"http://h/x\", sha256: "
                    "0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef}}\n",
                    "");
}

static void test_flags_over_a_file_then_later_wins_and_lists_grow(void **state)
{
    (void)state;
    g_autofree char *text = file_with("    cpus: 2\n    ports: [\"1:1\"]\n    tags: {a: x}\n");
    g_autoptr(BaseReport) report = base_report_new();
    g_autoptr(SpecFile) file = spec_file_load_text(text, strlen(text), "f", "/base", report);
    g_autoptr(MachineSpec) spec = spec_file_steal_machine(file, 0);
    assert_true(spec_machine_set(spec, "cpus", "4", "--cpus", report));
    assert_true(spec_machine_set(spec, "ports", "2:2", "-p", report));
    assert_true(spec_machine_set(spec, "ports", "[3:3, 4:4]", "--set ports", report));
    assert_true(spec_machine_set(spec, "tags", "b=y=z", "--tag", report));
    assert_true(
        spec_machine_set(spec, "cloud_init.user_data", "{packages: [vim]}", "--set", report));
    assert_true(spec_machine_set(spec, "cloud_init", "{schema: warn}", "--set", report));
    assert_true(spec_machine_set(spec, "run", "[ -e /x ] || touch /x", "--set run", report));
    assert_true(spec_machine_set(spec, "run", "[\"a\", \"b\"]", "--set run", report));
    assert_true(spec_machine_set(spec, "timeouts.boot", "9m", "--set", report));
    spec_machine_finish(spec, report);
    g_autofree char *lines = report_lines(report);
    assert_string_equal(lines, "");
    assert_int_equal(spec->cpus, 4);
    assert_int_equal(spec->ports->len, 4);
    assert_string_equal(g_hash_table_lookup(spec->tags, "b"), "y=z");
    assert_string_equal(spec->cloud_init.user_data.text, "#cloud-config\n{packages: [vim]}\n");
    assert_int_equal(spec->cloud_init.schema, SPEC_CHECK_WARN);
    assert_int_equal(spec->run->len, 3);
    assert_string_equal(g_ptr_array_index(spec->run, 0), "[ -e /x ] || touch /x");
    assert_true(spec->timeouts.boot_ms == 540000);
    assert_string_equal(spec_machine_origin(spec, "cpus")->file, "--cpus");
}

static void test_wrong_flag_then_line_names_it(void **state)
{
    (void)state;
    g_autoptr(BaseReport) report = base_report_new();
    g_autoptr(MachineSpec) spec = spec_machine_new();
    assert_false(spec_machine_set(spec, "cpus", "0x10", "--cpus", report));
    assert_false(spec_machine_set(spec, "memroy", "1G", "--set", report));
    assert_false(spec_machine_set(spec, "ports", "[a", "--set ports", report));
    assert_false(spec_machine_set(spec, "user", "\xff", "--user", report));
    assert_false(spec_machine_set(spec, "autostart", "true", "--set autostart", report));
    g_autofree char *lines = report_lines(report);
    assert_non_null(strstr(lines, "--cpus: error[E_SCHEMA]: cpus: expected an integer, got '0x10' "
                                  "- write it in decimal digits"));
    assert_non_null(
        strstr(lines, "--set: error[E_SCHEMA]: memroy: unknown key - did you mean 'memory'?"));
    assert_non_null(strstr(lines, "--set ports:1:1: error[E_YAML_SYNTAX]: "));
    assert_non_null(strstr(lines, "--user: error[E_YAML_ENC]: user: the value is not UTF-8"));
    assert_non_null(
        strstr(lines, "--set autostart: error[E_SCHEMA]: autostart: not supported yet"));
    assert_int_equal(base_report_n_errors(report), 5);
}

static void test_option_infos_then_complete(void **state)
{
    (void)state;
    bool has_letter[128] = {false};
    assert_true(spec_option_n() > 40);
    for (unsigned i = 0; i < spec_option_n(); i++) {
        const SpecOptionInfo *info = spec_option_info(i);
        size_t n = strlen(info->doc);
        assert_true(n > 0 && info->doc[n - 1] == '.');
        assert_true(info->is_switch || !info->flag == !info->metavar);
        assert_true(!info->is_secret || !info->flag); /* a secret is no argument */
        if (info->short_flag) {
            assert_false(has_letter[(int)info->short_flag]);
            has_letter[(int)info->short_flag] = true;
        }
        for (unsigned k = 0; k < i; k++) {
            assert_true(g_strcmp0(info->flag, spec_option_info(k)->flag) != 0 || !info->flag);
            assert_string_not_equal(info->path, spec_option_info(k)->path);
        }
    }
    assert_null(spec_option_info(spec_option_n()));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_required_then_at_the_machine),
        cmocka_unit_test(test_board_then_fits),
        cmocka_unit_test(test_password_then_consent_or_hash),
        cmocka_unit_test(test_disks_then_names_unique),
        cmocka_unit_test(test_macs_then_unique),
        cmocka_unit_test(test_networks_none_then_no_interface),
        cmocka_unit_test(test_ports_then_network_that_can_and_unique),
        cmocka_unit_test(test_plain_http_then_needs_sha256),
        cmocka_unit_test(test_flags_over_a_file_then_later_wins_and_lists_grow),
        cmocka_unit_test(test_wrong_flag_then_line_names_it),
        cmocka_unit_test(test_option_infos_then_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
