#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "schemas/spec.h"

/* Help for the tests of schemas/: texts in, machines and report lines out. */

/* The report's lines without their file, one each. Transfer full. */
static inline char *report_lines(BaseReport *report)
{
    GString *out = g_string_new(NULL);
    for (unsigned i = 0; i < base_report_n_items(report); i++) {
        g_autofree char *line = base_report_item_text(base_report_item(report, i));
        g_string_append_printf(out, "%s%s", i ? "\n" : "", line);
    }
    return g_string_free(out, FALSE);
}

/* Everything that a spec text does wrong, as report_lines(); the file is called f. */
static inline char *mistakes_of(const char *text, size_t n_bytes)
{
    g_autoptr(BaseReport) report = base_report_new();
    g_autoptr(SpecFile) file = spec_file_load_text(text, n_bytes, "f", "/base", report);
    for (unsigned i = 0; file && i < spec_file_n_machines(file); i++) {
        g_autoptr(MachineSpec) spec = spec_file_steal_machine(file, i);
        spec_machine_finish(spec, report);
    }
    return report_lines(report);
}

static inline void assert_mistakes(const char *text, const char *expected)
{
    g_autofree char *lines = mistakes_of(text, strlen(text));
    assert_string_equal(lines, expected);
}

/* The lines of one machine, each "    " in. Transfer full. */
static inline char *file_with(const char *machine_lines)
{
    return g_strdup_printf("version: 1\nname: t\nvms:\n  web:\n    image: i\n%s", machine_lines);
}

static inline void assert_machine_mistakes(const char *machine_lines, const char *expected)
{
    g_autofree char *text = file_with(machine_lines);
    assert_mistakes(text, expected);
}

/* The finished machine of a text without mistakes. Transfer full. */
static inline MachineSpec *machine_of(const char *text)
{
    g_autoptr(BaseReport) report = base_report_new();
    g_autoptr(SpecFile) file = spec_file_load_text(text, strlen(text), "f", "/base", report);
    assert_non_null(file);
    assert_int_equal(spec_file_n_machines(file), 1);
    MachineSpec *spec = spec_file_steal_machine(file, 0);
    spec_machine_finish(spec, report);
    g_autofree char *lines = report_lines(report);
    assert_string_equal(lines, "");
    return spec;
}

static inline MachineSpec *machine_with(const char *machine_lines)
{
    g_autofree char *text = file_with(machine_lines);
    return machine_of(text);
}

/* Sets one option from nothing; the error class, NULL: fine. */
static inline const char *class_of_set(const char *path, const char *value)
{
    g_autoptr(BaseReport) report = base_report_new();
    g_autoptr(MachineSpec) spec = spec_machine_new();
    bool is_set = spec_machine_set(spec, path, value, "--set", report);
    assert_int_equal(is_set, base_report_n_errors(report) == 0);
    return is_set ? NULL : base_error_row((int)base_report_item(report, 0)->code)->cls;
}

#define assert_set_fine(path, value) assert_null(class_of_set(path, value))
#define assert_set_refused(path, value, cls)                                                       \
    do {                                                                                           \
        const char *got_ = class_of_set(path, value);                                              \
        assert_non_null(got_);                                                                     \
        assert_string_equal(got_, cls);                                                            \
    } while (0)
