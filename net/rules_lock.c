#include "net/rules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include "base/error.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/report.h"

enum { RETRY_MAX_MS = 16, LOCKS_MAX_BYTES = 4 * 1024 * 1024, COMM_MAX_BYTES = 64 };

struct NetRulesLock {
    int fd;
    unsigned depth; /* how often this thread has it */
    dev_t device;   /* of the namespace */
    ino_t inode;
};

static _Thread_local NetRulesLock *held; /* by this thread; a function may call another one */

/* The process that has the flock on this file, 0: not to be told. /proc/locks, proc(5). */
static int find_holder(const struct stat *st)
{
    g_autofree char *text = base_file_read(AT_FDCWD, "/proc/locks", LOCKS_MAX_BYTES, NULL, NULL);
    g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", -1);
    for (char **line = lines; *line; line++) {
        int pid = 0;
        unsigned major_nr, minor_nr;
        unsigned long inode;
        if (strstr(*line, "FLOCK") && !strstr(*line, "->") &&
            sscanf(*line, "%*s %*s %*s %*s %d %x:%x:%lu", &pid, &major_nr, &minor_nr, &inode) ==
                4 &&
            major_nr == major(st->st_dev) && minor_nr == minor(st->st_dev) && inode == st->st_ino) {
            return pid;
        }
    }
    return 0;
}

static bool fail_busy(const struct stat *st, GError **error)
{
    int pid = find_holder(st);
    if (pid <= 0) {
        return base_fail(error, VM_ERROR_BUSY,
                         "the host's network rules are held by another process - try again");
    }
    g_autofree char *path = g_strdup_printf("/proc/%d/comm", pid);
    g_autofree char *comm = base_file_read(AT_FDCWD, path, COMM_MAX_BYTES, NULL, NULL);
    g_autofree char *shown = base_report_escape(comm ? g_strchomp(comm) : "?", COMM_MAX_BYTES);
    return base_fail(error, VM_ERROR_BUSY,
                     "the host's network rules are held by pid %d (%s) - try again", pid, shown);
}

/* As base/lock.c: flock(2) knows no timeout. */
static bool wait_flock(int fd, const struct stat *st, unsigned timeout_ms, GError **error)
{
    gint64 end_us = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
    for (unsigned pause_ms = 1; flock(fd, LOCK_EX | LOCK_NB);
         pause_ms = MIN(pause_ms * 2, RETRY_MAX_MS)) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            base_error_set_errno(error, errno, "cannot lock the host's network rules");
            return false;
        }
        if (g_get_monotonic_time() >= end_us) {
            return fail_busy(st, error);
        }
        g_usleep(pause_ms * 1000);
    }
    return true;
}

NetRulesLock *net_rules_lock(unsigned timeout_ms, GError **error)
{
    struct stat st = {0};
    autofd int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st)) {
        base_error_set_errno(error, errno, "cannot open this network namespace");
        return NULL;
    }
    if (held && held->device == st.st_dev && held->inode == st.st_ino) {
        held->depth++;
        return held;
    }
    if (!wait_flock(fd, &st, timeout_ms, error)) {
        return NULL;
    }
    NetRulesLock *lock = g_new0(NetRulesLock, 1);
    *lock = (NetRulesLock){base_fd_steal(&fd), 1, st.st_dev, st.st_ino};
    held = lock;
    return lock;
}

void net_rules_unlock(NetRulesLock *lock)
{
    if (!lock || --lock->depth > 0) {
        return;
    }
    if (held == lock) {
        held = NULL;
    }
    base_fd_close(&lock->fd);
    g_free(lock);
}
