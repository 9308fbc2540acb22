#pragma once
#include <stdbool.h>
#include "driver/machine.h"
#include "schemas/network_spec.h"

/*
 * Live changes of a machine, running or stopped: ports, egress, link, rate limits. What is running
 * changes at once and without a gap for what stays; what is stopped has it at its next start.
 */
typedef struct {
    const char *based_on;   /* spec_machine_to_json() of what the change was worked out from; NULL:
                               whatever is there */
    const GPtrArray *ports; /* of SpecPort: the whole new list; NULL: leave it */
    const SpecEgress *egress;                   /* NULL: leave it */
    unsigned nic;                               /* which NIC the next members concern, from 0 */
    const bool *is_link_down;                   /* NULL: leave it */
    const uint64_t *rate_in_bps, *rate_out_bps; /* towards and from the guest; NULL: leave it */
} MachineChange;

/* All or nothing: on an error everything is as before. Under the machine's lock and journalled, so
 * that `gc` finishes or undoes one that was cut off. *out_is_changed (may be NULL) false: it was so
 * already, nothing was written. STALE_PLAN: its spec is no longer what the change is based on.
 * NOT_FOUND: no such machine or NIC; EXISTS: a port is taken (by
 * whom); NET: egress or rates of a NIC that has no network of ours; PORT; BUSY. */
bool machine_update(MachineHost *host, const char *name, const MachineChange *change,
                    bool *out_is_changed, GError **error);
