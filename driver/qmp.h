#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <glib.h>

/* A short conversation with QEMU over the machine's own (second) QMP monitor; one client at a time, so the starter uses it before the watcher does. */
typedef struct MachineQmp MachineQmp;
/* Connects within timeout_ms, reads the greeting, negotiates. out_pid: QEMU's pid (SO_PEERCRED). */
MachineQmp *machine_qmp_open(const char *socket_path, int timeout_ms, pid_t *out_pid, GError **error);
void machine_qmp_close(MachineQmp *qmp);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MachineQmp, machine_qmp_close)
/* HMP `hostfwd_add netdev proto:addr:port-:guest`; host_port 0: the next free one. out_port is what `info usernet` shows. EXISTS when it is taken. */
bool machine_qmp_forward(MachineQmp *qmp, const char *netdev, const char *proto, const char *host_addr, uint16_t host_port,
                         uint16_t guest_port, uint16_t *out_port, GError **error);
