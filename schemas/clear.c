#include <string.h>
#include "schemas/read.h"

void spec_text_clear(SpecText *text)
{
    g_free(text->text);
    g_free(text->pos.file);
    memset(text, 0, sizeof(*text));
}

void spec_record_free(const SpecRecordType *type, void *record)
{
    if (type->table) {
        spec_table_clear(type->table, record);
    }
    if (type->clear) {
        type->clear(record);
    }
    g_free(((BasePos *)(void *)((char *)record + type->pos_offset))->file);
    g_free(record);
}

static void clear_secret(char *text)
{
    if (text) {
        explicit_bzero(text, strlen(text));
    }
    g_free(text);
}

static void clear_member(const SpecOption *row, void *member)
{
    switch (row->kind) {
    case SPEC_KIND_STRING:
    case SPEC_KIND_TEXT:
        row->info.is_secret ? clear_secret(*(char **)member) : g_free(*(char **)member);
        break;
    case SPEC_KIND_SOURCE:
        spec_text_clear(member);
        break;
    case SPEC_KIND_RECORDS: {
        GPtrArray *list = *(GPtrArray **)member;
        for (unsigned i = 0; list && i < list->len; i++) {
            spec_record_free(row->record, g_ptr_array_index(list, i));
        }
        if (list) {
            g_ptr_array_unref(list);
        }
        break;
    }
    case SPEC_KIND_STRINGS:
    case SPEC_KIND_OBJECTS:
        if (*(GPtrArray **)member) {
            g_ptr_array_unref(*(GPtrArray **)member);
        }
        break;
    case SPEC_KIND_MAP:
        if (*(GHashTable **)member) {
            g_hash_table_unref(*(GHashTable **)member);
        }
        break;
    default:
        break;
    }
    memset(member, 0, row->size);
}

void spec_table_clear(const SpecTable *table, void *base)
{
    for (unsigned i = 0; i < table->n_options; i++) {
        const SpecOption *row = &table->options[i];
        if (row->size > 0) {
            clear_member(row, (char *)base + row->offset);
        }
    }
}
