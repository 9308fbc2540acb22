#include "schemas/machine_spec.h"

#include "schemas/read.h"

static void free_origin(void *data)
{
    BasePos *pos = data;
    g_free(pos->file);
    g_free(pos);
}

static void make_containers(MachineSpec *spec)
{
    for (unsigned i = 0; i < spec_machine_table.n_options; i++) {
        const SpecOption *row = &spec_machine_table.options[i];
        void *member = (char *)spec + row->offset;
        if (row->kind == SPEC_KIND_STRINGS) {
            *(GPtrArray **)member = g_ptr_array_new_with_free_func(g_free);
        } else if (row->kind == SPEC_KIND_RECORDS) {
            *(GPtrArray **)member = g_ptr_array_new();
        } else if (row->kind == SPEC_KIND_MAP) {
            *(GHashTable **)member = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        }
    }
}

MachineSpec *spec_machine_new(void)
{
    MachineSpec *spec = g_new0(MachineSpec, 1);
    make_containers(spec);
    spec->origins = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, free_origin);
    return spec;
}

void spec_machine_free(MachineSpec *spec)
{
    if (!spec) {
        return;
    }
    spec_table_clear(&spec_machine_table, spec);
    g_hash_table_unref(spec->origins);
    g_free(spec);
}

const BasePos *spec_machine_origin(const MachineSpec *spec, const char *path)
{
    return g_hash_table_lookup(spec->origins, path);
}
