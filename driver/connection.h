#pragma once
#include "driver/virt.h"

/*
 * The choice and the opening of a connection (docs: "Connection" in docs/architecture.md). An embedded root is held by one process at a time:
 * our lock on STATE/libvirt.lock is taken first, waiting 30 s at most and naming its holder. Held for a call, never for a wait.
 */
typedef struct MachineConnection MachineConnection;

/* state_dir: canonical. wish NULL: VM_RUN_URI, LIBVIRT_DEFAULT_URI, qemu:///system when we are root and its socket answers, else the embedded driver below state_dir. */
MachineConnection *machine_connection_open(const char *state_dir, const char *wish, GError **error);
void machine_connection_close(MachineConnection *connection); /* NULL is fine */
VirtConn *machine_connection_virt(MachineConnection *connection); /* borrowed */
/* All facts: local, libvirt's, the KVM judgement, the user of QEMU, the network namespace. */
bool machine_connection_facts(MachineConnection *connection, HostFacts *facts, GError **error);
