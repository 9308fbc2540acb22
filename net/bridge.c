#include "net/bridge.h"

#include <string.h>
#include "base/error.h"
#include "net/bridge_forward.h"
#include "net/link_birth.h"
#include "net/route.h"

/*
 * How it works. Creating and checking are one walk over what should be: link, settings, addresses,
 * routes, each read first. With `differences` each deviation becomes a line there, without it is
 * mended. The link comes up only after its settings, so it never hears a router.
 */

#define KIND       "bridge"
#define TAG_MIDDLE ":net:"

enum { MAC_GROUP_BIT = 1, MAC_LOCAL_BIT = 2, MTU_DEFAULT = 1500, LINK_LOCAL_BITS = 64 };
enum { MTU_MIN = 68, MTU_MIN_IPV6 = 1280, MTU_MAX = 65535, NAMES_SHOWN = 8, CREATE_TRIES = 8 };

char *net_bridge_name(const char *owner_tag)
{
    return net_link_hash_name("vmb", owner_tag);
}

char *net_bridge_owner_tag(const char *store_id, const char *network)
{
    return g_strdup_printf(NET_TAG_PREFIX "%s" TAG_MIDDLE "%s", store_id, network);
}

void net_bridge_mac(const char *owner_tag, uint8_t out[6])
{
    g_autofree char *text = g_strconcat("mac:", owner_tag, NULL);
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    guint8 hash[32];
    gsize n_hash = sizeof hash;
    g_checksum_update(sum, (const guchar *)text, -1);
    g_checksum_get_digest(sum, hash, &n_hash);
    memcpy(out, hash, NET_MAC_BYTES);
    out[0] = (uint8_t)((out[0] & ~MAC_GROUP_BIT) | MAC_LOCAL_BIT);
}

/* --- what should be ------------------------------------------------------------ */

typedef struct {
    NetSocket *sock;
    const NetBridge *bridge;
    char *object;           /* "bridge 'x'", owned */
    GPtrArray *differences; /* NULL: mend */
    unsigned index;         /* of the link */
    uint8_t mac[NET_MAC_BYTES];
} Walk;

static void clear_walk(Walk *walk)
{
    g_clear_pointer(&walk->sock, net_socket_close);
    g_clear_pointer(&walk->object, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Walk, clear_walk)

static void differ(Walk *walk, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void differ(Walk *walk, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_ptr_array_add(walk->differences, g_strdup_printf("%s %s", walk->object, text));
}

static bool check_values(const NetBridge *bridge, GError **error)
{
    static const uint8_t no_mac[NET_MAC_BYTES] = {0};
    uint32_t mtu = bridge->mtu ? bridge->mtu : MTU_DEFAULT;
    if (!net_link_name_check(bridge->name, error) ||
        !net_link_tag_check(bridge->owner_tag, error)) {
        return false;
    }
    if ((bridge->mac[0] & MAC_GROUP_BIT) || !memcmp(bridge->mac, no_mac, sizeof no_mac)) {
        return base_fail(error, VM_ERROR_NET, "bridge '%s': its MAC is none of one station",
                         bridge->name);
    }
    if (mtu < (bridge->n_bits6 ? MTU_MIN_IPV6 : MTU_MIN) || mtu > MTU_MAX) {
        return base_fail(error, VM_ERROR_NET, "bridge '%s': its MTU %u is not %d to %d",
                         bridge->name, mtu, bridge->n_bits6 ? MTU_MIN_IPV6 : MTU_MIN, MTU_MAX);
    }
    return true;
}

static bool begin(Walk *walk, const NetBridge *bridge, GPtrArray *differences, GError **error)
{
    if (!check_values(bridge, error)) {
        return false;
    }
    *walk = (Walk){.bridge = bridge,
                   .differences = differences,
                   .object = g_strdup_printf("bridge '%s'", bridge->name),
                   .sock = net_socket_open(error)};
    memcpy(walk->mac, bridge->mac, sizeof walk->mac);
    return walk->sock != NULL;
}

/* --- the link ------------------------------------------------------------------ */

static const uint32_t no_group = 0;

/* Fills in only what differs. A link that was never set up gets everything: its MTU is the one that
 * a new bridge has, but would follow its ports. */
static NetLinkChange link_difference(const Walk *walk, const NetLink *link)
{
    uint32_t mtu = walk->bridge->mtu ? walk->bridge->mtu : MTU_DEFAULT;
    bool is_new = link->group == net_link_birth_group(link->name);
    return (NetLinkChange){
        .mac = memcmp(link->mac, walk->mac, NET_MAC_BYTES) ? walk->mac : NULL,
        .mtu = is_new || link->mtu != mtu ? mtu : 0,
        .group = is_new ? &no_group : NULL,
        .silences_ipv6 = !link->is_ipv6_silent,
        .stops_stp = link->has_stp,
        .settles_bridge = link->forward_delay || link->has_snooping,
    };
}

static void tell_link(Walk *walk, const NetLink *link)
{
    const NetLinkChange change = link_difference(walk, link);
    if (change.mac) {
        differ(walk, "has another MAC");
    }
    if (change.mtu) {
        differ(walk, "has MTU %u, not %u", link->mtu, change.mtu);
    }
    if (change.silences_ipv6) {
        differ(walk, "makes link-local addresses of its own");
    }
    if (change.stops_stp || change.settles_bridge) {
        differ(walk, "has STP, a forward delay or multicast snooping");
    }
    if (!link->is_up) {
        differ(walk, "is down");
    }
}

/* --- addresses ----------------------------------------------------------------- */

static bool has_address(const GPtrArray *all, const BaseIp *ip, uint8_t n_bits)
{
    for (guint i = 0; i < all->len; i++) {
        const NetAddress *address = all->pdata[i];
        if (base_ip_equal(&address->cidr.ip, ip) && address->cidr.n_bits == n_bits) {
            return true;
        }
    }
    return false;
}

static bool settle_address(Walk *walk, const GPtrArray *all, const BaseIp *ip, uint8_t n_bits,
                           GError **error)
{
    char text[BASE_IP_TEXT_BYTES];
    if (!n_bits || has_address(all, ip, n_bits)) {
        return true;
    }
    if (walk->differences) {
        differ(walk, "has no address %s/%u", base_ip_format(ip, text), n_bits);
        return true;
    }
    return net_address_add(walk->sock, walk->index, ip, n_bits, walk->object, error);
}

static bool settle_addresses(Walk *walk, GError **error)
{
    const NetBridge *bridge = walk->bridge;
    BaseIp link_local = base_ip_link_local_of_mac(bridge->mac);
    g_autoptr(GPtrArray) all = net_address_list(walk->sock, walk->index, error);
    return all && settle_address(walk, all, &bridge->gateway4, bridge->n_bits4, error) &&
           settle_address(walk, all, &bridge->gateway6, bridge->n_bits6, error) &&
           settle_address(walk, all, &link_local, bridge->n_bits6 ? LINK_LOCAL_BITS : 0, error);
}

static bool settle_loopback(Walk *walk, GError **error)
{
    bool is_there = false;
    if (!walk->bridge->n_bits6) {
        return true;
    }
    if (!net_route_find_loopback(walk->sock, walk->index, &is_there, error)) {
        return false;
    }
    if (!is_there && walk->differences) {
        differ(walk, "has no route for ::1");
        return true;
    }
    return is_there || net_route_add_loopback(walk->sock, walk->index, walk->object, error);
}

/* --- create, check ------------------------------------------------------------- */

static bool create(Walk *walk, GError **error)
{
    const NetBridge *bridge = walk->bridge;
    g_autoptr(NetLink) link = NULL;
    NetLinkBirth birth = {
        .name = bridge->name, .kind = KIND, .tag = bridge->owner_tag, .mac = bridge->mac};
    if (!net_link_create(walk->sock, &birth, &link, error)) {
        return false;
    }
    walk->index = link->index;
    NetLinkChange settings = link_difference(walk, link);
    NetLinkChange up = {.sets_up = !link->is_up};
    return net_link_change(walk->sock, link, &settings, error) &&
           net_bridge_settle_sysctls(walk->sock, bridge, NULL, error) &&
           net_link_change(walk->sock, link, &up, error) && settle_addresses(walk, error) &&
           settle_loopback(walk, error);
}

/* A sweep that saw it before its tag, or a removal, may take it away while it is made. */
bool net_bridge_create(const NetBridge *bridge, GError **error)
{
    g_auto(Walk) walk = {0};
    GError *problem = NULL;
    if (!begin(&walk, bridge, NULL, error)) {
        return false;
    }
    bool is_done = create(&walk, &problem);
    for (int i = 1; i < CREATE_TRIES && g_error_matches(problem, VM_ERROR, VM_ERROR_NOT_FOUND);
         i++) {
        g_clear_error(&problem);
        is_done = create(&walk, &problem);
    }
    if (!is_done) {
        g_propagate_error(error, problem);
    }
    return is_done;
}

bool net_bridge_check(const NetBridge *bridge, GPtrArray *differences, GError **error)
{
    g_auto(Walk) walk = {0};
    g_autoptr(NetLink) link = NULL;
    if (!begin(&walk, bridge, differences, error) ||
        !net_link_find(walk.sock, bridge->name, &link, error)) {
        return false;
    }
    if (!link) {
        differ(&walk, "is not there");
        return true;
    }
    if (strcmp(link->kind, KIND) != 0 || !net_link_has_altname(link, bridge->owner_tag)) {
        differ(&walk, "is not ours: it lacks the tag '%s'", bridge->owner_tag);
        return true;
    }
    walk.index = link->index;
    tell_link(&walk, link);
    return net_bridge_settle_sysctls(walk.sock, bridge, differences, error) &&
           settle_addresses(&walk, error) && settle_loopback(&walk, error);
}

/* --- removing ------------------------------------------------------------------ */

/* "a, b, c and 4 more" of char*; NULL for none. */
static char *join_names(const GPtrArray *names)
{
    g_autoptr(GString) text = g_string_new(NULL);
    for (guint i = 0; i < names->len && i < NAMES_SHOWN; i++) {
        g_string_append_printf(text, "%s%s", i ? ", " : "", (const char *)names->pdata[i]);
    }
    if (names->len > NAMES_SHOWN) {
        g_string_append_printf(text, " and %u more", names->len - NAMES_SHOWN);
    }
    return names->len ? g_strdup(text->str) : NULL;
}

static GPtrArray *list_ports(NetSocket *sock, unsigned index, GError **error)
{
    g_autoptr(GPtrArray) links = net_link_list(sock, NULL, index, error);
    if (!links) {
        return NULL;
    }
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < links->len; i++) {
        const NetLink *link = links->pdata[i];
        if (link->bridge_index == index) {
            g_ptr_array_add(names, g_strdup(link->name));
        }
    }
    return names;
}

/* Addresses that somebody added by hand, as text. Where the kernel keeps no mark, the first of each
 * family counts as ours. */
static GPtrArray *list_foreign_addresses(NetSocket *sock, unsigned index, GError **error)
{
    bool keeps_proto = true;
    bool is_seen[BASE_IP_TEXT_BYTES] = {false}; /* by the address's length */
    g_autoptr(GPtrArray) all = net_address_list(sock, index, error);
    if (!all || !net_address_probe_proto(sock, &keeps_proto, error)) {
        return NULL;
    }
    GPtrArray *texts = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < all->len; i++) {
        char text[BASE_CIDR_TEXT_BYTES];
        const NetAddress *address = all->pdata[i];
        bool is_first = !is_seen[address->cidr.ip.n_bytes];
        bool is_own = keeps_proto ? address->proto == NET_ADDRESS_PROTO : is_first;
        if (base_ip_is_link_local(&address->cidr.ip)) { /* the kernel makes those */
            continue;
        }
        is_seen[address->cidr.ip.n_bytes] = true;
        if (!is_own) {
            g_ptr_array_add(texts, g_strdup(base_cidr_format(&address->cidr, text)));
        }
    }
    return texts;
}

static bool check_unused(NetSocket *sock, const NetLink *link, GError **error)
{
    g_autoptr(GPtrArray) ports = list_ports(sock, link->index, error);
    g_autoptr(GPtrArray) addresses =
        ports ? list_foreign_addresses(sock, link->index, error) : NULL;
    if (!addresses) {
        return false;
    }
    g_autofree char *port_names = join_names(ports);
    g_autofree char *address_texts = join_names(addresses);
    if (port_names) {
        return base_fail(error, VM_ERROR_BUSY,
                         "bridge '%s' is kept: %s %s on it - take it off: ip link set %s nomaster",
                         link->name, port_names, ports->len == 1 ? "is" : "are",
                         (const char *)ports->pdata[0]);
    }
    if (address_texts) {
        return base_fail(
            error, VM_ERROR_BUSY,
            "bridge '%s' is kept: it has %s, added by somebody else - ip address del %s dev %s",
            link->name, address_texts, (const char *)addresses->pdata[0], link->name);
    }
    return true;
}

bool net_bridge_remove(const char *name, const char *owner_tag, GError **error)
{
    g_autoptr(NetLink) link = NULL;
    if (!net_link_name_check(name, error) || !net_link_tag_check(owner_tag, error)) {
        return false;
    }
    g_autoptr(NetSocket) sock = net_socket_open(error);
    if (!sock || !net_link_find_ours(sock, name, KIND, owner_tag, &link, error)) {
        return false;
    }
    if (!link && !net_link_find(sock, owner_tag, &link, error)) { /* somebody renamed it? */
        return false;
    }
    if (!link || strcmp(link->kind, KIND) != 0) {
        return true;
    }
    return check_unused(sock, link, error) && net_link_delete(sock, link, error);
}

/* --- listing ------------------------------------------------------------------- */

GPtrArray *net_bridge_list(GError **error)
{
    g_autoptr(NetSocket) sock = net_socket_open(error);
    g_autoptr(GPtrArray) links = sock ? net_link_list(sock, KIND, 0, error) : NULL;
    if (!links) {
        return NULL;
    }
    GPtrArray *bridges = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < links->len; i++) {
        const NetLink *link = links->pdata[i];
        const char *tag = net_link_tag(link);
        if (!strcmp(link->kind, KIND) && tag && strstr(tag, TAG_MIDDLE)) {
            g_ptr_array_add(bridges, g_strdup_printf("%s %s", link->name, tag));
        }
    }
    return bridges;
}

GPtrArray *net_bridge_sweep(bool is_dry_run, GError **error)
{
    g_autoptr(NetSocket) sock = net_socket_open(error);
    return sock ? net_link_sweep(sock, KIND, is_dry_run, error) : NULL;
}

GPtrArray *net_bridge_ports(const char *name, GError **error)
{
    g_autoptr(NetLink) link = NULL;
    g_autoptr(NetSocket) sock = net_socket_open(error);
    if (!sock || !net_link_find_kind(sock, name, KIND, &link, error)) {
        return NULL;
    }
    return list_ports(sock, link->index, error);
}

GPtrArray *net_bridge_foreign_addresses(const char *name, GError **error)
{
    g_autoptr(NetLink) link = NULL;
    g_autoptr(NetSocket) sock = net_socket_open(error);
    if (!sock || !net_link_find(sock, name, &link, error)) {
        return NULL;
    }
    return link ? list_foreign_addresses(sock, link->index, error) : g_ptr_array_new();
}
