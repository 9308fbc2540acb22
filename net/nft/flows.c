#include "net/nft/flows.h"

#include <errno.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <netlink/netfilter/ct.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <string.h>
#include <sys/socket.h>
#include "base/error.h"

enum { ORIGINAL = 0, REPLY = 1, MESSAGE_BYTES = 64 * 1024, N_TRIES = 3 };

/* One look: the flows wanted, the entries found. */
typedef struct {
    const NetFlow *flows;
    unsigned n_flows;
    GPtrArray *found; /* of struct nfnl_ct, owned */
} Look;

static void free_entry(gpointer entry)
{
    nfnl_ct_put(entry);
}

static void free_socket(struct nl_sock **sock)
{
    if (*sock) {
        nl_socket_free(*sock);
    }
}

static BaseIp ip_of(const struct nl_addr *address)
{
    BaseIp ip = {0};
    unsigned n_bytes = address ? nl_addr_get_len(address) : 0;
    if (n_bytes == 4 || n_bytes == sizeof ip.bytes) {
        ip.n_bytes = (uint8_t)n_bytes;
        memcpy(ip.bytes, nl_addr_get_binary_addr(address), n_bytes);
    }
    return ip;
}

static uint16_t dst_port_of(const struct nfnl_ct *entry, int direction)
{
    return nfnl_ct_test_dst_port(entry, direction) ? nfnl_ct_get_dst_port(entry, direction) : 0;
}

static uint16_t src_port_of(const struct nfnl_ct *entry, int direction)
{
    return nfnl_ct_test_src_port(entry, direction) ? nfnl_ct_get_src_port(entry, direction) : 0;
}

/* Was it asked for the flow's host port, by the flow's protocol? */
static bool is_for_port(const struct nfnl_ct *entry, const NetFlow *flow)
{
    BaseIp asked = ip_of(nfnl_ct_get_dst(entry, ORIGINAL));
    return nfnl_ct_get_proto(entry) == (flow->is_udp ? IPPROTO_UDP : IPPROTO_TCP) &&
           dst_port_of(entry, ORIGINAL) == flow->host_port && asked.n_bytes == flow->n_ip_bytes &&
           (!base_ip_is_set(&flow->host) || base_ip_equal(&asked, &flow->host));
}

static bool is_mapped_to(const struct nfnl_ct *entry, const NetFlow *flow)
{
    BaseIp answers = ip_of(nfnl_ct_get_src(entry, REPLY));
    return (nfnl_ct_get_status(entry) & IPS_DST_NAT) && base_ip_equal(&answers, &flow->guest) &&
           src_port_of(entry, REPLY) == flow->guest_port && is_for_port(entry, flow);
}

static bool is_unmapped(const struct nfnl_ct *entry, const NetFlow *flow)
{
    return !(nfnl_ct_get_status(entry) & IPS_NAT_MASK) && is_for_port(entry, flow);
}

/* Where it went is who answers: behind a port map that is another than who was asked. */
static bool is_denied(const struct nfnl_ct *entry, const NetFlow *flow)
{
    BaseIp from = ip_of(nfnl_ct_get_src(entry, ORIGINAL));
    BaseIp to = ip_of(nfnl_ct_get_src(entry, REPLY));
    return base_ip_equal(&from, &flow->guest) && base_ip_is_set(&to) &&
           flow->is_denied(&to, nfnl_ct_get_proto(entry), src_port_of(entry, REPLY), flow->data);
}

static bool (*const matchers[])(const struct nfnl_ct *entry, const NetFlow *flow) = {
    [NET_FLOW_TO_GUEST] = is_mapped_to,
    [NET_FLOW_UNMAPPED] = is_unmapped,
    [NET_FLOW_OF_GUEST] = is_denied,
};

static int on_entry(struct nl_msg *message, void *data)
{
    Look *look = data;
    struct nfnl_ct *entry = NULL;
    if (nfnlmsg_ct_parse(nlmsg_hdr(message), &entry) < 0) {
        return NL_SKIP; /* of a kind that libnl does not know */
    }
    for (unsigned i = 0; i < look->n_flows; i++) {
        if (matchers[look->flows[i].kind](entry, &look->flows[i])) {
            g_ptr_array_add(look->found, entry);
            return NL_OK;
        }
    }
    nfnl_ct_put(entry);
    return NL_OK;
}

static int fail_netlink(int result, GError **error)
{
    base_fail(error, result == -NLE_PERM ? VM_ERROR_DENIED : VM_ERROR_HOST,
              "cannot read the table of connections: %s", nl_geterror(result));
    return result;
}

static int look_once(struct nl_sock *sock, Look *look)
{
    struct nfgenmsg header = {.nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0};
    int type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET;
    g_ptr_array_set_size(look->found, 0);
    int result = nl_send_simple(sock, type, NLM_F_DUMP, &header, sizeof header);
    return result < 0 ? result : nl_recvmsgs_default(sock);
}

static bool end_found(struct nl_sock *sock, const Look *look, unsigned *out_n_ended, GError **error)
{
    unsigned n_ended = 0;
    for (unsigned i = 0; i < look->found->len; i++) {
        int result = nfnl_ct_del(sock, look->found->pdata[i], 0);
        if (result < 0 && result != -NLE_OBJ_NOTFOUND) {
            return fail_netlink(result, error) == 0;
        }
        n_ended += result >= 0;
    }
    *out_n_ended = n_ended;
    return true;
}

bool net_nft_end_flows(const NetFlow *flows, unsigned n_flows, unsigned *out_n_ended,
                       GError **error)
{
    __attribute__((cleanup(free_socket))) struct nl_sock *sock = nl_socket_alloc();
    int result = sock ? nl_connect(sock, NETLINK_NETFILTER) : -NLE_NOMEM;
    if (result < 0) {
        return fail_netlink(result, error) == 0;
    }
    g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(free_entry);
    Look look = {flows, n_flows, found};
    nl_socket_set_msg_buf_size(sock, MESSAGE_BYTES);
    nl_socket_modify_cb(sock, NL_CB_VALID, NL_CB_CUSTOM, on_entry, &look);
    result = -NLE_DUMP_INTR;
    for (int i = 0; i < N_TRIES && result == -NLE_DUMP_INTR; i++) {
        result = look_once(sock, &look);
    }
    if (result < 0 && result != -NLE_DUMP_INTR) {
        return fail_netlink(result, error) == 0;
    }
    nl_socket_modify_cb(sock, NL_CB_VALID, NL_CB_DEFAULT, NULL, NULL);
    return end_found(sock, &look, out_n_ended, error);
}
