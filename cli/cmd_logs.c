#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/error.h"
#include "base/fd.h"
#include "cli/commands.h"
#include "cli/escape.h"
#include "cli/host.h"
#include "cli/launch.h"
#include "driver/event.h"

/*
 * How it works: the log is serial.log.1, the older half, and serial.log, which grows and is emptied
 * when it has become too large. Following it reads on from where it is, or from the beginning when
 * it has shrunk, and ends with the machine's end, of which its events tell.
 */

enum { CHUNK_BYTES = 65536 };

typedef struct {
    bool is_raw;
    bool has_tail;
    unsigned n_tail; /* lines to begin with */
    CmdEscape escape;
    int fd;       /* of serial.log, owned */
    off_t offset; /* read so far */
} Log;

static void print_bytes(Log *log, const char *bytes, size_t n)
{
    if (log->is_raw) {
        fwrite(bytes, 1, n, stdout);
    } else {
        cmd_escape_print(&log->escape, bytes, n, stdout);
    }
}

static int open_log(const char *path)
{
    return open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
}

/* From offset to the end, in chunks; the new offset. */
static off_t print_rest(Log *log, int fd, off_t offset)
{
    static char chunk[CHUNK_BYTES];
    for (;;) {
        ssize_t n = pread(fd, chunk, sizeof chunk, offset);
        if (n <= 0) {
            return offset;
        }
        print_bytes(log, chunk, (size_t)n);
        offset += n;
    }
}

static void print_new(Log *log)
{
    struct stat st;
    if (!fstat(log->fd, &st) && st.st_size < log->offset) {
        log->offset = 0;
    }
    log->offset = print_rest(log, log->fd, log->offset);
}

/* Where the last n_lines of the file begin. */
static off_t tail_offset(int fd, unsigned n_lines)
{
    static char chunk[CHUNK_BYTES];
    off_t end = lseek(fd, 0, SEEK_END);
    unsigned n_seen = 0;
    for (off_t at = end; at > 0;) {
        off_t from = MAX(0, at - CHUNK_BYTES);
        ssize_t n = pread(fd, chunk, (size_t)(at - from), from);
        for (ssize_t i = n - 1; i >= 0; i--) {
            bool is_last = from + i == end - 1; /* the newline of the last line */
            if (chunk[i] == '\n' && !is_last && ++n_seen == n_lines) {
                return from + i + 1;
            }
        }
        at = n <= 0 ? 0 : from;
    }
    return 0;
}

static void print_old(Log *log, const char *path)
{
    if (log->has_tail) {
        log->offset = log->n_tail ? tail_offset(log->fd, log->n_tail) : lseek(log->fd, 0, SEEK_END);
        return;
    }
    g_autofree char *older = g_strconcat(path, ".1", NULL);
    autofd int fd = open_log(older);
    if (fd >= 0) {
        print_rest(log, fd, 0);
    }
}

/* Has the machine ended (or gone) by what its events say? Call it when the follower is readable. */
static bool is_ended(MachineFollower *follower)
{
    bool is_over = false;
    for (;;) {
        bool is_gone = false;
        g_autofree char *line = machine_follower_next(follower, &is_gone);
        if (!line) {
            return is_over || is_gone;
        }
        is_over |= strstr(line, "\"type\":\"end\"") != NULL;
    }
}

static void drain(int fd)
{
    char bytes[4096];
    while (read(fd, bytes, sizeof bytes) > 0) {
    }
}

static bool follow(Log *log, const MachineView *view, GError **error)
{
    g_autoptr(MachineFollower) follower =
        machine_follower_new(view->dir, cmd_events_size(view->dir), error);
    autofd int watch_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (!follower) {
        return false;
    }
    if (watch_fd < 0 || inotify_add_watch(watch_fd, view->serial_log, IN_MODIFY) < 0) {
        base_error_set_errno(error, errno, "cannot watch '%s'", view->serial_log);
        return false;
    }
    bool is_over = false;
    while (!is_over) {
        struct pollfd fds[] = {{.fd = watch_fd, .events = POLLIN},
                               {.fd = machine_follower_fd(follower), .events = POLLIN},
                               {.fd = fileno(stdout), .events = 0}};
        print_new(log);
        if (fflush(stdout) || poll(fds, G_N_ELEMENTS(fds), -1) < 0 || fds[2].revents) {
            break;
        }
        drain(watch_fd);
        is_over = is_ended(follower);
    }
    return true;
}

static int logs_main(const CmdContext *context, GError **error)
{
    const char *name = cmd_args_operand(context->args, 0);
    Log log = {.is_raw = cmd_args_has(context->args, "raw"),
               .has_tail = cmd_args_has(context->args, "tail")};
    if (!cmd_args_count(context->args, "tail", &log.n_tail, error)) {
        return 0;
    }
    g_autoptr(MachineHost) host = cmd_host_new(context, true, error);
    g_autoptr(MachineView) view = host ? machine_view_load(host, name, error) : NULL;
    if (!view) {
        return 0;
    }
    if (!view->serial_log) {
        base_fail(error, VM_ERROR_HOST, "machine '%s' has no serial console", name);
        return 0;
    }
    autofd int fd = open_log(view->serial_log);
    if (fd < 0) {
        base_error_set_errno(error, errno, "machine '%s': cannot open '%s'", name,
                             view->serial_log);
        return 0;
    }
    log.fd = fd;
    print_old(&log, view->serial_log);
    bool is_running =
        view->status == MACHINE_STATUS_RUNNING || view->status == MACHINE_STATUS_STOPPING;
    if (cmd_args_has(context->args, "follow") && is_running) {
        follow(&log, view, error);
    }
    print_new(&log);
    cmd_escape_finish(&log.escape, stdout);
    return 0;
}

static const CmdFlag flags[] = {
    {.name = "follow", .letter = 'f', .doc = "Go on until the machine ends."},
    {.name = "tail", .metavar = "N", .doc = "Begin with the last N lines."},
    {.name = "raw", .doc = "Every byte as it is, control sequences too."},
    {.name = NULL},
};

const CmdCommand cmd_logs = {
    .name = "logs",
    .synopsis = "[flags] NAME",
    .doc = "Show what a machine wrote to its serial console.",
    .detail = "What was written is kept over restarts, up to a bounded size. Control sequences are "
              "left out and control "
              "bytes shown as \\xNN, since a guest may write anything; --raw gives every byte.",
    .flags = flags,
    .n_operands_min = 1,
    .n_operands_max = 1,
    .operand = CMD_OPERAND_MACHINE,
    .handler = logs_main,
};
