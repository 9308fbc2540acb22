#pragma once
#include "driver/connection.h"
#include "driver/journal.h"
#include "driver/machine.h"
#include "driver/plan_net.h"
#include "net/network.h"

/* Inside driver/ only: what a MachineHost is made of, and the files of a machine. */
struct MachineHost {
    MachineStore *store;
    char *connect;                 /* as asked for, NULL: the usual choice */
    MachineConnection *connection; /* NULL while nothing needs it */
    char *uri;                     /* of the connection */
    NetStore *nets;                /* NULL while nothing needs it */
};

/* The connection for `uri` (NULL: the usual choice), opened at the first call; borrowed until
 * machine_host_release(). */
VirtConn *machine_host_virt(MachineHost *host, const char *uri, GError **error);
/* Gives the connection back: before every wait. */
void machine_host_release(MachineHost *host);

/* The networks of this state directory, opened at the first call; borrowed. */
NetStore *machine_host_nets(MachineHost *host, GError **error);

/* boot.json: what belongs to one boot. It exists from the start of a start until everything of that
 * boot is undone. */
typedef struct {
    unsigned boot;     /* counts starts */
    uint64_t start_ms; /* CLOCK_BOOTTIME when the start was asked for */
    char *started;     /* RFC 3339 */
    char *boot_id;     /* of the host */
    char *command;
    bool is_rm;
    pid_t qemu_pid;      /* 0: not known yet */
    uint64_t qemu_start; /* ticks */
    GPtrArray *forwards; /* of MachineForward */
    char *ssh_addr;      /* the guest's own address; NULL: 127.0.0.1, forwarded */
    uint16_t ssh_port;   /* 0: none */
} MachineBoot;
MachineBoot *machine_boot_new(void);
void machine_boot_free(MachineBoot *boot);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MachineBoot, machine_boot_free)
char *machine_boot_to_json(const MachineBoot *boot); /* transfer full */
MachineBoot *machine_boot_from_json(const char *text);
bool machine_boot_save(int dirfd, const MachineBoot *boot, GError **error);
/* NULL without error: no boot.json. */
MachineBoot *machine_boot_load(int dirfd, GError **error);
void machine_forward_free(void *forward);
/* A pidfd of this boot's QEMU, -1: it is gone (or never was). */
int machine_boot_open_qemu(const MachineBoot *boot);

MachinePlan *machine_record_load(int dirfd, GError **error);
/* {"created":..., "boots":N}: written once and at each start. */
bool machine_history_load(int dirfd, char **out_created, unsigned *out_boots);
bool machine_history_save(int dirfd, const char *created, unsigned boots, GError **error);

/* Now as RFC 3339 in UTC with milliseconds; transfer full. */
char *machine_now_text(void);
uint64_t machine_boottime_ms(void);

/* --- undo: stop, destroy, rollback and crash recovery are this one function ------------------- */
typedef enum { UNDO_BOOT, UNDO_ALL } UndoScope;

/* Walks the plan's steps backwards and undoes those in scope; goes on after a failure. The caller
 * holds the machine's lock. LEFTOVER names what stayed. has_domain false: define was never reached,
 * so libvirt is not asked. keep_watcher: the caller is the watcher's end command. */
typedef struct {
    UndoScope scope;
    bool has_domain;
    bool keep_watcher;
} UndoOptions;
bool machine_undo(MachineHost *host, const MachinePlan *plan, int dirfd, const UndoOptions *options,
                  GError **error);

/* With the lock held: finishes or rolls back what a crash cut off. out_was_removed: the machine is
 * gone now. */
bool machine_recover(MachineHost *host, const char *name, bool *out_was_removed, GError **error);

/* With the lock held: finishes or takes back a live change that was cut off; none: true. */
bool machine_update_finish(MachineHost *host, const char *name, int dirfd, GError **error);

/* Ends this boot's QEMU: SIGTERM, then SIGKILL after 5 s; success when it is gone. */
bool machine_qemu_end(const MachineBoot *boot, GError **error);
