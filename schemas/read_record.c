#include <string.h>
#include "schemas/check_text.h"
#include "schemas/slot.h"

static void report_text(const SpecSlot *slot, VmError code, const char *why)
{
    const SpecRecordType *type = slot->option->record;
    const char *near =
        type->text_words ? base_report_nearest(slot->node->text, type->text_words) : NULL;
    g_autofree char *hint = near ? g_strdup_printf("did you mean '%s'?", near)
                                 : g_strdup_printf("write %s", type->text_doc);
    g_autofree char *shown = base_report_escape(slot->node->text, 60);
    spec_read_mistake(slot->reader, code, slot->node, slot->path, hint, "'%s' %s", shown,
                      why ? why : "holds a NUL character");
}

static bool read_record_map(const SpecSlot *slot, const SpecNode *map, void *record)
{
    const SpecRecordType *type = slot->option->record;
    unsigned n_before = base_report_n_errors(slot->reader->report);
    spec_read_map(slot->reader, type->table, "", map, slot->path, record);
    spec_read_required(slot->reader, type->table, map, slot->path);
    return base_report_n_errors(slot->reader->report) == n_before;
}

static bool read_record_text(const SpecSlot *slot, void *record)
{
    const SpecRecordType *type = slot->option->record;
    VmError code = VM_ERROR_SCHEMA;
    const char *why = NULL;
    if (!spec_check_scalar(slot->reader, slot->option, slot->node, slot->path, false)) {
        return false;
    }
    bool has_nul = spec_node_has_nul(slot->node);
    if (type->expand) {
        g_autoptr(SpecNode) map = has_nul ? NULL : type->expand(slot->node, &why);
        if (map) {
            return read_record_map(slot, map, record);
        }
    } else if (!has_nul && type->from_text(record, slot->node->text, &code, &why)) {
        return true;
    }
    report_text(slot, code, why);
    return false;
}

static bool read_record(const SpecSlot *slot, void *record)
{
    const SpecRecordType *type = slot->option->record;
    BasePos pos = spec_node_pos(slot->node);
    *(BasePos *)(void *)((char *)record + type->pos_offset) = base_pos_copy(&pos);
    if (type->table) {
        spec_read_defaults(type->table, NULL, record);
    }
    bool is_map = slot->node->kind == SPEC_NODE_MAP && type->table;
    bool has_text = type->from_text || type->expand;
    if (!is_map && (!has_text || slot->node->kind != SPEC_NODE_SCALAR)) {
        g_autofree char *shown = spec_node_shown(slot->node);
        spec_read_mistake(slot->reader, VM_ERROR_SCHEMA, slot->node, slot->path, NULL,
                          "expected %s, got %s", type->table ? "a map" : "a text", shown);
        return false;
    }
    if (!(is_map ? read_record_map(slot, slot->node, record) : read_record_text(slot, record))) {
        return false;
    }
    if (type->settle) {
        type->settle(record);
    }
    if (type->rule && !slot->reader->is_record) {
        g_autofree char *path = slot->reader->prefix
                                    ? g_strdup_printf("%s.%s", slot->reader->prefix, slot->path)
                                    : g_strdup(slot->path);
        type->rule(record, path, &pos, slot->reader->report);
    }
    return true;
}

void spec_read_records(const SpecSlot *slot)
{
    const SpecRecordType *type = slot->option->record;
    GPtrArray *list = spec_slot_list(slot, NULL);
    if (!spec_slot_check_items(slot, SPEC_NODE_LIST, list->len)) {
        g_autofree char *refused = g_strdup_printf("%s[%u]", slot->path, list->len);
        BasePos pos = spec_node_pos(slot->node);
        spec_origin_keep(slot->reader->origins, refused, &pos); /* an element that is not there */
        return;
    }
    for (unsigned i = 0, at = list->len; i < spec_node_n(slot->node); i++, at++) {
        g_autofree char *path = g_strdup_printf("%s[%u]", slot->path, at);
        SpecSlot item = {slot->reader, slot->option, spec_node_item(slot->node, i), path, NULL};
        void *record = g_malloc0(type->size);
        spec_slot_keep_origin(&item);
        if (read_record(&item, record)) {
            g_ptr_array_add(list, record);
        } else {
            spec_record_free(type, record);
        }
    }
}
