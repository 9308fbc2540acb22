#include <fcntl.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/command.h"

/* A descriptor 0, 1 or 2 that is closed would become the first file we open: a disk as standard
 * output. */
static int fill_standard_fds(void)
{
    for (;;) {
        int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (fd < 0 || fd > STDERR_FILENO) {
            return fd < 0 ? -1 : close(fd);
        }
        if (fcntl(fd, F_SETFD, 0)) { /* ours to hand to children, as any other of the three */
            return -1;
        }
    }
}

int main(int argc, char **argv)
{
    if (fill_standard_fds()) {
        return 4;
    }
    base_log_init();
    return cmd_main(argc, argv);
}
