#include <stdio.h>
#include "base/error.h"
#include "cli/commands.h"
#include "cli/help.h"

static int help_main(const CmdContext *context, GError **error)
{
    const char *const words[] = {cmd_args_operand(context->args, 0),
                                 cmd_args_operand(context->args, 1), NULL};
    unsigned n_words = 0;
    const CmdCommand *command = cmd_command_find(words, &n_words);
    if (words[0] && !command && !cmd_command_is_group(words[0])) {
        base_fail(error, VM_ERROR_CLI, "there is no command '%s'", words[0]);
        return 0;
    }
    g_autofree char *text = command ? cmd_help_command(command) : cmd_help_program(words[0]);
    fputs(text, stdout);
    return 0;
}

const CmdCommand cmd_help = {
    .name = "help",
    .synopsis = "[COMMAND]",
    .doc = "Show the help of the program or of one command.",
    .n_operands_max = 2,
    .operand = CMD_OPERAND_COMMAND,
    .handler = help_main,
};
