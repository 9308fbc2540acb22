#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "schemas/finish.h"
#include "schemas/read.h"
#include "schemas/rows.h"
#include "schemas/yaml.h"

struct SpecFile {
    unsigned version;
    char *name;
    GPtrArray *machines; /* of MachineSpec, NULL where one was taken */
    GPtrArray *names;    /* of char *, as long as machines */
    GPtrArray *networks; /* of NetworkSpec, finished */
};

static const SpecOption head_rows[] = {
    SPEC_UINT(SpecFile, version, "version", "Version of the language: 1.", .min = 1, .max = 1,
              .code = VM_ERROR_SCHEMA, .pattern_hint = "this program reads version 1",
              .is_required = true),
    SPEC_STRING(SpecFile, name, "name", "Name of what the file describes.", .max = 63,
                .pattern = "[a-z0-9]([a-z0-9-]*[a-z0-9])?",
                .pattern_hint = "use lower-case letters, digits and '-' inside",
                .code = VM_ERROR_NAME, .is_required = true),
    SPEC_OBJECTS(SpecFile, machines, machine, "vms", "The machines, by name.", .max_items = 1000,
                 .is_required = true),
    SPEC_OBJECTS(SpecFile, networks, network, "networks",
                 "Networks, by name; each is made when a machine on it starts.", .max_items = 100),
    SPEC_LATER("variables", "Values that are given from outside."),
    SPEC_LATER("locals", "Values with a name."),
    SPEC_LATER("defaults", "What every machine has unless it says otherwise."),
    SPEC_LATER("include", "Further files."),
    SPEC_LATER("images", "Images by name."),
    SPEC_LATER("disks", "Disks that outlive machines."),
    SPEC_LATER("outputs", "Values that are shown at the end."),
    SPEC_LATER("moved", "Renames."),
    SPEC_LATER("import", "Machines that exist already."),
    SPEC_LATER("removed", "Machines to forget."),
};
const SpecTable spec_head_table = {head_rows, G_N_ELEMENTS(head_rows)};

static void finish_networks(SpecFile *file, BaseReport *report)
{
    if (!file->networks) {
        file->networks = g_ptr_array_new_with_free_func((GDestroyNotify)spec_network_free);
    }
    for (unsigned i = 0; i < file->networks->len; i++) {
        spec_network_finish(g_ptr_array_index(file->networks, i), report);
    }
    spec_check_networks(file->networks, report);
}

static SpecFile *read_tree(const SpecNode *root, const char *text, const char *base_dir,
                           BaseReport *report)
{
    if (root->kind != SPEC_NODE_MAP) {
        BasePos pos = spec_node_pos(root);
        g_autofree char *shown = spec_node_shown(root);
        base_report_error(report, VM_ERROR_SCHEMA, &pos, "begin with version: 1",
                          "expected a map, got %s", shown);
        return NULL;
    }
    SpecFile *file = g_new0(SpecFile, 1);
    SpecReader reader = {.report = report, .text = text, .base_dir = base_dir};
    spec_read_map(&reader, &spec_head_table, "", root, "", file);
    spec_read_required(&reader, &spec_head_table, root, "");
    if (!file->machines) {
        file->machines = g_ptr_array_new_with_free_func((GDestroyNotify)spec_machine_free);
    }
    file->names = g_ptr_array_new_with_free_func(g_free);
    for (unsigned i = 0; i < file->machines->len; i++) {
        const MachineSpec *spec = g_ptr_array_index(file->machines, i);
        g_ptr_array_add(file->names, g_strdup(spec->name));
    }
    finish_networks(file, report);
    spec_check_across(file->machines, report);
    return file;
}

SpecFile *spec_file_load_text(const char *text, size_t n_bytes, const char *shown_path,
                              const char *base_dir, BaseReport *report)
{
    g_autoptr(SpecNode) root = spec_yaml_parse(text, n_bytes, shown_path, report);
    g_autofree char *dir = g_canonicalize_filename(base_dir ? base_dir : ".", NULL);
    return root ? read_tree(root, text, dir, report) : NULL;
}

/* All of standard input, but not much more than a spec may have. */
static char *read_stdin(size_t *out_n_bytes, GError **error)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    guint8 block[16384];
    while (bytes->len <= SPEC_YAML_MAX_BYTES) {
        ssize_t n = read(STDIN_FILENO, block, sizeof(block));
        if (n < 0 && errno != EINTR) {
            base_error_set_errno(error, errno, "cannot read standard input");
            return NULL;
        }
        if (n == 0) {
            break;
        }
        g_byte_array_append(bytes, block, n > 0 ? (guint)n : 0);
    }
    *out_n_bytes = bytes->len;
    g_byte_array_append(bytes, (const guint8 *)"", 1);
    return (char *)g_byte_array_free(g_steal_pointer(&bytes), FALSE);
}

/* A file that can't be read is a mistake of the command line that named it. */
static void report_unreadable(const char *path, const GError *error, BaseReport *report)
{
    BasePos pos = {(char *)path, 0, 0};
    if (g_error_matches(error, VM_ERROR, VM_ERROR_RANGE)) {
        pos.line = pos.col = 1;
        base_report_error(report, VM_ERROR_YAML_LIMIT, &pos, NULL, "the file is larger than 1 MiB");
        return;
    }
    bool is_absent = g_error_matches(error, VM_ERROR, VM_ERROR_NOT_FOUND);
    base_report_error(report, is_absent ? VM_ERROR_NOT_FOUND : VM_ERROR_CLI, &pos, NULL, "%s",
                      error->message); /* NOLINT(clang-analyzer-core.NullDereference): set */
}

SpecFile *spec_file_load(const char *path, BaseReport *report)
{
    g_autoptr(GError) error = NULL;
    size_t n_bytes = 0;
    bool is_stdin = g_str_equal(path, "-");
    g_autofree char *text = is_stdin
                                ? read_stdin(&n_bytes, &error)
                                : base_file_read_user(path, SPEC_YAML_MAX_BYTES, &n_bytes, &error);
    if (!text) {
        report_unreadable(path, error, report);
        return NULL;
    }
    g_autofree char *dir = is_stdin ? g_strdup(".") : g_path_get_dirname(path);
    return spec_file_load_text(text, n_bytes, is_stdin ? "<stdin>" : path, dir, report);
}

void spec_file_free(SpecFile *file)
{
    if (!file) {
        return;
    }
    spec_table_clear(&spec_head_table, file);
    g_ptr_array_unref(file->names);
    g_free(file);
}

unsigned spec_file_n_machines(const SpecFile *file)
{
    return file->machines->len;
}

MachineSpec *spec_file_steal_machine(SpecFile *file, unsigned i)
{
    g_assert(i < file->machines->len);
    void **slot = &g_ptr_array_index(file->machines, i);
    MachineSpec *spec = g_steal_pointer(slot);
    for (unsigned k = 0; k < file->networks->len; k++) {
        g_ptr_array_add(spec->network_specs,
                        spec_network_copy(g_ptr_array_index(file->networks, k)));
    }
    return spec;
}

const char *spec_file_machine_name(const SpecFile *file, unsigned i)
{
    g_assert(i < file->names->len);
    return g_ptr_array_index(file->names, i);
}

unsigned spec_file_n_networks(const SpecFile *file)
{
    return file->networks->len;
}

const NetworkSpec *spec_file_network(const SpecFile *file, unsigned i)
{
    g_assert(i < file->networks->len);
    return g_ptr_array_index(file->networks, i);
}
