#include "driver/plan_internal.h"

#include <string.h>

#include "net/macvtap.h"
#include "net/port.h"
#include "net/tap.h"

/*
 * The part of the plan that concerns the network: its NICs with the addresses that looking gave,
 * and the ports that lead to them.
 */

/* --- NICs ------------------------------------------------------------------------------------- */

static char *ip_text(const BaseIp *ip)
{
    char text[BASE_IP_TEXT_BYTES];
    return base_ip_is_set(ip) ? g_strdup(base_ip_format(ip, text)) : NULL;
}

static void nic_set_tap(PlanNic *nic, const MachineIdent *ident, unsigned index)
{
    g_autofree char *owner = g_strdup_printf("%s:%s", ident->store_id, ident->uuid);
    nic->tap = nic->kind == SPEC_NET_MACVTAP ? net_macvtap_name(ident->uuid, index)
                                             : net_tap_name(ident->uuid, index);
    nic->tap_tag = net_tap_owner_tag(owner, index);
}

/* is_default_route: whether the guest's way out is by this NIC. */
static void nic_set_net(PlanNic *nic, const PlanNet *net, bool is_default_route)
{
    nic->network = g_strdup(net->network);
    nic->bridge = g_strdup(net->bridge);
    nic->libvirt_network = g_strdup(net->libvirt_network);
    nic->ip4 = ip_text(&net->ip4);
    nic->ip6 = ip_text(&net->ip6);
    nic->prefix4 = net->n_bits4;
    nic->prefix6 = net->n_bits6;
    nic->gateway4 = is_default_route ? ip_text(&net->gateway4) : NULL;
    nic->gateway6 = is_default_route ? ip_text(&net->gateway6) : NULL;
    nic->nameservers = g_strdupv((char **)net->nameservers);
    nic->domain = g_strdup(net->domain);
    nic->mtu = net->mtu;
}

static void check_netns(const MachinePlan *plan, const SpecNetwork *from, const PlanInput *in,
                        BaseReport *report)
{
    if (!in->facts->is_netns_shared && !plan->is_test_driver) {
        base_report_error(
            report, VM_ERROR_HOST, &from->pos,
            "use the embedded driver here: --connect 'qemu:///embed?root=...' or no --connect",
            "networks: libvirtd lives in another network namespace, so its QEMU can't see a "
            "tap made here");
    }
}

/* What QEMU's own router can't do, where `auto` came to it. */
static void check_user(const SpecNetwork *from, const PlanInput *in, BaseReport *report)
{
    const char *what = from->ip || from->ip6                     ? "a fixed address"
                       : from->rate_in_bps || from->rate_out_bps ? "a limit of its rate"
                       : from->queues > 1                        ? "several queues"
                                                                 : NULL;
    if (what) {
        base_report_error(report, VM_ERROR_NET, &from->pos, NULL,
                          "networks: the user network has not %s%s%s", what,
                          in->net_reason ? ", and no other works here: " : "",
                          in->net_reason ? in->net_reason : "");
    }
}

static void plan_nic(MachinePlan *plan, const SpecNetwork *from, const PlanNet *net,
                     const PlanInput *in, BaseReport *report)
{
    SpecNetKind kind = net ? net->kind : from->kind == SPEC_NET_AUTO ? SPEC_NET_USER : from->kind;
    if (kind == SPEC_NET_NONE) {
        return;
    }
    unsigned index = plan->nics->len;
    PlanNic *nic = g_new0(PlanNic, 1);
    nic->kind = kind;
    nic->mac = from->mac ? g_strdup(from->mac) : net_mac_for(plan->ident->uuid, index);
    nic->netdev = g_strdup_printf("hostnet%u", index);
    nic->is_link_down = from->is_link_down;
    if (kind == SPEC_NET_USER) {
        check_user(from, in, report);
    } else {
        nic->queues = from->queues > 1 ? from->queues : 0;
        nic->is_vhost = in->facts->has_vhost_net && plan->accel == SPEC_ACCEL_KVM;
        nic->rate_in_bps = from->rate_in_bps;
        nic->rate_out_bps = from->rate_out_bps;
        nic_set_tap(nic, plan->ident, index);
        check_netns(plan, from, in, report);
    }
    if (kind == SPEC_NET_MACVTAP) {
        nic->macvtap = g_strdup(from->macvtap);
        nic->macvtap_mode = from->macvtap_mode;
    } else if (net) {
        nic_set_net(nic, net, from->is_default_route);
    } else if (kind == SPEC_NET_BRIDGE) {
        nic->bridge = g_strdup(from->bridge);
    }
    g_ptr_array_add(plan->nics, nic);
}

void machine_plan_check_egress(const MachinePlan *plan, const PlanInput *in, BaseReport *report)
{
    bool has_filter = plan->is_test_driver || spec_egress_is_open(&in->spec->egress);
    for (unsigned i = 0; i < plan->nics->len; i++) {
        has_filter |= ((PlanNic *)g_ptr_array_index(plan->nics, i))->network != NULL;
    }
    if (!has_filter) {
        base_report_error(report, VM_ERROR_NET, spec_machine_origin(in->spec, "egress"),
                          "choose a network for it by 'networks'",
                          "egress: the machine has no NIC on a managed network or a bridge%s%s",
                          in->net_reason ? ": " : "", in->net_reason ? in->net_reason : "");
    }
}

void machine_plan_nics(MachinePlan *plan, const PlanInput *in, BaseReport *report)
{
    for (unsigned i = 0; i < in->spec->networks->len; i++) {
        plan_nic(plan, g_ptr_array_index(in->spec->networks, i), in->nets ? &in->nets[i] : NULL, in,
                 report);
    }
    machine_plan_check_egress(plan, in, report);
}

const PlanNic *machine_plan_user_nic(const MachinePlan *plan)
{
    for (unsigned i = 0; i < plan->nics->len; i++) {
        const PlanNic *nic = g_ptr_array_index(plan->nics, i);
        if (nic->kind == SPEC_NET_USER) {
            return nic;
        }
    }
    return NULL;
}

/* Answers leave by the default route: a NIC that has it is better than the first one. */
int machine_plan_port_nic(const MachinePlan *plan)
{
    int first = -1;
    for (unsigned i = 0; i < plan->nics->len; i++) {
        const PlanNic *nic = g_ptr_array_index(plan->nics, i);
        bool has_address = nic->network && (nic->ip4 || nic->ip6);
        if (nic->kind == SPEC_NET_USER || (has_address && (nic->gateway4 || nic->gateway6))) {
            return (int)i;
        }
        first = first < 0 && has_address ? (int)i : first;
    }
    return first;
}

const char *machine_plan_ssh_addr(const MachinePlan *plan)
{
    int index = machine_plan_port_nic(plan);
    const PlanNic *nic = index < 0 ? NULL : g_ptr_array_index(plan->nics, index);
    return nic ? (nic->ip4 ? nic->ip4 : nic->ip6) : NULL;
}

/* --- ports ------------------------------------------------------------------------------------ */

static void add_forward(MachinePlan *plan, const SpecPort *from, unsigned offset, const char *proto,
                        const char *usual_addr)
{
    PlanForward *forward = g_new0(PlanForward, 1);
    forward->proto = g_strdup(proto);
    forward->host_addr = g_strdup(from->host_addr ? from->host_addr : usual_addr);
    forward->host_port = (uint16_t)(from->host_first ? from->host_first + offset : 0);
    forward->guest_port = (uint16_t)(from->guest_first + offset);
    forward->pos = from->pos;
    forward->pos.file = g_strdup(from->pos.file);
    g_ptr_array_add(plan->forwards, forward);
}

static void add_range(MachinePlan *plan, const SpecPort *port, const char *usual_addr)
{
    unsigned n = (unsigned)(port->guest_last - port->guest_first) + 1u;
    for (unsigned k = 0; k < n; k++) {
        if (port->proto != SPEC_PROTO_UDP) {
            add_forward(plan, port, k, "tcp", usual_addr);
        }
        if (port->proto != SPEC_PROTO_TCP) {
            add_forward(plan, port, k, "udp", usual_addr);
        }
    }
}

static void add_ssh_forward(MachinePlan *plan)
{
    PlanForward *ssh = g_new0(PlanForward, 1);
    ssh->proto = g_strdup("tcp");
    ssh->host_addr = g_strdup("127.0.0.1");
    ssh->guest_port = 22;
    ssh->is_ssh = true;
    g_ptr_array_add(plan->forwards, ssh);
}

/* An address of one family leads to a guest that has one of it. */
static void check_family(const PlanNic *nic, const SpecPort *port, BaseReport *report)
{
    BaseIp host;
    if (nic->kind == SPEC_NET_USER || !port->host_addr || !base_ip_parse(port->host_addr, &host)) {
        return;
    }
    bool is_ip6 = host.n_bytes == 16;
    if (!(is_ip6 ? nic->ip6 : nic->ip4)) {
        base_report_error(report, VM_ERROR_NET, &port->pos, "leave the host's address out",
                          "ports: '%s' is an address of IPv%d, and the machine has none of that "
                          "on network '%s'",
                          port->host_addr, is_ip6 ? 6 : 4, nic->network);
    }
}

void machine_plan_forwards(MachinePlan *plan, const PlanInput *in, BaseReport *report)
{
    const GPtrArray *ports = in->spec->ports;
    int index = machine_plan_port_nic(plan);
    if (index < 0) {
        if (ports->len && plan->nics->len && !plan->is_test_driver) {
            const SpecPort *port = g_ptr_array_index(ports, 0);
            base_report_error(report, VM_ERROR_NET, &port->pos,
                              "give the NIC an address: 'ip=ADDRESS'",
                              "ports: no address of the machine is known before it boots");
        }
        return;
    }
    const PlanNic *nic = g_ptr_array_index(plan->nics, index);
    if (nic->kind == SPEC_NET_USER) {
        add_ssh_forward(plan);
    }
    for (unsigned i = 0; i < ports->len; i++) {
        const SpecPort *port = g_ptr_array_index(ports, i);
        check_family(nic, port, report);
        add_range(plan, port, nic->kind == SPEC_NET_USER ? "127.0.0.1" : "*");
    }
}

/* --- what the guest is told ------------------------------------------------------------------- */

static void add_address(GPtrArray *list, const char *ip, unsigned prefix, GPtrArray *kept)
{
    if (ip && prefix) {
        char *text = g_strdup_printf("%s/%u", ip, prefix);
        g_ptr_array_add(kept, text);
        g_ptr_array_add(list, text);
    }
}

static SeedNic seed_nic(const PlanNic *nic, GPtrArray *kept)
{
    GPtrArray *addresses = g_ptr_array_new();
    add_address(addresses, nic->ip4, nic->prefix4, kept);
    bool has_ip4 = addresses->len > 0;
    add_address(addresses, nic->ip6, nic->prefix6, kept);
    g_ptr_array_add(addresses, NULL);
    char **list = (char **)g_ptr_array_free(addresses, FALSE);
    g_ptr_array_add(kept, list);
    /* On a network of ours all addresses are known: without one of IPv4 it has no IPv4. */
    bool has_dhcp4 = nic->kind == SPEC_NET_MANAGED && nic->ip6 && nic->prefix6 ? false : !has_ip4;
    return (SeedNic){
        .mac = nic->mac,
        .is_dhcp4 = has_dhcp4,
        .addresses = (const char *const *)list,
        .gateway4 = nic->prefix4 ? nic->gateway4 : NULL,
        .gateway6 = nic->prefix6 ? nic->gateway6 : NULL,
        .nameservers = (const char *const *)nic->nameservers,
        .domain = nic->domain,
        .mtu = nic->mtu,
    };
}

SeedNic *machine_plan_seed_nics(const MachinePlan *plan, GPtrArray *kept)
{
    SeedNic *nics = g_new0(SeedNic, plan->nics->len + 1);
    for (unsigned i = 0; i < plan->nics->len; i++) {
        nics[i] = seed_nic(g_ptr_array_index(plan->nics, i), kept);
    }
    return nics;
}
