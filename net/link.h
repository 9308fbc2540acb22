#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <net/if.h>
#include <netlink/netlink.h>
#include <sys/types.h>
#include <glib.h>

/*
 * Network links of this network namespace, by rtnetlink messages (rtnetlink(7), linux/if_link.h)
 * over libnl-3's sockets. The messages are built here, since libnl 3.7 knows neither alternative
 * names nor the owner of a tap. Every call is one or two round trips to the kernel and does not
 * wait.
 */
enum { NET_MAC_BYTES = 6, NET_ALTNAME_MAX_BYTES = 127 };

/* A link as the kernel tells it. */
typedef struct {
    unsigned index;
    char name[IFNAMSIZ];
    char kind[IFNAMSIZ];   /* "bridge", "tun", ...; "": a device of its own driver */
    GPtrArray *altnames;   /* of char*; owned */
    unsigned bridge_index; /* what it is enslaved to, 0: nothing */
    uint32_t mtu;
    uint8_t mac[NET_MAC_BYTES];
    bool is_up;
    bool is_tap, is_persistent; /* kind "tun" only */
    bool is_ipv6_silent;        /* makes no link-local address of its own; also without IPv6 */
    uid_t owner_uid;            /* (uid_t)-1: nobody in particular */
    gid_t owner_gid;
} NetLink;

void net_link_free(NetLink *link);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NetLink, net_link_free)

typedef struct nl_sock NetSocket;
void net_socket_close(NetSocket *sock);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NetSocket, net_socket_close)

/* A netlink socket, transfer full. NULL with the error by errno. */
NetSocket *net_socket_open(GError **error);

/* May this be the name of a link, as we make them? [A-Za-z0-9._-], 1 to 15 characters, not "." or
 * ".."; so neither a path below /sys and /proc nor a pattern ("%d"). Else VM_ERROR_NET. */
bool net_link_name_check(const char *name, GError **error);

/* The link of this name or, failing that, alternative name. *out_link NULL: there is none. */
bool net_link_find(NetSocket *sock, const char *name, NetLink **out_link, GError **error);

/* All links, of NetLink*. Transfer full. */
GPtrArray *net_link_list(NetSocket *sock, GError **error);

bool net_link_has_altname(const NetLink *link, const char *altname);

/* What to change about a link; only what is set is sent, in the kernel's order. */
typedef struct {
    const uint8_t *mac;           /* NULL: leave */
    uint32_t mtu;                 /* 0: leave */
    const unsigned *bridge_index; /* NULL: leave */
    bool silences_ipv6, sets_up;
} NetLinkChange;

/* True without a message when nothing is set. After a failure a part may be done. */
bool net_link_change(NetSocket *sock, const NetLink *link, const NetLinkChange *change,
                     GError **error);

bool net_link_add_altname(NetSocket *sock, const NetLink *link, const char *altname,
                          GError **error);

/* Absent is success. */
bool net_link_delete(NetSocket *sock, const NetLink *link, GError **error);
