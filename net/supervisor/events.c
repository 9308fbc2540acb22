#include "net/supervisor/supervisor.h"

#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/netconf.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <glib-unix.h>
#include "base/error.h"
#include "base/fd.h"

/*
 * What others do to nf_tables and to links, told by the kernel. Transactions of our own programs
 * are no news: the kernel names the process at the end of each (NFTA_GEN_PROC_NAME), and all that
 * vm-run and its parts write is right under the network's lock. When the kernel had to drop
 * messages (ENOBUFS), anything may have happened.
 */
#define OUR_PROGRAMS "vm-run"
#define TAP_PREFIX   "vmt"

enum { MESSAGE_BYTES = 32 * 1024, RECEIVE_BYTES = 1024 * 1024, MAX_ATTRIBUTES = 64 };

/* The attributes of a message by type; later ones of a type win. */
typedef struct {
    const struct nlattr *at[MAX_ATTRIBUTES];
} Attributes;

static Attributes parse(const struct nlmsghdr *header, size_t n_family)
{
    Attributes found = {0};
    const char *next = (const char *)NLMSG_DATA(header) + NLMSG_ALIGN(n_family);
    const char *end = (const char *)header + header->nlmsg_len;
    while (end - next >= (ptrdiff_t)sizeof(struct nlattr)) {
        const struct nlattr *attribute = (const struct nlattr *)(const void *)next;
        unsigned type = attribute->nla_type & NLA_TYPE_MASK;
        if (attribute->nla_len < sizeof *attribute || attribute->nla_len > end - next) {
            break;
        }
        if (type < MAX_ATTRIBUTES) {
            found.at[type] = attribute;
        }
        next += NLA_ALIGN(attribute->nla_len);
    }
    return found;
}

/* "" when it is absent or no text. */
static const char *text_of(const Attributes *attributes, unsigned type)
{
    const struct nlattr *attribute = attributes->at[type];
    size_t n = attribute ? attribute->nla_len - sizeof *attribute : 0;
    const char *text = attribute ? (const char *)(attribute + 1) : "";
    return n > 0 && text[n - 1] == '\0' ? text : "";
}

static bool number_of(const Attributes *attributes, unsigned type, uint32_t *out)
{
    const struct nlattr *attribute = attributes->at[type];
    if (!attribute || attribute->nla_len < sizeof *attribute + sizeof *out) {
        return false;
    }
    memcpy(out, attribute + 1, sizeof *out);
    return true;
}

/* --- nf_tables -------------------------------------------------------------------------------- */

/* A chain where other programs let us in; their reload takes our rules away. */
static bool is_hook(const char *chain)
{
    static const char *const hooks[] = {"DOCKER-USER", "LIBVIRT_FWI", "LIBVIRT_FWO"};
    for (size_t i = 0; i < G_N_ELEMENTS(hooks); i++) {
        if (!strcmp(chain, hooks[i])) {
            return true;
        }
    }
    return false;
}

/* In all these messages attribute 1 is the name of the table (linux/netfilter/nf_tables.h). */
static bool concerns_us(unsigned type, const Attributes *attributes)
{
    if (!strcmp(text_of(attributes, NFTA_TABLE_NAME), NET_NFT_TABLE)) {
        return true;
    }
    switch (type) {
    case NFT_MSG_NEWCHAIN:
    case NFT_MSG_DELCHAIN:
        return is_hook(text_of(attributes, NFTA_CHAIN_NAME));
    case NFT_MSG_DELRULE:
        return is_hook(text_of(attributes, NFTA_RULE_CHAIN));
    default:
        return false;
    }
}

static void take_nft(Supervisor *supervisor, const struct nlmsghdr *header)
{
    if (NFNL_SUBSYS_ID(header->nlmsg_type) != NFNL_SUBSYS_NFTABLES ||
        header->nlmsg_len < NLMSG_LENGTH(sizeof(struct nfgenmsg))) {
        return;
    }
    unsigned type = NFNL_MSG_TYPE(header->nlmsg_type);
    Attributes attributes = parse(header, sizeof(struct nfgenmsg));
    if (type != NFT_MSG_NEWGEN) {
        supervisor->is_touched = supervisor->is_touched || concerns_us(type, &attributes);
        return;
    }
    const char *program = text_of(&attributes, NFTA_GEN_PROC_NAME);
    if (supervisor->is_touched && !g_str_has_prefix(program, OUR_PROGRAMS)) {
        checker_request(supervisor);
    }
    supervisor->is_touched = false;
}

/* --- links ------------------------------------------------------------------------------------ */

static void take_bridge(Supervisor *supervisor, const struct ifinfomsg *info)
{
    unsigned index = (unsigned)info->ifi_index;
    if (index != supervisor->bridge_index) {
        supervisor->bridge_index = index;
        g_hash_table_remove_all(supervisor->ports);
        checker_request(supervisor);
    } else if (!(info->ifi_flags & IFF_UP)) {
        checker_request(supervisor);
    }
}

/* A tap that is taken off our bridge while it is up; one that is removed is set down first. */
static void take_port(Supervisor *supervisor, const struct ifinfomsg *info,
                      const Attributes *attributes)
{
    uint32_t master = 0;
    gpointer key = GINT_TO_POINTER(info->ifi_index);
    number_of(attributes, IFLA_MASTER, &master);
    if (supervisor->bridge_index && master == supervisor->bridge_index) {
        g_hash_table_add(supervisor->ports, key);
    } else if (g_hash_table_remove(supervisor->ports, key) && (info->ifi_flags & IFF_UP)) {
        checker_request(supervisor);
    }
}

static void take_link(Supervisor *supervisor, const struct nlmsghdr *header)
{
    const struct ifinfomsg *info = NLMSG_DATA(header);
    if (header->nlmsg_len < NLMSG_LENGTH(sizeof *info) || info->ifi_family != AF_UNSPEC) {
        return; /* a bridge's own words about its ports */
    }
    Attributes attributes = parse(header, sizeof *info);
    const char *name = text_of(&attributes, IFLA_IFNAME);
    if (header->nlmsg_type == RTM_DELLINK) {
        g_hash_table_remove(supervisor->ports, GINT_TO_POINTER(info->ifi_index));
        if ((unsigned)info->ifi_index == supervisor->bridge_index) {
            supervisor->bridge_index = 0;
            checker_request(supervisor);
        }
    } else if (!strcmp(name, supervisor->bridge)) {
        take_bridge(supervisor, info);
    } else if (g_str_has_prefix(name, TAP_PREFIX)) {
        take_port(supervisor, info, &attributes);
    }
}

static void take_route(Supervisor *supervisor, const struct nlmsghdr *header)
{
    uint32_t index = 0;
    if (header->nlmsg_len < NLMSG_LENGTH(sizeof(struct rtmsg))) {
        return;
    }
    Attributes attributes = parse(header, sizeof(struct rtmsg));
    if (number_of(&attributes, RTA_OIF, &index) && index == supervisor->bridge_index) {
        checker_request(supervisor);
    }
}

static void take_address(Supervisor *supervisor, const struct nlmsghdr *header)
{
    const struct ifaddrmsg *info = NLMSG_DATA(header);
    if (header->nlmsg_len >= NLMSG_LENGTH(sizeof *info) &&
        info->ifa_index == supervisor->bridge_index) {
        checker_request(supervisor);
    }
}

/* Forwarding that was switched off, for the bridge or for all. */
static void take_netconf(Supervisor *supervisor, const struct nlmsghdr *header)
{
    uint32_t index = 0, forwarding = 1;
    if (header->nlmsg_len < NLMSG_LENGTH(sizeof(struct netconfmsg))) {
        return;
    }
    Attributes attributes = parse(header, sizeof(struct netconfmsg));
    if (number_of(&attributes, NETCONFA_IFINDEX, &index) &&
        number_of(&attributes, NETCONFA_FORWARDING, &forwarding) && forwarding == 0 &&
        ((int32_t)index == NETCONFA_IFINDEX_ALL || index == supervisor->bridge_index)) {
        checker_request(supervisor);
    }
}

static void take_rtnl(Supervisor *supervisor, const struct nlmsghdr *header)
{
    switch (header->nlmsg_type) {
    case RTM_NEWLINK:
    case RTM_DELLINK:
        take_link(supervisor, header);
        break;
    case RTM_DELADDR:
        take_address(supervisor, header);
        break;
    case RTM_DELROUTE:
        take_route(supervisor, header);
        break;
    case RTM_NEWNETCONF:
        take_netconf(supervisor, header);
        break;
    default:
        break;
    }
}

/* --- sockets ---------------------------------------------------------------------------------- */

static void take_messages(Supervisor *supervisor, int fd,
                          void (*take)(Supervisor *, const struct nlmsghdr *))
{
    _Alignas(struct nlmsghdr) static char buffer[MESSAGE_BYTES];
    for (;;) {
        ssize_t n = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == ENOBUFS) {
            supervisor->is_touched = false;
            checker_request(supervisor);
            continue;
        }
        if (n <= 0) {
            return;
        }
        size_t left = (size_t)n;
        for (const struct nlmsghdr *header = (const struct nlmsghdr *)(void *)buffer;
             NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
            take(supervisor, header);
        }
    }
}

static gboolean on_nft(gint fd, GIOCondition condition, gpointer data)
{
    (void)condition;
    take_messages(data, fd, take_nft);
    return G_SOURCE_CONTINUE;
}

static gboolean on_rtnl(gint fd, GIOCondition condition, gpointer data)
{
    (void)condition;
    take_messages(data, fd, take_rtnl);
    return G_SOURCE_CONTINUE;
}

static int open_socket(int protocol, const int *groups, size_t n_groups, GError **error)
{
    int n_bytes = RECEIVE_BYTES;
    struct sockaddr_nl address = {.nl_family = AF_NETLINK};
    autofd int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
    bool is_good = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    if (is_good) {
        setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &n_bytes, sizeof n_bytes);
    }
    for (size_t i = 0; is_good && i < n_groups; i++) {
        is_good =
            setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &groups[i], sizeof groups[i]) == 0;
    }
    if (!is_good) {
        base_error_set_errno(error, errno, "cannot listen to the kernel's network events");
        return -1;
    }
    return base_fd_steal(&fd);
}

bool events_begin(Supervisor *supervisor, GError **error)
{
    static const int nft_groups[] = {NFNLGRP_NFTABLES};
    static const int route_groups[] = {
        RTNLGRP_LINK,       RTNLGRP_IPV4_IFADDR,  RTNLGRP_IPV6_IFADDR,  RTNLGRP_IPV4_ROUTE,
        RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF,
    };
    supervisor->ports = g_hash_table_new(NULL, NULL);
    supervisor->nft_fd =
        open_socket(NETLINK_NETFILTER, nft_groups, G_N_ELEMENTS(nft_groups), error);
    if (supervisor->nft_fd < 0) {
        return false;
    }
    supervisor->route_fd =
        open_socket(NETLINK_ROUTE, route_groups, G_N_ELEMENTS(route_groups), error);
    if (supervisor->route_fd < 0) {
        return false;
    }
    supervisor->bridge_index = if_nametoindex(supervisor->bridge);
    g_unix_fd_add(supervisor->nft_fd, G_IO_IN, on_nft, supervisor);
    g_unix_fd_add(supervisor->route_fd, G_IO_IN, on_rtnl, supervisor);
    return true;
}

void events_end(Supervisor *supervisor)
{
    base_fd_close(&supervisor->nft_fd);
    base_fd_close(&supervisor->route_fd);
    g_clear_pointer(&supervisor->ports, g_hash_table_unref);
}
