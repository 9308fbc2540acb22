#pragma once
#include "schemas/spec.h"

/* Inside spec_machine_finish() and the check of a whole file: what a rule needs to complain. */
typedef struct {
    MachineSpec *spec;
    BaseReport *report;
    char *prefix;        /* "vms.web." or "" */
    bool is_nic_refused; /* what was written of networks is not all there: reported already */
} SpecRules;

/* An error where option `path` was written. */
void spec_rules_complain(const SpecRules *r, VmError code, const char *path, const char *hint,
                         const char *what);
/* ", first in line 3", or nothing for what came from a flag. Transfer full. */
char *spec_rules_first_place(const BasePos *pos);

/* Where a key of networks[i] was written, else the NIC itself. Borrowed. */
const BasePos *spec_nic_origin(const MachineSpec *spec, unsigned i, const char *key);

/* NICs, ports and egress (schemas/finish_network.c): defaults first, then the checks. */
void spec_finish_nics(SpecRules *r);
void spec_check_nics(const SpecRules *r);
void spec_check_ports(const SpecRules *r);
void spec_check_egress(const SpecRules *r);

/* Do two mappings want one port of this host? default_addr: where a mapping without an address
 * listens, NULL: everywhere. */
typedef struct {
    const SpecPort *port;
    const char *default_addr;
} SpecListener;
bool spec_listener_clashes(const SpecListener *a, const SpecListener *b);
const char *spec_ports_default_addr(const MachineSpec *spec);

/* What machines of one file do to each other, and networks (schemas/across.c). Their own finish
 * says the rest. Both of NULL-free lists, of MachineSpec and NetworkSpec. */
void spec_check_across(const GPtrArray *machines, BaseReport *report);
void spec_check_networks(const GPtrArray *networks, BaseReport *report);
