#pragma once
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Puts the whole test program into a network namespace of its own, with loopback up; it vanishes
 * with the program. False, and said aloud, where that is not permitted: the test then ends with 77.
 */
static inline bool test_netns_enter(void)
{
    if (unshare(CLONE_NEWNET)) {
        printf("skipped: no network namespace of our own: %s (needs root)\n", strerror(errno));
        return false;
    }
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool is_up = fd >= 0 && !ioctl(fd, SIOCSIFFLAGS, &request);
    close(fd);
    if (!is_up) {
        printf("cannot set loopback up: %s\n", strerror(errno));
    }
    return is_up;
}
