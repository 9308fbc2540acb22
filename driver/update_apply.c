#include "driver/update_internal.h"

#include <string.h>

#include "base/error.h"
#include "base/failpoint.h"
#include "driver/forward.h"
#include "driver/step_net.h"
#include "net/rules.h"
#include "net/shape.h"

#define LOCK_MS         20000
#define USER_PORT_FIRST 20000 /* where the machine names no range of its own */
#define USER_PORT_LAST  29999

static const PlanNic *nic_at(const MachinePlan *plan, unsigned index)
{
    return g_ptr_array_index(plan->nics, index);
}

static void free_member(void *member)
{
    net_member_free(member);
}

/* --- networks: records, rules, ports ---------------------------------------------------------- */

/* The stored member with what can change live, taken from the state. */
static NetMember *member_of(const MachineState *state, unsigned nic, const NetMember *stored,
                            bool is_running)
{
    g_autoptr(NetMember) told = machine_member_of_plan(state->plan, nic, state->boot);
    NetMember *member = stored ? net_member_copy(stored) : g_steal_pointer(&told);
    if (told) {
        GPtrArray *ports = member->ports;
        member->ports = told->ports;
        told->ports = ports;
        member->rate_in_bps = told->rate_in_bps;
        member->rate_out_bps = told->rate_out_bps;
        member->is_link_down = told->is_link_down;
    }
    member->is_up = is_running;
    machine_egress_copy(&member->egress, &state->spec->egress);
    return member;
}

typedef struct {
    GPtrArray *open, *old, *new; /* of NetNetwork, NetMember, NetMember */
} Members;

static void members_clear(Members *m)
{
    g_clear_pointer(&m->open, g_ptr_array_unref);
    g_clear_pointer(&m->old, g_ptr_array_unref);
    g_clear_pointer(&m->new, g_ptr_array_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Members, members_clear)

static bool members_load(const MachineTransition *t, Members *m, GError **error)
{
    m->open = machine_nets_open(t->host, t->to->plan, error);
    m->old = g_ptr_array_new_with_free_func(free_member);
    m->new = g_ptr_array_new_with_free_func(free_member);
    for (unsigned i = 0; m->open && i < t->to->plan->nics->len; i++) {
        const PlanNic *nic = nic_at(t->to->plan, i);
        NetNetwork *network = nic->network ? machine_nets_find_in(m->open, nic->network) : NULL;
        g_autofree char *owner = machine_member_owner(t->to->plan->ident, i);
        const NetMember *stored = network ? net_network_member(network, owner) : NULL;
        if (stored) {
            g_ptr_array_add(m->new, member_of(t->to, i, stored, t->is_running));
            g_ptr_array_add(m->old, net_member_copy(stored));
        }
    }
    return m->open;
}

static bool members_put(const Members *m, GError **error)
{
    for (unsigned i = 0; i < m->new->len; i++) {
        const NetMember *member = g_ptr_array_index(m->new, i);
        NetNetwork *network = machine_nets_find_in(m->open, member->network);
        /* first ports may need forwarding: up again writes what differs */
        if (!net_network_put_member(network, member, error) ||
            (member->is_up && !net_network_up(network, error))) {
            return false;
        }
    }
    return true;
}

/* What was chosen, back into the boot. */
static void note_ports(const MachineTransition *t, const Members *m)
{
    int index = machine_plan_port_nic(t->to->plan);
    g_autofree char *owner = machine_member_owner(t->to->plan->ident, (unsigned)MAX(index, 0));
    unsigned next = 0;
    for (unsigned i = 0; i < m->new->len; i++) {
        const NetMember *member = g_ptr_array_index(m->new, i);
        for (unsigned k = 0; strcmp(member->owner, owner) == 0 && k < t->to->boot->forwards->len;
             k++) {
            MachineForward *f = g_ptr_array_index(t->to->boot->forwards, k);
            unsigned n = machine_member_n_maps(member, f->host_addr);
            if (n && next < member->ports->len) {
                f->host_port = ((NetPortMap *)g_ptr_array_index(member->ports, next))->host_port;
            }
            next += n;
        }
    }
}

static bool choose_ports(const MachineTransition *t, const Members *m, GError **error)
{
    uint16_t first, last;
    machine_port_range(t->to->spec, t->to->plan, m->open, &first, &last);
    if (!net_rules_choose_ports((NetMember *const *)m->new->pdata, m->new->len, first, last,
                                error)) {
        return false;
    }
    note_ports(t, m);
    return true;
}

static bool intend(const MachineTransition *t, GError **error)
{
    return !t->intend || t->intend(t->to, t->data, error);
}

/* QEMU is gone, and its boot was not undone yet: what either state has goes. */
static bool end_rules(const Members *m, GError **error)
{
    g_autoptr(NetRulesLock) lock = net_rules_lock(LOCK_MS, error);
    NetMember *const *old = (NetMember *const *)m->old->pdata;
    NetMember *const *new = (NetMember *const *)m->new->pdata;
    return lock && net_rules_remove(old, m->old->len, error) &&
           net_rules_remove(new, m->new->len, error);
}

/* What doesn't run has no ports; they are chosen when it starts. */
static bool change_records(const MachineTransition *t, const Members *m, GError **error)
{
    if (t->to->boot && m->new->len && !end_rules(m, error)) {
        return false;
    }
    for (unsigned i = 0; i < m->new->len; i++) {
        g_ptr_array_set_size(((NetMember *)g_ptr_array_index(m->new, i))->ports, 0);
    }
    return intend(t, error) && members_put(m, error);
}

/* Under the networks' and the rules' locks, so that what was chosen is still free. */
static bool change_networks(const MachineTransition *t, GError **error)
{
    g_auto(Members) m = {NULL, NULL, NULL};
    if (!members_load(t, &m, error)) {
        return false;
    }
    if (!t->is_running || m.new->len == 0) {
        return change_records(t, &m, error);
    }
    g_autoptr(NetRulesLock) lock = net_rules_lock(LOCK_MS, error);
    if (!lock || !choose_ports(t, &m, error) || !intend(t, error) || !members_put(&m, error)) {
        return false;
    }
    (void)base_failpoint("update.mid");
    return net_rules_apply((NetMember *const *)m.new->pdata, m.new->len,
                           (NetMember *const *)m.old->pdata, m.old->len, error) &&
           machine_step_settle_ports(m.open, m.new, error);
}

/* --- taps ------------------------------------------------------------------------------------- */

static bool change_tap(const MachineTransition *t, unsigned index, GError **error)
{
    const PlanNic *nic = nic_at(t->to->plan, index);
    const PlanNic *old = nic_at(t->from->plan, index);
    if (nic->tap && !machine_step_make_tap(t->to->plan, index, error)) {
        return false;
    }
    if (nic->is_link_down == old->is_link_down) {
        return true;
    }
    VirtConn *conn = machine_host_virt(t->host, t->to->plan->uri, error);
    return conn &&
           virt_set_link(conn, t->to->plan->ident->uuid, nic->mac, !nic->is_link_down, error);
}

/* --- the user network: QEMU's own forwards ---------------------------------------------------- */

typedef struct {
    VirtConn *conn;
    const char *uuid;
} Monitor;

static char *run_line(void *data, const char *line, GError **error)
{
    const Monitor *monitor = data;
    return virt_monitor(monitor->conn, monitor->uuid, line, error);
}

static bool has_forward(const GPtrArray *forwards, const MachineForward *wanted)
{
    for (unsigned i = 0; i < forwards->len; i++) {
        const MachineForward *f = g_ptr_array_index(forwards, i);
        if (strcmp(f->proto, wanted->proto) == 0 && strcmp(f->host_addr, wanted->host_addr) == 0 &&
            f->host_port == wanted->host_port && f->guest_port == wanted->guest_port) {
            return true;
        }
    }
    return false;
}

static bool change_forward(const MachineMonitor *monitor, const char *netdev,
                           const MachineForward *f, bool is_added, GError **error)
{
    MachineHostForward forward = {netdev, f->proto, f->host_addr, f->host_port, f->guest_port};
    return is_added ? machine_host_forward_add(monitor, &forward, NULL, error)
                    : machine_host_forward_remove(monitor, &forward, error);
}

/* Those of `list` that `other` has not. */
static bool change_forwards_of(const MachineMonitor *monitor, const char *netdev,
                               const GPtrArray *list, const GPtrArray *other, bool is_added,
                               GError **error)
{
    for (unsigned i = 0; i < list->len; i++) {
        const MachineForward *f = g_ptr_array_index(list, i);
        if (!has_forward(other, f) && !change_forward(monitor, netdev, f, is_added, error)) {
            return false;
        }
    }
    return true;
}

/* QEMU takes no forward twice: those that go make room first. */
static bool change_forwards(const MachineTransition *t, GError **error)
{
    const GPtrArray *from = t->from->boot->forwards, *to = t->to->boot->forwards;
    const PlanNic *nic = machine_plan_user_nic(t->to->plan);
    VirtConn *conn = machine_host_virt(t->host, t->to->plan->uri, error);
    Monitor data = {conn, t->to->plan->ident->uuid};
    MachineMonitor monitor = {run_line, &data};
    return conn && change_forwards_of(&monitor, nic->netdev, from, to, false, error) &&
           change_forwards_of(&monitor, nic->netdev, to, from, true, error);
}

static bool choose_user_ports(const MachineTransition *t, GError **error)
{
    for (unsigned i = 0; i < t->to->boot->forwards->len; i++) {
        MachineForward *f = g_ptr_array_index(t->to->boot->forwards, i);
        uint16_t first = USER_PORT_FIRST, last = USER_PORT_LAST;
        machine_port_range_of(t->to->spec, &first, &last);
        if (f->host_port == 0 &&
            !machine_port_choose(f->proto, f->host_addr, first, last, &f->host_port, error)) {
            return false;
        }
    }
    return true;
}

bool machine_transition(const MachineTransition *t, GError **error)
{
    int port_nic = machine_plan_port_nic(t->to->plan);
    bool has_user_ports = t->is_running && port_nic >= 0 &&
                          nic_at(t->to->plan, (unsigned)port_nic)->kind == SPEC_NET_USER;
    if (has_user_ports && !choose_user_ports(t, error)) {
        return false;
    }
    if (!change_networks(t, error)) {
        return false;
    }
    for (unsigned i = 0; t->is_running && i < t->to->plan->nics->len; i++) {
        if (!change_tap(t, i, error)) {
            return false;
        }
    }
    return !has_user_ports || change_forwards(t, error);
}
