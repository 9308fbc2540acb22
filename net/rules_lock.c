#include "net/rules_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "base/error.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/report.h"

enum { RETRY_MAX_MS = 16, LOCKS_MAX_BYTES = 4 * 1024 * 1024, COMM_MAX_BYTES = 64 };

struct NetRulesLock {
    int fd;
    unsigned depth;  /* how often its thread has it */
    GThread *thread; /* who took it; anybody may give it back */
    pid_t pid;       /* a forked child has none of its parent's */
    dev_t device;    /* of the namespace */
    ino_t inode;
    NetRulesLock *next;
};

/* All of this process, so that a function that has the lock may call another that takes it. */
static struct {
    GMutex mutex;
    NetRulesLock *first;
} held; /* guarded by its mutex */

/* The lock of this thread on this namespace, once more; NULL: it has none. */
static NetRulesLock *take_again(const struct stat *st)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&held.mutex);
    for (NetRulesLock *lock = held.first; lock; lock = lock->next) {
        if (lock->thread == g_thread_self() && lock->pid == getpid() &&
            lock->device == st->st_dev && lock->inode == st->st_ino) {
            lock->depth++;
            return lock;
        }
    }
    return NULL;
}

bool net_rules_locked_namespace(dev_t *out_device, ino_t *out_inode)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&held.mutex);
    for (const NetRulesLock *lock = held.first; lock; lock = lock->next) {
        if (lock->thread == g_thread_self() && lock->pid == getpid()) {
            *out_device = lock->device;
            *out_inode = lock->inode;
            return true;
        }
    }
    return false;
}

static NetRulesLock *remember(int fd, const struct stat *st)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&held.mutex);
    NetRulesLock *lock = g_new0(NetRulesLock, 1);
    *lock = (NetRulesLock){.fd = fd,
                           .depth = 1,
                           .thread = g_thread_self(),
                           .pid = getpid(),
                           .device = st->st_dev,
                           .inode = st->st_ino,
                           .next = held.first};
    held.first = lock;
    return lock;
}

/* Was that its last time? Then it is forgotten. */
static bool forget(NetRulesLock *lock)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&held.mutex);
    if (--lock->depth > 0) {
        return false;
    }
    NetRulesLock **link = &held.first;
    while (*link && *link != lock) {
        link = &(*link)->next;
    }
    if (*link) {
        *link = lock->next;
    }
    return true;
}

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
        g_usleep((gulong)pause_ms * 1000);
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
    NetRulesLock *again = take_again(&st);
    if (again) {
        return again;
    }
    return wait_flock(fd, &st, timeout_ms, error) ? remember(base_fd_steal(&fd), &st) : NULL;
}

void net_rules_unlock(NetRulesLock *lock)
{
    if (lock && forget(lock)) {
        base_fd_close(&lock->fd);
        g_free(lock);
    }
}
