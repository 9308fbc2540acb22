#pragma once
#include "cloudinit/seed.h"
#include "driver/plan.h"

/* What a plan, or the record that it is, says of the machine's network. Pure. */

/* What looking gave for one NIC of the spec; texts are borrowed. */
typedef struct PlanNet {
    SpecNetKind kind;                                        /* decided: never auto */
    const char *network, *bridge, *libvirt_network, *domain; /* as in PlanNic */
    const char *const *nameservers;
    BaseIp ip4, ip6, gateway4, gateway6; /* not set: not known, none */
    uint8_t n_bits4, n_bits6;
    uint32_t mtu;
} PlanNet;

/* The NIC on the user network, whose forwards QEMU keeps; NULL: none. Borrowed. */
const PlanNic *machine_plan_user_nic(const MachinePlan *plan);
/* The NIC that has the ports: the first on the user network or with an address and the default
 * route, else the first with an address; -1: none. */
int machine_plan_port_nic(const MachinePlan *plan);
/* Where ssh reaches the guest without a forward: the address of that NIC; NULL: nowhere. Borrowed.
 */
const char *machine_plan_ssh_addr(const MachinePlan *plan);

/* What the seed tells of each NIC, one a NIC of the plan, transfer full; texts belong to the plan
 * or are added to `kept` (with g_free). Pure. */
SeedNic *machine_plan_seed_nics(const MachinePlan *plan, GPtrArray *kept);
