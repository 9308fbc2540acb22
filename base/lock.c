#include "base/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/error.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/path.h"
#include "base/report.h"

struct BaseLock {
    int fd;        /* holds the flock */
    int folder_fd; /* where the file lies */
    char *name;    /* its last component */
};

enum { RETRY_MAX_MS = 16, HOLDER_MAX_BYTES = 512, COMMAND_LINE_MAX_BYTES = 65536 };

static gint64 boot_seconds(void)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_BOOTTIME, &now);
    return now.tv_sec;
}

/* "vm-run start": our program and its first word, which is never a secret. Transfer full. */
static char *own_command(void)
{
    size_t n = 0;
    g_autofree char *line =
        base_file_read(AT_FDCWD, "/proc/self/cmdline", COMMAND_LINE_MAX_BYTES, &n, NULL);
    if (!line || !*line) {
        return g_strdup("?");
    }
    g_autofree char *program = g_path_get_basename(line);
    const char *verb = strlen(line) + 1 < n ? line + strlen(line) + 1 : "";
    g_autofree char *text =
        *verb && *verb != '-' ? g_strdup_printf("%s %s", program, verb) : g_strdup(program);
    return base_report_escape(text, 80);
}

/* A courtesy to whoever waits: without it the lock is held all the same. */
static void write_holder(int fd)
{
    g_autofree char *command = own_command();
    g_autofree char *text =
        g_strdup_printf("%d %" G_GINT64_FORMAT " %s\n", (int)getpid(), boot_seconds(), command);
    if (ftruncate(fd, 0) || pwrite(fd, text, strlen(text), 0) < 0) {
        return;
    }
}

static bool fail_busy(int fd, const char *shown, GError **error)
{
    char text[HOLDER_MAX_BYTES + 1] = "";
    int pid = 0;
    int n_used = 0;
    gint64 since = 0;
    ssize_t n = pread(fd, text, HOLDER_MAX_BYTES, 0);
    text[MAX(n, 0)] = '\0';
    text[strcspn(text, "\n")] = '\0';
    if (sscanf(text, "%d %" G_GINT64_MODIFIER "d %n", &pid, &since, &n_used) < 2 || !n_used) {
        return base_fail(error, VM_ERROR_BUSY, "'%s' is held by another process - try again",
                         shown);
    }
    g_autofree char *command = base_report_escape(text + n_used, 100);
    return base_fail(error, VM_ERROR_BUSY,
                     "'%s' is held by pid %d (%s) since %" G_GINT64_FORMAT " s - try again", shown,
                     pid, command, MAX(boot_seconds() - since, 0));
}

/* Is `name` still the file that we locked? */
static bool is_current(const BaseLock *lock)
{
    struct stat locked, named;
    return !fstat(lock->fd, &locked) &&
           !fstatat(lock->folder_fd, lock->name, &named, AT_SYMLINK_NOFOLLOW) &&
           locked.st_dev == named.st_dev && locked.st_ino == named.st_ino;
}

static bool open_lock_file(BaseLock *lock, GError **error)
{
    struct stat st;
    lock->fd = openat(lock->folder_fd, lock->name,
                      O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
    g_autofree char *shown = base_path_show(lock->folder_fd, lock->name);
    if (lock->fd < 0 && errno != ELOOP && errno != ENXIO && errno != EISDIR) {
        base_error_set_errno(error, errno, "cannot open lock '%s'", shown);
        return false;
    }
    if (lock->fd < 0 || fstat(lock->fd, &st) || !S_ISREG(st.st_mode)) {
        return base_fail(error, VM_ERROR_PATH, "lock '%s' is not a regular file", shown);
    }
    return true;
}

typedef enum { LOCK_HELD, LOCK_AGAIN, LOCK_BUSY, LOCK_FAILED } LockResult;

/* One try. LOCK_AGAIN: the file was replaced meanwhile. LOCK_BUSY leaves the file open. */
static LockResult try_lock(BaseLock *lock, GError **error)
{
    if (lock->fd < 0 && !open_lock_file(lock, error)) {
        return LOCK_FAILED;
    }
    if (flock(lock->fd, LOCK_EX | LOCK_NB)) {
        if (errno == EINTR) {
            return LOCK_AGAIN;
        }
        if (errno == EWOULDBLOCK) {
            return LOCK_BUSY;
        }
        g_autofree char *shown = base_path_show(lock->folder_fd, lock->name);
        base_error_set_errno(error, errno, "cannot lock '%s'", shown);
        return LOCK_FAILED;
    }
    if (!is_current(lock)) {
        base_fd_close(&lock->fd);
        return LOCK_AGAIN;
    }
    return LOCK_HELD;
}

/* flock(2) knows no timeout and a signal would need a thread's own mask: retry, ever slower. */
static LockResult wait_lock(BaseLock *lock, int timeout_ms, GError **error)
{
    gint64 end_us = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
    for (unsigned pause_ms = 1;; pause_ms = MIN(pause_ms * 2, RETRY_MAX_MS)) {
        LockResult result = try_lock(lock, error);
        if (result == LOCK_HELD || result == LOCK_FAILED) {
            return result;
        }
        if (result == LOCK_AGAIN) {
            continue;
        }
        gint64 left_us = end_us - g_get_monotonic_time();
        if (timeout_ms >= 0 && left_us <= 0) {
            return LOCK_BUSY;
        }
        gint64 pause_us = (gint64)pause_ms * 1000;
        g_usleep((gulong)(timeout_ms < 0 ? pause_us : MIN(pause_us, left_us)));
    }
}

BaseLock *base_lock_take(int dirfd, const char *name, int timeout_ms, GError **error)
{
    const char *last = NULL;
    autofd int folder_fd = base_path_open_parent(dirfd, name, &last, error);
    if (folder_fd < 0) {
        return NULL;
    }
    g_autoptr(BaseLock) lock = g_new0(BaseLock, 1);
    *lock = (BaseLock){.fd = -1, .folder_fd = base_fd_steal(&folder_fd), .name = g_strdup(last)};
    LockResult result = wait_lock(lock, timeout_ms, error);
    if (result == LOCK_BUSY) {
        g_autofree char *shown = base_path_show(dirfd, name);
        fail_busy(lock->fd, shown, error);
    }
    if (result != LOCK_HELD) {
        base_fd_close(&lock->fd); /* not ours: closing must not unlock another holder's */
        return NULL;
    }
    write_holder(lock->fd);
    return g_steal_pointer(&lock);
}

void base_lock_free(BaseLock *lock)
{
    if (!lock) {
        return;
    }
    if (lock->fd >= 0) {
        flock(lock->fd, LOCK_UN); /* also when a forked child still has the descriptor */
    }
    base_fd_close(&lock->fd);
    base_fd_close(&lock->folder_fd);
    g_free(lock->name);
    g_free(lock);
}

void base_lock_free_and_unlink(BaseLock *lock)
{
    if (lock && is_current(lock)) {
        unlinkat(lock->folder_fd, lock->name, 0);
    }
    base_lock_free(lock);
}
