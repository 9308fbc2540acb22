#include <fcntl.h>
#include <glib/gstdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "schemas/rows.h"
#include "specs.h"

/* --- every field ------------------------------------------------------------------------------ */

static void test_all_fields_then_members(void **state)
{
    (void)state;
    g_autoptr(MachineSpec) spec = machine_with("    cpus: 2\n"
                                               "    memory: 2GiB\n"
                                               "    disk: 20G\n"
                                               "    thin: false\n"
                                               "    image_format: raw\n"
                                               "    machine: pc\n"
                                               "    firmware: uefi\n"
                                               "    accel: tcg\n"
                                               "    cpu_model: max\n"
                                               "    hostname: Web-1.lab.test\n"
                                               "    user: ops\n"
                                               "    timezone: Europe/Berlin\n"
                                               "    locale: de_DE.UTF-8\n"
                                               "    packages: [vim, git]\n"
                                               "    console: false\n"
                                               "    display: vnc\n"
                                               "    ready: [boot, agent]\n"
                                               "    timeouts: {boot: 3m, ready: 1h, stop: 0s}\n"
                                               "    tags: {a: b, team/x: 12}\n"
                                               "    qemu_args: [-device, \"x,y=z\"]\n");
    assert_string_equal(spec->name, "web");
    assert_string_equal(spec->image, "/base/i");
    assert_int_equal(spec->cpus, 2);
    assert_true(spec->memory_bytes == 2 * SPEC_GIB && spec->disk_bytes == 20 * SPEC_GIB);
    assert_false(spec->is_thin);
    assert_int_equal(spec->image_format, SPEC_IMAGE_FORMAT_RAW);
    assert_int_equal(spec->machine, SPEC_MACHINE_PC);
    assert_int_equal(spec->firmware, SPEC_FIRMWARE_UEFI);
    assert_int_equal(spec->accel, SPEC_ACCEL_TCG);
    assert_string_equal(spec->cpu_model, "max");
    assert_string_equal(spec->hostname, "Web-1.lab.test");
    assert_string_equal(spec->user, "ops");
    assert_string_equal(spec->timezone, "Europe/Berlin");
    assert_string_equal(spec->locale, "de_DE.UTF-8");
    assert_int_equal(spec->packages->len, 2);
    assert_string_equal(g_ptr_array_index(spec->packages, 1), "git");
    assert_false(spec->is_console);
    assert_int_equal(spec->display, SPEC_DISPLAY_VNC);
    assert_int_equal(spec->ready, SPEC_READY_BOOT | SPEC_READY_AGENT);
    assert_true(spec->timeouts.boot_ms == 180000 && spec->timeouts.ready_ms == 3600000 &&
                spec->timeouts.stop_ms == 0);
    assert_string_equal(g_hash_table_lookup(spec->tags, "team/x"), "12");
    assert_int_equal(spec->qemu_args->len, 2);
}

static void test_nothing_written_then_defaults(void **state)
{
    (void)state;
    g_autoptr(MachineSpec) spec = machine_with("");
    assert_int_equal(spec->cpus, 1);
    assert_true(spec->memory_bytes == SPEC_GIB && spec->disk_bytes == 0);
    assert_true(spec->is_thin && spec->is_console);
    assert_string_equal(spec->hostname, "web");
    assert_null(spec->user);
    assert_null(spec->cpu_model);
    assert_int_equal(spec->machine, SPEC_MACHINE_Q35);
    assert_int_equal(spec->cloud_init.schema, SPEC_CHECK_STRICT);
    assert_int_equal(spec->ready, 0);
    assert_true(spec->timeouts.boot_ms == 300000 && spec->timeouts.ready_ms == 900000 &&
                spec->timeouts.stop_ms == 30000);
    assert_int_equal(spec->networks->len, 1);
    assert_int_equal(((SpecNetwork *)g_ptr_array_index(spec->networks, 0))->kind, SPEC_NET_AUTO);
    assert_null(spec_machine_origin(spec, "cpus"));
    assert_int_equal(spec_machine_origin(spec, "image")->line, 5);
}

static void test_records_then_members_and_places(void **state)
{
    (void)state;
    g_autoptr(MachineSpec) spec = machine_with(
        "    disks:\n"
        "      - {size: 10GiB}\n"
        "      - {name: disk1, source: ./d.raw, readonly: true, bus: scsi}\n"
        "    write_files:\n"
        "      - path: /etc/motd\n"
        "        content: |\n"
        "          hello\n"
        "        permissions: 0600\n"
        "      - {path: /x, encoding: base64, content: aGk=, owner: \"a:b\", append: true}\n"
        "    libvirt_xml:\n"
        "      - {xpath: /domain/x, value: <a/>}\n");
    const SpecDisk *first = g_ptr_array_index(spec->disks, 0);
    const SpecDisk *second = g_ptr_array_index(spec->disks, 1);
    assert_string_equal(first->name, "disk2"); /* disk1 is taken */
    assert_true(first->size_bytes == 10 * SPEC_GIB);
    assert_int_equal(first->pos.line, 7);
    assert_int_equal(first->pos.col, 9);
    assert_string_equal(second->source, "/base/d.raw");
    assert_true(second->is_readonly && second->bus == SPEC_BUS_SCSI);
    const SpecWriteFile *motd = g_ptr_array_index(spec->write_files, 0);
    const SpecWriteFile *other = g_ptr_array_index(spec->write_files, 1);
    assert_string_equal(motd->content, "hello\n");
    assert_string_equal(motd->permissions, "0600");
    assert_string_equal(motd->owner, "root:root");
    assert_false(motd->is_base64 || motd->is_append);
    assert_true(other->is_base64 && other->is_append);
    assert_string_equal(other->owner, "a:b");
    const SpecXmlPatch *patch = g_ptr_array_index(spec->libvirt_xml, 0);
    assert_string_equal(patch->value, "<a/>");
}

/* --- what is refused -------------------------------------------------------------------------- */

static void assert_later(const SpecTable *table, const char *head, const char *tail)
{
    for (unsigned i = 0; i < table->n_options; i++) {
        const SpecOption *row = &table->options[i];
        if (row->kind != SPEC_KIND_LATER || strchr(row->info.path, '.')) {
            continue;
        }
        g_autofree char *text = g_strdup_printf("%s%s: [x]%s", head, row->info.path, tail);
        g_autofree char *lines = mistakes_of(text, strlen(text));
        g_autofree char *expected = g_strdup_printf("%s: not supported yet", row->info.path);
        if (!g_str_has_suffix(lines, expected) || strchr(lines, '\n')) {
            fail_msg("%s: %s", row->info.path, lines);
        }
    }
}

static void test_every_row_of_later_then_one_line(void **state)
{
    (void)state;
    assert_later(&spec_head_table, "version: 1\nname: t\nvms: {w: {image: i}}\n", "\n");
    assert_later(&spec_machine_table, "version: 1\nname: t\nvms:\n  web:\n    image: i\n    ",
                 "\n");
    assert_later(spec_table_find(&spec_machine_table, "disks")->record->table,
                 "version: 1\nname: t\nvms:\n  web:\n    image: i\n    disks: [{size: 1GiB, ",
                 "}]\n");
    assert_later(spec_table_find(&spec_machine_table, "networks")->record->table,
                 "version: 1\nname: t\nvms:\n  web:\n    image: i\n    networks: [{network: user, ",
                 "}]\n");
    assert_machine_mistakes("    cloud_init: {vars: {a: b}}\n",
                            "f:6:18: error[E_SCHEMA]: vms.web.cloud_init.vars: not supported yet");
    assert_machine_mistakes("    autostart: true\n",
                            "f:6:5: error[E_SCHEMA]: vms.web.autostart: not supported yet");
    assert_machine_mistakes("    autostart: false\n    tpm: false\n", "");
    assert_machine_mistakes(
        "    ready: [ssh, {tcp: 80}]\n",
        "f:6:19: error[E_SCHEMA]: vms.web.ready[1]: 'tcp' is not supported yet");
    assert_machine_mistakes("    hostname: ${count.index}\n",
                            "f:6:15: error[E_SCHEMA]: vms.web.hostname: expressions (${...}) are "
                            "not supported yet - write the value out");
    assert_machine_mistakes(
        "    cloud_init: {user_data: [a, b]}\n",
        "f:6:29: error[E_SCHEMA]: vms.web.cloud_init.user_data: a list of texts "
        "to merge is not supported yet - give one file, text or map");
}

static void test_many_mistakes_then_all_in_one_pass_by_place(void **state)
{
    (void)state;
    assert_mistakes(
        "version: 2\n"
        "nam: t\n"
        "vms:\n"
        "  web:\n"
        "    cpus: two\n"
        "    memroy: 2GiB\n"
        "    memory: 512\n"
        "    console: yes\n"
        "  A b: {image: x}\n",
        "f:1:1: error[E_SCHEMA]: name: is missing\n"
        "f:1:10: error[E_SCHEMA]: version: 2 is not 1 - this program reads version 1\n"
        "f:2:1: error[E_SCHEMA]: nam: unknown key - did you mean 'name'?\n"
        "f:4:3: error[E_SCHEMA]: vms.web.image: is missing\n"
        "f:5:11: error[E_SCHEMA]: vms.web.cpus: expected an integer, got 'two' - write it in "
        "decimal digits\n"
        "f:6:5: error[E_SCHEMA]: vms.web.memroy: unknown key - did you mean 'memory'?\n"
        "f:7:13: error[E_SCHEMA]: vms.web.memory: expected a size with its unit, got '512' - add a "
        "unit: KiB, MiB, GiB or TiB\n"
        "f:8:14: error[E_SCHEMA]: vms.web.console: expected true or false, got 'yes'\n"
        "f:9:3: error[E_NAME]: name 'A b' is not allowed: use lower-case letters, digits and '-'");
}

static void test_types_by_schema_then_no_guessing(void **state)
{
    (void)state;
    static const char *const integers[] = {"0x10", "1_0", "1e2",  "010", "2.5",
                                           "+2",   "two", ".inf", "~",   ""};
    for (size_t i = 0; i < G_N_ELEMENTS(integers); i++) {
        assert_set_refused("cpus", integers[i], "E_SCHEMA");
    }
    assert_set_refused("cpus", "-1", "E_RANGE");
    assert_set_refused("cpus", "99999999999999999999", "E_RANGE");
    static const char *const booleans[] = {"yes", "on", "True", "1", "no", "~", "y"};
    for (size_t i = 0; i < G_N_ELEMENTS(booleans); i++) {
        assert_set_refused("console", booleans[i], "E_SCHEMA");
    }
    assert_machine_mistakes("    cpus: \"2\"\n",
                            "f:6:11: error[E_SCHEMA]: vms.web.cpus: expected an integer, got the "
                            "quoted text '2' - write it without quotes");
    assert_machine_mistakes("    console: \"true\"\n",
                            "f:6:14: error[E_SCHEMA]: vms.web.console: expected true or false, got "
                            "the quoted text 'true' - write it without quotes");
    g_autoptr(MachineSpec) spec = machine_with("    hostname: yes\n    tags: {a: 010}\n");
    assert_string_equal(spec->hostname, "yes");
    assert_string_equal(g_hash_table_lookup(spec->tags, "a"), "010");
}

static void test_wrong_shapes_then_schema(void **state)
{
    (void)state;
    assert_mistakes("- a\n",
                    "f:1:1: error[E_SCHEMA]: expected a map, got a list - begin with version: 1");
    assert_mistakes("version: 1\nname: t\nvms: [a]\n",
                    "f:3:6: error[E_SCHEMA]: vms: expected a map, got a list");
    assert_mistakes("version: 1\nname: t\nvms: {}\n",
                    "f:3:6: error[E_SCHEMA]: vms: has no machine");
    assert_mistakes("version: 1\nname: t\nvms:\n  web:\n",
                    "f:4:3: error[E_SCHEMA]: vms.web: expected a map, got nothing");
    assert_machine_mistakes(
        "    packages: vim\n",
        "f:6:15: error[E_SCHEMA]: vms.web.packages: expected a list, got 'vim' - put it in [ ]");
    assert_machine_mistakes("    cloud_init: x\n",
                            "f:6:17: error[E_SCHEMA]: vms.web.cloud_init: expected a map, got 'x'");
    assert_machine_mistakes(
        "    disks: [10GiB]\n",
        "f:6:13: error[E_SCHEMA]: vms.web.disks[0]: expected a map, got '10GiB'");
    assert_machine_mistakes("    write_files: [{content: x}]\n",
                            "f:6:19: error[E_SCHEMA]: vms.web.write_files[0].path: is missing");
    assert_machine_mistakes(
        "    name: x\n",
        "f:6:5: error[E_SCHEMA]: vms.web.name: is no key here - the key above it is the name");
    assert_machine_mistakes(
        "    networks: user\n    ports: [\"1:1\"]\n",
        "f:6:15: error[E_SCHEMA]: vms.web.networks: expected a list, got 'user' - put it in [ ]");
    assert_machine_mistakes("    timeouts.boot: 1s\n",
                            "f:6:5: error[E_SCHEMA]: vms.web.timeouts.boot: unknown key");
}

static void test_secret_then_never_in_a_message(void **state)
{
    (void)state;
    g_autofree char *text =
        file_with("    password_hash: \"S3CR3T x\"\n    password: \"S3CR3T\\n\"\n");
    g_autofree char *lines = mistakes_of(text, strlen(text));
    assert_null(strstr(lines, "S3CR3T"));
    assert_non_null(strstr(lines, "password_hash: the value is not allowed"));
}

static void test_ssh_keys_then_paths_resolved_and_private_ones_refused(void **state)
{
    (void)state;
    g_autoptr(MachineSpec) spec =
        machine_with("    ssh_keys: [agent, ~/a.pub, k/b.pub, \"ssh-ed25519 AAAA c\"]\n");
    assert_string_equal(g_ptr_array_index(spec->ssh_keys, 0), "agent");
    assert_string_equal(g_ptr_array_index(spec->ssh_keys, 1), "~/a.pub");
    assert_string_equal(g_ptr_array_index(spec->ssh_keys, 2), "/base/k/b.pub");
    assert_string_equal(g_ptr_array_index(spec->ssh_keys, 3), "ssh-ed25519 AAAA c");
    assert_int_equal(spec_machine_origin(spec, "ssh_keys[3]")->col, 41);
    assert_machine_mistakes(
        "    ssh_keys:\n      - |\n        -----BEGIN OPENSSH PRIVATE KEY-----\n        abc\n",
        "f:7:9: error[E_SECRET]: vms.web.ssh_keys[0]: a private key stands here - give the public "
        "key");
    assert_machine_mistakes(
        "    ssh_keys: [\"gh:me\", \"ssh-rsa A\\nssh-rsa B\"]\n",
        "f:6:16: error[E_SCHEMA]: vms.web.ssh_keys[0]: 'gh:me': keys of an online account are not "
        "supported yet - save the keys to a file\n"
        "f:6:25: error[E_CI]: vms.web.ssh_keys[1]: has several lines - one key a list item");
}

/* --- texts of cloud-init ---------------------------------------------------------------------- */

/* Where line 2 of the text (the first key) is in the file. */
static void assert_second_line(const SpecText *text, unsigned line, unsigned col)
{
    assert_int_equal(text->pos.line + 1, line);
    assert_int_equal(text->pos.col, col);
}

static void test_inline_user_data_then_text_and_place(void **state)
{
    (void)state;
    g_autoptr(MachineSpec) block = machine_with("    cloud_init:\n"
                                                "      user_data:\n"
                                                "        packages: [vim]\n"
                                                "        runcmd:\n"
                                                "          - [ls]\n"
                                                "      meta_data: {a: b}\n");
    assert_string_equal(block->cloud_init.user_data.text,
                        "#cloud-config\npackages: [vim]\nruncmd:\n  - [ls]\n");
    assert_int_equal(block->cloud_init.user_data.n_bytes, strlen(block->cloud_init.user_data.text));
    assert_second_line(&block->cloud_init.user_data, 8, 9);
    assert_false(block->cloud_init.user_data.is_file);
    assert_string_equal(block->cloud_init.meta_data.text, "{a: b}\n");
    g_autoptr(MachineSpec) lines = machine_with("    cloud_init:\n"
                                                "      user_data: |\n"
                                                "        #!/bin/sh\n"
                                                "        true\n");
    assert_string_equal(lines->cloud_init.user_data.text, "#!/bin/sh\ntrue\n");
    assert_second_line(&lines->cloud_init.user_data, 9, 9);
}

static char *scratch_dir(void)
{
    char *dir = g_strdup("/tmp/test-schemas-XXXXXX");
    assert_non_null(g_mkdtemp(dir));
    return dir;
}

static void put(const char *dir, const char *name, const char *bytes, gssize n_bytes)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    assert_true(g_file_set_contents(path, bytes, n_bytes, NULL));
}

static char *load_in(const char *dir, const char *machine_lines, MachineSpec **out)
{
    g_autofree char *text = file_with(machine_lines);
    put(dir, "spec.yaml", text, -1);
    g_autofree char *path = g_build_filename(dir, "spec.yaml", NULL);
    g_autoptr(BaseReport) report = base_report_new();
    g_autoptr(SpecFile) file = spec_file_load(path, report);
    assert_non_null(file);
    g_autoptr(MachineSpec) spec = spec_file_steal_machine(file, 0);
    spec_machine_finish(spec, report);
    if (out) {
        *out = g_steal_pointer(&spec);
    }
    return report_lines(report);
}

static void remove_dir(const char *dir)
{
    g_autoptr(GDir) open = g_dir_open(dir, 0, NULL);
    const char *name;
    while ((name = g_dir_read_name(open))) {
        g_autofree char *path = g_build_filename(dir, name, NULL);
        g_remove(path);
    }
    g_rmdir(dir);
}

static void test_user_data_file_then_bytes(void **state)
{
    (void)state;
    g_autofree char *dir = scratch_dir();
    put(dir, "u.yaml", "#cloud-config\r\n{}\n", -1);
    put(dir, "u.gz", "\x1f\x8b\x00\x01", 4);
    put(dir, "ca.pem", "-----BEGIN CERTIFICATE-----\nx\n", -1);
    MachineSpec *spec = NULL;
    g_autofree char *lines = load_in(
        dir, "    ca_certs: [ca.pem]\n    cloud_init: {user_data: ./u.yaml, vendor_data: u.gz}\n",
        &spec);
    assert_string_equal(lines, "");
    assert_string_equal(spec->cloud_init.user_data.text, "#cloud-config\r\n{}\n");
    assert_true(spec->cloud_init.user_data.is_file);
    assert_true(g_str_has_suffix(spec->cloud_init.user_data.pos.file, "/u.yaml"));
    assert_int_equal(spec->cloud_init.user_data.pos.line, 1);
    assert_int_equal(spec->cloud_init.vendor_data.n_bytes, 4);
    assert_string_equal(g_ptr_array_index(spec->ca_certs, 0), "-----BEGIN CERTIFICATE-----\nx\n");
    spec_machine_free(spec);
    remove_dir(dir);
}

static void test_user_data_file_that_is_wrong_then_class(void **state)
{
    (void)state;
    g_autofree char *dir = scratch_dir();
    g_autofree char *large = g_strnfill(1024 * 1024 + 1, 'x');
    put(dir, "nul", "#cloud-config\n\0", 15);
    put(dir, "large", large, 1024 * 1024 + 1);
    put(dir, "fits", large, 1024 * 1024);
    g_autofree char *fifo = g_build_filename(dir, "fifo", NULL);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    static const struct {
        const char *name, *cls;
    } cases[] = {{"nul", "E_CI"}, {"large", "E_CI"},         {"fifo", "E_PATH"},
                 {".", "E_PATH"}, {"absent", "E_NOT_FOUND"}, {"fits", NULL}};
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *machine =
            g_strdup_printf("    cloud_init: {user_data: %s}\n", cases[i].name);
        g_autofree char *lines = load_in(dir, machine, NULL);
        g_autofree char *expected =
            g_strdup_printf(":6:29: error[%s]: vms.web.cloud_init.user_data: ", cases[i].cls);
        if (cases[i].cls ? !strstr(lines, expected) || strchr(lines, '\n') : *lines != '\0') {
            fail_msg("%s: %s", cases[i].name, lines);
        }
    }
    remove_dir(dir);
}

/* --- files that are none ---------------------------------------------------------------------- */

static void assert_unreadable(const char *path, const char *cls)
{
    g_autoptr(BaseReport) report = base_report_new();
    g_autoptr(SpecFile) file = spec_file_load(path, report);
    assert_null(file);
    assert_int_equal(base_report_n_errors(report), 1);
    assert_string_equal(base_error_row((int)base_report_item(report, 0)->code)->cls, cls);
}

static void test_file_that_is_none_then_one_line_and_no_wait(void **state)
{
    (void)state;
    g_autofree char *dir = scratch_dir();
    g_autofree char *fifo = g_build_filename(dir, "fifo", NULL);
    g_autofree char *sparse = g_build_filename(dir, "sparse", NULL);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    put(dir, "sparse", "", 0);
    assert_int_equal(truncate(sparse, (off_t)8 << 30), 0);
    assert_unreadable(dir, "E_CLI");
    assert_unreadable(fifo, "E_CLI");
    assert_unreadable("/dev/zero", "E_CLI");
    assert_unreadable(sparse, "E_YAML_LIMIT");
    assert_unreadable("/nowhere/at/all", "E_NOT_FOUND");
    remove_dir(dir);
}

/* Root may read everything, so it becomes somebody else for the call. */
static void test_file_without_permission_then_cli(void **state)
{
    (void)state;
    g_autofree char *dir = scratch_dir();
    g_autofree char *path = g_build_filename(dir, "spec.yaml", NULL);
    put(dir, "spec.yaml", "version: 1\n", -1);
    assert_int_equal(g_chmod(path, 0), 0);
    bool is_root = geteuid() == 0;
    assert_true(!is_root || seteuid(65534) == 0);
    assert_unreadable(path, "E_CLI");
    assert_true(!is_root || seteuid(0) == 0);
    remove_dir(dir);
}

static void test_machines_of_a_file_then_in_order(void **state)
{
    (void)state;
    const char *text = "version: 1\nname: t\nvms: {b: {image: x}, a: {image: /y}}\n";
    g_autoptr(BaseReport) report = base_report_new();
    g_autoptr(SpecFile) file = spec_file_load_text(text, strlen(text), "f", NULL, report);
    assert_int_equal(spec_file_n_machines(file), 2);
    g_autoptr(MachineSpec) first = spec_file_steal_machine(file, 0);
    assert_string_equal(first->name, "b");
    assert_string_equal(spec_file_machine_name(file, 0), "b");
    assert_string_equal(spec_file_machine_name(file, 1), "a");
    g_autofree char *here = g_get_current_dir();
    g_autofree char *image = g_build_filename(here, "x", NULL);
    assert_string_equal(first->image, image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_fields_then_members),
        cmocka_unit_test(test_nothing_written_then_defaults),
        cmocka_unit_test(test_records_then_members_and_places),
        cmocka_unit_test(test_every_row_of_later_then_one_line),
        cmocka_unit_test(test_many_mistakes_then_all_in_one_pass_by_place),
        cmocka_unit_test(test_types_by_schema_then_no_guessing),
        cmocka_unit_test(test_wrong_shapes_then_schema),
        cmocka_unit_test(test_secret_then_never_in_a_message),
        cmocka_unit_test(test_ssh_keys_then_paths_resolved_and_private_ones_refused),
        cmocka_unit_test(test_inline_user_data_then_text_and_place),
        cmocka_unit_test(test_user_data_file_then_bytes),
        cmocka_unit_test(test_user_data_file_that_is_wrong_then_class),
        cmocka_unit_test(test_file_that_is_none_then_one_line_and_no_wait),
        cmocka_unit_test(test_file_without_permission_then_cli),
        cmocka_unit_test(test_machines_of_a_file_then_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
