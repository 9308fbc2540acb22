#include "net/route.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include "base/error.h"
#include "net/bridge.h"

enum {
    IPV4_BYTES = 4,
    IPV6_BYTES = 16,
    IPV6_BITS = 128,
    LOOPBACK_METRIC = 4096, /* + the link's index; above loopback's own, which is 0 */
    LOOPBACK_INDEX = 1,
    /* "Everything" is also written as 0.0.0.0/1 and 128.0.0.0/1, or 2000::/3 (VPNs, providers). */
    DEFAULT_MAX_BITS = 3,
};

static const int families[] = {AF_INET, AF_INET6};

static BaseIp read_ip(struct nlattr *attr)
{
    BaseIp ip = {0};
    int n = attr ? nla_len(attr) : 0;
    if (n == IPV4_BYTES || n == IPV6_BYTES) {
        ip.n_bytes = (uint8_t)n;
        memcpy(ip.bytes, nla_data(attr), (size_t)n);
    }
    return ip;
}

/* --- addresses ----------------------------------------------------------------- */

static gpointer read_address(struct nlmsghdr *header)
{
    struct nlattr *attrs[IFA_MAX + 1];
    if (header->nlmsg_type != RTM_NEWADDR ||
        nlmsg_parse(header, sizeof(struct ifaddrmsg), attrs, IFA_MAX, NULL) < 0) {
        return NULL;
    }
    const struct ifaddrmsg *info = nlmsg_data(header);
    NetAddress *address = g_new0(NetAddress, 1);
    address->index = info->ifa_index;
    address->cidr.ip = read_ip(attrs[IFA_LOCAL] ? attrs[IFA_LOCAL] : attrs[IFA_ADDRESS]);
    address->cidr.n_bits = info->ifa_prefixlen;
    address->proto = attrs[IFA_PROTO] ? nla_get_u8(attrs[IFA_PROTO]) : 0;
    return address;
}

GPtrArray *net_address_list(NetSocket *sock, unsigned index, GError **error)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(g_free);
    for (gsize i = 0; i < G_N_ELEMENTS(families); i++) {
        struct ifaddrmsg info = {.ifa_family = (unsigned char)families[i], .ifa_index = index};
        g_autoptr(NetMessage) msg = net_message_new(RTM_GETADDR, NLM_F_DUMP, &info, sizeof info);
        if (!msg) {
            net_request_fail_memory(error);
            return NULL;
        }
        g_autoptr(GPtrArray) found =
            net_request_dump(sock, msg, read_address, g_free, "the addresses of this host", error);
        if (!found) {
            return NULL;
        }
        for (guint k = 0; k < found->len; k++) { /* older kernels give those of all links */
            NetAddress *address = found->pdata[k];
            if (!index || address->index == index) {
                g_ptr_array_add(all, g_memdup2(address, sizeof *address));
            }
        }
    }
    return g_steal_pointer(&all);
}

static NetMessage *new_address_message(uint16_t type, int flags, unsigned index, const BaseIp *ip,
                                       uint8_t n_bits)
{
    struct ifaddrmsg info = {
        .ifa_family = ip->n_bytes == IPV4_BYTES ? AF_INET : AF_INET6,
        .ifa_prefixlen = n_bits,
        .ifa_scope = base_ip_is_link_local(ip) ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
        .ifa_index = index,
    };
    g_autoptr(NetMessage) msg = net_message_new(type, flags, &info, sizeof info);
    if (!msg || nla_put(msg, IFA_LOCAL, ip->n_bytes, ip->bytes) < 0 ||
        nla_put(msg, IFA_ADDRESS, ip->n_bytes, ip->bytes) < 0) {
        return NULL;
    }
    return g_steal_pointer(&msg);
}

bool net_address_add(NetSocket *sock, unsigned index, const BaseIp *ip, uint8_t n_bits,
                     const char *object, GError **error)
{
    char text[BASE_IP_TEXT_BYTES];
    g_autofree char *what = g_strdup_printf("add address %s/%u", base_ip_format(ip, text), n_bits);
    g_autoptr(NetMessage) msg =
        new_address_message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, index, ip, n_bits);
    if (!msg || nla_put_u8(msg, IFA_PROTO, NET_ADDRESS_PROTO) < 0 ||
        (ip->n_bytes == IPV6_BYTES && nla_put_u32(msg, IFA_FLAGS, IFA_F_NODAD) < 0)) {
        return net_request_fail_memory(error);
    }
    return net_request_change(sock, msg, EEXIST, object, what, error);
}

bool net_address_probe_proto(NetSocket *sock, bool *out_keeps_proto, GError **error)
{
    g_autoptr(GPtrArray) all = net_address_list(sock, LOOPBACK_INDEX, error);
    if (!all) {
        return false;
    }
    bool keeps = all->len == 0; /* loopback is down: nothing tells, so the newer kernel */
    for (guint i = 0; i < all->len; i++) {
        const NetAddress *address = all->pdata[i];
        keeps = keeps || address->proto != 0;
    }
    *out_keeps_proto = keeps;
    return true;
}

/* --- routes -------------------------------------------------------------------- */

typedef struct {
    BaseCidr to;
    uint32_t table;
    uint8_t type, protocol;
    GArray *links; /* of unsigned: where it goes out */
} Route;

static void free_route(gpointer data)
{
    Route *route = data;
    g_array_unref(route->links);
    g_free(route);
}

static void read_next_hops(Route *route, struct nlattr *hops)
{
    int left = nla_len(hops);
    const struct rtnexthop *hop = nla_data(hops);
    /* RTNH_OK() alone looks at a hop before it knows that there is one */
    while (left >= (int)sizeof *hop && RTNH_OK(hop, left)) {
        unsigned index = (unsigned)hop->rtnh_ifindex;
        g_array_append_val(route->links, index);
        left -= (int)RTNH_ALIGN(hop->rtnh_len);
        hop = RTNH_NEXT(hop);
    }
}

static gpointer read_route(struct nlmsghdr *header)
{
    struct nlattr *attrs[RTA_MAX + 1];
    if (header->nlmsg_type != RTM_NEWROUTE ||
        nlmsg_parse(header, sizeof(struct rtmsg), attrs, RTA_MAX, NULL) < 0) {
        return NULL;
    }
    const struct rtmsg *info = nlmsg_data(header);
    Route *route = g_new0(Route, 1);
    route->links = g_array_new(FALSE, FALSE, sizeof(unsigned));
    route->to.ip = read_ip(attrs[RTA_DST]);
    route->to.n_bits = info->rtm_dst_len;
    route->table = attrs[RTA_TABLE] ? nla_get_u32(attrs[RTA_TABLE]) : info->rtm_table;
    route->type = info->rtm_type;
    route->protocol = info->rtm_protocol;
    if (attrs[RTA_OIF]) {
        unsigned index = nla_get_u32(attrs[RTA_OIF]);
        g_array_append_val(route->links, index);
    } else if (attrs[RTA_MULTIPATH]) {
        read_next_hops(route, attrs[RTA_MULTIPATH]);
    }
    return route;
}

/* type: RTN_UNSPEC: any. */
static GPtrArray *list_routes(NetSocket *sock, int family, uint8_t type, GError **error)
{
    struct rtmsg info = {.rtm_family = (unsigned char)family, .rtm_type = type};
    g_autoptr(NetMessage) msg = net_message_new(RTM_GETROUTE, NLM_F_DUMP, &info, sizeof info);
    if (!msg) {
        net_request_fail_memory(error);
        return NULL;
    }
    return net_request_dump(sock, msg, read_route, free_route, "the routes of this host", error);
}

static void add_once(GArray *to, unsigned index)
{
    for (guint i = 0; i < to->len; i++) {
        if (g_array_index(to, unsigned, i) == index) {
            return;
        }
    }
    g_array_append_val(to, index);
}

GArray *net_route_uplinks(NetSocket *sock, int family, bool only_ra, GError **error)
{
    g_autoptr(GPtrArray) routes = list_routes(sock, family, RTN_UNICAST, error);
    if (!routes) {
        return NULL;
    }
    GArray *links = g_array_new(FALSE, FALSE, sizeof(unsigned));
    for (guint i = 0; i < routes->len; i++) {
        const Route *route = routes->pdata[i];
        bool fits = route->type == RTN_UNICAST && route->to.n_bits == 0 &&
                    (!only_ra || route->protocol == RTPROT_RA);
        for (guint k = 0; fits && k < route->links->len; k++) {
            add_once(links, g_array_index(route->links, unsigned, k));
        }
    }
    return links;
}

/* Does this route say that its prefix is in use somewhere? */
static bool is_taken(const Route *route)
{
    bool is_kind = route->type == RTN_UNICAST || route->type == RTN_LOCAL ||
                   route->type == RTN_UNREACHABLE || route->type == RTN_BLACKHOLE ||
                   route->type == RTN_PROHIBIT || route->type == RTN_THROW;
    return is_kind && route->to.n_bits > DEFAULT_MAX_BITS && base_ip_is_set(&route->to.ip) &&
           !base_ip_is_multicast(&route->to.ip) && !base_ip_is_link_local(&route->to.ip) &&
           !base_ip_is_loopback(&route->to.ip);
}

GArray *net_route_list(GError **error)
{
    g_autoptr(NetSocket) sock = net_socket_open(error);
    g_autoptr(GArray) prefixes = g_array_new(FALSE, FALSE, sizeof(BaseCidr));
    for (gsize i = 0; sock && i < G_N_ELEMENTS(families); i++) {
        g_autoptr(GPtrArray) routes = list_routes(sock, families[i], RTN_UNSPEC, error);
        if (!routes) {
            return NULL;
        }
        for (guint k = 0; k < routes->len; k++) {
            const Route *route = routes->pdata[k];
            if (is_taken(route)) {
                g_array_append_val(prefixes, route->to);
            }
        }
    }
    return sock ? g_steal_pointer(&prefixes) : NULL;
}

/* --- the route of ::1 ---------------------------------------------------------- */

static NetMessage *new_loopback_message(uint16_t type, int flags, const struct rtmsg *info,
                                        unsigned index)
{
    static const uint8_t loopback[IPV6_BYTES] = {[IPV6_BYTES - 1] = 1};
    g_autoptr(NetMessage) msg = net_message_new(type, flags, info, sizeof *info);
    if (!msg || nla_put(msg, RTA_DST, IPV6_BYTES, loopback) < 0 ||
        nla_put_u32(msg, RTA_OIF, index) < 0) {
        return NULL;
    }
    return g_steal_pointer(&msg);
}

bool net_route_find_loopback(NetSocket *sock, unsigned index, bool *out_is_there, GError **error)
{
    struct rtmsg info = {
        .rtm_family = AF_INET6, .rtm_dst_len = IPV6_BITS, .rtm_flags = RTM_F_FIB_MATCH};
    g_autoptr(NetMessage) msg = new_loopback_message(RTM_GETROUTE, 0, &info, index);
    g_autoptr(GPtrArray) routes = g_ptr_array_new_with_free_func(free_route);
    int errnum = 0; /* no route, no IPv6: not there */
    if (!msg) {
        return net_request_fail_memory(error);
    }
    if (!net_request(sock, msg, read_route, routes, &errnum, error)) {
        return false;
    }
    const Route *route = routes->len ? routes->pdata[0] : NULL;
    *out_is_there = route && route->type == RTN_LOCAL && route->table == RT_TABLE_LOCAL &&
                    route->to.n_bits == IPV6_BITS && route->links->len == 1 &&
                    g_array_index(route->links, unsigned, 0) == index;
    return true;
}

bool net_route_add_loopback(NetSocket *sock, unsigned index, const char *object, GError **error)
{
    bool is_there = false;
    struct rtmsg info = {.rtm_family = AF_INET6,
                         .rtm_dst_len = IPV6_BITS,
                         .rtm_table = RT_TABLE_LOCAL,
                         .rtm_type = RTN_LOCAL,
                         .rtm_scope = RT_SCOPE_UNIVERSE,
                         .rtm_protocol = RTPROT_STATIC};
    g_autoptr(NetMessage) msg =
        new_loopback_message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &info, index);
    if (!msg || nla_put_u32(msg, RTA_PRIORITY, LOOPBACK_METRIC + index) < 0) {
        return net_request_fail_memory(error);
    }
    GError *problem = NULL;
    if (net_request_change(sock, msg, 0, object, "add the route of ::1", &problem)) {
        return true;
    }
    /* another process was faster? */
    if (g_error_matches(problem, VM_ERROR, VM_ERROR_EXISTS) &&
        net_route_find_loopback(sock, index, &is_there, NULL) && is_there) {
        g_clear_error(&problem);
        return true;
    }
    g_propagate_error(error, problem);
    return false;
}
