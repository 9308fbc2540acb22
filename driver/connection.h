#pragma once
#include "driver/qemu_user.h"
#include "driver/virt.h"

/*
 * The choice and the opening of a connection (docs: "Connection" in docs/architecture.md). An
 * embedded root is held by one process at a time: our lock on STATE/libvirt.lock is taken first,
 * waiting 30 s at most and naming its holder. Held for a call, never for a wait.
 */
typedef struct MachineConnection MachineConnection;

/* Ends the message of an open that failed, unless that says itself what to do. */
#define MACHINE_CONNECTION_HINT " - `vm-run doctor` says more"

/* state_dir: canonical. wish NULL: VM_RUN_URI, LIBVIRT_DEFAULT_URI, qemu:///system when we are root
 * and its socket answers, else the embedded driver below state_dir. */
MachineConnection *machine_connection_open(const char *state_dir, const char *wish, GError **error);
void machine_connection_close(MachineConnection *connection); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MachineConnection, machine_connection_close)
VirtConn *machine_connection_virt(MachineConnection *connection); /* borrowed */
/* All facts: local, libvirt's, the KVM judgement, the user of QEMU, the network namespace. */
bool machine_connection_facts(MachineConnection *connection, HostFacts *facts, GError **error);

/* --- the choice alone, for doctor and messages ------------------------------------------------ */

/* Where things are; the usual ones but in tests. */
typedef struct {
    const char *system_socket;      /* of libvirtd */
    const char *system_socket_qemu; /* of virtqemud */
    const char *system_conf;
    bool is_root;
} MachineConnectionPlaces;
MachineConnectionPlaces machine_connection_places(void);

/* The URI that an open would use, transfer full, never NULL. out_why: "--connect", "VM_RUN_URI",
 * "LIBVIRT_DEFAULT_URI", "libvirtd answers", "no libvirtd answers", "not root", "libvirtd is in
 * another network namespace". `embed` and `system` are short for our own embedded root and
 * qemu:///system. */
char *machine_connection_choose(const MachineConnectionPlaces *places, const char *state_dir,
                                const char *wish, const char **out_why);

/* Does something accept connections there? out_pid (may be NULL): the listening process. */
bool machine_connection_socket_answers(const char *path, pid_t *out_pid);
/* Is this process in our network namespace? true when that can't be read. */
bool machine_connection_shares_netns(pid_t pid);
/* Does a libvirtd of our network namespace answer, and may we ask it? */
bool machine_connection_system_is_near(void);
