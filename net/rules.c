#include "net/rules.h"

#include <arpa/inet.h>
#include <string.h>
#include "base/error.h"
#include "net/filter.h"
#include "net/rules_internal.h"

/*
 * How it works: everything is looked at by single reads and what differs goes into one batch. The
 * lock keeps others of ours away between look and write; who does not take it is met by the kernel,
 * which refuses equal keys: then the batch changes nothing, and the look is done once more to tell
 * who was faster.
 */
typedef struct {
    NetMember *const *members; /* what should be */
    unsigned n_members;
    NetMember *const *old; /* what was */
    unsigned n_old;
    NetNftBatch *batch;
    GPtrArray *wanted, *before; /* of NetRulesElement: ports of members and old */
    GPtrArray *gone;            /* of NetRulesElement, borrowed: elements that go */
    GArray *flows;              /* of NetFlow: to be ended afterwards */
} Change;

static void change_clear(Change *change)
{
    net_nft_batch_free(change->batch);
    g_ptr_array_unref(change->wanted);
    g_ptr_array_unref(change->before);
    g_ptr_array_unref(change->gone);
    g_array_unref(change->flows);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Change, change_clear)

static Change change_begin(NetMember *const *members, unsigned n_members, NetMember *const *old,
                           unsigned n_old)
{
    Change change = {
        .members = members,
        .n_members = n_members,
        .old = old,
        .n_old = n_old,
        .batch = net_nft_batch_new(),
        .wanted = net_rules_elements_new(),
        .before = net_rules_elements_new(),
        .gone = g_ptr_array_new(),
        .flows = g_array_new(FALSE, TRUE, sizeof(NetFlow)),
    };
    for (unsigned i = 0; i < n_members; i++) {
        net_rules_port_elements(members[i], change.wanted);
    }
    for (unsigned i = 0; i < n_old; i++) {
        net_rules_port_elements(old[i], change.before);
    }
    return change;
}

static NetMember *find_owner(NetMember *const *members, unsigned n_members, const char *owner)
{
    for (unsigned i = 0; i < n_members; i++) {
        if (!strcmp(members[i]->owner, owner)) {
            return members[i];
        }
    }
    return NULL;
}

/* --- flows -------------------------------------------------------------------- */

/* Those that came by `port` to what `value` says: a guest's address and port, as the kernel has
 * them. */
static void end_mapped(Change *change, const NetPortMap *port, const NetNftBytes *value)
{
    NetFlow flow = {.kind = NET_FLOW_TO_GUEST,
                    .is_udp = port->is_udp,
                    .host = port->host,
                    .host_port = port->host_port,
                    .n_ip_bytes = port->guest.n_bytes,
                    .guest = {.n_bytes = port->guest.n_bytes}};
    uint16_t guest_port;
    memcpy(flow.guest.bytes, value->bytes, flow.guest.n_bytes);
    memcpy(&guest_port, &value->bytes[flow.guest.n_bytes], sizeof guest_port);
    flow.guest_port = ntohs(guest_port);
    g_array_append_val(change->flows, flow);
}

/* A client that asked before the map was there has an entry without it, which each further datagram
 * renews. A TCP connection has been refused long since. */
static void end_unmapped(Change *change, const NetPortMap *port)
{
    NetFlow flow = {.kind = NET_FLOW_UNMAPPED,
                    .is_udp = true,
                    .host = port->host,
                    .host_port = port->host_port,
                    .n_ip_bytes = port->guest.n_bytes};
    if (port->is_udp) {
        g_array_append_val(change->flows, flow);
    }
}

static void end_denied(Change *change, const NetMember *member)
{
    const BaseIp *const ips[] = {&member->ip4, &member->ip6};
    for (gsize i = 0; i < G_N_ELEMENTS(ips); i++) {
        NetFlow flow = {.kind = NET_FLOW_OF_GUEST,
                        .guest = *ips[i],
                        .n_ip_bytes = ips[i]->n_bytes,
                        .is_denied = net_rules_egress_denies,
                        .data = member};
        if (base_ip_is_set(ips[i])) {
            g_array_append_val(change->flows, flow);
        }
    }
}

/* The rules are in force already; what can't be ended ends by itself. */
static void end_flows(const Change *change)
{
    g_autoptr(GError) failure = NULL;
    if (!net_flows_end((const NetFlow *)(void *)change->flows->data, change->flows->len, NULL,
                       &failure)) {
        g_debug("flows of changed ports go on: %s", failure->message);
    }
}

/* --- ports -------------------------------------------------------------------- */

static bool is_own(const Change *change, const char *owner)
{
    return owner && (find_owner(change->members, change->n_members, owner) ||
                     find_owner(change->old, change->n_old, owner));
}

static bool fail_taken(const NetRulesElement *element, const char *holder, GError **error)
{
    g_autofree char *text = net_rules_port_text(element->port);
    g_autofree char *who = net_rules_owner_text(holder);
    return base_fail(error, VM_ERROR_EXISTS, "port %s is taken by %s - choose another", text, who);
}

static bool append_port(Change *change, const NetRulesElement *element, GError **error)
{
    NetRulesState state = NET_RULES_ABSENT;
    NetNftBytes value = {0};
    g_autofree char *holder = NULL;
    if (!net_rules_look(element, &state, &holder, &value, error)) {
        return false;
    }
    if (state == NET_RULES_OURS) {
        return true;
    }
    if (state == NET_RULES_TAKEN &&
        !is_own(change, holder)) { /* another NIC of it may have had it */
        return fail_taken(element, holder, error);
    }
    if (state == NET_RULES_ABSENT &&
        !net_rules_refuse_clash(element->port, element->owner, error)) {
        return false;
    }
    if (state != NET_RULES_ABSENT) {
        end_mapped(change, element->port, &value);
    }
    end_unmapped(change, element->port);
    net_rules_put(change->batch, element, state != NET_RULES_ABSENT);
    net_rules_hold_port(change->batch, element->port);
    return true;
}

static bool is_wanted(const Change *change, const NetRulesElement *element)
{
    for (unsigned i = 0; i < change->wanted->len; i++) {
        const NetRulesElement *other = change->wanted->pdata[i];
        if (!strcmp(other->set, element->set) && other->key.n_bytes == element->key.n_bytes &&
            !memcmp(other->key.bytes, element->key.bytes, element->key.n_bytes)) {
            return true;
        }
    }
    return false;
}

/* What was there and is no longer wanted, if it is still the owner's. */
static bool append_gone(Change *change, NetRulesElement *element, GError **error)
{
    NetRulesState state = NET_RULES_ABSENT;
    if (is_wanted(change, element)) {
        return true;
    }
    if (!net_rules_look(element, &state, NULL, NULL, error)) {
        return false;
    }
    if (state == NET_RULES_OURS) {
        net_rules_take(change->batch, element);
        g_ptr_array_add(change->gone, element);
        end_mapped(change, element->port, &element->value);
    }
    return true;
}

static bool append_ports(Change *change, GError **error)
{
    for (unsigned i = 0; i < change->before->len; i++) {
        if (!append_gone(change, change->before->pdata[i], error)) {
            return false;
        }
    }
    for (unsigned i = 0; i < change->wanted->len; i++) {
        if (!append_port(change, change->wanted->pdata[i], error)) {
            return false;
        }
    }
    return net_rules_release_ports(change->batch, change->gone, error);
}

/* --- filter and egress -------------------------------------------------------- */

/* Is its filter there? All of it came and goes in one transaction, so its MAC stands for it. */
static bool is_filtered(const NetMember *member, bool *out_is_filtered, GError **error)
{
    NetNftFound found = NET_NFT_ABSENT;
    NetNftBytes key = {0};
    net_nft_bytes_add_ifname(&key, member->tap ? member->tap : "");
    net_nft_bytes_add(&key, member->mac, sizeof member->mac);
    bool is_read = net_nft_get(NET_NFT_BRIDGE, "macs", &key, &found, NULL, NULL, error);
    *out_is_filtered = found == NET_NFT_PRESENT;
    return is_read;
}

/* Without an older state to compare with, the kernel is asked whether anything is to be written. */
static bool append_filter(Change *change, const NetMember *member, const NetMember *old,
                          GError **error)
{
    g_autoptr(GPtrArray) differences = g_ptr_array_new_with_free_func(g_free);
    bool has_filter = false;
    if (!old && !is_filtered(member, &has_filter, error)) {
        return false;
    }
    if (has_filter) {
        if (!net_filter_check(member, differences, error)) {
            return false;
        }
        if (differences->len == 0) {
            return true;
        }
    }
    net_filter_append(change->batch, member, old);
    return true;
}

static bool is_moved(const NetMember *member, const NetMember *old)
{
    return g_strcmp0(member->bridge, old->bridge) != 0 ||
           memcmp(member->mac, old->mac, sizeof old->mac) != 0;
}

static bool append_members(Change *change, GError **error)
{
    for (unsigned i = 0; i < change->n_members; i++) {
        const NetMember *member = change->members[i];
        const NetMember *old = find_owner(change->old, change->n_old, member->owner);
        bool is_changed = false;
        if (old && is_moved(member, old) &&
            !net_rules_append_egress(change->batch, old, false, &is_changed, error)) {
            return false;
        }
        if (!append_filter(change, member, old, error) ||
            !net_rules_append_egress(change->batch, member, true, &is_changed, error)) {
            return false;
        }
        if (is_changed) {
            end_denied(change, member);
        }
    }
    return true;
}

/* Members that were there and are no more. */
static bool append_leavers(Change *change, GError **error)
{
    for (unsigned i = 0; i < change->n_old; i++) {
        const NetMember *old = change->old[i];
        bool is_changed = false, has_filter = false;
        if (find_owner(change->members, change->n_members, old->owner)) {
            continue;
        }
        if (!is_filtered(old, &has_filter, error)) {
            return false;
        }
        if (has_filter) { /* else a table may be missing to remove it from */
            net_filter_append(change->batch, NULL, old);
        }
        if (!net_rules_append_egress(change->batch, old, false, &is_changed, error)) {
            return false;
        }
    }
    return true;
}

/* --- the whole ---------------------------------------------------------------- */

/* Looks and writes. EXISTS of the kernel: somebody wrote in between. */
static bool change_once(NetMember *const *members, unsigned n_members, NetMember *const *old,
                        unsigned n_old, bool *out_is_outrun, GError **error)
{
    g_auto(Change) change = change_begin(members, n_members, old, n_old);
    GError *failure = NULL;
    *out_is_outrun = false;
    if (!append_leavers(&change, error) || !append_members(&change, error) ||
        !append_ports(&change, error)) {
        return false;
    }
    if (!net_nft_commit(change.batch, &failure)) {
        *out_is_outrun = g_error_matches(failure, VM_ERROR, VM_ERROR_EXISTS) ||
                         g_error_matches(failure, VM_ERROR, VM_ERROR_NOT_FOUND);
        g_propagate_error(error, failure);
        return false;
    }
    end_flows(&change);
    return true;
}

static bool change_all(NetMember *const *members, unsigned n_members, NetMember *const *old,
                       unsigned n_old, GError **error)
{
    bool is_outrun = false;
    GError *failure = NULL;
    if (change_once(members, n_members, old, n_old, &is_outrun, &failure)) {
        return true;
    }
    if (!is_outrun) {
        g_propagate_error(error, failure);
        return false;
    }
    g_error_free(failure);
    return change_once(members, n_members, old, n_old, &is_outrun, error);
}

static bool has_numbers(NetMember *const *members, unsigned n_members)
{
    for (unsigned i = 0; i < n_members; i++) {
        for (unsigned j = 0; j < members[i]->ports->len; j++) {
            if (((NetPortMap *)members[i]->ports->pdata[j])->host_port == 0) {
                return false;
            }
        }
    }
    return true;
}

bool net_rules_apply(NetMember *const *members, unsigned n_members, NetMember *const *old,
                     unsigned n_old, GError **error)
{
    if (!has_numbers(members, n_members)) {
        return base_fail(error, VM_ERROR_INTERNAL, "a host port was not chosen");
    }
    g_autoptr(NetRulesLock) lock = net_rules_lock(NET_RULES_LOCK_MS, error);
    return lock && net_rules_check_ports(members, n_members, error) &&
           net_rules_ensure_base(error) && change_all(members, n_members, old, n_old, error);
}

bool net_rules_remove(NetMember *const *members, unsigned n_members, GError **error)
{
    g_autoptr(NetRulesLock) lock = net_rules_lock(NET_RULES_LOCK_MS, error);
    return lock && change_all(NULL, 0, members, n_members, error) &&
           net_rules_drop_unused_base(error);
}
