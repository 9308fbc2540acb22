#pragma once
#include "cloudinit/keys.h"
#include "driver/event.h"
#include "driver/host.h"
#include "driver/member.h"
#include "driver/nets.h"
#include "imaging/source.h"

/*
 * The step table: for each kind of step how it is done (apply) and undone (undo). apply runs with
 * the journal's line already written; undo is idempotent, needs the record only and removes only
 * what carries this machine's mark.
 */
typedef struct {
    MachineHost *host;
    MachinePlan *plan;
    MachineSpec *spec;
    int dirfd; /* the machine's folder; -1 before the directory step */
    bool is_new;
    MachineBoot *boot;
    MachineNets *nets; /* locked until the leases are done */
    char *created;
    ImgSource **bases; /* one a disk, NULL where it has none */
    SeedKeyPair *host_key, *user_key;
    GPtrArray *public_keys; /* of char*: the machine's own and the spec's */
    const MachineCallbacks *callbacks;
    uint64_t serial_offset; /* bytes in the serial log that are older than this boot */
    GPtrArray *held_events; /* of HeldEvent: from before there is a folder */
} StepContext;

typedef struct {
    UndoScope scope;   /* BOOT: undone at each end; ALL: only when the machine goes */
    int stage;         /* shown to people, -1: none */
    bool needs_domain; /* undo talks to libvirt */
    bool (*apply)(StepContext *context, unsigned index, GError **error);
    bool (*undo)(MachineHost *host, const MachinePlan *plan, int dirfd, unsigned index,
                 GError **error);
} StepRow;

const StepRow *machine_step_row(StepKind kind);

GPtrArray *machine_step_held_events_new(void);

/* Tells callbacks and appends a stage event. text NULL: none. */
void machine_step_stage(StepContext *context, Stage stage, const char *state, const char *text);
/* Appends an event, held back while there is no folder. */
void machine_step_event(StepContext *context, const char *type, const char *members_json);
/* A port leads to the guest now: noted in the boot (not saved yet) and said as an event. */
void machine_step_forward(StepContext *context, const PlanForward *from, uint16_t host_port);
