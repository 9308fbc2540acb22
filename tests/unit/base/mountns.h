#pragma once
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

static inline bool test_write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool is_done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    close(fd);
    return is_done;
}

/* Becomes root of a user namespace of its own, with our user as its 0. */
static inline bool test_userns_enter(void)
{
    char users[64], groups[64];
    snprintf(users, sizeof users, "0 %u 1", (unsigned)geteuid());
    snprintf(groups, sizeof groups, "0 %u 1", (unsigned)getegid());
    return !unshare(CLONE_NEWUSER | CLONE_NEWNS) &&
           test_write_text("/proc/self/setgroups", "deny") &&
           test_write_text("/proc/self/uid_map", users) &&
           test_write_text("/proc/self/gid_map", groups);
}

/* Puts the test program into a mount namespace of its own, in which nothing it mounts is seen
 * outside and everything goes with it. False, and said aloud, where that is not permitted. */
static inline bool test_mountns_enter(void)
{
    bool is_inside = geteuid() == 0 ? !unshare(CLONE_NEWNS) : test_userns_enter();
    if (!is_inside || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
        printf("skipped: no mount namespace of our own: %s%s\n", strerror(errno),
               errno == EINVAL ? " (a plain chroot: / is no mount point)" : "");
        return false;
    }
    return true;
}
