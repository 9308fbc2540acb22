#include "net/link.h"

#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/ipv6.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

void net_link_free(NetLink *link)
{
    if (!link) {
        return;
    }
    g_clear_pointer(&link->altnames, g_ptr_array_unref);
    g_free(link);
}

static void copy_name(char to[IFNAMSIZ], struct nlattr *from)
{
    if (from) {
        nla_strlcpy(to, from, IFNAMSIZ);
    }
}

static void read_altnames(NetLink *link, struct nlattr *list)
{
    struct nlattr *attr;
    int left;
    if (!list) {
        return;
    }
    nla_for_each_nested(attr, list, left)
    {
        if (nla_type(attr) == IFLA_ALT_IFNAME) {
            g_ptr_array_add(link->altnames, nla_strdup(attr));
        }
    }
}

static void read_tun(NetLink *link, struct nlattr *data)
{
    struct nlattr *attrs[IFLA_TUN_MAX + 1];
    if (!data || nla_parse_nested(attrs, IFLA_TUN_MAX, data, NULL) < 0) {
        return;
    }
    link->is_tap = attrs[IFLA_TUN_TYPE] && nla_get_u8(attrs[IFLA_TUN_TYPE]) == IFF_TAP;
    link->is_multi_queue = attrs[IFLA_TUN_MULTI_QUEUE] && nla_get_u8(attrs[IFLA_TUN_MULTI_QUEUE]);
    link->is_persistent = attrs[IFLA_TUN_PERSIST] && nla_get_u8(attrs[IFLA_TUN_PERSIST]);
    if (attrs[IFLA_TUN_OWNER]) {
        link->owner_uid = nla_get_u32(attrs[IFLA_TUN_OWNER]);
    }
    if (attrs[IFLA_TUN_GROUP]) {
        link->owner_gid = nla_get_u32(attrs[IFLA_TUN_GROUP]);
    }
}

static bool is_on(struct nlattr *attr)
{
    return attr && nla_get_u8(attr);
}

static uint32_t number(struct nlattr *attr)
{
    return attr ? nla_get_u32(attr) : 0;
}

static void read_bridge(NetLink *link, struct nlattr *data)
{
    struct nlattr *attrs[IFLA_BR_MAX + 1];
    if (data && nla_parse_nested(attrs, IFLA_BR_MAX, data, NULL) >= 0) {
        link->has_stp = number(attrs[IFLA_BR_STP_STATE]) != 0;
        link->has_snooping = is_on(attrs[IFLA_BR_MCAST_SNOOPING]);
        link->forward_delay = number(attrs[IFLA_BR_FORWARD_DELAY]);
    }
}

static void read_macvtap(NetLink *link, struct nlattr *data)
{
    struct nlattr *attrs[IFLA_MACVLAN_MAX + 1];
    if (data && nla_parse_nested(attrs, IFLA_MACVLAN_MAX, data, NULL) >= 0) {
        link->macvtap_mode = number(attrs[IFLA_MACVLAN_MODE]);
    }
}

static void read_port(NetLink *link, struct nlattr *data)
{
    struct nlattr *attrs[IFLA_BRPORT_MAX + 1];
    if (data && nla_parse_nested(attrs, IFLA_BRPORT_MAX, data, NULL) >= 0) {
        link->port = (NetLinkPort){
            .is_hairpin = is_on(attrs[IFLA_BRPORT_MODE]),
            .is_guarded = is_on(attrs[IFLA_BRPORT_GUARD]),
            .is_isolated = is_on(attrs[IFLA_BRPORT_ISOLATED]),
            .is_learning = is_on(attrs[IFLA_BRPORT_LEARNING]),
            .is_neigh_suppressed = is_on(attrs[IFLA_BRPORT_NEIGH_SUPPRESS]),
        };
    }
}

static const struct {
    const char *kind;
    void (*read)(NetLink *link, struct nlattr *data);
} kinds[] = {{"tun", read_tun}, {"bridge", read_bridge}, {"macvtap", read_macvtap}};

static void read_info(NetLink *link, struct nlattr *info)
{
    struct nlattr *attrs[IFLA_INFO_MAX + 1];
    if (!info || nla_parse_nested(attrs, IFLA_INFO_MAX, info, NULL) < 0) {
        return;
    }
    copy_name(link->kind, attrs[IFLA_INFO_KIND]);
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (!strcmp(link->kind, kinds[i].kind)) {
            kinds[i].read(link, attrs[IFLA_INFO_DATA]);
        }
    }
    char master[IFNAMSIZ] = "";
    copy_name(master, attrs[IFLA_INFO_SLAVE_KIND]);
    if (!strcmp(master, "bridge")) {
        read_port(link, attrs[IFLA_INFO_SLAVE_DATA]);
    }
}

/* IFLA_AF_SPEC { AF_INET6 { IFLA_INET6_ADDR_GEN_MODE, IFLA_INET6_CONF } }: absent where the kernel
 * has no IPv6. */
static void read_ipv6(NetLink *link, struct nlattr *families)
{
    struct nlattr *attrs[IFLA_INET6_MAX + 1];
    struct nlattr *inet6 =
        families ? nla_find(nla_data(families), nla_len(families), AF_INET6) : NULL;
    link->is_ipv6_silent = true;
    link->is_ipv6_off = true;
    if (!inet6 || nla_parse_nested(attrs, IFLA_INET6_MAX, inet6, NULL) < 0) {
        return;
    }
    if (attrs[IFLA_INET6_ADDR_GEN_MODE]) {
        link->is_ipv6_silent =
            nla_get_u8(attrs[IFLA_INET6_ADDR_GEN_MODE]) == IN6_ADDR_GEN_MODE_NONE;
    }
    struct nlattr *settings = attrs[IFLA_INET6_CONF]; /* an array of int */
    if (settings && nla_len(settings) > DEVCONF_DISABLE_IPV6 * (int)sizeof(int32_t)) {
        int32_t is_off = 0;
        memcpy(&is_off, (const int32_t *)nla_data(settings) + DEVCONF_DISABLE_IPV6, sizeof is_off);
        link->is_ipv6_off = is_off != 0;
    }
}

gpointer net_link_read(struct nlmsghdr *header)
{
    struct nlattr *attrs[IFLA_MAX + 1];
    if (header->nlmsg_type != RTM_NEWLINK ||
        nlmsg_parse(header, sizeof(struct ifinfomsg), attrs, IFLA_MAX, NULL) < 0) {
        return NULL;
    }
    const struct ifinfomsg *info = nlmsg_data(header);
    NetLink *link = g_new0(NetLink, 1);
    link->altnames = g_ptr_array_new_with_free_func(free); /* nla_strdup() uses malloc */
    link->owner_uid = (uid_t)-1;
    link->owner_gid = (gid_t)-1;
    link->index = (unsigned)info->ifi_index;
    link->is_up = (info->ifi_flags & IFF_UP) != 0;
    link->has_carrier = attrs[IFLA_CARRIER] && nla_get_u8(attrs[IFLA_CARRIER]);
    copy_name(link->name, attrs[IFLA_IFNAME]);
    read_info(link, attrs[IFLA_LINKINFO]);
    read_altnames(link, attrs[IFLA_PROP_LIST]);
    read_ipv6(link, attrs[IFLA_AF_SPEC]);
    link->mtu = number(attrs[IFLA_MTU]);
    link->group = number(attrs[IFLA_GROUP]);
    link->txqlen = number(attrs[IFLA_TXQLEN]);
    link->bridge_index = number(attrs[IFLA_MASTER]);
    link->lower_index = number(attrs[IFLA_LINK]);
    if (attrs[IFLA_ADDRESS] && nla_len(attrs[IFLA_ADDRESS]) == NET_MAC_BYTES) {
        memcpy(link->mac, nla_data(attrs[IFLA_ADDRESS]), NET_MAC_BYTES);
    }
    return link;
}
