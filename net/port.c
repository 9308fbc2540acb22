#include "net/port.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/error.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/report.h"

enum { TABLE_MAX_BYTES = 64 * 1024 * 1024, MAC_HASH_BYTES = 3 };

/* One address family and transport, as the kernel lists it. */
typedef struct {
    const char *path;
    int family;
    SpecProto proto;
    unsigned listening; /* the state that a waiting socket is in */
} TableRow;

static const TableRow tables[] = {
    {"/proc/net/tcp", AF_INET, SPEC_PROTO_TCP, TCP_LISTEN},
    {"/proc/net/tcp6", AF_INET6, SPEC_PROTO_TCP, TCP_LISTEN},
    {"/proc/net/udp", AF_INET, SPEC_PROTO_UDP, TCP_CLOSE},
    {"/proc/net/udp6", AF_INET6, SPEC_PROTO_UDP, TCP_CLOSE},
};

char *net_mac_for(const char *machine_uuid, unsigned nic_index)
{
    g_autofree char *text = g_strdup_printf("mac:%s:%u", machine_uuid, nic_index);
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    guint8 hash[32];
    gsize n_hash = sizeof hash;
    g_checksum_update(sum, (const guchar *)text, -1);
    g_checksum_get_digest(sum, hash, &n_hash);
    G_STATIC_ASSERT(MAC_HASH_BYTES <= sizeof hash);
    return g_strdup_printf("52:54:00:%02x:%02x:%02x", hash[0], hash[1], hash[2]);
}

/* --- addresses ----------------------------------------------------------------- */

/* Every address as IPv6, IPv4 ones mapped, so that they compare. */
typedef struct {
    int family; /* as it was written */
    struct in6_addr bytes;
    bool is_any;
} Address;

static Address from_ipv4(struct in_addr ipv4)
{
    Address address = {.family = AF_INET, .is_any = ipv4.s_addr == htonl(INADDR_ANY)};
    address.bytes.s6_addr[10] = address.bytes.s6_addr[11] = 0xff;
    memcpy(&address.bytes.s6_addr[12], &ipv4, sizeof ipv4);
    return address;
}

static bool parse_address(const char *text, Address *out, GError **error)
{
    struct in_addr ipv4;
    struct in6_addr ipv6;
    if (inet_pton(AF_INET, text, &ipv4) == 1) {
        *out = from_ipv4(ipv4);
        return true;
    }
    if (inet_pton(AF_INET6, text, &ipv6) == 1) {
        *out = (Address){AF_INET6, ipv6, IN6_IS_ADDR_UNSPECIFIED(&ipv6)};
        return true;
    }
    g_autofree char *shown = base_report_escape(text, 60);
    return base_fail(error, VM_ERROR_NET, "'%s' is no IPv4 or IPv6 address", shown);
}

/* Does a listener at `bound` get what is sent to `wanted`, or may `wanted` not be bound beside it?
 * :: takes IPv4 too, unless IPV6_V6ONLY, which /proc does not tell. */
static bool covers(const Address *bound, const Address *wanted)
{
    if (bound->is_any && (bound->family == AF_INET6 || wanted->family == AF_INET)) {
        return true;
    }
    if (wanted->is_any && (wanted->family == AF_INET6 || bound->family == AF_INET)) {
        return true;
    }
    return !memcmp(&bound->bytes, &wanted->bytes, sizeof bound->bytes);
}

/* "0100007F:1F90": groups of 4 bytes as numbers of this host, then the port. */
static bool parse_bound(const char *text, int family, Address *out, unsigned *out_port)
{
    uint32_t words[4] = {0};
    int n_words = family == AF_INET ? 1 : 4;
    for (int i = 0; i < n_words; i++, text += 8) {
        if (sscanf(text, "%8x", &words[i]) != 1) {
            return false;
        }
    }
    if (family == AF_INET) {
        *out = from_ipv4((struct in_addr){words[0]});
    } else {
        *out = (Address){.family = AF_INET6};
        memcpy(&out->bytes, words, sizeof words);
        out->is_any = IN6_IS_ADDR_UNSPECIFIED(&out->bytes);
    }
    return sscanf(text, ":%4x", out_port) == 1;
}

/* --- the kernel's tables ------------------------------------------------------- */

/* The socket's inode number in this line when it is a listener there, else 0. 1: in no process. */
static uint64_t match_line(const char *line, const TableRow *table, const Address *wanted,
                           unsigned port)
{
    char local[64];
    unsigned state = 0;
    uint64_t inode = 0;
    Address bound;
    unsigned bound_port = 0;
    /* sl local remote st tx:rx tr:when retransmits uid timeout inode */
    if (sscanf(line, " %*d: %63s %*s %x %*s %*s %*s %*u %*d %" G_GINT64_MODIFIER "u", local, &state,
               &inode) != 3 ||
        state != table->listening || !parse_bound(local, table->family, &bound, &bound_port) ||
        bound_port != port || !covers(&bound, wanted)) {
        return 0;
    }
    return MAX(inode, 1);
}

/* A family that the kernel lacks has no table: nobody listens there. */
static uint64_t match_table(const TableRow *table, const Address *wanted, unsigned port)
{
    g_autofree char *text = base_file_read(AT_FDCWD, table->path, TABLE_MAX_BYTES, NULL, NULL);
    uint64_t inode = 0;
    for (char *line = text, *end = NULL; line && !inode; line = end ? end + 1 : NULL) {
        end = strchr(line, '\n');
        if (end) {
            *end = '\0'; /* sscanf(3) walks to the end of its text each time */
        }
        inode = match_line(line, table, wanted, port);
    }
    return inode;
}

/* --- whose socket -------------------------------------------------------------- */

static bool holds_socket(int proc_fd, const char *pid, const char *socket_link)
{
    g_autofree char *path = g_strdup_printf("%s/fd", pid);
    int fd = openat(proc_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    bool is_found = false;
    if (!stream) {
        base_fd_close(&fd); /* gone, or another user's */
        return false;
    }
    for (struct dirent *entry = readdir(stream); entry && !is_found; entry = readdir(stream)) {
        char target[64] = "";
        ssize_t n = readlinkat(dirfd(stream), entry->d_name, target, sizeof target - 1);
        target[MAX(n, 0)] = '\0';
        is_found = !strcmp(target, socket_link);
    }
    closedir(stream);
    return is_found;
}

static void tell_holder(uint64_t inode, NetListener *listener)
{
    g_autofree char *socket_link = g_strdup_printf("socket:[%" G_GINT64_MODIFIER "u]", inode);
    DIR *proc = opendir("/proc");
    for (struct dirent *entry = proc ? readdir(proc) : NULL; entry; entry = readdir(proc)) {
        if (!g_ascii_isdigit(*entry->d_name) ||
            !holds_socket(dirfd(proc), entry->d_name, socket_link)) {
            continue;
        }
        g_autofree char *path = g_strdup_printf("%s/comm", entry->d_name);
        g_autofree char *comm = base_file_read(dirfd(proc), path, 256, NULL, NULL);
        g_autofree char *shown =
            base_report_escape(comm ? g_strchomp(comm) : "", sizeof listener->comm - 1);
        listener->pid = (pid_t)strtol(entry->d_name, NULL, 10);
        g_strlcpy(listener->comm, shown, sizeof listener->comm);
        break;
    }
    if (proc) {
        closedir(proc);
    }
}

bool net_listener_find(const char *addr, uint16_t port, SpecProto proto, NetListener *out,
                       GError **error)
{
    Address wanted;
    if (!parse_address(addr, &wanted, error)) {
        return false;
    }
    *out = (NetListener){0};
    for (gsize i = 0; i < G_N_ELEMENTS(tables) && !out->is_taken; i++) {
        if (proto != SPEC_PROTO_BOTH && proto != tables[i].proto) {
            continue;
        }
        uint64_t inode = match_table(&tables[i], &wanted, port);
        if (inode) {
            out->is_taken = true;
            tell_holder(inode, out);
        }
    }
    return true;
}

/* --- trying -------------------------------------------------------------------- */

/* 0 or an errno. */
static int try_bind(const Address *address, uint16_t port, int type)
{
    const int on = 1;
    struct sockaddr_in ipv4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    memcpy(&ipv4.sin_addr, &address->bytes.s6_addr[12], sizeof ipv4.sin_addr);
    ipv6.sin6_addr = address->bytes;
    bool is_ipv4 = address->family == AF_INET;
    autofd int fd = socket(address->family, type | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return errno;
    }
    /* as QEMU does: a connection that is closing is no holder. For UDP it would hide a real one. */
    if (type == SOCK_STREAM && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on)) {
        return errno;
    }
    int result = bind(fd, is_ipv4 ? (struct sockaddr *)&ipv4 : (struct sockaddr *)&ipv6,
                      is_ipv4 ? sizeof ipv4 : sizeof ipv6);
    if (!result && type == SOCK_STREAM) {
        result =
            listen(fd, 1); /* two sockets with SO_REUSEADDR may both be bound, not both listen */
    }
    return result ? errno : 0;
}

static bool fail_bind(const char *addr, uint16_t port, SpecProto proto, int errnum, GError **error)
{
    const char *name = proto == SPEC_PROTO_TCP ? "tcp" : "udp";
    NetListener holder = {0};
    switch (errnum) {
    case EADDRINUSE:
        if (net_listener_find(addr, port, proto, &holder, NULL) && holder.pid) {
            return base_fail(error, VM_ERROR_EXISTS,
                             "port %s:%u/%s is taken by pid %d (%s) - choose another", addr, port,
                             name, (int)holder.pid, holder.comm);
        }
        return base_fail(error, VM_ERROR_EXISTS, "port %s:%u/%s is taken - choose another", addr,
                         port, name);
    case EACCES:
        return base_fail(error, VM_ERROR_DENIED,
                         "port %s:%u/%s: only root may use it - choose one from 1024 on", addr,
                         port, name);
    case EADDRNOTAVAIL:
        return base_fail(error, VM_ERROR_NET,
                         "port %s:%u/%s: this host has no such address - see: ip address", addr,
                         port, name);
    default:
        base_error_set_errno(error, errnum, "port %s:%u/%s", addr, port, name);
        return false;
    }
}

bool net_port_probe(const char *addr, uint16_t port, SpecProto proto, GError **error)
{
    static const struct {
        SpecProto proto;
        int type;
    } kinds[] = {{SPEC_PROTO_TCP, SOCK_STREAM}, {SPEC_PROTO_UDP, SOCK_DGRAM}};
    Address address;
    if (!parse_address(addr, &address, error)) {
        return false;
    }
    if (port == 0) {
        return base_fail(error, VM_ERROR_PORT, "port 0 can't be probed: the kernel chooses one");
    }
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (proto != SPEC_PROTO_BOTH && proto != kinds[i].proto) {
            continue;
        }
        int errnum = try_bind(&address, port, kinds[i].type);
        if (errnum) {
            return fail_bind(addr, port, kinds[i].proto, errnum, error);
        }
    }
    return true;
}
