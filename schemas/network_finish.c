#include <string.h>
#include "schemas/finish.h"
#include "schemas/network_rules.h"
#include "schemas/read.h"

/* Defaults of a network, and what concerns several of its options. */
typedef struct {
    NetworkSpec *spec;
    BaseReport *report;
    const char *prefix; /* "networks.lab." or "" */
} Rules;

static void complain(const Rules *r, VmError code, const char *path, const char *hint,
                     const char *format, ...) G_GNUC_PRINTF(5, 6);

static void complain(const Rules *r, VmError code, const char *path, const char *hint,
                     const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    const BasePos *pos = spec_network_origin(r->spec, path);
    base_report_error(r->report, code, pos ? pos : &r->spec->pos, hint, "%s%s: %s", r->prefix, path,
                      what);
}

static bool is_none(const char *prefix)
{
    return g_strcmp0(prefix, "none") == 0;
}

/* The prefix of a family; false: none is known. */
static bool prefix_of(const char *text, BaseCidr *out)
{
    const char *why;
    return text && !is_none(text) && base_cidr_parse(text, out, &why);
}

/* --- modes ------------------------------------------------------------------------------------ */

/* Somebody else serves a foreign bridge. */
static void check_bridge_mode(const Rules *r)
{
    static const char *const keys[] = {"dhcp", "dhcp_range", "dns", "dns_servers", "domain"};
    NetworkSpec *spec = r->spec;
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        if (spec_network_origin(spec, keys[i])) {
            complain(r, VM_ERROR_SCHEMA, keys[i], "leave it out",
                     "mode bridge has no servers of ours");
        }
    }
    if (!spec->bridge && !spec_network_origin(spec, "bridge")) {
        complain(r, VM_ERROR_SCHEMA, "bridge", "name a bridge of this host",
                 "is missing, and mode is bridge");
    }
    spec->has_dhcp = spec->has_dns = false;
}

static void check_gateway(const Rules *r, bool is_ip6)
{
    const NetworkSpec *spec = r->spec;
    const char *text = is_ip6 ? spec->gateway6 : spec->gateway,
               *key = is_ip6 ? "gateway6" : "gateway";
    const char *prefix = is_ip6 ? spec->cidr6 : spec->cidr, *prefix_key = is_ip6 ? "cidr6" : "cidr";
    BaseCidr cidr;
    BaseIp ip, broadcast;
    if (!text || !base_ip_parse(text, &ip)) {
        return;
    }
    if (spec->mode != SPEC_NET_MODE_BRIDGE) {
        g_autofree char *hint = g_strdup_printf("write it as the host part of %s", prefix_key);
        complain(r, VM_ERROR_SCHEMA, key, hint, "is for mode bridge");
        return;
    }
    if (!prefix_of(prefix, &cidr)) {
        if (!spec_network_origin(spec, prefix_key) || is_none(prefix)) {
            complain(r, VM_ERROR_SCHEMA, key, NULL, "'%s' needs %s", text, prefix_key);
        }
        return;
    }
    BaseIp network = base_cidr_network(&cidr).ip;
    if (!base_cidr_contains(&cidr, &ip)) {
        complain(r, VM_ERROR_NET, key, NULL, "'%s' is outside %s", text, prefix);
    } else if (base_ip_equal(&ip, &network)) {
        complain(r, VM_ERROR_NET, key, NULL, "'%s' is the network's own address", text);
    } else if (base_cidr_broadcast(&cidr, &broadcast) && base_ip_equal(&ip, &broadcast)) {
        complain(r, VM_ERROR_NET, key, NULL, "'%s' is the broadcast address of %s", text, prefix);
    } else if (base_cidr_has_host_bits(&cidr) && !base_ip_equal(&ip, &cidr.ip)) {
        complain(r, VM_ERROR_NET, prefix_key, "write the network itself",
                 "'%s' has host bits that are not the gateway's", prefix);
    }
}

static void check_families(const Rules *r)
{
    NetworkSpec *spec = r->spec;
    bool is_routed = spec->mode == SPEC_NET_MODE_ROUTED;
    if (is_none(spec->cidr) && is_none(spec->cidr6)) {
        complain(r, VM_ERROR_NET, "cidr6", "leave one of them out",
                 "neither IPv4 nor IPv6 is left");
    }
    if (is_routed && !spec_network_origin(spec, "cidr") && !spec_network_origin(spec, "cidr6")) {
        complain(r, VM_ERROR_NET, "cidr", "write what others route to this host",
                 "is missing, and mode is routed");
    }
    if (is_routed) {
        spec->cidr = spec->cidr ? spec->cidr : g_strdup("none");
        spec->cidr6 = spec->cidr6 ? spec->cidr6 : g_strdup("none");
    }
}

/* RFC 8200, section 5. */
static void check_mtu(const Rules *r)
{
    NetworkSpec *spec = r->spec;
    if (spec->mtu == 0 || spec->mtu >= 1280 || is_none(spec->cidr6)) {
        return;
    }
    if (spec->cidr6) {
        complain(r, VM_ERROR_RANGE, "mtu", "use 1280 or more, or cidr6: none",
                 "%u is less than the 1280 that IPv6 needs", spec->mtu);
    } else if (!spec_network_origin(spec, "cidr6")) {
        spec->cidr6 = g_strdup("none");
    }
}

static void check_servers(const Rules *r)
{
    const NetworkSpec *spec = r->spec;
    BaseCidr cidr;
    BaseIp first, last;
    if (!spec->has_dns && spec->dns_servers->len > 0 && spec->mode != SPEC_NET_MODE_BRIDGE) {
        complain(r, VM_ERROR_SCHEMA, "dns_servers", "drop one of them", "dns is false");
    }
    if (!spec->dhcp_range || spec->mode == SPEC_NET_MODE_BRIDGE ||
        !spec_ip_range_parse(spec->dhcp_range, &first, &last)) {
        return;
    }
    if (!prefix_of(spec->cidr, &cidr)) {
        if (!spec_network_origin(spec, "cidr") || is_none(spec->cidr)) {
            complain(r, VM_ERROR_NET, "dhcp_range", NULL, "'%s' needs cidr", spec->dhcp_range);
        }
    } else if (!base_cidr_contains(&cidr, &first) || !base_cidr_contains(&cidr, &last)) {
        complain(r, VM_ERROR_NET, "dhcp_range", NULL, "'%s' is outside %s", spec->dhcp_range,
                 spec->cidr);
    }
}

static void check_policy(const Rules *r)
{
    const SpecEgress *egress = &r->spec->egress;
    if (egress->allow->len == 0) {
        return;
    }
    if (egress->is_hermetic) {
        complain(r, VM_ERROR_SCHEMA, "egress.allow", "drop one of them",
                 "has no effect beside hermetic");
    } else if (spec_egress_is_open(egress)) {
        complain(r, VM_ERROR_SCHEMA, "egress.allow", "add default: deny",
                 "has no effect where all is allowed");
    }
}

void spec_network_finish(NetworkSpec *spec, BaseReport *report)
{
    const BasePos *at = spec_network_origin(spec, "name");
    bool is_from_file = at && at->line > 0;
    g_autofree char *prefix =
        is_from_file ? g_strdup_printf("networks.%s.", spec->name) : g_strdup("");
    Rules rules = {spec, report, prefix};
    spec_read_defaults(&spec_network_table, spec->origins, spec);
    if (!spec->name && !at) {
        complain(&rules, VM_ERROR_SCHEMA, "name", NULL, "is missing");
    }
    if (spec->mode == SPEC_NET_MODE_BRIDGE) {
        check_bridge_mode(&rules);
    }
    check_gateway(&rules, false);
    check_gateway(&rules, true);
    check_families(&rules);
    check_mtu(&rules);
    check_servers(&rules);
    check_policy(&rules);
}

/* --- networks of one file --------------------------------------------------------------------- */

static bool overlaps(const char *a, const char *b)
{
    BaseCidr one, two;
    return prefix_of(a, &one) && prefix_of(b, &two) && base_cidr_overlaps(&one, &two);
}

static void check_overlap(const NetworkSpec *spec, const NetworkSpec *other, bool is_ip6,
                          BaseReport *report)
{
    const char *own = is_ip6 ? spec->cidr6 : spec->cidr, *its = is_ip6 ? other->cidr6 : other->cidr;
    const char *key = is_ip6 ? "cidr6" : "cidr";
    if (overlaps(own, its)) {
        const BasePos *first = spec_network_origin(other, key);
        g_autofree char *place = first ? spec_rules_first_place(first) : g_strdup("");
        base_report_error(report, VM_ERROR_NET, spec_network_origin(spec, key), "use another range",
                          "networks.%s.%s: '%s' overlaps '%s' of network '%s'%s", spec->name, key,
                          own, its, other->name, place);
    }
}

static void check_bridge_twice(const NetworkSpec *spec, const NetworkSpec *other,
                               BaseReport *report)
{
    if (spec->bridge && g_strcmp0(spec->bridge, other->bridge) == 0) {
        const BasePos *first = spec_network_origin(other, "bridge");
        g_autofree char *place = first ? spec_rules_first_place(first) : g_strdup("");
        base_report_error(report, VM_ERROR_NAME, spec_network_origin(spec, "bridge"),
                          "use another name",
                          "networks.%s.bridge: '%s' is the bridge of network '%s'%s", spec->name,
                          spec->bridge, other->name, place);
    }
}

void spec_check_networks(const GPtrArray *networks, BaseReport *report)
{
    for (unsigned i = 0; i < networks->len; i++) {
        for (unsigned k = 0; k < i; k++) {
            const NetworkSpec *spec = g_ptr_array_index(networks, i);
            const NetworkSpec *other = g_ptr_array_index(networks, k);
            check_overlap(spec, other, false, report);
            check_overlap(spec, other, true, report);
            check_bridge_twice(spec, other, report);
        }
    }
}
