#include "base/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <string.h>
#include <cmocka.h>

static void test_rows_each_code_then_complete_and_unique(void **state)
{
    (void)state;
    g_autoptr(GHashTable) classes = g_hash_table_new(g_str_hash, g_str_equal);
    for (int code = 0; code < VM_ERROR_N; code++) {
        const BaseErrorRow *row = base_error_row(code);
        assert_non_null(row->cls);
        assert_true(g_str_has_prefix(row->cls, "E_"));
        assert_true(g_hash_table_add(classes, (gpointer)row->cls));
        assert_true(row->exit_status > 0 && row->exit_status < 256);
        assert_true(row->grpc_status > 0 && row->grpc_status <= 16);
        assert_true(g_str_has_suffix(row->doc, "."));
    }
}

static void test_row_unknown_code_or_domain_then_internal(void **state)
{
    (void)state;
    g_autoptr(GError) foreign = g_error_new_literal(G_FILE_ERROR, 5, "x");
    assert_ptr_equal(base_error_row(-1), base_error_row(VM_ERROR_INTERNAL));
    assert_ptr_equal(base_error_row(VM_ERROR_N), base_error_row(VM_ERROR_INTERNAL));
    assert_ptr_equal(base_error_row_of(foreign), base_error_row(VM_ERROR_INTERNAL));
}

static void test_set_errno_then_code_and_text(void **state)
{
    (void)state;
    const struct {
        int errnum;
        VmError code;
    } cases[] = {
        {ENOSPC, VM_ERROR_NO_SPACE}, {EACCES, VM_ERROR_DENIED},   {ENOENT, VM_ERROR_NOT_FOUND},
        {EEXIST, VM_ERROR_EXISTS},   {EMFILE, VM_ERROR_NO_SPACE}, {EROFS, VM_ERROR_HOST},
        {EIO, VM_ERROR_HOST},        {EBUSY, VM_ERROR_BUSY},      {ETIMEDOUT, VM_ERROR_TIMEOUT}};
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *expected = g_strdup_printf("disk 'a': %s", g_strerror(cases[i].errnum));
        base_error_set_errno(&error, cases[i].errnum, "disk '%s'", "a");
        assert_true(g_error_matches(error, VM_ERROR, (int)cases[i].code));
        assert_string_equal(error->message, expected);
    }
    base_error_set_errno(NULL, EIO, "nobody listens");
}

static void test_fail_then_false_with_literal_text(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    assert_false(base_fail(&error, VM_ERROR_RANGE, "%s", "100%d"));
    assert_string_equal(error->message, "100%d");
    assert_false(base_fail(NULL, VM_ERROR_RANGE, "x"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_each_code_then_complete_and_unique),
        cmocka_unit_test(test_row_unknown_code_or_domain_then_internal),
        cmocka_unit_test(test_set_errno_then_code_and_text),
        cmocka_unit_test(test_fail_then_false_with_literal_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
