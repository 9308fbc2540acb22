#pragma once
#include "cli/command.h"

/* Texts for people, made from the command table; transfer full. */

/* `vm-run --help`; with group, only the commands that begin with that word. */
char *cmd_help_program(const char *group);
char *cmd_help_command(const CmdCommand *command);

/* "-p, --publish HOST:GUEST": how a flag is written. */
char *cmd_help_flag(const CmdFlag *flag);
