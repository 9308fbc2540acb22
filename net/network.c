#include "net/network.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/error.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/path.h"
#include "net/dnsmasq.h"
#include "net/network_internal.h"
#include "net/network_supervisor.h"

/*
 * Members of a network. Order of the writes: who has an address (taken/), the member itself, the
 * mark that it is up, what dnsmasq reads; and backwards. So an address that a member has is always
 * marked as taken, and a mark whose member is missing or has another address counts for nothing.
 */
#define MEMBER_SUFFIX ".json"

enum { MEMBER_MAX_BYTES = 16 * 1024 * 1024, OWNER_MAX_BYTES = 128 };

const NetNetworkView *net_network_view(NetNetwork *network)
{
    const NetRecord *record = network->record;
    network->view = (NetNetworkView){
        .name = record->name,
        .bridge = record->bridge,
        .domain = record->domain,
        .mode = record->mode,
        .cidr4 = record->cidr4,
        .cidr6 = record->cidr6,
        .gateway4 = record->gateway4,
        .gateway6 = record->gateway6,
        .mtu = record->mtu,
        .has_dhcp = record->has_dhcp,
        .has_dns = record->has_dns,
        .is_kept = record->is_kept,
        .is_up = net_network_is_up(network),
        .is_ours = net_record_is_ours(record),
        .port_first = record->port_first,
        .port_last = record->port_last,
        .egress = &record->egress,
        .dns_servers = record->dns_servers,
    };
    NetSupervisor state;
    net_supervisor_find(network->dirfd, &state);
    network->view.supervisor_pid = state.pid;
    network->view.dnsmasq_pid = state.dnsmasq_pid;
    return &network->view;
}

char *net_network_owner(const NetNetwork *network)
{
    return g_strdup_printf("%s:net:%s", network->store_id, network->record->name);
}

void net_network_describe_rules(const NetNetwork *network, const char *owner, NetRulesNetwork *out)
{
    const NetRecord *record = network->record;
    *out = (NetRulesNetwork){.owner = owner,
                             .bridge = record->bridge,
                             .mode = record->mode,
                             .cidr4 = record->cidr4,
                             .cidr6 = record->cidr6};
}

typedef struct {
    bool to_ip4, to_ip6;
} Ports;

/* Where the ports of all members lead to. Costs the same at any number of members with ports. */
static Ports find_ports(const NetNetwork *network)
{
    Ports ports = {0};
    autofd int fd =
        openat(network->dirfd, NET_PORTS_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    while (dir && !(ports.to_ip4 && ports.to_ip6) && (entry = readdir(dir))) {
        ports.to_ip4 |= entry->d_name[0] == '4';
        ports.to_ip6 |= entry->d_name[0] == '6';
    }
    if (dir) {
        base_fd_steal(&fd);
        closedir(dir);
    }
    return ports;
}

bool net_network_has_port(NetNetwork *network, const char *link)
{
    const GPtrArray *members = net_network_members(network, NULL);
    for (guint i = 0; members && i < members->len; i++) {
        if (g_strcmp0(((const NetMember *)members->pdata[i])->tap, link) == 0) {
            return true;
        }
    }
    return false;
}

bool net_network_settle_foreign(NetNetwork *network, GPtrArray *differences, GError **error)
{
    Ports ports = find_ports(network);
    return net_bridge_settle_foreign(network->record->bridge, ports.to_ip4, ports.to_ip6,
                                     differences, error);
}

void net_network_describe_bridge(const NetNetwork *network, const char *tag, NetBridge *out)
{
    const NetRecord *record = network->record;
    Ports ports = record->mode == SPEC_NET_MODE_ISOLATED ? find_ports(network) : (Ports){0};
    *out = (NetBridge){.name = record->bridge,
                       .owner_tag = tag,
                       .mode = record->mode,
                       .gateway4 = record->gateway4,
                       .gateway6 = record->gateway6,
                       .n_bits4 = record->cidr4.n_bits,
                       .n_bits6 = record->cidr6.n_bits,
                       .mtu = record->mtu,
                       .has_ports = ports.to_ip4 || ports.to_ip6};
    net_bridge_mac(tag, out->mac);
}

/* --- reading ---------------------------------------------------------------------------------- */

/* [a-z0-9:-], so that it is a file's name. */
static bool owner_is_valid(const char *owner)
{
    size_t n = owner ? strlen(owner) : 0;
    return n > 0 && n <= OWNER_MAX_BYTES &&
           strspn(owner, "abcdefghijklmnopqrstuvwxyz0123456789:-") == n;
}

static char *member_file(const char *owner)
{
    return g_strdup_printf(NET_MEMBERS_DIR "/%s" MEMBER_SUFFIX, owner);
}

static NetMember *load_member(NetNetwork *network, const char *owner, GError **error)
{
    g_autofree char *file = member_file(owner);
    g_autofree char *text = base_file_read(network->dirfd, file, MEMBER_MAX_BYTES, NULL, error);
    g_autoptr(NetMember) member = text ? net_member_from_json(text, error) : NULL;
    if (member && strcmp(member->owner, owner)) {
        base_fail(error, VM_ERROR_STATE, "'%s' is the record of another one", file);
        return NULL;
    }
    if (member) {
        g_autofree char *mark = g_build_filename(NET_UP_DIR, owner, NULL);
        member->is_up = net_up_is_marked(network->dirfd, mark);
    }
    return g_steal_pointer(&member);
}

const NetMember *net_network_member(NetNetwork *network, const char *owner)
{
    NetMember *member = g_hash_table_lookup(network->loaded, owner);
    if (!member && owner_is_valid(owner)) {
        member = load_member(network, owner, NULL);
        if (member) {
            g_hash_table_insert(network->loaded, g_strdup(owner), member);
        }
    }
    return member;
}

/* One damaged record must not keep the others from their network: it is only told. */
const GPtrArray *net_network_members(NetNetwork *network, GError **error)
{
    (void)error;
    if (network->members) {
        return network->members;
    }
    g_autoptr(GPtrArray) files = net_folder_list(network->dirfd, NET_MEMBERS_DIR);
    network->members = g_ptr_array_new_with_free_func((GDestroyNotify)net_member_free);
    g_ptr_array_set_size(network->damaged, 0);
    for (guint i = 0; i < files->len; i++) {
        char *file = files->pdata[i];
        g_autoptr(GError) problem = NULL;
        if (!g_str_has_suffix(file, MEMBER_SUFFIX)) {
            continue;
        }
        file[strlen(file) - strlen(MEMBER_SUFFIX)] = '\0';
        NetMember *member = load_member(network, file, &problem);
        if (member) {
            g_ptr_array_add(network->members, member);
        } else if (!g_error_matches(problem, VM_ERROR, VM_ERROR_NOT_FOUND)) { /* gone just now */
            g_ptr_array_add(network->damaged, g_strdup(file));
        }
    }
    return network->members;
}

/* Does the folder have a file that `is_it` says yes to? Stops at the first. */
static bool folder_has(int dirfd, const char *name, bool (*is_it)(int dirfd, const char *file))
{
    autofd int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    bool has = false;
    struct dirent *entry;
    while (dir && !has && (entry = readdir(dir))) {
        has = entry->d_name[0] != '.' && is_it(fd, entry->d_name);
    }
    if (dir) {
        base_fd_steal(&fd);
        closedir(dir);
    }
    return has;
}

static bool is_member_file(int dirfd, const char *file)
{
    (void)dirfd;
    return g_str_has_suffix(file, MEMBER_SUFFIX);
}

bool net_network_has_member(const NetNetwork *network)
{
    return folder_has(network->dirfd, NET_MEMBERS_DIR, is_member_file);
}

bool net_network_has_up_member(const NetNetwork *network)
{
    return folder_has(network->dirfd, NET_UP_DIR, net_up_is_marked);
}

/* --- who has an address ----------------------------------------------------------------------- */

static bool has_address(const NetMember *member, const char *address)
{
    char text[BASE_IP_TEXT_BYTES];
    return !strcmp(base_ip_format(&member->ip4, text), address) ||
           !strcmp(base_ip_format(&member->ip6, text), address) ||
           !strcmp(base_mac_format(member->mac, text), address);
}

char *net_network_holder(NetNetwork *network, const char *address)
{
    char owner[OWNER_MAX_BYTES + 1];
    g_autofree char *path = g_build_filename(NET_TAKEN_DIR, address, NULL);
    ssize_t n = readlinkat(network->dirfd, path, owner, sizeof owner - 1);
    if (n < 0) {
        return NULL;
    }
    owner[n] = '\0';
    const NetMember *member = net_network_member(network, owner);
    g_autofree char *file = member_file(owner);
    bool is_damaged = !member && owner_is_valid(owner) &&
                      faccessat(network->dirfd, file, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    return is_damaged || (member && has_address(member, address)) ? g_strdup(owner) : NULL;
}

static bool take_address(NetNetwork *network, const char *address, const char *owner,
                         GError **error)
{
    if (!*address) {
        return true;
    }
    g_autofree char *path = g_build_filename(NET_TAKEN_DIR, address, NULL);
    char found[OWNER_MAX_BYTES + 1];
    ssize_t n = readlinkat(network->dirfd, path, found, sizeof found - 1);
    if (n >= 0) {
        found[n] = '\0';
        if (!strcmp(found, owner)) {
            return true;
        }
        g_autofree char *holder = net_network_holder(network, address);
        const NetMember *member = holder ? net_network_member(network, holder) : NULL;
        if (holder) {
            return base_fail(error, VM_ERROR_EXISTS, "%s belongs to machine '%s' already", address,
                             member && member->machine ? member->machine : holder);
        }
        unlinkat(network->dirfd, path, 0); /* of one that is gone */
    }
    if (symlinkat(owner, network->dirfd, path) < 0) {
        base_error_set_errno(error, errno, "cannot write '%s'", path);
        return false;
    }
    return true;
}

static void give_address(NetNetwork *network, const char *address, const char *owner)
{
    char found[OWNER_MAX_BYTES + 1];
    g_autofree char *path = g_build_filename(NET_TAKEN_DIR, address, NULL);
    ssize_t n = *address ? readlinkat(network->dirfd, path, found, sizeof found - 1) : -1;
    if (n >= 0) {
        found[n] = '\0';
        if (!strcmp(found, owner)) {
            unlinkat(network->dirfd, path, 0);
        }
    }
}

typedef struct {
    char texts[3][BASE_IP_TEXT_BYTES];
} Addresses;

static Addresses addresses_of(const NetMember *member)
{
    static const uint8_t none[6];
    Addresses addresses = {0};
    base_ip_format(&member->ip4, addresses.texts[0]);
    base_ip_format(&member->ip6, addresses.texts[1]);
    if (memcmp(member->mac, none, sizeof none)) {
        base_mac_format(member->mac, addresses.texts[2]);
    }
    return addresses;
}

static bool take_addresses(NetNetwork *network, const NetMember *member, GError **error)
{
    Addresses addresses = addresses_of(member);
    for (size_t i = 0; i < G_N_ELEMENTS(addresses.texts); i++) {
        if (!take_address(network, addresses.texts[i], member->owner, error)) {
            return false;
        }
    }
    return true;
}

/* Those of `old` that `now` (NULL: nothing) does not have. */
static void give_addresses(NetNetwork *network, const NetMember *old, const NetMember *now)
{
    Addresses addresses = addresses_of(old);
    for (size_t i = 0; i < G_N_ELEMENTS(addresses.texts); i++) {
        if (!now || !has_address(now, addresses.texts[i])) {
            give_address(network, addresses.texts[i], old->owner);
        }
    }
}

/* --- writing ---------------------------------------------------------------------------------- */

static bool make_folders(const NetNetwork *network, GError **error)
{
    static const char *const folders[] = {NET_MEMBERS_DIR, NET_TAKEN_DIR, NET_PORTS_DIR,
                                          NET_UP_DIR};
    for (size_t i = 0; i < G_N_ELEMENTS(folders); i++) {
        if (mkdirat(network->dirfd, folders[i], 0700) < 0 && errno != EEXIST) {
            base_error_set_errno(error, errno, "network '%s': cannot make '%s'",
                                 network->record->name, folders[i]);
            return false;
        }
    }
    return true;
}

/* Is the file what we would write? is_up is told by the mark alone. */
static bool write_record(NetNetwork *network, const NetMember *member, GError **error)
{
    g_autoptr(NetMember) kept = net_member_copy(member);
    kept->is_up = false;
    g_autofree char *json = net_member_to_json(kept);
    g_autofree char *file = member_file(member->owner);
    g_autofree char *found = base_file_read(network->dirfd, file, MEMBER_MAX_BYTES, NULL, NULL);
    return (found && !strcmp(found, json)) ||
           base_file_write_atomic(network->dirfd, file, json, strlen(json), 0600, error);
}

/* Marks whether ports of `owner` lead to a family. */
static bool set_ports_mark(const NetNetwork *network, const char *owner, bool is_ip4, bool has,
                           GError **error)
{
    g_autofree char *path = g_strdup_printf(NET_PORTS_DIR "/%c.%s", is_ip4 ? '4' : '6', owner);
    int result = has ? symlinkat(owner, network->dirfd, path) : unlinkat(network->dirfd, path, 0);
    if (result < 0 && errno != EEXIST && errno != ENOENT) {
        base_error_set_errno(error, errno, "cannot write '%s'", path);
        return false;
    }
    return true;
}

static bool set_ports(const NetNetwork *network, const NetMember *member, GError **error)
{
    Ports ports = {0};
    for (guint i = 0; i < member->ports->len; i++) {
        bool is_ip6 = ((const NetPortMap *)member->ports->pdata[i])->guest.n_bytes == 16;
        ports.to_ip6 |= is_ip6;
        ports.to_ip4 |= !is_ip6;
    }
    return set_ports_mark(network, member->owner, true, ports.to_ip4, error) &&
           set_ports_mark(network, member->owner, false, ports.to_ip6, error);
}

static bool set_up(const NetNetwork *network, const NetMember *member, GError **error)
{
    g_autofree char *mark = g_build_filename(NET_UP_DIR, member->owner, NULL);
    return member->is_up ? net_up_set_mark(network->dirfd, mark, error)
                         : net_up_clear_mark(network->dirfd, mark, error);
}

/* A place where a fault test lets us fail. */
static bool passes(const char *point, GError **error)
{
    int errnum = base_failpoint(point);
    if (errnum) {
        base_error_set_errno(error, errnum, "failpoint %s", point);
    }
    return errnum == 0;
}

static bool put(NetNetwork *network, const NetMember *member, const NetMember *old, GError **error)
{
    bool is_done = make_folders(network, error) && passes("member.taken", error) &&
                   take_addresses(network, member, error) && passes("member.record", error) &&
                   write_record(network, member, error) && set_ports(network, member, error) &&
                   passes("member.up", error) && set_up(network, member, error) &&
                   passes("member.dnsmasq", error) && net_dnsmasq_put(network, member, old, error);
    if (is_done && old) {
        give_addresses(network, old, member);
    }
    return is_done;
}

bool net_network_put_member(NetNetwork *network, const NetMember *member, GError **error)
{
    g_assert(network->lock);
    if (!owner_is_valid(member->owner)) {
        return base_fail(error, VM_ERROR_INTERNAL, "a member's owner is malformed");
    }
    const NetMember *known = net_network_member(network, member->owner);
    g_autoptr(NetMember) old = known ? net_member_copy(known) : NULL;
    g_autoptr(NetMember) now = net_member_copy(member); /* may be borrowed from what is forgotten */
    net_network_forget_members(network);
    bool is_done = put(network, now, old, error);
    if (!is_done) {
        g_prefix_error(error, "network '%s': ", network->record->name);
    }
    return is_done;
}

static bool remove_files(NetNetwork *network, const char *owner, const NetMember *old,
                         GError **error)
{
    g_autofree char *mark = g_build_filename(NET_UP_DIR, owner, NULL);
    g_autofree char *file = member_file(owner);
    if (!net_dnsmasq_drop(network, owner, old, error) ||
        !set_ports_mark(network, owner, true, false, error) ||
        !set_ports_mark(network, owner, false, false, error) ||
        !net_up_clear_mark(network->dirfd, mark, error)) {
        return false;
    }
    if (!passes("member.drop", error)) {
        return false;
    }
    if (unlinkat(network->dirfd, file, 0) < 0 && errno != ENOENT) {
        base_error_set_errno(error, errno, "cannot remove '%s'", file);
        return false;
    }
    if (old) {
        give_addresses(network, old, NULL);
    }
    return true;
}

/* A network that nobody asked to keep ends with its last member. */
static bool end_if_empty(NetNetwork *network, GError **error)
{
    if (network->record->is_kept || net_network_has_member(network)) {
        return true;
    }
    g_autofree char *kept = NULL;
    if (!net_network_down_if_unused(network, &kept, error)) {
        return false;
    }
    return kept || net_network_remove_folder(network, error);
}

/* What was chosen for it on this handle is free as well. */
static void forget_chosen(const NetNetwork *network, const char *owner)
{
    for (guint i = network->chosen->len; i > 0; i--) {
        const NetMember *chosen = network->chosen->pdata[i - 1];
        if (!strcmp(chosen->owner, owner)) {
            g_ptr_array_remove_index(network->chosen, i - 1);
        }
    }
}

bool net_network_drop_member(NetNetwork *network, const char *owner, GError **error)
{
    g_assert(network->lock);
    if (network->is_gone || !owner_is_valid(owner)) {
        return true;
    }
    const NetMember *known = net_network_member(network, owner);
    g_autoptr(NetMember) old = known ? net_member_copy(known) : NULL;
    g_autofree char *copy = g_strdup(owner);
    net_network_forget_members(network);
    forget_chosen(network, copy);
    return remove_files(network, copy, old, error) && end_if_empty(network, error);
}

bool net_network_end_if_empty(NetNetwork *network, GError **error)
{
    g_assert(network->lock);
    g_ptr_array_set_size(network->chosen, 0);
    return network->is_gone || end_if_empty(network, error);
}

static char *member_names(NetNetwork *network)
{
    const GPtrArray *members = net_network_members(network, NULL);
    GString *text = g_string_new(NULL);
    for (guint i = 0; members && i < members->len && i < 5; i++) {
        const NetMember *member = members->pdata[i];
        g_string_append_printf(text, "%s'%s'", i ? ", " : "", member->machine);
    }
    if (members && members->len > 5) {
        g_string_append_printf(text, " and %u more", members->len - 5);
    }
    return g_string_free(text, FALSE);
}

bool net_network_remove(NetNetwork *network, GError **error)
{
    g_assert(network->lock);
    if (network->is_gone) {
        return true;
    }
    const char *name = network->record->name;
    if (net_network_has_member(network)) {
        g_autofree char *names = member_names(network);
        return base_fail(error, VM_ERROR_BUSY,
                         "network '%s' is used by machine %s - remove the machine first", name,
                         names);
    }
    g_autofree char *kept = NULL;
    bool was_kept = network->record->is_kept;
    network->record->is_kept = false; /* in memory: it may go down now */
    bool is_down = net_network_down_if_unused(network, &kept, error);
    network->record->is_kept = was_kept;
    if (!is_down) {
        return false;
    }
    if (kept) {
        return base_fail(error, VM_ERROR_BUSY, "network '%s': %s", name, kept);
    }
    return net_network_remove_folder(network, error);
}
