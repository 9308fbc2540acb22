#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <glib.h>

/*
 * Requests to the kernel's rtnetlink(7) and their answers, over libnl-3's sockets; for the files of
 * net/ that build messages. One socket serves any number of requests, one after the other. No call
 * waits for anything but the kernel's answer.
 */
typedef struct nl_sock NetSocket;
void net_socket_close(NetSocket *sock);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NetSocket, net_socket_close)

/* A netlink socket, transfer full, whose dumps the kernel filters (NETLINK_GET_STRICT_CHK, Linux
 * 4.20). NULL with the error by errno. */
NetSocket *net_socket_open(GError **error);

typedef struct nl_msg NetMessage;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NetMessage, nlmsg_free)

/* A request that begins with `header` (ifinfomsg, ifaddrmsg, rtmsg, tcmsg). NULL: no memory, as
 * net_request_fail_memory() then says. Transfer full. */
NetMessage *net_message_new(uint16_t type, int flags, const void *header, size_t n_bytes);

/* False, with the error that a message could not be built. */
bool net_request_fail_memory(GError **error);

/* Makes an object of an answer's message; NULL: it is none. */
typedef gpointer (*NetReadFn)(struct nlmsghdr *header);

/* Sends the request and reads up to its acknowledgement. *out_errnum: what the kernel made of it,
 * 0: done. What `read` makes of the answer is appended to `found` (both may be NULL). False: it did
 * not get through. */
bool net_request(NetSocket *sock, NetMessage *msg, NetReadFn read, GPtrArray *found,
                 int *out_errnum, GError **error);

/* Sends a change; `forgiven` is an errno that counts as success too. `object` and `what` are for
 * the error: "link 'x'", "set it up". */
bool net_request_change(NetSocket *sock, NetMessage *msg, int forgiven, const char *object,
                        const char *what, GError **error);

/* All objects that fit the request, of what `read` makes; read again when they changed meanwhile.
 * Transfer full. `what` is for the error: "the network links". */
GPtrArray *net_request_dump(NetSocket *sock, NetMessage *msg, NetReadFn read,
                            GDestroyNotify free_one, const char *what, GError **error);
