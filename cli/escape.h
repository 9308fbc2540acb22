#pragma once
#include <stddef.h>
#include <stdio.h>

/*
 * What a guest wrote, made safe to show: terminal control sequences (ECMA-48: CSI, OSC and the
 * like) and carriage returns are left out, line ends and tabs stay, every other control byte,
 * invalid UTF-8 and characters that turn or hide text are shown as \xNN. Works on a stream: a
 * sequence may be cut anywhere.
 */
typedef enum {
    CMD_ESCAPE_TEXT,
    CMD_ESCAPE_ESC,
    CMD_ESCAPE_CSI,
    CMD_ESCAPE_STRING,
    CMD_ESCAPE_STRING_ESC
} CmdEscapeState;

typedef struct {
    CmdEscapeState state;
    char partial[5]; /* the beginning of a character, NUL-terminated */
    unsigned n_partial;
    unsigned n_sequence; /* bytes of the sequence so far: a broken one ends some time */
} CmdEscape;

/* Begin with a zeroed struct. */
void cmd_escape_print(CmdEscape *escape, const char *bytes, size_t n_bytes, FILE *out);
/* Shows a character that was cut off by the end of the input. */
void cmd_escape_finish(CmdEscape *escape, FILE *out);
