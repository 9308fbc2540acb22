#include "schemas/read.h"

void spec_table_make(const SpecTable *table, void *base)
{
    for (unsigned i = 0; i < table->n_options; i++) {
        const SpecOption *row = &table->options[i];
        void *member = (char *)base + row->offset;
        if (row->kind == SPEC_KIND_STRINGS) {
            *(GPtrArray **)member = g_ptr_array_new_with_free_func(g_free);
        } else if (row->kind == SPEC_KIND_RECORDS) {
            *(GPtrArray **)member = g_ptr_array_new();
        } else if (row->kind == SPEC_KIND_MAP) {
            *(GHashTable **)member = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        }
    }
}

static void free_origin(void *data)
{
    BasePos *pos = data;
    g_free(pos->file);
    g_free(pos);
}

GHashTable *spec_origins_new(void)
{
    return g_hash_table_new_full(g_str_hash, g_str_equal, g_free, free_origin);
}
