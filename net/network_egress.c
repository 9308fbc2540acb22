#include "net/network.h"

#include <string.h>
#include "base/error.h"
#include "base/failpoint.h"
#include "net/network_internal.h"
#include "net/rules.h"

/*
 * How it works: the network's record says what is wanted, each member's record what its rules in
 * the kernel are made of. A change writes the first, then those of the members that are up, then
 * all their rules in one transaction; a check finds what was cut off and goes on from there. A
 * member that is down gets the policy when it starts.
 */
typedef struct {
    GPtrArray *old, *now; /* of NetMember, in the same order */
} Pairs;

static void free_member(void *member)
{
    net_member_free(member);
}

static void pairs_clear(Pairs *pairs)
{
    g_ptr_array_unref(pairs->old);
    g_ptr_array_unref(pairs->now);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Pairs, pairs_clear)

/* Members that are up and have another policy than the network. */
static bool find_others(NetNetwork *network, Pairs *pairs, GError **error)
{
    const GPtrArray *members = net_network_members(network, error);
    g_autofree char *wanted = spec_egress_to_json(&network->record->egress);
    for (guint i = 0; members && i < members->len; i++) {
        const NetMember *member = members->pdata[i];
        g_autofree char *found = member->is_up ? spec_egress_to_json(&member->net_egress) : NULL;
        if (!found || !strcmp(found, wanted)) {
            continue;
        }
        NetMember *now = net_member_copy(member);
        spec_egress_clear(&now->net_egress);
        spec_egress_copy(&network->record->egress, &now->net_egress);
        g_ptr_array_add(pairs->old, net_member_copy(member));
        g_ptr_array_add(pairs->now, now);
    }
    return members != NULL;
}

static bool write_members(NetNetwork *network, const GPtrArray *members, GError **error)
{
    for (guint i = 0; i < members->len; i++) {
        (void)base_failpoint("network-egress.member");
        if (!net_network_put_member(network, members->pdata[i], error)) {
            return false;
        }
    }
    return true;
}

static bool apply_rules(const Pairs *pairs, GError **error)
{
    int errnum = base_failpoint("network-egress.rules");
    if (errnum) {
        base_error_set_errno(error, errnum, "failpoint network-egress.rules");
        return false;
    }
    return net_rules_apply((NetMember *const *)pairs->now->pdata, pairs->now->len,
                           (NetMember *const *)pairs->old->pdata, pairs->old->len, error);
}

/* The rules say what happened; where they were refused the members' records follow them back. */
static bool change(NetNetwork *network, const Pairs *pairs, GError **error)
{
    if (pairs->now->len == 0) {
        return true;
    }
    if (write_members(network, pairs->now, error) && apply_rules(pairs, error)) {
        return true;
    }
    write_members(network, pairs->old, NULL);
    return false;
}

bool net_network_settle_egress(NetNetwork *network, bool is_fix, GPtrArray *lines, GError **error)
{
    g_auto(Pairs) pairs = {g_ptr_array_new_with_free_func(free_member),
                           g_ptr_array_new_with_free_func(free_member)};
    if (!find_others(network, &pairs, error)) {
        return false;
    }
    for (guint i = 0; lines && i < pairs.now->len; i++) {
        const NetMember *member = pairs.now->pdata[i];
        g_ptr_array_add(lines,
                        g_strdup_printf("machine '%s' has another egress policy than its network",
                                        member->machine));
    }
    return !is_fix || change(network, &pairs, error);
}

static bool save(NetNetwork *network, GError **error)
{
    if (!net_record_save(network->record, network->dirfd, error)) {
        return false;
    }
    (void)base_failpoint("network-egress.record");
    return true;
}

bool net_network_set_egress(NetNetwork *network, const SpecEgress *egress, GError **error)
{
    g_assert(network->lock);
    NetRecord *record = network->record;
    g_autofree char *found = spec_egress_to_json(&record->egress);
    g_autofree char *wanted = spec_egress_to_json(egress);
    if (!strcmp(found, wanted)) {
        return net_network_settle_egress(network, true, NULL, error);
    }
    SpecEgress old = record->egress;
    spec_egress_copy(egress, &record->egress);
    if (save(network, error) && net_network_settle_egress(network, true, NULL, error)) {
        spec_egress_clear(&old);
        return true;
    }
    g_prefix_error(error, "network '%s': ", record->name);
    spec_egress_clear(&record->egress);
    record->egress = old;
    net_record_save(record, network->dirfd, NULL);
    return false;
}
