#include "net/network.h"

#include <string.h>
#include "base/error.h"
#include "net/network_internal.h"
#include "net/port.h"

/*
 * How addresses follow from an owner: SHA-256 of "<what>:<owner>" gives a place in the range, then
 * the next free one is taken. So a machine that is made again gets the same address, unless
 * somebody else has it by then.
 */
enum { MAC_TRIES = 65536, IP6_HASH_BITS = 32 };

static uint64_t hash_of(const char *what, const char *owner, unsigned salt)
{
    g_autofree char *text = g_strdup_printf("%s:%s:%u", what, owner, salt);
    g_autoptr(GChecksum) sha256 = g_checksum_new(G_CHECKSUM_SHA256);
    g_checksum_update(sha256, (const guchar *)text, (gssize)strlen(text));
    guint8 digest[32];
    gsize n = sizeof digest;
    g_checksum_get_digest(sha256, digest, &n);
    uint64_t hash = 0;
    for (int i = 0; i < 8; i++) {
        hash = hash << 8 | digest[i];
    }
    return hash;
}

/* --- who has it ------------------------------------------------------------------------------- */

static bool was_chosen(const NetNetwork *network, const char *owner, const char *address,
                       const char **out_machine)
{
    for (guint i = 0; i < network->chosen->len; i++) {
        const NetMember *other = network->chosen->pdata[i];
        char ip4[BASE_IP_TEXT_BYTES], ip6[BASE_IP_TEXT_BYTES], mac[18];
        if (strcmp(other->owner, owner) && (!strcmp(base_ip_format(&other->ip4, ip4), address) ||
                                            !strcmp(base_ip_format(&other->ip6, ip6), address) ||
                                            !strcmp(base_mac_format(other->mac, mac), address))) {
            *out_machine = other->machine;
            return true;
        }
    }
    return false;
}

/* The machine that has the address, transfer full; NULL: nobody else than `owner`. */
static char *taken_by(NetNetwork *network, const char *owner, const char *address)
{
    const char *machine = NULL;
    if (was_chosen(network, owner, address, &machine)) {
        return g_strdup(machine ? machine : "?");
    }
    g_autofree char *holder = net_network_holder(network, address);
    if (!holder || !strcmp(holder, owner)) {
        return NULL;
    }
    const NetMember *member = net_network_member(network, holder);
    return g_strdup(member && member->machine ? member->machine : holder);
}

static bool is_free(NetNetwork *network, const char *owner, const BaseIp *ip)
{
    char text[BASE_IP_TEXT_BYTES];
    g_autofree char *machine = taken_by(network, owner, base_ip_format(ip, text));
    return !machine;
}

/* --- addresses -------------------------------------------------------------------------------- */

/* Why no machine may have this address of the network, NULL: it may. */
static const char *reserved_as(const NetNetwork *network, const BaseIp *ip)
{
    const NetRecord *record = network->record;
    bool is_4 = ip->n_bytes == 4;
    const BaseCidr *cidr = is_4 ? &record->cidr4 : &record->cidr6;
    const BaseIp *gateway = is_4 ? &record->gateway4 : &record->gateway6;
    BaseIp broadcast;
    if (base_ip_is_set(gateway) && base_ip_equal(ip, gateway)) {
        return "the gateway's address";
    }
    if (cidr->n_bits < cidr->ip.n_bytes * 8 - 1 && base_cidr_index(cidr, ip) == 0) {
        return is_4 ? "the network's own address" : "the routers' anycast address";
    }
    if (base_cidr_broadcast(cidr, &broadcast) && base_ip_equal(ip, &broadcast)) {
        return "the broadcast address";
    }
    return NULL;
}

static bool check_fixed(NetNetwork *network, const NetMember *member, const BaseIp *ip,
                        GError **error)
{
    const char *name = network->record->name;
    const BaseCidr *cidr = ip->n_bytes == 4 ? &network->record->cidr4 : &network->record->cidr6;
    char text[BASE_IP_TEXT_BYTES], range[BASE_CIDR_TEXT_BYTES];
    base_ip_format(ip, text);
    if (!base_ip_is_set(&cidr->ip) && net_record_is_ours(network->record)) {
        return base_fail(error, VM_ERROR_NET, "network '%s' has no %s, so %s can't be used", name,
                         ip->n_bytes == 4 ? "IPv4" : "IPv6", text);
    }
    if (base_ip_is_set(&cidr->ip) && !base_cidr_contains(cidr, ip)) {
        return base_fail(error, VM_ERROR_NET, "%s is outside of network '%s' (%s)", text, name,
                         base_cidr_format(cidr, range));
    }
    const char *reserved = base_ip_is_set(&cidr->ip) ? reserved_as(network, ip) : NULL;
    if (reserved) {
        return base_fail(error, VM_ERROR_NET, "%s is %s of network '%s' (%s)", text, reserved, name,
                         base_cidr_format(cidr, range));
    }
    g_autofree char *machine = taken_by(network, member->owner, text);
    if (machine) {
        return base_fail(error, VM_ERROR_EXISTS,
                         "%s on network '%s' belongs to machine '%s' already", text, name, machine);
    }
    return true;
}

/* First and number of what IPv4 addresses are chosen from. */
static void range_of(const NetRecord *record, uint64_t *out_first, uint64_t *out_n)
{
    *out_first = 0;
    *out_n = base_cidr_size(&record->cidr4);
    if (base_ip_is_set(&record->range_first)) {
        *out_first = base_cidr_index(&record->cidr4, &record->range_first);
        *out_n = base_cidr_index(&record->cidr4, &record->range_last) - *out_first + 1;
    }
}

static bool choose_from(NetNetwork *network, const char *owner, const BaseCidr *cidr,
                        uint64_t first, uint64_t n, BaseIp *out, GError **error)
{
    uint64_t begin = hash_of(cidr->ip.n_bytes == 4 ? "ip4" : "ip6", owner, 0) % n;
    uint64_t n_tries = MIN(n, (uint64_t)1 << 20);
    for (uint64_t i = 0; i < n_tries; i++) {
        BaseIp ip = base_cidr_nth(cidr, first + (begin + i) % n);
        if (!reserved_as(network, &ip) && is_free(network, owner, &ip)) {
            *out = ip;
            return true;
        }
    }
    char range[BASE_CIDR_TEXT_BYTES];
    return base_fail(error, VM_ERROR_NO_SPACE,
                     "network '%s' has no free address left in %s - remove machines or use a "
                     "network with a larger one",
                     network->record->name, base_cidr_format(cidr, range));
}

static bool choose_ip4(NetNetwork *network, NetMember *member, const NetMember *old, GError **error)
{
    const BaseCidr *cidr = &network->record->cidr4;
    if (base_ip_is_set(&member->ip4)) {
        return check_fixed(network, member, &member->ip4, error);
    }
    if (!base_ip_is_set(&cidr->ip) || !net_record_is_ours(network->record)) {
        return true;
    }
    if (old && base_ip_is_set(&old->ip4) && base_cidr_contains(cidr, &old->ip4) &&
        !reserved_as(network, &old->ip4)) {
        member->ip4 = old->ip4;
        return true;
    }
    uint64_t first, n;
    range_of(network->record, &first, &n);
    return choose_from(network, member->owner, cidr, first, n, &member->ip4, error);
}

static bool choose_ip6(NetNetwork *network, NetMember *member, const NetMember *old, GError **error)
{
    const BaseCidr *cidr = &network->record->cidr6;
    if (base_ip_is_set(&member->ip6)) {
        return check_fixed(network, member, &member->ip6, error);
    }
    if (!base_ip_is_set(&cidr->ip) || !net_record_is_ours(network->record)) {
        return true;
    }
    if (old && base_ip_is_set(&old->ip6) && base_cidr_contains(cidr, &old->ip6) &&
        !reserved_as(network, &old->ip6)) {
        member->ip6 = old->ip6;
        return true;
    }
    /* 32 bits of a /64: short enough to be read aloud */
    uint64_t n = MIN(base_cidr_size(cidr), (uint64_t)1 << IP6_HASH_BITS);
    return choose_from(network, member->owner, cidr, 0, n, &member->ip6, error);
}

/* --- MACs ------------------------------------------------------------------------------------- */

/* As net_mac_for() where the owner names a machine and its NIC, so that a machine has the same MAC
 * on whatever it is; salted: 24 bits of the hash. */
static void mac_of(const char *owner, unsigned salt, uint8_t out[6])
{
    g_auto(GStrv) parts = g_strsplit(owner, ":", 3);
    if (salt == 0 && g_strv_length(parts) == 3) {
        g_autofree char *text =
            net_mac_for(parts[1], (unsigned)g_ascii_strtoull(parts[2], NULL, 10));
        if (base_mac_parse(text, out)) {
            return;
        }
    }
    uint64_t hash = hash_of("mac", owner, salt);
    const uint8_t mac[6] = {0x52,         0x54, 0x00, (uint8_t)(hash >> 16), (uint8_t)(hash >> 8),
                            (uint8_t)hash};
    memcpy(out, mac, sizeof mac);
}

static bool choose_mac(NetNetwork *network, NetMember *member, const NetMember *old, GError **error)
{
    static const uint8_t none[6];
    char text[18];
    if (memcmp(member->mac, none, sizeof none)) {
        g_autofree char *machine =
            taken_by(network, member->owner, base_mac_format(member->mac, text));
        return !machine || base_fail(error, VM_ERROR_EXISTS,
                                     "MAC %s on network '%s' belongs to machine '%s' already", text,
                                     network->record->name, machine);
    }
    if (old) {
        memcpy(member->mac, old->mac, sizeof member->mac);
        return true;
    }
    for (unsigned salt = 0; salt < MAC_TRIES; salt++) {
        mac_of(member->owner, salt, member->mac);
        g_autofree char *machine =
            taken_by(network, member->owner, base_mac_format(member->mac, text));
        if (!machine) {
            return true;
        }
    }
    return base_fail(error, VM_ERROR_NO_SPACE, "network '%s' has no free MAC left",
                     network->record->name);
}

bool net_network_choose(NetNetwork *network, NetMember *member, GError **error)
{
    g_assert(member->owner);
    const NetMember *known = net_network_member(network, member->owner);
    g_autoptr(NetMember) old = known ? net_member_copy(known) : NULL;
    g_autoptr(NetMember) chosen = net_member_copy(member);
    if (!choose_mac(network, chosen, old, error) || !choose_ip4(network, chosen, old, error) ||
        !choose_ip6(network, chosen, old, error)) {
        return false;
    }
    memcpy(member->mac, chosen->mac, sizeof member->mac);
    member->ip4 = chosen->ip4;
    member->ip6 = chosen->ip6;
    member->cidr4 = network->record->cidr4;
    member->cidr6 = network->record->cidr6;
    g_ptr_array_add(network->chosen, g_steal_pointer(&chosen));
    return true;
}
