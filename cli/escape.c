#include "cli/escape.h"

#include <stdbool.h>
#include <string.h>

#include "base/report.h"

enum { SEQUENCE_MAX = 256, ESC = 0x1b, BEL = 0x07 };

static void print_raw(const char *text, FILE *out)
{
    g_autofree char *shown = base_report_escape(text, 0);
    fputs(shown, out);
}

static void flush_partial(CmdEscape *escape, FILE *out)
{
    if (escape->n_partial) {
        print_raw(escape->partial, out);
    }
    escape->n_partial = 0;
    escape->partial[0] = '\0';
}

/* A byte above 0x7f: part of a character, which is shown when it is whole or can't become so. */
static void print_high(CmdEscape *escape, char byte, FILE *out)
{
    bool is_start = ((unsigned char)byte & 0xc0) != 0x80;
    if (is_start) {
        flush_partial(escape, out);
    }
    escape->partial[escape->n_partial++] = byte;
    escape->partial[escape->n_partial] = '\0';
    bool may_grow = g_utf8_get_char_validated(escape->partial, escape->n_partial) == (gunichar)-2;
    if (!may_grow || escape->n_partial == sizeof escape->partial - 1) {
        flush_partial(escape, out);
    }
}

static void print_low(char byte, FILE *out)
{
    if (byte == '\r') {
        return;
    }
    if (byte == '\n' || byte == '\t' || (byte >= ' ' && byte < 0x7f)) {
        putc(byte, out);
    } else if (!byte) {
        fputs("\\x00", out);
    } else {
        print_raw((char[]){byte, '\0'}, out);
    }
}

static void print_text(CmdEscape *escape, char byte, FILE *out)
{
    if ((unsigned char)byte >= 0x80) {
        print_high(escape, byte, out);
        return;
    }
    flush_partial(escape, out);
    if (byte == ESC) {
        escape->state = CMD_ESCAPE_ESC;
        escape->n_sequence = 0;
    } else {
        print_low(byte, out);
    }
}

/* ECMA-48, 5.3 and 5.4: ESC [ parameters final; ESC P, ], X, ^ or _ text ended by BEL or ESC \; ESC
 * intermediates final. */
static CmdEscapeState after_esc(char byte)
{
    if (byte == '[') {
        return CMD_ESCAPE_CSI;
    }
    if (strchr("P]X^_", byte) && byte) {
        return CMD_ESCAPE_STRING;
    }
    return byte >= 0x20 && byte <= 0x2f ? CMD_ESCAPE_ESC : CMD_ESCAPE_TEXT;
}

static CmdEscapeState next_state(CmdEscapeState state, char byte)
{
    switch (state) {
    case CMD_ESCAPE_ESC:
        return after_esc(byte);
    case CMD_ESCAPE_CSI:
        return byte >= 0x40 && byte <= 0x7e ? CMD_ESCAPE_TEXT : CMD_ESCAPE_CSI;
    case CMD_ESCAPE_STRING:
        return byte == BEL   ? CMD_ESCAPE_TEXT
               : byte == ESC ? CMD_ESCAPE_STRING_ESC
                             : CMD_ESCAPE_STRING;
    case CMD_ESCAPE_STRING_ESC:
        return byte == '\\' ? CMD_ESCAPE_TEXT : CMD_ESCAPE_STRING;
    default:
        return CMD_ESCAPE_TEXT;
    }
}

/* A line end or a high byte in a sequence, or too many bytes: it was none, the text goes on. */
static bool is_broken(const CmdEscape *escape, char byte)
{
    bool is_string = escape->state == CMD_ESCAPE_STRING || escape->state == CMD_ESCAPE_STRING_ESC;
    bool is_strange = byte == '\n' || (!is_string && (unsigned char)byte >= 0x80);
    return is_strange || escape->n_sequence > SEQUENCE_MAX;
}

void cmd_escape_print(CmdEscape *escape, const char *bytes, size_t n_bytes, FILE *out)
{
    for (size_t i = 0; i < n_bytes; i++) {
        if (escape->state != CMD_ESCAPE_TEXT && is_broken(escape, bytes[i])) {
            escape->state = CMD_ESCAPE_TEXT;
        }
        if (escape->state == CMD_ESCAPE_TEXT) {
            print_text(escape, bytes[i], out);
        } else {
            escape->n_sequence++;
            escape->state = next_state(escape->state, bytes[i]);
        }
    }
}

void cmd_escape_finish(CmdEscape *escape, FILE *out)
{
    flush_partial(escape, out);
    escape->state = CMD_ESCAPE_TEXT;
}
