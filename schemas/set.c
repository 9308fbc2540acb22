#include <string.h>
#include "schemas/read.h"
#include "schemas/yaml.h"

static bool is_structured(SpecKind kind)
{
    return kind == SPEC_KIND_SOURCE || kind == SPEC_KIND_STRINGS || kind == SPEC_KIND_WORDS ||
           kind == SPEC_KIND_MAP || kind == SPEC_KIND_RECORDS || kind == SPEC_KIND_GROUP;
}

/* What a number, word or boolean is read from; for a text "null" and nothing are texts too. */
static SpecNode *scalar_node(const SpecOption *option, const char *text, const char *shown)
{
    bool is_text = option->kind == SPEC_KIND_STRING || option->kind == SPEC_KIND_TEXT ||
                   option->kind == SPEC_KIND_SOURCE || option->kind == SPEC_KIND_STRINGS ||
                   option->kind == SPEC_KIND_MAP || option->kind == SPEC_KIND_RECORDS;
    SpecNode *node = spec_node_new_scalar(text, strlen(text), !is_text);
    node->file = shown;
    return node;
}

/* name=value; NULL: reported. */
static SpecNode *pair_node(const SpecOption *option, const char *text, const char *shown,
                           BaseReport *report)
{
    const char *equals = strchr(text, '=');
    if (!equals) {
        BasePos pos = {(char *)shown, 0, 0};
        base_report_error(report, VM_ERROR_SCHEMA, &pos, "write NAME=VALUE", "%s: '%s' has no '='",
                          option->info.path, text);
        return NULL;
    }
    SpecNode *map = spec_node_new(SPEC_NODE_MAP);
    SpecNode *key = spec_node_new_scalar(text, (size_t)(equals - text), false);
    map->file = key->file = shown;
    spec_node_put(map, key, scalar_node(option, equals + 1, shown));
    return map;
}

/* "[2001:db8::1]:80..." is an address in brackets, and no list. */
static bool is_address(const char *text)
{
    size_t n = *text == '[' ? strspn(text + 1, "0123456789ABCDEFabcdef:./") : 0;
    return n > 0 && text[n + 1] == ']' && (text[n + 2] == ':' || text[n + 2] == '/');
}

/* A YAML flow list or map where the kind allows one, NULL: it is none, or reported when only that
 * is possible. */
static SpecNode *flow_node(const SpecOption *option, const char *text, const char *shown,
                           BaseReport *report)
{
    g_autoptr(BaseReport) scratch = base_report_new();
    if (!is_structured(option->kind) || !strchr("[{", *text) || *text == '\0' ||
        (option->kind == SPEC_KIND_RECORDS && is_address(text))) {
        return NULL;
    }
    bool may_be_text = option->kind == SPEC_KIND_STRINGS;
    return spec_yaml_parse(text, strlen(text), shown, may_be_text ? scratch : report);
}

static SpecNode *node_of(const SpecOption *option, const char *text, const char *shown,
                         BaseReport *report)
{
    unsigned n_before = base_report_n_errors(report);
    SpecNode *flow = flow_node(option, text, shown, report);
    if (base_report_n_errors(report) > n_before) {
        spec_node_free(flow);
        return NULL;
    }
    bool is_list = option->info.is_list && option->kind != SPEC_KIND_MAP;
    if (flow && (!is_list || flow->kind == SPEC_NODE_LIST)) {
        return flow;
    }
    SpecNode *node = flow                            ? flow
                     : option->kind == SPEC_KIND_MAP ? pair_node(option, text, shown, report)
                                                     : scalar_node(option, text, shown);
    if (!is_list) {
        return node;
    }
    SpecNode *list = spec_node_new(SPEC_NODE_LIST);
    list->file = shown;
    spec_node_append(list, node);
    return list;
}

static void report_unknown(const SpecTable *table, const char *path, const BasePos *pos,
                           BaseReport *report)
{
    g_autofree const char **paths = g_new0(const char *, table->n_options + 1);
    for (unsigned i = 0; i < table->n_options; i++) {
        paths[i] = table->options[i].info.path;
    }
    const char *near = base_report_nearest(path, paths);
    g_autofree char *hint = near ? g_strdup_printf("did you mean '%s'?", near) : NULL;
    base_report_error(report, VM_ERROR_SCHEMA, pos, hint, "%s: unknown key", path);
}

bool spec_set(const SpecTarget *target, const char *path, const char *text, const char *shown,
              BaseReport *report)
{
    BasePos pos = {(char *)shown, 0, 0};
    unsigned n_before = base_report_n_errors(report);
    const SpecOption *option = spec_table_find(target->table, path);
    if (!option) {
        report_unknown(target->table, path, &pos, report);
        return false;
    }
    if (!g_utf8_validate(text, -1, NULL)) {
        base_report_error(report, VM_ERROR_YAML_ENC, &pos, NULL, "%s: the value is not UTF-8",
                          path);
        return false;
    }
    g_autoptr(SpecNode) node = node_of(option, text, shown, report);
    if (node) {
        g_autofree char *dir = g_get_current_dir();
        SpecReader reader = {
            .report = report, .text = text, .base_dir = dir, .origins = target->origins};
        spec_read_value(&reader, option, node, path, target->base);
    }
    return base_report_n_errors(report) == n_before;
}

bool spec_machine_set(MachineSpec *spec, const char *path, const char *text, const char *shown,
                      BaseReport *report)
{
    SpecTarget target = {&spec_machine_table, spec->origins, spec};
    return spec_set(&target, path, text, shown, report);
}

bool spec_network_set(NetworkSpec *spec, const char *path, const char *text, const char *shown,
                      BaseReport *report)
{
    SpecTarget target = {&spec_network_table, spec->origins, spec};
    return spec_set(&target, path, text, shown, report);
}
