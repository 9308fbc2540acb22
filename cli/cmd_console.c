#include "base/error.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/host.h"
#include "cli/signals.h"

static int console_main(const CmdContext *context, GError **error)
{
    const char *name = cmd_args_operand(context->args, 0);
    g_autoptr(MachineHost) host = cmd_host_new(context, true, error);
    g_autoptr(MachineView) view = host ? machine_view_load(host, name, error) : NULL;
    if (!view) {
        return 0;
    }
    if (!view->qemu_pid) {
        base_fail(error, VM_ERROR_HOST, "machine '%s' is %s - start it with 'vm-run start %s'",
                  name, machine_status_name(view->status), name);
        return 0;
    }
    CmdConsoleEnd end = CMD_CONSOLE_LEFT;
    if (!cmd_console_attach(context, view, cmd_args_has(context->args, "force"), &end, error)) {
        return 0;
    }
    if (end == CMD_CONSOLE_TAKEN) {
        return base_error_row(VM_ERROR_BUSY)->exit_status;
    }
    return end == CMD_CONSOLE_SIGNAL ? 128 + cmd_signals_first() : 0;
}

static const CmdFlag flags[] = {
    {.name = "force", .doc = "Take the console over from whoever has it."},
    {.name = NULL},
};

const CmdCommand cmd_console = {
    .name = "console",
    .synopsis = "[flags] NAME",
    .doc = "Attach to a machine's serial console; Ctrl-] leaves it.",
    .detail =
        "One person at a time. At a terminal every key goes to the guest but Ctrl-], and the "
        "terminal is as before "
        "when you leave. When standard input is no terminal its bytes are sent and its end leaves; "
        "when "
        "standard output is none, control sequences are left out and control bytes shown as \\xNN.",
    .flags = flags,
    .n_operands_min = 1,
    .n_operands_max = 1,
    .operand = CMD_OPERAND_MACHINE,
    .handler = console_main,
};
