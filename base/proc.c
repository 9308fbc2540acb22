#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include "base/error.h"
#include "base/fd.h"
#include "base/file.h"

enum { STAT_MAX_BYTES = 4096, STAT_FIELD_START = 22, STAT_FIELD_STATE = 3 };

uint64_t base_proc_start_ticks(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)pid);
    g_autofree char *text = base_file_read(AT_FDCWD, path, STAT_MAX_BYTES, NULL, NULL);
    /* the name in field 2 may hold spaces and parentheses: count from the last one */
    const char *field = text ? strrchr(text, ')') : NULL;
    if (!field || field[1] != ' ' || field[2] == 'Z' || field[2] == 'X') {
        return 0;
    }
    field += 2;
    for (int i = STAT_FIELD_STATE; i < STAT_FIELD_START; i++) {
        field = strchr(field, ' ');
        if (!field) {
            return 0;
        }
        field++;
    }
    return g_ascii_strtoull(field, NULL, 10);
}

static gpointer read_boot_id(gpointer unused)
{
    (void)unused;
    char *id = base_file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, NULL, NULL);
    return id ? g_strchomp(id) : g_strdup("");
}

const char *base_proc_boot_id(void)
{
    static GOnce once = G_ONCE_INIT; /* a constant of this boot */
    return g_once(&once, read_boot_id, NULL);
}

int base_proc_open(pid_t pid, uint64_t start_ticks)
{
    autofd int fd = pid > 0 ? pidfd_open(pid, 0) : -1;
    if (fd < 0) {
        errno = pid > 0 ? errno : ESRCH;
        return -1;
    }
    /* read after opening: the pidfd now holds this very process, whatever the pid becomes */
    uint64_t found = base_proc_start_ticks(pid);
    if (found == 0 || found != start_ticks) {
        base_fd_close(&fd);
        errno = ESRCH;
        return -1;
    }
    return base_fd_steal(&fd);
}

bool base_proc_wait_end(int pidfd, int timeout_ms, GError **error)
{
    gint64 end_us = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
    int left_ms = timeout_ms;
    for (;;) {
        struct pollfd end = {.fd = pidfd, .events = POLLIN};
        int n = poll(&end, 1, left_ms);
        if (n > 0 && !(end.revents & POLLNVAL)) {
            return true;
        }
        if (n > 0 || (n < 0 && errno != EINTR)) {
            base_error_set_errno(error, n > 0 ? EBADF : errno, "cannot wait for a process");
            return false;
        }
        gint64 left_us = end_us - g_get_monotonic_time();
        if (timeout_ms >= 0 && left_us <= 0) {
            return base_fail(error, VM_ERROR_TIMEOUT, "the process did not end within %d ms",
                             timeout_ms);
        }
        left_ms = timeout_ms < 0 ? -1 : (int)((left_us + 999) / 1000);
    }
}
