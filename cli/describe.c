#include "cli/describe.h"

#include <string.h>

#include "base/error.h"
#include "cloudinit/check.h"
#include "cloudinit/keys.h"

/* Which machine of the file: the only one, else the one that --name names. -1: none. */
static int choose_machine(const SpecFile *file, const char *name)
{
    unsigned n = spec_file_n_machines(file);
    for (unsigned i = 0; name && i < n; i++) {
        if (g_str_equal(spec_file_machine_name(file, i), name)) {
            return (int)i;
        }
    }
    return n == 1 ? 0 : -1;
}

static char *machine_names(const SpecFile *file)
{
    GString *names = g_string_new(NULL);
    for (unsigned i = 0; i < spec_file_n_machines(file); i++) {
        g_string_append_printf(names, "%s%s", i ? ", " : "", spec_file_machine_name(file, i));
    }
    return g_string_free(names, FALSE);
}

static MachineSpec *load_file(const char *path, const char *name, BaseReport *report,
                              GError **error)
{
    g_autoptr(SpecFile) file = spec_file_load(path, report);
    if (!file || base_report_n_errors(report)) {
        return NULL;
    }
    if (!spec_file_n_machines(file)) {
        base_fail(error, VM_ERROR_NOT_FOUND, "'%s' describes no machine", path);
        return NULL;
    }
    int i = choose_machine(file, name);
    if (i < 0) {
        g_autofree char *names = machine_names(file);
        base_fail(error, VM_ERROR_CLI, "'%s' describes several machines - pick one with --name: %s",
                  path, names);
        return NULL;
    }
    return spec_file_steal_machine(file, (unsigned)i);
}

static bool apply_set(const CmdGiven *given, CmdSetFn set, void *spec, BaseReport *report,
                      GError **error)
{
    const char *text = given->value, *equals = strchr(text, '=');
    if (!equals || equals == text) {
        return base_fail(error, VM_ERROR_CLI, "--set '%s': not of the form %s", text,
                         given->flag->metavar);
    }
    g_autofree char *path = g_strndup(text, (size_t)(equals - text));
    g_autofree char *shown = g_strdup_printf("--set %s", path);
    set(spec, path, equals + 1, shown, report);
    return true;
}

bool cmd_describe_flags(const CmdArgs *args, CmdSetFn set, void *spec, BaseReport *report,
                        GError **error)
{
    for (guint i = 0; i < args->given->len; i++) {
        const CmdGiven *given = &g_array_index(args->given, CmdGiven, i);
        if (g_str_equal(given->flag->name, "set") && !apply_set(given, set, spec, report, error)) {
            return false;
        }
        if (given->flag->spec_path) {
            g_autofree char *shown = g_strdup_printf("--%s", given->flag->name);
            set(spec, given->flag->spec_path, given->value ? given->value : "true", shown, report);
        }
    }
    return true;
}

static void set_machine(void *spec, const char *path, const char *text, const char *shown,
                        BaseReport *report)
{
    spec_machine_set(spec, path, text, shown, report);
}

static bool check_sources(const char *path, const char *image, bool needs_image, GError **error)
{
    if (path && image) {
        return base_fail(error, VM_ERROR_CLI, "give IMAGE or -f FILE, not both");
    }
    if (!path && !image && needs_image) {
        return base_fail(error, VM_ERROR_CLI, "no image given - name IMAGE or -f FILE");
    }
    return true;
}

MachineSpec *cmd_describe(const CmdContext *context, bool needs_image, BaseReport *report,
                          GError **error)
{
    const char *path = cmd_args_text(context->args, "file");
    const char *image = cmd_args_operand(context->args, 0);
    if (!check_sources(path, image, needs_image, error)) {
        return NULL;
    }
    const char *name = cmd_args_text(context->args, "name");
    g_autoptr(MachineSpec) spec = path ? load_file(path, name, report, error) : spec_machine_new();
    if (!spec) {
        return NULL;
    }
    if (image || (!needs_image && !spec->image)) { /* required of a machine, of no use to a seed */
        spec_machine_set(spec, "image", image ? image : "none", "IMAGE", report);
    }
    if (!cmd_describe_flags(context->args, set_machine, spec, report, error)) {
        return NULL;
    }
    return g_steal_pointer(&spec);
}

GPtrArray *cmd_describe_check(MachineSpec *spec, BaseReport *report)
{
    spec_machine_finish(spec, report);
    seed_check_spec(spec, report);
    seed_check_user_data(spec, report);
    return seed_keys_resolve(spec, NULL, report);
}
