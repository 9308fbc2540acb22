#include <string.h>
#include "schemas/option.h"

const SpecOption *spec_table_find(const SpecTable *table, const char *path)
{
    for (unsigned i = 0; i < table->n_options; i++) {
        if (g_str_equal(table->options[i].info.path, path)) {
            return &table->options[i];
        }
    }
    return NULL;
}

const char *spec_option_key(const SpecOption *option)
{
    const char *dot = strrchr(option->info.path, '.');
    return dot ? dot + 1 : option->info.path;
}

bool spec_option_is_in(const SpecOption *option, const char *group)
{
    size_t n = (size_t)(spec_option_key(option) - option->info.path);
    return n == 0 ? *group == '\0'
                  : strlen(group) == n - 1 && strncmp(option->info.path, group, n - 1) == 0;
}

const char **spec_table_keys(const SpecTable *table, const char *group)
{
    const char **keys = g_new0(const char *, table->n_options + 1);
    unsigned n = 0;
    for (unsigned i = 0; i < table->n_options; i++) {
        const SpecOption *row = &table->options[i];
        if (spec_option_is_in(row, group) && !row->is_map_key) {
            keys[n++] = spec_option_key(row);
        }
    }
    return keys;
}

static const char *const kind_names[] = {
    [SPEC_KIND_STRING] = "a text",
    [SPEC_KIND_UINT] = "an integer",
    [SPEC_KIND_SIZE] = "a size with its unit",
    [SPEC_KIND_DURATION] = "a duration with its unit",
    [SPEC_KIND_RATE] = "a rate with its unit",
    [SPEC_KIND_ENUM] = "a word",
    [SPEC_KIND_BOOL] = "true or false",
    [SPEC_KIND_TEXT] = "a text",
    [SPEC_KIND_SOURCE] = "a path, a text or a map",
    [SPEC_KIND_STRINGS] = "a list",
    [SPEC_KIND_WORDS] = "a list",
    [SPEC_KIND_MAP] = "a map",
    [SPEC_KIND_RECORDS] = "a list",
    [SPEC_KIND_OBJECTS] = "a map",
    [SPEC_KIND_GROUP] = "a map",
    [SPEC_KIND_LATER] = "nothing",
};
G_STATIC_ASSERT(G_N_ELEMENTS(kind_names) == SPEC_KIND_N);

const char *spec_kind_name(SpecKind kind)
{
    return kind_names[kind];
}

static const char *const change_names[] = {
    [SPEC_CHANGE_LIVE] = "live",
    [SPEC_CHANGE_RESTART] = "restart",
    [SPEC_CHANGE_RESEED] = "reseed",
    [SPEC_CHANGE_REPLACE] = "replace",
};
G_STATIC_ASSERT(G_N_ELEMENTS(change_names) == SPEC_CHANGE_N);

const char *spec_change_name(SpecChange change)
{
    return change_names[change];
}

static bool is_option(const SpecOption *row)
{
    return row->kind != SPEC_KIND_LATER && row->kind != SPEC_KIND_GROUP;
}

static unsigned option_n(const SpecTable *table)
{
    unsigned n = 0;
    for (unsigned i = 0; i < table->n_options; i++) {
        n += is_option(&table->options[i]);
    }
    return n;
}

static const SpecOptionInfo *option_info(const SpecTable *table, unsigned i)
{
    for (unsigned row = 0; row < table->n_options; row++) {
        const SpecOption *option = &table->options[row];
        if (is_option(option) && i-- == 0) {
            return &option->info;
        }
    }
    return NULL;
}

unsigned spec_option_n(void)
{
    return option_n(&spec_machine_table);
}

const SpecOptionInfo *spec_option_info(unsigned i)
{
    return option_info(&spec_machine_table, i);
}

unsigned spec_network_option_n(void)
{
    return option_n(&spec_network_table);
}

const SpecOptionInfo *spec_network_option_info(unsigned i)
{
    return option_info(&spec_network_table, i);
}
