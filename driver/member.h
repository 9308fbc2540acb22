#pragma once
#include "driver/host.h"
#include "net/network.h"

/*
 * A machine's NIC as its network knows it (net/member.h), made from the machine's own record, and
 * its ports: what steps, undo and live changes share.
 */

/* "<store id>:<uuid>:<nic>". Transfer full. */
char *machine_member_owner(const MachineIdent *ident, unsigned nic);
/* The member as the record tells it, with the ports that really are (boot may be NULL: none);
 * without egress, which its network's record has. Transfer full. */
NetMember *machine_member_of_plan(const MachinePlan *plan, unsigned nic, const MachineBoot *boot);
/* Appends what leads to this NIC by one forward: one map a family. */
void machine_member_add_port(NetMember *member, const char *proto, const char *host_addr,
                             uint16_t host_port, uint16_t guest_port);
/* How many that are. */
unsigned machine_member_n_maps(const NetMember *member, const char *host_addr);

/* Where `auto` host ports come from: the machine's own range, else that of its ports' network. */
void machine_port_range(const MachineSpec *spec, const MachinePlan *plan, const GPtrArray *open,
                        uint16_t *out_first, uint16_t *out_last);
/* The machine's own range; without one both stay as they are. */
void machine_port_range_of(const MachineSpec *spec, uint16_t *first, uint16_t *last);
/* The first port of [first, last] that is free there right now: for forwards of QEMU's, which bind
 * it a moment later. EXISTS: none is. */
bool machine_port_choose(const char *proto, const char *host_addr, uint16_t first, uint16_t last,
                         uint16_t *out_port, GError **error);
void machine_egress_copy(SpecEgress *to, const SpecEgress *from);
/* In a message of net/ that names a machine of this state directory by its uuid, its name instead.
 */
void machine_nets_name_holder(MachineHost *host, GError **error);
