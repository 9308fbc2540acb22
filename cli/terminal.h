#pragma once
#include <stdbool.h>
#include <termios.h>
#include <glib.h>

/* A terminal in raw mode, given back as it was found. */
typedef struct {
    int fd; /* -1: nothing is to be restored */
    struct termios saved;
} CmdTerminal;

#define CMD_TERMINAL_INIT                                                                          \
    {                                                                                              \
        .fd = -1                                                                                   \
    }

/* Every byte is passed on as it is typed, none has a meaning of its own. fd: borrowed. */
bool cmd_terminal_make_raw(CmdTerminal *terminal, int fd, GError **error);
/* Puts the settings back; to be called on every way out. A second call does nothing. */
void cmd_terminal_restore(CmdTerminal *terminal);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(CmdTerminal, cmd_terminal_restore)
