#include "net/network_internal.h"

#include <fcntl.h>
#include <string.h>
#include "base/error.h"
#include "base/file.h"
#include "net/json.h"

enum { RECORD_VERSION = 1, RECORD_MAX_BYTES = 4 * 1024 * 1024 };

NetRecord *net_record_new(void)
{
    NetRecord *record = g_new0(NetRecord, 1);
    record->dns_servers = g_ptr_array_new_with_free_func(g_free);
    record->egress.allow = g_ptr_array_new();
    record->egress.deny = g_ptr_array_new();
    return record;
}

void net_record_free(NetRecord *record)
{
    if (!record) {
        return;
    }
    g_free(record->name);
    g_free(record->bridge);
    g_free(record->domain);
    g_ptr_array_unref(record->dns_servers);
    spec_egress_clear(&record->egress);
    g_free(record);
}

bool net_record_is_ours(const NetRecord *record)
{
    return record->mode != SPEC_NET_MODE_BRIDGE;
}

char *net_record_to_json(const NetRecord *record)
{
    json_t *object = json_pack(
        "{s:i, s:s, s:s, s:s, s:s?, s:o, s:o, s:o, s:o, s:I, s:b, s:b, s:b, s:o, s:o, s:i, s:i, "
        "s:o}",
        "v", RECORD_VERSION, "name", record->name, "mode", spec_net_mode_name(record->mode),
        "bridge", record->bridge, "domain", record->domain, "cidr4", net_json_cidr(&record->cidr4),
        "cidr6", net_json_cidr(&record->cidr6), "gateway4", net_json_ip(&record->gateway4),
        "gateway6", net_json_ip(&record->gateway6), "mtu", (json_int_t)record->mtu, "dhcp",
        record->has_dhcp, "dns", record->has_dns, "kept", record->is_kept, "range_first",
        net_json_ip(&record->range_first), "range_last", net_json_ip(&record->range_last),
        "port_first", (int)record->port_first, "port_last", (int)record->port_last, "egress",
        net_json_egress(&record->egress));
    json_t *servers = json_array();
    for (guint i = 0; i < record->dns_servers->len; i++) {
        json_array_append_new(servers, json_string(record->dns_servers->pdata[i]));
    }
    json_object_set_new(object, "dns_servers", servers);
    return net_json_to_text(object);
}

static bool read_mode(const json_t *object, SpecNetMode *out)
{
    const char *text = json_string_value(json_object_get(object, "mode"));
    for (int mode = 0; text && mode < SPEC_NET_MODE_N; mode++) {
        if (!strcmp(text, spec_net_mode_name((SpecNetMode)mode))) {
            *out = (SpecNetMode)mode;
            return true;
        }
    }
    return false;
}

static bool read_servers(const json_t *object, GPtrArray *servers)
{
    const json_t *array = json_object_get(object, "dns_servers");
    for (size_t i = 0; i < json_array_size(array); i++) {
        BaseIp ip;
        const char *text = json_string_value(json_array_get(array, i));
        if (!text || !base_ip_parse(text, &ip)) {
            return false;
        }
        g_ptr_array_add(servers, g_strdup(text));
    }
    return true;
}

static bool read_numbers(const json_t *object, NetRecord *record)
{
    uint64_t mtu = 0, first = 0, last = 0;
    bool is_good = net_json_get_number(object, "mtu", 65535, &mtu) &&
                   net_json_get_number(object, "port_first", UINT16_MAX, &first) &&
                   net_json_get_number(object, "port_last", UINT16_MAX, &last);
    record->mtu = (uint32_t)mtu;
    record->port_first = (uint16_t)first;
    record->port_last = (uint16_t)last;
    return is_good;
}

static bool read_record(const json_t *object, NetRecord *record)
{
    return json_integer_value(json_object_get(object, "v")) == RECORD_VERSION &&
           net_json_get_text(object, "name", &record->name) && record->name &&
           net_json_get_text(object, "bridge", &record->bridge) && record->bridge &&
           net_json_get_text(object, "domain", &record->domain) &&
           read_mode(object, &record->mode) && net_json_get_cidr(object, "cidr4", &record->cidr4) &&
           net_json_get_cidr(object, "cidr6", &record->cidr6) &&
           net_json_get_ip(object, "gateway4", &record->gateway4) &&
           net_json_get_ip(object, "gateway6", &record->gateway6) &&
           net_json_get_ip(object, "range_first", &record->range_first) &&
           net_json_get_ip(object, "range_last", &record->range_last) &&
           net_json_get_bool(object, "dhcp", &record->has_dhcp) &&
           net_json_get_bool(object, "dns", &record->has_dns) &&
           net_json_get_bool(object, "kept", &record->is_kept) && read_numbers(object, record) &&
           net_json_get_egress(object, "egress", &record->egress) &&
           read_servers(object, record->dns_servers);
}

NetRecord *net_record_from_json(const char *json, const char *name, GError **error)
{
    json_error_t problem;
    json_t *object = json_loads(json, JSON_REJECT_DUPLICATES, &problem);
    g_autoptr(NetRecord) record = net_record_new();
    bool is_good =
        json_is_object(object) && read_record(object, record) && !strcmp(record->name, name);
    if (!is_good) {
        base_fail(error, VM_ERROR_STATE, "record of network '%s' is damaged: %s - see 'vm-run gc'",
                  name, object ? "a member is missing or malformed" : problem.text);
    }
    json_decref(object);
    return is_good ? g_steal_pointer(&record) : NULL;
}

NetRecord *net_record_load(NetStore *store, const char *name, GError **error)
{
    g_autofree char *path = g_build_filename(name, NET_RECORD_FILE, NULL);
    g_autoptr(GError) problem = NULL;
    g_autofree char *text =
        base_file_read(store->networks_fd, path, RECORD_MAX_BYTES, NULL, &problem);
    if (!text && g_error_matches(problem, VM_ERROR, VM_ERROR_NOT_FOUND)) {
        base_fail(error, VM_ERROR_NOT_FOUND, "there is no network '%s' - see 'vm-run network ls'",
                  name);
        return NULL;
    }
    if (!text) {
        g_propagate_prefixed_error(error, g_steal_pointer(&problem), "network '%s': ", name);
        return NULL;
    }
    return net_record_from_json(text, name, error);
}

bool net_record_save(const NetRecord *record, int dirfd, GError **error)
{
    g_autofree char *text = net_record_to_json(record);
    return base_file_write_atomic(dirfd, NET_RECORD_FILE, text, strlen(text), 0600, error);
}
