#include <jansson.h>
#include <string.h>
#include "schemas/check_text.h"
#include "schemas/value.h"

/*
 * JSON Schema draft-07 of the spec file, from the same rows that read it. It says what an editor
 * can check; rules between fields and the state of the host remain to `vm-run check`. A row that is
 * not served yet is not in it, so an editor marks it as the program does.
 */
static json_t *schema_of_table(const SpecTable *table, const char *group);

static json_t *whole_pattern(const char *pattern)
{
    g_autofree char *whole = g_strdup_printf("^(%s)$", pattern);
    return json_string(whole);
}

static json_t *schema_text(const SpecOption *row)
{
    json_t *schema = json_pack("{s:s}", "type", "string");
    if (row->kind == SPEC_KIND_STRING) {
        json_object_set_new(schema, "minLength", json_integer(1));
    }
    if (row->max > 0) {
        json_object_set_new(schema, "maxLength", json_integer((json_int_t)row->max));
    }
    if (row->pattern && row->kind != SPEC_KIND_MAP) {
        json_object_set_new(schema, "pattern", whole_pattern(row->pattern));
    }
    return schema;
}

static json_t *schema_uint(const SpecOption *row)
{
    return json_pack("{s:s, s:I, s:I}", "type", "integer", "minimum", (json_int_t)row->min,
                     "maximum", (json_int_t)row->max);
}

static json_t *schema_measure(const SpecOption *row)
{
    const char *pattern = row->kind == SPEC_KIND_SIZE   ? SPEC_SIZE_PATTERN
                          : row->kind == SPEC_KIND_RATE ? SPEC_RATE_PATTERN
                                                        : SPEC_DURATION_PATTERN;
    return json_pack("{s:s, s:o}", "type", "string", "pattern", whole_pattern(pattern));
}

static json_t *schema_choice(const SpecOption *row)
{
    json_t *texts = json_array();
    for (unsigned i = 0; row->choices->texts[i]; i++) {
        json_array_append_new(texts, json_string(row->choices->texts[i]));
    }
    return json_pack("{s:o}", "enum", texts);
}

static json_t *schema_bool(const SpecOption *row)
{
    (void)row;
    return json_pack("{s:s}", "type", "boolean");
}

static json_t *schema_source(const SpecOption *row)
{
    (void)row;
    return json_pack("{s:[s, s]}", "type", "string", "object");
}

static json_t *schema_list(const SpecOption *row, json_t *items)
{
    return json_pack("{s:s, s:o, s:I}", "type", "array", "items", items, "maxItems",
                     (json_int_t)row->max_items);
}

static json_t *schema_strings(const SpecOption *row)
{
    return schema_list(row, schema_text(row));
}

static json_t *schema_words(const SpecOption *row)
{
    return schema_list(row, schema_choice(row));
}

static json_t *schema_pairs(const SpecOption *row)
{
    json_t *value = schema_text(row);
    json_object_set_new(value, "type", json_pack("[s, s, s]", "string", "number", "boolean"));
    return json_pack("{s:s, s:o, s:{s:o}, s:I}", "type", "object", "additionalProperties", value,
                     "propertyNames", "pattern", whole_pattern(row->pattern), "maxProperties",
                     (json_int_t)row->max_items);
}

static json_t *schema_records(const SpecOption *row)
{
    const SpecRecordType *type = row->record;
    json_t *forms = json_array();
    if (type->text_pattern) {
        json_array_append_new(forms, json_pack("{s:s, s:o, s:s}", "type", "string", "pattern",
                                               whole_pattern(type->text_pattern), "description",
                                               type->text_doc));
    }
    if (type->table) {
        json_array_append_new(forms, schema_of_table(type->table, ""));
    }
    json_t *items = json_array_size(forms) == 1 ? json_incref(json_array_get(forms, 0))
                                                : json_pack("{s:O}", "anyOf", forms);
    json_decref(forms);
    return schema_list(row, items);
}

static json_t *schema_objects(const SpecOption *row)
{
    const SpecObjectType *type = row->object;
    g_autofree char *definition = g_strconcat("#/definitions/", type->noun, NULL);
    return json_pack("{s:s, s:{s:s}, s:{s:o, s:i}, s:i, s:I}", "type", "object",
                     "additionalProperties", "$ref", definition, "propertyNames", "pattern",
                     whole_pattern(spec_table_find(type->table, "name")->pattern), "maxLength", 63,
                     "minProperties", type->is_needed ? 1 : 0, "maxProperties",
                     (json_int_t)row->max_items);
}

static json_t *schema_group(const SpecOption *row)
{
    return schema_of_table(row->table, row->info.path);
}

static json_t *(*const schemas[])(const SpecOption *) = {
    [SPEC_KIND_STRING] = schema_text,     [SPEC_KIND_UINT] = schema_uint,
    [SPEC_KIND_SIZE] = schema_measure,    [SPEC_KIND_DURATION] = schema_measure,
    [SPEC_KIND_RATE] = schema_measure,    [SPEC_KIND_ENUM] = schema_choice,
    [SPEC_KIND_BOOL] = schema_bool,       [SPEC_KIND_TEXT] = schema_text,
    [SPEC_KIND_SOURCE] = schema_source,   [SPEC_KIND_STRINGS] = schema_strings,
    [SPEC_KIND_WORDS] = schema_words,     [SPEC_KIND_MAP] = schema_pairs,
    [SPEC_KIND_RECORDS] = schema_records, [SPEC_KIND_OBJECTS] = schema_objects,
    [SPEC_KIND_GROUP] = schema_group,     [SPEC_KIND_LATER] = NULL,
};
G_STATIC_ASSERT(G_N_ELEMENTS(schemas) == SPEC_KIND_N);

static json_t *default_value(const SpecOption *row)
{
    if (row->kind == SPEC_KIND_BOOL) {
        return json_boolean(g_str_equal(row->default_text, "true"));
    }
    return row->kind == SPEC_KIND_UINT
               ? json_integer((json_int_t)g_ascii_strtoll(row->default_text, NULL, 10))
               : json_string(row->default_text);
}

static json_t *schema_row(const SpecOption *row)
{
    json_t *schema = schemas[row->kind](row);
    json_object_set_new(schema, "description", json_string(row->info.doc));
    if (row->default_text) {
        json_object_set_new(schema, "default", default_value(row));
    }
    return schema;
}

static json_t *schema_of_table(const SpecTable *table, const char *group)
{
    json_t *properties = json_object();
    json_t *required = json_array();
    for (unsigned i = 0; i < table->n_options; i++) {
        const SpecOption *row = &table->options[i];
        if (!spec_option_is_in(row, group) || row->kind == SPEC_KIND_LATER || row->is_map_key) {
            continue;
        }
        json_object_set_new(properties, spec_option_key(row), schema_row(row));
        if (row->is_required) {
            json_array_append_new(required, json_string(spec_option_key(row)));
        }
    }
    json_t *schema = json_pack("{s:s, s:o, s:b}", "type", "object", "properties", properties,
                               "additionalProperties", 0);
    if (json_array_size(required) > 0) {
        json_object_set(schema, "required", required);
    }
    json_decref(required);
    return schema;
}

char *spec_emit_json_schema(void)
{
    json_t *root =
        json_pack("{s:s, s:s, s:s}", "$schema", "http://json-schema.org/draft-07/schema#", "title",
                  "vm-run spec file, version 1", "description",
                  "Machines for vm-run. Generated from the option table.");
    json_t *head = schema_of_table(&spec_head_table, "");
    json_object_update(root, head);
    json_object_set_new(root, "definitions",
                        json_pack("{s:o, s:o}", "machine", schema_of_table(&spec_machine_table, ""),
                                  "network", schema_of_table(&spec_network_table, "")));
    char *dumped = json_dumps(root, JSON_INDENT(2));
    char *text = g_strconcat(dumped, "\n", NULL);
    free(dumped);
    json_decref(head);
    json_decref(root);
    return text;
}
