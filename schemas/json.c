#include <jansson.h>
#include <limits.h>
#include <string.h>
#include "schemas/read.h"
#include "schemas/write.h"

/*
 * How it works: {"format": 1, "spec": {...}, "origins": {PATH: [FILE, LINE, COLUMN], ...}}. "spec"
 * is what the writer makes of the table, so the reader takes it back. Positions are not in it: each
 * node is given the origin of its path before it is read, which puts them back where they were.
 */
enum { JSON_FORMAT = 1 };

static json_t *json_of(const SpecNode *node)
{
    if (node->kind == SPEC_NODE_LIST) {
        json_t *list = json_array();
        for (unsigned i = 0; i < spec_node_n(node); i++) {
            json_array_append_new(list, json_of(spec_node_item(node, i)));
        }
        return list;
    }
    if (node->kind == SPEC_NODE_MAP) {
        json_t *map = json_object();
        for (unsigned i = 0; i < spec_node_n(node); i++) {
            json_object_set_new(map, spec_node_key(node, i)->text,
                                json_of(spec_node_item(node, i)));
        }
        return map;
    }
    if (!node->is_plain) {
        return json_stringn(node->text, node->n_bytes);
    }
    bool is_true = g_str_equal(node->text, "true");
    return is_true || g_str_equal(node->text, "false")
               ? json_boolean(is_true)
               : json_integer((json_int_t)g_ascii_strtoull(node->text, NULL, 10));
}

static json_t *json_of_origins(GHashTable *origins)
{
    json_t *map = json_object();
    g_autoptr(GList) paths = g_list_sort(g_hash_table_get_keys(origins), (GCompareFunc)strcmp);
    for (const GList *path = paths; path; path = path->next) {
        const BasePos *pos = g_hash_table_lookup(origins, path->data);
        json_t *file = pos->file && g_utf8_validate(pos->file, -1, NULL) ? json_string(pos->file)
                                                                         : json_null();
        json_object_set_new(map, path->data,
                            json_pack("[o, i, i]", file, (int)pos->line, (int)pos->col));
    }
    return map;
}

/* A machine or network of `type`. */
static json_t *json_of_object(const SpecObjectType *type, const void *object)
{
    SpecWriter writer = {.with_secrets = true, .is_record = true};
    g_autoptr(SpecNode) tree = spec_write_table(&writer, type->table, "", object);
    GHashTable *origins =
        *(GHashTable *const *)(const void *)((const char *)object + type->origins_offset);
    return json_pack("{s:i, s:o, s:o}", "format", JSON_FORMAT, "spec", json_of(tree), "origins",
                     json_of_origins(origins));
}

static char *dump(json_t *root)
{
    char *dumped = json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS);
    char *text = g_strdup(dumped);
    free(dumped);
    json_decref(root);
    return text;
}

char *spec_network_to_json(const NetworkSpec *spec)
{
    return dump(json_of_object(&spec_network_object, spec));
}

char *spec_machine_to_json(const MachineSpec *spec)
{
    json_t *root = json_of_object(&spec_machine_object, spec);
    json_t *networks = json_array();
    for (unsigned i = 0; i < spec->network_specs->len; i++) {
        json_array_append_new(networks, json_of_object(&spec_network_object,
                                                       g_ptr_array_index(spec->network_specs, i)));
    }
    if (json_array_size(networks) > 0) {
        json_object_set(root, "networks", networks);
    }
    json_decref(networks);
    return dump(root);
}

/* [FILE or null, LINE, COLUMN]; the file is borrowed from it. */
static bool read_pos(const json_t *json, BasePos *out)
{
    json_int_t line = json_integer_value(json_array_get(json, 1));
    json_int_t col = json_integer_value(json_array_get(json, 2));
    if (json_array_size(json) != 3 || line < 0 || line > INT_MAX || col < 0 || col > INT_MAX) {
        return false;
    }
    const char *file = json_string_value(json_array_get(json, 0));
    *out = (BasePos){(char *)file, (unsigned)line, (unsigned)col};
    return true;
}

/* origins: of the record; the nodes' files are borrowed from it. */
static SpecNode *node_of(const json_t *json, const char *path, const json_t *origins)
{
    SpecNode *node = NULL;
    size_t i;
    json_t *item;
    const char *key;
    if (json_is_array(json)) {
        node = spec_node_new(SPEC_NODE_LIST);
        json_array_foreach(json, i, item)
        {
            g_autofree char *full = g_strdup_printf("%s[%zu]", path, i);
            spec_node_append(node, node_of(item, full, origins));
        }
    } else if (json_is_object(json)) {
        node = spec_node_new(SPEC_NODE_MAP);
        json_object_foreach((json_t *)json, key, item)
        {
            g_autofree char *full = *path ? g_strdup_printf("%s.%s", path, key) : g_strdup(key);
            spec_node_put_key(node, key, node_of(item, full, origins));
        }
    } else if (json_is_string(json)) {
        node = spec_node_new_scalar(json_string_value(json), json_string_length(json), false);
    } else {
        g_autofree char *text =
            json_is_boolean(json)
                ? g_strdup(json_is_true(json) ? "true" : "false")
                : g_strdup_printf("%" JSON_INTEGER_FORMAT, json_integer_value(json));
        node = spec_node_new_scalar(text, strlen(text), true);
    }
    BasePos pos = {NULL, 0, 0};
    if (read_pos(json_object_get(origins, path), &pos)) {
        node->file = pos.file;
        node->line = pos.line;
        node->col = pos.col;
    }
    return node;
}

static bool read_origins(const json_t *origins, GHashTable *out)
{
    const char *path;
    json_t *value;
    json_object_foreach((json_t *)origins, path, value)
    {
        BasePos pos;
        if (!read_pos(value, &pos)) {
            return false;
        }
        spec_origin_keep(out, path, &pos);
    }
    return true;
}

/* Into `object`, which is new. */
static bool read_object(const SpecObjectType *type, const json_t *root, void *object,
                        GError **error)
{
    const json_t *spec = json_object_get(root, "spec");
    const json_t *origins = json_object_get(root, "origins");
    if (json_integer_value(json_object_get(root, "format")) != JSON_FORMAT) {
        return base_fail(error, VM_ERROR_STATE, "the record of a %s has a format that is not known",
                         type->noun);
    }
    if (!json_is_object(spec) || !json_is_object(origins)) {
        return base_fail(error, VM_ERROR_STATE, "the record of a %s is damaged", type->noun);
    }
    g_autoptr(BaseReport) report = base_report_new();
    g_autoptr(SpecNode) tree = node_of(spec, "", origins);
    SpecReader reader = {.report = report, .is_record = true};
    g_autoptr(GError) first = NULL;
    spec_read_map(&reader, type->table, "", tree, "", object);
    GHashTable *out = *(GHashTable **)(void *)((char *)object + type->origins_offset);
    if (!read_origins(origins, out)) {
        return base_fail(error, VM_ERROR_STATE, "the record of a %s has damaged positions",
                         type->noun);
    }
    if (!base_report_check(report, &first)) {
        return base_fail(error, VM_ERROR_STATE, "the record of a %s is damaged: %s", type->noun,
                         first->message);
    }
    return true;
}

static NetworkSpec *network_of(const json_t *root, GError **error)
{
    g_autoptr(NetworkSpec) spec = spec_network_new();
    if (!read_object(&spec_network_object, root, spec, error)) {
        return NULL;
    }
    const BasePos *pos = spec_network_origin(spec, "name");
    if (pos) {
        spec->pos = base_pos_copy(pos);
    }
    return g_steal_pointer(&spec);
}

static bool read_networks(const json_t *list, GPtrArray *out, GError **error)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        NetworkSpec *spec = network_of(item, error);
        if (!spec) {
            return false;
        }
        g_ptr_array_add(out, spec);
    }
    return !list || json_is_array(list)
               ? true
               : base_fail(error, VM_ERROR_STATE, "the record of a machine is damaged");
}

static json_t *load(const char *json, const char *noun, GError **error)
{
    json_error_t where;
    json_t *root = json_loads(json, JSON_REJECT_DUPLICATES, &where);
    if (!root) {
        base_fail(error, VM_ERROR_STATE, "the record of a %s is damaged: %s", noun, where.text);
    }
    return root;
}

NetworkSpec *spec_network_from_json(const char *json, GError **error)
{
    json_t *root = load(json, "network", error);
    NetworkSpec *spec = root ? network_of(root, error) : NULL;
    json_decref(root);
    return spec;
}

MachineSpec *spec_machine_from_json(const char *json, GError **error)
{
    json_t *root = load(json, "machine", error);
    g_autoptr(MachineSpec) spec = spec_machine_new();
    bool is_read = root && read_object(&spec_machine_object, root, spec, error) &&
                   read_networks(json_object_get(root, "networks"), spec->network_specs, error);
    json_decref(root);
    return is_read ? g_steal_pointer(&spec) : NULL;
}
