#include "net/nft_raw.h"

#include <errno.h>
#include <netinet/in.h> /* before linux/netfilter.h, which has another one */
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netlink/socket.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/error.h"
#include "net/rules_internal.h"

enum { MESSAGE_BYTES = 64 * 1024, SEND_BYTES = 16 * 1024, N_TRIES = 10, COMMENT_TYPE = 0 };

const uint8_t net_nft_protos[NET_NFT_N] = {
    [NET_NFT_INET] = NFPROTO_INET,
    [NET_NFT_BRIDGE] = NFPROTO_BRIDGE,
};

static struct {
    GMutex mutex;
    struct nl_sock *sock; /* NULL: none yet */
    dev_t device;         /* the namespace it belongs to */
    ino_t inode;
    pid_t pid;
} door; /* guarded by its mutex */

NetNftMessage *net_nft_message(unsigned type, uint8_t nfproto, int flags)
{
    struct nfgenmsg header = {.nfgen_family = nfproto, .version = NFNETLINK_V0};
    struct nl_msg *message =
        nlmsg_alloc_simple((int)(NFNL_SUBSYS_NFTABLES << 8 | type), flags | NLM_F_REQUEST);
    if (!message || nlmsg_append(message, &header, sizeof header, NLMSG_ALIGNTO)) {
        g_error("out of memory"); /* as GLib's own allocations */
    }
    return message;
}

static int open_socket(struct nl_sock **out)
{
    struct nl_sock *sock = nl_socket_alloc();
    int result = sock ? nl_connect(sock, NETLINK_NETFILTER) : -NLE_NOMEM;
    if (result < 0) {
        int errnum = errno ? errno : ENOMEM;
        nl_socket_free(sock);
        return errnum;
    }
    nl_socket_disable_msg_peek(sock);
    nl_socket_set_msg_buf_size(sock, MESSAGE_BYTES);
    *out = sock;
    return 0;
}

/* Who has the lock of a namespace stays in it. */
static int look_where(struct stat *here)
{
    return net_rules_locked_namespace(&here->st_dev, &here->st_ino) ||
                   !stat("/proc/thread-self/ns/net", here)
               ? 0
               : errno;
}

/* The one of this thread's namespace and process. */
static int take_socket(struct nl_sock **out)
{
    struct stat here = {0};
    if (look_where(&here)) {
        return errno;
    }
    if (door.sock && door.pid == getpid() && door.device == here.st_dev &&
        door.inode == here.st_ino) {
        *out = door.sock;
        return 0;
    }
    g_clear_pointer(&door.sock, nl_socket_free);
    int errnum = open_socket(&door.sock);
    door.device = here.st_dev;
    door.inode = here.st_ino;
    door.pid = getpid();
    *out = door.sock;
    return errnum;
}

/* After a failure what is left of an answer must not be read as the next one's. */
static void drop_socket(void)
{
    g_clear_pointer(&door.sock, nl_socket_free);
}

/* One answer of the kernel: *out_is_last when it ends the exchange: the one thing that was asked
 * for, why there is none, or the end of a list. Returns an errno. */
static int take_answer(struct nlmsghdr *header, uint32_t sequence, NetNftEach each, void *data,
                       bool *out_is_last)
{
    if (header->nlmsg_seq != sequence) {
        return 0; /* of an exchange that was given up */
    }
    if (header->nlmsg_flags & NLM_F_DUMP_INTR) {
        *out_is_last = header->nlmsg_type == NLMSG_DONE;
        return EINTR;
    }
    if (header->nlmsg_type == NLMSG_ERROR) {
        const struct nlmsgerr *answer = nlmsg_data(header);
        *out_is_last = true;
        return -answer->error;
    }
    if (header->nlmsg_type == NLMSG_DONE) {
        *out_is_last = true;
        return 0;
    }
    *out_is_last = !(header->nlmsg_flags & NLM_F_MULTI);
    if (each) {
        each(header, data);
    }
    return 0;
}

static int receive(struct nl_sock *sock, uint32_t sequence, NetNftEach each, void *data)
{
    bool is_last = false;
    int errnum = 0;
    while (!is_last) {
        struct sockaddr_nl from = {0};
        g_autofree unsigned char *buffer = NULL;
        int n = nl_recv(sock, &from, &buffer, NULL);
        if (n <= 0) {
            drop_socket();
            return errno ? errno : EIO;
        }
        struct nlmsghdr *header = (struct nlmsghdr *)(void *)buffer;
        for (; nlmsg_ok(header, n) && !is_last; header = nlmsg_next(header, &n)) {
            int problem = take_answer(header, sequence, each, data, &is_last);
            errnum = errnum ? errnum : problem;
        }
    }
    return errnum;
}

static void append_bound(GByteArray *bytes, uint16_t type, uint32_t sequence)
{
    struct {
        struct nlmsghdr header;
        struct nfgenmsg body;
    } bound = {.header = {.nlmsg_len = sizeof bound,
                          .nlmsg_type = type,
                          .nlmsg_flags = NLM_F_REQUEST,
                          .nlmsg_seq = sequence},
               .body = {.res_id = g_htons(NFNL_SUBSYS_NFTABLES)}};
    g_byte_array_append(bytes, (const guint8 *)&bound, sizeof bound);
}

/* Only the last one is to be acknowledged: what fails is told anyway. */
static void number_messages(GByteArray *bytes, uint32_t sequence)
{
    struct nlmsghdr *header = NULL;
    for (guint at = 0; at < bytes->len; at += NLMSG_ALIGN(header->nlmsg_len)) {
        header = (struct nlmsghdr *)(void *)&bytes->data[at];
        header->nlmsg_seq = sequence;
        header->nlmsg_flags &= (uint16_t)~NLM_F_ACK;
    }
    if (header) {
        header->nlmsg_flags |= NLM_F_ACK;
    }
}

static int send_all(struct nl_sock *sock, const GByteArray *bytes)
{
    int n_bytes = (int)bytes->len * 2;
    if (bytes->len > SEND_BYTES) {
        setsockopt(nl_socket_get_fd(sock), SOL_SOCKET, SO_SNDBUFFORCE, &n_bytes, sizeof n_bytes);
    }
    errno = 0;
    return nl_sendto(sock, bytes->data, bytes->len) < 0 ? errno ? errno : EIO : 0;
}

int net_nft_transact(const GByteArray *messages)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&door.mutex);
    g_autoptr(GByteArray) bytes = g_byte_array_sized_new(messages->len + 64);
    struct nl_sock *sock = NULL;
    int errnum = messages->len ? take_socket(&sock) : 0;
    if (errnum || !messages->len) {
        return errnum;
    }
    uint32_t sequence = nl_socket_use_seq(sock);
    g_byte_array_append(bytes, messages->data, messages->len);
    number_messages(bytes, sequence);
    g_autoptr(GByteArray) whole = g_byte_array_sized_new(bytes->len + 64);
    append_bound(whole, NFNL_MSG_BATCH_BEGIN, sequence);
    g_byte_array_append(whole, bytes->data, bytes->len);
    append_bound(whole, NFNL_MSG_BATCH_END, sequence);
    errnum = send_all(sock, whole);
    errnum = errnum ? errnum : receive(sock, sequence, NULL, NULL);
    if (errnum) {
        drop_socket(); /* more than one message may have failed */
    }
    return errnum;
}

int net_nft_exchange(NetNftMessage *message, NetNftEach each, void (*restart)(void *data),
                     void *data)
{
    g_autoptr(NetNftMessage) owned = message;
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&door.mutex);
    struct nl_sock *sock = NULL;
    int errnum = take_socket(&sock);
    if (errnum) {
        return errnum;
    }
    errnum = EINTR;
    for (int i = 0; i < N_TRIES && errnum == EINTR; i++) {
        if (restart) {
            restart(data);
        }
        struct nlmsghdr *header = nlmsg_hdr(message);
        header->nlmsg_seq = nl_socket_use_seq(sock);
        header->nlmsg_pid = nl_socket_get_local_port(sock);
        errno = 0;
        if (nl_sendto(sock, header, header->nlmsg_len) < 0) {
            errnum = errno ? errno : EIO;
            drop_socket();
            return errnum;
        }
        errnum = receive(sock, header->nlmsg_seq, each, data);
    }
    return errnum;
}

bool net_nft_ask_kernel(NetNftMessage *message, NetNftEach each, void (*restart)(void *data),
                        void *data, bool *out_is_there, GError **error)
{
    int errnum = net_nft_exchange(message, each, restart, data);
    if (errnum && errnum != ENOENT) {
        base_error_set_errno(error, errnum, "cannot read nf_tables");
        return false;
    }
    if (out_is_there) {
        *out_is_there = errnum == 0;
    }
    return true;
}

bool net_nft_parse(struct nlmsghdr *header, struct nlattr **attributes, int max)
{
    return nlmsg_parse(header, sizeof(struct nfgenmsg), attributes, max, NULL) == 0;
}

bool net_nft_parse_nested(struct nlattr *nest, struct nlattr **attributes, int max)
{
    return nest && nla_parse_nested(attributes, max, nest, NULL) == 0;
}

/* Type, length, value; a byte each for the first two (libnftnl/udata.h). */
char *net_nft_comment(struct nlattr *userdata)
{
    const uint8_t *bytes = userdata ? nla_data(userdata) : NULL;
    int n = userdata ? nla_len(userdata) : 0;
    for (int at = 0; at + 2 <= n && at + 2 + bytes[at + 1] <= n; at += 2 + bytes[at + 1]) {
        if (bytes[at] == COMMENT_TYPE) {
            return g_strndup((const char *)&bytes[at + 2], bytes[at + 1]);
        }
    }
    return NULL;
}
