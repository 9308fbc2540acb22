#include <unistd.h>
#include "base/error.h"
#include "cli/commands.h"
#include "cli/host.h"

static int internal_start_main(const CmdContext *context, GError **error)
{
    (void)context;
    (void)error;
    return machine_launch_starter_main(STDIN_FILENO, STDOUT_FILENO);
}

static int internal_end_main(const CmdContext *context, GError **error)
{
    g_autoptr(MachineHost) host = cmd_host_new(context, false, error);
    if (host) {
        machine_ended(host, cmd_args_operand(context->args, 0), error);
    }
    return 0;
}

const CmdCommand cmd_internal_start = {
    .name = "internal-start",
    .synopsis = "",
    .doc = "The starter: reads a request from standard input and answers on standard output.",
    .is_hidden = true,
    .handler = internal_start_main,
};

const CmdCommand cmd_internal_end = {
    .name = "internal-end",
    .synopsis = "NAME",
    .doc = "What a machine's watcher calls when its QEMU has ended.",
    .n_operands_min = 1,
    .n_operands_max = 1,
    .is_hidden = true,
    .handler = internal_end_main,
};
