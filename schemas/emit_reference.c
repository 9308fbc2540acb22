#include <string.h>
#include "schemas/option.h"
#include "schemas/value.h"

/* docs/reference/machine.md and network.md, from the rows: one table a group, one a record type,
 * and what each enum's texts mean. */

/* What a heading is linked by: its letters. Transfer full. */
static char *anchor_of(const char *path)
{
    g_auto(GStrv) parts = g_strsplit(path, ".", -1);
    return g_strjoinv("", parts);
}

/* "a size with its unit, 64MiB to 4TiB". Transfer full. */
static char *type_cell(const SpecOption *row)
{
    if (row->kind == SPEC_KIND_ENUM || row->kind == SPEC_KIND_WORDS) {
        g_autofree char *texts = g_strjoinv("`, `", (char **)row->choices->texts);
        return g_strdup_printf("%s`%s`", row->kind == SPEC_KIND_WORDS ? "list of " : "", texts);
    }
    g_autofree char *min = NULL, *max = NULL, *anchor = NULL;
    switch (row->kind) {
    case SPEC_KIND_UINT:
        return g_strdup_printf("integer, %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT, row->min,
                               row->max);
    case SPEC_KIND_SIZE:
        min = spec_format_size(row->min);
        max = spec_format_size(row->max);
        return g_strdup_printf("size, %s to %s", min, max);
    case SPEC_KIND_DURATION:
        min = spec_format_duration(row->min);
        max = spec_format_duration(row->max);
        return g_strdup_printf("duration, %s to %s", min, max);
    case SPEC_KIND_RATE:
        min = spec_format_rate(row->min);
        max = spec_format_rate(row->max);
        return g_strdup_printf("rate, %s to %s", min, max);
    case SPEC_KIND_STRINGS:
        return g_strdup_printf("list of texts, at most %u", row->max_items);
    case SPEC_KIND_RECORDS:
        anchor = anchor_of(row->info.path);
        return g_strdup_printf("list of [%s](#%s), at most %u",
                               row->record->table ? "maps" : "texts", anchor, row->max_items);
    case SPEC_KIND_MAP:
        return g_strdup_printf("map, at most %u", row->max_items);
    case SPEC_KIND_STRING:
        return g_strdup("text");
    case SPEC_KIND_TEXT:
        return g_strdup("text of any lines");
    default:
        return g_strdup(spec_kind_name(row->kind));
    }
}

static char *default_cell(const SpecOption *row)
{
    if (row->is_required) {
        return g_strdup("**required**");
    }
    return row->default_text  ? g_strdup_printf("`%s`", row->default_text)
           : row->default_doc ? g_strdup(row->default_doc)
                              : g_strdup("");
}

static void add_row(GString *out, const SpecOption *row, bool is_top)
{
    g_autofree char *type = type_cell(row);
    g_autofree char *value = default_cell(row);
    g_string_append_printf(out, "| `%s` | %s | %s |", row->info.path, type, value);
    if (is_top) {
        g_autofree char *flag =
            row->info.short_flag
                ? g_strdup_printf("`--%s`, `-%c`", row->info.flag, row->info.short_flag)
            : row->info.flag ? g_strdup_printf("`--%s`", row->info.flag)
                             : g_strdup("");
        g_string_append_printf(out, " %s | %s |", flag, spec_change_name(row->change));
    }
    g_string_append_printf(out, " %s%s |\n", row->info.doc,
                           row->info.is_secret ? " Secret: never printed." : "");
}

static void add_table(GString *out, const SpecTable *table, const char *group, bool is_top)
{
    g_string_append(out, is_top ? "| Key | Value | Default | Flag | Change | |\n"
                                  "|---|---|---|---|---|---|\n"
                                : "| Key | Value | Default | |\n|---|---|---|---|\n");
    for (unsigned i = 0; i < table->n_options; i++) {
        const SpecOption *row = &table->options[i];
        if (spec_option_is_in(row, group) && row->kind != SPEC_KIND_LATER &&
            row->kind != SPEC_KIND_GROUP && !row->is_map_key) {
            add_row(out, row, is_top);
        }
    }
    g_string_append_c(out, '\n');
}

static void add_choices(GString *out, const SpecTable *table)
{
    for (unsigned i = 0; i < table->n_options; i++) {
        const SpecOption *row = &table->options[i];
        if (!row->choices) {
            continue;
        }
        g_string_append_printf(out, "- `%s`:", row->info.path);
        for (unsigned k = 0; row->choices->texts[k]; k++) {
            g_string_append_printf(out, "%s `%s` %s", k ? ";" : "", row->choices->texts[k],
                                   row->choices->docs[k]);
        }
        g_string_append(out, ".\n");
    }
    g_string_append_c(out, '\n');
}

static void add_records(GString *out, const SpecTable *table)
{
    for (unsigned i = 0; i < table->n_options; i++) {
        const SpecOption *row = &table->options[i];
        if (row->kind != SPEC_KIND_RECORDS) {
            continue;
        }
        g_string_append_printf(out, "## %s\n\n%s", row->info.path, row->info.doc);
        if (row->record->text_doc) {
            g_string_append_printf(out, " Each is a text: `%s`%s.", row->record->text_doc,
                                   row->record->table ? ", or a map" : "");
        }
        g_string_append(out, "\n\n");
        if (row->record->table) {
            add_table(out, row->record->table, "", false);
            add_choices(out, row->record->table);
        }
    }
}

static void add_later(GString *out, const SpecTable *table)
{
    for (unsigned i = 0; i < table->n_options; i++) {
        const SpecOption *row = &table->options[i];
        if (row->kind == SPEC_KIND_LATER) {
            g_string_append_printf(out, "- `%s`: %s%s%s%s\n", row->info.path, row->info.doc,
                                   row->default_text ? " Only `" : "",
                                   row->default_text ? row->default_text : "",
                                   row->default_text ? "` is accepted." : "");
        }
    }
}

static void add_later_records(GString *out, const SpecTable *table)
{
    for (unsigned i = 0; i < table->n_options; i++) {
        const SpecOption *row = &table->options[i];
        const SpecTable *keys = row->record ? row->record->table : NULL;
        for (unsigned k = 0; keys && k < keys->n_options; k++) {
            const SpecOption *inner = &keys->options[k];
            if (inner->kind == SPEC_KIND_LATER) {
                g_string_append_printf(out, "- `%s[].%s`: %s\n", row->info.path, inner->info.path,
                                       inner->info.doc);
            }
        }
    }
}

static const char generated[] =
    "<!-- Generated from the tables in schemas/; UPDATE_GENERATED=1 build/tests/test-schemas-emit "
    "writes it anew. -->\n";

static const char intro[] =
    "# The fields of a machine\n\n"
    "A spec file describes machines:\n\n"
    "```yaml\n"
    "version: 1\n"
    "name: demo\n"
    "vms:\n"
    "  web:\n"
    "    image: ./debian.qcow2\n"
    "    cpus: 2\n"
    "    memory: 2GiB\n"
    "```\n\n"
    "Every field can be given to `vm-run run` as `--set KEY=VALUE` as well, and some have flags of "
    "their own. "
    "Lists grow with every `--set`; a list or map is written in YAML's flow form: `--set "
    "'ports=[8080:80, auto:443]'`.\n\n"
    "- **Sizes** carry a unit: `512MiB`, `2GiB`, `20G`. K, M, G, T, P and E are powers of 1024, as "
    "are KiB, MiB and so on.\n"
    "- **Durations** carry a unit: `250ms`, `90s`, `5m`, `1h`, `1d`.\n"
    "- **Rates** carry a unit: `500kbit`, `20Mbit`, `1Gbit` a second, powers of 1000.\n"
    "- **Paths** are relative to the folder of the spec file (on the command line: to the working "
    "directory); `~/` is your home.\n"
    "- Integers are decimal digits, booleans are `true` and `false`, and what stands in quotes is "
    "always a text.\n"
    "- **Change** says what a new value costs a machine that exists: `live` nothing, `restart` a "
    "stop and a start, "
    "`reseed` another run of cloud-init, `replace` a new root disk.\n\n";

static const char network_intro[] =
    "# The fields of a network\n\n"
    "A spec file describes networks beside its machines, and `vm-run network add` makes one from "
    "flags:\n\n"
    "```yaml\n"
    "version: 1\n"
    "name: lab\n"
    "networks:\n"
    "  lab:\n"
    "    cidr: 10.77.0.0/24\n"
    "    domain: lab.test\n"
    "vms:\n"
    "  web:\n"
    "    image: ./debian.qcow2\n"
    "    networks:\n"
    "      - {network: lab, ip: 10.77.0.10}\n"
    "    ports: [\"8080:80\"]\n"
    "```\n\n"
    "A network of a file is made when the first machine on it starts, and goes with the last one. "
    "What a machine's `networks`, `ports` and `egress` may be is in [machine.md](machine.md); how "
    "it all works, and what it can't do, in [networking.md](../networking.md).\n\n";

static void add_object(GString *out, const SpecTable *table)
{
    add_table(out, table, "", true);
    for (unsigned i = 0; i < table->n_options; i++) {
        const SpecOption *row = &table->options[i];
        if (row->kind == SPEC_KIND_GROUP) {
            g_string_append_printf(out, "## %s\n\n%s\n\n", row->info.path, row->info.doc);
            add_table(out, table, row->info.path, true);
        }
    }
    g_string_append(out, "## What the words mean\n\n");
    add_choices(out, table);
    add_records(out, table);
}

static void add_later_head(GString *out)
{
    g_string_append(out, "## Not supported yet\n\nThese belong to the language; this version "
                         "refuses them by name.\n\n");
}

char *spec_emit_reference_md(void)
{
    GString *out = g_string_new(generated);
    g_string_append(out, intro);
    g_string_append(out, "## The file\n\n");
    add_table(out, &spec_head_table, "", false);
    g_string_append(out, "## A machine\n\n");
    add_object(out, &spec_machine_table);
    add_later_head(out);
    add_later(out, &spec_head_table);
    add_later(out, &spec_machine_table);
    add_later_records(out, &spec_machine_table);
    return g_string_free(out, FALSE);
}

char *spec_emit_network_reference_md(void)
{
    GString *out = g_string_new(generated);
    g_string_append(out, network_intro);
    g_string_append(out, "## A network\n\n");
    add_object(out, &spec_network_table);
    add_later_head(out);
    add_later(out, &spec_network_table);
    return g_string_free(out, FALSE);
}
