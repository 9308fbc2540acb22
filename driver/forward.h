#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

/*
 * Host ports of a user network: kept by QEMU, changed by lines of its human monitor, over whichever
 * monitor the caller has (the machine's second one while it starts, libvirt's afterwards).
 */
typedef struct {
    /* One line of HMP; what QEMU said, transfer full; NULL and an error. */
    char *(*run)(void *data, const char *line, GError **error);
    void *data;
} MachineMonitor;

typedef struct {
    const char *netdev, *proto, *host_addr; /* "tcp" or "udp"; IPv4 */
    uint16_t host_port, guest_port;         /* host_port 0: the next free one */
} MachineHostForward;

/* HMP `hostfwd_add netdev proto:addr:port-:guest`. out_port (may be NULL) is what `info usernet`
 * shows afterwards. PORT: proto or address are none; EXISTS: the port is taken; DENIED: not allowed
 * to use it; NOT_FOUND: no such netdev; HOST: QEMU said something else, or is gone; TIMEOUT. */
bool machine_host_forward_add(const MachineMonitor *monitor, const MachineHostForward *forward,
                              uint16_t *out_port, GError **error);
/* HMP `hostfwd_remove`; absent is success. Connections that are open go on. */
bool machine_host_forward_remove(const MachineMonitor *monitor, const MachineHostForward *forward,
                                 GError **error);
