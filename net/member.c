#include "net/member.h"

#include <string.h>
#include "base/error.h"
#include "net/json.h"

enum { MEMBER_VERSION = 1, MEMBER_MAX_PORTS = 65536, MEMBER_MAX_QUEUES = 256 };

/* The members that are texts, by name. */
static const struct {
    const char *key;
    size_t offset;
    bool is_needed;
} texts[] = {
    {"owner", offsetof(NetMember, owner), true},
    {"machine", offsetof(NetMember, machine), false},
    {"hostname", offsetof(NetMember, hostname), false},
    {"network", offsetof(NetMember, network), false},
    {"bridge", offsetof(NetMember, bridge), false},
    {"tap", offsetof(NetMember, tap), false},
    {"tap_tag", offsetof(NetMember, tap_tag), false},
};

static char **text_of(const NetMember *member, size_t row)
{
    return (char **)((char *)member + texts[row].offset);
}

static void egress_init(SpecEgress *egress)
{
    egress->allow = g_ptr_array_new();
    egress->deny = g_ptr_array_new();
}

NetMember *net_member_new(void)
{
    NetMember *member = g_new0(NetMember, 1);
    member->ports = g_ptr_array_new_with_free_func(g_free);
    member->n_queues = 1;
    egress_init(&member->egress);
    egress_init(&member->net_egress);
    return member;
}

void net_member_free(NetMember *member)
{
    if (!member) {
        return;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_free(*text_of(member, i));
    }
    g_clear_pointer(&member->ports, g_ptr_array_unref);
    spec_egress_clear(&member->egress);
    spec_egress_clear(&member->net_egress);
    g_free(member);
}

NetMember *net_member_copy(const NetMember *member)
{
    g_autofree char *json = net_member_to_json(member);
    NetMember *copy = net_member_from_json(json, NULL);
    g_assert(copy);
    return copy;
}

static json_t *port_to_json(const NetPortMap *port)
{
    return json_pack("{s:s, s:o, s:i, s:o, s:i}", "proto", port->is_udp ? "udp" : "tcp", "host",
                     net_json_ip(&port->host), "host_port", (int)port->host_port, "guest",
                     net_json_ip(&port->guest), "guest_port", (int)port->guest_port);
}

char *net_member_to_json(const NetMember *member)
{
    json_t *object = json_object();
    json_object_set_new(object, "v", json_integer(MEMBER_VERSION));
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        const char *text = *text_of(member, i);
        if (text) {
            json_object_set_new(object, texts[i].key, json_string(text));
        }
    }
    json_object_set_new(object, "mac", net_json_mac(member->mac));
    json_object_set_new(object, "ip4", net_json_ip(&member->ip4));
    json_object_set_new(object, "ip6", net_json_ip(&member->ip6));
    json_object_set_new(object, "cidr4", net_json_cidr(&member->cidr4));
    json_object_set_new(object, "cidr6", net_json_cidr(&member->cidr6));
    json_object_set_new(object, "ip4_fixed", json_boolean(member->is_ip4_fixed));
    json_object_set_new(object, "ip6_fixed", json_boolean(member->is_ip6_fixed));
    json_object_set_new(object, "up", json_boolean(member->is_up));
    json_object_set_new(object, "link_down", json_boolean(member->is_link_down));
    json_object_set_new(object, "rate_in_bps", json_integer((json_int_t)member->rate_in_bps));
    json_object_set_new(object, "rate_out_bps", json_integer((json_int_t)member->rate_out_bps));
    json_object_set_new(object, "queues", json_integer(member->n_queues));
    json_t *ports = json_array();
    for (guint i = 0; i < member->ports->len; i++) {
        json_array_append_new(ports, port_to_json(member->ports->pdata[i]));
    }
    json_object_set_new(object, "ports", ports);
    json_object_set_new(object, "egress", net_json_egress(&member->egress));
    json_object_set_new(object, "net_egress", net_json_egress(&member->net_egress));
    return net_json_to_text(object);
}

static bool read_port(const json_t *object, NetPortMap *out)
{
    const char *proto = json_string_value(json_object_get(object, "proto"));
    uint64_t host_port = 0, guest_port = 0;
    bool is_good = proto && (!strcmp(proto, "udp") || !strcmp(proto, "tcp")) &&
                   net_json_get_ip(object, "host", &out->host) &&
                   net_json_get_ip(object, "guest", &out->guest) &&
                   net_json_get_number(object, "host_port", UINT16_MAX, &host_port) &&
                   net_json_get_number(object, "guest_port", UINT16_MAX, &guest_port);
    out->is_udp = is_good && !strcmp(proto, "udp");
    out->host_port = (uint16_t)host_port;
    out->guest_port = (uint16_t)guest_port;
    return is_good;
}

static bool read_ports(const json_t *object, GPtrArray *ports)
{
    const json_t *array = json_object_get(object, "ports");
    size_t n = json_array_size(array);
    if (!json_is_array(array) || n > MEMBER_MAX_PORTS) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        NetPortMap port = {0};
        if (!read_port(json_array_get(array, i), &port)) {
            return false;
        }
        g_ptr_array_add(ports, g_memdup2(&port, sizeof port));
    }
    return true;
}

static bool read_texts(const json_t *object, NetMember *member)
{
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        if (!net_json_get_text(object, texts[i].key, text_of(member, i)) ||
            (texts[i].is_needed && !*text_of(member, i))) {
            return false;
        }
    }
    return true;
}

static bool read_rest(const json_t *object, NetMember *member)
{
    uint64_t n_queues = 0;
    bool is_good = net_json_get_mac(object, "mac", member->mac) &&
                   net_json_get_ip(object, "ip4", &member->ip4) &&
                   net_json_get_ip(object, "ip6", &member->ip6) && member->ip4.n_bytes != 16 &&
                   member->ip6.n_bytes != 4 && net_json_get_cidr(object, "cidr4", &member->cidr4) &&
                   net_json_get_cidr(object, "cidr6", &member->cidr6) &&
                   net_json_get_bool(object, "ip4_fixed", &member->is_ip4_fixed) &&
                   net_json_get_bool(object, "ip6_fixed", &member->is_ip6_fixed) &&
                   net_json_get_bool(object, "up", &member->is_up) &&
                   net_json_get_bool(object, "link_down", &member->is_link_down) &&
                   net_json_get_number(object, "rate_in_bps", INT64_MAX, &member->rate_in_bps) &&
                   net_json_get_number(object, "rate_out_bps", INT64_MAX, &member->rate_out_bps) &&
                   net_json_get_number(object, "queues", MEMBER_MAX_QUEUES, &n_queues) &&
                   net_json_get_egress(object, "egress", &member->egress) &&
                   net_json_get_egress(object, "net_egress", &member->net_egress);
    member->n_queues = (unsigned)n_queues;
    return is_good;
}

NetMember *net_member_from_json(const char *json, GError **error)
{
    json_error_t problem;
    json_t *object = json_loads(json, JSON_REJECT_DUPLICATES, &problem);
    g_autoptr(NetMember) member = net_member_new();
    bool is_good = json_is_object(object) &&
                   json_integer_value(json_object_get(object, "v")) == MEMBER_VERSION &&
                   read_texts(object, member) && read_rest(object, member) &&
                   read_ports(object, member->ports);
    const char *what = object ? "a member is missing or malformed" : problem.text;
    if (!is_good) {
        base_fail(error, VM_ERROR_STATE, "record of a network's member is damaged: %s", what);
    }
    json_decref(object);
    return is_good ? g_steal_pointer(&member) : NULL;
}
