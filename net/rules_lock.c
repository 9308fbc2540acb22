#include "net/rules_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/dir.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/lock.h"
#include "net/dnsmasq_internal.h"

/*
 * A file for each network namespace, in a folder where only root may make and open any: on the
 * namespace's own file (/proc/self/ns/net) every local user could take a flock(2) and keep it. It
 * is there only while somebody has the lock, or died with it: until the next one, or gc.
 */
#define FILE_PREFIX "rules-"

struct NetRulesLock {
    BaseLock *file;
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

static NetRulesLock *remember(BaseLock *file, const struct stat *st)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&held.mutex);
    NetRulesLock *lock = g_new0(NetRulesLock, 1);
    *lock = (NetRulesLock){.file = file,
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

static BaseLock *take_file(const struct stat *st, unsigned timeout_ms, GError **error)
{
    autofd int folder_fd = open(NET_DNSMASQ_PARENT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder_fd < 0) {
        folder_fd = base_dir_open_make(NET_DNSMASQ_PARENT, 0711, error);
    }
    g_autofree char *name = g_strdup_printf(FILE_PREFIX "%ju.lock", (uintmax_t)st->st_ino);
    return folder_fd < 0 ? NULL : base_lock_take(folder_fd, name, (int)timeout_ms, error);
}

NetRulesLock *net_rules_lock(unsigned timeout_ms, GError **error)
{
    struct stat st = {0};
    if (stat("/proc/thread-self/ns/net", &st)) {
        base_error_set_errno(error, errno, "cannot look at this network namespace");
        return NULL;
    }
    NetRulesLock *again = take_again(&st);
    if (again) {
        return again;
    }
    BaseLock *file = take_file(&st, timeout_ms, error);
    if (!file) {
        g_prefix_error(error, "the host's network rules: ");
    }
    return file ? remember(file, &st) : NULL;
}

void net_rules_unlock(NetRulesLock *lock)
{
    if (lock && forget(lock)) {
        base_lock_free_and_unlink(lock->file);
        g_free(lock);
    }
}

void net_rules_lock_sweep(void)
{
    autofd int fd = open(NET_DNSMASQ_PARENT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    g_autoptr(GDir) dir = fd < 0 ? NULL : g_dir_open(NET_DNSMASQ_PARENT, 0, NULL);
    for (const char *name; dir && (name = g_dir_read_name(dir));) {
        if (g_str_has_prefix(name, FILE_PREFIX)) {
            base_lock_free_and_unlink(base_lock_take(fd, name, 0, NULL));
        }
    }
}
