#include "driver/step_net.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "driver/nets.h"
#include "driver/virt_network.h"
#include "net/macvtap.h"
#include "net/rules.h"
#include "net/shape.h"
#include "net/tap.h"

/*
 * How it works: a NIC's lease (its file below the network) is there as long as the machine. While
 * it runs the lease says is_up, which tells the network's supervisor what to mend: so it is said
 * before the first rule or tap is made and taken back before they go. Every step opens the network
 * anew, under its lock; nothing is held between steps.
 */
#define LOCK_MS 20000

static const PlanNic *nic_at(const MachinePlan *plan, unsigned index)
{
    return g_ptr_array_index(plan->nics, index);
}

/* The network of a NIC, locked; NULL without an error when there is none any more. */
static NetNetwork *open_network(MachineHost *host, const PlanNic *nic, GError **error)
{
    NetStore *store = machine_host_nets(host, error);
    GError *problem = NULL;
    NetNetwork *network = store ? net_network_open(store, nic->network, LOCK_MS, &problem) : NULL;
    if (problem && !g_error_matches(problem, VM_ERROR, VM_ERROR_NOT_FOUND)) {
        g_propagate_error(error, problem);
    } else {
        g_clear_error(&problem);
    }
    return network;
}

/* --- lease ------------------------------------------------------------------------------------ */

bool step_lease_apply(StepContext *c, unsigned index, GError **error)
{
    const NetMember *member = g_ptr_array_index(c->nets->members, index);
    NetNetwork *network = machine_nets_find(c->nets, member->network);
    return net_network_put_member(network, member, error);
}

/* Where libvirt keeps the address for us. */
static bool release(MachineHost *host, const MachinePlan *plan, const PlanNic *nic, GError **error)
{
    VirtConn *conn = machine_host_virt(host, plan->uri, error);
    VirtReservation reservation = {
        .network = nic->libvirt_network, .mac = nic->mac, .hostname = plan->hostname};
    if (nic->ip4) {
        base_ip_parse(nic->ip4, &reservation.ip);
    }
    return conn && virt_network_release(conn, &reservation, error);
}

static bool drop_lease(MachineHost *host, const MachinePlan *plan, unsigned index, GError **error)
{
    GError *problem = NULL;
    g_autofree char *owner = machine_member_owner(plan->ident, index);
    g_autoptr(NetNetwork) network = open_network(host, nic_at(plan, index), &problem);
    if (problem) {
        g_propagate_error(error, problem);
        return false;
    }
    return !network || net_network_drop_member(network, owner, error);
}

/* libvirt is asked when the network is closed again: who starts a machine waits for a network with
 * the connection in hand. */
bool step_lease_undo(MachineHost *host, const MachinePlan *plan, int dirfd G_GNUC_UNUSED,
                     unsigned index, GError **error)
{
    const PlanNic *nic = nic_at(plan, index);
    return drop_lease(host, plan, index, error) &&
           (!nic->libvirt_network || release(host, plan, nic, error));
}

/* --- network ---------------------------------------------------------------------------------- */

bool step_network_apply(StepContext *c, unsigned index, GError **error)
{
    const PlanNic *nic = nic_at(c->plan, index);
    g_autoptr(NetMember) member = net_member_copy(g_ptr_array_index(c->nets->members, index));
    member->is_up = true;
    GError *problem = NULL;
    g_autoptr(NetNetwork) network = open_network(c->host, nic, &problem);
    if (!network) {
        g_propagate_error(error, problem);
        return problem ? false
                       : base_fail(error, VM_ERROR_NOT_FOUND, "network '%s' is gone", nic->network);
    }
    if (!net_network_put_member(network, member, error)) {
        return false;
    }
    (void)base_failpoint("network.mid");
    return net_network_up(network, error);
}

bool step_network_undo(MachineHost *host, const MachinePlan *plan, int dirfd G_GNUC_UNUSED,
                       unsigned index, GError **error)
{
    GError *problem = NULL;
    g_autofree char *owner = machine_member_owner(plan->ident, index);
    g_autoptr(NetNetwork) network = open_network(host, nic_at(plan, index), &problem);
    if (problem) {
        g_propagate_error(error, problem);
        return false;
    }
    if (!network) {
        return true;
    }
    const NetMember *there = net_network_member(network, owner);
    if (there && (there->is_up || there->ports->len)) {
        g_autoptr(NetMember) down = net_member_copy(there);
        down->is_up = false;
        g_ptr_array_set_size(down->ports, 0);
        if (!net_network_put_member(network, down, error)) {
            return false;
        }
    }
    g_autofree char *kept = NULL;
    if (!net_network_down_if_unused(network, &kept, error)) {
        return false;
    }
    if (kept) {
        base_log_warning(plan->ident->name, "network", "network '%s' stays up: %s",
                         nic_at(plan, index)->network, kept);
    }
    return true;
}

/* --- filter and ports ------------------------------------------------------------------------- */

static void free_member(void *member)
{
    net_member_free(member);
}

static GPtrArray *members_up(const StepContext *c)
{
    GPtrArray *members = g_ptr_array_new_with_free_func(free_member);
    int port_nic = machine_plan_port_nic(c->plan);
    for (unsigned i = 0; i < c->plan->nics->len; i++) {
        if (!nic_at(c->plan, i)->network) {
            continue;
        }
        NetMember *member = net_member_copy(g_ptr_array_index(c->nets->members, i));
        member->is_up = true;
        g_ptr_array_set_size(member->ports, 0);
        for (unsigned k = 0; port_nic == (int)i && k < c->plan->forwards->len; k++) {
            const PlanForward *f = g_ptr_array_index(c->plan->forwards, k);
            machine_member_add_port(member, f->proto, f->host_addr, f->host_port, f->guest_port);
        }
        g_ptr_array_add(members, member);
    }
    return members;
}

/* The member that has the ports; NULL: none. */
static const NetMember *port_member(const MachinePlan *plan, const GPtrArray *members)
{
    int index = machine_plan_port_nic(plan);
    g_autofree char *owner = index < 0 ? NULL : machine_member_owner(plan->ident, (unsigned)index);
    for (unsigned i = 0; owner && i < members->len; i++) {
        const NetMember *member = g_ptr_array_index(members, i);
        if (strcmp(member->owner, owner) == 0) {
            return member;
        }
    }
    return NULL;
}

static bool put_all(const GPtrArray *open, const GPtrArray *members, GError **error)
{
    for (unsigned i = 0; i < members->len; i++) {
        const NetMember *member = g_ptr_array_index(members, i);
        NetNetwork *network = machine_nets_find_in(open, member->network);
        if (!network) {
            return base_fail(error, VM_ERROR_NOT_FOUND, "network '%s' is gone", member->network);
        }
        if (!net_network_put_member(network, member, error)) {
            return false;
        }
    }
    return true;
}

/* The forwards as they really are: each took one map a family, in the same order. */
static void note_forwards(StepContext *c, const NetMember *member)
{
    unsigned next = 0;
    for (unsigned i = 0; member && i < c->plan->forwards->len; i++) {
        const PlanForward *from = g_ptr_array_index(c->plan->forwards, i);
        unsigned n = machine_member_n_maps(member, from->host_addr);
        if (!n || next >= member->ports->len) {
            continue;
        }
        const NetPortMap *map = g_ptr_array_index(member->ports, next);
        next += n;
        machine_step_forward(c, from, map->host_port);
    }
}

static bool apply_rules(StepContext *c, const GPtrArray *open, GPtrArray *members, GError **error)
{
    uint16_t first, last;
    machine_port_range(c->spec, c->plan, open, &first, &last);
    NetMember *const *list = (NetMember *const *)members->pdata;
    g_autoptr(NetRulesLock) lock = net_rules_lock(LOCK_MS, error);
    if (!lock || !net_rules_ensure_base(error) ||
        !net_rules_choose_ports(list, members->len, first, last, error) ||
        !put_all(open, members, error)) {
        return false;
    }
    (void)base_failpoint("filter.mid");
    return net_rules_apply(list, members->len, NULL, 0, error);
}

/* What the host needs for ports (answers of loopback, forwarding) is switched on with the first. */
bool machine_step_settle_ports(const GPtrArray *open, const GPtrArray *members, GError **error)
{
    for (unsigned i = 0; i < members->len; i++) {
        const NetMember *member = g_ptr_array_index(members, i);
        NetNetwork *network =
            member->ports->len ? machine_nets_find_in(open, member->network) : NULL;
        if (network && !net_network_up(network, error)) {
            return false;
        }
    }
    return true;
}

bool step_filter_apply(StepContext *c, unsigned index G_GNUC_UNUSED, GError **error)
{
    g_autoptr(GPtrArray) open = machine_nets_open(c->host, c->plan, error);
    g_autoptr(GPtrArray) members = members_up(c);
    if (!open || !apply_rules(c, open, members, error)) {
        machine_nets_name_holder(c->host, error);
        return false;
    }
    note_forwards(c, port_member(c->plan, members));
    return machine_step_settle_ports(open, members, error) &&
           machine_boot_save(c->dirfd, c->boot, error);
}

/* What is recorded to be up for each NIC, in the networks' records or, where they are gone, in the
 * machine's own. */
static GPtrArray *members_of_record(const MachinePlan *plan, const GPtrArray *open, int dirfd)
{
    GPtrArray *members = g_ptr_array_new_with_free_func(free_member);
    g_autoptr(MachineBoot) boot = dirfd >= 0 ? machine_boot_load(dirfd, NULL) : NULL;
    for (unsigned i = 0; i < plan->nics->len; i++) {
        const PlanNic *nic = nic_at(plan, i);
        if (!nic->network) {
            continue;
        }
        g_autofree char *owner = machine_member_owner(plan->ident, i);
        NetNetwork *network = machine_nets_find_in(open, nic->network);
        const NetMember *there = network ? net_network_member(network, owner) : NULL;
        g_ptr_array_add(members,
                        there ? net_member_copy(there) : machine_member_of_plan(plan, i, boot));
    }
    return members;
}

bool step_filter_undo(MachineHost *host, const MachinePlan *plan, int dirfd,
                      unsigned index G_GNUC_UNUSED, GError **error)
{
    g_autoptr(GPtrArray) open = machine_nets_open(host, plan, error);
    if (!open) {
        return false;
    }
    g_autoptr(GPtrArray) members = members_of_record(plan, open, dirfd);
    for (unsigned i = 0; i < members->len; i++) {
        NetMember *member = g_ptr_array_index(members, i);
        NetNetwork *network = machine_nets_find_in(open, member->network);
        bool was_up = member->is_up;
        member->is_up = false; /* before the rules go: nobody mends them now */
        if (network && was_up && !net_network_put_member(network, member, error)) {
            return false;
        }
    }
    (void)base_failpoint("undo-filter.mid");
    g_autoptr(NetRulesLock) lock = net_rules_lock(LOCK_MS, error);
    return lock && net_rules_remove((NetMember *const *)members->pdata, members->len, error);
}

/* --- taps ------------------------------------------------------------------------------------- */

static NetMacvtapMode macvtap_mode(SpecMacvtapMode mode)
{
    static const NetMacvtapMode modes[] = {
        [SPEC_MACVTAP_BRIDGE] = NET_MACVTAP_BRIDGE,
        [SPEC_MACVTAP_VEPA] = NET_MACVTAP_VEPA,
        [SPEC_MACVTAP_PRIVATE] = NET_MACVTAP_PRIVATE,
        [SPEC_MACVTAP_PASSTHROUGH] = NET_MACVTAP_PASSTHROUGH,
    };
    G_STATIC_ASSERT(G_N_ELEMENTS(modes) == SPEC_MACVTAP_N);
    return modes[MIN((unsigned)mode, SPEC_MACVTAP_N - 1)];
}

static bool create_macvtap(const PlanNic *nic, GError **error)
{
    NetMacvtap macvtap = {
        .name = nic->tap,
        .owner_tag = nic->tap_tag,
        .lower = nic->macvtap,
        .mode = macvtap_mode(nic->macvtap_mode),
        .mac = nic->mac,
        .mtu = nic->mtu,
        .is_link_down = nic->is_link_down,
    };
    return net_macvtap_create(&macvtap, error);
}

static NetTap tap_of(const MachinePlan *plan, unsigned index)
{
    const PlanNic *nic = nic_at(plan, index);
    return (NetTap){
        .name = nic->tap,
        .owner_tag = nic->tap_tag,
        .bridge = nic->bridge,
        .mac = nic->mac,
        .owner_uid = plan->qemu_uid,
        .owner_gid = plan->qemu_gid,
        .mtu = nic->mtu,
        .n_queues = nic->queues,
        .is_link_down = nic->is_link_down,
        .is_hairpin = machine_plan_port_nic(plan) == (int)index, /* it may call its own port */
    };
}

bool machine_step_make_tap(const MachinePlan *plan, unsigned index, GError **error)
{
    const PlanNic *nic = nic_at(plan, index);
    NetTap tap = tap_of(plan, index);
    if (!(nic->macvtap ? create_macvtap(nic, error) : net_tap_create(&tap, error))) {
        return false;
    }
    (void)base_failpoint("tap.mid");
    return nic->macvtap ||
           net_shape_apply(nic->tap, nic->tap_tag, nic->rate_in_bps, nic->rate_out_bps, error);
}

bool step_tap_apply(StepContext *c, unsigned index, GError **error)
{
    return machine_step_make_tap(c->plan, index, error);
}

static bool remove_tap(const PlanNic *nic, GError **error)
{
    return nic->macvtap ? net_macvtap_remove(nic->tap, nic->tap_tag, error)
                        : net_shape_remove(nic->tap, nic->tap_tag, error) &&
                              net_tap_remove(nic->tap, nic->tap_tag, error);
}

bool step_tap_undo(MachineHost *host G_GNUC_UNUSED, const MachinePlan *plan,
                   int dirfd G_GNUC_UNUSED, unsigned index, GError **error)
{
    GError *problem = NULL;
    if (remove_tap(nic_at(plan, index), &problem)) {
        return true;
    }
    if (g_error_matches(problem, VM_ERROR, VM_ERROR_EXISTS)) {
        g_clear_error(&problem); /* somebody else's link of that name: nothing of ours is there */
        return true;
    }
    g_propagate_error(error, problem);
    return false;
}
