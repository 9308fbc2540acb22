#include "base/load.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dlfcn.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/error.h"

/* Parts lie beside the program: for this one in the tests' folder of the build tree. */
#define PART_PATH(name) TEST_BUILD_DIR "/tests/" name ".so"

static void assert_host_error(const char *part, const char *symbol, const char *expected)
{
    g_autoptr(GError) error = NULL;
    assert_null(base_load_symbol(part, symbol, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_HOST));
    assert_non_null(strstr(error->message, expected));
    assert_null(strchr(error->message, '\n'));
}

static void test_load_missing_part_then_not_installed(void **state)
{
    (void)state;
    assert_host_error("no-such-part", "x", "part 'no-such-part.so' is not installed");
}

static void test_load_broken_part_then_says_why(void **state)
{
    (void)state;
    assert_true(g_file_set_contents(PART_PATH("broken-part"), "no ELF", -1, NULL));
    assert_host_error("broken-part", "x", "can't be loaded: ");
    unlink(PART_PATH("broken-part"));
}

static void test_load_real_part_then_its_symbol_or_says_what_lacks(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    Dl_info cmocka; /* any shared library serves as a part */
    assert_true(dladdr((void *)(uintptr_t)_cmocka_run_group_tests, &cmocka) != 0);
    unlink(PART_PATH("real-part"));
    assert_int_equal(symlink(cmocka.dli_fname, PART_PATH("real-part")), 0);
    void *found = base_load_symbol("real-part", "_cmocka_run_group_tests", &error);
    assert_non_null(found);
    assert_host_error("real-part", "no_such_symbol", "no_such_symbol");
    unlink(PART_PATH("real-part"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load_missing_part_then_not_installed),
        cmocka_unit_test(test_load_broken_part_then_says_why),
        cmocka_unit_test(test_load_real_part_then_its_symbol_or_says_what_lacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
