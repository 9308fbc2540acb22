#include "schemas/network_rows.h"
#include "schemas/rules.h"
#include "schemas/value.h"

/* Networks, and what of a machine concerns them: NICs, ports, egress. */

static const char *const texts_SpecNetMode[] = {"nat", "isolated", "routed", "bridge", NULL};
static const char *const docs_SpecNetMode[] = {
    "a bridge of its own, guests go out with the host's address",
    "a bridge of its own, nothing but the host and neighbours",
    "a bridge of its own, guests go out with their own addresses",
    "a bridge of this host that somebody else owns"};
SPEC_CHOICES(SpecNetMode, SPEC_NET_MODE_N);

static const char *const net_kinds[] = {"none", "user", "bridge", "auto", "managed", "macvtap"};
G_STATIC_ASSERT(G_N_ELEMENTS(net_kinds) == SPEC_NET_N);

static const char *const texts_SpecMacvtapMode[] = {"bridge", "vepa", "private", "passthrough",
                                                    NULL};
static const char *const docs_SpecMacvtapMode[] = {
    "neighbours on the link are reached directly", "neighbours are reached through the switch",
    "neighbours are not reached", "the link belongs to the guest alone"};
SPEC_CHOICES(SpecMacvtapMode, SPEC_MACVTAP_N);

static const char *const protos[] = {"tcp", "udp", "both"};
G_STATIC_ASSERT(G_N_ELEMENTS(protos) == SPEC_PROTO_N);

typedef bool LinkState; /* SpecNetwork.is_link_down */
static const char *const texts_LinkState[] = {"up", "down", NULL};
static const char *const docs_LinkState[] = {"plugged in", "unplugged"};
SPEC_CHOICES(LinkState, 2);

const char *spec_net_kind_name(SpecNetKind value)
{
    return (unsigned)value < SPEC_NET_N ? net_kinds[value] : "?";
}

const char *spec_net_mode_name(SpecNetMode value)
{
    return (unsigned)value < SPEC_NET_MODE_N ? texts_SpecNetMode[value] : "?";
}

const char *spec_proto_name(SpecProto value)
{
    return (unsigned)value < SPEC_PROTO_N ? protos[value] : "?";
}

#define TABLE(rows)                                                                                \
    {                                                                                              \
        rows, G_N_ELEMENTS(rows)                                                                   \
    }

/* --- a NIC, a port, a rule -------------------------------------------------------------------- */

#define LABEL_PATTERN "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
#define LINK_PATTERN  "[A-Za-z0-9][A-Za-z0-9_.-]*"
#define LINK_HINT     "use letters, digits, '-', '_' and '.'"
/* What libnl's tbf can say: bytes a second in an int (libnl 3.7, route/qdisc/tbf.h). */
#define RATE_MIN    8000
#define RATE_MAX    UINT64_C(16000000000)
#define RATE_LIMITS .min = RATE_MIN, .max = RATE_MAX
#define LINK_NAME_RULE                                                                             \
    .max = 15, .rule = spec_rule_bridge, .code = VM_ERROR_NAME, .pattern = LINK_PATTERN,           \
    .pattern_hint = LINK_HINT

static const SpecOption nic_rows[] = {
    SPEC_STRING(SpecNetwork, network, "network",
                "A network by its name; `user`: behind QEMU's own router, needs no privilege; "
                "`none`: no interface at all; `auto`: the network `default` for root, `user` "
                "otherwise.",
                .max = 63, .rule = spec_rule_network_word, .code = VM_ERROR_NAME,
                .pattern = LABEL_PATTERN,
                .pattern_hint = "use lower-case letters, digits and '-' inside",
                .default_doc = "`auto`", .change = SPEC_CHANGE_RESTART),
    SPEC_STRING(SpecNetwork, bridge, "bridge", "Instead: a bridge of this host.", LINK_NAME_RULE,
                .change = SPEC_CHANGE_RESTART),
    SPEC_STRING(SpecNetwork, macvtap, "macvtap", "Instead: a macvtap of this link.", LINK_NAME_RULE,
                .change = SPEC_CHANGE_RESTART),
    SPEC_ENUM(SpecNetwork, macvtap_mode, SpecMacvtapMode, "macvtap_mode",
              "How a macvtap treats its neighbours.", .default_text = "bridge",
              .change = SPEC_CHANGE_RESTART),
    SPEC_STRING(SpecNetwork, mac, "mac", "MAC address of the guest's interface.", .max = 17,
                .pattern = "[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}",
                .pattern_hint = "write six octets, such as 52:54:00:12:34:56",
                .rule = spec_rule_mac, .code = VM_ERROR_NET, .is_lower = true,
                .default_doc = "made from the machine's id", .change = SPEC_CHANGE_RESTART),
    SPEC_STRING(SpecNetwork, ip, "ip", "Fixed IPv4 address.", .max = 15, .rule = spec_rule_ip4,
                .code = VM_ERROR_NET, .default_doc = "a free one, from the machine's id",
                .change = SPEC_CHANGE_RESTART),
    SPEC_STRING(SpecNetwork, ip6, "ip6", "Fixed IPv6 address.", .max = 45, .rule = spec_rule_ip6,
                .code = VM_ERROR_NET, .default_doc = "a free one, from the machine's id",
                .change = SPEC_CHANGE_RESTART),
    SPEC_BOOL(SpecNetwork, is_default_route, "default_route", "The guest's default route is here.",
              .default_doc = "`true` for the first one", .change = SPEC_CHANGE_RESTART),
    SPEC_UINT(SpecNetwork, queues, "queues",
              "Queues of the interface, at most one a CPU; each costs memory of the kernel.",
              .min = 1, .max = 256, .default_text = "1", .change = SPEC_CHANGE_RESTART),
    SPEC_RATE(SpecNetwork, rate_in_bps, "rate_in", "Most that goes to the guest; changes live.",
              RATE_LIMITS, .default_doc = "no limit", .change = SPEC_CHANGE_LIVE),
    SPEC_RATE(SpecNetwork, rate_out_bps, "rate_out", "Most that comes from it; changes live.",
              RATE_LIMITS, .default_doc = "no limit", .change = SPEC_CHANGE_LIVE),
    SPEC_ENUM(SpecNetwork, is_link_down, LinkState, "link", "The cable; changes live.",
              .default_text = "up", .change = SPEC_CHANGE_LIVE),
    SPEC_LATER("model", "Model of the interface."),
};
bool spec_rate_check(const char *text, uint64_t *out_bps, const char **out_why)
{
    SpecNumber got = spec_parse_rate_form(text, out_bps);
    *out_why = got == SPEC_NUMBER_MALFORMED
                   ? "is no rate: write digits and one of kbit, Mbit, Gbit, such as 20Mbit"
                   : "is outside 8kbit to 16Gbit";
    return got == SPEC_NUMBER_OK && *out_bps >= RATE_MIN && *out_bps <= RATE_MAX;
}

static const SpecTable nic_table = TABLE(nic_rows);
const SpecRecordType spec_nic_record = {
    .noun = "network",
    .size = sizeof(SpecNetwork),
    .pos_offset = offsetof(SpecNetwork, pos),
    .table = &nic_table,
    .expand = spec_nic_expand,
    .to_text = spec_nic_to_text,
    .to_map = spec_nic_to_map,
    .text_pattern = "(" LABEL_PATTERN "|(bridge|macvtap)=[A-Za-z0-9][A-Za-z0-9_.-]{0,14}"
                    "(,(bridge|vepa|private|passthrough))?)(,[a-z0-9_]+=[^,]+)*",
    .text_doc = "NETWORK|bridge=NAME|macvtap=LINK[,MODE] and further [,KEY=VALUE]",
    .settle = spec_nic_settle,
    .rule = spec_nic_rule,
};

const SpecRecordType spec_port_record = {
    .noun = "port",
    .size = sizeof(SpecPort),
    .pos_offset = offsetof(SpecPort, pos),
    .from_text = spec_port_from_text,
    .to_text = spec_port_to_text,
    .clear = spec_port_clear,
    .text_pattern = "(([0-9.]+|\\[[0-9A-Fa-f:.]+\\]):)?(auto|[0-9]+(-[0-9]+)?):[0-9]+(-[0-9]+)?"
                    "(/(tcp|udp|both))?",
    .text_doc = "[ADDRESS:]HOST:GUEST[/tcp|udp|both]",
};

const SpecRecordType spec_egress_record = {
    .noun = "rule",
    .size = sizeof(SpecEgressRule),
    .pos_offset = offsetof(SpecEgressRule, pos),
    .from_text = spec_egress_rule_from_text,
    .to_text = spec_egress_rule_to_text,
    .text_pattern = "([0-9.]+(/[0-9]+)?|[0-9A-Fa-f:.]+(/[0-9]+)?|\\[[0-9A-Fa-f:.]+(/[0-9]+)?\\])"
                    "(:[0-9]+(-[0-9]+)?)?(/(tcp|udp|icmp))?",
    .text_doc = "ADDRESS[/BITS][:PORT[-PORT]][/tcp|udp|icmp], IPv6 with ports in [ ]",
};

/* --- a network -------------------------------------------------------------------------------- */

#define N       NetworkSpec
#define RESTART .change = SPEC_CHANGE_RESTART

static const SpecOption network_rows[] = {
    SPEC_STRING(N, name, "name", "Name of the network; in a file the key below `networks`.",
                .max = 63, .rule = spec_rule_network_name, .pattern = LABEL_PATTERN,
                .pattern_hint = "use lower-case letters, digits and '-' inside",
                .code = VM_ERROR_NAME, .is_map_key = true, .change = SPEC_CHANGE_REPLACE),
    SPEC_ENUM(N, mode, SpecNetMode, "mode", "What the network is.", .default_text = "nat", RESTART,
              SPEC_FLAG("mode", 0, "MODE")),
    SPEC_STRING(N, bridge, "bridge",
                "mode bridge: the bridge of this host, required. Otherwise the name that ours "
                "gets.",
                LINK_NAME_RULE, .default_doc = "made from the name", RESTART,
                SPEC_FLAG("bridge", 0, "NAME")),
    SPEC_STRING(N, cidr, "cidr",
                "The IPv4 network, with host bits the gateway's address; `none`: no IPv4. mode "
                "bridge: what fixed addresses must be in.",
                .max = 18, .rule = spec_rule_cidr4, .code = VM_ERROR_NET,
                .default_doc = "nat and isolated: a free private one", RESTART,
                SPEC_FLAG("cidr", 0, "CIDR")),
    SPEC_STRING(N, cidr6, "cidr6", "Likewise for IPv6.", .max = 49, .rule = spec_rule_cidr6,
                .code = VM_ERROR_NET, .default_doc = "nat and isolated: a unique local one",
                RESTART, SPEC_FLAG("cidr6", 0, "CIDR")),
    SPEC_STRING(N, gateway, "gateway", "mode bridge: the router there.", .max = 15,
                .rule = spec_rule_ip4, .code = VM_ERROR_NET, RESTART,
                SPEC_FLAG("gateway", 0, "ADDRESS")),
    SPEC_STRING(N, gateway6, "gateway6", "mode bridge: the IPv6 router there.", .max = 45,
                .rule = spec_rule_ip6, .code = VM_ERROR_NET, RESTART,
                SPEC_FLAG("gateway6", 0, "ADDRESS")),
    SPEC_STRING(N, domain, "domain",
                "Domain of the machines' names; short names resolve with and without it.",
                .max = 190, .rule = spec_rule_hostname, .code = VM_ERROR_NAME, .is_lower = true,
                RESTART, SPEC_FLAG("domain", 0, "NAME")),
    SPEC_UINT(N, mtu, "mtu", "Largest packet; IPv6 needs 1280.", .min = 68, .max = 65535,
              .default_doc = "1500; mode bridge: the bridge's own", RESTART,
              SPEC_FLAG("mtu", 0, "BYTES")),
    SPEC_BOOL_VALUE(N, has_dhcp, "dhcp", "A DHCP server for guests without cloud-init.",
                    .default_text = "true", .default_doc = "`true`; mode bridge: none of ours",
                    RESTART, SPEC_FLAG("dhcp", 0, "BOOL")),
    SPEC_STRING(N, dhcp_range, "dhcp_range",
                "FIRST-LAST: what addresses are chosen from that are not fixed.", .max = 31,
                .rule = spec_rule_ip_range, .code = VM_ERROR_NET,
                .default_doc = "the whole network", RESTART,
                SPEC_FLAG("dhcp-range", 0, "FIRST-LAST")),
    SPEC_BOOL_VALUE(N, has_dns, "dns",
                    "A DNS server: the machines' names, and the rest from upstream.",
                    .default_text = "true", .default_doc = "`true`; mode bridge: none of ours",
                    RESTART, SPEC_FLAG("dns", 0, "BOOL")),
    SPEC_STRINGS(N, dns_servers, "dns_servers", "Upstream DNS servers.", .max = 45, .max_items = 8,
                 .rule = spec_rule_server, .code = VM_ERROR_NET, .default_doc = "those of the host",
                 RESTART, SPEC_FLAG("dns-server", 0, "ADDRESS")),
    SPEC_PORT_RANGE_ROW(N, "Where host ports come from that are `auto`.", SPEC_CHANGE_LIVE,
                        .default_text = "20000-29999"),
    SPEC_EGRESS_ROWS(N, spec_network_table, SPEC_CHANGE_LIVE),
    SPEC_BOOL(N, is_kept, "keep", "It stays up when its last machine is gone.",
              .default_text = "false", .change = SPEC_CHANGE_LIVE),
    SPEC_LATER("forward", "Ports of the network as a whole."),
    SPEC_LATER("lifecycle", "Guards against losing it."),
};
const SpecTable spec_network_table = TABLE(network_rows);

static void *make_network(void)
{
    return spec_network_new();
}

static void free_network(void *object)
{
    spec_network_free(object);
}

const SpecObjectType spec_network_object = {
    .noun = "network",
    .table = &spec_network_table,
    .name_offset = offsetof(NetworkSpec, name),
    .origins_offset = offsetof(NetworkSpec, origins),
    .pos_offset = offsetof(NetworkSpec, pos),
    .make = make_network,
    .free = free_network,
};
