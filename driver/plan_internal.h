#pragma once
#include "driver/plan.h"

/* Shared by plan.c and plan_json.c only. */
MachinePlan *machine_plan_new(void);
void machine_plan_list_steps(MachinePlan *plan);
