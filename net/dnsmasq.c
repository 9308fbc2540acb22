#include "net/dnsmasq.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/dir.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/file.h"
#include "net/network_supervisor.h"

#define RUN_PARENT   "/run/vm-run"
#define HOSTS        "hosts"
#define RESERVATIONS "reservations"
#define LEASES       "leases"
#define READY_TEXT   "# all of this folder is watched once this was read\n"

enum {
    FILE_MAX_BYTES = 4096,
    LEASES_MAX_BYTES = 64 * 1024 * 1024,
    LEASES_CHUNK_BYTES = 4096,
    LEASES_FRESH_MS = 50,
    DEFAULT_MTU = 1500
};

bool net_dnsmasq_is_needed(const NetNetwork *network)
{
    const NetRecord *record = network->record;
    return net_record_is_ours(record) && (record->has_dhcp || record->has_dns);
}

char *net_dnsmasq_folder(const char *store_id, const char *name)
{
    return g_strdup_printf(RUN_PARENT "/%s.net.%s", store_id, name);
}

void net_dnsmasq_user(uid_t *out_uid, gid_t *out_gid)
{
    static const char *const names[] = {"dnsmasq", "nobody"};
    *out_uid = *out_gid = 65534;
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        char text[4096];
        struct passwd entry, *found = NULL;
        if (getpwnam_r(names[i], &entry, text, sizeof text, &found) == 0 && found) {
            *out_uid = found->pw_uid;
            *out_gid = found->pw_gid;
            return;
        }
    }
}

/* --- arguments -------------------------------------------------------------------------------- */

G_GNUC_PRINTF(2, 3) static void add(GPtrArray *argv, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    g_ptr_array_add(argv, g_strdup_vprintf(format, arguments));
    va_end(arguments);
}

static char *netmask(const BaseCidr *cidr)
{
    BaseIp mask = {.n_bytes = 4};
    for (unsigned bit = 0; bit < cidr->n_bits; bit++) {
        mask.bytes[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
    }
    char text[BASE_IP_TEXT_BYTES];
    return g_strdup(base_ip_format(&mask, text));
}

/* Those of one family, comma-separated as a DHCP option takes them; NULL: none. Transfer full. */
static char *servers_of(const NetRecord *record, uint8_t n_bytes)
{
    GString *text = g_string_new(NULL);
    for (guint i = 0; i < record->dns_servers->len; i++) {
        const char *server = record->dns_servers->pdata[i];
        BaseIp ip;
        if (base_ip_parse(server, &ip) && ip.n_bytes == n_bytes) {
            g_string_append_printf(text, n_bytes == 4 ? ",%s" : ",[%s]", server);
        }
    }
    bool is_empty = text->len == 0;
    char *result = g_string_free(text, is_empty);
    return is_empty ? NULL : result;
}

static void add_range6(GPtrArray *argv, const NetRecord *record)
{
    char text[BASE_IP_TEXT_BYTES];
    add(argv, "--dhcp-range=%s,static,%u,1h", base_ip_format(&record->cidr6.ip, text),
        record->cidr6.n_bits);
    add(argv, "--enable-ra");
    bool is_isolated = record->mode == SPEC_NET_MODE_ISOLATED;
    if (record->mtu != DEFAULT_MTU) {
        add(argv, "--ra-param=%s,mtu:%u,0%s", record->bridge, record->mtu, is_isolated ? ",0" : "");
    } else if (is_isolated) { /* no router of anything */
        add(argv, "--ra-param=%s,0,0", record->bridge);
    }
}

static void add_dhcp(GPtrArray *argv, const NetRecord *record, const char *folder)
{
    char text[BASE_IP_TEXT_BYTES];
    g_autofree char *servers4 = servers_of(record, 4), *servers6 = servers_of(record, 16);
    if (base_ip_is_set(&record->cidr4.ip)) {
        g_autofree char *mask = netmask(&record->cidr4);
        add(argv, "--dhcp-range=%s,static,%s,1h", base_ip_format(&record->cidr4.ip, text), mask);
    }
    if (base_ip_is_set(&record->cidr6.ip)) {
        add_range6(argv, record);
    }
    add(argv, "--dhcp-hostsdir=%s/" RESERVATIONS, folder);
    add(argv, "--dhcp-leasefile=%s/" LEASES "/leases", folder);
    add(argv, "--dhcp-authoritative"); /* leases of an earlier dnsmasq go on */
    add(argv, "--dhcp-ignore-names");  /* a guest must not name itself */
    add(argv, "--dhcp-lease-max=65536");
    add(argv, "--no-ping");
    if (record->mode == SPEC_NET_MODE_ISOLATED) {
        add(argv, "--dhcp-option=3");
    }
    if (record->mtu != DEFAULT_MTU) {
        add(argv, "--dhcp-option=option:mtu,%u", record->mtu);
    }
    if (!record->has_dns) {
        add(argv, "--dhcp-option=6%s", servers4 ? servers4 : "");
    }
    if (!record->has_dns && servers6) {
        add(argv, "--dhcp-option=option6:dns-server%s", servers6);
    }
}

static void add_dns(GPtrArray *argv, const NetRecord *record, const char *folder)
{
    char text[BASE_CIDR_TEXT_BYTES];
    add(argv, "--hostsdir=%s/" HOSTS, folder);
    add(argv, "--domain-needed");
    if (record->domain) {
        add(argv, "--local=/%s/", record->domain);
    }
    if (base_ip_is_set(&record->cidr4.ip)) {
        add(argv, "--rev-server=%s", base_cidr_format(&record->cidr4, text));
    }
    if (base_ip_is_set(&record->cidr6.ip)) {
        add(argv, "--rev-server=%s", base_cidr_format(&record->cidr6, text));
    }
    for (guint i = 0; i < record->dns_servers->len; i++) {
        add(argv, "--server=%s", (char *)record->dns_servers->pdata[i]);
    }
    if (record->dns_servers->len > 0) {
        add(argv, "--no-resolv");
    } else if (record->mode == SPEC_NET_MODE_ISOLATED) {
        add(argv, "--no-resolv");
        add(argv, "--local=/#/"); /* what we don't know does not exist */
    } else { /* the host's servers, those on its loopback too: dnsmasq is a process of the host */
        add(argv, "--resolv-file=/etc/resolv.conf");
    }
}

char **net_dnsmasq_argv(const NetNetwork *network, const char *program)
{
    const NetRecord *record = network->record;
    g_autofree char *folder = net_dnsmasq_folder(network->store_id, record->name);
    GPtrArray *argv = g_ptr_array_new();
    add(argv, "%s", program);
    add(argv, "--keep-in-foreground");
    add(argv, "--conf-file=/dev/null");
    add(argv, "--pid-file=");
    add(argv, "--log-facility=-");
    add(argv, "--quiet-dhcp");
    add(argv, "--quiet-dhcp6");
    add(argv, "--quiet-ra");
    add(argv, "--interface=%s", record->bridge);
    add(argv, "--bind-interfaces");
    add(argv, "--except-interface=lo");
    add(argv, "--no-hosts");
    if (record->domain) {
        add(argv, "--domain=%s", record->domain);
    }
    if (record->has_dns) {
        add_dns(argv, record, folder);
    } else {
        add(argv, "--port=0");
    }
    if (record->has_dhcp) {
        add_dhcp(argv, record, folder);
    }
    g_ptr_array_add(argv, NULL);
    return (char **)g_ptr_array_free(argv, FALSE);
}

/* --- texts ------------------------------------------------------------------------------------ */

/* "web.lab.test web", the names of one member; the first is what an address resolves to. */
static void append_names(GString *text, const NetRecord *record, const char *name)
{
    if (record->domain && !strchr(name, '.')) {
        g_string_append_printf(text, " %s.%s", name, record->domain);
    }
    g_string_append_printf(text, " %s", name);
}

static void append_host(GString *text, const NetRecord *record, const NetMember *member,
                        const BaseIp *ip)
{
    char address[BASE_IP_TEXT_BYTES];
    if (!base_ip_is_set(ip) || !member->machine) {
        return;
    }
    g_string_append(text, base_ip_format(ip, address));
    append_names(text, record, member->machine);
    if (member->hostname && strcmp(member->hostname, member->machine)) {
        append_names(text, record, member->hostname);
    }
    g_string_append_c(text, '\n');
}

static char *hosts_text(const NetRecord *record, const NetMember *member)
{
    GString *text = g_string_new(NULL);
    append_host(text, record, member, &member->ip4);
    append_host(text, record, member, &member->ip6);
    return g_string_free(text, FALSE);
}

static char *reservation_text(const NetMember *member)
{
    char mac[18], address[BASE_IP_TEXT_BYTES];
    GString *text = g_string_new(base_mac_format(member->mac, mac));
    if (base_ip_is_set(&member->ip4)) {
        g_string_append_printf(text, ",%s", base_ip_format(&member->ip4, address));
    }
    if (base_ip_is_set(&member->ip6)) {
        g_string_append_printf(text, ",[%s]", base_ip_format(&member->ip6, address));
    }
    const char *name = member->hostname ? member->hostname : member->machine;
    if (name && !strchr(name, '.')) {
        g_string_append_printf(text, ",%s", name);
    }
    g_string_append_c(text, '\n');
    return g_string_free(text, FALSE);
}

/* --- the folder ------------------------------------------------------------------------------- */

/* -1 without `error`: there is none, or it is not whole. */
static int open_whole(const NetNetwork *network)
{
    g_autofree char *path = net_dnsmasq_folder(network->store_id, network->record->name);
    autofd int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd >= 0 && faccessat(fd, HOSTS "/" NET_DNSMASQ_READY, F_OK, 0) == 0 ? base_fd_steal(&fd)
                                                                               : -1;
}

/* Writes what differs; *out_was (may be NULL): was there another text? */
static bool write_file(int dirfd, const char *folder, const char *name, const char *text,
                       bool *out_is_changed, bool *out_was_there, GError **error)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    g_autofree char *found = base_file_read(dirfd, path, FILE_MAX_BYTES, NULL, NULL);
    *out_was_there = found != NULL;
    *out_is_changed = !found || strcmp(found, text);
    return !*out_is_changed || base_file_write_whole(dirfd, path, text, strlen(text), 0640, error);
}

typedef struct {
    bool has_changed;     /* anything was written */
    bool needs_reload;    /* a reservation changed that was there */
    bool has_reservation; /* one came that was not there */
} Written;

static bool write_member(const NetNetwork *network, int dirfd, const NetMember *member,
                         Written *out, GError **error)
{
    g_autofree char *hosts = hosts_text(network->record, member);
    g_autofree char *reservation = reservation_text(member);
    bool is_changed, was_there;
    if (!write_file(dirfd, HOSTS, member->owner, hosts, &is_changed, &was_there, error)) {
        return false;
    }
    out->has_changed = is_changed;
    if (!write_file(dirfd, RESERVATIONS, member->owner, reservation, &is_changed, &was_there,
                    error)) {
        return false;
    }
    out->has_changed = out->has_changed || is_changed;
    out->needs_reload = is_changed && was_there;
    out->has_reservation = !was_there;
    return true;
}

/* Made for dnsmasq's group; leases for its user. Where we may not give it away (a user namespace),
 * dnsmasq runs as we do. */
static bool make_folder(int parent_fd, const char *name, bool is_its_own, uid_t uid, gid_t gid,
                        GError **error)
{
    autofd int fd = -1;
    if ((mkdirat(parent_fd, name, 0700) < 0 && errno != EEXIST) ||
        (fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0) {
        base_error_set_errno(error, errno, "cannot make dnsmasq's folder '%s'", name);
        return false;
    }
    bool is_given = fchown(fd, is_its_own ? uid : (uid_t)-1, gid) == 0;
    if ((!is_given && errno != EPERM && errno != EINVAL) ||
        fchmod(fd, is_its_own ? 0700 : 02750) < 0) {
        base_error_set_errno(error, errno, "cannot give dnsmasq's folder '%s' to its user", name);
        return false;
    }
    return true;
}

static int make_folders(const NetNetwork *network, GError **error)
{
    uid_t uid;
    gid_t gid;
    net_dnsmasq_user(&uid, &gid);
    g_autofree char *path = net_dnsmasq_folder(network->store_id, network->record->name);
    g_autofree char *name = g_path_get_basename(path);
    autofd int parent_fd = base_dir_open_make(RUN_PARENT, 0711, error);
    if (parent_fd < 0 || !make_folder(parent_fd, name, false, uid, gid, error)) {
        return -1;
    }
    autofd int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || !make_folder(fd, HOSTS, false, uid, gid, error) ||
        !make_folder(fd, RESERVATIONS, false, uid, gid, error) ||
        !make_folder(fd, LEASES, true, uid, gid, error)) {
        return -1;
    }
    return base_fd_steal(&fd);
}

/* Files of nobody. */
static bool sweep(NetNetwork *network, int dirfd, const char *folder, bool is_fix,
                  GPtrArray *out_texts, GError **error)
{
    g_autoptr(GPtrArray) files = net_folder_list(dirfd, folder);
    for (guint i = 0; i < files->len; i++) {
        const char *file = files->pdata[i];
        if (!strcmp(file, NET_DNSMASQ_READY) || net_network_member(network, file)) {
            continue;
        }
        g_autofree char *path = g_build_filename(folder, file, NULL);
        if (is_fix && unlinkat(dirfd, path, 0) < 0 && errno != ENOENT) {
            base_error_set_errno(error, errno, "cannot remove '%s'", path);
            return false;
        }
        g_ptr_array_add(out_texts,
                        g_strdup_printf("dnsmasq's %s has a file of nobody: %s", folder, file));
    }
    return true;
}

static bool write_ready(int dirfd, GError **error)
{
    bool is_changed, was_there;
    return write_file(dirfd, RESERVATIONS, NET_DNSMASQ_READY, READY_TEXT, &is_changed, &was_there,
                      error) &&
           write_file(dirfd, HOSTS, NET_DNSMASQ_READY, READY_TEXT, &is_changed, &was_there, error);
}

bool net_dnsmasq_begin(NetNetwork *network, GError **error)
{
    autofd int whole_fd = net_dnsmasq_is_needed(network) ? open_whole(network) : -1;
    if (!net_dnsmasq_is_needed(network) || whole_fd >= 0) {
        return true;
    }
    const GPtrArray *members = net_network_members(network, error);
    autofd int fd = members ? make_folders(network, error) : -1;
    g_autoptr(GPtrArray) ignored = g_ptr_array_new_with_free_func(g_free);
    if (fd < 0 || !sweep(network, fd, HOSTS, true, ignored, error) ||
        !sweep(network, fd, RESERVATIONS, true, ignored, error)) {
        return false;
    }
    for (guint i = 0; i < members->len; i++) {
        Written written;
        if (!write_member(network, fd, members->pdata[i], &written, error)) {
            return false;
        }
    }
    return write_ready(fd, error);
}

bool net_dnsmasq_end(const char *store_id, const char *network, GError **error)
{
    autofd int parent_fd = open(RUN_PARENT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    g_autofree char *path = net_dnsmasq_folder(store_id, network);
    g_autofree char *name = g_path_get_basename(path);
    return parent_fd < 0 || base_dir_remove_tree(parent_fd, name, error);
}

/* --- one member ------------------------------------------------------------------------------- */

/* dnsmasq cuts the file to nothing and writes it again, 4096 bytes at a time (lease.c): what is
 * found just then may not be all. */
static bool is_being_written(int dirfd)
{
    struct stat st;
    struct timespec now;
    if (fstatat(dirfd, LEASES "/leases", &st, AT_SYMLINK_NOFOLLOW) ||
        clock_gettime(CLOCK_REALTIME, &now)) {
        return false;
    }
    int64_t age_ms = (now.tv_sec - st.st_mtim.tv_sec) * INT64_C(1000) +
                     (now.tv_nsec - st.st_mtim.tv_nsec) / 1000000;
    return (st.st_size == 0 || st.st_size >= LEASES_CHUNK_BYTES) && ABS(age_ms) < LEASES_FRESH_MS;
}

/* Has somebody, perhaps, a lease of an address of `member` that dnsmasq would keep from it? */
static bool has_old_lease(int dirfd, const NetMember *member)
{
    if (is_being_written(dirfd)) {
        return true;
    }
    g_autofree char *text = base_file_read(dirfd, LEASES "/leases", LEASES_MAX_BYTES, NULL, NULL);
    g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", -1);
    char ip4[BASE_IP_TEXT_BYTES], ip6[BASE_IP_TEXT_BYTES], mac[18];
    base_ip_format(&member->ip4, ip4);
    base_ip_format(&member->ip6, ip6);
    base_mac_format(member->mac, mac);
    for (char **line = lines; *line; line++) { /* "<expiry> <mac or iaid> <address> ..." */
        g_auto(GStrv) words = g_strsplit(*line, " ", 4);
        if (g_strv_length(words) == 4 &&
            ((*ip4 && !strcmp(words[2], ip4) && strcmp(words[1], mac)) ||
             (*ip6 && !strcmp(words[2], ip6)))) {
            return true;
        }
    }
    return false;
}

bool net_dnsmasq_put(NetNetwork *network, const NetMember *member, const NetMember *old,
                     GError **error)
{
    autofd int fd = net_dnsmasq_is_needed(network) ? open_whole(network) : -1;
    Written written = {0};
    if (fd < 0) {
        return true;
    }
    if (!write_member(network, fd, member, &written, error)) {
        return false;
    }
    bool is_moved =
        old && (!base_ip_equal(&old->ip4, &member->ip4) || !base_ip_equal(&old->ip6, &member->ip6));
    if ((written.has_reservation || is_moved) && has_old_lease(fd, member)) {
        return net_supervisor_end_dnsmasq(network->dirfd, error); /* and a new one begins */
    }
    if (written.needs_reload) {
        net_supervisor_reload_dnsmasq(network->dirfd);
    }
    return true;
}

bool net_dnsmasq_drop(NetNetwork *network, const char *owner, GError **error)
{
    static const char *const folders[] = {HOSTS, RESERVATIONS};
    autofd int fd = net_dnsmasq_is_needed(network) ? open_whole(network) : -1;
    bool needs_reload = false;
    for (size_t i = 0; fd >= 0 && i < G_N_ELEMENTS(folders); i++) {
        g_autofree char *path = g_build_filename(folders[i], owner, NULL);
        bool is_removed = unlinkat(fd, path, 0) == 0;
        if (!is_removed && errno != ENOENT) {
            base_error_set_errno(error, errno, "cannot remove '%s'", path);
            return false;
        }
        needs_reload = is_removed;
    }
    if (needs_reload) {
        net_supervisor_reload_dnsmasq(network->dirfd);
    }
    return true;
}

static bool check_member(NetNetwork *network, int fd, const NetMember *member, bool is_fix,
                         GPtrArray *differences, GError **error)
{
    g_autofree char *hosts = hosts_text(network->record, member);
    g_autofree char *reservation = reservation_text(member);
    g_autofree char *hosts_path = g_build_filename(HOSTS, member->owner, NULL);
    g_autofree char *path = g_build_filename(RESERVATIONS, member->owner, NULL);
    g_autofree char *found_hosts = base_file_read(fd, hosts_path, FILE_MAX_BYTES, NULL, NULL);
    g_autofree char *found = base_file_read(fd, path, FILE_MAX_BYTES, NULL, NULL);
    bool is_named = found_hosts && !strcmp(found_hosts, hosts);
    bool is_reserved = found && !strcmp(found, reservation);
    if (!is_named) {
        g_ptr_array_add(differences,
                        g_strdup_printf("names of machine '%s' are %s", member->machine,
                                        found_hosts ? "wrong" : "missing"));
    }
    if (!is_reserved) {
        g_ptr_array_add(differences, g_strdup_printf("reservation of machine '%s' is %s",
                                                     member->machine, found ? "wrong" : "missing"));
    }
    return is_fix && !(is_named && is_reserved) ? net_dnsmasq_put(network, member, member, error)
                                                : true;
}

bool net_dnsmasq_check(NetNetwork *network, bool is_fix, GPtrArray *differences, GError **error)
{
    if (!net_dnsmasq_is_needed(network)) {
        return true;
    }
    autofd int fd = open_whole(network);
    if (fd < 0) {
        g_ptr_array_add(differences, g_strdup("dnsmasq's folder is missing"));
        return !is_fix || net_dnsmasq_begin(network, error);
    }
    const GPtrArray *members = net_network_members(network, error);
    guint n_before = differences->len;
    if (!members || !sweep(network, fd, HOSTS, is_fix, differences, error) ||
        !sweep(network, fd, RESERVATIONS, is_fix, differences, error)) {
        return false;
    }
    if (is_fix && differences->len > n_before) {
        net_supervisor_reload_dnsmasq(network->dirfd);
    }
    for (guint i = 0; i < members->len; i++) {
        if (!check_member(network, fd, members->pdata[i], is_fix, differences, error)) {
            return false;
        }
    }
    return true;
}
