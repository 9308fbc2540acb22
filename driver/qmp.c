#include "driver/qmp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <jansson.h>

#include "base/error.h"
#include "base/fd.h"
#include "driver/forward.h"
#include "driver/line_buffer.h"

#define MESSAGE_MAX (1024 * 1024)

struct MachineQmp {
    int fd;
    int timeout_ms;
    LineBuffer lines;
};

void machine_qmp_close(MachineQmp *qmp)
{
    if (!qmp) {
        return;
    }
    base_fd_close(&qmp->fd);
    line_buffer_clear(&qmp->lines);
    g_free(qmp);
}

static gint64 deadline_after(int timeout_ms)
{
    return g_get_monotonic_time() + (gint64)timeout_ms * 1000;
}

/* Waits for `events` on the monitor. */
static bool wait_for(MachineQmp *qmp, short events, gint64 deadline_us, GError **error)
{
    struct pollfd monitor = {.fd = qmp->fd, .events = events};
    for (;;) {
        gint64 left_us = deadline_us - g_get_monotonic_time();
        int n = left_us > 0 ? poll(&monitor, 1, (int)((left_us + 999) / 1000)) : 0;
        if (n > 0) {
            return true;
        }
        if (n == 0) {
            return base_fail(error, VM_ERROR_TIMEOUT,
                             "QEMU's monitor did not answer within %d ms - it is stuck, or another "
                             "program talks to it",
                             qmp->timeout_ms);
        }
        if (errno != EINTR) {
            base_error_set_errno(error, errno, "cannot wait for QEMU's monitor");
            return false;
        }
    }
}

static bool send_all(MachineQmp *qmp, const char *bytes, size_t n, gint64 deadline_us,
                     GError **error)
{
    while (n > 0) {
        ssize_t n_sent = send(qmp->fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n_sent < 0 && errno != EAGAIN && errno != EINTR) {
            return base_fail(error, VM_ERROR_HOST, "QEMU's monitor: %s", g_strerror(errno));
        }
        if (n_sent < 0 && !wait_for(qmp, POLLOUT, deadline_us, error)) {
            return false;
        }
        bytes += MAX(n_sent, 0);
        n -= (size_t)MAX(n_sent, 0);
    }
    return true;
}

/* The next message that is an object; new reference. */
static json_t *receive(MachineQmp *qmp, gint64 deadline_us, GError **error)
{
    for (;;) {
        size_t n;
        char *line = line_buffer_next(&qmp->lines, &n);
        json_t *message = line ? json_loadb(line, n, 0, NULL) : NULL;
        if (json_is_object(message)) {
            return message;
        }
        json_decref(message);
        if (line) {
            continue;
        }
        if (!wait_for(qmp, POLLIN, deadline_us, error)) {
            return NULL;
        }
        long n_read = line_buffer_fill(&qmp->lines, qmp->fd);
        if (n_read == 0 || (n_read < 0 && errno != EAGAIN)) {
            base_fail(error, VM_ERROR_HOST, "QEMU closed its monitor - it has ended");
            return NULL;
        }
    }
}

/* Runs one command; its return value as a new reference. arguments: stolen, NULL: none. */
static json_t *execute(MachineQmp *qmp, const char *command, json_t *arguments, GError **error)
{
    gint64 deadline_us = deadline_after(qmp->timeout_ms);
    json_auto_t *request = json_pack("{s:s, s:o*}", "execute", command, "arguments", arguments);
    char *text = json_dumps(request, JSON_COMPACT);
    g_assert(text);
    bool is_sent = send_all(qmp, text, strlen(text), deadline_us, error) &&
                   send_all(qmp, "\n", 1, deadline_us, error);
    free(text);
    while (is_sent) {
        json_auto_t *answer = receive(qmp, deadline_us, error);
        if (!answer) {
            return NULL;
        }
        const char *why =
            json_string_value(json_object_get(json_object_get(answer, "error"), "desc"));
        if (json_object_get(answer, "error")) {
            base_fail(error, VM_ERROR_HOST, "QEMU refuses '%s': %s", command, why ? why : "");
            return NULL;
        }
        if (json_object_get(answer, "return")) {
            return json_incref(json_object_get(answer, "return"));
        }
    }
    return NULL;
}

/* A unix socket's connect() waits for a place in the queue for as long as SO_SNDTIMEO says. */
static bool connect_path(MachineQmp *qmp, const char *path, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        return base_fail(error, VM_ERROR_PATH, "'%s' is too long for a socket (%zu bytes at most)",
                         path, sizeof address.sun_path - 1);
    }
    strcpy(address.sun_path, path);
    qmp->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval limit = {qmp->timeout_ms / 1000, qmp->timeout_ms % 1000 * 1000};
    if (qmp->fd < 0 || setsockopt(qmp->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) != 0) {
        base_error_set_errno(error, errno, "cannot make a socket");
        return false;
    }
    if (connect(qmp->fd, (struct sockaddr *)&address, sizeof address) == 0) {
        return true;
    }
    if (errno == EAGAIN) {
        return base_fail(error, VM_ERROR_TIMEOUT, "QEMU's monitor '%s' is taken by other programs",
                         path);
    }
    if (errno == ECONNREFUSED) {
        return base_fail(error, VM_ERROR_HOST,
                         "nobody listens on QEMU's monitor '%s' - it has ended", path);
    }
    base_error_set_errno(error, errno, "cannot connect to QEMU's monitor '%s'", path);
    return false;
}

MachineQmp *machine_qmp_open(const char *socket_path, int timeout_ms, pid_t *out_pid,
                             GError **error)
{
    g_autoptr(MachineQmp) qmp = g_new0(MachineQmp, 1);
    qmp->fd = -1;
    qmp->timeout_ms = MAX(timeout_ms, 1);
    if (!line_buffer_init(&qmp->lines, MESSAGE_MAX)) {
        base_error_set_errno(error, ENOMEM, "cannot read QEMU's monitor");
        return NULL;
    }
    if (!connect_path(qmp, socket_path, error)) {
        return NULL;
    }
    struct ucred peer = {0};
    socklen_t n_peer = sizeof peer;
    getsockopt(qmp->fd, SOL_SOCKET, SO_PEERCRED, &peer, &n_peer);
    json_auto_t *greeting = receive(qmp, deadline_after(qmp->timeout_ms), error);
    if (greeting && !json_object_get(greeting, "QMP")) {
        base_fail(error, VM_ERROR_HOST, "'%s' is no QEMU monitor", socket_path);
    }
    if (!greeting || !json_object_get(greeting, "QMP")) {
        return NULL;
    }
    json_auto_t *done = execute(qmp, "qmp_capabilities", NULL, error);
    if (!done) {
        return NULL;
    }
    if (out_pid) {
        *out_pid = peer.pid;
    }
    return g_steal_pointer(&qmp);
}

char *machine_qmp_command(MachineQmp *qmp, const char *line, GError **error)
{
    json_auto_t *output =
        execute(qmp, "human-monitor-command", json_pack("{s:s}", "command-line", line), error);
    return output ? g_strdup(json_is_string(output) ? json_string_value(output) : "") : NULL;
}

static char *run_line(void *data, const char *line, GError **error)
{
    return machine_qmp_command(data, line, error);
}

bool machine_qmp_forward(MachineQmp *qmp, const char *netdev, const char *proto,
                         const char *host_addr, uint16_t host_port, uint16_t guest_port,
                         uint16_t *out_port, GError **error)
{
    MachineMonitor monitor = {run_line, qmp};
    MachineHostForward forward = {netdev, proto, host_addr, host_port, guest_port};
    return machine_host_forward_add(&monitor, &forward, out_port, error);
}
