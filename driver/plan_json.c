#include "driver/plan_internal.h"

#include <jansson.h>
#include <string.h>

#define RECORD_VERSION 1

/*
 * The record: a plan as JSON. Each struct has one table of members; writing and reading walk it.
 */
typedef enum { FIELD_STRING, FIELD_U64, FIELD_UINT, FIELD_U16, FIELD_BOOL, FIELD_LIST } FieldKind;

typedef struct {
    const char *key;
    FieldKind kind;
    size_t offset;
    bool is_later; /* not in records of the first version 1: absent is zero */
} Field;

#define FIELD(type, member, kind)                                                                  \
    {                                                                                              \
#member, kind, offsetof(type, member), false                                               \
    }
#define LATER(type, member, kind)                                                                  \
    {                                                                                              \
#member, kind, offsetof(type, member), true                                                \
    }

static const Field plan_fields[] = {
    FIELD(MachinePlan, generation, FIELD_UINT),   FIELD(MachinePlan, instance_id, FIELD_STRING),
    FIELD(MachinePlan, uri, FIELD_STRING),        FIELD(MachinePlan, is_test_driver, FIELD_BOOL),
    FIELD(MachinePlan, dir, FIELD_STRING),        FIELD(MachinePlan, run_dir, FIELD_STRING),
    FIELD(MachinePlan, accel, FIELD_UINT),        FIELD(MachinePlan, emulator, FIELD_STRING),
    FIELD(MachinePlan, machine, FIELD_STRING),    FIELD(MachinePlan, cpu_mode, FIELD_STRING),
    FIELD(MachinePlan, cpu_model, FIELD_STRING),  FIELD(MachinePlan, cpus, FIELD_UINT),
    FIELD(MachinePlan, memory_bytes, FIELD_U64),  FIELD(MachinePlan, firmware, FIELD_UINT),
    FIELD(MachinePlan, uefi_code, FIELD_STRING),  FIELD(MachinePlan, uefi_vars, FIELD_STRING),
    FIELD(MachinePlan, has_console, FIELD_BOOL),  FIELD(MachinePlan, has_vnc, FIELD_BOOL),
    FIELD(MachinePlan, is_fd_mode, FIELD_BOOL),   FIELD(MachinePlan, qemu_uid, FIELD_UINT),
    FIELD(MachinePlan, qemu_gid, FIELD_UINT),     FIELD(MachinePlan, image, FIELD_STRING),
    FIELD(MachinePlan, hostname, FIELD_STRING),   FIELD(MachinePlan, login_user, FIELD_STRING),
    FIELD(MachinePlan, tcg_reason, FIELD_STRING), LATER(MachinePlan, net_reason, FIELD_STRING),
};

static const Field disk_fields[] = {
    FIELD(PlanDisk, name, FIELD_STRING),
    FIELD(PlanDisk, file, FIELD_STRING),
    FIELD(PlanDisk, target, FIELD_STRING),
    FIELD(PlanDisk, format, FIELD_UINT),
    FIELD(PlanDisk, virtual_bytes, FIELD_U64),
    FIELD(PlanDisk, is_readonly, FIELD_BOOL),
    FIELD(PlanDisk, is_copy, FIELD_BOOL),
    FIELD(PlanDisk, bus, FIELD_UINT),
    FIELD(PlanDisk, base_path, FIELD_STRING),
    FIELD(PlanDisk, base_format, FIELD_UINT),
    FIELD(PlanDisk, base_virtual_bytes, FIELD_U64),
    FIELD(PlanDisk, base_dev, FIELD_U64),
    FIELD(PlanDisk, base_ino, FIELD_U64),
    FIELD(PlanDisk, base_mtime_ns, FIELD_U64),
    FIELD(PlanDisk, base_file_bytes, FIELD_U64),
};

static const Field nic_fields[] = {
    FIELD(PlanNic, kind, FIELD_UINT),
    FIELD(PlanNic, mac, FIELD_STRING),
    FIELD(PlanNic, bridge, FIELD_STRING),
    FIELD(PlanNic, tap, FIELD_STRING),
    FIELD(PlanNic, tap_tag, FIELD_STRING),
    FIELD(PlanNic, netdev, FIELD_STRING),
    LATER(PlanNic, queues, FIELD_UINT),
    LATER(PlanNic, is_link_down, FIELD_BOOL),
    LATER(PlanNic, is_vhost, FIELD_BOOL),
    LATER(PlanNic, network, FIELD_STRING),
    LATER(PlanNic, libvirt_network, FIELD_STRING),
    LATER(PlanNic, ip4, FIELD_STRING),
    LATER(PlanNic, ip6, FIELD_STRING),
    LATER(PlanNic, prefix4, FIELD_UINT),
    LATER(PlanNic, prefix6, FIELD_UINT),
    LATER(PlanNic, gateway4, FIELD_STRING),
    LATER(PlanNic, gateway6, FIELD_STRING),
    LATER(PlanNic, nameservers, FIELD_LIST),
    LATER(PlanNic, domain, FIELD_STRING),
    LATER(PlanNic, mtu, FIELD_UINT),
    LATER(PlanNic, rate_in_bps, FIELD_U64),
    LATER(PlanNic, rate_out_bps, FIELD_U64),
    LATER(PlanNic, macvtap, FIELD_STRING),
    LATER(PlanNic, macvtap_mode, FIELD_UINT),
};

static const Field forward_fields[] = {
    FIELD(PlanForward, proto, FIELD_STRING),  FIELD(PlanForward, host_addr, FIELD_STRING),
    FIELD(PlanForward, host_port, FIELD_U16), FIELD(PlanForward, guest_port, FIELD_U16),
    FIELD(PlanForward, is_ssh, FIELD_BOOL),
};

static json_t *list_of_texts(char *const *texts)
{
    json_t *list = json_array();
    for (; texts && *texts; texts++) {
        json_array_append_new(list, json_string(*texts));
    }
    return list;
}

static json_t *field_to_json(const void *base, const Field *field)
{
    const void *at = (const char *)base + field->offset;
    switch (field->kind) {
    case FIELD_STRING: {
        const char *text = *(char *const *)at;
        return text ? json_string(text) : json_null();
    }
    case FIELD_U64:
        return json_integer((json_int_t) * (const uint64_t *)at);
    case FIELD_UINT:
        return json_integer(*(const unsigned *)at);
    case FIELD_U16:
        return json_integer(*(const uint16_t *)at);
    case FIELD_LIST:
        return list_of_texts(*(char *const *const *)at);
    default:
        return json_boolean(*(const bool *)at);
    }
}

/* Nothing that a reader would miss. */
static bool is_nothing(const json_t *value)
{
    return json_is_null(value) || json_is_false(value) ||
           (json_is_integer(value) && json_integer_value(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0);
}

static json_t *struct_to_json(const void *base, const Field *fields, size_t n)
{
    json_t *object = json_object();
    for (size_t i = 0; i < n; i++) {
        json_t *value = field_to_json(base, &fields[i]);
        if (!fields[i].is_later || !is_nothing(value)) {
            json_object_set(object, fields[i].key, value);
        }
        json_decref(value);
    }
    return object;
}

static json_t *list_to_json(const GPtrArray *list, const Field *fields, size_t n)
{
    json_t *array = json_array();
    for (unsigned i = 0; i < list->len; i++) {
        json_array_append_new(array, struct_to_json(g_ptr_array_index(list, i), fields, n));
    }
    return array;
}

char *machine_plan_to_json(const MachinePlan *plan)
{
    json_t *root = struct_to_json(plan, plan_fields, G_N_ELEMENTS(plan_fields));
    json_object_set_new(root, "v", json_integer(RECORD_VERSION));
    json_object_set_new(root, "name", json_string(plan->ident->name));
    json_object_set_new(root, "state_dir", json_string(plan->ident->state_dir));
    json_object_set_new(root, "uuid", json_string(plan->ident->uuid));
    json_object_set_new(root, "disks",
                        list_to_json(plan->disks, disk_fields, G_N_ELEMENTS(disk_fields)));
    json_object_set_new(root, "nics",
                        list_to_json(plan->nics, nic_fields, G_N_ELEMENTS(nic_fields)));
    json_object_set_new(root, "forwards",
                        list_to_json(plan->forwards, forward_fields, G_N_ELEMENTS(forward_fields)));
    json_t *tags = json_object();
    GHashTableIter iter;
    void *key, *value;
    g_hash_table_iter_init(&iter, plan->tags);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        json_object_set_new(tags, key, json_string(value));
    }
    json_object_set_new(root, "tags", tags);
    char *text = json_dumps(root, JSON_INDENT(1) | JSON_SORT_KEYS);
    json_decref(root);
    char *out = g_strdup(text);
    free(text);
    return out;
}

/* Every one a text; NULL for an empty list. */
static bool texts_from_json(const json_t *list, char ***out)
{
    g_autoptr(GPtrArray) texts = g_ptr_array_new_with_free_func(g_free);
    size_t i;
    json_t *text;
    json_array_foreach((json_t *)list, i, text)
    {
        if (!json_is_string(text)) {
            return false;
        }
        g_ptr_array_add(texts, g_strdup(json_string_value(text)));
    }
    if (texts->len) {
        g_ptr_array_add(texts, NULL);
        *out = (char **)g_ptr_array_free(g_steal_pointer(&texts), FALSE);
    }
    return json_is_array(list);
}

static bool field_from_json(void *base, const Field *field, const json_t *value)
{
    void *at = (char *)base + field->offset;
    switch (field->kind) {
    case FIELD_STRING:
        if (!json_is_string(value) && !json_is_null(value)) {
            return false;
        }
        *(char **)at = g_strdup(json_string_value(value));
        return true;
    case FIELD_BOOL:
        *(bool *)at = json_is_true(value);
        return json_is_boolean(value);
    case FIELD_U64:
        *(uint64_t *)at = (uint64_t)json_integer_value(value);
        return json_is_integer(value);
    case FIELD_LIST:
        return texts_from_json(value, at);
    case FIELD_U16:
        *(uint16_t *)at = (uint16_t)json_integer_value(value);
        return json_is_integer(value) && json_integer_value(value) >= 0 &&
               json_integer_value(value) <= UINT16_MAX;
    default:
        *(unsigned *)at = (unsigned)json_integer_value(value);
        return json_is_integer(value) && json_integer_value(value) >= 0 &&
               json_integer_value(value) <= UINT32_MAX;
    }
}

static const char *struct_from_json(void *base, const Field *fields, size_t n, const json_t *object)
{
    for (size_t i = 0; i < n; i++) {
        const json_t *value = json_object_get(object, fields[i].key);
        if (!value && fields[i].is_later) {
            continue;
        }
        if (!value || !field_from_json(base, &fields[i], value)) {
            return fields[i].key;
        }
    }
    return NULL;
}

static const char *list_from_json(GPtrArray *list, size_t size, const Field *fields, size_t n,
                                  const json_t *array)
{
    if (!json_is_array(array)) {
        return "disks, nics or forwards";
    }
    for (size_t i = 0; i < json_array_size(array); i++) {
        g_ptr_array_add(list, g_malloc0(size));
        const char *bad = struct_from_json(list->pdata[i], fields, n, json_array_get(array, i));
        if (bad) {
            return bad;
        }
    }
    return NULL;
}

/* A record decides what is removed, so a plan that is not whole and consistent is not used at all.
 */
static const char *plan_fill(MachinePlan *plan, const json_t *root)
{
    const char *name = json_string_value(json_object_get(root, "name"));
    const char *state_dir = json_string_value(json_object_get(root, "state_dir"));
    const char *uuid = json_string_value(json_object_get(root, "uuid"));
    if (json_integer_value(json_object_get(root, "v")) != RECORD_VERSION) {
        return "v (made by another version)";
    }
    if (!name || !state_dir || !uuid) {
        return "name";
    }
    plan->ident = machine_ident_new(state_dir, name);
    if (strcmp(plan->ident->uuid, uuid) != 0) {
        return "uuid (not that of the name)";
    }
    const char *bad = struct_from_json(plan, plan_fields, G_N_ELEMENTS(plan_fields), root);
    bad = bad ? bad
              : list_from_json(plan->disks, sizeof(PlanDisk), disk_fields,
                               G_N_ELEMENTS(disk_fields), json_object_get(root, "disks"));
    bad = bad ? bad
              : list_from_json(plan->nics, sizeof(PlanNic), nic_fields, G_N_ELEMENTS(nic_fields),
                               json_object_get(root, "nics"));
    bad = bad ? bad
              : list_from_json(plan->forwards, sizeof(PlanForward), forward_fields,
                               G_N_ELEMENTS(forward_fields), json_object_get(root, "forwards"));
    if (!bad && (!plan->dir || !plan->run_dir || !plan->uri || !plan->disks->len)) {
        bad = "dir";
    }
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(root, "tags"), key, value)
    {
        if (json_is_string(value)) {
            g_hash_table_insert(plan->tags, g_strdup(key), g_strdup(json_string_value(value)));
        }
    }
    return bad;
}

MachinePlan *machine_plan_from_json(const char *json, GError **error)
{
    json_error_t at;
    json_t *root = json_loads(json, JSON_REJECT_DUPLICATES, &at);
    g_autoptr(MachinePlan) plan = machine_plan_new();
    const char *bad = root ? plan_fill(plan, root) : at.text;
    if (bad) {
        base_fail(error, VM_ERROR_STATE,
                  "record.json is damaged or foreign (%s) - `vm-run gc` shows what can be done",
                  bad);
        json_decref(root);
        return NULL;
    }
    json_decref(root);
    machine_plan_list_steps(plan);
    return g_steal_pointer(&plan);
}
