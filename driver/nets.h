#pragma once
#include "driver/host.h"
#include "net/network.h"

/*
 * The networks of one start, looked at before the plan is made: which network each NIC is on and
 * which addresses it has there. They stay locked from the choice until the leases are written
 * (machine_nets_unlock()), so that nobody else chooses the same; that is some milliseconds, never a
 * copy or a download.
 */
typedef struct {
    PlanNet *nets; /* one a NIC of the spec: an input of the plan */
    unsigned n_nets;
    GPtrArray *members; /* of NetMember, one a NIC; NULL where it is on no network */
    GPtrArray *open;    /* of NetNetwork, by name; empty when unlocked */
    GPtrArray *texts;   /* what nets[] borrows */
    bool has_reserved;  /* of a new machine at libvirt: noted (driver/reserve_note.h) */
} MachineNets;

/* Whose networks. */
typedef struct {
    MachineHost *host;
    MachineSpec *spec; /* its NICs are settled */
    const HostFacts *facts;
    const MachineIdent *ident;
    bool is_new; /* nothing of the machine is there yet */
} MachineNetsInput;

void machine_nets_free(MachineNets *nets);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MachineNets, machine_nets_free)

/* Decides what a NIC of kind auto is, in the spec itself, which is kept with the machine: a later
 * start finds the same. wish: VM_RUN_NETWORK ("user", "none", a network's name), NULL or "": the
 * network `default` where this host can have it, else `user`. *out_reason (transfer full): why not,
 * NULL when nothing was decided against it. */
void machine_nets_settle(MachineSpec *spec, const HostFacts *facts, const char *wish,
                         char **out_reason);

/* Finds, defines (records only) and locks the networks, chooses addresses, reserves those of
 * libvirt's networks there. Mistakes of the spec go to the report too. NULL with an error: then a
 * new machine left nothing. Blocks for the locks: 20 s at most, BUSY. */
MachineNets *machine_nets_look(const MachineNetsInput *input, BaseReport *report, GError **error);

/* The open network of this name; NULL: it is not open. Borrowed. */
NetNetwork *machine_nets_find(const MachineNets *nets, const char *name);
void machine_nets_unlock(MachineNets *nets);
/* After a look that came to nothing: takes back what it defined and, of a new machine, reserved.
 * What stays in spite of that is said at the beginning of *error. */
void machine_nets_abandon(MachineNets *nets, MachineHost *host, const char *name, GError **error);

/* Opens those networks of a plan's NICs that exist, by name, each once; of NetNetwork, closed with
 * the array. Transfer full. */
GPtrArray *machine_nets_open(MachineHost *host, const MachinePlan *plan, GError **error);
NetNetwork *machine_nets_find_in(const GPtrArray *open, const char *name);
