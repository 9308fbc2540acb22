#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

/*
 * The command line: GNU long options (--flag VALUE, --flag=VALUE), short ones (-d, -p 80:80,
 * -p80:80, bundles such as -dq), operands anywhere between them, `--` ends options.
 */
typedef enum {
    CMD_VALUE_TEXT,
    CMD_VALUE_FILE,
    CMD_VALUE_DIR,
    CMD_VALUE_MACHINE,
    CMD_VALUE_NETWORK
} CmdValueKind;

typedef struct {
    const char *name;           /* without dashes; NULL ends a table */
    char letter;                /* 0: none */
    const char *metavar;        /* "SIZE"; NULL: a switch */
    bool is_list;               /* may be given more than once */
    CmdValueKind kind;          /* for completion */
    const char *const *choices; /* the values it takes, NULL-terminated; NULL: any */
    const char *doc;            /* one sentence */
    const char
        *spec_path; /* the option of a machine or network it sets, NULL: a flag of the command */
} CmdFlag;

typedef struct {
    const CmdFlag *flag; /* a row of the table that was parsed with */
    char *value;         /* owned; NULL for a switch */
} CmdGiven;

typedef struct {
    CmdFlag *flags;      /* owned */
    GArray *given;       /* of CmdGiven, in the order of the command line */
    GPtrArray *operands; /* of char*, owned */
    char **rest;         /* what follows `--`, NULL-terminated; NULL: no `--` */
} CmdArgs;

/* Parses argv (NULL-terminated, without the program and command names). flags: transfer full.
 * With is_leading, stops before the first operand; out_n_used (may be NULL) says how many words
 * were taken. NULL + CLI: unknown flag (with the nearest one), missing or empty value, value for a
 * switch, a value that is none of the choices. */
CmdArgs *cmd_args_parse(CmdFlag *flags, const char *const *argv, bool is_leading,
                        unsigned *out_n_used, GError **error);
void cmd_args_free(CmdArgs *args);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CmdArgs, cmd_args_free)

bool cmd_args_has(const CmdArgs *args, const char *name);
/* The last value given, NULL: none. Borrowed. */
const char *cmd_args_text(const CmdArgs *args, const char *name);
const char *cmd_args_operand(const CmdArgs *args, unsigned i); /* NULL past the end */

/* The last value as a size or a duration; *out is left alone when the flag was not given.
 * CLI when it is none. */
bool cmd_args_size(const CmdArgs *args, const char *name, uint64_t *out_bytes, GError **error);
bool cmd_args_duration(const CmdArgs *args, const char *name, uint64_t *out_ms, GError **error);
bool cmd_args_count(const CmdArgs *args, const char *name, unsigned *out_n, GError **error);
