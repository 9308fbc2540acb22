#include <string.h>
#include "schemas/finish.h"
#include "schemas/read.h"

/* What a machine's NICs, ports and egress must be together. */

const BasePos *spec_nic_origin(const MachineSpec *spec, unsigned i, const char *key)
{
    const SpecNetwork *nic = g_ptr_array_index(spec->networks, i);
    g_autofree char *path = g_strdup_printf("networks[%u].%s", i, key);
    const BasePos *pos = spec_machine_origin(spec, path);
    return pos ? pos : &nic->pos;
}

static bool is_written(const SpecRules *r, unsigned i, const char *key)
{
    g_autofree char *path = g_strdup_printf("networks[%u].%s", i, key);
    return spec_machine_origin(r->spec, path) != NULL;
}

static void complain_nic(const SpecRules *r, VmError code, unsigned i, const char *key,
                         const char *hint, const char *format, ...) G_GNUC_PRINTF(6, 7);

static void complain_nic(const SpecRules *r, VmError code, unsigned i, const char *key,
                         const char *hint, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    base_report_error(r->report, code, spec_nic_origin(r->spec, i, key), hint,
                      "%snetworks[%u].%s: %s", r->prefix, i, key, what);
}

/* --- defaults --------------------------------------------------------------------------------- */

static void free_nic(SpecNetwork *nic)
{
    g_free(nic->pos.file);
    g_free(nic->network);
    g_free(nic->bridge);
    g_free(nic->macvtap);
    g_free(nic->mac);
    g_free(nic->ip);
    g_free(nic->ip6);
    g_free(nic);
}

static void add_default(const SpecRules *r)
{
    GPtrArray *nics = r->spec->networks;
    bool is_silent = !spec_machine_origin(r->spec, "networks");
    if (nics->len == 0 && (is_silent || r->is_nic_refused)) {
        SpecNetwork *nic = g_new0(SpecNetwork, 1);
        nic->kind = SPEC_NET_AUTO;
        nic->queues = 1;
        g_ptr_array_add(nics, nic);
    }
}

/* `none` has nothing, and stands alone. */
static void check_none(const SpecRules *r, unsigned i)
{
    static const char *const keys[] = {"mac",    "ip",      "ip6",      "default_route",
                                       "queues", "rate_in", "rate_out", "link"};
    for (size_t k = 0; k < G_N_ELEMENTS(keys); k++) {
        if (is_written(r, i, keys[k])) {
            complain_nic(r, VM_ERROR_SCHEMA, i, keys[k], NULL, "'none' has no interface");
        }
    }
    if (r->spec->networks->len > 1) {
        const SpecNetwork *nic = g_ptr_array_index(r->spec->networks, i);
        base_report_error(r->report, VM_ERROR_SCHEMA, &nic->pos, NULL,
                          "%snetworks[%u]: 'none' stands beside other networks", r->prefix, i);
    }
}

static void drop_none(MachineSpec *spec)
{
    SpecNetwork *nic = spec->networks->len == 1 ? g_ptr_array_index(spec->networks, 0) : NULL;
    if (!nic || nic->kind != SPEC_NET_NONE) {
        return;
    }
    free_nic(nic);
    g_ptr_array_set_size(spec->networks, 0);
    GHashTableIter iter;
    gpointer path;
    g_hash_table_iter_init(&iter, spec->origins);
    while (g_hash_table_iter_next(&iter, &path, NULL)) {
        if (g_str_has_prefix(path, "networks[0]")) {
            g_hash_table_iter_remove(&iter);
        }
    }
}

/* The default route is at the one that says so, else at the first that doesn't say no. */
static void settle_default_route(const SpecRules *r)
{
    GPtrArray *nics = r->spec->networks;
    SpecNetwork *first = NULL;
    unsigned first_at = 0;
    for (unsigned i = 0; i < nics->len; i++) {
        SpecNetwork *nic = g_ptr_array_index(nics, i);
        if (nic->is_default_route && first) {
            g_autofree char *place =
                spec_rules_first_place(spec_nic_origin(r->spec, first_at, "default_route"));
            complain_nic(r, VM_ERROR_SCHEMA, i, "default_route", "keep one of them",
                         "a machine has one default route%s", place);
        } else if (nic->is_default_route) {
            first = nic;
            first_at = i;
        }
    }
    for (unsigned i = 0; i < nics->len && !first; i++) {
        if (!is_written(r, i, "default_route")) {
            first = g_ptr_array_index(nics, i);
            first->is_default_route = true;
        }
    }
}

static bool names_network(const MachineSpec *spec, const char *name)
{
    for (unsigned i = 0; i < spec->networks->len; i++) {
        const SpecNetwork *nic = g_ptr_array_index(spec->networks, i);
        if (nic->kind == SPEC_NET_MANAGED && g_strcmp0(nic->network, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Of the file's networks those remain that a NIC names; `default` also for a NIC that says nothing.
 */
static void keep_own_networks(MachineSpec *spec)
{
    bool has_auto = false;
    for (unsigned i = 0; i < spec->networks->len; i++) {
        const SpecNetwork *nic = g_ptr_array_index(spec->networks, i);
        has_auto |= nic->kind == SPEC_NET_AUTO;
    }
    for (unsigned i = spec->network_specs->len; i-- > 0;) {
        const NetworkSpec *network = g_ptr_array_index(spec->network_specs, i);
        bool is_default = has_auto && g_strcmp0(network->name, "default") == 0;
        if (!is_default && !names_network(spec, network->name)) {
            g_ptr_array_remove_index(spec->network_specs, i);
        }
    }
}

static bool has_refused(const MachineSpec *spec)
{
    g_autofree char *beyond = g_strdup_printf("networks[%u]", spec->networks->len);
    return spec_machine_origin(spec, beyond) != NULL;
}

void spec_finish_nics(SpecRules *r)
{
    r->is_nic_refused = has_refused(r->spec);
    add_default(r);
    for (unsigned i = 0; i < r->spec->networks->len && !r->is_nic_refused; i++) {
        const SpecNetwork *nic = g_ptr_array_index(r->spec->networks, i);
        if (nic->kind == SPEC_NET_NONE) {
            check_none(r, i);
        }
    }
    drop_none(r->spec);
    if (!r->is_nic_refused) {
        settle_default_route(r);
    }
    keep_own_networks(r->spec);
}

/* --- NICs ------------------------------------------------------------------------------------- */

/* Keys that need a tap of ours, and an address that somebody looks at. */
static void check_kind(const SpecRules *r, unsigned i)
{
    static const char *const keys[] = {"ip", "ip6", "rate_in", "rate_out"};
    const SpecNetwork *nic = g_ptr_array_index(r->spec->networks, i);
    bool is_user = nic->kind == SPEC_NET_USER;
    for (size_t k = 0; k < G_N_ELEMENTS(keys); k++) {
        if ((is_user || nic->kind == SPEC_NET_MACVTAP) && is_written(r, i, keys[k])) {
            complain_nic(r, VM_ERROR_SCHEMA, i, keys[k], "use a managed network or a bridge",
                         is_user ? "network user has none" : "a macvtap has none");
        }
    }
    if (is_user && nic->queues > 1) {
        complain_nic(r, VM_ERROR_SCHEMA, i, "queues", NULL, "network user has one queue");
    } else if (nic->queues > 1 && r->spec->cpus > 0 && nic->queues > r->spec->cpus) {
        complain_nic(r, VM_ERROR_RANGE, i, "queues", "a queue more than CPUs serves nobody",
                     "%u are more than the CPUs of the machine (%u)", nic->queues, r->spec->cpus);
    }
    if (nic->kind != SPEC_NET_MACVTAP && is_written(r, i, "macvtap_mode")) {
        complain_nic(r, VM_ERROR_SCHEMA, i, "macvtap_mode", "add macvtap: LINK", "needs a macvtap");
    }
}

static const NetworkSpec *network_of(const MachineSpec *spec, const SpecNetwork *nic)
{
    for (unsigned i = 0; i < spec->network_specs->len && nic->kind == SPEC_NET_MANAGED; i++) {
        const NetworkSpec *network = g_ptr_array_index(spec->network_specs, i);
        if (g_strcmp0(network->name, nic->network) == 0) {
            return network;
        }
    }
    return NULL;
}

/* The gateway of ours is the host part, or the first address. */
static BaseIp gateway_of(const NetworkSpec *network, const BaseCidr *cidr, bool is_ip6)
{
    const char *text = is_ip6 ? network->gateway6 : network->gateway;
    BaseIp gateway = {0};
    if (network->mode == SPEC_NET_MODE_BRIDGE) {
        return text && base_ip_parse(text, &gateway) ? gateway : (BaseIp){0};
    }
    return base_cidr_has_host_bits(cidr) ? cidr->ip : base_cidr_nth(cidr, 1);
}

/* What is wrong with an address in a network's prefix; NULL: nothing. */
static const char *misplaced(const NetworkSpec *network, const BaseCidr *cidr, const BaseIp *ip)
{
    BaseIp broadcast, gateway = gateway_of(network, cidr, ip->n_bytes == 16);
    BaseCidr whole = base_cidr_network(cidr);
    if (!base_cidr_contains(cidr, ip)) {
        return "is outside";
    }
    if (base_ip_equal(ip, &whole.ip)) {
        return "is the network's own address in";
    }
    if (base_cidr_broadcast(cidr, &broadcast) && base_ip_equal(ip, &broadcast)) {
        return "is the broadcast address of";
    }
    return base_ip_is_set(&gateway) && base_ip_equal(ip, &gateway) ? "is the gateway of" : NULL;
}

static void check_address(const SpecRules *r, unsigned i, bool is_ip6)
{
    const SpecNetwork *nic = g_ptr_array_index(r->spec->networks, i);
    const NetworkSpec *network = network_of(r->spec, nic);
    const char *text = is_ip6 ? nic->ip6 : nic->ip, *key = is_ip6 ? "ip6" : "ip";
    const char *prefix_key = is_ip6 ? "cidr6" : "cidr";
    if (!text || !network) {
        return;
    }
    const char *prefix = is_ip6 ? network->cidr6 : network->cidr;
    const char *why = NULL;
    BaseCidr cidr;
    BaseIp ip;
    if (prefix && g_str_equal(prefix, "none")) {
        complain_nic(r, VM_ERROR_NET, i, key, NULL, "'%s': network '%s' has %s none", text,
                     network->name, prefix_key);
    } else if (!prefix && network->mode != SPEC_NET_MODE_BRIDGE &&
               !spec_network_origin(network, prefix_key)) {
        g_autofree char *hint = g_strdup_printf("add networks.%s.%s", network->name, prefix_key);
        complain_nic(r, VM_ERROR_NET, i, key, hint,
                     "'%s': network '%s' has no %s that it could be in", text, network->name,
                     prefix_key);
    } else if (prefix && base_cidr_parse(prefix, &cidr, &why) && base_ip_parse(text, &ip)) {
        why = misplaced(network, &cidr, &ip);
        if (why) {
            complain_nic(r, VM_ERROR_NET, i, key, NULL, "'%s' %s %s of network '%s'", text, why,
                         prefix, network->name);
        }
    }
}

static const char *text_of(const SpecNetwork *nic, const char *key)
{
    return g_str_equal(key, "mac") ? nic->mac : g_str_equal(key, "ip") ? nic->ip : nic->ip6;
}

static bool is_same_network(const SpecNetwork *a, const SpecNetwork *b)
{
    return a->kind == b->kind && g_strcmp0(a->network, b->network) == 0 &&
           g_strcmp0(a->bridge, b->bridge) == 0 && g_strcmp0(a->macvtap, b->macvtap) == 0;
}

/* A MAC is the machine's own on all its networks, an address on one. */
static void check_twice(const SpecRules *r, unsigned i, const char *key)
{
    const SpecNetwork *nic = g_ptr_array_index(r->spec->networks, i);
    const char *text = text_of(nic, key);
    for (unsigned k = 0; k < i && text; k++) {
        const SpecNetwork *other = g_ptr_array_index(r->spec->networks, k);
        bool counts = g_str_equal(key, "mac") || is_same_network(nic, other);
        if (counts && g_strcmp0(text, text_of(other, key)) == 0) {
            g_autofree char *first = spec_rules_first_place(spec_nic_origin(r->spec, k, key));
            complain_nic(r, VM_ERROR_NET, i, key, NULL, "'%s' stands twice%s", text, first);
            return;
        }
    }
}

void spec_check_nics(const SpecRules *r)
{
    for (unsigned i = 0; i < r->spec->networks->len && !r->is_nic_refused; i++) {
        check_kind(r, i);
        check_address(r, i, false);
        check_address(r, i, true);
        check_twice(r, i, "mac");
        check_twice(r, i, "ip");
        check_twice(r, i, "ip6");
    }
}

/* --- ports ------------------------------------------------------------------------------------ */

/* One that was written and refused counts: then it is not to blame. */
static bool has_nic_of(const SpecRules *r, unsigned kinds)
{
    if (r->is_nic_refused) {
        return true;
    }
    for (unsigned i = 0; i < r->spec->networks->len; i++) {
        const SpecNetwork *nic = g_ptr_array_index(r->spec->networks, i);
        if (kinds & (1u << nic->kind)) {
            return true;
        }
    }
    return false;
}

enum {
    FILTERED = 1 << SPEC_NET_AUTO | 1 << SPEC_NET_MANAGED | 1 << SPEC_NET_BRIDGE,
    MAPPED = FILTERED | 1 << SPEC_NET_USER
};

const char *spec_ports_default_addr(const MachineSpec *spec)
{
    for (unsigned i = 0; i < spec->networks->len; i++) {
        const SpecNetwork *nic = g_ptr_array_index(spec->networks, i);
        if (MAPPED & (1u << nic->kind)) {
            bool is_user = nic->kind == SPEC_NET_USER || nic->kind == SPEC_NET_AUTO;
            return is_user ? "127.0.0.1" : NULL;
        }
    }
    return "127.0.0.1";
}

/* Does `any` listen at `addr` too? "::" takes IPv4 as well. */
static bool covers(const char *any, const char *addr)
{
    return !any || g_str_equal(any, "::") || (g_str_equal(any, "0.0.0.0") && !strchr(addr, ':'));
}

bool spec_listener_clashes(const SpecListener *a, const SpecListener *b)
{
    const SpecPort *one = a->port, *two = b->port;
    const char *addr_a = one->host_addr ? one->host_addr : a->default_addr;
    const char *addr_b = two->host_addr ? two->host_addr : b->default_addr;
    bool is_addr = !addr_a || !addr_b || g_str_equal(addr_a, addr_b) || covers(addr_a, addr_b) ||
                   covers(addr_b, addr_a);
    bool is_proto =
        one->proto == two->proto || one->proto == SPEC_PROTO_BOTH || two->proto == SPEC_PROTO_BOTH;
    bool is_range = one->host_first <= two->host_last && two->host_first <= one->host_last;
    return is_addr && is_proto && is_range && one->host_first != 0 && two->host_first != 0;
}

void spec_check_ports(const SpecRules *r)
{
    const GPtrArray *ports = r->spec->ports;
    const char *addr = spec_ports_default_addr(r->spec);
    if (ports->len > 0 && !has_nic_of(r, MAPPED)) {
        spec_rules_complain(r, VM_ERROR_SCHEMA, "ports", "add network user, or a managed one",
                            "no network of the machine can have ports");
    }
    for (unsigned i = 0; i < ports->len; i++) {
        SpecListener own = {g_ptr_array_index(ports, i), addr};
        for (unsigned k = 0; k < i; k++) {
            SpecListener other = {g_ptr_array_index(ports, k), addr};
            if (spec_listener_clashes(&own, &other)) {
                g_autofree char *first = spec_rules_first_place(&other.port->pos);
                base_report_error(r->report, VM_ERROR_PORT, &own.port->pos, "use another host port",
                                  "%sports[%u]: host port %u is mapped twice%s", r->prefix, i,
                                  MAX(own.port->host_first, other.port->host_first), first);
                break;
            }
        }
    }
}

/* --- egress ----------------------------------------------------------------------------------- */

void spec_check_egress(const SpecRules *r)
{
    static const char *const keys[] = {"egress.hermetic", "egress.restricted", "egress.default",
                                       "egress.allow", "egress.deny"};
    const SpecEgress *egress = &r->spec->egress;
    bool is_asked = !spec_egress_is_open(egress) || egress->allow->len > 0;
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        if (is_asked && spec_machine_origin(r->spec, keys[i]) && !has_nic_of(r, FILTERED)) {
            spec_rules_complain(r, VM_ERROR_SCHEMA, keys[i], "use a managed network or a bridge",
                                "no network of the machine can be filtered");
            break;
        }
    }
    if (egress->is_hermetic && egress->allow->len > 0) {
        spec_rules_complain(r, VM_ERROR_SCHEMA, "egress.allow", "drop one of them",
                            "has no effect beside hermetic");
    }
}
