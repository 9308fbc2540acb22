#include "driver/nets.h"

#include <string.h>

#include "base/error.h"
#include "base/failpoint.h"
#include "driver/member.h"
#include "driver/reserve_note.h"
#include "net/bridge.h"
#include "net/port.h"
#include "net/tap.h"

/*
 * How it works: each NIC is resolved to the name of a network and, where that may have to be made,
 * its definition; then the networks are opened in the order of their names, each once, so that two
 * starts never wait for each other; then each NIC's addresses are chosen among what is free.
 */
#define LOCK_MS 20000

void machine_nets_free(MachineNets *nets)
{
    if (nets) {
        g_ptr_array_unref(nets->open);
        g_ptr_array_unref(nets->members);
        g_ptr_array_unref(nets->texts);
        g_free(nets->nets);
        g_free(nets);
    }
}

static void free_member(void *member)
{
    net_member_free(member);
}

static void close_network(void *network)
{
    net_network_close(network);
}

static MachineNets *nets_new(unsigned n)
{
    MachineNets *nets = g_new0(MachineNets, 1);
    nets->nets = g_new0(PlanNet, n + 1);
    nets->n_nets = n;
    nets->members = g_ptr_array_new_with_free_func(free_member);
    g_ptr_array_set_size(nets->members, (int)n);
    nets->open = g_ptr_array_new_with_free_func(close_network);
    nets->texts = g_ptr_array_new_with_free_func(g_free);
    return nets;
}

/* --- auto ------------------------------------------------------------------------------------- */

static void settle_one(SpecNetwork *network, const HostFacts *facts, const char *wish,
                       char **out_reason)
{
    bool is_wished = wish && *wish;
    g_autofree char *reason = is_wished ? NULL : host_facts_network_reason(facts);
    if (g_strcmp0(wish, "none") == 0) {
        network->kind = SPEC_NET_NONE;
    } else if (reason || g_strcmp0(wish, "user") == 0) {
        network->kind = SPEC_NET_USER;
    } else {
        network->kind = SPEC_NET_MANAGED;
        network->network = g_strdup(is_wished ? wish : "default");
    }
    if (reason) {
        g_free(*out_reason);
        *out_reason = g_steal_pointer(&reason);
    }
}

void machine_nets_settle(MachineSpec *spec, const HostFacts *facts, const char *wish,
                         char **out_reason)
{
    *out_reason = NULL;
    for (unsigned i = 0; i < spec->networks->len; i++) {
        SpecNetwork *network = g_ptr_array_index(spec->networks, i);
        if (network->kind == SPEC_NET_AUTO) {
            settle_one(network, facts, wish, out_reason);
        }
    }
}

/* --- which network ---------------------------------------------------------------------------- */

typedef struct {
    const MachineNetsInput *in;
    BaseReport *report;
    NetStore *store;
    MachineNets *out;
    GPtrArray *wanted; /* of Wanted */
} Look;

/* A network that some NIC is on. */
typedef struct {
    char *name;
    const NetworkSpec *spec; /* borrowed, NULL: it must be there */
    NetworkSpec *own_spec;
    const BasePos *pos; /* of the first NIC that wants it */
} Wanted;

static void wanted_free(void *data)
{
    Wanted *wanted = data;
    g_free(wanted->name);
    spec_network_free(wanted->own_spec);
    g_free(wanted);
}

static const char *keep(Look *look, char *text)
{
    g_ptr_array_add(look->out->texts, text);
    return text;
}

static const NetworkSpec *spec_of(const Look *look, const char *name)
{
    for (unsigned i = 0; i < look->in->spec->network_specs->len; i++) {
        const NetworkSpec *spec = g_ptr_array_index(look->in->spec->network_specs, i);
        if (strcmp(spec->name, name) == 0) {
            return spec;
        }
    }
    return NULL;
}

/* own_spec: transfer full, may be NULL. */
static void want(Look *look, const char *name, NetworkSpec *own_spec, const BasePos *pos)
{
    for (unsigned i = 0; i < look->wanted->len; i++) {
        const Wanted *there = g_ptr_array_index(look->wanted, i);
        if (strcmp(there->name, name) == 0) {
            spec_network_free(own_spec);
            return;
        }
    }
    Wanted *wanted = g_new0(Wanted, 1);
    *wanted = (Wanted){.name = g_strdup(name), .own_spec = own_spec, .pos = pos};
    wanted->spec = own_spec ? own_spec : spec_of(look, name);
    g_ptr_array_add(look->wanted, wanted);
}

static bool has_name(char **names, const char *name)
{
    return g_strv_contains((const char *const *)names, name);
}

/* The managed network that is meant by a bridge: of that name, or whose bridge it is. Transfer
 * full, NULL: none. */
static char *network_of_bridge(const Look *look, const char *bridge)
{
    g_auto(GStrv) names = net_store_names(look->store, NULL);
    if (!names || has_name(names, bridge) || spec_of(look, bridge)) {
        return names ? g_strdup(bridge) : NULL;
    }
    for (unsigned i = 0; names[i]; i++) {
        g_autoptr(NetNetwork) network = net_network_peek(look->store, names[i], NULL);
        const NetNetworkView *view = network ? net_network_view(network) : NULL;
        bool is_implicit = g_str_has_prefix(names[i], "bridge.");
        if (view && !is_implicit && g_strcmp0(view->bridge, bridge) == 0) {
            return g_strdup(names[i]);
        }
    }
    return NULL;
}

/* A bridge of libvirt's: who serves addresses there can keep one for us. */
static bool find_in_libvirt(Look *look, const char *bridge, PlanNet *net, GError **error)
{
    VirtConn *conn = machine_host_virt(look->in->host, NULL, error);
    GError *problem = NULL;
    g_autoptr(VirtNetwork) network = conn ? virt_network_by_bridge(conn, bridge, &problem) : NULL;
    if (network && network->has_dhcp) {
        net->libvirt_network = keep(look, g_strdup(network->name));
    }
    if (problem) {
        g_propagate_error(error, problem);
    }
    return conn && !problem;
}

static bool resolve_bridge(Look *look, SpecNetwork *from, PlanNet *net, GError **error)
{
    g_autofree char *managed = network_of_bridge(look, from->bridge);
    if (managed) {
        net->kind = SPEC_NET_MANAGED;
        net->network = keep(look, g_strdup(managed));
        want(look, managed, NULL, &from->pos);
        return true;
    }
    net->network = keep(look, g_strdup_printf("bridge.%s", from->bridge));
    want(look, net->network, net_network_bridge_spec(from->bridge), &from->pos);
    return find_in_libvirt(look, from->bridge, net, error);
}

static bool resolve(Look *look, unsigned i, GError **error)
{
    SpecNetwork *from = g_ptr_array_index(look->in->spec->networks, i);
    PlanNet *net = &look->out->nets[i];
    net->kind = from->kind;
    if (from->kind == SPEC_NET_BRIDGE) {
        return resolve_bridge(look, from, net, error);
    }
    if (from->kind == SPEC_NET_MANAGED) {
        bool is_default = strcmp(from->network, "default") == 0 && !spec_of(look, "default");
        net->network = from->network;
        want(look, from->network, is_default ? net_network_default_spec() : NULL, &from->pos);
    }
    return true;
}

static int compare_wanted(const void *a, const void *b)
{
    const Wanted *x = *(Wanted *const *)a, *y = *(Wanted *const *)b;
    return strcmp(x->name, y->name);
}

/* --- opening ---------------------------------------------------------------------------------- */

/* `default` and a foreign bridge are made when they are missing; as they are otherwise. */
static NetNetwork *open_one(Look *look, const Wanted *wanted, GError **error)
{
    GError *problem = NULL;
    NetNetwork *network = NULL;
    bool is_asked = wanted->spec && !wanted->own_spec;
    if (!is_asked) {
        network = net_network_open(look->store, wanted->name, LOCK_MS, &problem);
    }
    bool is_missing = g_error_matches(problem, VM_ERROR, VM_ERROR_NOT_FOUND);
    if (wanted->spec && (is_asked || is_missing)) {
        g_clear_error(&problem);
        network = net_network_define(look->store, wanted->spec, LOCK_MS, look->report, &problem);
    } else if (is_missing) {
        base_report_error(look->report, VM_ERROR_NOT_FOUND, wanted->pos,
                          "`vm-run network ls` lists them, `vm-run network add` makes one",
                          "networks: there is no network '%s'", wanted->name);
        g_clear_error(&problem);
    }
    if (!network && problem) {
        g_propagate_error(error, problem);
    } else if (!network) {
        base_report_check(look->report, error);
    }
    return network;
}

static bool open_all(Look *look, GError **error)
{
    g_ptr_array_sort(look->wanted, compare_wanted);
    for (unsigned i = 0; i < look->wanted->len; i++) {
        NetNetwork *network = open_one(look, g_ptr_array_index(look->wanted, i), error);
        if (!network) {
            return false;
        }
        g_ptr_array_add(look->out->open, network);
    }
    return true;
}

/* --- choosing --------------------------------------------------------------------------------- */

static NetMember *member_new(const Look *look, unsigned i, const NetNetworkView *view)
{
    const SpecNetwork *from = g_ptr_array_index(look->in->spec->networks, i);
    const MachineIdent *ident = look->in->ident;
    g_autofree char *mac = from->mac ? g_strdup(from->mac) : net_mac_for(ident->uuid, i);
    g_autofree char *tag_owner = g_strdup_printf("%s:%s", ident->store_id, ident->uuid);
    NetMember *member = net_member_new();
    member->owner = machine_member_owner(ident, i);
    member->machine = g_strdup(ident->name);
    member->hostname = g_strcmp0(look->in->spec->hostname, ident->name) == 0
                           ? NULL
                           : g_strdup(look->in->spec->hostname);
    member->network = g_strdup(view->name);
    member->bridge = g_strdup(view->bridge);
    member->tap = net_tap_name(ident->uuid, i);
    member->tap_tag = net_tap_owner_tag(tag_owner, i);
    base_mac_parse(mac, member->mac);
    member->is_ip4_fixed = from->ip && base_ip_parse(from->ip, &member->ip4);
    member->is_ip6_fixed = from->ip6 && base_ip_parse(from->ip6, &member->ip6);
    member->rate_in_bps = from->rate_in_bps;
    member->rate_out_bps = from->rate_out_bps;
    member->n_queues = MAX(from->queues, 1);
    member->is_link_down = from->is_link_down;
    machine_egress_copy(&member->egress, &look->in->spec->egress);
    machine_egress_copy(&member->net_egress, view->egress);
    return member;
}

/* The longest prefix of this host that has the address: what else could a guest use there? */
static uint8_t prefix_of_host(const BaseIp *ip)
{
    g_autoptr(GArray) routes = base_ip_is_set(ip) ? net_route_list(NULL) : NULL;
    uint8_t n_bits = 0;
    for (unsigned i = 0; routes && i < routes->len; i++) {
        const BaseCidr *route = &g_array_index(routes, BaseCidr, i);
        bool is_host = route->n_bits == ip->n_bytes * 8;
        if (!is_host && route->n_bits > n_bits && base_cidr_contains(route, ip)) {
            n_bits = route->n_bits;
        }
    }
    return n_bits;
}

static uint8_t prefix_for(const BaseIp *ip, const BaseCidr *cidr)
{
    if (!base_ip_is_set(ip)) {
        return 0;
    }
    return base_ip_is_set(&cidr->ip) ? cidr->n_bits : prefix_of_host(ip);
}

/* Who answers for names: the network itself, else what its definition names. */
static const char *const *nameservers_of(Look *look, const NetNetworkView *view)
{
    GPtrArray *servers = g_ptr_array_new();
    char text[BASE_IP_TEXT_BYTES];
    const BaseIp *own[] = {&view->gateway4, &view->gateway6};
    for (unsigned i = 0; view->is_ours && view->has_dns && i < G_N_ELEMENTS(own); i++) {
        if (base_ip_is_set(own[i])) {
            g_ptr_array_add(servers, (char *)keep(look, g_strdup(base_ip_format(own[i], text))));
        }
    }
    for (unsigned i = 0; !servers->len && view->dns_servers && i < view->dns_servers->len; i++) {
        const char *server = g_ptr_array_index(view->dns_servers, i);
        g_ptr_array_add(servers, (char *)keep(look, g_strdup(server)));
    }
    bool is_empty = servers->len == 0;
    g_ptr_array_add(servers, NULL);
    const char *const *list = (const char *const *)g_ptr_array_free(servers, FALSE);
    keep(look, (char *)list);
    return is_empty ? NULL : list;
}

static void fill_net(Look *look, PlanNet *net, const NetMember *member, const NetNetworkView *view)
{
    bool is_isolated = view->mode == SPEC_NET_MODE_ISOLATED; /* nothing lies behind its gateway */
    net->bridge = keep(look, g_strdup(view->bridge));
    net->domain = view->domain ? keep(look, g_strdup(view->domain)) : NULL;
    net->ip4 = member->ip4;
    net->ip6 = member->ip6;
    net->n_bits4 = net->libvirt_network ? 0 : prefix_for(&member->ip4, &view->cidr4);
    net->n_bits6 = prefix_for(&member->ip6, &view->cidr6);
    if (!is_isolated && base_ip_is_set(&member->ip4)) {
        net->gateway4 = view->gateway4;
    }
    if (!is_isolated && base_ip_is_set(&member->ip6)) {
        net->gateway6 = view->gateway6;
    }
    net->nameservers = nameservers_of(look, view);
    net->mtu = view->mtu == 1500 ? 0 : view->mtu;
}

/* libvirt chooses, or takes what was asked for. */
static bool reserve(Look *look, const PlanNet *net, NetMember *member, GError **error)
{
    char mac[18];
    const MachineNetsInput *in = look->in;
    VirtConn *conn = machine_host_virt(in->host, NULL, error);
    VirtReservation reservation = {.network = net->libvirt_network,
                                   .mac = base_mac_format(member->mac, mac),
                                   .ip = member->ip4,
                                   .hostname = in->spec->hostname};
    if (!conn ||
        (in->is_new && !machine_reserve_note(in->host, in->ident->name, &reservation, error))) {
        return false;
    }
    look->out->has_reserved |= in->is_new;
    bool is_ok = virt_network_reserve(conn, &reservation, &member->ip4, error);
    (void)base_failpoint("reserve.after");
    return is_ok;
}

/* A mistake of the NIC's, with its place. */
static bool refuse(Look *look, const SpecNetwork *from, GError *problem, GError **error)
{
    base_report_error(look->report, (VmError)problem->code, &from->pos, NULL, "networks: %s",
                      problem->message);
    g_error_free(problem);
    base_report_check(look->report, error);
    return false;
}

static bool choose(Look *look, unsigned i, GError **error)
{
    PlanNet *net = &look->out->nets[i];
    const SpecNetwork *from = g_ptr_array_index(look->in->spec->networks, i);
    NetNetwork *network = machine_nets_find(look->out, net->network);
    const NetNetworkView *view = net_network_view(network);
    NetMember *member = member_new(look, i, view);
    look->out->members->pdata[i] = member;
    GError *problem = NULL;
    if ((net->libvirt_network && !reserve(look, net, member, &problem)) ||
        !net_network_choose(network, member, &problem)) {
        return refuse(look, from, problem, error);
    }
    fill_net(look, net, member, view);
    return true;
}

static bool look_at_all(Look *look, GError **error)
{
    for (unsigned i = 0; i < look->out->n_nets; i++) {
        if (!resolve(look, i, error)) {
            return false;
        }
    }
    if (!open_all(look, error)) {
        return false;
    }
    for (unsigned i = 0; i < look->out->n_nets; i++) {
        if (look->out->nets[i].network && !choose(look, i, error)) {
            return false;
        }
    }
    return true;
}

static bool has_any(const MachineSpec *spec)
{
    for (unsigned i = 0; i < spec->networks->len; i++) {
        SpecNetKind kind = ((const SpecNetwork *)g_ptr_array_index(spec->networks, i))->kind;
        if (kind == SPEC_NET_MANAGED || kind == SPEC_NET_BRIDGE) {
            return true;
        }
    }
    return false;
}

MachineNets *machine_nets_look(const MachineNetsInput *input, BaseReport *report, GError **error)
{
    g_autoptr(MachineNets) out = nets_new(input->spec->networks->len);
    g_autoptr(GPtrArray) wanted = g_ptr_array_new_with_free_func(wanted_free);
    for (unsigned i = 0; i < out->n_nets; i++) {
        out->nets[i].kind = ((SpecNetwork *)g_ptr_array_index(input->spec->networks, i))->kind;
    }
    if (!has_any(input->spec) || input->facts->kind == VIRT_KIND_TEST) {
        return g_steal_pointer(&out);
    }
    Look look = {input, report, machine_host_nets(input->host, error), out, wanted};
    if (!look.store) {
        return NULL;
    }
    if (!look_at_all(&look, error)) {
        machine_nets_abandon(out, input->host, input->ident->name, error);
        return NULL;
    }
    return g_steal_pointer(&out);
}

/* --- afterwards ------------------------------------------------------------------------------- */

NetNetwork *machine_nets_find_in(const GPtrArray *open, const char *name)
{
    for (unsigned i = 0; open && i < open->len; i++) {
        NetNetwork *network = g_ptr_array_index(open, i);
        if (g_strcmp0(net_network_view(network)->name, name) == 0) {
            return network;
        }
    }
    return NULL;
}

NetNetwork *machine_nets_find(const MachineNets *nets, const char *name)
{
    return machine_nets_find_in(nets->open, name);
}

void machine_nets_unlock(MachineNets *nets)
{
    if (nets) {
        g_ptr_array_set_size(nets->open, 0);
    }
}

void machine_nets_abandon(MachineNets *nets, MachineHost *host, const char *name, GError **error)
{
    g_autoptr(GError) left = NULL;
    for (unsigned i = 0; i < nets->open->len; i++) {
        net_network_end_if_empty(g_ptr_array_index(nets->open, i), NULL);
    }
    machine_nets_unlock(nets);
    if (nets->has_reserved && !machine_reserve_settle(host, name, &left)) {
        g_prefix_error(error, "[not all could be undone: %s; run `vm-run gc`] ", left->message);
    }
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

GPtrArray *machine_nets_open(MachineHost *host, const MachinePlan *plan, GError **error)
{
    g_autoptr(GPtrArray) open = g_ptr_array_new_with_free_func(close_network);
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    for (unsigned i = 0; i < plan->nics->len; i++) {
        const PlanNic *nic = g_ptr_array_index(plan->nics, i);
        if (nic->network &&
            !g_ptr_array_find_with_equal_func(names, nic->network, g_str_equal, NULL)) {
            g_ptr_array_add(names, nic->network);
        }
    }
    g_ptr_array_sort(names, compare_names);
    NetStore *store = names->len ? machine_host_nets(host, error) : NULL;
    if (names->len && !store) {
        return NULL;
    }
    for (unsigned i = 0; i < names->len; i++) {
        GError *problem = NULL;
        NetNetwork *network =
            net_network_open(store, g_ptr_array_index(names, i), LOCK_MS, &problem);
        if (network) {
            g_ptr_array_add(open, network);
        } else if (!g_error_matches(problem, VM_ERROR, VM_ERROR_NOT_FOUND)) {
            g_propagate_error(error, problem);
            return NULL;
        }
        g_clear_error(&problem);
    }
    return g_steal_pointer(&open);
}
