#include "cloudinit/check.h"

#include <zlib.h>
#include "tests/unit/cloudinit/scratch.h"
#include "tests/unit/cloudinit/typical.h"

/* A machine with one NIC, a key and our default settings, checked with this user-data at this
 * strictness. */
typedef struct {
    MachineSpec *spec;
    BaseReport *report;
} Checked;

static MachineSpec *machine_new(void)
{
    MachineSpec *spec = spec_machine_new();
    spec->name = g_strdup("web");
    SpecNetwork *network = g_new0(SpecNetwork, 1);
    network->kind = SPEC_NET_USER;
    g_ptr_array_add(spec->networks, network);
    return spec;
}

static char *report_text(BaseReport *report)
{
    GString *all = g_string_new(NULL);
    for (unsigned i = 0; i < base_report_n_items(report); i++) {
        g_autofree char *line = base_report_item_text(base_report_item(report, i));
        assert_null(strchr(line, '\n'));
        g_string_append_printf(all, "%s\n", line);
    }
    return g_string_free(all, FALSE);
}

static char *check_bytes(MachineSpec *spec, const char *bytes, size_t n_bytes)
{
    g_autoptr(BaseReport) report = base_report_new();
    SpecText *text = &spec->cloud_init.user_data;
    g_free(text->text);
    g_free(text->pos.file);
    *text = (SpecText){.text = g_memdup2(bytes, n_bytes + 1),
                       .n_bytes = n_bytes,
                       .pos = {.file = g_strdup("u"), .line = 1, .col = 1},
                       .is_file = true};
    seed_check_user_data(spec, report);
    return report_text(report);
}

static char *check_text(const char *text, SpecCheck level)
{
    g_autoptr(MachineSpec) spec = machine_new();
    spec->cloud_init.schema = level;
    return check_bytes(spec, text, strlen(text));
}

typedef struct {
    const char *text;
    const char *expected; /* strict */
} Case;

static void run_cases(const Case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        g_autofree char *got = check_text(cases[i].text, SPEC_CHECK_STRICT);
        if (strcmp(got, cases[i].expected) != 0) {
            fail_msg("%s\n--- expected\n%s--- got\n%s", cases[i].text, cases[i].expected, got);
        }
    }
}

static void test_user_data_when_good_then_silent(void **state)
{
    (void)state;
    static const char *const good[] = {
        "",
        "\n \n",
        "#cloud-config\n",
        "\n\n#cloud-config\nruncmd: [ls]\n",
        "#Cloud-Config\n{}\n",
        "#cloud-config\r\nruncmd:\r\n  - ls\r\n",
        "#!/bin/sh\nexit\n",
        "#!python3 \xff\n",
        "#cloud-boothook\n#!/bin/sh\n",
        "#part-handler\n",
        "#include\nhttp://example.com/x\n",
        "#cloud-config-archive\n- {type: text/cloud-config, content: x}\n",
        "## template: jinja\n#cloud-config\nruncmd: {{ x }\n",
        "## Template: Jinja\n#!/bin/sh\n{{ x }}\n",
        "## template: jinja\n#cloud-config\nruncmd: [ls]\n",
        "Content-Type: multipart/mixed; boundary=\"x\"\nMIME-Version: 1.0\n\n--x\n\nhi\n--x--\n",
        "#cloud-config\nruncmd:\n - [a, 1, true]\n - echo\nbootcmd: [[ls, /]]\n",
        "#cloud-config\nx: &a [1]\n",
        "#cloud-config\nusers:\n - default\n - {name: joe, uid: 1001, sudo: false, expiredate: "
        "2030-01-01}\n - [a, b]\n",
        "#cloud-config\nwrite_files:\n - {path: /a, content: 12, permissions: '0644', encoding: "
        "gz+b64, defer: true}\n",
        "#cloud-config\n_base: &b {lock_passwd: true}\nusers: [{name: a, <<: *b}]\n",
        "#cloud-config\npackages: [a, [b, 1.2], {apt: [c]}]\nntp:\nwireguard: ~\n",
        "#cloud-config\nssh_pwauth: unchanged\nmanage_etc_hosts: localhost\nlocale: false\n",
        "#cloud-config\nuser: vm\nhostname: web\nfqdn: web.example.com\n",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        g_autofree char *got = check_text(good[i], SPEC_CHECK_WARN);
        /* Keys that people make up for anchors are unknown, and nothing else is. */
        if (*got != '\0' && !strstr(got, "unknown key '_base'") &&
            !strstr(got, "unknown key 'x'")) {
            fail_msg("%s\n%s", good[i], got);
        }
    }
}

static void test_user_data_when_it_would_be_ignored_then_error(void **state)
{
    (void)state;
    static const Case cases[] = {
        {"runcmd: [ls]\n", "u:1:1: error[E_CI]: user-data: no header: cloud-init would ignore all "
                           "of it - begin with #cloud-config, or #! for a script\n"},
        {"\n  runcmd: [ls]\n", "u:2:3: error[E_CI]: user-data: no header: cloud-init would ignore "
                               "all of it - begin with #cloud-config, or #! for a script\n"},
        {"\xef\xbb\xbf#cloud-config\nruncmd: [ls]\n",
         "u:1:1: error[E_CI]: user-data: begins with a byte order mark: cloud-init would not see "
         "its header and ignore it - save it as UTF-8 without one\n"},
        {"# cloud-config\nruncmd: [ls]\n",
         "u:1:1: error[E_CI]: user-data: this is no header: cloud-init would ignore all of it - "
         "write it exactly as #cloud-config\n"},
        {"#cloud_config\n", "u:1:1: error[E_CI]: user-data: this is no header: cloud-init would "
                            "ignore all of it - write it exactly as #cloud-config\n"},
        {"##template:jinja\n#cloud-config\n",
         "u:1:1: error[E_CI]: user-data: this is no header: cloud-init would ignore all of it - "
         "write it exactly as ## template: jinja\n"},
        {"# web server\n#cloud-config\nruncmd: [ls]\n",
         "u:2:1: error[E_CI]: user-data: the header is not on the first line: cloud-init would "
         "ignore all of it - move it to the first line\n"},
        {"#cloud-config\nruncmd:\n  - [ls\nusers: []\n",
         "u:4:6: error[E_CI]: user-data: not YAML: did not find expected ',' or ']' (while parsing "
         "a flow sequence that began at line 3) - cloud-init would ignore all of it\n"},
        {"#cloud-config\nruncmd:\n\t- ls\n",
         "u:3:1: error[E_CI]: user-data: not YAML: found character that cannot start any token "
         "(while scanning for the next token that began at line 3) - cloud-init would ignore all "
         "of it\n"},
        {"#cloud-config\n- a\n", "u:2:1: error[E_CI]: user-data: a cloud-config is a map of keys, "
                                 "not a list - write `key: value`\n"},
        {"#cloud-config\nhello\n", "u:2:1: error[E_CI]: user-data: a cloud-config is a map of "
                                   "keys, not a string - write `key: value`\n"},
        {"#cloud-config\na: !secret x\n",
         "u:2:4: error[E_CI]: user-data: not YAML: a tag that cloud-init does not know - "
         "cloud-init would ignore all of it\n"},
        {"#cloud-config\na: *x\n", "u:2:4: error[E_CI]: user-data: not YAML: an alias without its "
                                   "anchor - cloud-init would ignore all of it\n"},
        {"#cloud-config\na: &x [*x]\n", "u:2:8: error[E_CI]: user-data: not YAML: an alias without "
                                        "its anchor - cloud-init would ignore all of it\n"},
        {"#cloud-config\na: 1\n---\nb: 1\n",
         "u:3:1: error[E_CI]: user-data: not YAML: a second document (---): only one is read - "
         "cloud-init would ignore all of it\n"},
        {"#cloud-config\n{{ x }}: 1\n",
         "u:2:2: error[E_CI]: user-data: not YAML: a key that is a list or a map (quote it if it "
         "is a text that begins with a bracket or a brace) - cloud-init would ignore all of it\n"},
        {"#cloud-config\na: \"\xff\"\n", "u:2:5: error[E_CI]: user-data: not YAML: invalid leading "
                                         "UTF-8 octet - cloud-init would ignore all of it\n"},
        {"#cloud-config-archive\na: b\n",
         "u:2:1: error[E_CI]: user-data: a cloud-config-archive is a list of parts\n"},
        {"## template: jinja\nruncmd: []\n",
         "u:2:1: error[E_CI]: user-data: a template needs a header of its own in its second line - "
         "put #cloud-config, or #! for a script, below the first line\n"},
    };
    run_cases(cases, G_N_ELEMENTS(cases));
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *got = check_text(cases[i].text, SPEC_CHECK_OFF);
        assert_string_equal(got, cases[i].expected); /* not a matter of strictness */
    }
}

static void test_user_data_when_keys_are_wrong_then_says_where(void **state)
{
    (void)state;
    static const Case cases[] = {
        {"#cloud-config\npakages: [nginx]\n",
         "u:2:1: error[E_CI]: user-data: unknown key 'pakages' - did you mean 'packages'?\n"},
        {"#cloud-config\nwrite-files: []\n", "u:2:1: error[E_CI]: user-data: unknown key "
                                             "'write-files' - did you mean 'write_files'?\n"},
        {"#cloud-config\nfrobnicate: 1\n",
         "u:2:1: error[E_CI]: user-data: unknown key 'frobnicate' - cloud-init would ignore it\n"},
        {"#cloud-config\n\"a\\nb\\e[31m\": 1\n",
         "u:2:1: error[E_CI]: user-data: unknown key 'a\\x0ab\\x1b[31m' - cloud-init would ignore "
         "it\n"},
        {"#cloud-config\napt_update: true\n", "u:2:1: warning[E_CI]: user-data: 'apt_update' is "
                                              "going out of use - use 'package_update'\n"},
        {"#cloud-config\nruncmd: ls\n",
         "u:2:9: error[E_CI]: user-data: 'runcmd' must be a list, not a string\n"},
        {"#cloud-config\nruncmd:\nusers: []\n",
         "u:2:8: error[E_CI]: user-data: 'runcmd' must be a list, not nothing\n"},
        {"#cloud-config\nruncmd:\n - echo a: b\n - ~\n - [a, [b]]\n",
         "u:3:4: error[E_CI]: user-data: runcmd[0]: a command must be a string or a list of "
         "strings, not a map - put quotes around a command with ': ' in it\n"
         "u:4:4: error[E_CI]: user-data: runcmd[1]: a command must be a string or a list of "
         "strings, not nothing\n"
         "u:5:4: error[E_CI]: user-data: runcmd[2]: a command must be a string or a list of "
         "strings, not a list\n"},
        {"#cloud-config\npackage_update: \"yes\"\n",
         "u:2:17: error[E_CI]: user-data: 'package_update' must be true or false, not a string\n"},
        {"#cloud-config\nruncmd: [a]\nruncmd: [b]\n",
         "u:3:1: error[E_CI]: user-data: 'runcmd' stands twice - only the last one counts\n"},
        {"#cloud-config\napt:\n  conf: a\n  conf: b\n",
         "u:4:3: error[E_CI]: user-data: 'conf' stands twice - only the last one counts\n"},
        {"#cloud-config\nusers:\n - ssh_authorized_keys: []\n",
         "u:3:4: error[E_CI]: user-data: users[0]: a user without a name - cloud-init would ignore "
         "it\n"},
        {"#cloud-config\nusers:\n - name: a\n   ssh-authorized-keys: []\n   grups: x\n",
         "u:4:4: warning[E_CI]: user-data: users[0]: 'ssh-authorized-keys' is going out of use - "
         "use 'ssh_authorized_keys'\n"
         "u:5:4: error[E_CI]: user-data: users[0]: unknown key 'grups' - did you mean 'groups'?\n"},
        {"#cloud-config\nwrite_files:\n - {content: a}\n - {path: etc/x, permissions: 0644, "
         "encoding: zip}\n - x\n",
         "u:3:4: error[E_CI]: user-data: write_files[0]: the path is missing\n"
         "u:4:11: error[E_CI]: user-data: write_files[1]: the path must be absolute\n"
         "u:4:31: error[E_CI]: user-data: write_files[1]: 'permissions' must be a string, not a "
         "number\n"
         "u:4:47: error[E_CI]: user-data: write_files[1]: unknown encoding 'zip' - use b64, gz or "
         "gz+b64\n"
         "u:5:4: error[E_CI]: user-data: write_files[2]: a file must be a map with path and "
         "content, not a string\n"},
        {"#cloud-config\nssh_authorized_keys:\n - |\n  -----BEGIN OPENSSH PRIVATE KEY-----\n  x\n",
         "u:3:4: error[E_CI]: user-data: ssh_authorized_keys[0]: this is a private key, and the "
         "guest would keep it - give the public half (.pub)\n"},
        {"#cloud-config\nchpasswd: {list: 'a:b', expires: false}\n",
         "u:2:12: warning[E_CI]: user-data: chpasswd: 'list' is going out of use - use 'users'\n"
         "u:2:25: error[E_CI]: user-data: chpasswd: unknown key 'expires' - did you mean "
         "'expire'?\n"},
    };
    run_cases(cases, G_N_ELEMENTS(cases));
}

static void test_user_data_when_less_strict_then_warnings_or_nothing(void **state)
{
    (void)state;
    static const char text[] = "#cloud-config\npakages: [nginx]\napt_update: true\n";
    g_autofree char *warn = check_text(text, SPEC_CHECK_WARN);
    assert_string_equal(
        warn, "u:2:1: warning[E_CI]: user-data: unknown key 'pakages' - did you mean 'packages'?\n"
              "u:3:1: warning[E_CI]: user-data: 'apt_update' is going out of use - use "
              "'package_update'\n");
    g_autofree char *off = check_text(text, SPEC_CHECK_OFF);
    assert_string_equal(off, "");
}

static void test_user_data_when_it_displaces_settings_then_warns_at_its_key(void **state)
{
    (void)state;
    g_autoptr(MachineSpec) spec = machine_new();
    spec->timezone = g_strdup("Europe/Berlin");
    spec->locale = g_strdup("C.UTF-8");
    g_ptr_array_add(spec->ca_certs, g_strdup("x"));
    static const char text[] = "#cloud-config\n"
                               "timezone: UTC\n"
                               "locale: C.UTF-8\n"
                               "hostname: other\n"
                               "preserve_hostname: true\n"
                               "user: joe\n"
                               "ca_certs:\n"
                               "  trusted: []\n"
                               "ssh_keys:\n"
                               "  ed25519_private: x\n"
                               "vendor_data: {enabled: no}\n"
                               "cloud_final_modules: [scripts-user]\n"
                               "password: x\n";
    g_autofree char *got = check_bytes(spec, text, strlen(text));
    assert_string_equal(
        got, "u:2:1: warning[E_CI]: user-data: 'timezone' wins over the machine's time zone "
             "'Europe/Berlin' - drop one of the two\n"
             "u:4:1: warning[E_CI]: user-data: 'hostname' wins over the machine's host name 'web' "
             "- drop one of the two\n"
             "u:5:1: warning[E_CI]: user-data: with 'preserve_hostname' the guest keeps the "
             "image's host name\n"
             "u:6:1: warning[E_CI]: user-data: 'user' makes 'joe' the login user in place of 'vm', "
             "whom vm-run logs in as - say `user: joe` in the machine too\n"
             "u:8:3: warning[E_CI]: user-data: 'ca_certs.trusted' replaces the machine's ca_certs "
             "- put them in one place\n"
             "u:10:3: warning[E_CI]: user-data: 'ssh_keys.ed25519_private' replaces the host key "
             "by which vm-run knows this guest - put them in one place\n"
             "u:11:15: warning[E_CI]: user-data: 'vendor_data: {enabled: false}' drops the "
             "machine's user 'vm', run, packages, write_files and everything else but host name, "
             "keys and network\n"
             "u:12:1: warning[E_CI]: user-data: 'cloud_final_modules' without scripts_vendor drops "
             "the machine's run, packages, write_files and password\n");
}

static void test_user_data_when_nobody_could_log_in_then_warns(void **state)
{
    (void)state;
    g_autoptr(MachineSpec) spec = machine_new();
    static const char disabled[] = "#cloud-config\nvendor_data: {enabled: false}\n";
    g_autofree char *no_user = check_bytes(spec, disabled, strlen(disabled));
    assert_non_null(
        strstr(no_user, "u:2:1: warning[E_CI]: user-data: no way to log in: no key of a user that "
                        "the guest has and no password - add ssh_keys or a password_hash\n"));
    ((SpecNetwork *)spec->networks->pdata[0])->kind = SPEC_NET_NONE;
    g_autofree char *no_network = check_bytes(spec, "", 0);
    assert_string_equal(no_network, "u:1:1: warning[E_CI]: user-data: no way to log in: no network "
                                    "and no password - add a password_hash for the console\n");
    static const char own[] = "#cloud-config\nusers: [{name: a, passwd: x}]\n";
    g_autofree char *has_password = check_bytes(spec, own, strlen(own));
    assert_string_equal(has_password, "");
    spec->password_hash = g_strdup(TYPICAL_HASH);
    g_autofree char *hash = check_bytes(spec, "", 0);
    assert_string_equal(hash, "");
}

static void test_user_data_when_inline_then_positions_of_the_spec(void **state)
{
    (void)state;
    g_autoptr(BaseReport) report = base_report_new();
    g_autoptr(MachineSpec) spec = machine_new();
    spec->cloud_init.user_data =
        (SpecText){.text = g_strdup("#cloud-config\nruncmd:\n  - ~\n"),
                   .n_bytes = 27,
                   .pos = {.file = g_strdup("spec.yaml"), .line = 10, .col = 7}};
    seed_check_user_data(spec, report);
    g_autofree char *got = report_text(report);
    assert_true(g_str_has_prefix(got, "spec.yaml:12:11: error[E_CI]: user-data: runcmd[0]:"));
}

static void test_user_data_when_mime_then_looks_at_its_configs(void **state)
{
    (void)state;
#define HEAD "Content-Type: multipart/mixed;\n boundary=\"b b\"\nMIME-Version: 1.0\n\n"
    static const Case cases[] = {
        {HEAD "preamble\n--b b\nContent-Type: text/x-shellscript\n\n#!/bin/sh\npakages: 1\n--b "
              "b\nContent-Type: Text/Cloud-Config; charset=x\n\n"
              "pakages: []\n--b b--\nrest",
         "u:14:1: error[E_CI]: user-data: unknown key 'pakages' - did you mean 'packages'?\n"},
        {HEAD "--b b\n\n#cloud-config\na: [\n--b b--\n",
         "u:9:1: error[E_CI]: user-data: not YAML: did not find expected node content (while "
         "parsing a flow node that began at line 9) - cloud-init would ignore all of it\n"},
        {HEAD "--b b\nContent-Type: text/cloud-config\nContent-Transfer-Encoding: "
              "base64\n\nYTog\n--b b--\n",
         ""},
        {HEAD "--b\n\n#cloud-config\n--b--\n",
         "u:1:1: error[E_CI]: user-data: a multipart text without a part: its boundary stands "
         "nowhere - cloud-init would find nothing in it\n"},
        {"MIME-Version: 1.0\nContent-Type: multipart/mixed\n\n--b\n",
         "u:1:1: error[E_CI]: user-data: a multipart text without a boundary - cloud-init would "
         "find nothing in it\n"},
        {"MIME-Version: 1.0\r\nContent-Type: text/cloud-config\r\n\r\nruncmd: 1\r\n",
         "u:4:9: error[E_CI]: user-data: 'runcmd' must be a list, not a number\n"},
    };
#undef HEAD
    run_cases(cases, G_N_ELEMENTS(cases));
}

static char *gzip(const char *text, size_t n_text, size_t *out_n)
{
    z_stream stream = {.next_in = (Bytef *)text, .avail_in = (uInt)n_text};
    assert_int_equal(deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY),
                     Z_OK);
    char *packed = g_malloc0(n_text + 1000);
    stream.next_out = (Bytef *)packed;
    stream.avail_out = (uInt)(n_text + 999);
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    *out_n = stream.total_out;
    deflateEnd(&stream);
    return packed;
}

static void test_user_data_when_gzip_then_looks_inside(void **state)
{
    (void)state;
    g_autoptr(MachineSpec) spec = machine_new();
    static const char text[] = "#cloud-config\npakages: []\n";
    size_t n;
    g_autofree char *packed = gzip(text, strlen(text), &n);
    g_autofree char *inside = check_bytes(spec, packed, n);
    assert_string_equal(
        inside,
        "u:2:1: error[E_CI]: user-data: unknown key 'pakages' - did you mean 'packages'?\n");
    g_autofree char *cut = check_bytes(spec, packed, n - 10);
    assert_string_equal(cut, "u:1:1: error[E_CI]: user-data: is damaged: gzip can't unpack it\n");
    g_autofree char *zeros = g_malloc0(9 * 1024 * 1024);
    size_t n_bomb;
    g_autofree char *bomb = gzip(zeros, 9 * 1024 * 1024, &n_bomb);
    g_autofree char *big = check_bytes(spec, bomb, n_bomb);
    assert_string_equal(big, "u:1:1: error[E_CI]: user-data: unpacks to more than 8 MiB\n");
    size_t n_twice;
    g_autofree char *twice = gzip(packed, n, &n_twice);
    g_autofree char *nested = check_bytes(spec, twice, n_twice);
    assert_string_equal(
        nested, "u:1:1: error[E_CI]: user-data: packed twice: cloud-init would unpack it once\n");
}

static void test_user_data_when_nul_or_huge_then_error(void **state)
{
    (void)state;
    g_autoptr(MachineSpec) spec = machine_new();
    static const char nul[] = "#!/bin/sh\nls\0\n";
    g_autofree char *got = check_bytes(spec, nul, sizeof nul - 1);
    assert_string_equal(got, "u:2:3: error[E_CI]: user-data: a NUL byte\n");
    g_autofree char *huge = g_strnfill(1024 * 1024 + 1, '#');
    g_autofree char *large = check_bytes(spec, huge, 1024 * 1024 + 1);
    assert_true(g_str_has_prefix(
        large, "u:1:1: error[E_CI]: user-data: more than the 1 MiB that is taken"));
}

static void test_user_data_when_billion_laughs_then_quick(void **state)
{
    (void)state;
    GString *text = g_string_new("#cloud-config\na0: &a0 [x]\n");
    for (int i = 1; i < 30; i++) {
        g_string_append_printf(text, "a%d: &a%d [*a%d, *a%d, *a%d]\n", i, i, i - 1, i - 1, i - 1);
    }
    g_string_append(text, "runcmd: *a29\n");
    gint64 start_us = g_get_monotonic_time();
    g_autofree char *got = check_text(text->str, SPEC_CHECK_OFF);
    assert_true(g_get_monotonic_time() - start_us < G_USEC_PER_SEC);
    assert_string_equal(got, "");
    g_string_free(text, TRUE);
}

/* --- the spec
 * ---------------------------------------------------------------------------------------- */

static char *check_spec(MachineSpec *spec)
{
    g_autoptr(BaseReport) report = base_report_new();
    seed_check_spec(spec, report);
    return report_text(report);
}

static void test_spec_when_single_values_are_wrong_then_one_line_each(void **state)
{
    (void)state;
    static const struct {
        size_t member;
        const char *value;
        const char *expected;
    } cases[] = {
#define M(x) offsetof(MachineSpec, x)
        {M(hostname), "web.example.com", ""},
        {M(hostname), "a..b",
         "error[E_CI]: hostname: this is no host name - use letters, digits and '-', at most 63 "
         "between dots\n"},
        {M(hostname), "x\nruncmd: [reboot]",
         "error[E_CI]: hostname: this is no host name - use letters, digits and '-', at most 63 "
         "between dots\n"},
        {M(user), "root", ""},
        {M(user), "root:0",
         "error[E_CI]: user: this is no login name - use lower-case letters, digits, '_' and "
         "'-'\n"},
        {M(user), "a b",
         "error[E_CI]: user: this is no login name - use lower-case letters, digits, '_' and "
         "'-'\n"},
        {M(user), "",
         "error[E_CI]: user: this is no login name - use lower-case letters, digits, '_' and "
         "'-'\n"},
        {M(timezone), "America/Argentina/Buenos_Aires", ""},
        {M(timezone), "../../etc/x",
         "error[E_CI]: timezone: this is no time zone - use a name as Europe/Berlin\n"},
        {M(timezone), "/etc/x",
         "error[E_CI]: timezone: this is no time zone - use a name as Europe/Berlin\n"},
        {M(locale), "de_DE.UTF-8@euro", ""},
        {M(locale), "C\nx",
         "error[E_CI]: locale: this is no locale - use a name as C.UTF-8 or de_DE.UTF-8\n"},
        {M(password_hash), TYPICAL_HASH, ""},
        {M(password_hash), "!",
         "error[E_CI]: password_hash: this is no password hash - make one with mkpasswd\n"},
#undef M
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(MachineSpec) spec = machine_new();
        G_STRUCT_MEMBER(char *, spec, cases[i].member) = g_strdup(cases[i].value);
        g_autofree char *got = check_spec(spec);
        assert_string_equal(got, cases[i].expected);
    }
}

static void test_spec_when_files_are_wrong_then_one_line_each(void **state)
{
    (void)state;
    static const struct {
        SpecWriteFile file;
        const char *expected;
    } cases[] = {
        {{.path = (char *)"/etc/x", .permissions = (char *)"0644", .owner = (char *)"a:b"}, ""},
        {{.path = (char *)"etc/x"},
         "error[E_CI]: write_files[0]: the path is not that of a file - begin with '/', without . "
         "and ..\n"},
        {{.path = (char *)"/a/../x"},
         "error[E_CI]: write_files[0]: the path is not that of a file - begin with '/', without . "
         "and ..\n"},
        {{.path = (char *)"/a/"},
         "error[E_CI]: write_files[0]: the path is not that of a file - begin with '/', without . "
         "and ..\n"},
        {{.path = (char *)"/x", .permissions = (char *)"999"},
         "error[E_CI]: write_files[0]: the permissions are no octal number - write them as in "
         "\"0644\"\n"},
        {{.path = (char *)"/x", .owner = (char *)"a b"},
         "error[E_CI]: write_files[0]: the owner is not USER or USER:GROUP - write it as "
         "root:root\n"},
        {{.path = (char *)"/x", .is_base64 = true, .content = (char *)"!"},
         "error[E_CI]: write_files[0]: the content is not base64\n"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        MachineSpec spec = {.origins = g_hash_table_new(g_str_hash, g_str_equal)};
        spec.write_files = typical_list((const char *)&cases[i].file);
        g_autofree char *got = check_spec(&spec);
        assert_string_equal(got, cases[i].expected);
        g_ptr_array_unref(spec.write_files);
        g_hash_table_unref(spec.origins);
    }
}

static void test_spec_when_lists_are_wrong_then_says_which(void **state)
{
    (void)state;
    g_autoptr(MachineSpec) spec = machine_new();
    g_ptr_array_add(spec->packages, g_strdup("nginx=1.2-3"));
    g_ptr_array_add(spec->packages, g_strdup("--purge"));
    g_ptr_array_add(spec->run, g_strdup(" \n"));
    g_ptr_array_add(spec->ca_certs,
                    g_strdup("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"));
    g_ptr_array_add(spec->ca_certs, g_strdup("hello"));
    g_ptr_array_add(spec->ca_certs,
                    g_strdup("-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"));
    g_autofree char *got = check_spec(spec);
    assert_string_equal(
        got, "error[E_CI]: packages[1]: this is no package - write a package name\n"
             "error[E_CI]: run[0]: an empty command\n"
             "error[E_CI]: ca_certs[1]: this is no PEM certificate\n"
             "error[E_SECRET]: ca_certs[2]: holds a private key - give the certificate alone\n");
}

static void test_spec_when_packages_but_no_network_then_warns(void **state)
{
    (void)state;
    g_autoptr(MachineSpec) spec = machine_new();
    g_ptr_array_add(spec->packages, g_strdup("nginx"));
    g_autofree char *reachable = check_spec(spec);
    assert_string_equal(reachable, "");
    ((SpecNetwork *)spec->networks->pdata[0])->kind = SPEC_NET_NONE;
    g_autofree char *alone = check_spec(spec);
    assert_string_equal(alone,
                        "warning[E_CI]: packages: the machine has no network to fetch them from\n");
}

static void set_text(SpecText *text, const char *value)
{
    *text = (SpecText){.text = g_strdup(value),
                       .n_bytes = strlen(value),
                       .pos = {g_strdup("f"), 1, 1},
                       .is_file = true};
}

static void test_spec_when_texts_are_wrong_then_positions(void **state)
{
    (void)state;
    g_autoptr(MachineSpec) spec = machine_new();
    spec->timezone = g_strdup("UTC");
    set_text(&spec->cloud_init.vendor_data, "#cloud-config\ntimezone: Asia/Tokyo\nrunmcd: []\n");
    set_text(&spec->cloud_init.network_config, "version: 2\nethernet: {}\n");
    set_text(&spec->cloud_init.meta_data, "instance-id: x\nrole: a\nrole: b\n");
    g_autofree char *got = check_spec(spec);
    assert_string_equal(
        got, "f:1:1: warning[E_CI]: meta-data: 'instance-id' is the machine's own and stays\n"
             "f:2:1: warning[E_CI]: vendor-data: 'timezone' loses against the machine's time zone "
             "'UTC' - drop one of the two\n"
             "f:2:1: error[E_CI]: network-config: unknown key 'ethernet' of version 2 - did you "
             "mean 'ethernets'?\n"
             "f:3:1: error[E_CI]: vendor-data: unknown key 'runmcd' - did you mean 'runcmd'?\n"
             "f:3:1: error[E_CI]: meta-data: 'role' stands twice - only the last one counts\n");
    static const struct {
        const char *network;
        const char *expected;
    } networks[] = {
        {"network: {version: 1, config: []}\n", ""},
        {"version: 3\n",
         "f:1:10: error[E_CI]: network-config: version must be 1 or 2 - begin with version: 2\n"},
        {"ethernets: {}\n",
         "f:1:1: error[E_CI]: network-config: version must be 1 or 2 - begin with version: 2\n"},
        {"- a\n", "f:1:1: error[E_CI]: network-config: must be a map, not a list\n"},
        {"", "f:1:1: error[E_CI]: network-config: must be a map, not nothing\n"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(networks); i++) {
        g_autoptr(MachineSpec) other = machine_new();
        set_text(&other->cloud_init.network_config, networks[i].network);
        g_autofree char *lines = check_spec(other);
        assert_string_equal(lines, networks[i].expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_user_data_when_good_then_silent),
        cmocka_unit_test(test_user_data_when_it_would_be_ignored_then_error),
        cmocka_unit_test(test_user_data_when_keys_are_wrong_then_says_where),
        cmocka_unit_test(test_user_data_when_less_strict_then_warnings_or_nothing),
        cmocka_unit_test(test_user_data_when_it_displaces_settings_then_warns_at_its_key),
        cmocka_unit_test(test_user_data_when_nobody_could_log_in_then_warns),
        cmocka_unit_test(test_user_data_when_inline_then_positions_of_the_spec),
        cmocka_unit_test(test_user_data_when_mime_then_looks_at_its_configs),
        cmocka_unit_test(test_user_data_when_gzip_then_looks_inside),
        cmocka_unit_test(test_user_data_when_nul_or_huge_then_error),
        cmocka_unit_test(test_user_data_when_billion_laughs_then_quick),
        cmocka_unit_test(test_spec_when_single_values_are_wrong_then_one_line_each),
        cmocka_unit_test(test_spec_when_files_are_wrong_then_one_line_each),
        cmocka_unit_test(test_spec_when_lists_are_wrong_then_says_which),
        cmocka_unit_test(test_spec_when_packages_but_no_network_then_warns),
        cmocka_unit_test(test_spec_when_texts_are_wrong_then_positions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
