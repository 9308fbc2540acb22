#include "net/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include "base/error.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/report.h"
#include "net/link.h"
#include "net/shape.h"
#include "net/sysctl.h"

/*
 * How it works. A tap exists while a descriptor of it is open, or for ever once TUNSETPERSIST is
 * set. So a new tap is opened, tagged, given its owner, enslaved, set up and read back, and made
 * persistent as the very last thing: whatever fails before, closing the descriptor (or our death)
 * removes it, and no tap without our tag is ever left. Opening with IFF_TUN_EXCL never attaches to
 * somebody else's.
 */

enum { MAC_GROUP_BIT = 1, MAC_TAP_FIRST_BYTE = 0xfe, MULTI_QUEUE_TXQLEN = 32 };

/* As libvirt and QEMU open it; the flags of the last opener count (Linux drivers/net/tun.c). */
enum { TAP_FLAGS = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };

char *net_tap_name(const char *machine_uuid, unsigned nic_index)
{
    g_autofree char *text = g_strdup_printf("tap:%s:%u", machine_uuid, nic_index);
    return net_link_hash_name("vmt", text);
}

char *net_tap_owner_tag(const char *machine_uuid, unsigned nic_index)
{
    return g_strdup_printf(NET_TAG_PREFIX "%s:%u", machine_uuid, nic_index);
}

/* --- checks -------------------------------------------------------------------- */

/* The tap's own address: the guest's with fe in front. */
static bool parse_mac(const char *text, uint8_t out_mac[NET_MAC_BYTES], GError **error)
{
    int n_used = 0;
    uint8_t mac[NET_MAC_BYTES];
    bool is_good = sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2],
                          &mac[3], &mac[4], &mac[5], &n_used) == NET_MAC_BYTES &&
                   n_used == 17 && !text[17] && !(mac[0] & MAC_GROUP_BIT);
    if (!is_good) {
        g_autofree char *shown = base_report_escape(text, 60);
        return base_fail(error, VM_ERROR_NET, "'%s' is no MAC address of one station", shown);
    }
    mac[0] = MAC_TAP_FIRST_BYTE;
    memcpy(out_mac, mac, sizeof mac);
    return true;
}

static bool is_ours(const NetLink *link, const char *owner_tag)
{
    return link->is_tap && net_link_has_altname(link, owner_tag);
}

/* The link that is called `name`, not one that has it as an alternative name; a foreign tap of that
 * name, or one whose alternative name it is, is EXISTS. *out_link NULL: the name is free. */
static bool find_ours(NetSocket *sock, const char *name, const char *owner_tag, NetLink **out_link,
                      GError **error)
{
    g_autoptr(NetLink) link = NULL;
    if (!net_link_find(sock, name, &link, error)) {
        return false;
    }
    if (link && !is_ours(link, owner_tag)) {
        return base_fail(error, VM_ERROR_EXISTS,
                         "tap '%s': a link of that name is there that is not ours - left as it is",
                         name);
    }
    *out_link = g_steal_pointer(&link);
    return true;
}

/* --- the tap's descriptor ------------------------------------------------------ */

static int fail_open(const char *name, bool is_new, int errnum, GError **error)
{
    if (errnum == EBUSY && is_new) {
        errnum = EEXIST; /* IFF_TUN_EXCL's word */
    }
    base_error_set_errno(error, errnum, "tap '%s': cannot %s it%s", name, is_new ? "make" : "open",
                         errnum == EPERM ? " without CAP_NET_ADMIN" : "");
    return -1;
}

static bool wants_queues(const NetTap *tap)
{
    return tap->n_queues > 1;
}

/* Opens the tap, -1 on error. is_new: makes it; EXISTS when there is a link of that name. */
static int open_tap(const NetTap *tap, bool is_new, GError **error)
{
    const char *name = tap->name;
    int flags = TAP_FLAGS | (is_new ? IFF_TUN_EXCL : 0) | (wants_queues(tap) ? IFF_MULTI_QUEUE : 0);
    struct ifreq request = {.ifr_flags = (short)(unsigned short)flags};
    autofd int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (fd < 0 && errno != EACCES && errno != EMFILE && errno != ENFILE) {
        base_fail(error, VM_ERROR_HOST, "cannot open '/dev/net/tun': %s - load it: modprobe tun",
                  g_strerror(errno));
        return -1;
    }
    g_strlcpy(request.ifr_name, name, sizeof request.ifr_name);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request)) {
        return fail_open(name, is_new, errno, error);
    }
    return base_fd_steal(&fd);
}

static bool set_owner(int fd, const NetTap *tap, GError **error)
{
    if (ioctl(fd, TUNSETOWNER, (unsigned long)tap->owner_uid) ||
        ioctl(fd, TUNSETGROUP, (unsigned long)tap->owner_gid)) {
        base_error_set_errno(error, errno, "tap '%s': cannot give it to user %u, group %u",
                             tap->name, tap->owner_uid, tap->owner_gid);
        return false;
    }
    return true;
}

static bool set_persistent(int fd, const NetTap *tap, GError **error)
{
    int errnum = base_failpoint("tap.persist");
    if (!errnum && ioctl(fd, TUNSETPERSIST, 1UL)) {
        errnum = errno;
    }
    if (errnum) {
        base_error_set_errno(error, errnum, "tap '%s': cannot make it persistent", tap->name);
        return false;
    }
    return true;
}

/* --- wanted against found ------------------------------------------------------ */

/* What a tap is to be, worked out from the request and its bridge. */
typedef struct {
    const NetTap *tap;
    unsigned bridge_index;
    uint32_t mtu;
    NetLinkPort port;
    uint8_t mac[NET_MAC_BYTES]; /* unless tap->mac is NULL */
} Wanted;

static bool want(Wanted *wanted, NetSocket *sock, const NetTap *tap, GError **error)
{
    g_autoptr(NetLink) bridge = NULL;
    if (!net_link_name_check(tap->name, error) || !net_link_tag_check(tap->owner_tag, error) ||
        (tap->mac && !parse_mac(tap->mac, wanted->mac, error)) ||
        !net_link_find_kind(sock, tap->bridge, "bridge", &bridge, error)) {
        return false;
    }
    wanted->tap = tap;
    wanted->port =
        (NetLinkPort){.is_hairpin = tap->is_hairpin, .is_guarded = true, .is_learning = true};
    wanted->bridge_index = bridge->index;
    wanted->mtu = tap->mtu ? tap->mtu : bridge->mtu;
    return true;
}

static bool is_port_right(const Wanted *wanted, const NetLinkPort *port)
{
    return port->is_hairpin == wanted->port.is_hairpin && port->is_guarded && !port->is_isolated &&
           port->is_learning && !port->is_neigh_suppressed;
}

/* Fills in only what differs. */
static NetLinkChange difference(const Wanted *wanted, const NetLink *link)
{
    NetLinkChange change = {0};
    if (wanted->tap->mac && memcmp(wanted->mac, link->mac, NET_MAC_BYTES)) {
        change.mac = wanted->mac;
    }
    if (link->mtu != wanted->mtu) {
        change.mtu = wanted->mtu;
    }
    if (link->bridge_index != wanted->bridge_index) {
        change.bridge_index = &wanted->bridge_index;
    }
    if (wants_queues(wanted->tap) && link->txqlen != MULTI_QUEUE_TXQLEN) {
        change.txqlen = MULTI_QUEUE_TXQLEN;
    }
    if (change.bridge_index || !is_port_right(wanted, &link->port)) {
        change.port = &wanted->port;
    }
    change.silences_ipv6 = !link->is_ipv6_silent;
    change.sets_up = !link->is_up && !wanted->tap->is_link_down;
    change.sets_down = link->is_up && wanted->tap->is_link_down;
    return change;
}

static bool is_owner_right(const NetTap *tap, const NetLink *link)
{
    return link->owner_uid == tap->owner_uid && link->owner_gid == tap->owner_gid;
}

/* Brings the link to what is wanted, tag and owner apart, and reads it back. */
static bool settle(NetSocket *sock, const Wanted *wanted, const NetLink *link, GError **error)
{
    NetLinkChange change = difference(wanted, link);
    if (!link->is_ipv6_off) { /* a saving only: a container may not write there */
        (void)net_sysctl_ensure(NET_SYSCTL_IPV6, link->name, "disable_ipv6", 1, NULL);
    }
    if (!net_link_change(sock, link, &change, error)) {
        return false;
    }
    g_autoptr(NetLink) found = NULL;
    if (!find_ours(sock, wanted->tap->name, wanted->tap->owner_tag, &found, error)) {
        return false;
    }
    NetLinkChange left = found ? difference(wanted, found) : change;
    if (!found || !is_owner_right(wanted->tap, found) || !net_link_change_is_empty(&left)) {
        return base_fail(error, VM_ERROR_HOST,
                         "tap '%s': somebody else changes it: it does not stay as it was set",
                         wanted->tap->name);
    }
    return true;
}

static bool create_new(NetSocket *sock, const Wanted *wanted, GError **error)
{
    const NetTap *tap = wanted->tap;
    g_autoptr(NetLink) link = NULL;
    autofd int fd = open_tap(tap, true, error);
    if (fd < 0 || !net_link_find(sock, tap->name, &link, error)) {
        return false;
    }
    if (!link) {
        return base_fail(error, VM_ERROR_HOST, "tap '%s': it vanished while it was made",
                         tap->name);
    }
    return net_link_add_altname(sock, link, tap->owner_tag, error) && set_owner(fd, tap, error) &&
           settle(sock, wanted, link, error) && set_persistent(fd, tap, error);
}

/* The owner can be changed at an open descriptor only: BUSY when QEMU holds the single queue. */
static bool mend_owner(const NetTap *tap, GError **error)
{
    autofd int fd = open_tap(tap, false, error);
    return fd >= 0 && set_owner(fd, tap, error) && set_persistent(fd, tap, error);
}

/* The kind of queues is chosen when a tap is made: one that nobody has open is made again. */
static bool remove_idle(NetSocket *sock, const NetLink *link, GError **error)
{
    if (link->has_carrier) {
        return base_fail(error, VM_ERROR_BUSY,
                         "tap '%s': it is in use and its number of queues can't change - stop the "
                         "machine first",
                         link->name);
    }
    return net_link_delete(sock, link, error);
}

bool net_tap_create(const NetTap *tap, GError **error)
{
    Wanted wanted = {0};
    g_autoptr(NetLink) link = NULL;
    g_autoptr(NetSocket) sock = net_socket_open(error);
    if (!sock || !want(&wanted, sock, tap, error) ||
        !find_ours(sock, tap->name, tap->owner_tag, &link, error)) {
        return false;
    }
    if (link && link->is_multi_queue != wants_queues(tap)) {
        if (!remove_idle(sock, link, error)) {
            return false;
        }
        g_clear_pointer(&link, net_link_free);
    }
    if (!link) {
        return create_new(sock, &wanted, error);
    }
    if ((!is_owner_right(tap, link) || !link->is_persistent) && !mend_owner(tap, error)) {
        return false;
    }
    return settle(sock, &wanted, link, error);
}

/* --- removing and listing ------------------------------------------------------ */

/* What limits its rate, also when the tap itself is gone. A foreign link that is named as its ifb
 * is no business of ours. */
static bool remove_shape(const char *name, const char *owner_tag, GError **error)
{
    GError *problem = NULL;
    if (net_shape_remove(name, owner_tag, &problem) ||
        g_error_matches(problem, VM_ERROR, VM_ERROR_EXISTS) ||
        g_error_matches(problem, VM_ERROR, VM_ERROR_NET)) { /* too short a name to have one */
        g_clear_error(&problem);
        return true;
    }
    g_propagate_error(error, problem);
    return false;
}

bool net_tap_remove(const char *name, const char *owner_tag, GError **error)
{
    g_autoptr(NetLink) link = NULL;
    if (!net_link_name_check(name, error) || !net_link_tag_check(owner_tag, error)) {
        return false;
    }
    g_autoptr(NetSocket) sock = net_socket_open(error);
    if (!sock || !find_ours(sock, name, owner_tag, &link, error)) {
        return false;
    }
    if (!link && !net_link_find(sock, owner_tag, &link, error)) { /* somebody renamed it? */
        return false;
    }
    return (!link || !is_ours(link, owner_tag) || net_link_delete(sock, link, error)) &&
           remove_shape(name, owner_tag, error);
}

static void add_once(GPtrArray *taps, char *text)
{
    if (g_ptr_array_find_with_equal_func(taps, text, g_str_equal, NULL)) {
        g_free(text);
    } else {
        g_ptr_array_add(taps, text);
    }
}

GPtrArray *net_tap_list(GError **error)
{
    g_autoptr(NetSocket) sock = net_socket_open(error);
    g_autoptr(GPtrArray) links = sock ? net_link_list(sock, "tun", 0, error) : NULL;
    g_autoptr(GPtrArray) shaped = links ? net_shape_list(error) : NULL;
    if (!shaped) {
        return NULL;
    }
    GPtrArray *taps = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < links->len; i++) {
        const NetLink *link = links->pdata[i];
        const char *tag = net_link_tag(link);
        if (link->is_tap && tag) {
            g_ptr_array_add(taps, g_strdup_printf("%s %s", link->name, tag));
        }
    }
    for (guint i = 0; i < shaped->len; i++) {
        add_once(taps, g_strdup(shaped->pdata[i]));
    }
    return taps;
}

bool net_bridge_probe(const char *name, bool *out_is_bridge, GError **error)
{
    g_autoptr(NetLink) link = NULL;
    g_autoptr(NetSocket) sock = net_socket_open(error);
    if (!sock || !net_link_find(sock, name, &link, error)) {
        return false;
    }
    *out_is_bridge = link && !strcmp(link->kind, "bridge");
    return true;
}
