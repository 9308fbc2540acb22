#include "driver/watch/console.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "driver/watch/state.h"

#define READ_BYTES   4096
#define PIECE_BYTES  65536u         /* read in one go */
#define BEHIND_BYTES (1024 * 1024u) /* further behind: what is between is not looked at */
#define REST_MS      20u
#define LOOK_MS      500u

static void close_log(Console *console)
{
    if (console->fd >= 0) {
        close(console->fd);
        console->fd = -1;
    }
    if (console->file_wd >= 0) {
        inotify_rm_watch(console->inotify_fd, console->file_wd);
        console->file_wd = -1;
    }
}

/* Opens the log when it has come; again when another file has its name. */
static void open_log(Console *console)
{
    const WatchConfig *config = &console->watch->config;
    struct stat named;
    if (!*config->serial_log || lstat(config->serial_log, &named) != 0 || !S_ISREG(named.st_mode)) {
        return;
    }
    if (console->fd >= 0 && named.st_ino == console->inode) {
        return;
    }
    bool is_another = console->fd >= 0;
    close_log(console);
    int mode = config->log_limit_bytes ? O_RDWR : O_RDONLY;
    console->fd = open(config->serial_log, mode | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (console->fd < 0) {
        return;
    }
    console->inode = named.st_ino;
    if (console->offset == UINT64_MAX) {
        console->offset = (uint64_t)named.st_size;
    }
    console->offset = is_another ? 0 : console->offset;
    console->file_wd = inotify_add_watch(console->inotify_fd, config->serial_log,
                                         IN_MODIFY | IN_MOVE_SELF | IN_DELETE_SELF);
}

static void feed(Console *console, const char *bytes, size_t n)
{
    while (n > 0) {
        ConsoleSign sign;
        const char *line;
        size_t n_taken = console_scan_feed(&console->scan, bytes, n, &sign, &line);
        if (sign != CONSOLE_NOTHING) {
            boot_sign(&console->watch->boot, sign, line);
        }
        bytes += n_taken;
        n -= n_taken;
    }
}

/* Some bytes are never seen: what comes next is another line. */
static void go_to(Console *console, uint64_t offset)
{
    feed(console, "\n", 1);
    console->offset = offset;
}

/* The last half of the limit goes to FILE.1, the log itself is emptied: its writer appends. */
static void bound_log(Console *console, uint64_t size)
{
    char kept[PATH_MAX], temporary[PATH_MAX];
    const char *log = console->watch->config.serial_log;
    uint64_t n_kept = console->watch->config.log_limit_bytes / 2;
    if ((size_t)snprintf(kept, sizeof kept, "%s.1", log) >= sizeof kept ||
        (size_t)snprintf(temporary, sizeof temporary, "%s.1.tmp", log) >= sizeof temporary) {
        return;
    }
    off_t from = (off_t)(size > n_kept ? size - n_kept : 0);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    while (fd >= 0 && sendfile(fd, console->fd, &from, 1024 * 1024) > 0) {
        continue;
    }
    if (fd >= 0) {
        close(fd);
        rename(temporary, kept);
    }
    if (ftruncate(console->fd, 0) == 0) { /* a full disk is no reason to fill it more */
        if (console->offset < size) {
            go_to(console, 0);
        }
        console->offset = 0;
    }
}

/* Reads on; true: there is more. */
static bool read_log(Console *console)
{
    struct stat file;
    if (console->fd < 0 || fstat(console->fd, &file) != 0) {
        return false;
    }
    uint64_t size = (uint64_t)file.st_size;
    if (size < console->offset) { /* truncated */
        go_to(console, 0);
    }
    if (size - console->offset > BEHIND_BYTES) {
        go_to(console, size - PIECE_BYTES);
    }
    char bytes[READ_BYTES];
    ssize_t n = 0;
    for (unsigned n_piece = 0; n_piece < PIECE_BYTES; n_piece += (unsigned)n) {
        n = pread(console->fd, bytes, sizeof bytes, (off_t)console->offset);
        if (n <= 0) {
            break;
        }
        console->offset += (uint64_t)n;
        boot_heard(&console->watch->boot);
        feed(console, bytes, (size_t)n);
    }
    uint64_t limit = console->watch->config.log_limit_bytes;
    if (limit &&
        (n > 0 ? size / 2 > limit : size > limit)) { /* what is unread is better read first */
        bound_log(console, size);
    }
    return n > 0;
}

/* Empties the queue; true: names changed, not only the log's content. */
static bool drain_queue(Console *console)
{
    char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    bool has_names = false;
    ssize_t n;
    while ((n = read(console->inotify_fd, events, sizeof events)) > 0) {
        for (ssize_t at = 0; at < n;) {
            const struct inotify_event *event = (const void *)(events + at);
            has_names |= !(event->mask & IN_MODIFY);
            at += (ssize_t)(sizeof *event + event->len);
        }
    }
    return has_names;
}

static void look(Console *console, bool has_names)
{
    Watch *watch = console->watch;
    struct stat file;
    if (has_names && fstatat(watch->dirfd, WATCH_FILE, &file, AT_SYMLINK_NOFOLLOW) != 0 &&
        errno == ENOENT) {
        loop_quit(&watch->loop);
        return;
    }
    bool has_more =
        read_log(console); /* the old file's last bytes, before a new one takes its place */
    if (has_names && !has_more) {
        open_log(console);
        has_more = read_log(console);
    }
    if (console->inotify_fd < 0) {
        loop_timer_in(&watch->loop, &console->more, has_more ? REST_MS : LOOK_MS);
    } else if (has_more) {
        loop_timer_in(&watch->loop, &console->more, REST_MS);
    }
}

static void console_ready(void *data, uint32_t events)
{
    Console *console = data;
    (void)events;
    look(console, drain_queue(console));
    loop_rest(&console->watch->loop, &console->source, REST_MS);
}

static void console_more(void *data)
{
    look(data, true);
}

static void watch_folders(Console *console, const char *dir)
{
    const uint32_t names = IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_MOVED_FROM | IN_DELETE_SELF |
                           IN_MOVE_SELF | IN_ONLYDIR;
    const char *log = console->watch->config.serial_log;
    const char *slash = strrchr(log, '/');
    char folder[PATH_MAX];
    inotify_add_watch(console->inotify_fd, dir, names);
    if (slash && slash > log && slash - log < PATH_MAX) { /* the same folder twice is one watch */
        snprintf(folder, sizeof folder, "%.*s", (int)(slash - log), log);
        inotify_add_watch(console->inotify_fd, folder, names);
    }
}

void console_begin(Console *console, Watch *watch, const char *dir, uint64_t offset)
{
    console->watch = watch;
    console->offset = offset;
    console->fd = console->file_wd = -1;
    console->more.expired = console_more;
    console->more.data = console;
    console_scan_init(&console->scan);
    loop_source_init(&console->source, console_ready, console);
    console->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (console->inotify_fd >= 0) {
        watch_folders(console, dir);
        loop_add(&watch->loop, &console->source, console->inotify_fd, EPOLLIN);
    }
    open_log(console);
    look(console, true);
}

void console_end(Console *console)
{
    loop_remove(&console->watch->loop, &console->source);
    loop_timer_stop(&console->more);
    close_log(console);
    if (console->inotify_fd >= 0) {
        close(console->inotify_fd);
        console->inotify_fd = -1;
    }
}
