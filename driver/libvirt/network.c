#include "driver/libvirt/network_xml.h"
#include "driver/libvirt/part.h"

#include <arpa/inet.h>
#include <string.h>

/*
 * How it works: the network's own XML is the register. A reservation is looked for there, chosen
 * if need be, and added by virNetworkUpdate(3), which refuses a MAC, address or name that another
 * has (code 55 in libvirt 9.0); after such a refusal the XML is read again, since somebody was
 * faster.
 */
enum { TRIES = 16 };

typedef struct {
    const char *network, *mac, *hostname;
    uint32_t ip;
    bool has_ip;
    json_t *json; /* owns the texts */
} Wish;

static void wish_clear(Wish *wish)
{
    json_decref(wish->json);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Wish, wish_clear)

static bool wish_parse(const VirtArgs *args, Wish *out, GError **error)
{
    const char *ip = NULL;
    json_t *json = args->text ? json_loads(args->text, 0, NULL) : NULL;
    *out = (Wish){.json = json};
    if (!json || json_unpack(json, "{s:s, s:s, s?s, s?s}", "network", &out->network, "mac",
                             &out->mac, "ip", &ip, "hostname", &out->hostname) != 0) {
        return base_fail(error, VM_ERROR_INTERNAL, "a reservation that is malformed");
    }
    out->has_ip = ip;
    return !ip || virt_network_xml_ip(ip, &out->ip) ||
           base_fail(error, VM_ERROR_NET, "'%s' is no IPv4 address", ip);
}

static const char *ip_text(uint32_t ip, char text[static INET_ADDRSTRLEN])
{
    struct in_addr address = {htonl(ip)};
    return inet_ntop(AF_INET, &address, text, INET_ADDRSTRLEN);
}

/* --- looking -------------------------------------------------------------------------------- */

static NetworkXml *read_xml(virNetworkPtr network, GError **error)
{
    char *xml = virNetworkGetXMLDesc(network, 0);
    NetworkXml *parsed = xml ? virt_network_xml_parse(xml) : NULL;
    if (!xml) {
        virt_error_set(error, "cannot read libvirt's network '%s'", virNetworkGetName(network));
    } else if (!parsed) {
        base_fail(error, VM_ERROR_HOST, "libvirt's network '%s' has no XML that can be read",
                  virNetworkGetName(network));
    }
    free(xml);
    return parsed;
}

static json_t *describe(virNetworkPtr network, const NetworkXml *xml)
{
    char uuid[VIR_UUID_STRING_BUFLEN] = "";
    virNetworkGetUUIDString(network, uuid);
    return json_pack("{s:s, s:s, s:s, s:s?, s:b, s:b, s:s?, s:s?}", "name",
                     virNetworkGetName(network), "uuid", uuid, "bridge", xml->bridge, "domain",
                     xml->domain, "is_active", virNetworkIsActive(network) == 1, "has_dhcp",
                     xml->has_dhcp, "cidr4", xml->address4, "cidr6", xml->address6);
}

/* Replaces `*found` by what is to be said of `network` when its bridge is that one. */
static void consider(virNetworkPtr network, const char *bridge, json_t **found)
{
    g_autoptr(NetworkXml) xml = read_xml(network, NULL); /* may have vanished meanwhile */
    bool has_active = json_is_true(json_object_get(*found, "is_active"));
    if (xml && g_strcmp0(xml->bridge, bridge) == 0 && !has_active) {
        json_decref(*found);
        *found = describe(network, xml);
    }
}

char *virt_op_network_by_bridge(VirtPart *part, const VirtArgs *args, GError **error)
{
    virNetworkPtr *networks = NULL;
    int n = virConnectListAllNetworks(part->conn, &networks, 0);
    if (n < 0 && virGetLastErrorCode() != VIR_ERR_NO_SUPPORT) {
        virt_error_set(error, "cannot list libvirt's networks");
        return NULL;
    }
    json_t *found = NULL;
    for (int i = 0; i < n; i++) {
        consider(networks[i], args->text, &found);
        virNetworkFree(networks[i]);
    }
    free(networks);
    virResetLastError();
    return virt_answer(found ? found : json_null());
}

static virNetworkPtr look_up(VirtPart *part, const char *name, GError **error)
{
    virNetworkPtr network = virNetworkLookupByName(part->conn, name);
    if (!network) {
        virt_error_set(error, "no network '%s' in libvirt", name);
    }
    return network;
}

/* --- choosing ------------------------------------------------------------------------------- */

static NetworkXmlHost *host_of_mac(const NetworkXml *xml, const char *mac)
{
    for (unsigned i = 0; i < xml->hosts->len; i++) {
        NetworkXmlHost *host = xml->hosts->pdata[i];
        if (host->mac && g_ascii_strcasecmp(host->mac, mac) == 0) {
            return host;
        }
    }
    return NULL;
}

static bool is_ours(const NetworkXmlHost *host, const Wish *wish)
{
    return g_strcmp0(host->name, wish->hostname) == 0;
}

/* Leased addresses (uint32_t in a pointer) of others than `mac`. */
static GHashTable *leased_by_others(virNetworkPtr network, const char *mac)
{
    GHashTable *leased = g_hash_table_new(NULL, NULL);
    virNetworkDHCPLeasePtr *leases = NULL;
    int n = virNetworkGetDHCPLeases(network, NULL, &leases, 0);
    for (int i = 0; i < n; i++) {
        uint32_t ip = 0;
        bool is_other = !leases[i]->mac || g_ascii_strcasecmp(leases[i]->mac, mac) != 0;
        if (is_other && virt_network_xml_ip(leases[i]->ipaddr, &ip)) {
            g_hash_table_add(leased, GUINT_TO_POINTER(ip));
        }
        virNetworkDHCPLeaseFree(leases[i]);
    }
    free(leases);
    virResetLastError(); /* an inactive network has none */
    return leased;
}

/* The first free address of a range from a place on that follows from the MAC; 0: none. */
static uint32_t free_in(const NetworkXml *xml, const NetworkXmlRange *range, GHashTable *taken,
                        const char *mac)
{
    uint64_t size = range->last >= range->first ? (uint64_t)range->last - range->first + 1 : 0;
    uint64_t begin = size ? g_str_hash(mac) % size : 0;
    for (uint64_t i = 0; i < size; i++) {
        uint32_t ip = range->first + (uint32_t)((begin + i) % size);
        if (virt_network_xml_can_have(xml, ip) &&
            !g_hash_table_contains(taken, GUINT_TO_POINTER(ip))) {
            return ip;
        }
    }
    return 0;
}

static bool choose(virNetworkPtr network, const NetworkXml *xml, const char *mac, uint32_t *out_ip,
                   GError **error)
{
    g_autoptr(GHashTable) taken = leased_by_others(network, mac);
    for (unsigned i = 0; i < xml->hosts->len; i++) {
        NetworkXmlHost *host = xml->hosts->pdata[i];
        g_hash_table_add(taken, GUINT_TO_POINTER(host->ip));
    }
    for (unsigned i = 0; i < xml->ranges->len; i++) {
        uint32_t ip = free_in(xml, &g_array_index(xml->ranges, NetworkXmlRange, i), taken, mac);
        if (ip) {
            *out_ip = ip;
            return true;
        }
    }
    return base_fail(error, VM_ERROR_NO_SPACE,
                     "libvirt's network '%s' has no free address in its DHCP ranges",
                     virNetworkGetName(network));
}

/* Whoever has this address, not with this MAC; NULL: nobody. */
static const NetworkXmlHost *other_with_ip(const NetworkXml *xml, uint32_t ip, const char *mac)
{
    for (unsigned i = 0; i < xml->hosts->len; i++) {
        const NetworkXmlHost *host = xml->hosts->pdata[i];
        if (host->ip == ip && (!host->mac || g_ascii_strcasecmp(host->mac, mac) != 0)) {
            return host;
        }
    }
    return NULL;
}

/* An address that was asked for. */
static bool check_ip(virNetworkPtr network, const NetworkXml *xml, const Wish *wish, GError **error)
{
    char ip[INET_ADDRSTRLEN];
    const char *name = virNetworkGetName(network);
    ip_text(wish->ip, ip);
    if (!virt_network_xml_can_have(xml, wish->ip)) {
        return base_fail(error, VM_ERROR_NET,
                         "address %s can't be a guest's in libvirt's network '%s' (%s)", ip, name,
                         xml->address4);
    }
    const NetworkXmlHost *other = other_with_ip(xml, wish->ip, wish->mac);
    if (other) {
        return base_fail(error, VM_ERROR_EXISTS,
                         "address %s is reserved for %s%s%s in libvirt's network '%s'", ip,
                         other->name ? other->name : "", other->name ? ", " : "",
                         other->mac ? other->mac : "another client", name);
    }
    g_autoptr(GHashTable) leased = leased_by_others(network, wish->mac);
    return !g_hash_table_contains(leased, GUINT_TO_POINTER(wish->ip)) ||
           base_fail(error, VM_ERROR_EXISTS,
                     "address %s is leased to another guest of libvirt's network '%s'", ip, name);
}

/* --- changing ------------------------------------------------------------------------------- */

/* Where a change goes: to what runs and to what is defined, as far as there are these. */
static unsigned flags_of(virNetworkPtr network)
{
    return (virNetworkIsActive(network) == 1 ? (unsigned)VIR_NETWORK_UPDATE_AFFECT_LIVE : 0) |
           (virNetworkIsPersistent(network) == 1 ? (unsigned)VIR_NETWORK_UPDATE_AFFECT_CONFIG : 0);
}

static bool update(virNetworkPtr network, const NetworkXml *xml, unsigned command, const char *host)
{
    return virNetworkUpdate(network, command, VIR_NETWORK_SECTION_IP_DHCP_HOST, xml->ip_index, host,
                            flags_of(network)) == 0;
}

typedef enum { DONE, AGAIN, FAILED } Outcome;

/* A reservation for the MAC is there. */
static Outcome keep_or_modify(virNetworkPtr network, const NetworkXml *xml,
                              const NetworkXmlHost *host, const Wish *wish, uint32_t *out_ip,
                              GError **error)
{
    char ip[INET_ADDRSTRLEN];
    if (!wish->has_ip || wish->ip == host->ip) {
        *out_ip = host->ip;
        return DONE;
    }
    if (!is_ours(host, wish)) {
        base_fail(error, VM_ERROR_EXISTS,
                  "libvirt's network '%s' reserves address %s for %s (%s), not the one asked for",
                  virNetworkGetName(network), ip_text(host->ip, ip), wish->mac,
                  host->name ? host->name : "without a name");
        return FAILED;
    }
    if (!check_ip(network, xml, wish, error)) {
        return FAILED;
    }
    g_autofree char *text = virt_network_xml_host(wish->mac, wish->hostname, wish->ip);
    if (!update(network, xml, VIR_NETWORK_UPDATE_COMMAND_MODIFY, text)) {
        virt_error_set(error, "cannot change the reservation of %s in libvirt's network '%s'",
                       wish->mac, virNetworkGetName(network));
        return FAILED;
    }
    *out_ip = wish->ip;
    return DONE;
}

/* libvirt would refuse the name too, after half a second and in other words. */
static bool check_name(virNetworkPtr network, const NetworkXml *xml, const Wish *wish,
                       GError **error)
{
    char ip[INET_ADDRSTRLEN];
    for (unsigned i = 0; wish->hostname && i < xml->hosts->len; i++) {
        const NetworkXmlHost *host = xml->hosts->pdata[i];
        if (g_strcmp0(host->name, wish->hostname) == 0) {
            return base_fail(error, VM_ERROR_EXISTS,
                             "name '%s' is reserved for %s (%s) in libvirt's network '%s'",
                             host->name, host->mac ? host->mac : "another client",
                             ip_text(host->ip, ip), virNetworkGetName(network));
        }
    }
    return true;
}

static Outcome add_host(virNetworkPtr network, const NetworkXml *xml, const Wish *wish,
                        uint32_t *out_ip, GError **error)
{
    uint32_t chosen = wish->ip;
    if (!check_name(network, xml, wish, error) ||
        !(wish->has_ip ? check_ip(network, xml, wish, error)
                       : choose(network, xml, wish->mac, &chosen, error))) {
        return FAILED;
    }
    g_autofree char *text = virt_network_xml_host(wish->mac, wish->hostname, chosen);
    if (update(network, xml, VIR_NETWORK_UPDATE_COMMAND_ADD_LAST, text)) {
        *out_ip = chosen;
        return DONE;
    }
    bool is_taken = virGetLastErrorCode() == VIR_ERR_OPERATION_INVALID;
    virt_error_set(error, "cannot reserve an address for %s in libvirt's network '%s'", wish->mac,
                   virNetworkGetName(network));
    if (is_taken && error && *error) {
        (*error)->code = VM_ERROR_EXISTS;
    }
    return is_taken ? AGAIN : FAILED;
}

static Outcome try_to_reserve(virNetworkPtr network, const Wish *wish, uint32_t *out_ip,
                              GError **error)
{
    g_autoptr(NetworkXml) xml = read_xml(network, error);
    if (!xml) {
        return FAILED;
    }
    if (!xml->has_dhcp) {
        base_fail(error, VM_ERROR_UNSUPPORTED,
                  "libvirt's network '%s' serves no IPv4 addresses (it has no <dhcp>)",
                  virNetworkGetName(network));
        return FAILED;
    }
    const NetworkXmlHost *host = host_of_mac(xml, wish->mac);
    return host ? keep_or_modify(network, xml, host, wish, out_ip, error)
                : add_host(network, xml, wish, out_ip, error);
}

char *virt_op_network_reserve(VirtPart *part, const VirtArgs *args, GError **error)
{
    g_auto(Wish) wish = {0};
    g_autoptr(virNetwork) network =
        wish_parse(args, &wish, error) ? look_up(part, wish.network, error) : NULL;
    g_autoptr(GError) cause = NULL;
    Outcome outcome = network ? AGAIN : FAILED;
    uint32_t ip = 0;
    char text[INET_ADDRSTRLEN];
    for (unsigned i = 0; outcome == AGAIN && i < TRIES; i++) {
        g_clear_error(&cause);
        outcome = try_to_reserve(network, &wish, &ip, &cause);
    }
    if (cause) {
        g_propagate_error(error, g_steal_pointer(&cause));
    }
    return outcome == DONE ? virt_answer(json_string(ip_text(ip, text))) : NULL;
}

static bool release(virNetworkPtr network, const Wish *wish, GError **error)
{
    g_autoptr(NetworkXml) xml = read_xml(network, error);
    const NetworkXmlHost *host = xml ? host_of_mac(xml, wish->mac) : NULL;
    if (!host || !is_ours(host, wish) || (wish->has_ip && wish->ip != host->ip)) {
        return xml;
    }
    g_autofree char *text = virt_network_xml_host(host->mac, host->name, host->ip);
    if (!update(network, xml, VIR_NETWORK_UPDATE_COMMAND_DELETE, text)) {
        /* gone meanwhile? then it says so, and reading it again shows it */
        g_autoptr(NetworkXml) now = read_xml(network, NULL);
        if (now && !host_of_mac(now, wish->mac)) {
            return true;
        }
        virt_error_set(error, "cannot release the address of %s in libvirt's network '%s'",
                       wish->mac, virNetworkGetName(network));
        return false;
    }
    return true;
}

char *virt_op_network_release(VirtPart *part, const VirtArgs *args, GError **error)
{
    g_auto(Wish) wish = {0};
    g_autoptr(GError) cause = NULL;
    g_autoptr(virNetwork) network =
        wish_parse(args, &wish, &cause) ? look_up(part, wish.network, &cause) : NULL;
    bool is_absent = g_error_matches(cause, VM_ERROR, VM_ERROR_NOT_FOUND);
    if (cause && !is_absent) {
        g_propagate_error(error, g_steal_pointer(&cause));
        return NULL;
    }
    return is_absent || release(network, &wish, error) ? virt_answer_true() : NULL;
}

char *virt_op_network_lease(VirtPart *part, const VirtArgs *args, GError **error)
{
    g_auto(Wish) wish = {0};
    g_autoptr(virNetwork) network =
        wish_parse(args, &wish, error) ? look_up(part, wish.network, error) : NULL;
    if (!network) {
        return NULL;
    }
    virNetworkDHCPLeasePtr *leases = NULL;
    int n = virNetworkGetDHCPLeases(network, wish.mac, &leases, 0);
    if (n < 0) {
        virt_error_set(error, "cannot read the leases of libvirt's network '%s'", wish.network);
        return NULL;
    }
    json_t *answer = json_object();
    for (int i = 0; i < n; i++) {
        const char *family = leases[i]->type == VIR_IP_ADDR_TYPE_IPV6 ? "ip6" : "ip4";
        json_object_set_new(answer, family, json_string(leases[i]->ipaddr));
        virNetworkDHCPLeaseFree(leases[i]);
    }
    free(leases);
    return virt_answer(answer);
}
