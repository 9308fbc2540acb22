#pragma once
#include "driver/host.h"
#include "driver/update.h"

/* A machine as its files tell it: spec.json, record.json, boot.json (boot NULL: stopped). */
typedef struct {
    MachineSpec *spec;
    MachinePlan *plan;
    MachineBoot *boot;
} MachineState;

void machine_state_clear(MachineState *state);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(MachineState, machine_state_clear)

/* Called when the ports are chosen and before the first effect: writes down what is intended. */
typedef bool (*MachineIntend)(MachineState *to, void *data, GError **error);

typedef struct {
    MachineHost *host;
    const MachineState *from; /* as it is, or as far as a change came */
    MachineState *to;         /* its free host ports are filled in */
    bool is_running;
    MachineIntend intend; /* NULL: nothing to write down */
    void *data;
} MachineTransition;

/* Brings networks' records, rules, taps, cable and QEMU's forwards from one state to another. Doing
 * it again, or after a crash at any place of either direction, is the same. */
bool machine_transition(const MachineTransition *transition, GError **error);
