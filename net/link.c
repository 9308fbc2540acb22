#include "net/link.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/errno.h>
#include <netlink/msg.h>
#include <netlink/socket.h>
#include <string.h>
#include <sys/socket.h>
#include "base/error.h"
#include "base/report.h"

typedef struct nl_msg Message;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Message, nlmsg_free)

enum { DUMP_TRIES = 5 }; /* a dump that links changed under is read again */

void net_link_free(NetLink *link)
{
    if (!link) {
        return;
    }
    g_clear_pointer(&link->altnames, g_ptr_array_unref);
    g_free(link);
}

void net_socket_close(NetSocket *sock)
{
    nl_socket_free(sock);
}

/* The one door for libnl's own errors (negative NLE_*); what the kernel says comes as an errno. */
static bool fail_nl(GError **error, int code, const char *what)
{
    return base_fail(error, code == -NLE_NOMEM ? VM_ERROR_NO_SPACE : VM_ERROR_HOST, "%s: %s", what,
                     nl_geterror(code));
}

NetSocket *net_socket_open(GError **error)
{
    g_autoptr(NetSocket) sock = nl_socket_alloc();
    int code = sock ? nl_connect(sock, NETLINK_ROUTE) : -NLE_NOMEM;
    if (code < 0) {
        fail_nl(error, code, "cannot open a netlink socket");
        return NULL;
    }
    return g_steal_pointer(&sock);
}

bool net_link_name_check(const char *name, GError **error)
{
    size_t n = strlen(name);
    bool is_good = n > 0 && n < IFNAMSIZ && strcmp(name, ".") && strcmp(name, "..");
    for (const char *c = name; is_good && *c; c++) {
        is_good = g_ascii_isalnum(*c) || strchr("._-", *c);
    }
    if (!is_good) {
        g_autofree char *shown = base_report_escape(name, 60);
        return base_fail(error, VM_ERROR_NET,
                         "'%s' is no name of a network link: 1 to 15 of A-Z a-z 0-9 . _ -", shown);
    }
    return true;
}

/* --- reading an RTM_NEWLINK message -------------------------------------------- */

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
    link->is_persistent = attrs[IFLA_TUN_PERSIST] && nla_get_u8(attrs[IFLA_TUN_PERSIST]);
    if (attrs[IFLA_TUN_OWNER]) {
        link->owner_uid = nla_get_u32(attrs[IFLA_TUN_OWNER]);
    }
    if (attrs[IFLA_TUN_GROUP]) {
        link->owner_gid = nla_get_u32(attrs[IFLA_TUN_GROUP]);
    }
}

static void read_kind(NetLink *link, struct nlattr *info)
{
    struct nlattr *attrs[IFLA_INFO_MAX + 1];
    if (!info || nla_parse_nested(attrs, IFLA_INFO_MAX, info, NULL) < 0) {
        return;
    }
    copy_name(link->kind, attrs[IFLA_INFO_KIND]);
    if (!strcmp(link->kind, "tun")) {
        read_tun(link, attrs[IFLA_INFO_DATA]);
    }
}

/* IFLA_AF_SPEC { AF_INET6 { IFLA_INET6_ADDR_GEN_MODE } }: absent where the kernel has no IPv6. */
static void read_ipv6(NetLink *link, struct nlattr *families)
{
    struct nlattr *attrs[IFLA_INET6_MAX + 1];
    struct nlattr *inet6 =
        families ? nla_find(nla_data(families), nla_len(families), AF_INET6) : NULL;
    link->is_ipv6_silent = true;
    if (inet6 && nla_parse_nested(attrs, IFLA_INET6_MAX, inet6, NULL) >= 0 &&
        attrs[IFLA_INET6_ADDR_GEN_MODE]) {
        link->is_ipv6_silent =
            nla_get_u8(attrs[IFLA_INET6_ADDR_GEN_MODE]) == IN6_ADDR_GEN_MODE_NONE;
    }
}

/* NULL when the message is no link. Transfer full. */
static NetLink *read_link(struct nlmsghdr *header)
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
    copy_name(link->name, attrs[IFLA_IFNAME]);
    read_kind(link, attrs[IFLA_LINKINFO]);
    read_altnames(link, attrs[IFLA_PROP_LIST]);
    read_ipv6(link, attrs[IFLA_AF_SPEC]);
    link->mtu = attrs[IFLA_MTU] ? nla_get_u32(attrs[IFLA_MTU]) : 0;
    link->bridge_index = attrs[IFLA_MASTER] ? nla_get_u32(attrs[IFLA_MASTER]) : 0;
    if (attrs[IFLA_ADDRESS] && nla_len(attrs[IFLA_ADDRESS]) == NET_MAC_BYTES) {
        memcpy(link->mac, nla_data(attrs[IFLA_ADDRESS]), NET_MAC_BYTES);
    }
    return link;
}

/* --- one request and its answer ------------------------------------------------ */

typedef struct {
    GPtrArray *links; /* gets the NetLink* that the answer holds; borrowed */
    int errnum;       /* what the kernel answered, 0: fine */
    bool is_ended;    /* acknowledged, refused, or the dump's last message came */
} Answer;

static int on_message(struct nl_msg *msg, void *data)
{
    Answer *answer = data;
    NetLink *link = read_link(nlmsg_hdr(msg));
    if (link) {
        g_ptr_array_add(answer->links, link);
    }
    return NL_OK;
}

static int on_error(struct sockaddr_nl *from, struct nlmsgerr *err, void *data)
{
    (void)from;
    Answer *answer = data;
    answer->errnum = -err->error;
    answer->is_ended = true;
    return NL_STOP;
}

static int on_end(struct nl_msg *msg, void *data)
{
    (void)msg;
    Answer *answer = data;
    answer->is_ended = true;
    return NL_STOP;
}

/* Sends `msg` and reads to its acknowledgement (libnl asks for one always) or the end of its dump,
 * which come in datagrams of their own. 0 or negative NLE_*; also that when the kernel refuses. */
static int exchange(NetSocket *sock, struct nl_msg *msg, Answer *answer)
{
    struct nl_cb *callbacks = nl_cb_alloc(NL_CB_DEFAULT);
    if (!callbacks) {
        return -NLE_NOMEM;
    }
    nl_cb_set(callbacks, NL_CB_VALID, NL_CB_CUSTOM, on_message, answer);
    nl_cb_set(callbacks, NL_CB_ACK, NL_CB_CUSTOM, on_end, answer);
    nl_cb_set(callbacks, NL_CB_FINISH, NL_CB_CUSTOM, on_end, answer);
    nl_cb_err(callbacks, NL_CB_CUSTOM, on_error, answer);
    int code = nl_send_auto(sock, msg);
    while (code >= 0 && !answer->is_ended) {
        code = nl_recvmsgs(sock, callbacks);
    }
    nl_cb_put(callbacks);
    return MIN(code, 0);
}

/* Sends a request. False with `error` set when it did not get through; what the kernel makes of it
 * is in answer->errnum, since the caller knows which of those it minds. */
static bool request(NetSocket *sock, struct nl_msg *msg, Answer *answer, GError **error)
{
    int code = exchange(sock, msg, answer);
    return code >= 0 || answer->errnum || fail_nl(error, code, "rtnetlink");
}

/* A request about one link, or all (index 0). NULL when memory is out. */
static struct nl_msg *new_message(uint16_t type, int flags, unsigned index)
{
    struct ifinfomsg info = {.ifi_family = AF_UNSPEC, .ifi_index = (int)index};
    g_autoptr(Message) msg = nlmsg_alloc_simple(type, NLM_F_REQUEST | flags);
    if (!msg || nlmsg_append(msg, &info, sizeof info, NLMSG_ALIGNTO) < 0) {
        return NULL;
    }
    return g_steal_pointer(&msg);
}

static bool fail_memory(GError **error)
{
    return fail_nl(error, -NLE_NOMEM, "cannot build a netlink message");
}

/* Sends a change and reads the acknowledgement; `forgiven` is an errno that counts as success. */
static bool change(NetSocket *sock, struct nl_msg *msg, const NetLink *link, int forgiven,
                   const char *what, GError **error)
{
    Answer answer = {0};
    if (!request(sock, msg, &answer, error)) {
        return false;
    }
    if (answer.errnum && answer.errnum != forgiven) {
        base_error_set_errno(error, answer.errnum, "link '%s': cannot %s", link->name, what);
        return false;
    }
    return true;
}

/* --- looking ------------------------------------------------------------------- */

static GPtrArray *new_links(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify)net_link_free);
}

/* attr_type: IFLA_IFNAME or IFLA_ALT_IFNAME. */
static bool find_by(NetSocket *sock, int attr_type, const char *name, NetLink **out_link,
                    GError **error)
{
    g_autoptr(GPtrArray) links = new_links();
    Answer answer = {.links = links};
    g_autoptr(Message) msg = new_message(RTM_GETLINK, 0, 0);
    if (!msg || nla_put_u32(msg, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS) < 0 ||
        nla_put_string(msg, attr_type, name) < 0) {
        return fail_memory(error);
    }
    if (!request(sock, msg, &answer, error)) {
        return false;
    }
    if (answer.errnum && answer.errnum != ENODEV) {
        base_error_set_errno(error, answer.errnum, "cannot look for link '%s'", name);
        return false;
    }
    *out_link = links->len ? g_ptr_array_steal_index(links, 0) : NULL;
    return true;
}

bool net_link_find(NetSocket *sock, const char *name, NetLink **out_link, GError **error)
{
    size_t n = strlen(name);
    if (n == 0 || n > NET_ALTNAME_MAX_BYTES) { /* the kernel knows none */
        *out_link = NULL;
        return true;
    }
    return find_by(sock, n < IFNAMSIZ ? IFLA_IFNAME : IFLA_ALT_IFNAME, name, out_link, error);
}

GPtrArray *net_link_list(NetSocket *sock, GError **error)
{
    int code = 0;
    for (int i = 0; i < DUMP_TRIES; i++) {
        g_autoptr(GPtrArray) links = new_links();
        Answer answer = {.links = links};
        g_autoptr(Message) msg = new_message(RTM_GETLINK, NLM_F_DUMP, 0);
        if (!msg || nla_put_u32(msg, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS) < 0) {
            fail_memory(error);
            return NULL;
        }
        code = exchange(sock, msg, &answer);
        if (answer.errnum) {
            base_error_set_errno(error, answer.errnum, "cannot list the network links");
            return NULL;
        }
        if (code != -NLE_DUMP_INTR) {
            if (code >= 0) {
                return g_steal_pointer(&links);
            }
            break;
        }
    }
    fail_nl(error, code, "cannot list the network links");
    return NULL;
}

bool net_link_has_altname(const NetLink *link, const char *altname)
{
    for (guint i = 0; i < link->altnames->len; i++) {
        if (!strcmp(link->altnames->pdata[i], altname)) {
            return true;
        }
    }
    return false;
}

/* --- changing ------------------------------------------------------------------ */

static bool put_ipv6_silent(struct nl_msg *msg)
{
    struct nlattr *families = nla_nest_start(msg, IFLA_AF_SPEC);
    struct nlattr *inet6 = families ? nla_nest_start(msg, AF_INET6) : NULL;
    if (!inet6 || nla_put_u8(msg, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE) < 0) {
        return false;
    }
    nla_nest_end(msg, inet6);
    nla_nest_end(msg, families);
    return true;
}

static bool put_change(struct nl_msg *msg, const NetLinkChange *wanted)
{
    if (wanted->mac && nla_put(msg, IFLA_ADDRESS, NET_MAC_BYTES, wanted->mac) < 0) {
        return false;
    }
    if (wanted->mtu && nla_put_u32(msg, IFLA_MTU, wanted->mtu) < 0) {
        return false;
    }
    if (wanted->bridge_index && nla_put_u32(msg, IFLA_MASTER, *wanted->bridge_index) < 0) {
        return false;
    }
    return !wanted->silences_ipv6 || put_ipv6_silent(msg);
}

static bool set_up(NetSocket *sock, const NetLink *link, GError **error)
{
    g_autoptr(Message) msg = new_message(RTM_NEWLINK, 0, link->index);
    if (!msg) {
        return fail_memory(error);
    }
    struct ifinfomsg *info = nlmsg_data(nlmsg_hdr(msg));
    info->ifi_flags = IFF_UP;
    info->ifi_change = IFF_UP;
    return change(sock, msg, link, 0, "set it up", error);
}

bool net_link_change(NetSocket *sock, const NetLink *link, const NetLinkChange *wanted,
                     GError **error)
{
    if (wanted->mac || wanted->mtu || wanted->bridge_index || wanted->silences_ipv6) {
        g_autoptr(Message) msg = new_message(RTM_NEWLINK, 0, link->index);
        if (!msg || !put_change(msg, wanted)) {
            return fail_memory(error);
        }
        if (!change(sock, msg, link, 0, "set its address, MTU or bridge", error)) {
            return false;
        }
    }
    /* in a message of its own: the kernel sets flags before IFLA_AF_SPEC, and a link that comes up
     * makes its link-local address at once */
    return !wanted->sets_up || set_up(sock, link, error);
}

bool net_link_add_altname(NetSocket *sock, const NetLink *link, const char *altname, GError **error)
{
    g_autoptr(Message) msg =
        new_message(RTM_NEWLINKPROP, NLM_F_EXCL | NLM_F_CREATE | NLM_F_APPEND, link->index);
    struct nlattr *list = msg ? nla_nest_start(msg, IFLA_PROP_LIST) : NULL;
    if (!list || nla_put_string(msg, IFLA_ALT_IFNAME, altname) < 0) {
        return fail_memory(error);
    }
    nla_nest_end(msg, list);
    return change(sock, msg, link, 0, "tag it", error);
}

bool net_link_delete(NetSocket *sock, const NetLink *link, GError **error)
{
    g_autoptr(Message) msg = new_message(RTM_DELLINK, 0, link->index);
    return msg ? change(sock, msg, link, ENODEV, "remove it", error) : fail_memory(error);
}
