#include "net/link.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include "base/error.h"
#include "base/report.h"

enum { NAME_HASH_CHARS = 12, BASE32_BITS = 5 };

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

bool net_link_tag_check(const char *tag, GError **error)
{
    size_t n = strlen(tag);
    bool is_good = n <= NET_ALTNAME_MAX_BYTES && g_str_has_prefix(tag, NET_TAG_PREFIX);
    for (const char *c = tag; is_good && *c; c++) {
        is_good = g_ascii_isgraph(*c) && *c != '/' && *c != '%';
    }
    if (!is_good) {
        g_autofree char *shown = base_report_escape(tag, 150);
        return base_fail(error, VM_ERROR_NET, "'%s' is no owner tag of a link", shown);
    }
    return true;
}

char *net_link_hash_name(const char *prefix, const char *text)
{
    static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    guint8 hash[32];
    gsize n_hash = sizeof hash;
    g_checksum_update(sum, (const guchar *)text, -1);
    g_checksum_get_digest(sum, hash, &n_hash);
    guint64 bits;
    memcpy(&bits, hash, sizeof bits);
    bits = GUINT64_FROM_BE(bits);
    char name[NAME_HASH_CHARS + 1] = "";
    for (int i = 0; i < NAME_HASH_CHARS; i++) {
        name[i] = digits[bits >> (64 - BASE32_BITS)];
        bits <<= BASE32_BITS;
    }
    return g_strconcat(prefix, name, NULL);
}

/* --- looking ------------------------------------------------------------------- */

/* A request about one link, or all (index 0). NULL when memory is out. */
static NetMessage *new_message(uint16_t type, int flags, unsigned index)
{
    struct ifinfomsg info = {.ifi_family = AF_UNSPEC, .ifi_index = (int)index};
    return net_message_new(type, flags, &info, sizeof info);
}

static bool change(NetSocket *sock, NetMessage *msg, const NetLink *link, int forgiven,
                   const char *what, GError **error)
{
    g_autofree char *object = g_strdup_printf("link '%s'", link->name);
    return net_request_change(sock, msg, forgiven, object, what, error);
}

/* Takes the answer to `msg`; `shown` is for the error. */
static bool find(NetSocket *sock, NetMessage *msg, const char *shown, NetLink **out_link,
                 GError **error)
{
    g_autoptr(GPtrArray) links = g_ptr_array_new_with_free_func((GDestroyNotify)net_link_free);
    int errnum = 0;
    if (nla_put_u32(msg, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS) < 0) {
        return net_request_fail_memory(error);
    }
    if (!net_request(sock, msg, net_link_read, links, &errnum, error)) {
        return false;
    }
    if (errnum && errnum != ENODEV) {
        base_error_set_errno(error, errnum, "cannot look for link '%s'", shown);
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
    g_autoptr(NetMessage) msg = new_message(RTM_GETLINK, 0, 0);
    if (!msg || nla_put_string(msg, n < IFNAMSIZ ? IFLA_IFNAME : IFLA_ALT_IFNAME, name) < 0) {
        return net_request_fail_memory(error);
    }
    return find(sock, msg, name, out_link, error);
}

bool net_link_find_index(NetSocket *sock, unsigned index, NetLink **out_link, GError **error)
{
    char shown[32];
    g_snprintf(shown, sizeof shown, "#%u", index);
    g_autoptr(NetMessage) msg = new_message(RTM_GETLINK, 0, index);
    return msg ? find(sock, msg, shown, out_link, error) : net_request_fail_memory(error);
}

bool net_link_find_kind(NetSocket *sock, const char *name, const char *kind, NetLink **out_link,
                        GError **error)
{
    g_autoptr(NetLink) link = NULL;
    if (!net_link_name_check(name, error) || !net_link_find(sock, name, &link, error)) {
        return false;
    }
    if (!link) {
        return base_fail(error, VM_ERROR_NOT_FOUND, "there is no %s '%s' - name a %s of this host",
                         kind, name, kind);
    }
    if (strcmp(link->kind, kind)) {
        return base_fail(error, VM_ERROR_NOT_FOUND,
                         "this link is no %s: '%s' - name a %s of this host", kind, name, kind);
    }
    *out_link = g_steal_pointer(&link);
    return true;
}

static bool put_kind(NetMessage *msg, const char *kind)
{
    struct nlattr *info = nla_nest_start(msg, IFLA_LINKINFO);
    if (!info || nla_put_string(msg, IFLA_INFO_KIND, kind) < 0) {
        return false;
    }
    nla_nest_end(msg, info);
    return true;
}

GPtrArray *net_link_list(NetSocket *sock, const char *kind, unsigned bridge_index, GError **error)
{
    g_autoptr(NetMessage) msg = new_message(RTM_GETLINK, NLM_F_DUMP, 0);
    if (!msg || nla_put_u32(msg, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS) < 0 ||
        (bridge_index && nla_put_u32(msg, IFLA_MASTER, bridge_index) < 0) ||
        (kind && !put_kind(msg, kind))) {
        net_request_fail_memory(error);
        return NULL;
    }
    return net_request_dump(sock, msg, net_link_read, (GDestroyNotify)net_link_free,
                            "the network links", error);
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

const char *net_link_tag(const NetLink *link)
{
    for (guint i = 0; i < link->altnames->len; i++) {
        if (g_str_has_prefix(link->altnames->pdata[i], NET_TAG_PREFIX)) {
            return link->altnames->pdata[i];
        }
    }
    return NULL;
}

/* --- changing ------------------------------------------------------------------ */

static bool put_ipv6_silent(NetMessage *msg)
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

typedef struct {
    int type;
    uint32_t value;
    bool is_byte;
} BridgeSetting;

/* IFLA_LINKINFO { kind "bridge", data }: settings of the bridge itself. */
static bool put_bridge(NetMessage *msg, const BridgeSetting *settings, gsize n)
{
    struct nlattr *info = nla_nest_start(msg, IFLA_LINKINFO);
    if (!info || nla_put_string(msg, IFLA_INFO_KIND, "bridge") < 0) {
        return false;
    }
    struct nlattr *data = nla_nest_start(msg, IFLA_INFO_DATA);
    for (gsize i = 0; data && i < n; i++) {
        int code = settings[i].is_byte
                       ? nla_put_u8(msg, settings[i].type, (uint8_t)settings[i].value)
                       : nla_put_u32(msg, settings[i].type, settings[i].value);
        if (code < 0) {
            return false;
        }
    }
    if (!data) {
        return false;
    }
    nla_nest_end(msg, data);
    nla_nest_end(msg, info);
    return true;
}

static const BridgeSetting no_stp[] = {{.type = IFLA_BR_STP_STATE}};
static const BridgeSetting as_wanted[] = {{.type = IFLA_BR_FORWARD_DELAY},
                                          {.type = IFLA_BR_MCAST_SNOOPING, .is_byte = true}};

static bool put_change(NetMessage *msg, const NetLinkChange *wanted)
{
    if (wanted->mac && nla_put(msg, IFLA_ADDRESS, NET_MAC_BYTES, wanted->mac) < 0) {
        return false;
    }
    if (wanted->mtu && nla_put_u32(msg, IFLA_MTU, wanted->mtu) < 0) {
        return false;
    }
    if (wanted->txqlen && nla_put_u32(msg, IFLA_TXQLEN, wanted->txqlen) < 0) {
        return false;
    }
    if (wanted->bridge_index && nla_put_u32(msg, IFLA_MASTER, *wanted->bridge_index) < 0) {
        return false;
    }
    if (wanted->group && nla_put_u32(msg, IFLA_GROUP, *wanted->group) < 0) {
        return false;
    }
    return (!wanted->silences_ipv6 || put_ipv6_silent(msg)) &&
           (!wanted->settles_bridge || put_bridge(msg, as_wanted, G_N_ELEMENTS(as_wanted)));
}

/* IFLA_LINKINFO { slave kind "bridge", slave data }: of a port, once it is one. */
static bool put_port(NetMessage *msg, const NetLinkPort *port)
{
    struct nlattr *info = nla_nest_start(msg, IFLA_LINKINFO);
    if (!info || nla_put_string(msg, IFLA_INFO_SLAVE_KIND, "bridge") < 0) {
        return false;
    }
    struct nlattr *data = nla_nest_start(msg, IFLA_INFO_SLAVE_DATA);
    if (!data || nla_put_u8(msg, IFLA_BRPORT_MODE, port->is_hairpin) < 0 ||
        nla_put_u8(msg, IFLA_BRPORT_GUARD, port->is_guarded) < 0 ||
        nla_put_u8(msg, IFLA_BRPORT_ISOLATED, 0) < 0 ||
        nla_put_u8(msg, IFLA_BRPORT_LEARNING, 1) < 0 ||
        nla_put_u8(msg, IFLA_BRPORT_NEIGH_SUPPRESS, 0) < 0) {
        return false;
    }
    nla_nest_end(msg, data);
    nla_nest_end(msg, info);
    return true;
}

/* Up, down, and what a port is: the kernel takes the port's flags first. */
static bool set_flags(NetSocket *sock, const NetLink *link, const NetLinkChange *wanted,
                      GError **error)
{
    g_autoptr(NetMessage) msg = new_message(RTM_NEWLINK, 0, link->index);
    if (!msg || (wanted->port && !put_port(msg, wanted->port))) {
        return net_request_fail_memory(error);
    }
    struct ifinfomsg *info = nlmsg_data(nlmsg_hdr(msg));
    info->ifi_flags = wanted->sets_up ? IFF_UP : 0;
    info->ifi_change = wanted->sets_up || wanted->sets_down ? IFF_UP : 0;
    return change(sock, msg, link, 0,
                  wanted->sets_up ? "set it up" : "set it down or change its bridge port", error);
}

/* In a message of its own: while STP is on, the kernel takes no forward delay below 2 s. */
static bool stop_stp(NetSocket *sock, const NetLink *link, GError **error)
{
    g_autoptr(NetMessage) msg = new_message(RTM_NEWLINK, 0, link->index);
    if (!msg || !put_bridge(msg, no_stp, G_N_ELEMENTS(no_stp))) {
        return net_request_fail_memory(error);
    }
    return change(sock, msg, link, 0, "stop its STP", error);
}

static bool has_settings(const NetLinkChange *wanted)
{
    return wanted->mac || wanted->mtu || wanted->txqlen || wanted->bridge_index || wanted->group ||
           wanted->silences_ipv6 || wanted->settles_bridge;
}

static bool has_flags(const NetLinkChange *wanted)
{
    return wanted->port || wanted->sets_up || wanted->sets_down;
}

bool net_link_change_is_empty(const NetLinkChange *wanted)
{
    return !has_settings(wanted) && !has_flags(wanted) && !wanted->stops_stp;
}

bool net_link_change(NetSocket *sock, const NetLink *link, const NetLinkChange *wanted,
                     GError **error)
{
    if (wanted->stops_stp && !stop_stp(sock, link, error)) {
        return false;
    }
    if (has_settings(wanted)) {
        g_autoptr(NetMessage) msg = new_message(RTM_NEWLINK, 0, link->index);
        if (!msg || !put_change(msg, wanted)) {
            return net_request_fail_memory(error);
        }
        if (!change(sock, msg, link, 0, "set its address, MTU or bridge", error)) {
            return false;
        }
    }
    /* in a message of its own: the kernel sets flags before IFLA_AF_SPEC, and a link that comes up
     * makes its link-local address at once */
    return !has_flags(wanted) || set_flags(sock, link, wanted, error);
}

bool net_link_add_altname(NetSocket *sock, const NetLink *link, const char *altname, GError **error)
{
    g_autoptr(NetMessage) msg =
        new_message(RTM_NEWLINKPROP, NLM_F_EXCL | NLM_F_CREATE | NLM_F_APPEND, link->index);
    struct nlattr *list = msg ? nla_nest_start(msg, IFLA_PROP_LIST) : NULL;
    if (!list || nla_put_string(msg, IFLA_ALT_IFNAME, altname) < 0) {
        return net_request_fail_memory(error);
    }
    nla_nest_end(msg, list);
    return change(sock, msg, link, 0, "tag it", error);
}

bool net_link_delete(NetSocket *sock, const NetLink *link, GError **error)
{
    g_autoptr(NetMessage) msg = new_message(RTM_DELLINK, 0, link->index);
    return msg ? change(sock, msg, link, ENODEV, "remove it", error)
               : net_request_fail_memory(error);
}
