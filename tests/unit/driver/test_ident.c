#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#include "driver/ident.h"

static void test_ident_same_input_gives_same_names(void **state)
{
    (void)state;
    g_autoptr(MachineIdent) a = machine_ident_new("/var/lib/vm-run", "web");
    g_autoptr(MachineIdent) b = machine_ident_new("/var/lib/vm-run", "web");
    assert_string_equal(a->uuid, b->uuid);
    assert_string_equal(a->run_name, b->run_name);
    assert_string_equal(a->full_id, "vm-run:/var/lib/vm-run:web");
}

static void test_ident_other_directory_gives_other_uuid_and_marks(void **state)
{
    (void)state;
    g_autoptr(MachineIdent) a = machine_ident_new("/var/lib/vm-run", "web");
    g_autoptr(MachineIdent) b = machine_ident_new("/tmp/x", "web");
    assert_string_not_equal(a->uuid, b->uuid);
    assert_string_not_equal(a->store_id, b->store_id);
    assert_string_not_equal(a->short_id, b->short_id);
}

static void test_ident_uuid_is_version_5_of_the_rfc_variant(void **state)
{
    (void)state;
    g_autoptr(MachineIdent) a = machine_ident_new("/s", "m");
    assert_int_equal(strlen(a->uuid), 36);
    assert_int_equal(a->uuid[14], '5');
    assert_non_null(strchr("89ab", a->uuid[19]));
    assert_int_equal(strlen(a->short_id), 10);
    assert_int_equal(strspn(a->run_name, "abcdefghijklmnopqrstuvwxyz234567."), 19);
}

static void test_ident_instance_changes_with_generation_only(void **state)
{
    (void)state;
    g_autoptr(MachineIdent) a = machine_ident_new("/s", "m");
    g_autofree char *one = machine_ident_instance_id(a, 1);
    g_autofree char *again = machine_ident_instance_id(a, 1);
    g_autofree char *two = machine_ident_instance_id(a, 2);
    assert_string_equal(one, again);
    assert_string_not_equal(one, two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ident_same_input_gives_same_names),
        cmocka_unit_test(test_ident_other_directory_gives_other_uuid_and_marks),
        cmocka_unit_test(test_ident_uuid_is_version_5_of_the_rfc_variant),
        cmocka_unit_test(test_ident_instance_changes_with_generation_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
