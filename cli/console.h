#pragma once
#include "cli/command.h"
#include "driver/machine.h"

/*
 * At a machine's serial console: one at a time, by a lock on console.lock in its folder. Standard
 * input goes to the guest, what the guest writes to standard output: as it is when that is a
 * terminal, made safe (cli/escape.h) when it is none.
 */
typedef enum {
    CMD_CONSOLE_LEFT,
    CMD_CONSOLE_ENDED,
    CMD_CONSOLE_TAKEN,
    CMD_CONSOLE_SIGNAL
} CmdConsoleEnd;

/* Attaches until the person leaves (Ctrl-], or the end of standard input), the machine ends,
 * somebody takes the console over, or a signal comes. is_forced: takes it over from whoever has it.
 * Errors: HOST (no console, not running), BUSY (somebody has it, and who). The terminal is
 * as before in every case. */
bool cmd_console_attach(const CmdContext *context, const MachineView *view, bool is_forced,
                        CmdConsoleEnd *out_end, GError **error);
