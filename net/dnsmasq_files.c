#include "net/dnsmasq.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/dir.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/file.h"
#include "net/dnsmasq_internal.h"
#include "net/network_supervisor.h"

#define HOSTS        NET_DNSMASQ_HOSTS
#define RESERVATIONS NET_DNSMASQ_RESERVATIONS
#define LEASES       NET_DNSMASQ_LEASES
#define STALE        "stale"
#define READY_TEXT   "# all of this folder is watched once this was read\n"

enum {
    FILE_MAX_BYTES = 4096,
    LEASES_MAX_BYTES = 64 * 1024 * 1024,
    LEASES_CHUNK_BYTES = 4096,
    LEASES_FRESH_MS = 50,
    STALE_MAX = 300
};

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

typedef enum { FILE_SAME, FILE_CHANGED, FILE_NEW } FileChange;

/* Writes what differs. */
static bool write_file(int dirfd, const char *path, const char *text, FileChange *out,
                       GError **error)
{
    g_autofree char *found = base_file_read(dirfd, path, FILE_MAX_BYTES, NULL, NULL);
    *out = !found ? FILE_NEW : strcmp(found, text) ? FILE_CHANGED : FILE_SAME;
    return *out == FILE_SAME || base_file_write_whole(dirfd, path, text, strlen(text), 0640, error);
}

/* *out: what became of its reservation. */
static bool write_member(const NetNetwork *network, int dirfd, const NetMember *member,
                         FileChange *out, GError **error)
{
    g_autofree char *hosts = hosts_text(network->record, member);
    g_autofree char *reservation = reservation_text(member);
    g_autofree char *hosts_path = g_build_filename(HOSTS, member->owner, NULL);
    g_autofree char *path = g_build_filename(RESERVATIONS, member->owner, NULL);
    return write_file(dirfd, hosts_path, hosts, out, error) &&
           write_file(dirfd, path, reservation, out, error);
}

typedef struct {
    uid_t uid;
    gid_t gid;
} User;

/* Made for dnsmasq's group; leases for its user. Where we may not give it away (a user namespace),
 * dnsmasq can't run as its user either, and says so. */
static bool make_folder(int parent_fd, const char *name, const User *user, GError **error)
{
    bool is_its_own = !strcmp(name, LEASES);
    autofd int fd = -1;
    if ((mkdirat(parent_fd, name, 0700) < 0 && errno != EEXIST) ||
        (fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0) {
        base_error_set_errno(error, errno, "cannot make dnsmasq's folder '%s'", name);
        return false;
    }
    bool is_given = fchown(fd, is_its_own ? user->uid : (uid_t)-1, user->gid) == 0;
    if ((!is_given && errno != EPERM && errno != EINVAL) ||
        fchmod(fd, is_its_own ? 0700 : 02750) < 0) {
        base_error_set_errno(error, errno, "cannot give dnsmasq's folder '%s' to its user", name);
        return false;
    }
    return true;
}

static int make_folders(const NetNetwork *network, GError **error)
{
    static const char *const folders[] = {HOSTS, RESERVATIONS, STALE, LEASES};
    User user;
    net_dnsmasq_user(&user.uid, &user.gid);
    g_autofree char *path = net_dnsmasq_folder(network->store_id, network->record->name);
    g_autofree char *name = g_path_get_basename(path);
    autofd int parent_fd = base_dir_open_make(NET_DNSMASQ_PARENT, 0711, error);
    if (parent_fd < 0 || !make_folder(parent_fd, name, &user, error)) {
        return -1;
    }
    autofd int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        base_error_set_errno(error, errno, "cannot open dnsmasq's folder '%s'", path);
        return -1;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(folders); i++) {
        if (!make_folder(fd, folders[i], &user, error)) {
            return -1;
        }
    }
    return base_fd_steal(&fd);
}

/* Texts of the files of nobody, which is_fix removes; transfer full. */
static GPtrArray *sweep(NetNetwork *network, int dirfd, const char *folder, bool is_fix)
{
    g_autoptr(GPtrArray) files = net_folder_list(dirfd, folder);
    GPtrArray *texts = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < files->len; i++) {
        const char *file = files->pdata[i];
        g_autofree char *path = g_build_filename(folder, file, NULL);
        if (!strcmp(file, NET_DNSMASQ_READY) || net_network_member(network, file)) {
            continue;
        }
        if (is_fix) {
            unlinkat(dirfd, path, 0); /* what is left is told by the next look */
        }
        g_ptr_array_add(texts,
                        g_strdup_printf("dnsmasq's %s has a file of nobody: %s", folder, file));
    }
    return texts;
}

static bool write_ready(int dirfd, GError **error)
{
    FileChange change;
    return write_file(dirfd, RESERVATIONS "/" NET_DNSMASQ_READY, READY_TEXT, &change, error) &&
           write_file(dirfd, HOSTS "/" NET_DNSMASQ_READY, READY_TEXT, &change, error);
}

bool net_dnsmasq_begin(NetNetwork *network, GError **error)
{
    autofd int whole_fd = net_dnsmasq_is_needed(network) ? open_whole(network) : -1;
    if (!net_dnsmasq_is_needed(network) || whole_fd >= 0) {
        return true;
    }
    const GPtrArray *members = net_network_members(network, error);
    autofd int fd = members ? make_folders(network, error) : -1;
    if (fd < 0) {
        return false;
    }
    g_ptr_array_unref(sweep(network, fd, HOSTS, true));
    g_ptr_array_unref(sweep(network, fd, RESERVATIONS, true));
    for (guint i = 0; i < members->len; i++) {
        FileChange change;
        if (!write_member(network, fd, members->pdata[i], &change, error)) {
            return false;
        }
    }
    return write_ready(fd, error);
}

bool net_dnsmasq_end(const char *store_id, const char *network, GError **error)
{
    autofd int parent_fd = open(NET_DNSMASQ_PARENT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
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

/* --- reservations that dnsmasq still has -------------------------------------------------------
 */

typedef struct {
    char paths[3][sizeof STALE + BASE_IP_TEXT_BYTES];
} Stale;

static Stale stale_of(const NetMember *member)
{
    char ip4[BASE_IP_TEXT_BYTES], ip6[BASE_IP_TEXT_BYTES], mac[18];
    Stale stale;
    g_snprintf(stale.paths[0], sizeof stale.paths[0], STALE "/%s",
               base_mac_format(member->mac, mac));
    g_snprintf(stale.paths[1], sizeof stale.paths[1], STALE "/%s",
               base_ip_format(&member->ip4, ip4));
    g_snprintf(stale.paths[2], sizeof stale.paths[2], STALE "/%s",
               base_ip_format(&member->ip6, ip6));
    return stale;
}

static bool is_stale(int dirfd, const NetMember *member)
{
    struct stat st;
    Stale stale = stale_of(member);
    for (size_t i = 0; i < G_N_ELEMENTS(stale.paths); i++) { /* without an address: the folder */
        if (fstatat(dirfd, stale.paths[i], &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode)) {
            return true;
        }
    }
    return false;
}

/* Makes dnsmasq forget all that it should not have. */
static void reload(const NetNetwork *network, int dirfd)
{
    g_autoptr(GPtrArray) files = net_folder_list(dirfd, STALE);
    for (guint i = 0; i < files->len; i++) {
        g_autofree char *path = g_build_filename(STALE, files->pdata[i], NULL);
        unlinkat(dirfd, path, 0);
    }
    net_supervisor_reload_dnsmasq(network->dirfd);
}

static void note_stale(const NetNetwork *network, int dirfd, const NetMember *old)
{
    Stale stale = old ? stale_of(old) : (Stale){0};
    for (size_t i = 0; old && i < G_N_ELEMENTS(stale.paths); i++) {
        close(openat(dirfd, stale.paths[i], O_CREAT | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0600));
    }
    g_autoptr(GPtrArray) files = net_folder_list(dirfd, STALE);
    if (!old || files->len > STALE_MAX) {
        reload(network, dirfd);
    }
}

bool net_dnsmasq_put(NetNetwork *network, const NetMember *member, const NetMember *old,
                     GError **error)
{
    autofd int fd = net_dnsmasq_is_needed(network) ? open_whole(network) : -1;
    FileChange change = FILE_SAME;
    if (fd < 0) {
        return true;
    }
    if (!write_member(network, fd, member, &change, error)) {
        return false;
    }
    bool is_moved =
        old && (!base_ip_equal(&old->ip4, &member->ip4) || !base_ip_equal(&old->ip6, &member->ip6));
    if ((change == FILE_NEW || is_moved) && has_old_lease(fd, member)) {
        return net_supervisor_end_dnsmasq(network->dirfd, error); /* and a new one begins */
    }
    if (change == FILE_CHANGED || (change == FILE_NEW && is_stale(fd, member))) {
        reload(network, fd);
    }
    return true;
}

bool net_dnsmasq_drop(NetNetwork *network, const char *owner, const NetMember *old, GError **error)
{
    static const char *const folders[] = {HOSTS, RESERVATIONS};
    autofd int fd = net_dnsmasq_is_needed(network) ? open_whole(network) : -1;
    bool was_reserved = false;
    for (size_t i = 0; fd >= 0 && i < G_N_ELEMENTS(folders); i++) {
        g_autofree char *path = g_build_filename(folders[i], owner, NULL);
        was_reserved = unlinkat(fd, path, 0) == 0;
        if (!was_reserved && errno != ENOENT) {
            base_error_set_errno(error, errno, "cannot remove '%s'", path);
            return false;
        }
    }
    if (was_reserved) {
        note_stale(network, fd, old);
    }
    return true;
}

/* "", or what is wrong with a file. Transfer none. */
static const char *judge(int dirfd, const char *path, const char *text)
{
    g_autofree char *found = base_file_read(dirfd, path, FILE_MAX_BYTES, NULL, NULL);
    return !found ? "missing" : strcmp(found, text) ? "wrong" : "";
}

static void check_member(const NetNetwork *network, int dirfd, const NetMember *member,
                         GPtrArray *differences)
{
    g_autofree char *hosts = hosts_text(network->record, member);
    g_autofree char *reservation = reservation_text(member);
    g_autofree char *hosts_path = g_build_filename(HOSTS, member->owner, NULL);
    g_autofree char *path = g_build_filename(RESERVATIONS, member->owner, NULL);
    const char *names_are = judge(dirfd, hosts_path, hosts);
    const char *reservation_is = judge(dirfd, path, reservation);
    if (*names_are) {
        g_ptr_array_add(differences, g_strdup_printf("names of machine '%s' are %s",
                                                     member->machine, names_are));
    }
    if (*reservation_is) {
        g_ptr_array_add(differences, g_strdup_printf("reservation of machine '%s' is %s",
                                                     member->machine, reservation_is));
    }
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
    g_autoptr(GPtrArray) names = sweep(network, fd, HOSTS, is_fix);
    g_autoptr(GPtrArray) reservations = sweep(network, fd, RESERVATIONS, is_fix);
    if (is_fix && names->len + reservations->len > 0) {
        reload(network, fd);
    }
    g_ptr_array_extend_and_steal(differences, g_steal_pointer(&names));
    g_ptr_array_extend_and_steal(differences, g_steal_pointer(&reservations));
    if (!members) {
        return false;
    }
    for (guint i = 0; i < members->len; i++) {
        const NetMember *member = members->pdata[i];
        guint n_before = differences->len;
        check_member(network, fd, member, differences);
        if (is_fix && differences->len > n_before &&
            !net_dnsmasq_put(network, member, member, error)) {
            return false;
        }
    }
    return true;
}
