#include "cli/terminal.h"

#include <errno.h>
#include "base/error.h"

bool cmd_terminal_make_raw(CmdTerminal *terminal, int fd, GError **error)
{
    struct termios raw;
    if (tcgetattr(fd, &terminal->saved)) {
        base_error_set_errno(error, errno, "cannot read the terminal's settings");
        return false;
    }
    raw = terminal->saved;
    cfmakeraw(&raw);
    terminal->fd = fd;
    if (tcsetattr(fd, TCSADRAIN, &raw)) {
        base_error_set_errno(error, errno, "cannot change the terminal's settings");
        return false;
    }
    return true;
}

void cmd_terminal_restore(CmdTerminal *terminal)
{
    if (terminal->fd >= 0) {
        tcsetattr(terminal->fd, TCSADRAIN, &terminal->saved);
    }
    terminal->fd = -1;
}
