#include "net/link_request.h"

#include <linux/netlink.h>
#include <netlink/errno.h>
#include <netlink/socket.h>
#include <sys/socket.h>
#include "base/error.h"

enum { DUMP_TRIES = 5 }; /* a dump that its objects changed under is read again */

void net_socket_close(NetSocket *sock)
{
    nl_socket_free(sock);
}

/* The one door for libnl's own errors (negative NLE_*); what the kernel says comes as an errno. */
static bool fail_nl(GError **error, int code, const char *what)
{
    return base_fail(error, code == -NLE_NOMEM ? VM_ERROR_NO_SPACE : VM_ERROR_HOST, "%s: %s", what,
                     nl_geterror(code));
}

enum { MESSAGE_BYTES = 64 * 1024 };

NetSocket *net_socket_open(GError **error)
{
    g_autoptr(NetSocket) sock = nl_socket_alloc();
    int code = sock ? nl_connect(sock, NETLINK_ROUTE) : -NLE_NOMEM;
    if (code < 0) {
        fail_nl(error, code, "cannot open a netlink socket");
        return NULL;
    }
    int on = 1; /* older kernels give more than was asked for, and `read` looks at all of it */
    nl_socket_disable_msg_peek(sock); /* one read a message, into a buffer that any fits in */
    nl_socket_set_msg_buf_size(sock, MESSAGE_BYTES);
    (void)setsockopt(nl_socket_get_fd(sock), SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on);
    return g_steal_pointer(&sock);
}

NetMessage *net_message_new(uint16_t type, int flags, const void *header, size_t n_bytes)
{
    g_autoptr(NetMessage) msg = nlmsg_alloc_simple(type, NLM_F_REQUEST | flags);
    if (!msg || nlmsg_append(msg, (void *)(uintptr_t)header, n_bytes, NLMSG_ALIGNTO) < 0) {
        return NULL;
    }
    return g_steal_pointer(&msg);
}

bool net_request_fail_memory(GError **error)
{
    return fail_nl(error, -NLE_NOMEM, "cannot build a netlink message");
}

typedef struct {
    NetReadFn read;
    GPtrArray *found; /* borrowed */
    int errnum;       /* what the kernel answered, 0: fine */
    bool is_ended;    /* acknowledged, refused, or the dump's last message came */
} Answer;

static int on_message(struct nl_msg *msg, void *data)
{
    Answer *answer = data;
    gpointer object = answer->read ? answer->read(nlmsg_hdr(msg)) : NULL;
    if (object) {
        g_ptr_array_add(answer->found, object);
    }
    return NL_OK;
}

static int on_error(struct sockaddr_nl *from, struct nlmsgerr *err, void *data)
{
    (void)from;
    Answer *answer = data;
    answer->errnum = -err->error;
    answer->is_ended = true;
    return NL_STOP;
}

static int on_end(struct nl_msg *msg, void *data)
{
    (void)msg;
    Answer *answer = data;
    answer->is_ended = true;
    return NL_STOP;
}

/* Sends `msg` and reads to its acknowledgement (libnl asks for one always) or the end of its dump,
 * which come in datagrams of their own. 0 or negative NLE_*; also that when the kernel refuses. */
static int exchange(NetSocket *sock, struct nl_msg *msg, Answer *answer)
{
    struct nl_cb *callbacks = nl_cb_alloc(NL_CB_DEFAULT);
    if (!callbacks) {
        return -NLE_NOMEM;
    }
    nl_cb_set(callbacks, NL_CB_VALID, NL_CB_CUSTOM, on_message, answer);
    nl_cb_set(callbacks, NL_CB_ACK, NL_CB_CUSTOM, on_end, answer);
    nl_cb_set(callbacks, NL_CB_FINISH, NL_CB_CUSTOM, on_end, answer);
    nl_cb_err(callbacks, NL_CB_CUSTOM, on_error, answer);
    int code = nl_send_auto(sock, msg);
    while (code >= 0 && !answer->is_ended) {
        code = nl_recvmsgs(sock, callbacks);
    }
    nl_cb_put(callbacks);
    return MIN(code, 0);
}

bool net_request(NetSocket *sock, NetMessage *msg, NetReadFn read, GPtrArray *found,
                 int *out_errnum, GError **error)
{
    Answer answer = {.read = read, .found = found};
    int code = exchange(sock, msg, &answer);
    if (code < 0 && !answer.errnum) {
        return fail_nl(error, code, "rtnetlink");
    }
    *out_errnum = answer.errnum;
    return true;
}

bool net_request_change(NetSocket *sock, NetMessage *msg, int forgiven, const char *object,
                        const char *what, GError **error)
{
    int errnum = 0;
    if (!net_request(sock, msg, NULL, NULL, &errnum, error)) {
        return false;
    }
    if (errnum && errnum != forgiven) {
        base_error_set_errno(error, errnum, "%s: cannot %s", object, what);
        return false;
    }
    return true;
}

GPtrArray *net_request_dump(NetSocket *sock, NetMessage *msg, NetReadFn read,
                            GDestroyNotify free_one, const char *what, GError **error)
{
    int code = 0;
    nlmsg_hdr(msg)->nlmsg_flags |= NLM_F_DUMP;
    for (int i = 0; i < DUMP_TRIES; i++) {
        g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(free_one);
        Answer answer = {.read = read, .found = found};
        nlmsg_hdr(msg)->nlmsg_seq = NL_AUTO_SEQ;
        code = exchange(sock, msg, &answer);
        if (answer.errnum) {
            base_error_set_errno(error, answer.errnum, "cannot list %s", what);
            return NULL;
        }
        if (code != -NLE_DUMP_INTR) {
            if (code >= 0) {
                return g_steal_pointer(&found);
            }
            break;
        }
    }
    base_fail(error, VM_ERROR_HOST, "cannot list %s: %s", what, nl_geterror(code));
    return NULL;
}
