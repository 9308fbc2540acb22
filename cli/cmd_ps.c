#include <stdio.h>
#include <string.h>
#include "base/error.h"
#include "cli/commands.h"
#include "cli/host.h"
#include "cli/json.h"
#include "cli/say.h"
#include "cli/table.h"
#include "schemas/spec.h"

/* What one command after another shows; NULL: gone meanwhile, or its record can't be read (which
 * was said). */
static MachineView *view_of(const CmdContext *context, MachineHost *host, const char *name)
{
    g_autoptr(GError) error = NULL;
    MachineView *view = machine_view_load(host, name, &error);
    if (!view && !g_error_matches(error, VM_ERROR, VM_ERROR_NOT_FOUND)) {
        cmd_say_warning(context, "%s", error->message);
    }
    return view;
}

static void print_names(char **names)
{
    for (char **name = names; *name; name++) {
        puts(*name);
    }
}

static void print_json(const CmdContext *context, MachineHost *host, char **names)
{
    json_t *machines = json_array();
    for (char **name = names; *name; name++) {
        g_autoptr(MachineView) view = view_of(context, host, *name);
        g_autofree char *text = view ? machine_view_to_json(view) : NULL;
        if (text) {
            json_array_append_new(machines, json_loads(text, 0, NULL));
        }
    }
    json_t *object = json_object();
    json_object_set_new(object, "v", json_integer(1));
    json_object_set_new(object, "machines", machines);
    cmd_json_print(object);
}

/* What the machine is connected to ("lab, user"), and at which addresses; NULL: nothing, or not
 * known. Transfer full. */
static char *networks_of(const MachineView *view)
{
    g_autoptr(GString) out = g_string_new(NULL);
    for (guint i = 0; i < view->nics->len; i++) {
        const MachineNic *nic = view->nics->pdata[i];
        g_string_append_printf(out, "%s%s", i ? ", " : "", nic->network ? nic->network : nic->kind);
    }
    return out->len ? g_strdup(out->str) : NULL;
}

static char *addresses_of(const MachineView *view)
{
    g_autoptr(GString) out = g_string_new(NULL);
    for (guint i = 0; i < view->nics->len; i++) {
        const MachineNic *nic = view->nics->pdata[i];
        const char *address = nic->ip4 ? nic->ip4 : nic->ip6;
        g_string_append_printf(out, "%s%s", out->len && address ? ", " : "",
                               address ? address : "");
    }
    return out->len ? g_strdup(out->str) : NULL;
}

static void add_row(CmdTable *table, const MachineView *view)
{
    bool is_running =
        view->status == MACHINE_STATUS_RUNNING || view->status == MACHINE_STATUS_STOPPING;
    g_autofree char *age = is_running ? cmd_format_age(view->uptime_s) : NULL;
    g_autofree char *image = view->image ? g_path_get_basename(view->image) : NULL;
    g_autofree char *cpus = g_strdup_printf("%u", view->cpus);
    g_autofree char *memory = spec_format_size(view->memory_bytes);
    g_autofree char *ssh =
        view->ssh_port ? g_strdup_printf("%s:%u", view->ssh_addr, view->ssh_port) : NULL;
    g_autofree char *forwards = cmd_format_forwards(view->forwards);
    g_autofree char *networks = networks_of(view);
    g_autofree char *addresses = addresses_of(view);
    const char *const cells[] = {view->name, machine_status_name(view->status),
                                 age,        image,
                                 cpus,       memory,
                                 networks,   addresses,
                                 ssh,        *forwards ? forwards : NULL};
    for (gsize i = 0; i < G_N_ELEMENTS(cells); i++) {
        cmd_table_add(table, cells[i]);
    }
}

static void print_table(const CmdContext *context, MachineHost *host, char **names)
{
    static const char *const titles[] = {"NAME",    "STATUS",  "UPTIME", "IMAGE", "CPUS", "MEMORY",
                                         "NETWORK", "ADDRESS", "SSH",    "PORTS", NULL};
    g_autoptr(CmdTable) table = cmd_table_new(titles);
    for (char **name = names; *name; name++) {
        g_autoptr(MachineView) view = view_of(context, host, *name);
        if (view) {
            add_row(table, view);
        }
    }
    cmd_table_print(table, stdout);
}

static int ps_main(const CmdContext *context, GError **error)
{
    g_autoptr(MachineHost) host = cmd_host_new(context, true, error);
    g_auto(GStrv) names = host ? machine_store_names(machine_host_store(host), error) : NULL;
    if (!names) {
        return 0;
    }
    if (context->is_json) {
        print_json(context, host, names);
    } else if (context->is_quiet) {
        print_names(names);
    } else {
        print_table(context, host, names);
    }
    return 0;
}

const CmdCommand cmd_ps = {
    .name = "ps",
    .alias = "ls",
    .synopsis = "[flags]",
    .doc = "List machines; with --quiet only their names.",
    .detail = "Reads files and /proc only: it answers at once whatever other commands are doing.",
    .has_json = true,
    .handler = ps_main,
};
