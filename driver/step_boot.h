#pragma once
#include "driver/step.h"

/* The steps that make a machine run: define, boot, forward, watch. Rows of the table in step.c. */
bool step_define_apply(StepContext *context, unsigned index, GError **error);
bool step_define_undo(MachineHost *host, const MachinePlan *plan, int dirfd, unsigned index,
                      GError **error);
bool step_boot_apply(StepContext *context, unsigned index, GError **error);
bool step_boot_undo(MachineHost *host, const MachinePlan *plan, int dirfd, unsigned index,
                    GError **error);
bool step_forward_apply(StepContext *context, unsigned index, GError **error);
bool step_forward_undo(MachineHost *host, const MachinePlan *plan, int dirfd, unsigned index,
                       GError **error);
bool step_watch_apply(StepContext *context, unsigned index, GError **error);
bool step_watch_undo(MachineHost *host, const MachinePlan *plan, int dirfd, unsigned index,
                     GError **error);
