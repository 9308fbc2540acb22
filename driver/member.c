#include "driver/member.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "driver/nets.h"
#include "net/port.h"

char *machine_member_owner(const MachineIdent *ident, unsigned nic)
{
    return g_strdup_printf("%s:%s:%u", ident->store_id, ident->uuid, nic);
}

static void add_map(NetMember *member, bool is_udp, const BaseIp *host, uint16_t host_port,
                    const BaseIp *guest, uint16_t guest_port)
{
    NetPortMap *map = g_new0(NetPortMap, 1);
    *map = (NetPortMap){
        .is_udp = is_udp, .host_port = host_port, .guest = *guest, .guest_port = guest_port};
    if (host && !base_ip_is_wildcard(host)) {
        map->host = *host;
    }
    g_ptr_array_add(member->ports, map);
}

void machine_member_add_port(NetMember *member, const char *proto, const char *host_addr,
                             uint16_t host_port, uint16_t guest_port)
{
    bool is_udp = strcmp(proto, "udp") == 0;
    BaseIp host = {0};
    bool has_host = host_addr && base_ip_parse(host_addr, &host);
    const BaseIp *guests[] = {&member->ip4, &member->ip6};
    for (unsigned i = 0; i < G_N_ELEMENTS(guests); i++) {
        if (base_ip_is_set(guests[i]) && (!has_host || host.n_bytes == guests[i]->n_bytes)) {
            add_map(member, is_udp, has_host ? &host : NULL, host_port, guests[i], guest_port);
        }
    }
}

NetMember *machine_member_of_plan(const MachinePlan *plan, unsigned nic, const MachineBoot *boot)
{
    const PlanNic *from = g_ptr_array_index(plan->nics, nic);
    NetMember *member = net_member_new();
    member->owner = machine_member_owner(plan->ident, nic);
    member->machine = g_strdup(plan->ident->name);
    member->network = g_strdup(from->network);
    member->bridge = g_strdup(from->bridge);
    member->tap = g_strdup(from->tap);
    member->tap_tag = g_strdup(from->tap_tag);
    base_mac_parse(from->mac, member->mac);
    if (from->ip4) {
        base_ip_parse(from->ip4, &member->ip4);
    }
    if (from->ip6) {
        base_ip_parse(from->ip6, &member->ip6);
    }
    member->n_queues = MAX(from->queues, 1);
    member->rate_in_bps = from->rate_in_bps;
    member->rate_out_bps = from->rate_out_bps;
    member->is_link_down = from->is_link_down;
    bool has_ports = boot && machine_plan_port_nic(plan) == (int)nic;
    for (unsigned i = 0; has_ports && i < boot->forwards->len; i++) {
        const MachineForward *f = g_ptr_array_index(boot->forwards, i);
        machine_member_add_port(member, f->proto, f->host_addr, f->host_port, f->guest_port);
    }
    return member;
}

unsigned machine_member_n_maps(const NetMember *member, const char *host_addr)
{
    g_autoptr(NetMember) probe = net_member_new();
    probe->ip4 = member->ip4;
    probe->ip6 = member->ip6;
    machine_member_add_port(probe, "tcp", host_addr, 0, 0);
    return probe->ports->len;
}

void machine_port_range_of(const MachineSpec *spec, uint16_t *first, uint16_t *last)
{
    unsigned own_first, own_last;
    if (spec->port_range && sscanf(spec->port_range, "%u-%u", &own_first, &own_last) == 2) {
        *first = (uint16_t)own_first;
        *last = (uint16_t)own_last;
    }
}

bool machine_port_choose(const char *proto, const char *host_addr, uint16_t first, uint16_t last,
                         uint16_t *out_port, GError **error)
{
    SpecProto kind = strcmp(proto, "udp") == 0 ? SPEC_PROTO_UDP : SPEC_PROTO_TCP;
    for (unsigned port = first; port <= last; port++) {
        if (net_port_probe(host_addr, (uint16_t)port, kind, NULL)) {
            *out_port = (uint16_t)port;
            return true;
        }
    }
    return base_fail(error, VM_ERROR_EXISTS, "no port %s of %u-%u is free at %s", proto, first,
                     last, host_addr);
}

void machine_port_range(const MachineSpec *spec, const MachinePlan *plan, const GPtrArray *open,
                        uint16_t *out_first, uint16_t *out_last)
{
    int index = machine_plan_port_nic(plan);
    const PlanNic *nic = index < 0 ? NULL : g_ptr_array_index(plan->nics, (unsigned)index);
    NetNetwork *network = nic ? machine_nets_find_in(open, nic->network) : NULL;
    const NetNetworkView *view = network ? net_network_view(network) : NULL;
    *out_first = view ? view->port_first : 0;
    *out_last = view ? view->port_last : 0;
    machine_port_range_of(spec, out_first, out_last);
}

void machine_egress_copy(SpecEgress *to, const SpecEgress *from)
{
    g_autofree char *json = from ? spec_egress_to_json(from) : NULL;
    if (json) {
        spec_egress_clear(to);
        spec_egress_from_json(json, to, NULL);
    }
}

/* net/ knows owners, not names. */
void machine_nets_name_holder(MachineHost *host, GError **error)
{
    if (!error || !*error || !strstr((*error)->message, " of state ")) {
        return;
    }
    g_auto(GStrv) names = machine_store_names(host->store, NULL);
    for (unsigned i = 0; names && names[i]; i++) {
        g_autoptr(MachineIdent) ident = machine_ident_new(host->store->dir, names[i]);
        g_autofree char *told =
            g_strdup_printf("machine %s of state %s", ident->uuid, ident->store_id);
        g_autofree char *better = g_strdup_printf("machine '%s'", names[i]);
        if (strstr((*error)->message, told)) {
            g_auto(GStrv) parts = g_strsplit((*error)->message, told, -1);
            g_free((*error)->message);
            (*error)->message = g_strjoinv(better, parts);
            return;
        }
    }
}
