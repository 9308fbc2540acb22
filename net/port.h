#pragma once
#include "schemas/machine_spec.h"

/* A MAC from the machine's id: locally administered 52:54:00 prefix kept for QEMU's OUI, 24 bits from SHA-256. Transfer full. */
char *net_mac_for(const char *machine_uuid, unsigned nic_index);

/* A listener of this host on that address and port (tcp or udp): the pid and name of its process when it can be told.
 * Reads /proc/net/{tcp,tcp6,udp,udp6} once. */
typedef struct {
    bool is_taken;
    pid_t pid;       /* 0: unknown */
    char comm[32];
} NetListener;
bool net_listener_find(const char *addr, uint16_t port, SpecProto proto, NetListener *out, GError **error);

/* May we bind it? Tries bind(2) and closes again; the race that is left is QEMU's own clear error. EXISTS (names the holder), DENIED (< 1024). */
bool net_port_probe(const char *addr, uint16_t port, SpecProto proto, GError **error);
