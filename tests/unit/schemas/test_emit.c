#include <jansson.h>
#include "schemas/option.h"
#include "specs.h"

/* Random machines from the table's own vocabulary, and that what is written reads back as the same.
 */

typedef struct {
    const char *path;
    const char *values[8];
} Vocabulary;

static const Vocabulary vocabulary[] = {
    {"cpus", {"1", "2", "255"}},
    {"memory", {"64MiB", "1GiB", "1536MiB", "4TiB"}},
    {"disk", {"1MiB", "20G", "16TiB", "1025KiB"}},
    {"sha256", {"0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF"}},
    {"image_format", {"auto", "qcow2", "raw"}},
    {"thin", {"true", "false"}},
    {"machine", {"q35"}},
    {"firmware", {"auto", "bios", "uefi", "uefi-secure"}},
    {"cpu_model", {"max", "qemu64", "EPYC-v4"}},
    {"accel", {"auto", "kvm", "tcg"}},
    {"hostname", {"a", "yes", "1a.b", "null", "no"}},
    {"user", {"ops", "_x", "on"}},
    {"ssh_keys", {"agent", "~/.ssh/a.pub", "/k/#a.pub", "ssh-ed25519 AAAA it's: me", "x y.pub"}},
    {"password_hash", {"$6$a$b"}},
    {"timezone", {"Europe/Berlin", "Etc/GMT+1"}},
    {"locale", {"C.UTF-8", "de_DE@euro"}},
    {"packages", {"vim", "g++=1:2~3", "[a, b]"}},
    {"write_files",
     {"[{path: /a}]", "[{path: /b, content: \"x\\n  y\\n\\n\"}]",
      "[{path: /c, content: \" lead\\ttab\\r\\n\", owner: \"a:b\", permissions: \"0600\"}]",
      "[{path: \"/d e\", content: \"\", append: true, encoding: base64}]"}},
    {"run", {"true", "[ -e /x ] || echo \"a: b\" # c", "a\nb\n", "\n\n a", "${HOME}"}},
    {"ca_certs", {"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"}},
    {"cloud_init.user_data",
     {"#cloud-config\n{}\n", "#!/bin/sh\n\techo é  \n", "{packages: [vim]}"}},
    {"cloud_init.vendor_data", {"{a: 'b'}"}},
    {"cloud_init.network_config", {"version: 2\nethernets: {}\n"}},
    {"cloud_init.meta_data", {"{a: b}"}},
    {"cloud_init.schema", {"strict", "warn", "off"}},
    {"disks", {"[{size: 1GiB}]", "[{source: /x:y, readonly: true, bus: scsi}]"}},
    {"networks",
     {"user", "bridge=br0", "[{bridge: br-1}]", "[]",
      "lab,ip=10.77.0.9,ip6=fd00::9,mac=52:54:00:00:00:01",
      "[{network: auto, rate_in: 20Mbit, rate_out: 1500kbit, link: down}]",
      "macvtap=eth0.7,private", "[{network: lab, default_route: false}]"}},
    {"port_range", {"1-65535", "20000-20000"}},
    {"egress.restricted", {"true", "false"}},
    {"egress.default", {"allow", "deny"}},
    {"egress.allow", {"10.0.0.0/8", "[\"0.0.0.0/0:443/tcp\", \"::/0\"]", "192.0.2.0/24/icmp"}},
    {"egress.deny", {"[2001:db8::/32]:8000-8099/udp", "[]"}},
    {"ports", {"auto:80", "[auto:1-9/udp]", "[\"[::1]:auto:80/both\"]", "[::1]:auto:81"}},
    {"console", {"true", "false"}},
    {"display", {"none", "vnc"}},
    {"ready", {"boot", "[ssh, agent]", "cloud-init"}},
    {"timeouts.boot", {"1s", "90s", "24h"}},
    {"timeouts.ready", {"1500ms"}},
    {"timeouts.stop", {"0s", "1h"}},
    {"tags", {"a=1", "b/c=x: y", "d= ", "e=true"}},
    {"libvirt_xml", {"[{xpath: \"/a[@b='c']\", value: \"<x>\\n</x>\\n\"}]"}},
    {"qemu_args", {"-device", "-x,y=\"z\""}},
};

static void set_some(MachineSpec *spec, GRand *random, BaseReport *report)
{
    for (size_t i = 0; i < G_N_ELEMENTS(vocabulary); i++) {
        int n = 0;
        while (n < 8 && vocabulary[i].values[n]) {
            n++;
        }
        for (int times = g_rand_int_range(random, 0, 3); times > 0; times--) {
            const char *value = vocabulary[i].values[g_rand_int_range(random, 0, n)];
            if (!spec_machine_set(spec, vocabulary[i].path, value, "--set", report)) {
                g_autofree char *lines = report_lines(report);
                fail_msg("%s=%s: %s", vocabulary[i].path, value, lines);
            }
        }
    }
}

static MachineSpec *random_machine(GRand *random)
{
    g_autoptr(BaseReport) report = base_report_new();
    MachineSpec *spec = spec_machine_new();
    assert_true(spec_machine_set(spec, "name", "web", "--name", report));
    assert_true(spec_machine_set(spec, "image", "/i x", "IMAGE", report));
    set_some(spec, random, report);
    return spec;
}

/* The "spec" of its JSON, without positions. */
static json_t *bare_json(const MachineSpec *spec)
{
    static const char *const sources[] = {"user_data", "vendor_data", "network_config",
                                          "meta_data"};
    g_autofree char *text = spec_machine_to_json(spec);
    json_t *root = json_loads(text, 0, NULL);
    json_t *bare = json_incref(json_object_get(root, "spec"));
    json_decref(root);
    for (size_t i = 0; i < G_N_ELEMENTS(sources); i++) {
        json_t *source = json_object_get(json_object_get(bare, "cloud_init"), sources[i]);
        json_object_del(source, "file");
        json_object_del(source, "line");
        json_object_del(source, "col");
    }
    return bare;
}

static void assert_same_machine(const MachineSpec *a, const MachineSpec *b)
{
    json_t *json_a = bare_json(a), *json_b = bare_json(b);
    if (!json_equal(json_a, json_b)) {
        fail_msg("%s\n%s", json_dumps(json_a, JSON_SORT_KEYS), json_dumps(json_b, JSON_SORT_KEYS));
    }
    json_decref(json_a);
    json_decref(json_b);
}

static void test_random_machine_to_yaml_then_loads_equal(void **state)
{
    (void)state;
    g_autoptr(GRand) random = g_rand_new_with_seed(1);
    for (int round = 0; round < 500; round++) {
        g_autoptr(MachineSpec) spec = random_machine(random);
        g_autofree char *text = spec_machine_to_yaml(spec, true);
        g_autoptr(BaseReport) report = base_report_new();
        g_autoptr(SpecFile) file = spec_file_load_text(text, strlen(text), "f", "/", report);
        g_autofree char *lines = report_lines(report);
        if (*lines) {
            fail_msg("%s\n%s", lines, text);
        }
        g_autoptr(MachineSpec) again = spec_file_steal_machine(file, 0);
        g_autofree char *text_again = spec_machine_to_yaml(again, true);
        assert_string_equal(text, text_again);
        g_autoptr(BaseReport) finish = base_report_new();
        spec_machine_finish(spec, finish);
        spec_machine_finish(again, finish);
        assert_same_machine(spec, again);
    }
}

static void test_random_machine_to_json_then_equal_with_origins(void **state)
{
    (void)state;
    g_autoptr(GRand) random = g_rand_new_with_seed(2);
    for (int round = 0; round < 500; round++) {
        g_autoptr(MachineSpec) spec = random_machine(random);
        g_autoptr(BaseReport) report = base_report_new();
        spec_machine_finish(spec, report);
        g_autofree char *json = spec_machine_to_json(spec);
        g_autoptr(GError) error = NULL;
        g_autoptr(MachineSpec) again = spec_machine_from_json(json, &error);
        assert_null(error);
        g_autofree char *json_again = spec_machine_to_json(again);
        assert_string_equal(json, json_again);
        assert_null(strchr(json, '\n'));
        assert_int_equal(g_hash_table_size(spec->origins), g_hash_table_size(again->origins));
    }
}

static void test_only_what_was_written_then_in_yaml(void **state)
{
    (void)state;
    g_autoptr(MachineSpec) spec =
        machine_with("    cpus: 1\n    password_hash: $6$a$b\n    networks: [none]\n");
    g_autofree char *public = spec_machine_to_yaml(spec, false);
    assert_string_equal(
        public,
        "version: 1\nname: web\nvms:\n  web:\n    image: /base/i\n    cpus: 1\n    networks: []\n");
    g_autofree char *all = spec_machine_to_yaml(spec, true);
    assert_non_null(strstr(all, "    password_hash: $6$a$b\n"));
}

static void test_binary_user_data_then_survives_json(void **state)
{
    (void)state;
    g_autoptr(MachineSpec) spec = machine_with("");
    spec->cloud_init.user_data =
        (SpecText){g_memdup2("\x1f\x8b\0\xff", 5), 4, {g_strdup("/u.gz"), 1, 1}, true};
    g_autofree char *json = spec_machine_to_json(spec);
    g_autoptr(MachineSpec) again = spec_machine_from_json(json, NULL);
    assert_int_equal(again->cloud_init.user_data.n_bytes, 4);
    assert_memory_equal(again->cloud_init.user_data.text, "\x1f\x8b\0\xff", 5);
    assert_string_equal(again->cloud_init.user_data.pos.file, "/u.gz");
}

/* A record that was cut or changed is refused, or is still a machine; it never crashes anybody. */
static void test_damaged_json_then_state_error(void **state)
{
    (void)state;
    g_autoptr(MachineSpec) spec = machine_with(
        "    ports: [\"1:1\"]\n    cloud_init: {user_data: {a: b}}\n    disks: [{size: 1GiB}]\n");
    g_autofree char *json = spec_machine_to_json(spec);
    size_t n = strlen(json);
    for (size_t i = 0; i < n; i++) {
        g_autofree char *cut = g_strndup(json, i);
        g_autoptr(GError) error = NULL;
        assert_null(spec_machine_from_json(cut, &error));
        assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_STATE));
        for (unsigned bit = 0; bit < 7; bit++) {
            g_autofree char *flipped = g_strdup(json);
            flipped[i] = (char)(flipped[i] ^ (1 << bit));
            g_autoptr(GError) why = NULL;
            g_autoptr(MachineSpec) got = spec_machine_from_json(flipped, &why);
            assert_true((got == NULL) == g_error_matches(why, VM_ERROR, VM_ERROR_STATE));
        }
    }
    static const char *const others[] = {
        "[]",
        "{}",
        "{\"format\":2,\"spec\":{},\"origins\":{}}",
        "{\"format\":1,\"spec\":[],\"origins\":{}}",
        "{\"format\":1,\"spec\":{\"disks\":[3]},\"origins\":{}}",
        "{\"format\":1,\"spec\":{\"cloud_init\":{\"user_data\":{}}},\"origins\":{}}",
        "{\"format\":1,\"spec\":{\"ports\":[null]},\"origins\":{\"ports\":[1]}}"};
    for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(spec_machine_from_json(others[i], &error));
        assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_STATE));
    }
}

/* --- committed files -------------------------------------------------------------------------- */

/* With UPDATE_GENERATED in the environment the file is written instead. */
static void assert_generated(const char *path, const char *text)
{
    g_autofree char *full = g_build_filename(TEST_SOURCE_DIR, "..", path, NULL);
    g_autofree char *committed = NULL;
    if (g_getenv("UPDATE_GENERATED")) {
        assert_true(g_file_set_contents(full, text, -1, NULL));
    }
    assert_true(g_file_get_contents(full, &committed, NULL, NULL));
    if (!g_str_equal(committed, text)) {
        fail_msg(
            "%s is not what the tables say: run UPDATE_GENERATED=1 build/tests/test-schemas-emit",
            path);
    }
}

static void test_json_schema_then_as_committed(void **state)
{
    (void)state;
    g_autofree char *text = spec_emit_json_schema();
    json_t *schema = json_loads(text, 0, NULL);
    assert_non_null(schema);
    json_decref(schema);
    assert_generated("schemas/spec-v1.schema.json", text);
}

static void test_reference_then_as_committed(void **state)
{
    (void)state;
    g_autofree char *text = spec_emit_reference_md();
    g_autofree char *network = spec_emit_network_reference_md();
    assert_generated("docs/reference/machine.md", text);
    assert_generated("docs/reference/network.md", network);
}

static void add_words(GString *out, const SpecTable *table)
{
    for (unsigned i = 0; i < table->n_options; i++) {
        const SpecOption *row = &table->options[i];
        g_string_append_printf(out, "\"%s: \"\n", spec_option_key(row));
        for (unsigned k = 0; row->choices && row->choices->texts[k]; k++) {
            g_string_append_printf(out, "\"%s\"\n", row->choices->texts[k]);
        }
        if (row->default_text) {
            g_string_append_printf(out, "\"%s\"\n", row->default_text);
        }
        if (row->record && row->record->table) {
            add_words(out, row->record->table);
        }
    }
}

/* The words of the language, for the fuzzer of spec files. */
static void test_fuzz_dictionary_then_as_committed(void **state)
{
    (void)state;
    g_autoptr(GString) out = g_string_new("# Generated from the tables in schemas/.\n");
    g_string_append(out, "\"version: 1\\x0aname: t\\x0avms:\\x0a web:\\x0a  image: i\\x0a  "
                         "\"\n\"{\"\n\"[\"\n\"- \"\n\"|\\x0a\"\n");
    add_words(out, &spec_head_table);
    add_words(out, &spec_machine_table);
    add_words(out, &spec_network_table);
    assert_generated("tests/fuzz/spec_yaml.dict", out->str);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_machine_to_yaml_then_loads_equal),
        cmocka_unit_test(test_random_machine_to_json_then_equal_with_origins),
        cmocka_unit_test(test_only_what_was_written_then_in_yaml),
        cmocka_unit_test(test_binary_user_data_then_survives_json),
        cmocka_unit_test(test_damaged_json_then_state_error),
        cmocka_unit_test(test_json_schema_then_as_committed),
        cmocka_unit_test(test_reference_then_as_committed),
        cmocka_unit_test(test_fuzz_dictionary_then_as_committed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
