#pragma once
#include <glib.h>

/* The bash completion script, made from the command table; needs bash 4, nothing else. Transfer
 * full. */
char *cmd_completion_bash(void);
