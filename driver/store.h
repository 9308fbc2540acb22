#pragma once
#include <stdbool.h>
#include "driver/ident.h"
#include "base/lock.h"

/*
 * The state directory: one folder per machine, JSON written atomically, flock for locks, no
 * database. STATE/machines/NAME/   0700: record.json (what and where; no secrets), spec.json (0600:
 * everything asked for), journal, events.jsonl, watch.json, root.qcow2, disk-*.qcow2, seed.iso,
 * serial.log, host_key, id_ed25519(.pub), known_hosts STATE/locks/NAME.lock  the machine's lock;
 * STATE/libvirt/ root of the embedded driver, STATE/libvirt.lock its lock STATE/cache/images/
 * fetched images sockets: root: /run/vm-run/<store id>.<short id>/; others:
 * $XDG_RUNTIME_DIR/vm-run/..., else STATE/run/... c console, q QMP, s status, a agent, v VNC
 */
typedef struct {
    char *dir; /* canonical path */
    int dirfd, machines_fd, locks_fd;
} MachineStore;

/* state_dir NULL: VM_RUN_STATE_DIR, else /var/lib/vm-run for root, else $XDG_STATE_HOME/vm-run or
 * ~/.local/state/vm-run. Created (0711 for root's since QEMU runs as another user, 0700 otherwise)
 * when missing, unless is_read_only: then a missing one is an empty store (fds -1). */
MachineStore *machine_store_open(const char *state_dir, bool is_read_only, GError **error);
void machine_store_close(MachineStore *store);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MachineStore, machine_store_close)

/* Sorted names of machines (folders), NULL-terminated, transfer full. Reads one directory. */
char **machine_store_names(const MachineStore *store, GError **error);
bool machine_store_has(const MachineStore *store, const char *name);
/* Opens the machine's folder, -1 + NOT_FOUND (with the nearest name as a hint). */
int machine_store_open_machine(const MachineStore *store, const char *name, GError **error);
char *machine_store_machine_dir(const MachineStore *store, const char *name); /* transfer full */
/* Where the folders of sockets are. Transfer full. */
char *machine_store_run_parent(const MachineStore *store);
/* Folder for the machine's sockets, transfer full; only a name, nothing is made. */
char *machine_store_run_dir(const MachineStore *store, const MachineIdent *ident);
BaseLock *machine_store_lock(const MachineStore *store, const char *name, int timeout_ms,
                             GError **error);
