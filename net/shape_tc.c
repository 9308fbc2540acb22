#include "net/shape_tc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <string.h>
#include <sys/socket.h>
#include "base/error.h"

enum {
    /* Major number of our qdisc, and priority of our filters, + the hook: one priority on both
     * hooks would be listed on both, since u32 keeps its tables by clsact, not by hook. */
    OUR_NUMBER = 0x766d,
    BURST_MIN_BYTES = 16384,
    BURST_PER_SECOND = 100, /* at least what comes in 1/100 s */
    QUEUE_PER_SECOND = 20,  /* what waits longer than 1/20 s is dropped */
    FRAME_EXTRA_BYTES = 64, /* Ethernet header, VLAN tags */
};

static const uint32_t hook_parents[] = {
    [NET_TC_INGRESS] = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS),
    [NET_TC_EGRESS] = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS),
};
_Static_assert(G_N_ELEMENTS(hook_parents) == NET_TC_HOOK_N, "a parent for each hook");

static NetMessage *new_message(uint16_t type, int flags, const NetLink *link, uint32_t parent,
                               uint32_t handle, uint32_t info)
{
    struct tcmsg header = {.tcm_family = AF_UNSPEC,
                           .tcm_ifindex = (int)link->index,
                           .tcm_handle = handle,
                           .tcm_parent = parent,
                           .tcm_info = info};
    return net_message_new(type, flags, &header, sizeof header);
}

static bool change(NetSocket *sock, NetMessage *msg, const NetLink *link, int forgiven,
                   const char *what, GError **error)
{
    g_autofree char *object = g_strdup_printf("link '%s'", link->name);
    return net_request_change(sock, msg, forgiven, object, what, error);
}

/* --- tbf ----------------------------------------------------------------------- */

static void read_tbf(struct nlattr *options, uint64_t *out_bytes_per_s)
{
    struct nlattr *attrs[TCA_TBF_MAX + 1];
    if (!options || nla_parse_nested(attrs, TCA_TBF_MAX, options, NULL) < 0 ||
        !attrs[TCA_TBF_PARMS] || nla_len(attrs[TCA_TBF_PARMS]) < (int)sizeof(struct tc_tbf_qopt)) {
        return;
    }
    const struct tc_tbf_qopt *params = nla_data(attrs[TCA_TBF_PARMS]);
    *out_bytes_per_s =
        attrs[TCA_TBF_RATE64] ? nla_get_u64(attrs[TCA_TBF_RATE64]) : params->rate.rate;
}

/* The rate of our tbf; NULL: it is none. */
static gpointer read_rate(struct nlmsghdr *header)
{
    struct nlattr *attrs[TCA_MAX + 1];
    uint64_t rate = 0;
    if (header->nlmsg_type != RTM_NEWQDISC ||
        nlmsg_parse(header, sizeof(struct tcmsg), attrs, TCA_MAX, NULL) < 0) {
        return NULL;
    }
    const struct tcmsg *info = nlmsg_data(header);
    if (TC_H_MAJ(info->tcm_handle) == (uint32_t)OUR_NUMBER << 16 && attrs[TCA_KIND] &&
        !strcmp(nla_get_string(attrs[TCA_KIND]), "tbf")) {
        read_tbf(attrs[TCA_OPTIONS], &rate);
    }
    return rate ? g_memdup2(&rate, sizeof rate) : NULL;
}

bool net_tc_find_rate(NetSocket *sock, const NetLink *link, uint64_t *out_bytes_per_s,
                      GError **error)
{
    int errnum = 0; /* nothing there: ENOENT */
    g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(g_free);
    /* ECHO: without it the kernel tells everybody (RTNLGRP_TC) but us; a dump would be of all links
     * there are */
    g_autoptr(NetMessage) msg = new_message(RTM_GETQDISC, NLM_F_ECHO, link, TC_H_ROOT, 0, 0);
    if (!msg) {
        return net_request_fail_memory(error);
    }
    if (!net_request(sock, msg, read_rate, found, &errnum, error)) {
        return false;
    }
    *out_bytes_per_s = found->len ? *(uint64_t *)found->pdata[0] : 0;
    return true;
}

/* linklayer Ethernet: the kernel then wants no table of rates. */
static bool put_tbf(NetMessage *msg, uint64_t bytes_per_s, uint32_t mtu)
{
    uint64_t burst = MAX(bytes_per_s / BURST_PER_SECOND, BURST_MIN_BYTES);
    burst = MIN(MAX(burst, mtu + FRAME_EXTRA_BYTES), INT_MAX / 2);
    uint64_t limit = MIN(bytes_per_s / QUEUE_PER_SECOND + burst, INT_MAX);
    struct tc_tbf_qopt params = {
        .rate = {.rate = (uint32_t)MIN(bytes_per_s, UINT32_MAX),
                 .linklayer = TC_LINKLAYER_ETHERNET},
        .limit = (uint32_t)limit,
    };
    if (nla_put_string(msg, TCA_KIND, "tbf") < 0) {
        return false;
    }
    struct nlattr *options = nla_nest_start(msg, TCA_OPTIONS);
    if (!options || nla_put(msg, TCA_TBF_PARMS, sizeof params, &params) < 0 ||
        nla_put_u32(msg, TCA_TBF_BURST, (uint32_t)burst) < 0 ||
        (bytes_per_s > UINT32_MAX && nla_put_u64(msg, TCA_TBF_RATE64, bytes_per_s) < 0)) {
        return false;
    }
    nla_nest_end(msg, options);
    return true;
}

bool net_tc_set_rate(NetSocket *sock, const NetLink *link, uint64_t bytes_per_s, uint32_t mtu,
                     GError **error)
{
    g_autoptr(NetMessage) msg = new_message(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, link,
                                            TC_H_ROOT, (uint32_t)OUR_NUMBER << 16, 0);
    if (!msg || !put_tbf(msg, bytes_per_s, mtu)) {
        return net_request_fail_memory(error);
    }
    return change(sock, msg, link, 0, "limit its rate", error);
}

/* --- u32 + mirred --------------------------------------------------------------- */

/* A filter as far as it concerns us. */
typedef struct {
    bool is_ours, is_whole; /* whole: a rule, not the table it is in */
    unsigned to_index;
} Filter;

/* TCA_U32_ACT { 1 { kind "mirred", options { TCA_MIRRED_PARMS } } } */
static unsigned read_target(struct nlattr *options)
{
    struct nlattr *u32[TCA_U32_MAX + 1];
    struct nlattr *actions[2];
    struct nlattr *action[TCA_ACT_MAX + 1];
    struct nlattr *mirred[TCA_MIRRED_MAX + 1];
    if (nla_parse_nested(u32, TCA_U32_MAX, options, NULL) < 0 || !u32[TCA_U32_ACT] ||
        nla_parse_nested(actions, 1, u32[TCA_U32_ACT], NULL) < 0 || !actions[1] ||
        nla_parse_nested(action, TCA_ACT_MAX, actions[1], NULL) < 0 || !action[TCA_ACT_OPTIONS] ||
        nla_parse_nested(mirred, TCA_MIRRED_MAX, action[TCA_ACT_OPTIONS], NULL) < 0 ||
        !mirred[TCA_MIRRED_PARMS] ||
        nla_len(mirred[TCA_MIRRED_PARMS]) < (int)sizeof(struct tc_mirred)) {
        return UINT_MAX;
    }
    const struct tc_mirred *params = nla_data(mirred[TCA_MIRRED_PARMS]);
    return params->ifindex ? params->ifindex : UINT_MAX;
}

static bool has_rule(struct nlattr *options)
{
    return options && nla_find(nla_data(options), nla_len(options), TCA_U32_SEL);
}

static uint32_t priority_of(NetTcHook hook)
{
    return (uint32_t)(OUR_NUMBER + hook) << 16;
}

static bool is_priority_ours(uint32_t info, uint32_t parent)
{
    for (int hook = 0; hook < NET_TC_HOOK_N; hook++) {
        if (hook_parents[hook] == parent && priority_of((NetTcHook)hook) == TC_H_MAJ(info)) {
            return true;
        }
    }
    return false;
}

static gpointer read_filter(struct nlmsghdr *header)
{
    struct nlattr *attrs[TCA_MAX + 1];
    if (header->nlmsg_type != RTM_NEWTFILTER ||
        nlmsg_parse(header, sizeof(struct tcmsg), attrs, TCA_MAX, NULL) < 0) {
        return NULL;
    }
    const struct tcmsg *info = nlmsg_data(header);
    Filter *filter = g_new0(Filter, 1);
    bool is_u32 = attrs[TCA_KIND] && !strcmp(nla_get_string(attrs[TCA_KIND]), "u32");
    filter->is_ours = is_u32 && is_priority_ours(info->tcm_info, info->tcm_parent);
    filter->is_whole = !is_u32 || has_rule(attrs[TCA_OPTIONS]);
    if (filter->is_ours && filter->is_whole) {
        filter->to_index = read_target(attrs[TCA_OPTIONS]);
    }
    return filter;
}

bool net_tc_find_redirect(NetSocket *sock, const NetLink *link, NetTcHook hook, unsigned *out_index,
                          unsigned *out_n_foreign, GError **error)
{
    unsigned n_foreign = 0;
    g_autoptr(NetMessage) msg =
        new_message(RTM_GETTFILTER, NLM_F_DUMP, link, hook_parents[hook], 0, 0);
    if (!msg) {
        return net_request_fail_memory(error);
    }
    g_autoptr(GPtrArray) filters =
        net_request_dump(sock, msg, read_filter, g_free, "the filters of a link", error);
    if (!filters) {
        return false;
    }
    *out_index = 0;
    for (guint i = 0; i < filters->len; i++) {
        const Filter *filter = filters->pdata[i];
        n_foreign += filter->is_whole && !filter->is_ours;
        *out_index = filter->is_whole && filter->is_ours ? filter->to_index : *out_index;
    }
    if (out_n_foreign) {
        *out_n_foreign = n_foreign;
    }
    return true;
}

static bool put_mirred(NetMessage *msg, unsigned to_index)
{
    struct tc_mirred params = {
        .action = TC_ACT_STOLEN, .eaction = TCA_EGRESS_REDIR, .ifindex = to_index};
    struct nlattr *actions = nla_nest_start(msg, TCA_U32_ACT);
    struct nlattr *action = actions ? nla_nest_start(msg, 1) : NULL;
    if (!action || nla_put_string(msg, TCA_ACT_KIND, "mirred") < 0) {
        return false;
    }
    struct nlattr *options = nla_nest_start(msg, TCA_ACT_OPTIONS);
    if (!options || nla_put(msg, TCA_MIRRED_PARMS, sizeof params, &params) < 0) {
        return false;
    }
    nla_nest_end(msg, options);
    nla_nest_end(msg, action);
    nla_nest_end(msg, actions);
    return true;
}

/* One key with mask 0: every frame. The key, all zeros, stands behind the selector. */
static bool put_u32(NetMessage *msg, unsigned to_index)
{
    const struct tc_u32_sel sel = {.flags = TC_U32_TERMINAL, .nkeys = 1};
    uint8_t all[sizeof sel + sizeof(struct tc_u32_key)] = {0};
    memcpy(all, &sel, sizeof sel);
    if (nla_put_string(msg, TCA_KIND, "u32") < 0) {
        return false;
    }
    struct nlattr *options = nla_nest_start(msg, TCA_OPTIONS);
    if (!options || nla_put(msg, TCA_U32_SEL, sizeof all, all) < 0 || !put_mirred(msg, to_index)) {
        return false;
    }
    nla_nest_end(msg, options);
    return true;
}

/* There already: fine; what is on it is read elsewhere. */
static bool add_hooks(NetSocket *sock, const NetLink *link, GError **error)
{
    g_autoptr(NetMessage) msg = new_message(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, link,
                                            TC_H_CLSACT, TC_H_MAKE(TC_H_CLSACT, 0), 0);
    if (!msg || nla_put_string(msg, TCA_KIND, "clsact") < 0) {
        return net_request_fail_memory(error);
    }
    return change(sock, msg, link, EEXIST, "put a classifier on it", error);
}

static uint32_t our_filter(NetTcHook hook)
{
    return TC_H_MAKE(priority_of(hook), htons(ETH_P_ALL));
}

bool net_tc_add_redirect(NetSocket *sock, const NetLink *link, NetTcHook hook, unsigned to_index,
                         GError **error)
{
    g_autoptr(NetMessage) msg = new_message(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, link,
                                            hook_parents[hook], 0, our_filter(hook));
    if (!msg || !put_u32(msg, to_index)) {
        return net_request_fail_memory(error);
    }
    return add_hooks(sock, link, error) &&
           change(sock, msg, link, 0, "send its frames through a limit", error);
}

bool net_tc_remove_redirect(NetSocket *sock, const NetLink *link, NetTcHook hook, GError **error)
{
    g_autoptr(NetMessage) msg =
        new_message(RTM_DELTFILTER, 0, link, hook_parents[hook], 0, our_filter(hook));
    return msg ? change(sock, msg, link, ENOENT, "take its filter off", error)
               : net_request_fail_memory(error);
}

bool net_tc_remove_hooks(NetSocket *sock, const NetLink *link, GError **error)
{
    g_autoptr(NetMessage) msg =
        new_message(RTM_DELQDISC, 0, link, TC_H_CLSACT, TC_H_MAKE(TC_H_CLSACT, 0), 0);
    return msg ? change(sock, msg, link, ENOENT, "take its classifier off", error)
               : net_request_fail_memory(error);
}
