#pragma once
#include "driver/plan_net.h"

/* Shared by plan.c, plan_net.c, plan_json.c and update.c only. */
MachinePlan *machine_plan_new(void);
void machine_plan_list_steps(MachinePlan *plan);
void machine_plan_nics(MachinePlan *plan, const PlanInput *in, BaseReport *report);
void machine_plan_forwards(MachinePlan *plan, const PlanInput *in, BaseReport *report);
/* A policy needs a NIC that it can be kept at. */
void machine_plan_check_egress(const MachinePlan *plan, const PlanInput *in, BaseReport *report);
