#include "base/error.h"
#include "cli/commands.h"
#include "cli/host.h"
#include "cli/ssh.h"

static int ssh_main(const CmdContext *context, GError **error)
{
    const char *name = cmd_args_operand(context->args, 0);
    const char *const *command = (const char *const *)context->args->rest;
    g_autoptr(MachineHost) host = cmd_host_new(context, true, error);
    g_autoptr(MachineView) view = host ? machine_view_load(host, name, error) : NULL;
    if (!view) {
        return 0;
    }
    if (view->status != MACHINE_STATUS_RUNNING) {
        base_fail(error, VM_ERROR_HOST, "machine '%s' is %s - start it with 'vm-run start %s'",
                  name, machine_status_name(view->status), name);
        return 0;
    }
    if (!machine_view_find_address(host, view, error)) {
        return 0;
    }
    bool has_tty = command && (cmd_args_has(context->args, "tty") || cmd_ssh_has_tty());
    g_auto(GStrv) argv = cmd_ssh_argv(view, command, has_tty, error);
    if (argv) {
        cmd_ssh_exec(argv, error);
    }
    return 0;
}

static const CmdFlag flags[] = {
    {.name = "tty", .letter = 't', .doc = "Give the command a terminal also when ours is none."},
    {.name = NULL},
};

static const char *const examples[] = {"vm-run ssh web", "a shell in the guest",
                                       "vm-run ssh web -- journalctl -n 20", "one command", NULL};

const CmdCommand cmd_ssh = {
    .name = "ssh",
    .synopsis = "[flags] NAME [-- COMMAND...]",
    .doc = "Log in to a machine, or run a command in it.",
    .detail = "This is your own ssh, cut off from your configuration: it logs in with the "
              "machine's own key or one of your "
              "agent's, and checks the guest's host key, which was made with the machine. COMMAND "
              "is passed on "
              "word by word; its exit status is ours, 255 when the connection broke, 125 when the "
              "failure was ours.",
    .examples = examples,
    .flags = flags,
    .n_operands_min = 1,
    .n_operands_max = 1,
    .operand = CMD_OPERAND_MACHINE,
    .takes_command = true,
    .handler = ssh_main,
};
