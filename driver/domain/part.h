#pragma once
#include "driver/plan.h"

/* What vm-run-domain.so gives: machine_plan_domain_xml() of driver/plan.h. A part of its own
 * because libxml2 brings ICU and the C++ library along: 2 ms of every start of the program. */
#define MACHINE_DOMAIN_PART   "vm-run-domain"
#define MACHINE_DOMAIN_SYMBOL "machine_domain_part_xml"

typedef char *(*MachineDomainXml)(const MachinePlan *plan, const MachineSpec *spec, GError **error);

__attribute__((visibility("default"))) char *
machine_domain_part_xml(const MachinePlan *plan, const MachineSpec *spec, GError **error);
