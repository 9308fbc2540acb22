#include "driver/forward.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/fd.h"

/* A row of `info usernet`: "  TCP[HOST_FORWARD]  12  127.0.0.1 40123  10.0.2.15  22  0  0"; 0:
 * another forward. */
static uint16_t row_host_port(const char *row, const MachineHostForward *forward)
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
static GHashTable *forwarded_ports(const char *usernet, const MachineHostForward *forward)
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

static GHashTable *query_ports(const MachineMonitor *monitor, const MachineHostForward *forward,
                               GError **error)
{
    g_autofree char *usernet = monitor->run(monitor->data, "info usernet", error);
    return usernet ? forwarded_ports(usernet, forward) : NULL;
}

/* QEMU says only that it could not: the kernel tells us why when we try the same. */
static bool fail_forward(const MachineHostForward *forward, const char *said, GError **error)
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
static bool check_forward(const MachineHostForward *forward, GError **error)
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

bool machine_host_forward_add(const MachineMonitor *monitor, const MachineHostForward *forward,
                              uint16_t *out_port, GError **error)
{
    if (!check_forward(forward, error)) {
        return false;
    }
    g_autoptr(GHashTable) before = query_ports(monitor, forward, error);
    g_autofree char *line =
        g_strdup_printf("hostfwd_add %s %s:%s:%u-:%u", forward->netdev, forward->proto,
                        forward->host_addr, forward->host_port, forward->guest_port);
    g_autofree char *said = before ? monitor->run(monitor->data, line, error) : NULL;
    if (!said) {
        return false;
    }
    if (*said) {
        return fail_forward(forward, g_strchomp(said), error);
    }
    g_autoptr(GHashTable) after = query_ports(monitor, forward, error);
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
                     forward->proto, forward->host_addr, forward->host_port);
}

bool machine_host_forward_remove(const MachineMonitor *monitor, const MachineHostForward *forward,
                                 GError **error)
{
    if (!check_forward(forward, error)) {
        return false;
    }
    g_autofree char *line = g_strdup_printf("hostfwd_remove %s %s:%s:%u", forward->netdev,
                                            forward->proto, forward->host_addr, forward->host_port);
    g_autofree char *said = monitor->run(monitor->data, line, error);
    if (!said) {
        return false;
    }
    return strstr(said, " removed") || strstr(said, " not found") ||
           base_fail(error, VM_ERROR_HOST, "QEMU cannot end the forward of %s %s:%u: %s",
                     forward->proto, forward->host_addr, forward->host_port, g_strchomp(said));
}
