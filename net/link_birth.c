#include "net/link_birth.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include "base/error.h"

enum {
    CREATE_TRIES = 16,    /* each lost race with another creator or a sweep costs one */
    GROUP_BIT = 1U << 30, /* so that no group a person would choose is meant */
};

uint32_t net_link_birth_group(const char *name)
{
    g_autofree char *text = g_strconcat("birth:", name, NULL);
    g_autofree char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, text, -1);
    hash[7] = '\0'; /* 28 bits */
    return GROUP_BIT | (uint32_t)g_ascii_strtoull(hash, NULL, 16);
}

static bool is_half_made(const NetLink *link, const char *kind)
{
    return !strcmp(link->kind, kind) && !net_link_tag(link) &&
           link->group == net_link_birth_group(link->name);
}

bool net_link_find_ours(NetSocket *sock, const char *name, const char *kind, const char *tag,
                        NetLink **out_link, GError **error)
{
    g_autoptr(NetLink) link = NULL;
    if (!net_link_find(sock, name, &link, error)) {
        return false;
    }
    bool is_ours = link && !strcmp(link->name, name) && !strcmp(link->kind, kind) &&
                   (net_link_has_altname(link, tag) || is_half_made(link, kind));
    if (link && !is_ours) {
        return base_fail(error, VM_ERROR_EXISTS,
                         "%s '%s': a link of that name is there that is not ours - left as it is",
                         kind, name);
    }
    *out_link = g_steal_pointer(&link);
    return true;
}

/* Nobody else may have our tag: it would be ours, renamed. */
static bool check_tag_is_free(NetSocket *sock, const NetLinkBirth *birth, GError **error)
{
    g_autoptr(NetLink) link = NULL;
    if (!net_link_find(sock, birth->tag, &link, error)) {
        return false;
    }
    if (link && strcmp(link->name, birth->name) != 0) {
        return base_fail(error, VM_ERROR_EXISTS,
                         "%s '%s': link '%s' has its tag '%s' - rename or remove that one",
                         birth->kind, birth->name, link->name, birth->tag);
    }
    return true;
}

static bool put_birth(NetMessage *msg, const NetLinkBirth *birth)
{
    if (nla_put_string(msg, IFLA_IFNAME, birth->name) < 0 ||
        nla_put_u32(msg, IFLA_GROUP, net_link_birth_group(birth->name)) < 0 ||
        (birth->mac && nla_put(msg, IFLA_ADDRESS, NET_MAC_BYTES, birth->mac) < 0) ||
        (birth->lower_index && nla_put_u32(msg, IFLA_LINK, birth->lower_index) < 0)) {
        return false;
    }
    struct nlattr *info = nla_nest_start(msg, IFLA_LINKINFO);
    if (!info || nla_put_string(msg, IFLA_INFO_KIND, birth->kind) < 0) {
        return false;
    }
    if (birth->macvtap_mode) {
        struct nlattr *data = nla_nest_start(msg, IFLA_INFO_DATA);
        if (!data || nla_put_u32(msg, IFLA_MACVLAN_MODE, birth->macvtap_mode) < 0) {
            return false;
        }
        nla_nest_end(msg, data);
    }
    nla_nest_end(msg, info);
    return true;
}

static bool make(NetSocket *sock, const NetLinkBirth *birth, GError **error)
{
    struct ifinfomsg info = {.ifi_family = AF_UNSPEC, .ifi_index = (int)birth->index};
    g_autofree char *object = g_strdup_printf("%s '%s'", birth->kind, birth->name);
    g_autoptr(NetMessage) msg =
        net_message_new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof info);
    if (!msg || !put_birth(msg, birth)) {
        return net_request_fail_memory(error);
    }
    return net_request_change(sock, msg, EEXIST, object, "make it", error);
}

/* True also when somebody else was faster, or swept it away: the next look tells. */
static bool tag(NetSocket *sock, const NetLink *link, const char *text, GError **error)
{
    GError *problem = NULL;
    if (net_link_add_altname(sock, link, text, &problem) ||
        g_error_matches(problem, VM_ERROR, VM_ERROR_EXISTS)) {
        g_clear_error(&problem);
        return true;
    }
    g_autoptr(NetLink) found = NULL;
    if (net_link_find_index(sock, link->index, &found, NULL) && !found) {
        g_clear_error(&problem);
        return true;
    }
    g_propagate_error(error, problem);
    return false;
}

bool net_link_create(NetSocket *sock, const NetLinkBirth *birth, NetLink **out_link, GError **error)
{
    for (int i = 0; i < CREATE_TRIES; i++) {
        g_autoptr(NetLink) link = NULL;
        if (!net_link_find_ours(sock, birth->name, birth->kind, birth->tag, &link, error)) {
            return false;
        }
        if (link && net_link_has_altname(link, birth->tag)) {
            *out_link = g_steal_pointer(&link);
            return true;
        }
        if (!check_tag_is_free(sock, birth, error) ||
            !(link ? tag(sock, link, birth->tag, error) : make(sock, birth, error))) {
            return false;
        }
    }
    return base_fail(error, VM_ERROR_HOST, "%s '%s': somebody else removes it while it is made",
                     birth->kind, birth->name);
}

/* Looked at once more, since its maker may be alive and further by now. */
static bool remove_half_made(NetSocket *sock, unsigned index, const char *kind, GError **error)
{
    g_autoptr(NetLink) link = NULL;
    if (!net_link_find_index(sock, index, &link, error)) {
        return false;
    }
    return !link || !is_half_made(link, kind) || net_link_delete(sock, link, error);
}

GPtrArray *net_link_sweep(NetSocket *sock, const char *kind, bool is_dry_run, GError **error)
{
    g_autoptr(GPtrArray) links = net_link_list(sock, kind, 0, error);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; links && i < links->len; i++) {
        const NetLink *link = links->pdata[i];
        if (!is_half_made(link, kind)) {
            continue;
        }
        if (!is_dry_run && !remove_half_made(sock, link->index, kind, error)) {
            return NULL;
        }
        g_ptr_array_add(names, g_strdup(link->name));
    }
    return links ? g_steal_pointer(&names) : NULL;
}
