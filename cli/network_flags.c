#include "cli/network_flags.h"

#include "base/error.h"
#include "cli/describe.h"
#include "cli/say.h"

bool cmd_network_has_spec_flags(const CmdArgs *args)
{
    for (guint i = 0; i < args->given->len; i++) {
        const CmdFlag *flag = g_array_index(args->given, CmdGiven, i).flag;
        if (flag->spec_path || g_str_equal(flag->name, "set")) {
            return true;
        }
    }
    return false;
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

static void set_network(void *spec, const char *path, const char *text, const char *shown,
                        BaseReport *report)
{
    spec_network_set(spec, path, text, shown, report);
}

NetworkSpec *cmd_network_spec_of_flags(const CmdContext *context, BaseReport *report,
                                       GError **error)
{
    g_autoptr(NetworkSpec) spec = spec_network_new();
    spec_network_set(spec, "name", cmd_args_operand(context->args, 0), "NETWORK", report);
    if (!cmd_describe_flags(context->args, set_network, spec, report, error)) {
        return NULL;
    }
    spec_network_finish(spec, report);
    return base_report_n_errors(report) ? NULL : g_steal_pointer(&spec);
}

int cmd_network_main(const CmdContext *context, CmdNetworkDescribeFn describe, CmdNetworkActFn act,
                     GError **error)
{
    g_autoptr(BaseReport) report = base_report_new();
    g_autoptr(NetworkSpec) spec = describe(context, report, error);
    if (spec) {
        act(context, spec, report, error);
    }
    int status = cmd_say_report(context, report);
    if (status) {
        g_clear_error(error); /* the report has it, with its place */
    }
    return status;
}

const char *const cmd_egress_default_words[] = {"allow", "deny", NULL};
