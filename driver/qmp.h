#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <glib.h>

/*
 * A short conversation with QEMU over the machine's own (second) QMP monitor; one client at a time,
 * so the starter uses it before the watcher does. Everything waits at most timeout_ms (of open) for
 * each answer: a guest still in its firmware once took 3.8 s. What QEMU says is bounded at 1 MiB a
 * message. Source: QEMU 7.2 docs/interop/qmp-spec.txt.
 */
typedef struct MachineQmp MachineQmp;

/*
 * Connects, reads the greeting, negotiates. out_pid (may be NULL): QEMU's pid (SO_PEERCRED).
 * NOT_FOUND, HOST: no such socket, nobody listens; TIMEOUT: no answer, or another client has the
 * monitor; PATH: the path is too long for a socket.
 */
MachineQmp *machine_qmp_open(const char *socket_path, int timeout_ms, pid_t *out_pid,
                             GError **error);
void machine_qmp_close(MachineQmp *qmp);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MachineQmp, machine_qmp_close)

/* One line for the human monitor; what it said, transfer full. HOST, TIMEOUT. */
char *machine_qmp_command(MachineQmp *qmp, const char *line, GError **error);

/* machine_host_forward_add() (driver/forward.h) over this monitor. */
bool machine_qmp_forward(MachineQmp *qmp, const char *netdev, const char *proto,
                         const char *host_addr, uint16_t host_port, uint16_t guest_port,
                         uint16_t *out_port, GError **error);
