#include "net/rules_internal.h"

#include <netinet/in.h>
#include <string.h>
#include "base/error.h"
#include "net/port.h"

/*
 * Port maps. What one NIC may have at most: each is an element, and a transaction of this size
 * takes 30 ms.
 */
enum { PORTS_MAX = 1024 };

/* At the wildcard a map takes guests' own traffic to the gateway, too. */
static const uint16_t reserved_ports[] = {53, 67, 547};

static uint8_t proto_of(const NetPortMap *port)
{
    return port->is_udp ? IPPROTO_UDP : IPPROTO_TCP;
}

static bool is_at_address(const NetPortMap *port)
{
    return base_ip_is_set(&port->host);
}

static bool is_ipv4(const NetPortMap *port)
{
    return port->guest.n_bytes == 4;
}

char *net_rules_port_text(const NetPortMap *port)
{
    char host[BASE_IP_TEXT_BYTES];
    base_ip_format(&port->host, host);
    bool is_bracketed = port->host.n_bytes == sizeof port->host.bytes;
    return g_strdup_printf("%s %s%s%s:%u", port->is_udp ? "udp" : "tcp", is_bracketed ? "[" : "",
                           *host           ? host
                           : is_ipv4(port) ? "*"
                                           : "[*]",
                           is_bracketed ? "]" : "", port->host_port);
}

/* proto . port, as in pm4any and held4 */
static NetNftBytes port_key(const NetPortMap *port)
{
    NetNftBytes key = {0};
    uint8_t proto = proto_of(port);
    uint16_t wire = htons(port->host_port);
    net_nft_bytes_add(&key, &proto, sizeof proto);
    net_nft_bytes_add(&key, &wire, sizeof wire);
    return key;
}

static json_t *port_json(const NetPortMap *port)
{
    return json_pack("{s:[i,i]}", "concat", proto_of(port), port->host_port);
}

static NetRulesElement *new_element(const NetPortMap *port, const char *owner)
{
    NetRulesElement *element = g_new0(NetRulesElement, 1);
    char host[BASE_IP_TEXT_BYTES], guest[BASE_IP_TEXT_BYTES];
    uint16_t guest_port = htons(port->guest_port);
    base_ip_format(&port->guest, guest);
    if (is_at_address(port)) {
        NetNftBytes rest = port_key(port);
        element->set = is_ipv4(port) ? "pm4" : "pm6";
        net_nft_bytes_add(&element->key, port->host.bytes, port->host.n_bytes);
        net_nft_bytes_add(&element->key, rest.bytes, rest.n_bytes);
        element->json_key = json_pack("{s:[s,i,i]}", "concat", base_ip_format(&port->host, host),
                                      proto_of(port), port->host_port);
    } else {
        element->set = is_ipv4(port) ? "pm4any" : "pm6any";
        element->key = port_key(port);
        element->json_key = port_json(port);
    }
    net_nft_bytes_add(&element->value, port->guest.bytes, port->guest.n_bytes);
    net_nft_bytes_add(&element->value, &guest_port, sizeof guest_port);
    element->json_value = json_pack("{s:[s,i]}", "concat", guest, port->guest_port);
    element->owner = owner;
    element->port = port;
    g_autofree char *text = net_rules_port_text(port);
    element->what = g_strdup_printf(is_ipv4(port) ? "port %s -> %s:%u" : "port %s -> [%s]:%u", text,
                                    guest, port->guest_port);
    return element;
}

void net_rules_port_elements(const NetMember *member, GPtrArray *elements)
{
    for (unsigned i = 0; i < member->ports->len; i++) {
        g_ptr_array_add(elements, new_element(member->ports->pdata[i], member->owner));
    }
}

static bool check_port(const NetPortMap *port, GError **error)
{
    if (!base_ip_is_set(&port->guest) ||
        (is_at_address(port) && port->host.n_bytes != port->guest.n_bytes)) {
        return base_fail(error, VM_ERROR_PORT,
                         "port %u: the guest has no address of that family here - give it a fixed "
                         "ip, or name another host address",
                         port->host_port ? port->host_port : port->guest_port);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(reserved_ports); i++) {
        if (!is_at_address(port) && port->host_port == reserved_ports[i]) {
            return base_fail(error, VM_ERROR_PORT,
                             "port %u at all addresses would take the guests' own DNS and DHCP - "
                             "name a host address: ADDRESS:%u:%u",
                             port->host_port, port->host_port, port->guest_port);
        }
    }
    return true;
}

bool net_rules_check_ports(NetMember *const *members, unsigned n_members, GError **error)
{
    unsigned n_ports = 0;
    for (unsigned i = 0; i < n_members; i++) {
        n_ports += members[i]->ports->len;
        for (unsigned j = 0; j < members[i]->ports->len; j++) {
            if (!check_port(members[i]->ports->pdata[j], error)) {
                return false;
            }
        }
    }
    return n_ports <= PORTS_MAX ||
           base_fail(error, VM_ERROR_PORT,
                     "%u ports are more than the %d that a machine may have - map fewer", n_ports,
                     PORTS_MAX);
}

/* --- wildcard against address ------------------------------------------------- */

static const char *held_set(const NetPortMap *port)
{
    return is_ipv4(port) ? "held4" : "held6";
}

/* Who maps this port at one address? *out_holder NULL: nobody. The marker tells of most ports that
 * nobody does; only where it stands is the map listed. */
static bool find_at_address(const NetPortMap *port, char **out_holder, GError **error)
{
    NetNftFound found = NET_NFT_ABSENT;
    NetNftBytes key = port_key(port);
    *out_holder = NULL;
    if (!net_nft_get(NET_NFT_INET, held_set(port), &key, &found, NULL, NULL, error)) {
        return false;
    }
    if (found == NET_NFT_ABSENT) {
        return true;
    }
    g_autoptr(GPtrArray) all = net_nft_list(NET_NFT_INET, is_ipv4(port) ? "pm4" : "pm6", error);
    for (unsigned i = 0; all && i < all->len && !*out_holder; i++) {
        const NetNftElement *element = all->pdata[i];
        if (!memcmp(&element->key.bytes[port->guest.n_bytes], key.bytes, key.n_bytes)) {
            *out_holder = g_strdup(element->comment ? element->comment : "");
        }
    }
    return all != NULL;
}

static bool find_at_wildcard(const NetPortMap *port, char **out_holder, GError **error)
{
    NetNftFound found = NET_NFT_ABSENT;
    NetNftBytes key = port_key(port);
    g_autofree char *holder = NULL;
    if (!net_nft_get(NET_NFT_INET, is_ipv4(port) ? "pm4any" : "pm6any", &key, &found, NULL, &holder,
                     error)) {
        return false;
    }
    *out_holder = found == NET_NFT_PRESENT ? g_strdup(holder ? holder : "") : NULL;
    return true;
}

bool net_rules_refuse_clash(const NetPortMap *port, const char *owner, GError **error)
{
    g_autofree char *holder = NULL;
    bool is_read = is_at_address(port) ? find_at_wildcard(port, &holder, error)
                                       : find_at_address(port, &holder, error);
    if (!is_read) {
        return false;
    }
    if (!holder || strcmp(holder, owner) == 0) {
        return true;
    }
    g_autofree char *text = net_rules_port_text(port);
    g_autofree char *who = net_rules_owner_text(holder);
    return base_fail(error, VM_ERROR_EXISTS, "port %s is taken by %s at %s - choose another", text,
                     who, is_at_address(port) ? "all addresses" : "one of this host's addresses");
}

/* The marker, written or (`is_gone`) written and deleted, which succeeds whether or not it is
 * there. */
static void append_marker(NetNftBatch *batch, const NetPortMap *port, bool is_gone)
{
    NetNftBytes key = port_key(port);
    json_t *json = port_json(port);
    NetNftTwin twin = {.set = held_set(port), .key = &key, .json_key = json};
    net_nft_add_twin(batch, NET_NFT_INET, &twin);
    if (is_gone) {
        net_nft_delete_twin(batch, NET_NFT_INET, &twin);
    }
    json_decref(json);
}

void net_rules_hold_port(NetNftBatch *batch, const NetPortMap *port)
{
    if (is_at_address(port)) {
        append_marker(batch, port, false);
    }
}

/* How many of this port are mapped at addresses. */
static unsigned count_held(const GPtrArray *all, const NetPortMap *port)
{
    NetNftBytes key = port_key(port);
    unsigned n_held = 0;
    for (unsigned i = 0; i < all->len; i++) {
        const NetNftElement *element = all->pdata[i];
        n_held += !memcmp(&element->key.bytes[port->guest.n_bytes], key.bytes, key.n_bytes);
    }
    return n_held;
}

static unsigned count_gone(const GPtrArray *gone, const NetPortMap *port)
{
    NetNftBytes key = port_key(port);
    unsigned n_gone = 0;
    for (unsigned i = 0; i < gone->len; i++) {
        const NetPortMap *other = ((NetRulesElement *)gone->pdata[i])->port;
        NetNftBytes other_key = port_key(other);
        n_gone += is_at_address(other) && is_ipv4(other) == is_ipv4(port) &&
                  !memcmp(key.bytes, other_key.bytes, key.n_bytes);
    }
    return n_gone;
}

bool net_rules_release_ports(NetNftBatch *batch, const GPtrArray *gone, GError **error)
{
    g_autoptr(GPtrArray) ipv4 = NULL, ipv6 = NULL;
    for (unsigned i = 0; i < gone->len; i++) {
        const NetPortMap *port = ((NetRulesElement *)gone->pdata[i])->port;
        if (!is_at_address(port)) {
            continue;
        }
        GPtrArray **all = is_ipv4(port) ? &ipv4 : &ipv6;
        if (!*all) {
            *all = net_nft_list(NET_NFT_INET, is_ipv4(port) ? "pm4" : "pm6", error);
        }
        if (!*all) {
            return false;
        }
        if (count_held(*all, port) <= count_gone(gone, port)) {
            append_marker(batch, port, true);
        }
    }
    return true;
}
