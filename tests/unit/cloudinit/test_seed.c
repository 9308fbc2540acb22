#include "cloudinit/seed.h"

#include <jansson.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "base/fd.h"
#include "tests/unit/cloudinit/scratch.h"
#include "tests/unit/cloudinit/typical.h"

static const char *text_of(GBytes *bytes)
{
    /* The texts are built from strings, so a NUL follows or the test's own data is checked by
     * length. */
    static char *copy = NULL;
    gsize n_bytes;
    const char *data = g_bytes_get_data(bytes, &n_bytes);
    g_free(copy);
    copy = g_strndup(data, n_bytes);
    return copy;
}

static json_t *parse(GBytes *bytes)
{
    json_error_t why;
    json_t *value = json_loads(text_of(bytes), JSON_REJECT_DUPLICATES, &why);
    if (!value) {
        fail_msg("%s at %d: %s", why.text, why.line, text_of(bytes));
    }
    return value;
}

static void assert_bytes(GBytes *bytes, const char *expected)
{
    assert_int_equal(g_bytes_get_size(bytes), strlen(expected));
    assert_memory_equal(g_bytes_get_data(bytes, NULL), expected, strlen(expected));
}

/* --- meta-data and network-config ------------------------------------------------------------- */

static void test_meta_data_when_typical_then_id_name_and_keys(void **state)
{
    (void)state;
    Typical t;
    typical_init(&t);
    g_autoptr(SeedTexts) texts = seed_texts_build(&t.input);
    assert_bytes(texts->meta_data, "{\n"
                                   "  \"instance-id\": \"11111111-2222-3333-4444-555555555555\",\n"
                                   "  \"local-hostname\": \"web\",\n"
                                   "  \"public-keys\": [\n"
                                   "    \"" TYPICAL_KEY "\"\n"
                                   "  ]\n"
                                   "}\n");
    t.spec.hostname = (char *)"www.example.com";
    g_autoptr(SeedTexts) named = seed_texts_build(&t.input);
    json_t *meta = parse(named->meta_data);
    assert_string_equal(json_string_value(json_object_get(meta, "local-hostname")),
                        "www.example.com");
    json_decref(meta);
    typical_clear(&t);
}

static void test_meta_data_when_user_has_some_then_merged_but_not_the_id(void **state)
{
    (void)state;
    Typical t;
    typical_init(&t);
    t.spec.cloud_init.meta_data =
        typical_text("instance-id: mine\nlocal-hostname: theirs\nrole: {a: [1, yes, ~]}\n"
                     "public-keys: {joe: [ssh-ed25519 AAAA joe]}\n");
    g_autoptr(SeedTexts) texts = seed_texts_build(&t.input);
    json_t *meta = parse(texts->meta_data);
    json_t *expected =
        json_pack("{s:s, s:s, s:[s, s], s:{s:[i, b, n]}}", "instance-id",
                  "11111111-2222-3333-4444-555555555555", "local-hostname", "theirs", "public-keys",
                  TYPICAL_KEY, "ssh-ed25519 AAAA joe", "role", "a", 1, 1);
    assert_true(json_equal(meta, expected));
    json_decref(meta);
    json_decref(expected);
    typical_clear(&t);
}

static void test_network_config_when_nics_then_by_mac(void **state)
{
    (void)state;
    Typical t;
    typical_init(&t);
    static const char *const addresses[] = {"192.0.2.5/24", NULL};
    static const char *const servers[] = {"192.0.2.1", "9.9.9.9", NULL};
    const SeedNic nics[] = {{.mac = "52:54:00:00:00:01", .is_dhcp4 = true},
                            {.mac = "52:54:00:00:00:02",
                             .addresses = addresses,
                             .gateway4 = "192.0.2.1",
                             .nameservers = servers}};
    t.input.nics = nics;
    t.input.n_nics = 2;
    g_autoptr(SeedTexts) texts = seed_texts_build(&t.input);
    json_t *config = parse(texts->network_config);
    json_t *expected = json_pack(
        "{s:i, s:{s:{s:{s:s}, s:b}, s:{s:{s:s}, s:b, s:[s], s:[{s:s, s:s}], s:{s:[s, s]}}}}",
        "version", 2, "ethernets", "nic0", "match", "macaddress", "52:54:00:00:00:01", "dhcp4", 1,
        "nic1", "match", "macaddress", "52:54:00:00:00:02", "dhcp4", 0, "addresses", "192.0.2.5/24",
        "routes", "to", "0.0.0.0/0", "via", "192.0.2.1", "nameservers", "addresses", "192.0.2.1",
        "9.9.9.9");
    assert_true(json_equal(config, expected));
    json_decref(config);
    json_decref(expected);
    typical_clear(&t);
}

static void test_texts_when_user_gives_them_then_byte_for_byte(void **state)
{
    (void)state;
    Typical t;
    typical_init(&t);
    static const char raw[] = "\r\n#cloud-config\r\n# \xc3\xa9\nruncmd: [ {{ x }} ]\n\n";
    t.spec.cloud_init.user_data = typical_text(raw);
    t.spec.cloud_init.network_config = typical_text("version: 1\nconfig: []\n");
    g_autoptr(SeedTexts) texts = seed_texts_build(&t.input);
    assert_bytes(texts->user_data, raw);
    assert_bytes(texts->network_config, "version: 1\nconfig: []\n");
    t.spec.cloud_init.user_data = (SpecText){0};
    t.spec.cloud_init.network_config = (SpecText){0};
    t.input.n_nics = 0;
    g_autoptr(SeedTexts) none = seed_texts_build(&t.input);
    assert_int_equal(g_bytes_get_size(none->user_data), 0);
    assert_null(none->network_config);
    typical_clear(&t);
}

static void test_login_user_when_not_named_then_vm(void **state)
{
    (void)state;
    MachineSpec spec = {0};
    assert_string_equal(seed_login_user(&spec), "vm");
    spec.user = (char *)"joe";
    assert_string_equal(seed_login_user(&spec), "joe");
}

static void test_digest_when_texts_differ_then_differs(void **state)
{
    (void)state;
    Typical t;
    typical_init(&t);
    g_autoptr(SeedTexts) one = seed_texts_build(&t.input);
    g_autoptr(SeedTexts) two = seed_texts_build(&t.input);
    g_autofree char *digest = seed_texts_digest(one);
    g_autofree char *same = seed_texts_digest(two);
    assert_int_equal(strlen(digest), 64);
    assert_string_equal(digest, same);
    t.input.instance_id = "other";
    g_autoptr(SeedTexts) three = seed_texts_build(&t.input);
    g_autofree char *other = seed_texts_digest(three);
    assert_string_not_equal(digest, other);
    g_clear_pointer(&two->network_config, g_bytes_unref);
    g_autofree char *without = seed_texts_digest(two);
    assert_string_not_equal(digest, without);
    typical_clear(&t);
}

/* --- the ISO
 * --------------------------------------------------------------------------------------- */

static int scratch_open(void **state)
{
    return open(*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void test_iso_when_written_then_readable_with_label_and_mode(void **state)
{
    Typical t;
    typical_init(&t);
    g_autoptr(SeedTexts) texts = seed_texts_build(&t.input);
    autofd int dirfd = scratch_open(state);
    umask(0);
    assert_true(seed_iso_write(texts, dirfd, "seed.iso", false, NULL));
    struct stat info;
    assert_int_equal(fstatat(dirfd, "seed.iso", &info, 0), 0);
    assert_int_equal(info.st_mode & 07777, 0600);
    assert_true(info.st_size % 2048 == 0);
    assert_true(info.st_size < 128 * 1024);
    g_autofree char *path = scratch_path(state, "seed.iso");
    g_autofree char *label = SCRATCH_RUN("isoinfo", "-d", "-i", path);
    assert_non_null(strstr(label, "Volume id: cidata\n"));
    assert_non_null(strstr(label, "Joliet with UCS level 3"));
    assert_non_null(strstr(label, "Rock Ridge signatures version 1 found"));
    const struct {
        const char *name;
        GBytes *bytes;
    } files[] = {{"/user-data", texts->user_data},
                 {"/vendor-data", texts->vendor_data},
                 {"/meta-data", texts->meta_data},
                 {"/network-config", texts->network_config}};
    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        for (int is_joliet = 0; is_joliet < 2; is_joliet++) {
            g_autofree char *text =
                SCRATCH_RUN("isoinfo", is_joliet ? "-J" : "-R", "-x", files[i].name, "-i", path);
            assert_bytes(files[i].bytes, text);
        }
    }
    typical_clear(&t);
}

static void test_iso_when_blkid_looks_then_cidata(void **state)
{
    Typical t;
    typical_init(&t);
    g_autoptr(SeedTexts) texts = seed_texts_build(&t.input);
    autofd int dirfd = scratch_open(state);
    assert_true(seed_iso_write(texts, dirfd, "probe.iso", false, NULL));
    g_autofree char *path = scratch_path(state, "probe.iso");
    g_autofree char *found = SCRATCH_RUN("/usr/sbin/blkid", "-p", "-o", "export", path);
    assert_non_null(strstr(found, "LABEL=cidata\n"));
    assert_non_null(strstr(found, "TYPE=iso9660\n"));
    typical_clear(&t);
}

static void test_iso_when_written_again_then_replaces_only_if_asked(void **state)
{
    Typical t;
    typical_init(&t);
    g_autoptr(SeedTexts) texts = seed_texts_build(&t.input);
    autofd int dirfd = scratch_open(state);
    assert_true(seed_iso_write(texts, dirfd, "again.iso", false, NULL));
    g_autoptr(GError) error = NULL;
    assert_false(seed_iso_write(texts, dirfd, "again.iso", false, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_EXISTS));
    assert_true(seed_iso_write(texts, dirfd, "again.iso", true, NULL));
    g_autoptr(GDir) dir = g_dir_open(*state, 0, NULL);
    for (const char *name; (name = g_dir_read_name(dir));) {
        assert_true(name[0] != '.'); /* nothing half-done is left */
    }
    typical_clear(&t);
}

static void test_iso_when_folder_is_gone_then_error(void **state)
{
    (void)state;
    Typical t;
    typical_init(&t);
    g_autoptr(SeedTexts) texts = seed_texts_build(&t.input);
    g_autoptr(GError) error = NULL;
    assert_false(seed_iso_write(texts, -1, "x.iso", true, &error));
    assert_non_null(error);
    assert_true(error->domain == VM_ERROR);
    typical_clear(&t);
}

static void test_iso_when_empty_and_big_texts_then_same_bytes_back(void **state)
{
    g_autofree char *big = g_strnfill(1024 * 1024, 'x');
    SeedTexts texts = {.user_data = g_bytes_new_static("", 0),
                       .vendor_data = g_bytes_new_static(big, 1024 * 1024),
                       .meta_data = g_bytes_new_static("{}\n", 3)};
    autofd int dirfd = scratch_open(state);
    assert_true(seed_iso_write(&texts, dirfd, "big.iso", false, NULL));
    g_autofree char *path = scratch_path(state, "big.iso");
    g_autofree char *vendor = SCRATCH_RUN("isoinfo", "-R", "-x", "/vendor-data", "-i", path);
    assert_string_equal(vendor, big);
    g_autofree char *user = SCRATCH_RUN("isoinfo", "-R", "-x", "/user-data", "-i", path);
    assert_string_equal(user, "");
    g_autofree char *list = SCRATCH_RUN("isoinfo", "-R", "-f", "-i", path);
    assert_null(strstr(list, "network-config"));
    g_bytes_unref(texts.user_data);
    g_bytes_unref(texts.vendor_data);
    g_bytes_unref(texts.meta_data);
}

/* `test-cloudinit-seed --digest` prints the ISO's digest: the same test in another process. */
static char *iso_digest(void)
{
    Typical t;
    typical_init(&t);
    g_autoptr(SeedTexts) texts = seed_texts_build(&t.input);
    g_autoptr(GBytes) iso = seed_iso_build(texts, NULL);
    typical_clear(&t);
    return g_compute_checksum_for_bytes(G_CHECKSUM_SHA256, iso);
}

static void test_iso_when_other_process_time_or_zone_then_same_bytes(void **state)
{
    (void)state;
    g_autofree char *here = iso_digest();
    g_autofree char *again = iso_digest();
    assert_string_equal(here, again);
    static const char *const zones[] = {"TZ=America/St_Johns", "TZ=Pacific/Kiritimati", "TZ=UTC"};
    for (size_t i = 0; i < G_N_ELEMENTS(zones); i++) {
        const char *argv[] = {"/proc/self/exe", "--digest", NULL};
        g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
        argv[0] = self;
        const char *env[] = {zones[i], NULL};
        g_autofree char *output = NULL;
        BaseChild child = BASE_CHILD_INIT;
        child.argv = argv;
        child.extra_env = env;
        assert_true(base_child_run(&child, &output, NULL, NULL));
        assert_string_equal(output, here);
        g_usleep(400 * 1000); /* so that the clock's second differs between the runs */
    }
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--digest") == 0) {
        g_autofree char *digest = iso_digest();
        fputs(digest, stdout);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_meta_data_when_typical_then_id_name_and_keys),
        cmocka_unit_test(test_meta_data_when_user_has_some_then_merged_but_not_the_id),
        cmocka_unit_test(test_network_config_when_nics_then_by_mac),
        cmocka_unit_test(test_texts_when_user_gives_them_then_byte_for_byte),
        cmocka_unit_test(test_login_user_when_not_named_then_vm),
        cmocka_unit_test(test_digest_when_texts_differ_then_differs),
        cmocka_unit_test(test_iso_when_written_then_readable_with_label_and_mode),
        cmocka_unit_test(test_iso_when_blkid_looks_then_cidata),
        cmocka_unit_test(test_iso_when_written_again_then_replaces_only_if_asked),
        cmocka_unit_test(test_iso_when_folder_is_gone_then_error),
        cmocka_unit_test(test_iso_when_empty_and_big_texts_then_same_bytes_back),
        cmocka_unit_test(test_iso_when_other_process_time_or_zone_then_same_bytes),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
