#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "schemas/spec.h"

/* Lines of "KEY=VALUE" as flags of `network add`; what passes survives JSON and a copy. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_round_trips(const NetworkSpec *spec)
{
    g_autofree char *json = spec_network_to_json(spec);
    g_autoptr(NetworkSpec) again = spec_network_from_json(json, NULL);
    g_autoptr(NetworkSpec) copy = spec_network_copy(spec);
    g_autofree char *of_again = again ? spec_network_to_json(again) : NULL;
    g_autofree char *of_copy = spec_network_to_json(copy);
    g_assert(g_strcmp0(json, of_again) == 0 && g_strcmp0(json, of_copy) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    g_autoptr(BaseReport) report = base_report_new();
    g_autoptr(NetworkSpec) spec = spec_network_new();
    g_autofree char *text = g_strndup((const char *)data, n);
    g_auto(GStrv) lines = g_strsplit(text, "\n", 64);
    for (char **line = lines; *line; line++) {
        char *equals = strchr(*line, '=');
        if (equals) {
            *equals = '\0';
            spec_network_set(spec, *line, equals + 1, "--set", report);
        }
    }
    spec_network_finish(spec, report);
    if (base_report_n_errors(report) == 0) {
        check_round_trips(spec);
    }
    return 0;
}
