#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <glib.h>
#include "schemas/machine_spec.h"

/*
 * Ports and MAC addresses of this host: looked at, never kept. Addresses are IPv4 or IPv6 literals
 * ("127.0.0.1", "0.0.0.0", "::1"), anything else is VM_ERROR_NET.
 */

/* A MAC from the machine's id: QEMU's prefix 52:54:00, then 24 bits of SHA-256. Transfer full. */
char *net_mac_for(const char *machine_uuid, unsigned nic_index);

typedef struct {
    bool is_taken;
    pid_t pid;     /* 0: unknown (another user's process, or the kernel) */
    char comm[32]; /* of that process, printable; "": unknown */
} NetListener;

/* A listener of this host that has this port at that address, or at a wildcard that covers it, and
 * the process it belongs to when that can be told. SPEC_PROTO_BOTH: of either. Reads
 * /proc/net/{tcp,tcp6,udp,udp6} once (proc(5)), and, when there is one, /proc/PID/fd; 1-50 ms. */
bool net_listener_find(const char *addr, uint16_t port, SpecProto proto, NetListener *out,
                       GError **error);

/* May we bind it? Tries bind(2) and closes again; the race that is left is QEMU's own clear error.
 * EXISTS (names the holder), DENIED (below 1024), NET (no address of this host), PORT (0). */
bool net_port_probe(const char *addr, uint16_t port, SpecProto proto, GError **error);
