#include "net/network.h"

#include <string.h>
#include <unistd.h>
#include "base/error.h"
#include "net/network_internal.h"
#include "net/tap.h"

/*
 * From what a spec asks for to a definition: prefixes that nobody on this host has, a bridge's
 * name, a gateway. Two networks of one store are defined one after the other (networks.lock), so
 * they can't choose the same prefix; those of other stores show as routes once they are up.
 */
#define DEFAULT_NAME "default"
#define DEFINE_LOCK  "networks.lock"

enum { DEFAULT_MTU = 1500, CHOSEN_BITS = 24, BITS6_MIN = 64, BITS6_MAX = 120 };

NetworkSpec *net_network_default_spec(void)
{
    g_autoptr(BaseReport) report = base_report_new();
    NetworkSpec *spec = spec_network_new();
    spec->name = g_strdup(DEFAULT_NAME);
    spec_network_set(spec, "mode", spec_net_mode_name(SPEC_NET_MODE_NAT), "", report);
    spec_network_finish(spec, report);
    return spec;
}

NetworkSpec *net_network_bridge_spec(const char *bridge)
{
    g_autoptr(BaseReport) report = base_report_new();
    NetworkSpec *spec = spec_network_new();
    spec->name = g_strdup_printf("bridge.%s", bridge);
    /* by the table's door, so that its defaults leave them alone; the name, no label, is ours */
    spec_network_set(spec, "mode", spec_net_mode_name(SPEC_NET_MODE_BRIDGE), "", report);
    spec_network_set(spec, "bridge", bridge, bridge, report);
    spec_network_finish(spec, report);
    return spec;
}

/* --- what is asked for ------------------------------------------------------------------------ */

typedef struct {
    NetStore *store;
    const NetworkSpec *spec;
    BaseReport *report;
    NetRecord *record;
} Define;

static const BasePos *position(const Define *define, const char *option)
{
    const BasePos *pos = spec_network_origin(define->spec, option);
    return pos ? pos : &define->spec->pos;
}

/* One prefix as asked for: "none" and NULL give none, host bits are the gateway. */
static bool read_prefix(const Define *define, bool is_4)
{
    NetRecord *record = define->record;
    const char *option = is_4 ? "cidr" : "cidr6";
    const char *text = is_4 ? define->spec->cidr : define->spec->cidr6;
    BaseCidr cidr = {0};
    const char *why = NULL;
    if (!text || !strcmp(text, "none")) {
        return true;
    }
    if (!base_cidr_parse(text, &cidr, &why) || cidr.ip.n_bytes != (is_4 ? 4 : 16)) {
        base_report_error(define->report, VM_ERROR_NET, position(define, option), NULL,
                          "network '%s': %s '%s' %s", define->spec->name, option, text,
                          why ? why : "is of the other family");
        return false;
    }
    bool is_ours = net_record_is_ours(record);
    if (!is_4 && is_ours && (cidr.n_bits < BITS6_MIN || cidr.n_bits > BITS6_MAX)) {
        base_report_error(define->report, VM_ERROR_NET, position(define, option), "use a /64",
                          "network '%s': cidr6 '%s' has a prefix that is not %d to %d bits long",
                          define->spec->name, text, BITS6_MIN, BITS6_MAX);
        return false;
    }
    BaseCidr network = base_cidr_network(&cidr);
    *(is_4 ? &record->cidr4 : &record->cidr6) = network;
    if (is_ours) {
        *(is_4 ? &record->gateway4 : &record->gateway6) =
            base_cidr_has_host_bits(&cidr) ? cidr.ip : base_cidr_nth(&network, 1);
    }
    return true;
}

static bool split_range(const char *text, char **out_first, char **out_last)
{
    const char *dash = text ? strchr(text, '-') : NULL;
    *out_first = dash ? g_strndup(text, (gsize)(dash - text)) : NULL;
    *out_last = dash ? g_strdup(dash + 1) : NULL;
    return dash != NULL;
}

static bool read_dhcp_range(const Define *define)
{
    NetRecord *record = define->record;
    g_autofree char *first = NULL, *last = NULL;
    if (!define->spec->dhcp_range || !base_ip_is_set(&record->cidr4.ip)) {
        return true;
    }
    if (split_range(define->spec->dhcp_range, &first, &last) &&
        base_ip_parse(first, &record->range_first) && base_ip_parse(last, &record->range_last) &&
        base_cidr_contains(&record->cidr4, &record->range_first) &&
        base_cidr_contains(&record->cidr4, &record->range_last) &&
        base_ip_compare(&record->range_first, &record->range_last) <= 0) {
        return true;
    }
    char range[BASE_CIDR_TEXT_BYTES];
    base_report_error(define->report, VM_ERROR_NET, position(define, "dhcp_range"), NULL,
                      "network '%s': dhcp_range '%s' is not inside of %s", define->spec->name,
                      define->spec->dhcp_range, base_cidr_format(&record->cidr4, range));
    return false;
}

static void read_ports(const Define *define)
{
    g_autofree char *first = NULL, *last = NULL;
    define->record->port_first = 20000;
    define->record->port_last = 29999;
    if (split_range(define->spec->port_range, &first, &last)) {
        define->record->port_first = (uint16_t)g_ascii_strtoull(first, NULL, 10);
        define->record->port_last = (uint16_t)g_ascii_strtoull(last, NULL, 10);
    }
}

static void read_routers(const Define *define)
{
    const NetworkSpec *spec = define->spec;
    if (spec->gateway) {
        base_ip_parse(spec->gateway, &define->record->gateway4);
    }
    if (spec->gateway6) {
        base_ip_parse(spec->gateway6, &define->record->gateway6);
    }
}

/* All that needs no look at others. */
static bool read_spec(const Define *define)
{
    const NetworkSpec *spec = define->spec;
    NetRecord *record = define->record;
    record->name = g_strdup(spec->name);
    record->mode = spec->mode;
    bool is_ours = net_record_is_ours(record);
    g_autofree char *tag = net_bridge_owner_tag(define->store->id, spec->name);
    record->bridge = spec->bridge ? g_strdup(spec->bridge) : net_bridge_name(tag);
    record->domain = g_strdup(spec->domain);
    record->mtu = spec->mtu || !is_ours ? spec->mtu : DEFAULT_MTU;
    record->has_dhcp = is_ours && spec->has_dhcp;
    record->has_dns = is_ours && spec->has_dns;
    record->is_kept = spec->is_kept;
    for (guint i = 0; spec->dns_servers && i < spec->dns_servers->len; i++) {
        g_ptr_array_add(record->dns_servers, g_strdup(spec->dns_servers->pdata[i]));
    }
    spec_egress_clear(&record->egress);
    spec_egress_copy(&spec->egress, &record->egress);
    read_ports(define);
    if (!is_ours) {
        read_routers(define);
    }
    return read_prefix(define, true) && read_prefix(define, false);
}

/* --- what others have ------------------------------------------------------------------------- */

/* A prefix that is taken, and by whom. */
typedef struct {
    BaseCidr cidr;
    char *who; /* "network 'lab'", "a route of this host" */
} Taken;

static void taken_free(void *data)
{
    Taken *taken = data;
    g_free(taken->who);
    g_free(taken);
}

static void add_taken(GPtrArray *all, const BaseCidr *cidr, const char *who)
{
    Taken *taken = g_new0(Taken, 1);
    taken->cidr = base_cidr_network(cidr);
    taken->who = g_strdup(who);
    g_ptr_array_add(all, taken);
}

/* The other networks of this store; EXISTS when one has the same bridge. */
static bool add_networks(const Define *define, GPtrArray *all, GError **error)
{
    g_auto(GStrv) names = net_store_names(define->store, error);
    for (char **name = names; name && *name; name++) {
        g_autoptr(NetRecord) other =
            strcmp(*name, define->spec->name) ? net_record_load(define->store, *name, NULL) : NULL;
        if (!other || !net_record_is_ours(other)) {
            continue;
        }
        if (!strcmp(other->bridge, define->record->bridge)) {
            base_report_error(define->report, VM_ERROR_EXISTS, position(define, "bridge"), NULL,
                              "network '%s': bridge '%s' belongs to network '%s'",
                              define->spec->name, other->bridge, *name);
            return base_report_check(define->report, error);
        }
        g_autofree char *who = g_strdup_printf("network '%s'", *name);
        if (base_ip_is_set(&other->cidr4.ip)) {
            add_taken(all, &other->cidr4, who);
        }
        if (base_ip_is_set(&other->cidr6.ip)) {
            add_taken(all, &other->cidr6, who);
        }
    }
    return names != NULL;
}

static bool add_routes(GPtrArray *all, GError **error)
{
    g_autoptr(GArray) routes = net_route_list(error);
    for (guint i = 0; routes && i < routes->len; i++) {
        add_taken(all, &g_array_index(routes, BaseCidr, i), "a route of this host");
    }
    return routes != NULL;
}

static const Taken *find_overlap(const GPtrArray *all, const BaseCidr *cidr)
{
    for (guint i = 0; i < all->len; i++) {
        const Taken *taken = all->pdata[i];
        if (taken->cidr.ip.n_bytes == cidr->ip.n_bytes && base_cidr_overlaps(&taken->cidr, cidr)) {
            return taken;
        }
    }
    return NULL;
}

static bool check_overlap(const Define *define, const char *option, const BaseCidr *cidr,
                          const GPtrArray *all)
{
    const Taken *taken = base_ip_is_set(&cidr->ip) ? find_overlap(all, cidr) : NULL;
    char own[BASE_CIDR_TEXT_BYTES], other[BASE_CIDR_TEXT_BYTES];
    if (!taken) {
        return true;
    }
    base_report_error(define->report, VM_ERROR_NET, position(define, option),
                      "choose another one, or leave it out", "network '%s': %s %s overlaps %s, %s",
                      define->spec->name, option, base_cidr_format(cidr, own),
                      base_cidr_format(&taken->cidr, other), taken->who);
    return false;
}

/* --- choosing --------------------------------------------------------------------------------- */

static void digest_of(const Define *define, guint8 out[32])
{
    g_autofree char *text = g_strdup_printf("%s:net:%s", define->store->id, define->spec->name);
    g_autoptr(GChecksum) sha256 = g_checksum_new(G_CHECKSUM_SHA256);
    g_checksum_update(sha256, (const guchar *)text, (gssize)strlen(text));
    gsize n = 32;
    g_checksum_get_digest(sha256, out, &n);
}

static BaseCidr parse_constant(const char *text)
{
    BaseCidr cidr = {0};
    const char *why = NULL;
    bool is_good = base_cidr_parse(text, &cidr, &why);
    g_assert(is_good);
    return cidr;
}

/* A free /24 of `pool`, the first at or after the hash's place. */
static bool choose_in(const BaseCidr *pool, uint64_t hash, const GPtrArray *all, BaseCidr *out)
{
    uint64_t n = base_cidr_size(pool) >> (32 - CHOSEN_BITS);
    for (uint64_t i = 0; i < n; i++) {
        BaseCidr cidr = {.ip = base_cidr_nth(pool, ((hash + i) % n) << (32 - CHOSEN_BITS)),
                         .n_bits = CHOSEN_BITS};
        const Taken *taken = find_overlap(all, &cidr);
        if (!taken) {
            *out = cidr;
            return true;
        }
        if (taken->cidr.n_bits <= pool->n_bits) {
            return false; /* all of it */
        }
    }
    return false;
}

static bool choose_cidr4(const Define *define, const GPtrArray *all, GError **error)
{
    /* private ranges (RFC 1918), and what others on such a host use without a route to show */
    static const char *const pools[] = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"};
    static const char *const usual[] = {"172.17.0.0/16", "192.168.122.0/24", "10.88.0.0/16",
                                        "10.0.0.0/20", "192.168.0.0/23"};
    g_autoptr(GPtrArray) avoided = g_ptr_array_new_with_free_func(taken_free);
    guint8 digest[32];
    digest_of(define, digest);
    for (guint i = 0; i < all->len; i++) {
        const Taken *taken = all->pdata[i];
        add_taken(avoided, &taken->cidr, "");
    }
    for (size_t i = 0; i < G_N_ELEMENTS(usual); i++) {
        BaseCidr cidr = parse_constant(usual[i]);
        add_taken(avoided, &cidr, "");
    }
    for (size_t i = 0; i < G_N_ELEMENTS(pools); i++) {
        BaseCidr pool = parse_constant(pools[i]);
        if (choose_in(&pool, (uint64_t)digest[0] << 8 | digest[1], avoided,
                      &define->record->cidr4)) {
            define->record->gateway4 = base_cidr_nth(&define->record->cidr4, 1);
            return true;
        }
    }
    return base_fail(error, VM_ERROR_NET,
                     "network '%s': no private range is free of this host's routes - give one with "
                     "'cidr'",
                     define->spec->name);
}

/* fd00::/8 and 40 bits of the hash (RFC 4193), a subnet of 16 more. */
static bool choose_cidr6(const Define *define, const GPtrArray *all, GError **error)
{
    guint8 digest[32];
    digest_of(define, digest);
    for (unsigned i = 0; i < 256; i++) {
        BaseCidr cidr = {.ip = {.n_bytes = 16}, .n_bits = 64};
        cidr.ip.bytes[0] = 0xfd;
        memcpy(cidr.ip.bytes + 1, digest + 2, 7);
        cidr.ip.bytes[7] = (uint8_t)(cidr.ip.bytes[7] + i);
        if (!find_overlap(all, &cidr)) {
            define->record->cidr6 = cidr;
            define->record->gateway6 = base_cidr_nth(&cidr, 1);
            return true;
        }
    }
    return base_fail(error, VM_ERROR_NET, "network '%s': no IPv6 range is free - give one",
                     define->spec->name);
}

static bool chooses(const Define *define, const char *text)
{
    return !text && (define->spec->mode == SPEC_NET_MODE_NAT ||
                     define->spec->mode == SPEC_NET_MODE_ISOLATED);
}

/* Where the kernel was told to have none, only who asks for it is told so. */
static bool host_has_ipv6(void)
{
    return access("/proc/sys/net/ipv6/conf", F_OK) == 0;
}

static bool has_family(const Define *define, GError **error)
{
    const NetRecord *record = define->record;
    if (base_ip_is_set(&record->cidr4.ip) || base_ip_is_set(&record->cidr6.ip)) {
        return true;
    }
    base_report_error(define->report, VM_ERROR_NET, &define->spec->pos, "give 'cidr' or 'cidr6'",
                      "network '%s' has neither IPv4 nor IPv6", define->spec->name);
    return base_report_check(define->report, error);
}

static bool settle_prefixes(const Define *define, GError **error)
{
    NetRecord *record = define->record;
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(taken_free);
    if (!add_networks(define, all, error) || !add_routes(all, error)) {
        return false;
    }
    bool is_free4 = check_overlap(define, "cidr", &record->cidr4, all);
    bool is_free6 = check_overlap(define, "cidr6", &record->cidr6, all);
    if (!is_free4 || !is_free6) {
        return base_report_check(define->report, error);
    }
    return (!chooses(define, define->spec->cidr) || choose_cidr4(define, all, error)) &&
           (!chooses(define, define->spec->cidr6) || !host_has_ipv6() ||
            choose_cidr6(define, all, error)) &&
           has_family(define, error);
}

static bool check_bridge(const Define *define, GError **error)
{
    bool is_bridge = false;
    if (!net_bridge_probe(define->record->bridge, &is_bridge, error)) {
        return false;
    }
    return is_bridge || base_fail(error, VM_ERROR_NOT_FOUND,
                                  "network '%s': there is no bridge '%s' on this host",
                                  define->spec->name, define->record->bridge);
}

/* --- one that is there already ---------------------------------------------------------------- */

static bool differs(const Define *define, const char *option, const char *asked, const char *found)
{
    if (!g_strcmp0(asked ? asked : "", found ? found : "")) {
        return false;
    }
    bool is_egress = strcmp(option, "egress") == 0;
    base_report_error(define->report, VM_ERROR_EXISTS, position(define, option),
                      is_egress ? "`vm-run network update` changes that"
                                : "remove it first, or use another name",
                      "network '%s' exists with %s '%s', not '%s'", define->spec->name, option,
                      found && *found ? found : "none", asked && *asked ? asked : "none");
    return true;
}

static bool prefix_differs(const Define *define, const NetRecord *found, bool is_4)
{
    const NetRecord *asked = define->record;
    const char *text = is_4 ? define->spec->cidr : define->spec->cidr6;
    const char *option = is_4 ? "cidr" : "cidr6";
    char a[BASE_CIDR_TEXT_BYTES], f[BASE_CIDR_TEXT_BYTES];
    if (!text && (chooses(define, text) || !net_record_is_ours(asked))) {
        return false;
    }
    base_cidr_format(is_4 ? &asked->cidr4 : &asked->cidr6, a);
    base_cidr_format(is_4 ? &found->cidr4 : &found->cidr6, f);
    if (differs(define, option, a, f)) {
        return true;
    }
    base_ip_format(is_4 ? &asked->gateway4 : &asked->gateway6, a);
    base_ip_format(is_4 ? &found->gateway4 : &found->gateway6, f);
    return differs(define, option, a, f);
}

static bool numbers_differ(const Define *define, const NetRecord *found)
{
    const NetRecord *asked = define->record;
    g_autofree char *asked_mtu = g_strdup_printf("%u", asked->mtu);
    g_autofree char *found_mtu = g_strdup_printf("%u", found->mtu);
    g_autofree char *asked_ports = g_strdup_printf("%u-%u", asked->port_first, asked->port_last);
    g_autofree char *found_ports = g_strdup_printf("%u-%u", found->port_first, found->port_last);
    bool is_different = differs(define, "mtu", asked_mtu, found_mtu);
    is_different |= differs(define, "port_range", asked_ports, found_ports);
    is_different |=
        differs(define, "dhcp", asked->has_dhcp ? "on" : "off", found->has_dhcp ? "on" : "off");
    is_different |=
        differs(define, "dns", asked->has_dns ? "on" : "off", found->has_dns ? "on" : "off");
    return is_different;
}

static char *join_servers(const NetRecord *record)
{
    g_autoptr(GPtrArray) texts = g_ptr_array_new();
    for (guint i = 0; i < record->dns_servers->len; i++) {
        g_ptr_array_add(texts, record->dns_servers->pdata[i]);
    }
    g_ptr_array_add(texts, NULL);
    return g_strjoinv(",", (char **)texts->pdata);
}

static char *range_text(const NetRecord *record)
{
    char first[BASE_IP_TEXT_BYTES], last[BASE_IP_TEXT_BYTES];
    return base_ip_is_set(&record->range_first)
               ? g_strdup_printf("%s-%s", base_ip_format(&record->range_first, first),
                                 base_ip_format(&record->range_last, last))
               : g_strdup("");
}

static bool texts_differ(const Define *define, const NetRecord *found)
{
    const NetRecord *asked = define->record;
    g_autofree char *asked_servers = join_servers(asked), *found_servers = join_servers(found);
    g_autofree char *asked_range = range_text(asked), *found_range = range_text(found);
    g_autofree char *asked_egress = spec_egress_to_json(&asked->egress);
    g_autofree char *found_egress = spec_egress_to_json(&found->egress);
    bool is_different =
        differs(define, "mode", spec_net_mode_name(asked->mode), spec_net_mode_name(found->mode));
    is_different |= define->spec->bridge && differs(define, "bridge", asked->bridge, found->bridge);
    is_different |= differs(define, "domain", asked->domain, found->domain);
    is_different |= differs(define, "dns_servers", asked_servers, found_servers);
    is_different |=
        define->spec->dhcp_range && differs(define, "dhcp_range", asked_range, found_range);
    is_different |= differs(define, "egress", asked_egress, found_egress);
    return is_different;
}

static bool record_differs(const Define *define, const NetRecord *found)
{
    bool is_different = texts_differ(define, found);
    is_different |= numbers_differ(define, found);
    is_different |= prefix_differs(define, found, true);
    is_different |= prefix_differs(define, found, false);
    return is_different;
}

/* --- all of it -------------------------------------------------------------------------------- */

/* Under networks.lock: what is free now is ours when it returns. */
static bool define_new(const Define *define, NetNetwork *network, GError **error)
{
    g_autoptr(BaseLock) lock = base_lock_take(define->store->locks_fd, DEFINE_LOCK, 10000, error);
    bool is_ours = net_record_is_ours(define->record);
    if (!lock || !(is_ours ? settle_prefixes(define, error) : check_bridge(define, error))) {
        return false;
    }
    if (!read_dhcp_range(define)) {
        return base_report_check(define->report, error);
    }
    return net_record_save(define->record, network->dirfd, error);
}

static bool merge(const Define *define, NetNetwork *network, GError **error)
{
    BaseCidr *cidr = &define->record->cidr4;
    *cidr = base_ip_is_set(&cidr->ip) ? *cidr : network->record->cidr4; /* for its range */
    read_dhcp_range(define);
    if (base_report_n_errors(define->report) || record_differs(define, network->record)) {
        return base_report_check(define->report, error);
    }
    if (define->spec->is_kept && !network->record->is_kept) {
        network->record->is_kept = true;
        return net_record_save(network->record, network->dirfd, error);
    }
    return true;
}

/* A folder that got no record is nobody's. */
static void give_up(NetNetwork *network, const char *name)
{
    g_autofree char *path = g_build_filename(network->state_dir, "networks", name, NULL);
    network->is_gone = rmdir(path) == 0;
}

NetNetwork *net_network_define(NetStore *store, const NetworkSpec *spec, unsigned timeout_ms,
                               BaseReport *report, GError **error)
{
    g_autoptr(BaseReport) own_report = base_report_new();
    g_autoptr(NetRecord) record = net_record_new();
    Define define = {store, spec, report ? report : own_report, record};
    g_autoptr(NetNetwork) network =
        net_network_open_folder(store, spec->name, timeout_ms, true, error);
    if (!network) {
        return NULL;
    }
    if (!read_spec(&define)) {
        base_report_check(define.report, error);
    } else if (network->record) {
        return merge(&define, network, error) ? g_steal_pointer(&network) : NULL;
    } else if (define_new(&define, network, error)) {
        network->record = g_steal_pointer(&record);
        return g_steal_pointer(&network);
    }
    if (!network->record) {
        give_up(network, spec->name);
    }
    return NULL;
}
