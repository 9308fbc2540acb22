#pragma once
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <glib.h>
#include "net/link_request.h"

/*
 * Network links of this network namespace, by rtnetlink messages (rtnetlink(7), linux/if_link.h).
 * The messages are built here, since libnl 3.7 knows neither alternative names nor the owner of a
 * tap. Every call is one or two round trips to the kernel and does not wait.
 */
enum { NET_MAC_BYTES = 6, NET_ALTNAME_MAX_BYTES = 127 };

#define NET_TAG_PREFIX "vm-run:" /* of all alternative names of ours */

/* Modes of a macvtap, as linux/if_link.h numbers them. */
typedef enum {
    NET_MACVTAP_PRIVATE = 1,
    NET_MACVTAP_VEPA = 2,
    NET_MACVTAP_BRIDGE = 4,
    NET_MACVTAP_PASSTHROUGH = 8
} NetMacvtapMode;

/* What a bridge does with a port. */
typedef struct {
    bool is_hairpin;  /* frames may leave by the port they came from */
    bool is_guarded;  /* a BPDU from it blocks it */
    bool is_isolated; /* reaches no other isolated port */
    bool is_learning, is_neigh_suppressed;
} NetLinkPort;

/* A link as the kernel tells it. */
typedef struct {
    unsigned index;
    char name[IFNAMSIZ];
    char kind[IFNAMSIZ];   /* "bridge", "tun", ...; "": a device of its own driver */
    GPtrArray *altnames;   /* of char*; owned */
    unsigned bridge_index; /* what it is enslaved to, 0: nothing */
    unsigned lower_index;  /* what it sits on (macvtap, vlan) or is paired with, 0: nothing */
    uint32_t mtu, group, txqlen;
    uint8_t mac[NET_MAC_BYTES];
    bool is_up;
    bool has_carrier;
    bool is_tap, is_persistent, is_multi_queue; /* kind "tun" only */
    bool is_ipv6_silent; /* makes no link-local address of its own; also without IPv6 */
    bool is_ipv6_off;    /* disable_ipv6; also without IPv6 */
    uid_t owner_uid;     /* (uid_t)-1: nobody in particular */
    gid_t owner_gid;
    NetLinkPort port;           /* of a bridge's port only */
    bool has_stp, has_snooping; /* kind "bridge" only */
    uint32_t forward_delay;
    uint32_t macvtap_mode; /* kind "macvtap" only */
} NetLink;

void net_link_free(NetLink *link);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NetLink, net_link_free)

/* A NetReadFn: the link of an RTM_NEWLINK message, transfer full. */
gpointer net_link_read(struct nlmsghdr *header);

/* May this be the name of a link, as we make them? [A-Za-z0-9._-], 1 to 15 characters, not "." or
 * ".."; so neither a path below /sys and /proc nor a pattern ("%d"). Else VM_ERROR_NET. */
bool net_link_name_check(const char *name, GError **error);
/* May this be a tag of ours? "vm-run:", graphic characters without '/' and '%'. Else VM_ERROR_NET.
 */
bool net_link_tag_check(const char *tag, GError **error);
/* prefix (three letters) + 12 base32 characters of `text`'s hash. Transfer full. */
char *net_link_hash_name(const char *prefix, const char *text);

/* The link of this name or, failing that, alternative name. *out_link NULL: there is none. */
bool net_link_find(NetSocket *sock, const char *name, NetLink **out_link, GError **error);
/* As above; NOT_FOUND when there is none, or one of another kind: "there is no bridge 'x'". */
bool net_link_find_kind(NetSocket *sock, const char *name, const char *kind, NetLink **out_link,
                        GError **error);
bool net_link_find_index(NetSocket *sock, unsigned index, NetLink **out_link, GError **error);

/* All links of a kind (NULL: any) enslaved to a bridge (0: any), of NetLink*. Transfer full. Its
 * cost grows with all links there are. */
GPtrArray *net_link_list(NetSocket *sock, const char *kind, unsigned bridge_index, GError **error);

bool net_link_has_altname(const NetLink *link, const char *altname);
/* The first alternative name that is a tag of ours, borrowed; NULL: none. */
const char *net_link_tag(const NetLink *link);

/* What to change about a link; only what is set is sent, in the kernel's order. */
typedef struct {
    const uint8_t *mac;           /* NULL: leave */
    uint32_t mtu, txqlen;         /* 0: leave */
    const unsigned *bridge_index; /* NULL: leave */
    const uint32_t *group;        /* NULL: leave */
    const NetLinkPort *port;      /* hairpin and guard, the rest as a port has them. NULL: leave */
    bool silences_ipv6, sets_up, sets_down;
    bool stops_stp, settles_bridge; /* of a bridge: no STP; forward delay 0, no snooping */
} NetLinkChange;

bool net_link_change_is_empty(const NetLinkChange *change);

/* True without a message when nothing is set. After a failure a part may be done. */
bool net_link_change(NetSocket *sock, const NetLink *link, const NetLinkChange *change,
                     GError **error);

bool net_link_add_altname(NetSocket *sock, const NetLink *link, const char *altname,
                          GError **error);

/* Absent is success. */
bool net_link_delete(NetSocket *sock, const NetLink *link, GError **error);
