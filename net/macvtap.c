#include "net/macvtap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include "base/error.h"
#include "base/fd.h"
#include "base/ip.h"
#include "base/report.h"
#include "net/link_birth.h"
#include "net/shape.h"
#include "net/sysctl.h"

#define KIND "macvtap"

enum { MAC_GROUP_BIT = 1, INDEX_FIRST = 1 << 28, INDEX_HEX_CHARS = 7 };

static const struct {
    NetMacvtapMode mode;
    const char *name;
} modes[] = {{NET_MACVTAP_BRIDGE, "bridge"},
             {NET_MACVTAP_VEPA, "vepa"},
             {NET_MACVTAP_PRIVATE, "private"},
             {NET_MACVTAP_PASSTHROUGH, "passthrough"}};

char *net_macvtap_name(const char *machine_uuid, unsigned nic_index)
{
    g_autofree char *text = g_strdup_printf("macvtap:%s:%u", machine_uuid, nic_index);
    return net_link_hash_name("vmm", text);
}

const char *net_macvtap_mode_name(NetMacvtapMode mode)
{
    for (gsize i = 0; i < G_N_ELEMENTS(modes); i++) {
        if (modes[i].mode == mode) {
            return modes[i].name;
        }
    }
    return NULL;
}

bool net_macvtap_mode_parse(const char *text, NetMacvtapMode *out_mode)
{
    for (gsize i = 0; i < G_N_ELEMENTS(modes); i++) {
        if (!strcmp(modes[i].name, text)) {
            *out_mode = modes[i].mode;
            return true;
        }
    }
    return false;
}

/* --- wanted against found ------------------------------------------------------ */

typedef struct {
    const NetMacvtap *macvtap;
    NetLink *lower; /* owned */
    uint32_t mtu;
    uint8_t mac[NET_MAC_BYTES];
} Wanted;

static void clear_wanted(Wanted *wanted)
{
    g_clear_pointer(&wanted->lower, net_link_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Wanted, clear_wanted)

static bool check_values(const NetMacvtap *macvtap, uint8_t out_mac[NET_MAC_BYTES], GError **error)
{
    if (!net_link_name_check(macvtap->name, error) ||
        !net_link_tag_check(macvtap->owner_tag, error) ||
        !net_link_name_check(macvtap->lower, error)) {
        return false;
    }
    if (!base_mac_parse(macvtap->mac, out_mac) || (out_mac[0] & MAC_GROUP_BIT)) {
        g_autofree char *shown = base_report_escape(macvtap->mac, 60);
        return base_fail(error, VM_ERROR_NET, "'%s' is no MAC address of one station", shown);
    }
    if (!net_macvtap_mode_name(macvtap->mode)) {
        return base_fail(error, VM_ERROR_NET, "macvtap '%s': %d is no mode", macvtap->name,
                         (int)macvtap->mode);
    }
    return true;
}

static bool want(Wanted *wanted, NetSocket *sock, const NetMacvtap *macvtap, GError **error)
{
    wanted->macvtap = macvtap;
    if (!check_values(macvtap, wanted->mac, error) ||
        !net_link_find(sock, macvtap->lower, &wanted->lower, error)) {
        return false;
    }
    if (!wanted->lower) {
        return base_fail(error, VM_ERROR_NOT_FOUND,
                         "there is no link '%s' - name a link of this host", macvtap->lower);
    }
    wanted->mtu = macvtap->mtu ? macvtap->mtu : wanted->lower->mtu;
    return true;
}

/* Can a macvtap work on it? */
static bool check_lower(const NetLink *lower, GError **error)
{
    if (!lower->is_up) {
        return base_fail(error, VM_ERROR_HOST, "link '%s' is down - set it up: ip link set %s up",
                         lower->name, lower->name);
    }
    if (lower->bridge_index) {
        return base_fail(error, VM_ERROR_BUSY,
                         "link '%s' is a port of a bridge or bond: no macvtap can be on it - use "
                         "the bridge",
                         lower->name);
    }
    return true;
}

static const uint32_t no_group = 0;

/* Fills in only what differs. */
static NetLinkChange difference(const Wanted *wanted, const NetLink *link)
{
    return (NetLinkChange){
        .mac = memcmp(wanted->mac, link->mac, NET_MAC_BYTES) ? wanted->mac : NULL,
        .mtu = link->mtu != wanted->mtu ? wanted->mtu : 0,
        .group = link->group == net_link_birth_group(link->name) ? &no_group : NULL,
        .silences_ipv6 = !link->is_ipv6_silent,
        .sets_up = !link->is_up && !wanted->macvtap->is_link_down,
        .sets_down = link->is_up && wanted->macvtap->is_link_down,
    };
}

/* Lower link and mode are chosen when it is made. */
static bool is_same_kind(const Wanted *wanted, const NetLink *link)
{
    return link->lower_index == wanted->lower->index && link->macvtap_mode == wanted->macvtap->mode;
}

/* --- the node ------------------------------------------------------------------ */

/* An index that no other namespace's macvtap is likely to have. */
static unsigned choose_index(const char *name)
{
    struct stat st = {0};
    (void)stat("/proc/self/ns/net", &st);
    g_autofree char *text = g_strdup_printf("%s:%llu", name, (unsigned long long)st.st_ino);
    g_autofree char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, text, -1);
    hash[INDEX_HEX_CHARS] = '\0';
    return INDEX_FIRST + (unsigned)g_ascii_strtoull(hash, NULL, 16);
}

static char *node_path(const NetLink *link)
{
    return g_strdup_printf("/dev/tap%u", link->index);
}

/* Opens the node of a macvtap that nobody uses yet, to see whose it is. (Each descriptor is a queue
 * that takes its share of the frames, so never that of a running machine.) */
static bool check_node(const NetLink *link, GError **error)
{
    struct ifreq request = {0};
    g_autofree char *path = node_path(link);
    autofd int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        return base_fail(error, VM_ERROR_HOST,
                         "macvtap '%s': cannot open '%s': %s - it needs a /dev that the kernel "
                         "fills (devtmpfs)",
                         link->name, path, g_strerror(errno));
    }
    if (ioctl(fd, TUNGETIFF, &request) || strcmp(request.ifr_name, link->name) != 0) {
        return base_fail(error, VM_ERROR_HOST,
                         "macvtap '%s': '%s' belongs to a link of another network namespace - use "
                         "a bridge",
                         link->name, path);
    }
    return true;
}

/* --- create -------------------------------------------------------------------- */

/* The host's own IPv6 would take routers' advertisements from it while no QEMU has it open. */
static bool silence_host(const NetMacvtap *macvtap, GError **error)
{
    return !net_sysctl_exists(NET_SYSCTL_IPV6, "disable_ipv6") ||
           net_sysctl_ensure(NET_SYSCTL_IPV6, macvtap->name, "disable_ipv6", 1, error);
}

static bool settle(NetSocket *sock, const Wanted *wanted, const NetLink *link, GError **error)
{
    NetLinkChange change = difference(wanted, link);
    NetLinkChange flags = {.sets_up = change.sets_up, .sets_down = change.sets_down};
    change.sets_up = false;
    change.sets_down = false;
    return net_link_change(sock, link, &change, error) && silence_host(wanted->macvtap, error) &&
           net_link_change(sock, link, &flags, error);
}

static bool create_new(NetSocket *sock, const Wanted *wanted, GError **error)
{
    const NetMacvtap *macvtap = wanted->macvtap;
    g_autoptr(NetLink) link = NULL;
    GError *problem = NULL;
    NetLinkBirth birth = {.name = macvtap->name,
                          .kind = KIND,
                          .tag = macvtap->owner_tag,
                          .mac = wanted->mac,
                          .index = choose_index(macvtap->name),
                          .lower_index = wanted->lower->index,
                          .macvtap_mode = macvtap->mode};
    if (net_link_create(sock, &birth, &link, &problem)) {
        if (check_node(link, error) && settle(sock, wanted, link, error)) {
            return true;
        }
        net_link_delete(sock, link, NULL);
        return false;
    }
    /* passthrough wants the lower link for itself, and a second one gets EINVAL or EBUSY */
    base_fail(error, problem->code == VM_ERROR_EXISTS ? VM_ERROR_EXISTS : VM_ERROR_BUSY,
              "%s - is link '%s' in use by another macvtap or macvlan?", problem->message,
              macvtap->lower);
    g_error_free(problem);
    return false;
}

/* A node is opened while nobody can have it: a tag without its first settings is a cut-off start.
 */
static bool settle_old(NetSocket *sock, const Wanted *wanted, const NetLink *link, GError **error)
{
    bool is_new = link->group == net_link_birth_group(link->name);
    if (is_same_kind(wanted, link)) {
        return (!is_new || check_node(link, error)) && settle(sock, wanted, link, error);
    }
    if (is_new) {
        return net_link_delete(sock, link, error) && create_new(sock, wanted, error);
    }
    return base_fail(error, VM_ERROR_BUSY,
                     "macvtap '%s' is there with another lower link or mode - stop its machine "
                     "first",
                     link->name);
}

bool net_macvtap_create(const NetMacvtap *macvtap, GError **error)
{
    g_auto(Wanted) wanted = {0};
    g_autoptr(NetLink) link = NULL;
    g_autoptr(NetSocket) sock = net_socket_open(error);
    if (!sock || !want(&wanted, sock, macvtap, error) ||
        !net_link_find_ours(sock, macvtap->name, KIND, macvtap->owner_tag, &link, error)) {
        return false;
    }
    if (link && net_link_has_altname(link, macvtap->owner_tag)) {
        return settle_old(sock, &wanted, link, error);
    }
    if (link && !net_link_delete(sock, link, error)) { /* cut off before its tag */
        return false;
    }
    return check_lower(wanted.lower, error) && create_new(sock, &wanted, error);
}

/* --- removing, checking, listing ----------------------------------------------- */

/* What limits its rate. A foreign link that is named as its ifb is no business of ours. */
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

bool net_macvtap_remove(const char *name, const char *owner_tag, GError **error)
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
    return (!link || strcmp(link->kind, KIND) != 0 || net_link_delete(sock, link, error)) &&
           remove_shape(name, owner_tag, error);
}

static void differ(GPtrArray *differences, const NetMacvtap *macvtap, const char *format, ...)
    G_GNUC_PRINTF(3, 4);
static void differ(GPtrArray *differences, const NetMacvtap *macvtap, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_ptr_array_add(differences, g_strdup_printf("macvtap '%s' %s", macvtap->name, text));
}

static void tell(GPtrArray *differences, const Wanted *wanted, const NetLink *link)
{
    struct stat st;
    const NetMacvtap *macvtap = wanted->macvtap;
    NetLinkChange change = difference(wanted, link);
    g_autofree char *path = node_path(link);
    if (!is_same_kind(wanted, link)) {
        differ(differences, macvtap, "is not on '%s' in mode %s", macvtap->lower,
               net_macvtap_mode_name(macvtap->mode));
    }
    if (change.mac) {
        differ(differences, macvtap, "has another MAC than %s", macvtap->mac);
    }
    if (change.mtu) {
        differ(differences, macvtap, "has MTU %u, not %u", link->mtu, change.mtu);
    }
    if (change.sets_up || change.sets_down) {
        differ(differences, macvtap, "is %s", link->is_up ? "up" : "down");
    }
    if (change.group || change.silences_ipv6) {
        differ(differences, macvtap, "was not set up to its end");
    }
    if (lstat(path, &st) || !S_ISCHR(st.st_mode)) {
        differ(differences, macvtap, "has no node '%s'", path);
    }
    if (!wanted->lower->is_up) {
        differ(differences, macvtap, "is on link '%s', which is down", macvtap->lower);
    }
}

bool net_macvtap_check(const NetMacvtap *macvtap, GPtrArray *differences, GError **error)
{
    g_auto(Wanted) wanted = {0};
    g_autoptr(NetLink) link = NULL;
    g_autoptr(NetSocket) sock = net_socket_open(error);
    if (!sock || !want(&wanted, sock, macvtap, error) ||
        !net_link_find(sock, macvtap->name, &link, error)) {
        return false;
    }
    if (!link) {
        differ(differences, macvtap, "is not there");
    } else if (strcmp(link->kind, KIND) != 0 || !net_link_has_altname(link, macvtap->owner_tag)) {
        differ(differences, macvtap, "is not ours: it lacks the tag '%s'", macvtap->owner_tag);
    } else {
        tell(differences, &wanted, link);
    }
    return true;
}

GPtrArray *net_macvtap_list(GError **error)
{
    g_autoptr(NetSocket) sock = net_socket_open(error);
    g_autoptr(GPtrArray) links = sock ? net_link_list(sock, KIND, 0, error) : NULL;
    if (!links) {
        return NULL;
    }
    GPtrArray *macvtaps = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < links->len; i++) {
        const NetLink *link = links->pdata[i];
        const char *tag = net_link_tag(link);
        if (!strcmp(link->kind, KIND) && tag) {
            g_ptr_array_add(macvtaps, g_strdup_printf("%s %s", link->name, tag));
        }
    }
    return macvtaps;
}

GPtrArray *net_macvtap_sweep(bool is_dry_run, GError **error)
{
    g_autoptr(NetSocket) sock = net_socket_open(error);
    return sock ? net_link_sweep(sock, KIND, is_dry_run, error) : NULL;
}
