#include <stdio.h>
#include "base/error.h"
#include "cli/commands.h"
#include "cli/host.h"
#include "cli/launch.h"
#include "cli/say.h"

static bool print_json(MachineHost *host, const char *name, GError **error)
{
    g_autoptr(MachineView) view = machine_view_load(host, name, error);
    g_autofree char *json = view ? machine_view_to_json(view) : NULL;
    if (json) {
        puts(json);
    }
    return json;
}

static int start_main(const CmdContext *context, GError **error)
{
    const char *name = cmd_args_operand(context->args, 0);
    CmdWait wait;
    if (!cmd_wait_read(context, SPEC_WAIT_READY, &wait, error)) {
        return 0;
    }
    g_autoptr(MachineHost) host = cmd_host_new(context, true, error);
    g_autoptr(MachineView) view = host ? machine_view_load(host, name, error) : NULL;
    if (!view) {
        return 0;
    }
    if (view->status == MACHINE_STATUS_RUNNING) {
        cmd_say_note(context, "machine '%s' runs already", name);
        if (context->is_json) {
            print_json(host, name, error);
        }
        return 0;
    }
    CmdLaunch launch = {context, host, name, NULL, "start", cmd_args_has(context->args, "rm"),
                        wait};
    bool is_up = false;
    if (cmd_launch(&launch, &is_up, error) && context->is_json) {
        print_json(host, name, error);
    }
    return 0;
}

static const CmdFlag flags[] = {
    {.name = "rm", .doc = "Remove the machine and all of it when it ends."},
    CMD_LAUNCH_FLAGS,
    {.name = NULL},
};

const CmdCommand cmd_start = {
    .name = "start",
    .synopsis = "[flags] NAME",
    .doc = "Start a stopped machine and follow its boot.",
    .detail = "Its disks, addresses and keys are those of before; cloud-init sees the same "
              "instance. A machine that runs "
              "is left as it is. Ctrl-C while it starts undoes the start.",
    .flags = flags,
    .n_operands_min = 1,
    .n_operands_max = 1,
    .operand = CMD_OPERAND_MACHINE,
    .has_json = true,
    .handler = start_main,
};
