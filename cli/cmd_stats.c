#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/error.h"
#include "base/report.h"
#include "cli/commands.h"
#include "cli/host.h"
#include "cli/json.h"
#include "schemas/spec.h"

/* A number with the unit that its name ends with. */
static char *format_number(const char *key, const json_t *value)
{
    double number = json_number_value(value);
    if (g_str_has_suffix(key, "_bytes")) {
        return spec_format_size((uint64_t)MAX(0.0, number));
    }
    if (g_str_has_suffix(key, "_ns")) {
        return g_strdup_printf("%.2f s", number / 1e9);
    }
    return g_strdup_printf("%.15g", number);
}

static void print_text(const char *json)
{
    json_t *object = json_loads(json, 0, NULL);
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        bool is_shown = (json_is_number(value) || json_is_string(value)) && !g_str_equal(key, "v");
        g_autofree char *text = json_is_number(value) ? format_number(key, value)
                                : json_is_string(value)
                                    ? base_report_escape(json_string_value(value), 0)
                                    : NULL;
        if (is_shown) {
            printf("%-22s %s\n", key, text);
        }
    }
    json_decref(object);
}

static int stats_main(const CmdContext *context, GError **error)
{
    g_autoptr(MachineHost) host = cmd_host_new(context, true, error);
    g_autofree char *json =
        host ? machine_stats_json(host, cmd_args_operand(context->args, 0), error) : NULL;
    if (json && context->is_json) {
        puts(json);
    } else if (json) {
        print_text(json);
    }
    return 0;
}

const CmdCommand cmd_stats = {
    .name = "stats",
    .synopsis = "[flags] NAME",
    .doc = "Show what a running machine uses now: CPU time, memory, network, disks.",
    .n_operands_min = 1,
    .n_operands_max = 1,
    .operand = CMD_OPERAND_MACHINE,
    .has_json = true,
    .handler = stats_main,
};
