#include "net/rules_internal.h"

#include <string.h>
#include "base/error.h"
#include "net/port.h"

/* All ports of a machine while they are chosen. */
typedef struct {
    NetMember *const *members;
    unsigned n_members;
} Machine;

static bool is_same_place(const NetPortMap *a, const NetPortMap *b)
{
    bool is_overlapping =
        !base_ip_is_set(&a->host) || !base_ip_is_set(&b->host) || base_ip_equal(&a->host, &b->host);
    return a->is_udp == b->is_udp && a->host_port == b->host_port && a->host_port != 0 &&
           a->guest.n_bytes == b->guest.n_bytes && is_overlapping;
}

/* Another port of this machine that has the same host port. NULL: none. */
static const NetPortMap *find_twin(const Machine *machine, const NetPortMap *port)
{
    for (unsigned i = 0; i < machine->n_members; i++) {
        const GPtrArray *ports = machine->members[i]->ports;
        for (unsigned j = 0; j < ports->len; j++) {
            if (ports->pdata[j] != port && is_same_place(ports->pdata[j], port)) {
                return ports->pdata[j];
            }
        }
    }
    return NULL;
}

static bool is_own(const Machine *machine, const char *owner)
{
    for (unsigned i = 0; owner && i < machine->n_members; i++) {
        if (!strcmp(machine->members[i]->owner, owner)) {
            return true;
        }
    }
    return false;
}

/* A process of this host that listens there would hear nothing any more. Binding tells most ports
 * to be free at once; that it fails may have other reasons (a connection of this host's own), which
 * only the list of listeners tells. */
static bool refuse_listener(const NetPortMap *port, GError **error)
{
    char host[BASE_IP_TEXT_BYTES];
    const char *address = base_ip_is_set(&port->host) ? base_ip_format(&port->host, host)
                          : port->guest.n_bytes == 4  ? "0.0.0.0"
                                                      : "::";
    SpecProto proto = port->is_udp ? SPEC_PROTO_UDP : SPEC_PROTO_TCP;
    GError *failure = NULL;
    NetListener listener = {0};
    if (net_port_probe(address, port->host_port, proto, &failure)) {
        return true;
    }
    if (g_error_matches(failure, VM_ERROR, VM_ERROR_NET)) {
        g_propagate_error(error, failure);
        return false;
    }
    g_error_free(failure);
    if (!net_listener_find(address, port->host_port, proto, &listener, error)) {
        return false;
    }
    g_autofree char *text = net_rules_port_text(port);
    g_autofree char *who = listener.pid
                               ? g_strdup_printf("pid %d (%s)", (int)listener.pid, listener.comm)
                               : g_strdup("a process of this host");
    return !listener.is_taken ||
           base_fail(error, VM_ERROR_EXISTS, "port %s is taken by %s - choose another", text, who);
}

/* Nobody but this machine has it. */
static bool check_free(const Machine *machine, const NetMember *member, NetPortMap *port,
                       GError **error)
{
    NetMember one = {.owner = member->owner, .ports = g_ptr_array_new()};
    g_autoptr(GPtrArray) ports = one.ports, elements = net_rules_elements_new();
    g_autofree char *holder = NULL, *text = net_rules_port_text(port);
    NetRulesState state = NET_RULES_ABSENT;
    g_ptr_array_add(ports, port);
    net_rules_port_elements(&one, elements);
    if (!net_rules_look(elements->pdata[0], &state, &holder, NULL, error)) {
        return false;
    }
    if (state == NET_RULES_OURS || (state != NET_RULES_ABSENT && is_own(machine, holder))) {
        return true;
    }
    if (state == NET_RULES_ABSENT) {
        return net_rules_refuse_clash(port, member->owner, error) && refuse_listener(port, error);
    }
    g_autofree char *who = net_rules_owner_text(holder);
    return base_fail(error, VM_ERROR_EXISTS, "port %s is taken by %s - choose another", text, who);
}

static bool check_given(const Machine *machine, GError **error)
{
    for (unsigned i = 0; i < machine->n_members; i++) {
        const NetMember *member = machine->members[i];
        for (unsigned j = 0; j < member->ports->len; j++) {
            NetPortMap *port = member->ports->pdata[j];
            if (port->host_port == 0) {
                continue;
            }
            if (find_twin(machine, port)) {
                g_autofree char *text = net_rules_port_text(port);
                return base_fail(error, VM_ERROR_PORT,
                                 "port %s is mapped twice by this machine - remove one", text);
            }
            if (!check_free(machine, member, port, error)) {
                return false;
            }
        }
    }
    return true;
}

/* --- auto --------------------------------------------------------------------- */

/* The ports that get one number: those of one NIC and one guest port without one. */
static GPtrArray *find_group(const NetMember *member, uint16_t guest_port)
{
    GPtrArray *group = g_ptr_array_new();
    for (unsigned i = 0; i < member->ports->len; i++) {
        NetPortMap *port = member->ports->pdata[i];
        if (port->host_port == 0 && port->guest_port == guest_port) {
            g_ptr_array_add(group, port);
        }
    }
    return group;
}

static void set_group(const GPtrArray *group, uint16_t host_port)
{
    for (unsigned i = 0; i < group->len; i++) {
        ((NetPortMap *)group->pdata[i])->host_port = host_port;
    }
}

/* Is the number that the group has now free for each of it? Failure: not to be told. */
static bool is_group_free(const Machine *machine, const NetMember *member, const GPtrArray *group,
                          bool *out_is_free, GError **error)
{
    for (unsigned i = 0; i < group->len; i++) {
        GError *failure = NULL;
        const NetPortMap *twin = find_twin(machine, group->pdata[i]);
        *out_is_free = !twin && check_free(machine, member, group->pdata[i], &failure);
        if (failure && !g_error_matches(failure, VM_ERROR, VM_ERROR_EXISTS)) {
            g_propagate_error(error, failure);
            return false;
        }
        g_clear_error(&failure);
        if (!*out_is_free) {
            return true;
        }
    }
    return true;
}

/* The same twice would never find a number. */
static bool refuse_twins(const GPtrArray *group, GError **error)
{
    for (unsigned i = 0; i < group->len; i++) {
        for (unsigned j = i + 1; j < group->len; j++) {
            const NetPortMap *a = group->pdata[i], *b = group->pdata[j];
            if (a->is_udp == b->is_udp && a->guest.n_bytes == b->guest.n_bytes &&
                (!base_ip_is_set(&a->host) || !base_ip_is_set(&b->host) ||
                 base_ip_equal(&a->host, &b->host))) {
                return base_fail(error, VM_ERROR_PORT,
                                 "guest port %u/%s is mapped twice by this machine - remove one",
                                 a->guest_port, a->is_udp ? "udp" : "tcp");
            }
        }
    }
    return true;
}

/* Begins at a place of the range that follows from machine and guest port: so most find theirs at
 * the first look, however many there are, and mostly the same after a restart. */
static bool choose_group(const Machine *machine, const NetMember *member, const GPtrArray *group,
                         const uint16_t range[2], GError **error)
{
    uint32_t n_ports = (uint32_t)range[1] - range[0] + 1;
    uint16_t guest_port = ((NetPortMap *)group->pdata[0])->guest_port;
    uint32_t start = (g_str_hash(member->owner) + guest_port * 2654435761u) % n_ports;
    for (uint32_t i = 0; i < n_ports; i++) {
        bool is_free = false;
        set_group(group, (uint16_t)(range[0] + (start + i) % n_ports));
        if (!is_group_free(machine, member, group, &is_free, error)) {
            set_group(group, 0);
            return false;
        }
        if (is_free) {
            return true;
        }
    }
    set_group(group, 0);
    return base_fail(error, VM_ERROR_EXISTS,
                     "no host port from %u to %u is free for guest port %u - widen port_range",
                     range[0], range[1], guest_port);
}

static bool choose_free(const Machine *machine, const uint16_t range[2], GError **error)
{
    for (unsigned i = 0; i < machine->n_members; i++) {
        const NetMember *member = machine->members[i];
        for (unsigned j = 0; j < member->ports->len; j++) {
            const NetPortMap *port = member->ports->pdata[j];
            if (port->host_port != 0) {
                continue;
            }
            g_autoptr(GPtrArray) group = find_group(member, port->guest_port);
            if (!refuse_twins(group, error) ||
                !choose_group(machine, member, group, range, error)) {
                return false;
            }
        }
    }
    return true;
}

bool net_rules_choose_ports(NetMember *const *members, unsigned n_members, uint16_t first,
                            uint16_t last, GError **error)
{
    const Machine machine = {members, n_members};
    const uint16_t range[2] = {MIN(first, last), MAX(first, last)};
    g_autoptr(NetRulesLock) lock = net_rules_lock(NET_RULES_LOCK_MS, error);
    return lock && net_rules_check_ports(members, n_members, error) &&
           check_given(&machine, error) && choose_free(&machine, range, error) &&
           net_rules_check_ports(members, n_members, error);
}
