#include "driver/virt_network.h"

#include "base/error.h"
#include "driver/virt_ops.h"

void virt_network_free(VirtNetwork *network)
{
    if (network) {
        g_free(network->name);
        g_free(network->uuid);
        g_free(network->bridge);
        g_free(network->domain);
        g_free(network);
    }
}

static char *text_of(json_t *object, const char *key)
{
    return g_strdup(json_string_value(json_object_get(object, key)));
}

static void cidr_of(json_t *object, const char *key, BaseCidr *out)
{
    const char *text = json_string_value(json_object_get(object, key)), *why = NULL;
    if (text && !base_cidr_parse(text, out, &why)) {
        *out = (BaseCidr){0};
    }
}

static void ip_of(json_t *object, const char *key, BaseIp *out)
{
    const char *text = json_string_value(json_object_get(object, key));
    if (!text || !base_ip_parse(text, out)) {
        *out = (BaseIp){0};
    }
}

VirtNetwork *virt_network_by_bridge(VirtConn *conn, const char *bridge, GError **error)
{
    VirtConn *asked = virt_network_conn(conn, error);
    json_t *object =
        asked ? virt_call(asked, VIRT_OP_NETWORK_BY_BRIDGE, &(VirtArgs){.text = bridge}, error)
              : NULL;
    VirtNetwork *network = NULL;
    if (json_is_object(object)) {
        network = g_new0(VirtNetwork, 1);
        network->name = text_of(object, "name");
        network->uuid = text_of(object, "uuid");
        network->bridge = text_of(object, "bridge");
        network->domain = text_of(object, "domain");
        network->is_active = json_is_true(json_object_get(object, "is_active"));
        network->has_dhcp = json_is_true(json_object_get(object, "has_dhcp"));
        cidr_of(object, "cidr4", &network->cidr4);
        cidr_of(object, "cidr6", &network->cidr6);
    }
    json_decref(object);
    return network;
}

/* Asks with the reservation as text; NULL and an error. */
static json_t *call(VirtConn *conn, VirtOp op, const VirtReservation *wish, GError **error)
{
    char ip[BASE_IP_TEXT_BYTES];
    g_autoptr(GError) cause = NULL;
    bool has_ip = base_ip_is_set(&wish->ip);
    VirtConn *asked = virt_network_conn(conn, &cause);
    if (!asked && !cause) {
        base_fail(&cause, VM_ERROR_HOST,
                  "cannot ask for network '%s': no libvirtd answers in this network namespace",
                  wish->network);
    }
    if (!asked) {
        g_propagate_error(error, g_steal_pointer(&cause));
        return NULL;
    }
    json_t *json =
        json_pack("{s:s, s:s, s:s*, s:s*}", "network", wish->network, "mac", wish->mac, "ip",
                  has_ip ? base_ip_format(&wish->ip, ip) : NULL, "hostname", wish->hostname);
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (!text) {
        base_fail(error, VM_ERROR_RANGE, "a text for libvirt is not UTF-8");
        return NULL;
    }
    json_t *answer = virt_call(asked, op, &(VirtArgs){.text = text}, error);
    free(text);
    return answer;
}

bool virt_network_reserve(VirtConn *conn, const VirtReservation *reservation, BaseIp *out_ip,
                          GError **error)
{
    json_t *answer = call(conn, VIRT_OP_NETWORK_RESERVE, reservation, error);
    bool is_ok = answer && base_ip_parse(json_string_value(answer), out_ip);
    if (answer && !is_ok) {
        base_fail(error, VM_ERROR_INTERNAL, "libvirt's answer to %s is no address",
                  virt_op_name(VIRT_OP_NETWORK_RESERVE));
    }
    json_decref(answer);
    return is_ok;
}

bool virt_network_release(VirtConn *conn, const VirtReservation *reservation, GError **error)
{
    g_autoptr(GError) cause = NULL;
    json_t *answer = call(conn, VIRT_OP_NETWORK_RELEASE, reservation, &cause);
    bool is_ok = answer || g_error_matches(cause, VM_ERROR, VM_ERROR_NOT_FOUND);
    json_decref(answer);
    if (!is_ok) {
        g_propagate_error(error, g_steal_pointer(&cause));
    }
    return is_ok;
}

bool virt_network_lease(VirtConn *conn, const char *network, const char *mac, BaseIp *out_ip4,
                        BaseIp *out_ip6, GError **error)
{
    VirtReservation wish = {.network = network, .mac = mac};
    json_t *answer = call(conn, VIRT_OP_NETWORK_LEASE, &wish, error);
    if (!answer) {
        return false;
    }
    ip_of(answer, "ip4", out_ip4);
    ip_of(answer, "ip6", out_ip6);
    json_decref(answer);
    return true;
}
