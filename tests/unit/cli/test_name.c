#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <glib.h>
#include <glib/gstdio.h>

#include "cli/name.h"
#include "schemas/spec.h"

static const struct {
    const char *image;
    const char *stem;
} cases[] = {
    {"/images/debian-12-genericcloud-amd64.qcow2", "debian-12"},
    {"https://cloud.debian.org/x/debian-12-generic-amd64-20240717-1811.qcow2?a=b/c", "debian-12"},
    {"noble-server-cloudimg-amd64.img", "noble"},
    {"ubuntu-24.04-server-cloudimg-amd64.img", "ubuntu-24"},
    {"Fedora-Cloud-Base-Generic.x86_64-40-1.14.qcow2", "fedora-40"},
    {"tiny.qcow2", "tiny"},
    {"disk.img", "vm"},
    {"...", "vm"},
    {"", "vm"},
    {"/a/b/", "b"},
    {"\xff\xfe.raw", "vm"},
    {"averyveryveryveryveryveryveryverylongnameindeed.qcow2",
     "averyveryveryveryveryveryveryverylongnam"},
};

static void test_stem_when_image_named_then_what_tells(void **state)
{
    (void)state;
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *stem = cmd_name_stem(cases[i].image);
        assert_string_equal(stem, cases[i].stem);
    }
}

static void test_name_when_generated_then_valid_and_new(void **state)
{
    (void)state;
    g_autofree char *dir = g_dir_make_tmp("vm-cli-name-XXXXXX", NULL);
    g_autofree char *missing = g_build_filename(dir, "none", NULL);
    g_autoptr(MachineStore) store = machine_store_open(missing, true, NULL);
    assert_non_null(store);
    g_autofree char *last = NULL;
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(BaseReport) report = base_report_new();
        g_autofree char *name = cmd_name_generate(store, cases[i].image);
        assert_true(spec_name_check(name, NULL, report));
        assert_string_not_equal(name, last ? last : "");
        g_free(last);
        last = g_strdup(name);
    }
    assert_false(g_file_test(missing, G_FILE_TEST_EXISTS));
    assert_int_equal(g_rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stem_when_image_named_then_what_tells),
        cmocka_unit_test(test_name_when_generated_then_valid_and_new),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
