#include "schemas/machine_spec.h"

#include "schemas/read.h"

MachineSpec *spec_machine_new(void)
{
    MachineSpec *spec = g_new0(MachineSpec, 1);
    spec_table_make(&spec_machine_table, spec);
    spec->origins = spec_origins_new();
    spec->network_specs = g_ptr_array_new_with_free_func((GDestroyNotify)spec_network_free);
    return spec;
}

void spec_machine_free(MachineSpec *spec)
{
    if (!spec) {
        return;
    }
    spec_table_clear(&spec_machine_table, spec);
    g_ptr_array_unref(spec->network_specs);
    g_hash_table_unref(spec->origins);
    g_free(spec);
}

const BasePos *spec_machine_origin(const MachineSpec *spec, const char *path)
{
    return g_hash_table_lookup(spec->origins, path);
}
