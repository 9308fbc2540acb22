#pragma once
#include <stdbool.h>

/*
 * Signals that ask a command to end (SIGINT, SIGTERM, SIGHUP, SIGQUIT), for commands that have
 * something to undo. The first one is counted and wakes every poll(2) on the descriptor; the second
 * one ends the process at once. A signal that was ignored when we were started (nohup) stays
 * ignored.
 */

/* Installs the handlers; once. */
void cmd_signals_init(void);

/* As above, but no signal ends the process by itself however many come (a terminal in raw mode is
 * to be restored first). */
void cmd_signals_init_patient(void);

/* Readable as soon as one arrived, and for ever after. -1 before cmd_signals_init(). */
int cmd_signals_fd(void);

/* The first signal that arrived, 0: none. */
int cmd_signals_first(void);
