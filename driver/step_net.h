#pragma once
#include "driver/step.h"

/* The steps of a machine's network: lease, network, filter, tap. Rows of the table in step.c. */
bool step_lease_apply(StepContext *context, unsigned index, GError **error);
bool step_lease_undo(MachineHost *host, const MachinePlan *plan, int dirfd, unsigned index,
                     GError **error);
bool step_network_apply(StepContext *context, unsigned index, GError **error);
bool step_network_undo(MachineHost *host, const MachinePlan *plan, int dirfd, unsigned index,
                       GError **error);
bool step_filter_apply(StepContext *context, unsigned index, GError **error);
bool step_filter_undo(MachineHost *host, const MachinePlan *plan, int dirfd, unsigned index,
                      GError **error);
bool step_tap_apply(StepContext *context, unsigned index, GError **error);
bool step_tap_undo(MachineHost *host, const MachinePlan *plan, int dirfd, unsigned index,
                   GError **error);
/* The tap or macvtap of a NIC and its limits, as the plan says; idempotent, so it is also how they
 * change live. */
bool machine_step_make_tap(const MachinePlan *plan, unsigned index, GError **error);
/* After ports were written to the members' networks, which are open. */
bool machine_step_settle_ports(const GPtrArray *open, const GPtrArray *members, GError **error);
