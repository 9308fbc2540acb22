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

/* One HMP command line; its output, transfer full. */
static char *monitor_command(MachineQmp *qmp, const char *line, GError **error)
{
    json_auto_t *output =
        execute(qmp, "human-monitor-command", json_pack("{s:s}", "command-line", line), error);
    return output ? g_strdup(json_is_string(output) ? json_string_value(output) : "") : NULL;
}

typedef struct {
    const char *netdev, *proto, *host_addr;
    uint16_t host_port, guest_port;
} Forward;

/* A row of `info usernet`: "  TCP[HOST_FORWARD]  12  127.0.0.1 40123  10.0.2.15  22  0  0"; 0:
 * another forward. */
static uint16_t row_host_port(const char *row, const Forward *forward)
{
    char kind[32], source[64], dest[64];
    unsigned fd, source_port, dest_port;
    if (sscanf(row, " %31s %u %63s %u %63s %u", kind, &fd, source, &source_port, dest,
               &dest_port) != 6) {
        return 0;
    }
    const char *addr = strcmp(forward->host_addr, "0.0.0.0") == 0 ? "*" : forward->host_addr;
    g_autofree char *wanted = g_strdup_printf("%s[HOST_FORWARD]", forward->proto);
    bool is_it = g_ascii_strcasecmp(kind, wanted) == 0 && strcmp(source, addr) == 0 &&
                 dest_port == forward->guest_port && source_port <= UINT16_MAX;
    return is_it ? (uint16_t)source_port : 0;
}

/* The host ports of this netdev that lead where `forward` leads: keys of a set, transfer full. */
static GHashTable *forwarded_ports(const char *usernet, const Forward *forward)
{
    GHashTable *ports = g_hash_table_new(NULL, NULL);
    g_auto(GStrv) rows = g_strsplit(usernet, "\n", -1);
    g_autofree char *header = g_strdup_printf("(%s):", forward->netdev);
    bool is_inside = false;
    for (char **row = rows; *row; row++) {
        if (**row != ' ') {
            is_inside = strstr(*row, header) != NULL;
        } else if (is_inside && row_host_port(*row, forward) != 0) {
            g_hash_table_add(ports, GUINT_TO_POINTER(row_host_port(*row, forward)));
        }
    }
    return ports;
}

static GHashTable *query_ports(MachineQmp *qmp, const Forward *forward, GError **error)
{
    g_autofree char *usernet = monitor_command(qmp, "info usernet", error);
    return usernet ? forwarded_ports(usernet, forward) : NULL;
}

/* QEMU says only that it could not: the kernel tells us why when we try the same. */
static bool fail_forward(const Forward *forward, const char *said, GError **error)
{
    int type = strcmp(forward->proto, "tcp") == 0 ? SOCK_STREAM : SOCK_DGRAM;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(forward->host_port)};
    inet_pton(AF_INET, forward->host_addr, &address.sin_addr);
    autofd int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    int one = 1;
    if (type == SOCK_STREAM) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    }
    int errnum = bind(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
                         (type != SOCK_STREAM || listen(fd, 1) == 0)
                     ? 0
                     : errno;
    const char *p = forward->proto, *a = forward->host_addr;
    if (errnum == EADDRINUSE) {
        return base_fail(error, VM_ERROR_EXISTS,
                         "port %s %s:%u is taken - name another one, or 0 for the next free one", p,
                         a, forward->host_port);
    }
    if (errnum != 0) {
        return base_fail(error, errnum == EACCES ? VM_ERROR_DENIED : VM_ERROR_HOST,
                         "cannot listen on %s %s:%u: %s - name another address or port", p, a,
                         forward->host_port, g_strerror(errnum));
    }
    return base_fail(error, strstr(said, "netdev") ? VM_ERROR_NOT_FOUND : VM_ERROR_HOST,
                     "QEMU cannot forward %s %s:%u: %s", p, a, forward->host_port, said);
}

/* What goes into a line of HMP has no spaces, commas or control characters. */
static bool check_forward(const Forward *forward, GError **error)
{
    struct in_addr addr;
    if (strcmp(forward->proto, "tcp") != 0 && strcmp(forward->proto, "udp") != 0) {
        return base_fail(error, VM_ERROR_PORT, "'%s' is no protocol for a forward", forward->proto);
    }
    if (inet_pton(AF_INET, forward->host_addr, &addr) != 1) {
        return base_fail(error, VM_ERROR_PORT,
                         "'%s' is no IPv4 address - user networking forwards from IPv4 only",
                         forward->host_addr);
    }
    for (const char *c = forward->netdev; *c; c++) {
        if (!g_ascii_isalnum(*c) && !strchr("-_.", *c)) {
            return base_fail(error, VM_ERROR_INTERNAL, "'%s' is no name of a network device",
                             forward->netdev);
        }
    }
    return true;
}

bool machine_qmp_forward(MachineQmp *qmp, const char *netdev, const char *proto,
                         const char *host_addr, uint16_t host_port, uint16_t guest_port,
                         uint16_t *out_port, GError **error)
{
    Forward forward = {netdev, proto, host_addr, host_port, guest_port};
    if (!check_forward(&forward, error)) {
        return false;
    }
    g_autoptr(GHashTable) before = query_ports(qmp, &forward, error);
    g_autofree char *line = g_strdup_printf("hostfwd_add %s %s:%s:%u-:%u", netdev, proto, host_addr,
                                            host_port, guest_port);
    g_autofree char *said = before ? monitor_command(qmp, line, error) : NULL;
    if (!said) {
        return false;
    }
    if (*said) {
        return fail_forward(&forward, g_strchomp(said), error);
    }
    g_autoptr(GHashTable) after = query_ports(qmp, &forward, error);
    if (!after) {
        return false;
    }
    GHashTableIter iter;
    gpointer port;
    g_hash_table_iter_init(&iter, after);
    while (g_hash_table_iter_next(&iter, &port, NULL)) {
        if (!g_hash_table_contains(before, port)) {
            if (out_port) {
                *out_port = (uint16_t)GPOINTER_TO_UINT(port);
            }
            return true;
        }
    }
    return base_fail(error, VM_ERROR_HOST, "QEMU took the forward of %s %s:%u and doesn't show it",
                     proto, host_addr, host_port);
}
