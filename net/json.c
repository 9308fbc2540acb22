#include "net/json.h"

#include <string.h>

json_t *net_json_ip(const BaseIp *ip)
{
    char text[BASE_IP_TEXT_BYTES];
    return json_string(base_ip_format(ip, text));
}

json_t *net_json_cidr(const BaseCidr *cidr)
{
    char text[BASE_CIDR_TEXT_BYTES];
    return json_string(base_cidr_format(cidr, text));
}

json_t *net_json_mac(const uint8_t mac[6])
{
    char text[18];
    return json_string(base_mac_format(mac, text));
}

json_t *net_json_egress(const SpecEgress *egress)
{
    g_autofree char *text = spec_egress_to_json(egress);
    json_t *value = text ? json_loads(text, 0, NULL) : NULL;
    return value ? value : json_object();
}

bool net_json_get_text(const json_t *object, const char *key, char **out)
{
    const json_t *value = json_object_get(object, key);
    if (value && !json_is_string(value) && !json_is_null(value)) {
        return false;
    }
    const char *text = json_string_value(value);
    g_free(*out);
    *out = text && *text ? g_strdup(text) : NULL;
    return true;
}

bool net_json_get_ip(const json_t *object, const char *key, BaseIp *out)
{
    g_autofree char *text = NULL;
    *out = (BaseIp){0};
    return net_json_get_text(object, key, &text) && (!text || base_ip_parse(text, out));
}

bool net_json_get_cidr(const json_t *object, const char *key, BaseCidr *out)
{
    g_autofree char *text = NULL;
    const char *why = NULL;
    *out = (BaseCidr){0};
    return net_json_get_text(object, key, &text) && (!text || base_cidr_parse(text, out, &why));
}

bool net_json_get_mac(const json_t *object, const char *key, uint8_t out[6])
{
    g_autofree char *text = NULL;
    memset(out, 0, 6);
    return net_json_get_text(object, key, &text) && (!text || base_mac_parse(text, out));
}

bool net_json_get_egress(const json_t *object, const char *key, SpecEgress *out)
{
    const json_t *value = json_object_get(object, key);
    char *dumped = json_is_object(value) ? json_dumps(value, JSON_COMPACT) : NULL;
    SpecEgress egress;
    bool is_good = dumped && spec_egress_from_json(dumped, &egress, NULL);
    free(dumped);
    if (is_good) {
        spec_egress_clear(out);
        *out = egress;
    }
    return is_good;
}

bool net_json_get_bool(const json_t *object, const char *key, bool *out)
{
    const json_t *value = json_object_get(object, key);
    *out = json_is_true(value);
    return !value || json_is_boolean(value);
}

bool net_json_get_number(const json_t *object, const char *key, uint64_t max, uint64_t *out)
{
    const json_t *value = json_object_get(object, key);
    json_int_t number = json_integer_value(value);
    *out = 0;
    if (value && (!json_is_integer(value) || number < 0 || (uint64_t)number > max)) {
        return false;
    }
    *out = (uint64_t)number;
    return true;
}

char *net_json_to_text(json_t *object)
{
    char *dumped = json_dumps(object, JSON_COMPACT);
    char *text = g_strdup(dumped);
    free(dumped);
    json_decref(object);
    return text;
}
