#include "cloudinit/mime.h"
#include "cloudinit/vendor.h"

#include <stdlib.h>
#include "tests/unit/cloudinit/scratch.h"
#include "tests/unit/cloudinit/typical.h"

/* The parts as Python's email sees them, which is what cloud-init uses: "NAME TYPE ENCODING\n" and
 * the bytes, indented. */
static char *parts_of(void **state, GBytes *vendor)
{
    static const char script[] =
        "import email, sys\n"
        "top = email.message_from_bytes(open(sys.argv[1], 'rb').read())\n"
        "for p in top.walk():\n"
        "    if p.get_content_maintype() == 'multipart': continue\n"
        "    print(p.get_filename(), p.get_content_type(), p['Content-Transfer-Encoding'])\n"
        "    for line in p.get_payload(decode=True).decode('utf-8', "
        "'replace').rstrip('\\n').split('\\n'):\n"
        "        print('  ' + line)\n"
        "print('defects', len(top.defects))\n";
    gsize n;
    const char *data = g_bytes_get_data(vendor, &n);
    g_autofree char *path = scratch_path(state, "vendor");
    assert_true(g_file_set_contents(path, data, (gssize)n, NULL));
    return SCRATCH_RUN("/usr/bin/python3", "-c", script, path);
}

static void test_vendor_when_typical_then_these_parts(void **state)
{
    Typical t;
    typical_init(&t);
    t.input.has_status_port = false;
    t.input.host_key = NULL;
    g_ptr_array_set_size(t.spec.ca_certs, 0);
    g_autoptr(GBytes) vendor = seed_vendor_build(&t.input);
    g_autofree char *parts = parts_of(state, vendor);
    assert_string_equal(
        parts,
        "vm-config text/cloud-config 7bit\n"
        "  #cloud-config\n  {\n    \"user\": {\n      \"name\": \"ops\",\n      \"sudo\": "
        "\"ALL=(ALL) NOPASSWD:ALL\"\n    },\n"
        "    \"timezone\": \"Europe/Berlin\",\n    \"locale\": \"C.UTF-8\",\n    "
        "\"manage_etc_hosts\": \"localhost\"\n  }\n"
        "vm-10-password text/x-shellscript 7bit\n"
        "  #!/bin/sh\n  exec chpasswd -e <<'VM_RUN_END'\n  ops:" TYPICAL_HASH "\n  VM_RUN_END\n"
        "vm-20-files text/x-shellscript 7bit\n"
        "  #!/bin/sh\n  config=$(mktemp /run/vm-run-config.XXXXXX) || exit 1\n  cat >\"$config\" "
        "<<'VM_RUN_END'\n"
        "  {\"write_files\": [{\"path\": \"/etc/motd\", \"content\": \"Hello\\nfrom outside\\n\", "
        "\"owner\": \"root:root\", \"permissions\": \"0644\"}]}\n"
        "  VM_RUN_END\n"
        "  cloud-init --file \"$config\" single --name write_files --frequency always\n"
        "  status=$?\n  if [ $status -eq 2 ]; then\n"
        "      cloud-init single --file \"$config\" --name write_files --frequency always\n"
        "      status=$?\n  fi\n  rm -f \"$config\"\n  exit $status\n"
        "vm-30-packages text/x-shellscript 7bit\n"
        "  #!/bin/sh\n  config=$(mktemp /run/vm-run-config.XXXXXX) || exit 1\n  cat >\"$config\" "
        "<<'VM_RUN_END'\n"
        "  {\"packages\": [\"nginx\"], \"package_update\": true, \"package_upgrade\": false, "
        "\"package_reboot_if_required\": false}\n"
        "  VM_RUN_END\n"
        "  cloud-init --file \"$config\" single --name package_update_upgrade_install --frequency "
        "always\n"
        "  status=$?\n  if [ $status -eq 2 ]; then\n"
        "      cloud-init single --file \"$config\" --name package_update_upgrade_install "
        "--frequency always\n"
        "      status=$?\n  fi\n  rm -f \"$config\"\n  exit $status\n"
        "vm-40-run-0000 text/x-shellscript 7bit\n"
        "  #!/bin/sh\n  systemctl enable --now nginx\n"
        "defects 0\n");
    typical_clear(&t);
}

static void test_vendor_when_nothing_is_set_then_a_user_all_the_same(void **state)
{
    MachineSpec spec = {.name = (char *)"web"};
    SeedInput input = {.spec = &spec, .instance_id = "i"};
    g_autoptr(GBytes) vendor = seed_vendor_build(&input);
    g_autofree char *parts = parts_of(state, vendor);
    assert_string_equal(parts, "vm-config text/cloud-config 7bit\n"
                               "  #cloud-config\n  {\n    \"user\": {\n      \"name\": \"vm\",\n   "
                               "   \"sudo\": \"ALL=(ALL) NOPASSWD:ALL\"\n    },\n"
                               "    \"manage_etc_hosts\": \"localhost\"\n  }\n"
                               "defects 0\n");
    spec.user = (char *)"root";
    g_autoptr(GBytes) root = seed_vendor_build(&input);
    g_autofree char *root_parts = parts_of(state, root);
    assert_non_null(strstr(root_parts, "\"disable_root\": false"));
    assert_null(strstr(root_parts, "NOPASSWD"));
}

static void test_vendor_when_user_has_own_then_first_and_whole(void **state)
{
    static const struct {
        const char *text;
        const char *expected;
    } cases[] = {
        {"#cloud-config\nruncmd: []\n",
         "user-vendor-data text/cloud-config 7bit\n  #cloud-config\n  runcmd: []\nvm-config "},
        {"#!/bin/sh\necho \xc3\xa9\n",
         "user-vendor-data text/x-shellscript base64\n  #!/bin/sh\n  echo \xc3\xa9\nvm-config "},
        {"## template: jinja\n#!/bin/sh\n", "user-vendor-data text/jinja2 7bit\n"},
        {"#include\nhttp://x\n", "user-vendor-data text/x-include-url 7bit\n"},
        {"#cloud-boothook\n", "user-vendor-data text/cloud-boothook 7bit\n"},
        {"#part-handler\n", "user-vendor-data text/part-handler 7bit\n"},
        {"#cloud-config-archive\n[]\n", "user-vendor-data text/cloud-config-archive 7bit\n"},
        {" \n", "vm-config "},
        {"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"in\"\n\n--in\nContent-Type: "
         "text/x-a\n\nA\n--in\nContent-Type: text/x-b\n\nB\n--in--\n",
         "None text/x-a None\n  A\nNone text/x-b None\n  B\nvm-config "},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        Typical t;
        typical_init(&t);
        t.spec.cloud_init.vendor_data = typical_text(cases[i].text);
        g_autoptr(GBytes) vendor = seed_vendor_build(&t.input);
        g_autofree char *parts = parts_of(state, vendor);
        if (!g_str_has_prefix(parts, cases[i].expected)) {
            fail_msg("%s\n%s", cases[i].text, parts);
        }
        assert_true(g_str_has_suffix(parts, "defects 0\n"));
        typical_clear(&t);
    }
}

static void test_mime_when_a_part_holds_the_boundary_then_takes_another(void **state)
{
    (void)state;
    /* The first candidate follows from the parts; a part that names it must get a different one. */
    g_autoptr(GBytes) bytes = g_bytes_new_static("x\n", 2);
    MimePart part = {.type = "text/plain", .filename = "a", .bytes = bytes};
    g_autoptr(GBytes) once = seed_mime_build(&part, 1);
    g_autoptr(GBytes) again = seed_mime_build(&part, 1);
    assert_true(g_bytes_equal(once, again));
    const char *begin = strstr(g_bytes_get_data(once, NULL), "boundary=\"") + strlen("boundary=\"");
    g_autofree char *boundary = g_strndup(begin, (gsize)(strchr(begin, '"') - begin));
    g_autofree char *line = g_strdup_printf("\n--%s--\n", boundary);
    g_autoptr(GBytes) hostile = g_bytes_new(line, strlen(line));
    MimePart parts[] = {part, {.type = "text/plain", .filename = "b", .bytes = hostile}};
    g_autoptr(GBytes) both = seed_mime_build(parts, 2);
    g_autofree char *head = g_strdup_printf("boundary=\"%s\"", boundary);
    assert_null(strstr(g_bytes_get_data(both, NULL), head));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vendor_when_typical_then_these_parts),
        cmocka_unit_test(test_vendor_when_nothing_is_set_then_a_user_all_the_same),
        cmocka_unit_test(test_vendor_when_user_has_own_then_first_and_whole),
        cmocka_unit_test(test_mime_when_a_part_holds_the_boundary_then_takes_another),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
