#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "schemas/spec.h"

/* Any bytes as a spec file: read and judged; a machine without mistakes survives YAML and JSON. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_round_trips(const MachineSpec *spec)
{
    g_autoptr(BaseReport) report = base_report_new();
    g_autofree char *yaml = spec_machine_to_yaml(spec, true);
    g_autoptr(SpecFile) again = spec_file_load_text(yaml, strlen(yaml), "again", "/", report);
    g_assert(again && spec_file_n_machines(again) == 1 && base_report_n_errors(report) == 0);
    g_autofree char *json = spec_machine_to_json(spec);
    g_autoptr(MachineSpec) copy = spec_machine_from_json(json, NULL);
    g_autofree char *copied = copy ? spec_machine_to_json(copy) : NULL;
    g_assert(g_strcmp0(json, copied) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    g_autoptr(BaseReport) report = base_report_new();
    g_autoptr(SpecFile) file =
        spec_file_load_text((const char *)data, n, "spec.yaml", "/nowhere", report);
    for (unsigned i = 0; file && i < spec_file_n_machines(file); i++) {
        g_autoptr(MachineSpec) spec = spec_file_steal_machine(file, i);
        spec_machine_finish(spec, report);
        if (base_report_n_errors(report) == 0) {
            check_round_trips(spec);
        }
    }
    for (unsigned i = 0; i < base_report_n_items(report); i++) {
        g_autofree char *line = base_report_item_text(base_report_item(report, i));
        g_assert(line && !strpbrk(line, "\n\x1b"));
    }
    return 0;
}
