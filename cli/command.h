#pragma once
#include <stdbool.h>
#include <glib.h>
#include "cli/flags.h"

/*
 * The command table: one row a command. Dispatch, --help, the man page, bash completion and
 * docs/reference/cli.md read these rows and nothing else. A command is one file, cmd_<verb>.c, that
 * exports its row; commands.c lists them.
 */
typedef struct CmdContext CmdContext;

/* Exit status of the command. When `error` was set the status is ignored: main prints the one line
 * and ends with the status of its class. */
typedef int (*CmdHandler)(const CmdContext *context, GError **error);

/* What the operands are: for completion. */
typedef enum {
    CMD_OPERAND_NONE,
    CMD_OPERAND_MACHINE,
    CMD_OPERAND_NETWORK,
    CMD_OPERAND_FILE,
    CMD_OPERAND_SHELL,
    CMD_OPERAND_COMMAND
} CmdOperand;

typedef struct {
    const char *name;     /* "run", "image probe" */
    const char *alias;    /* another name, NULL: none */
    const char *synopsis; /* what follows the name: "[flags] NAME..." */
    const char *doc;      /* one sentence */
    const char *detail;   /* paragraphs for the man page, "\n\n" between them; NULL: none */
    const char *const
        *examples;        /* pairs: command line, what it does; NULL-terminated; NULL: none */
    const CmdFlag *flags; /* its own, ends with a row without name; NULL: none */
    unsigned n_operands_min, n_operands_max;
    CmdOperand operand;
    bool takes_command;     /* "-- COMMAND..." may follow; its status is passed on */
    bool has_spec_flags;    /* and every option of a machine that has a flag */
    bool has_network_flags; /* and every option of a network that has one */
    bool has_json;          /* takes --json */
    bool is_hidden;         /* for our own processes: not listed, not documented */
    CmdHandler handler;
} CmdCommand;

struct CmdContext {
    const CmdCommand *command;
    const CmdArgs *args;
    const char *state_dir; /* NULL: the usual one */
    const char *connect;   /* NULL: the usual choice */
    bool is_quiet, is_json;
    bool has_color; /* standard error may be coloured */
    bool is_live;   /* standard error is a terminal that can rewrite a line */
};

/* i from 0; NULL past the end. The order is that of the documents. */
const CmdCommand *cmd_command(unsigned i);

/* The command that argv begins with ("image" "probe" -> `image probe`, an alias counts); NULL:
 * none. out_n_words: how many words of argv are its name. */
const CmdCommand *cmd_command_find(const char *const *argv, unsigned *out_n_words);

/* Is `word` the first word of two-word commands ("image")? */
bool cmd_command_is_group(const char *word);

/* Every flag of a command: its own, those of the option table, the common ones; ends with a row
 * without name. NULL: the flags of the program itself. Free with g_free(); the texts are borrowed.
 */
CmdFlag *cmd_command_flags(const CmdCommand *command);

/* The same without the common ones (is_common false) or only those (true), for the documents. */
CmdFlag *cmd_command_flags_part(const CmdCommand *command, bool is_common);

/* Does the whole program: finds the command, reads its flags, runs it, prints the error. Exit
 * status. */
int cmd_main(int argc, char **argv);
