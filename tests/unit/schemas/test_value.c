#include "schemas/value.h"

#include "specs.h"

static void assert_size(const char *text, uint64_t bytes)
{
    uint64_t got = 0;
    assert_true(spec_parse_size(text, &got));
    assert_true(got == bytes);
}

static void test_size_with_unit_then_bytes(void **state)
{
    (void)state;
    assert_size("0B", 0);
    assert_size("512B", 512);
    assert_size("1K", 1024);
    assert_size("1KiB", 1024);
    assert_size("20G", UINT64_C(20) << 30);
    assert_size("2GiB", UINT64_C(2) << 30);
    assert_size("3TiB", UINT64_C(3) << 40);
    assert_size("15E", UINT64_C(15) << 60);
}

static void test_size_of_other_form_then_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"",      "512",   "G",     "GiB",  "1g",   "1gib", "1GB",
                                        "1 GiB", " 1GiB", "1GiB ", "1.5G", "0x1G", "01G",  "1_0G",
                                        "+1G",   "5MiBx", "1e2K",  "--1G", "1-G",  "-"};
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        uint64_t bytes;
        assert_int_equal(spec_parse_size_form(texts[i], &bytes), SPEC_NUMBER_MALFORMED);
    }
}

static void test_number_that_does_not_fit_then_out_of_range(void **state)
{
    (void)state;
    uint64_t value;
    assert_int_equal(spec_parse_size_form("16E", &value), SPEC_NUMBER_OUT_OF_RANGE);
    assert_int_equal(spec_parse_size_form("-1GiB", &value), SPEC_NUMBER_OUT_OF_RANGE);
    assert_int_equal(spec_parse_size_form("99999999999999999999B", &value),
                     SPEC_NUMBER_OUT_OF_RANGE);
    assert_int_equal(spec_parse_duration_form("300000000000d", &value), SPEC_NUMBER_OUT_OF_RANGE);
    assert_int_equal(spec_parse_decimal("18446744073709551616", 20, &value),
                     SPEC_NUMBER_OUT_OF_RANGE);
    assert_int_equal(spec_parse_decimal("18446744073709551615", 20, &value), SPEC_NUMBER_OK);
    assert_true(value == UINT64_MAX);
}

static void test_size_formatted_then_reads_back(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {{0, "0B"},
                 {1, "1B"},
                 {1023, "1023B"},
                 {1024, "1KiB"},
                 {1536, "1536B"},
                 {UINT64_C(1) << 30, "1GiB"},
                 {UINT64_C(1536) << 20, "1536MiB"},
                 {UINT64_C(1) << 60, "1EiB"},
                 {UINT64_MAX, "18446744073709551615B"}};
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *text = spec_format_size(cases[i].bytes);
        assert_string_equal(text, cases[i].text);
        assert_size(text, cases[i].bytes);
    }
}

static void test_duration_then_milliseconds_and_back(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t ms;
        const char *again;
    } cases[] = {{"250ms", 250, "250ms"}, {"90s", 90000, "90s"}, {"60s", 60000, "1m"},
                 {"5m", 300000, "5m"},    {"1h", 3600000, "1h"}, {"1d", 86400000, "1d"},
                 {"0s", 0, "0s"},         {"1000ms", 1000, "1s"}};
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        uint64_t ms = 1;
        assert_true(spec_parse_duration(cases[i].text, &ms));
        assert_true(ms == cases[i].ms);
        g_autofree char *again = spec_format_duration(ms);
        assert_string_equal(again, cases[i].again);
    }
    uint64_t ms;
    assert_false(spec_parse_duration("90", &ms));
    assert_false(spec_parse_duration("abc", &ms));
    assert_false(spec_parse_duration("1m30s", &ms));
    assert_false(spec_parse_duration("1e99", &ms));
    assert_false(spec_parse_duration("-1s", &ms));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_size_with_unit_then_bytes),
        cmocka_unit_test(test_size_of_other_form_then_refused),
        cmocka_unit_test(test_number_that_does_not_fit_then_out_of_range),
        cmocka_unit_test(test_size_formatted_then_reads_back),
        cmocka_unit_test(test_duration_then_milliseconds_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
