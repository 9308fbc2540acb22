#pragma once
#include <glib.h>
#include <unistd.h>

/*
 * File descriptors that close themselves. Every descriptor of the program is CLOEXEC.
 *   autofd int fd = open(path, O_RDONLY | O_CLOEXEC);
 *   return base_fd_steal(&fd);
 */
static inline void base_fd_close(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = -1;
}

static inline int base_fd_steal(int *fd)
{
    int stolen = *fd;
    *fd = -1;
    return stolen;
}

#define autofd __attribute__((cleanup(base_fd_close)))
