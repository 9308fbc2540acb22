#include <stdio.h>
#include "base/error.h"
#include "cli/commands.h"
#include "cli/describe.h"
#include "cli/json.h"
#include "cli/say.h"

static int print_json(const SpecFile *file, BaseReport *report)
{
    json_t *names = json_array();
    for (unsigned i = 0; file && i < spec_file_n_machines(file); i++) {
        json_array_append_new(names, cmd_json_text(spec_file_machine_name(file, i)));
    }
    json_t *result = json_object();
    json_object_set_new(result, "v", json_integer(1));
    json_object_set_new(result, "ok", json_boolean(!base_report_n_errors(report)));
    json_object_set_new(result, "machines", names);
    json_object_set_new(result, "items", cmd_json_report(report));
    cmd_json_print(result);
    return base_report_exit_status(report);
}

static int print_text(const CmdContext *context, const char *path, unsigned n, BaseReport *report)
{
    int status = cmd_say_report(context, report);
    if (!status && !context->is_quiet) {
        printf("%s: %u machine%s, no mistakes\n", path, n, n == 1 ? "" : "s");
    }
    return status;
}

static int check_main(const CmdContext *context, GError **error)
{
    (void)error;
    const char *path = cmd_args_operand(context->args, 0);
    g_autoptr(BaseReport) report = base_report_new();
    g_autoptr(SpecFile) file = spec_file_load(path, report);
    unsigned n = file ? spec_file_n_machines(file) : 0;
    for (unsigned i = 0; i < n; i++) {
        g_autoptr(MachineSpec) spec = spec_file_steal_machine(file, i);
        g_autoptr(GPtrArray) keys = cmd_describe_check(spec, report);
        (void)keys;
    }
    return context->is_json ? print_json(file, report) : print_text(context, path, n, report);
}

static const char *const examples[] = {"vm-run check web.yaml", "all mistakes, each with its place",
                                       NULL};

const CmdCommand cmd_check = {
    .name = "check",
    .synopsis = "[flags] FILE",
    .doc = "Check a spec file and the cloud-init texts it names; nothing is touched.",
    .detail = "Every mistake is one line with file, line and column, in the order of the file. The "
              "exit status "
              "is that of the first. FILE may be - for standard input.",
    .examples = examples,
    .n_operands_min = 1,
    .n_operands_max = 1,
    .operand = CMD_OPERAND_FILE,
    .has_json = true,
    .handler = check_main,
};
