#include <stdio.h>
#include "base/error.h"
#include "cli/commands.h"
#include "cli/completion.h"

static int completion_main(const CmdContext *context, GError **error)
{
    const char *shell = cmd_args_operand(context->args, 0);
    if (!g_str_equal(shell, "bash")) {
        base_fail(error, VM_ERROR_CLI, "no completion for '%s' - there is one for bash", shell);
        return 0;
    }
    g_autofree char *script = cmd_completion_bash();
    fputs(script, stdout);
    return 0;
}

static const char *const examples[] = {"source <(vm-run completion bash)", "for this shell", NULL};

const CmdCommand cmd_completion = {
    .name = "completion",
    .synopsis = "[flags] bash",
    .doc = "Print a completion script for the shell: commands, flags, values, names of machines.",
    .examples = examples,
    .n_operands_min = 1,
    .n_operands_max = 1,
    .operand = CMD_OPERAND_SHELL,
    .handler = completion_main,
};
