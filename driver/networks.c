#include "driver/networks.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "driver/host.h"
#include "net/network.h"
#include "net/rules.h"

#define LOCK_MS 20000

static void member_free(void *data)
{
    MachineNetworkMember *member = data;
    char *texts[] = {member->machine, member->mac,    member->ip4,
                     member->ip6,     member->bridge, member->tap};
    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_free(texts[i]);
    }
    g_ptr_array_unref(member->ports);
    g_free(member);
}

void machine_network_free(MachineNetwork *network)
{
    if (!network) {
        return;
    }
    char *texts[] = {network->name,    network->bridge,   network->cidr,   network->cidr6,
                     network->gateway, network->gateway6, network->domain, network->port_range};
    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_free(texts[i]);
    }
    g_ptr_array_unref(network->members);
    g_free(network);
}

/* --- looking ---------------------------------------------------------------------------------- */

/* NULL without an error: there is no network yet, and looking makes nothing. */
static NetStore *store_of(MachineHost *host, GError **error)
{
    g_autofree char *folder = g_build_filename(host->store->dir, "networks", NULL);
    return access(folder, F_OK) == 0 ? machine_host_nets(host, error) : NULL;
}

char **machine_network_names(MachineHost *host, bool is_implicit, GError **error)
{
    GError *problem = NULL;
    NetStore *store = store_of(host, &problem);
    g_auto(GStrv) all = store ? net_store_names(store, &problem) : NULL;
    if (problem) {
        g_propagate_error(error, problem);
        return NULL;
    }
    GPtrArray *names = g_ptr_array_new();
    for (unsigned i = 0; all && all[i]; i++) {
        if (is_implicit || !strchr(all[i], '.')) { /* no network's name has a dot, but those */
            g_ptr_array_add(names, g_strdup(all[i]));
        }
    }
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_free(names, FALSE);
}

static char *ip_text(const BaseIp *ip)
{
    char text[BASE_IP_TEXT_BYTES];
    return base_ip_is_set(ip) ? g_strdup(base_ip_format(ip, text)) : NULL;
}

static char *cidr_text(const BaseCidr *cidr)
{
    char text[BASE_CIDR_TEXT_BYTES];
    return base_ip_is_set(&cidr->ip) ? g_strdup(base_cidr_format(cidr, text)) : NULL;
}

/* The two families of one port are one line. */
static bool is_shown(const GPtrArray *ports, const MachineForward *port)
{
    for (unsigned i = 0; i < ports->len; i++) {
        const MachineForward *other = g_ptr_array_index(ports, i);
        if (strcmp(other->proto, port->proto) == 0 &&
            strcmp(other->host_addr, port->host_addr) == 0 && other->host_port == port->host_port &&
            other->guest_port == port->guest_port) {
            return true;
        }
    }
    return false;
}

static void add_port(GPtrArray *ports, const NetPortMap *map)
{
    MachineForward *port = g_new0(MachineForward, 1);
    port->proto = g_strdup(map->is_udp ? "udp" : "tcp");
    port->host_addr = base_ip_is_set(&map->host) ? ip_text(&map->host) : g_strdup("*");
    port->host_port = map->host_port;
    port->guest_port = map->guest_port;
    if (is_shown(ports, port)) {
        machine_forward_free(port);
    } else {
        g_ptr_array_add(ports, port);
    }
}

static MachineNetworkMember *member_of(const NetMember *from)
{
    MachineNetworkMember *member = g_new0(MachineNetworkMember, 1);
    const char *nic = strrchr(from->owner, ':');
    char mac[18];
    member->machine = g_strdup(from->machine);
    member->nic = nic ? (unsigned)g_ascii_strtoull(nic + 1, NULL, 10) : 0;
    member->mac = g_strdup(base_mac_format(from->mac, mac));
    member->ip4 = ip_text(&from->ip4);
    member->ip6 = ip_text(&from->ip6);
    member->bridge = g_strdup(from->bridge);
    member->tap = g_strdup(from->tap);
    member->is_up = from->is_up;
    member->ports = g_ptr_array_new_with_free_func(machine_forward_free);
    for (unsigned i = 0; i < from->ports->len; i++) {
        add_port(member->ports, g_ptr_array_index(from->ports, i));
    }
    return member;
}

static int compare_members(const void *a, const void *b)
{
    const MachineNetworkMember *x = *(MachineNetworkMember *const *)a;
    const MachineNetworkMember *y = *(MachineNetworkMember *const *)b;
    int order = g_strcmp0(x->machine, y->machine);
    return order ? order : (int)x->nic - (int)y->nic;
}

static MachineNetwork *network_of(const NetNetworkView *view, const GPtrArray *members)
{
    MachineNetwork *network = g_new0(MachineNetwork, 1);
    network->name = g_strdup(view->name);
    network->mode = spec_net_mode_name(view->mode);
    network->bridge = g_strdup(view->bridge);
    network->cidr = cidr_text(&view->cidr4);
    network->cidr6 = cidr_text(&view->cidr6);
    network->gateway = ip_text(&view->gateway4);
    network->gateway6 = ip_text(&view->gateway6);
    network->domain = g_strdup(view->domain);
    network->mtu = view->mtu;
    if (!spec_egress_is_open(view->egress)) {
        network->egress = spec_egress_to_json(view->egress);
    }
    network->has_dhcp = view->has_dhcp;
    network->has_dns = view->has_dns;
    network->is_kept = view->is_kept;
    network->is_up = view->is_up;
    network->is_ours = view->is_ours;
    network->port_range = g_strdup_printf("%u-%u", view->port_first, view->port_last);
    network->supervisor_pid = view->supervisor_pid;
    network->dnsmasq_pid = view->dnsmasq_pid;
    network->members = g_ptr_array_new_with_free_func(member_free);
    for (unsigned i = 0; members && i < members->len; i++) {
        g_ptr_array_add(network->members, member_of(g_ptr_array_index(members, i)));
    }
    g_ptr_array_sort(network->members, compare_members);
    return network;
}

static bool fail_unknown(MachineHost *host, const char *name, GError **error)
{
    g_auto(GStrv) names = machine_network_names(host, true, NULL);
    const char *nearest = names ? base_report_nearest(name, (const char *const *)names) : NULL;
    g_autofree char *shown = base_report_escape(name, 80);
    if (nearest) {
        return base_fail(error, VM_ERROR_NOT_FOUND,
                         "network '%s': there is none - did you mean '%s'?", shown, nearest);
    }
    return base_fail(error, VM_ERROR_NOT_FOUND,
                     "network '%s': there is none in '%s' - see `vm-run network ls`", shown,
                     host->store->dir);
}

static bool is_missing(const GError *problem)
{
    return !problem || g_error_matches(problem, VM_ERROR, VM_ERROR_NOT_FOUND);
}

/* `problem` is taken. */
static void say_missing(MachineHost *host, const char *name, GError *problem, GError **error)
{
    if (is_missing(problem)) {
        g_clear_error(&problem);
        fail_unknown(host, name, error);
    } else {
        g_propagate_error(error, problem);
    }
}

MachineNetwork *machine_network_load(MachineHost *host, const char *name, GError **error)
{
    GError *problem = NULL;
    NetStore *store = store_of(host, &problem);
    g_autoptr(NetNetwork) network = store ? net_network_peek(store, name, &problem) : NULL;
    if (!network) {
        say_missing(host, name, problem, error);
        return NULL;
    }
    const NetNetworkView *view = net_network_view(network);
    const GPtrArray *members = net_network_members(network, error);
    return members ? network_of(view, members) : NULL;
}

/* --- JSON ------------------------------------------------------------------------------------- */

static void put(json_t *object, const char *key, const char *text)
{
    json_object_set_new(object, key, text ? json_string(text) : json_null());
}

static json_t *ports_json(const GPtrArray *ports)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < ports->len; i++) {
        const MachineForward *port = g_ptr_array_index(ports, i);
        json_array_append_new(list, json_pack("{s:s,s:s,s:i,s:i}", "proto", port->proto,
                                              "host_addr", port->host_addr, "host_port",
                                              port->host_port, "guest_port", port->guest_port));
    }
    return list;
}

static json_t *members_json(const MachineNetwork *network)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < network->members->len; i++) {
        const MachineNetworkMember *member = g_ptr_array_index(network->members, i);
        json_t *item = json_object();
        put(item, "machine", member->machine);
        json_object_set_new(item, "nic", json_integer(member->nic));
        put(item, "mac", member->mac);
        put(item, "ip4", member->ip4);
        put(item, "ip6", member->ip6);
        put(item, "tap", member->tap);
        json_object_set_new(item, "up", json_boolean(member->is_up));
        json_object_set_new(item, "ports", ports_json(member->ports));
        json_array_append_new(list, item);
    }
    return list;
}

char *machine_network_to_json(const MachineNetwork *network)
{
    json_t *root = json_pack("{s:i}", "v", 1);
    const struct {
        const char *key;
        const char *text;
    } texts[] = {
        {"name", network->name},
        {"mode", network->mode},
        {"bridge", network->bridge},
        {"cidr", network->cidr},
        {"cidr6", network->cidr6},
        {"gateway", network->gateway},
        {"gateway6", network->gateway6},
        {"domain", network->domain},
        {"port_range", network->port_range},
    };
    const struct {
        const char *key;
        bool value;
    } flags[] = {
        {"dhcp", network->has_dhcp}, {"dns", network->has_dns},  {"kept", network->is_kept},
        {"up", network->is_up},      {"ours", network->is_ours},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        put(root, texts[i].key, texts[i].text);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(flags); i++) {
        json_object_set_new(root, flags[i].key, json_boolean(flags[i].value));
    }
    json_object_set_new(root, "egress",
                        network->egress ? json_loads(network->egress, 0, NULL) : json_null());
    json_object_set_new(root, "mtu", json_integer(network->mtu));
    json_object_set_new(root, "supervisor_pid", json_integer(network->supervisor_pid));
    json_object_set_new(root, "dnsmasq_pid", json_integer(network->dnsmasq_pid));
    json_object_set_new(root, "members", members_json(network));
    char *text = json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(root);
    char *out = g_strdup(text);
    free(text);
    return out;
}

/* --- doing ------------------------------------------------------------------------------------ */

static bool check_possible(GError **error)
{
    g_autoptr(HostFacts) facts = host_facts_new();
    host_facts_probe_local(facts);
    facts->kind = VIRT_KIND_EMBED; /* libvirt is not asked: the network is the host's */
    g_autofree char *reason = host_facts_network_reason(facts);
    VmError code = facts->has_net_admin ? VM_ERROR_HOST : VM_ERROR_DENIED;
    return !reason || base_fail(error, code, "networks can't be made: %s", reason);
}

bool machine_network_add(MachineHost *host, const NetworkSpec *spec, BaseReport *report,
                         GError **error)
{
    NetStore *store = check_possible(error) ? machine_host_nets(host, error) : NULL;
    if (!store) {
        return false;
    }
    GError *problem = NULL;
    g_autoptr(NetNetwork) network = net_network_define(store, spec, LOCK_MS, report, &problem);
    if (!network && !problem) {
        base_report_check(report, &problem);
    }
    if (!network || !net_network_up(network, &problem)) {
        g_propagate_error(error, problem); /* names the network */
        return false;
    }
    return true;
}

static NetNetwork *open_known(MachineHost *host, const char *name, GError **error)
{
    GError *problem = NULL;
    NetStore *store = store_of(host, &problem);
    NetNetwork *network = store ? net_network_open(store, name, LOCK_MS, &problem) : NULL;
    if (!network) {
        say_missing(host, name, problem, error);
    }
    return network;
}

/* The network, open, when nothing but the policy differs from the spec. */
static NetNetwork *open_same(MachineHost *host, const NetworkSpec *spec, BaseReport *report,
                             GError **error)
{
    GError *problem = NULL;
    NetStore *store = store_of(host, &problem);
    g_autoptr(NetNetwork) found = store ? net_network_peek(store, spec->name, &problem) : NULL;
    if (!found) {
        say_missing(host, spec->name, problem, error);
        return NULL;
    }
    g_autoptr(NetworkSpec) same = spec_network_copy(spec);
    spec_egress_clear(&same->egress);
    spec_egress_copy(net_network_view(found)->egress, &same->egress);
    NetNetwork *network = net_network_define(store, same, LOCK_MS, report, &problem);
    if (!network && !problem) {
        base_report_check(report, &problem);
    }
    if (problem) {
        g_propagate_error(error, problem);
    }
    return network;
}

bool machine_network_update(MachineHost *host, const NetworkSpec *spec, bool is_whole,
                            BaseReport *report, GError **error)
{
    if (!check_possible(error)) {
        return false;
    }
    g_autoptr(NetNetwork) network =
        is_whole ? open_same(host, spec, report, error) : open_known(host, spec->name, error);
    return network && net_network_set_egress(network, &spec->egress, error);
}

bool machine_network_remove(MachineHost *host, const char *name, GError **error)
{
    g_autoptr(NetNetwork) network = open_known(host, name, error);
    return network && net_network_remove(network, error);
}

bool machine_network_check(MachineHost *host, const char *name, bool is_fix, GPtrArray *differences,
                           GPtrArray *fixed, GError **error)
{
    g_autoptr(NetNetwork) network = open_known(host, name, error);
    if (!network || !net_network_check(network, is_fix, differences, fixed, error)) {
        return false;
    }
    const NetNetworkView *view = net_network_view(network);
    return net_network_find_foreign(network, differences, error) &&
           (!view->is_up || net_rules_find_foreign_drops(view->bridge, differences, error));
}
