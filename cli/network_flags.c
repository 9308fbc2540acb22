#include "cli/network_flags.h"

#include <string.h>
#include "base/error.h"

static bool apply_set(NetworkSpec *spec, const char *text, BaseReport *report, GError **error)
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text) {
        return base_fail(error, VM_ERROR_CLI, "--set '%s': not of the form KEY=VALUE", text);
    }
    g_autofree char *path = g_strndup(text, (size_t)(equals - text));
    g_autofree char *shown = g_strdup_printf("--set %s", path);
    spec_network_set(spec, path, equals + 1, shown, report);
    return true;
}

static bool apply_flags(NetworkSpec *spec, const CmdArgs *args, BaseReport *report, GError **error)
{
    for (guint i = 0; i < args->given->len; i++) {
        const CmdGiven *given = &g_array_index(args->given, CmdGiven, i);
        if (g_str_equal(given->flag->name, "set") &&
            !apply_set(spec, given->value, report, error)) {
            return false;
        }
        if (given->flag->spec_path) {
            g_autofree char *shown = g_strdup_printf("--%s", given->flag->name);
            spec_network_set(spec, given->flag->spec_path, given->value ? given->value : "true",
                             shown, report);
        }
    }
    return true;
}

NetworkSpec *cmd_network_spec_of_file(const CmdContext *context, BaseReport *report, GError **error)
{
    const char *path = cmd_args_text(context->args, "file");
    const char *name = cmd_args_operand(context->args, 0);
    g_autoptr(SpecFile) file = spec_file_load(path, report);
    if (!file || base_report_n_errors(report)) {
        return NULL;
    }
    for (unsigned i = 0; i < spec_file_n_networks(file); i++) {
        if (g_str_equal(spec_file_network(file, i)->name, name)) {
            return spec_network_copy(spec_file_network(file, i));
        }
    }
    base_fail(error, VM_ERROR_NOT_FOUND, "'%s' describes no network '%s'", path, name);
    return NULL;
}

NetworkSpec *cmd_network_spec_of_flags(const CmdContext *context, BaseReport *report,
                                       GError **error)
{
    g_autoptr(NetworkSpec) spec = spec_network_new();
    spec_network_set(spec, "name", cmd_args_operand(context->args, 0), "NETWORK", report);
    if (!apply_flags(spec, context->args, report, error)) {
        return NULL;
    }
    spec_network_finish(spec, report);
    return base_report_n_errors(report) ? NULL : g_steal_pointer(&spec);
}

const char *const cmd_egress_default_words[] = {"allow", "deny", NULL};
