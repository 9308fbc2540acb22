#pragma once
#include "net/link.h"

/*
 * Links of ours that a netlink message makes (bridge, macvtap, ifb), so that none is ever without a
 * mark.
 *
 * How it works. RTM_NEWLINK takes no alternative name, so between a link's making and its tag there
 * is an instant in which we may die. What the message does take is the link's group: it is born
 * with a number that follows from its name, is tagged, and gets group 0 with its first settings. So
 * a link of group net_link_birth_group(its name) without a tag is one of ours that was cut off: the
 * next creation of that name completes it, net_link_sweep() removes it. It is down, and has no
 * address.
 */
typedef struct {
    const char *name, *kind, *tag; /* checked by the caller */
    const uint8_t *mac;            /* NULL: the kernel's choice */
    unsigned index;                /* 0: the kernel's choice */
    unsigned lower_index;          /* kind "macvtap": what it sits on */
    NetMacvtapMode macvtap_mode;
} NetLinkBirth;

uint32_t net_link_birth_group(const char *name);

/* Makes the link, tagged and down, unless it is there; any number of processes may do so at once.
 * What is there is left as it is (its group tells whether it was ever set up). EXISTS: a link of
 * that name that is not ours, or ours under another name; untouched. */
bool net_link_create(NetSocket *sock, const NetLinkBirth *birth, NetLink **out_link,
                     GError **error);

/* The link of that name when it is of this kind and has this tag; a foreign one: EXISTS; *out_link
 * NULL: the name is free. A half-made one counts as ours. */
bool net_link_find_ours(NetSocket *sock, const char *name, const char *kind, const char *tag,
                        NetLink **out_link, GError **error);

/* Removes the links of this kind that were cut off before their tag; of whoever, since that is not
 * known: a creation that is under way begins again. Their names, transfer full; is_dry_run: only
 * these. */
GPtrArray *net_link_sweep(NetSocket *sock, const char *kind, bool is_dry_run, GError **error);
