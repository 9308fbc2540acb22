#include "cli/console.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/lock.h"
#include "cli/escape.h"
#include "cli/say.h"
#include "cli/signals.h"
#include "cli/terminal.h"

/*
 * How it works: QEMU serves one client of the console's socket and lets a second one connect and
 * hear nothing, so exclusivity is a lock of ours. Taking over is asked for, not forced on a
 * process: whoever wants the console writes console.force into the machine's folder; the holder
 * sees that by inotify, leaves, and frees the lock. No process is signalled by a number that may
 * have become another's.
 */

enum { ESCAPE_BYTE = 0x1d /* Ctrl-] */, CHUNK_BYTES = 4096, TAKE_OVER_MS = 3000 };

static const char lock_name[] = "console.lock";
static const char force_name[] = "console.force";

typedef struct {
    const CmdContext *context;
    int socket_fd, watch_fd; /* owned */
    bool is_raw_output;
    GByteArray *pending; /* what the guest has not taken yet; owned */
    bool is_input_over;
    CmdEscape escape;
    CmdConsoleEnd end;
    bool is_over;
} Pump;

/* --- getting there ---------------------------------------------------------------------------- */

static BaseLock *take_lock(int dirfd, bool is_forced, GError **error)
{
    g_autoptr(GError) busy = NULL;
    BaseLock *lock = base_lock_take(dirfd, lock_name, 0, &busy);
    if (lock) {
        return lock;
    }
    if (!is_forced || !g_error_matches(busy, VM_ERROR, VM_ERROR_BUSY)) {
        const char *hint =
            g_error_matches(busy, VM_ERROR, VM_ERROR_BUSY) ? " - take it over with --force" : "";
        g_set_error(error, busy->domain, busy->code, "%s%s", busy->message, hint);
        return NULL;
    }
    if (!base_file_write_whole(dirfd, force_name, "", 0, 0600, error)) {
        return NULL;
    }
    lock = base_lock_take(dirfd, lock_name, TAKE_OVER_MS, error);
    unlinkat(dirfd, force_name, 0);
    return lock;
}

/* A socket's path may be longer than sun_path holds: through /proc/self/fd it is short. */
static int connect_unix(const char *path, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(path);
    g_autofree char *base = g_path_get_basename(path);
    autofd int dirfd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int n = snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", dirfd, base);
    if (dirfd < 0 || fd < 0 || n < 0 || (size_t)n >= sizeof address.sun_path ||
        connect(fd, (const struct sockaddr *)&address, sizeof address)) {
        base_error_set_errno(error, errno, "cannot connect to the console '%s'", path);
        return -1;
    }
    if (fcntl(fd, F_SETFL, O_NONBLOCK)) {
        base_error_set_errno(error, errno, "cannot set up the console '%s'", path);
        return -1;
    }
    return base_fd_steal(&fd);
}

static int watch_folder(const char *dir, GError **error)
{
    autofd int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fd < 0 || inotify_add_watch(fd, dir, IN_MOVED_TO | IN_CREATE | IN_ONLYDIR) < 0) {
        base_error_set_errno(error, errno, "cannot watch '%s'", dir);
        return -1;
    }
    return base_fd_steal(&fd);
}

/* --- the pump --------------------------------------------------------------------------------- */

static void stop(Pump *pump, CmdConsoleEnd end)
{
    pump->is_over = true;
    pump->end = end;
}

static bool write_all(int fd, const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, bytes, n);
        if (done < 0 && errno != EINTR) {
            return false;
        }
        bytes += done > 0 ? done : 0;
        n -= done > 0 ? (size_t)done : 0;
    }
    return true;
}

/* A guest that reads nothing must not keep a person from leaving: the socket never blocks. */
static void send_pending(Pump *pump)
{
    ssize_t n =
        pump->pending->len ? write(pump->socket_fd, pump->pending->data, pump->pending->len) : 0;
    if (n < 0 && errno != EINTR && errno != EAGAIN) {
        stop(pump, CMD_CONSOLE_ENDED);
    } else if (n > 0) {
        g_byte_array_remove_range(pump->pending, 0, (guint)n);
    }
    if (!pump->pending->len && pump->is_input_over) {
        stop(pump, CMD_CONSOLE_LEFT);
    }
}

static void on_input(Pump *pump)
{
    char bytes[CHUNK_BYTES];
    ssize_t n = read(STDIN_FILENO, bytes, sizeof bytes);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
        return;
    }
    pump->is_input_over = n <= 0;
    const char *escape =
        n > 0 && pump->is_raw_output ? memchr(bytes, ESCAPE_BYTE, (size_t)n) : NULL;
    size_t n_sent = escape ? (size_t)(escape - bytes) : n > 0 ? (size_t)n : 0;
    g_byte_array_append(pump->pending, (const guint8 *)bytes, (guint)n_sent);
    send_pending(pump);
    if (escape) {
        stop(pump, CMD_CONSOLE_LEFT);
    }
}

static void on_output(Pump *pump)
{
    char bytes[CHUNK_BYTES];
    ssize_t n = read(pump->socket_fd, bytes, sizeof bytes);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
        return;
    }
    if (n <= 0) {
        stop(pump, CMD_CONSOLE_ENDED);
        return;
    }
    bool is_written = true;
    if (pump->is_raw_output) {
        is_written = write_all(STDOUT_FILENO, bytes, (size_t)n);
    } else {
        cmd_escape_print(&pump->escape, bytes, (size_t)n, stdout);
        is_written = !fflush(stdout);
    }
    if (!is_written) {
        stop(pump, CMD_CONSOLE_LEFT);
    }
}

static void on_folder(Pump *pump)
{
    _Alignas(struct inotify_event) char bytes[CHUNK_BYTES];
    ssize_t n = read(pump->watch_fd, bytes, sizeof bytes);
    for (ssize_t at = 0; at < n;) {
        const struct inotify_event *event =
            (const struct inotify_event *)(const void *)(bytes + at);
        if (event->len && g_str_equal(event->name, force_name)) {
            stop(pump, CMD_CONSOLE_TAKEN);
        }
        at += (ssize_t)(sizeof *event + event->len);
    }
}

/* A pipe is read no faster than the guest takes it; a person is always listened to. */
static short input_events(const Pump *pump)
{
    bool is_full = !pump->is_raw_output && pump->pending->len >= CHUNK_BYTES;
    return pump->is_input_over || is_full ? 0 : POLLIN;
}

static void pump_step(Pump *pump)
{
    short output = pump->pending->len ? POLLOUT : 0;
    int input_fd = input_events(pump) ? STDIN_FILENO : -1;
    struct pollfd fds[] = {{.fd = cmd_signals_fd(), .events = POLLIN},
                           {.fd = pump->watch_fd, .events = POLLIN},
                           {.fd = pump->socket_fd, .events = POLLIN | output},
                           {.fd = input_fd, .events = POLLIN}};
    int n = poll(fds, G_N_ELEMENTS(fds), -1);
    if (cmd_signals_first()) {
        stop(pump, CMD_CONSOLE_SIGNAL);
        return;
    }
    if (n > 0 && fds[1].revents) {
        on_folder(pump);
    }
    if (n > 0 && fds[2].revents & POLLOUT) {
        send_pending(pump);
    }
    if (n > 0 && fds[2].revents & ~POLLOUT) {
        on_output(pump);
    }
    if (n > 0 && fds[3].revents && !pump->is_over) {
        on_input(pump);
    }
}

static void pump_run(Pump *pump)
{
    while (!pump->is_over) {
        pump_step(pump);
    }
    cmd_escape_finish(&pump->escape, stdout);
}

static const char *const end_texts[] = {
    [CMD_CONSOLE_LEFT] = "left the console of '%s'; the machine still runs",
    [CMD_CONSOLE_ENDED] = "the console of '%s' was closed: the machine has ended",
    [CMD_CONSOLE_TAKEN] = "the console of '%s' was taken over by somebody else",
    [CMD_CONSOLE_SIGNAL] = "left the console of '%s' by a signal",
};

static void say_end(const CmdContext *context, CmdConsoleEnd end, const char *name)
{
    g_auto(GStrv) parts = g_strsplit(end_texts[end], "%s", 2);
    cmd_say_note(context, "%s%s%s", parts[0], name, parts[1]);
}

/* Raw only when a person sits at both ends: a pipe keeps its bytes, and Ctrl-] is one of them. */
static bool pump_at_terminal(Pump *pump, const MachineView *view, GError **error)
{
    g_auto(CmdTerminal) terminal = CMD_TERMINAL_INIT;
    bool is_terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    pump->is_raw_output = is_terminal;
    if (is_terminal) {
        cmd_say_note(pump->context, "console of '%s': Ctrl-] leaves it", view->name);
    }
    cmd_signals_init_patient();
    if (is_terminal && !cmd_terminal_make_raw(&terminal, STDIN_FILENO, error)) {
        return false;
    }
    pump_run(pump);
    cmd_terminal_restore(&terminal);
    if (is_terminal) {
        fputs("\r\n", stderr);
    }
    return true;
}

bool cmd_console_attach(const CmdContext *context, const MachineView *view, bool is_forced,
                        CmdConsoleEnd *out_end, GError **error)
{
    if (!view->console_socket) {
        return base_fail(error, VM_ERROR_HOST, "machine '%s' has no serial console", view->name);
    }
    autofd int dirfd = open(view->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dirfd < 0) {
        base_error_set_errno(error, errno, "cannot open '%s'", view->dir);
        return false;
    }
    g_autoptr(BaseLock) lock = take_lock(dirfd, is_forced, error);
    autofd int watch_fd = lock ? watch_folder(view->dir, error) : -1;
    autofd int socket_fd = watch_fd >= 0 ? connect_unix(view->console_socket, error) : -1;
    if (socket_fd < 0) {
        g_prefix_error(error, "machine '%s': ", view->name);
        return false;
    }
    g_autoptr(GByteArray) pending = g_byte_array_new();
    Pump pump = {
        .context = context, .socket_fd = socket_fd, .watch_fd = watch_fd, .pending = pending};
    if (!pump_at_terminal(&pump, view, error)) {
        return false;
    }
    say_end(context, pump.end, view->name);
    *out_end = pump.end;
    return true;
}
