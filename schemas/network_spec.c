#include "schemas/network_spec.h"

#include "schemas/read.h"
#include "schemas/write.h"

NetworkSpec *spec_network_new(void)
{
    NetworkSpec *spec = g_new0(NetworkSpec, 1);
    spec_table_make(&spec_network_table, spec);
    spec->origins = spec_origins_new();
    return spec;
}

void spec_network_free(NetworkSpec *spec)
{
    if (!spec) {
        return;
    }
    spec_table_clear(&spec_network_table, spec);
    g_hash_table_unref(spec->origins);
    g_free(spec->pos.file);
    g_free(spec);
}

static void copy_origins(GHashTable *from, GHashTable *to)
{
    GHashTableIter iter;
    gpointer path, pos;
    g_hash_table_iter_init(&iter, from);
    while (g_hash_table_iter_next(&iter, &path, &pos)) {
        spec_origin_keep(to, path, pos);
    }
}

/* By what the tables write and read back; a value that was refused is in neither. */
NetworkSpec *spec_network_copy(const NetworkSpec *spec)
{
    g_autoptr(BaseReport) report = base_report_new();
    NetworkSpec *copy = spec_network_new();
    SpecWriter writer = {.is_record = true};
    SpecReader reader = {.report = report, .is_record = true};
    g_autoptr(SpecNode) tree = spec_write_table(&writer, &spec_network_table, "", spec);
    spec_read_map(&reader, &spec_network_table, "", tree, "", copy);
    copy_origins(spec->origins, copy->origins);
    g_free(copy->name);
    copy->name = g_strdup(spec->name);
    copy->pos = base_pos_copy(&spec->pos);
    return copy;
}

const BasePos *spec_network_origin(const NetworkSpec *spec, const char *path)
{
    return g_hash_table_lookup(spec->origins, path);
}
