#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "schemas/spec.h"
#include "driver/facts.h"
#include "driver/store.h"

/*
 * One machine's life, for every door: start, stop, destroy, look, collect.
 * A host handle knows the state directory and the wished connection; libvirt is loaded and opened
 * at the first call that needs it and is given back at the end of that call: a wait never holds it.
 */
typedef struct MachineHost MachineHost;

/* state_dir, connect: NULL = the usual choice (store.h; --connect, VM_RUN_URI, LIBVIRT_DEFAULT_URI,
 * qemu:///system when its socket answers and we are root, else embedded). is_read_only: ps, show,
 * logs: makes nothing. */
MachineHost *machine_host_new(const char *state_dir, const char *connect, bool is_read_only,
                              GError **error);
void machine_host_free(MachineHost *host);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MachineHost, machine_host_free)
MachineStore *machine_host_store(MachineHost *host); /* borrowed */

/* Opens the connection and fills facts; for doctor. Transfer full. */
HostFacts *machine_host_facts(MachineHost *host, GError **error);

/* --- looking: files and /proc only, no libvirt, < 50 ms for hundreds of machines -------------- */
typedef enum {
    MACHINE_STATUS_STARTING, /* somebody is at it right now */
    MACHINE_STATUS_RUNNING,
    MACHINE_STATUS_STOPPING,
    MACHINE_STATUS_STOPPED, /* can be started */
    MACHINE_STATUS_BROKEN,  /* a start or removal was cut off: `vm-run gc` cleans it */
    MACHINE_STATUS_N
} MachineStatus;
const char *machine_status_name(MachineStatus status);

typedef struct {
    char *proto, *host_addr;
    uint16_t host_port, guest_port;
} MachineForward; /* host_addr "*": all addresses of this host */
typedef struct {
    char *kind;    /* "user", "bridge", "managed", "macvtap" */
    char *network; /* its name; NULL: user network, macvtap */
    char *mac, *bridge, *tap;
    char *macvtap;   /* the link below it, kind macvtap */
    char *ip4, *ip6; /* NULL: not known */
    bool is_link_down;
} MachineNic;

typedef struct {
    char *name, *uuid, *full_id, *dir, *run_dir;
    MachineStatus status;
    unsigned boot;           /* starts so far */
    char *created, *started; /* RFC 3339, started NULL: never */
    uint64_t uptime_s;       /* running: since QEMU's start */
    char *uri, *accel, *image, *image_format;
    char
        *net_reason; /* why the user network was chosen where nothing was asked, NULL: it was not */
    unsigned cpus;
    uint64_t memory_bytes, disk_bytes;
    char *hostname, *login_user;
    char *stage, *stage_state;     /* last stage event of this boot */
    char *end_reason, *end_detail; /* last end event, NULL: none yet */
    char *provision;               /* done|degraded|error, NULL: not known yet */
    bool is_rm;                    /* removed at its end */
    pid_t qemu_pid, watcher_pid;   /* 0: none */
    GPtrArray *nics;               /* of MachineNic */
    GPtrArray *forwards;           /* of MachineForward, as they really are */
    char *ssh_addr;                /* where `vm-run ssh` goes, NULL: unknown */
    uint16_t ssh_port;
    char *console_socket, *serial_log; /* NULL: no console */
    GHashTable *tags;
} MachineView;
MachineView *machine_view_load(MachineHost *host, const char *name, GError **error);
void machine_view_free(MachineView *view);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MachineView, machine_view_free)
/* Stable JSON of one view (schema: docs/reference/json.md), one line, transfer full. */
char *machine_view_to_json(const MachineView *view);
/* The spec as it was asked for (from spec.json, 0600), transfer full. */
MachineSpec *machine_spec_load(MachineHost *host, const char *name, GError **error);

/* --- doing ------------------------------------------------------------------------------------ */
typedef struct {
    const char *command;   /* "run", "start", "restart": for the event */
    bool is_rm;            /* remove the machine when it ends */
    bool is_new;           /* run: a machine of that name must not exist; start: it must */
    const char *cache_dir; /* for fetched images, NULL: STATE/cache/images */
    const char *network;   /* what a NIC of kind auto is: "user", "none" or a network's name; NULL:
                              the   network `default` where this host can have it, else `user` */
    const char *shown;     /* kept for messages */
} MachineStartOptions;

/* Called for each line of progress; stage as in event.h, text may be NULL. permille -1: unknown. */
typedef void (*MachineProgress)(int stage, const char *state, const char *text, int permille,
                                void *data);
/* Asked between steps: true = stop and undo (Ctrl-C, the asker is gone). */
typedef bool (*MachineCancelled)(void *data);

typedef struct {
    MachineProgress progress;
    MachineCancelled cancelled;
    void *data;
} MachineCallbacks;

/* In-process start: lock, look, decide, do; returns when QEMU runs and its watcher watches. spec is
 * NULL for a machine that exists. On any error everything of this start was undone (a machine that
 * existed before stays, stopped). The caller is the starter below a watcher, or a test. */
bool machine_start(MachineHost *host, const char *name, MachineSpec *spec,
                   const MachineStartOptions *options, const MachineCallbacks *callbacks,
                   GError **error);

/* Through a starter below a new watcher (vm-run-watch --exec ... vm-run internal-start): what
 * commands use. Follows the starter's progress; SIGINT/SIGTERM while it works cancel it cleanly
 * (cancelled callback). Same results as machine_start(). */
bool machine_launch(MachineHost *host, const char *name, MachineSpec *spec,
                    const MachineStartOptions *options, const MachineCallbacks *callbacks,
                    GError **error);
/* The starter's main: reads the request from stdin_fd, writes progress and the result to stdout.
 * Exit status for main. */
int machine_launch_starter_main(int request_fd, int reply_fd);

/* The stop ladder: agent or ACPI, the end event within grace_ms, then destroy. grace_ms 0: at once.
 * Absent: NOT_FOUND; stopped already: true. out_was_forced may be NULL. After it the machine is
 * stopped (removed if it was started with --rm). */
bool machine_stop(MachineHost *host, const char *name, uint64_t grace_ms, bool *out_was_forced,
                  const MachineCallbacks *callbacks, GError **error);
/* Asks the guest to reboot (agent or ACPI); the machine, its disks, forwards and watcher stay. */
bool machine_reboot(MachineHost *host, const char *name, GError **error);
/* Removes a machine and everything of it. Running: BUSY unless is_force (then destroyed at once).
 * Absent: NOT_FOUND. LEFTOVER lists what could not be removed. */
bool machine_destroy(MachineHost *host, const char *name, bool is_force, GError **error);
/* What the watcher calls when QEMU has ended (vm-run internal-end NAME): undoes what belongs to a
 * boot, removes it all for --rm. */
bool machine_ended(MachineHost *host, const char *name, GError **error);

typedef struct {
    char *object; /* "machine 'web': unfinished start", "link vmtabc...", "domain 'web'" */
    char *action; /* "rolled back", "removed", "watcher restarted", "would be removed" */
    char *error;  /* NULL: done */
} MachineGcItem;
/* Finds and undoes what crashes left; only what carries our mark. Returns GPtrArray of
 * MachineGcItem (transfer full), also on partial failure (error LEFTOVER). */
GPtrArray *machine_gc(MachineHost *host, bool is_dry_run, GError **error);

/* Fills ssh_addr and ssh_port of a running machine where no forward gave them: the address that its
 * guest agent tells for one of its NICs (a hint of the guest's, only used to connect to, with the
 * host key checked). NOT_FOUND: nobody knows it. Asks libvirt only without a forward; 5 s at most.
 */
bool machine_view_find_address(MachineHost *host, MachineView *view, GError **error);

/* Live numbers, one libvirt call. JSON object, one line, transfer full. */
char *machine_stats_json(MachineHost *host, const char *name, GError **error);
