#include <stdlib.h>
#include <string.h>
#include "schemas/finish.h"

/* What machines of one file take from each other: addresses, MACs, ports of the host. */

typedef struct {
    const MachineSpec *spec;
    unsigned i; /* which NIC or port of it */
} Place;

/* NULL: nobody else is on it. Transfer full. */
static char *network_key(const SpecNetwork *nic)
{
    return nic->kind == SPEC_NET_AUTO      ? g_strdup("auto")
           : nic->kind == SPEC_NET_MANAGED ? g_strdup_printf("network %s", nic->network)
           : nic->kind == SPEC_NET_BRIDGE  ? g_strdup_printf("bridge %s", nic->bridge)
           : nic->kind == SPEC_NET_MACVTAP ? g_strdup_printf("link %s", nic->macvtap)
                                           : NULL;
}

/* Addresses are compared as the kernel does, MACs are in lower case. Transfer full. */
static char *canonical(const char *text)
{
    char out[BASE_IP_TEXT_BYTES];
    BaseIp ip;
    return g_strdup(base_ip_parse(text, &ip) ? base_ip_format(&ip, out) : text);
}

static void take(GHashTable *taken, const Place *place, const char *key, const char *text,
                 BaseReport *report)
{
    const SpecNetwork *nic = g_ptr_array_index(place->spec->networks, place->i);
    g_autofree char *network = text ? network_key(nic) : NULL;
    if (!network) {
        return;
    }
    g_autofree char *value = canonical(text);
    g_autofree char *what = g_strdup_printf("%s %s %s", network, key, value);
    const Place *other = g_hash_table_lookup(taken, what);
    if (!other) {
        g_hash_table_insert(taken, g_steal_pointer(&what), g_memdup2(place, sizeof(*place)));
    } else if (other->spec != place->spec) {
        g_autofree char *first =
            spec_rules_first_place(spec_nic_origin(other->spec, other->i, key));
        base_report_error(report, VM_ERROR_NET, spec_nic_origin(place->spec, place->i, key),
                          "use another one", "vms.%s.networks[%u].%s: '%s' is that of '%s'%s",
                          place->spec->name, place->i, key, text, other->spec->name, first);
    }
}

static void check_addresses(const GPtrArray *machines, BaseReport *report)
{
    g_autoptr(GHashTable) taken = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    for (unsigned m = 0; m < machines->len; m++) {
        Place place = {g_ptr_array_index(machines, m), 0};
        for (; place.spec->networks && place.i < place.spec->networks->len; place.i++) {
            const SpecNetwork *nic = g_ptr_array_index(place.spec->networks, place.i);
            take(taken, &place, "mac", nic->mac, report);
            take(taken, &place, "ip", nic->ip, report);
            take(taken, &place, "ip6", nic->ip6, report);
        }
    }
}

/* --- ports ------------------------------------------------------------------------------------ */

/* Comparisons that a file may cost. Machines that share a port with many others beyond that are
 * found when they start: the ports are taken then, and the kernel refuses equal ones. */
enum { MAX_COMPARISONS = 1000000 };

static const SpecPort *port_of(const Place *place)
{
    return g_ptr_array_index(place->spec->ports, place->i);
}

static int by_port(const void *a, const void *b)
{
    return (int)port_of(a)->host_first - (int)port_of(b)->host_first;
}

static void report_port(const Place *place, const Place *other, BaseReport *report)
{
    bool is_later = place->spec->networks && port_of(place)->pos.line >= port_of(other)->pos.line;
    const Place *late = is_later ? place : other, *early = is_later ? other : place;
    g_autofree char *first = spec_rules_first_place(&port_of(early)->pos);
    base_report_error(report, VM_ERROR_PORT, &port_of(late)->pos, "use another host port",
                      "vms.%s.ports[%u]: host port %u is that of '%s'%s", late->spec->name, late->i,
                      MAX(port_of(late)->host_first, port_of(early)->host_first), early->spec->name,
                      first);
}

static GArray *mapped_ports(const GPtrArray *machines)
{
    GArray *places = g_array_new(FALSE, FALSE, sizeof(Place));
    for (unsigned m = 0; m < machines->len; m++) {
        Place place = {g_ptr_array_index(machines, m), 0};
        for (; place.i < place.spec->ports->len; place.i++) {
            if (port_of(&place)->host_first > 0) {
                g_array_append_val(places, place);
            }
        }
    }
    g_array_sort(places, by_port);
    return places;
}

static void check_ports(const GPtrArray *machines, BaseReport *report)
{
    g_autoptr(GArray) places = mapped_ports(machines);
    unsigned n = 0;
    for (unsigned i = 0; i < places->len; i++) {
        const Place *place = &g_array_index(places, Place, i);
        SpecListener own = {port_of(place), spec_ports_default_addr(place->spec)};
        for (unsigned k = i + 1; k < places->len && n < MAX_COMPARISONS; k++, n++) {
            const Place *other = &g_array_index(places, Place, k);
            SpecListener its = {port_of(other), spec_ports_default_addr(other->spec)};
            if (its.port->host_first > own.port->host_last) {
                break;
            }
            if (other->spec != place->spec && spec_listener_clashes(&own, &its)) {
                report_port(place, other, report);
                break;
            }
        }
    }
}

void spec_check_across(const GPtrArray *machines, BaseReport *report)
{
    check_addresses(machines, report);
    check_ports(machines, report);
}
