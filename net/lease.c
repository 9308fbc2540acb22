#include "net/lease.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <string.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>
#include "base/error.h"
#include "base/fd.h"
#include "base/file.h"
#include "net/link_request.h"

enum { LEASES_MAX_BYTES = 4 * 1024 * 1024, MAC_CHARS = 18 };

const char *const net_lease_files[] = {
    "/var/lib/libvirt/dnsmasq/%s.status", "/var/lib/NetworkManager/dnsmasq-%s.leases",
    "/var/lib/misc/dnsmasq.%s.leases",    "/var/lib/misc/dnsmasq.leases",
    "/var/lib/dnsmasq/dnsmasq.leases",    NULL,
};

/* --- one file --------------------------------------------------------------------------------- */

/* 0: for ever (dnsmasq(8)). */
static bool is_current(gint64 expiry_s)
{
    return expiry_s == 0 || expiry_s > (gint64)time(NULL);
}

static bool take(const char *mac, const char *ip, gint64 expiry_s, const char *wanted, BaseIp *out)
{
    BaseIp found;
    if (!mac || !ip || g_ascii_strcasecmp(mac, wanted) != 0 || !is_current(expiry_s) ||
        !base_ip_parse(ip, &found) || found.n_bytes != 4) {
        return false;
    }
    *out = found;
    return true;
}

/* The last one of that MAC is the newest. */
static void read_json(const char *text, const char *wanted, BaseIp *out)
{
    size_t i;
    json_t *lease, *list = json_loads(text, 0, NULL);
    json_array_foreach(list, i, lease)
    {
        take(json_string_value(json_object_get(lease, "mac-address")),
             json_string_value(json_object_get(lease, "ip-address")),
             json_integer_value(json_object_get(lease, "expiry-time")), wanted, out);
    }
    json_decref(list);
}

static void read_lines(const char *text, const char *wanted, BaseIp *out)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        g_auto(GStrv) words = g_strsplit(*line, " ", 5);
        if (g_strv_length(words) >= 3) {
            take(words[1], words[2], g_ascii_strtoll(words[0], NULL, 10), wanted, out);
        }
    }
}

/* False: there is no such file. */
static bool read_file(const char *path, const char *wanted, BaseIp *out)
{
    g_autofree char *text = base_file_read_user(path, LEASES_MAX_BYTES, NULL, NULL);
    if (!text) {
        return false;
    }
    const char *first = text + strspn(text, " \t\r\n");
    if (*first == '[') {
        read_json(text, wanted, out);
    } else {
        read_lines(text, wanted, out);
    }
    return true;
}

/* --- all of them, and waiting ----------------------------------------------------------------- */

static char *path_of(const char *pattern, const char *bridge)
{
    g_auto(GStrv) parts = g_strsplit(pattern, "%s", 2);
    return g_strjoinv(bridge, parts);
}

/* True when one of the files is there, so that a lease may still come. */
static bool look(const char *const *files, const char *bridge, const char *wanted, BaseIp *out)
{
    bool has_file = false;
    for (unsigned i = 0; files[i] && !base_ip_is_set(out); i++) {
        g_autofree char *path = path_of(files[i], bridge);
        has_file |= read_file(path, wanted, out);
    }
    return has_file;
}

/* Servers write in place or rename: both are seen in the folder. */
static void watch_folders(int fd, const char *const *files, const char *bridge)
{
    for (unsigned i = 0; files[i]; i++) {
        g_autofree char *path = path_of(files[i], bridge);
        g_autofree char *folder = g_path_get_dirname(path);
        (void)inotify_add_watch(fd, folder, IN_CLOSE_WRITE | IN_MOVED_TO | IN_MODIFY | IN_ONLYDIR);
    }
}

static bool wait_event(int fd, gint64 until_us)
{
    char buffer[4096];
    gint64 left_ms = (until_us - g_get_monotonic_time()) / 1000;
    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    if (left_ms <= 0 || poll(&wanted, 1, (int)MIN(left_ms, G_MAXINT)) <= 0) {
        return left_ms > 0 && errno == EINTR;
    }
    while (read(fd, buffer, sizeof buffer) > 0) { /* all that has come; not blocking */
    }
    return true;
}

bool net_lease_find(const char *const *files, const char *bridge, const uint8_t mac[6],
                    unsigned timeout_ms, BaseIp *out, GError **error)
{
    char wanted[MAC_CHARS];
    gint64 until_us = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
    base_mac_format(mac, wanted);
    *out = (BaseIp){0};
    if (!look(files, bridge, wanted, out) || base_ip_is_set(out) || timeout_ms == 0) {
        return true;
    }
    autofd int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fd < 0) {
        base_error_set_errno(error, errno, "cannot wait for a lease");
        return false;
    }
    watch_folders(fd, files, bridge);
    do {
        look(files, bridge, wanted, out); /* also what came before the watch */
    } while (!base_ip_is_set(out) && wait_event(fd, until_us));
    return true;
}

/* --- the neighbour table ---------------------------------------------------------------------- */

typedef struct {
    unsigned index;
    uint8_t mac[6];
    BaseIp ip;
} Neighbour;

/* NULL: none of IPv4 with both addresses. */
static gpointer read_neighbour(struct nlmsghdr *header)
{
    struct nlattr *parts[NDA_MAX + 1];
    const struct ndmsg *message = nlmsg_data(header);
    if (header->nlmsg_type != RTM_NEWNEIGH ||
        nlmsg_parse(header, sizeof *message, parts, NDA_MAX, NULL) < 0 || !parts[NDA_DST] ||
        !parts[NDA_LLADDR] || nla_len(parts[NDA_DST]) != 4 || nla_len(parts[NDA_LLADDR]) != 6) {
        return NULL;
    }
    Neighbour *neighbour = g_new0(Neighbour, 1);
    neighbour->index = (unsigned)message->ndm_ifindex;
    neighbour->ip.n_bytes = 4;
    memcpy(neighbour->ip.bytes, nla_data(parts[NDA_DST]), 4);
    memcpy(neighbour->mac, nla_data(parts[NDA_LLADDR]), sizeof neighbour->mac);
    return neighbour;
}

bool net_neighbour_find(const char *bridge, const uint8_t mac[6], BaseIp *out, GError **error)
{
    const struct ndmsg info = {.ndm_family = AF_INET};
    unsigned index = if_nametoindex(bridge);
    *out = (BaseIp){0};
    g_autoptr(NetSocket) sock = net_socket_open(error);
    g_autoptr(NetMessage) msg =
        sock ? net_message_new(RTM_GETNEIGH, NLM_F_DUMP, &info, sizeof info) : NULL;
    if (!msg) {
        return sock && net_request_fail_memory(error);
    }
    g_autoptr(GPtrArray) found =
        net_request_dump(sock, msg, read_neighbour, g_free, "the neighbours of this host", error);
    for (guint i = 0; found && index && i < found->len; i++) {
        const Neighbour *neighbour = found->pdata[i];
        if (neighbour->index == index && !memcmp(neighbour->mac, mac, sizeof neighbour->mac)) {
            *out = neighbour->ip;
        }
    }
    return found != NULL;
}
