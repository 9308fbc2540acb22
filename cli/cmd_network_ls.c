#include <stdio.h>
#include "base/error.h"
#include "cli/commands.h"
#include "cli/host.h"
#include "cli/json.h"
#include "cli/say.h"
#include "cli/table.h"
#include "driver/networks.h"

/* NULL: gone meanwhile, or its record can't be read (which was said). */
static MachineNetwork *network_of(const CmdContext *context, MachineHost *host, const char *name)
{
    g_autoptr(GError) error = NULL;
    MachineNetwork *network = machine_network_load(host, name, &error);
    if (!network && !g_error_matches(error, VM_ERROR, VM_ERROR_NOT_FOUND)) {
        cmd_say_warning(context, "%s", error->message);
    }
    return network;
}

static void print_json(const CmdContext *context, MachineHost *host, char **names)
{
    json_t *networks = json_array();
    for (char **name = names; *name; name++) {
        g_autoptr(MachineNetwork) network = network_of(context, host, *name);
        g_autofree char *text = network ? machine_network_to_json(network) : NULL;
        if (text) {
            json_array_append_new(networks, json_loads(text, 0, NULL));
        }
    }
    json_t *object = json_object();
    json_object_set_new(object, "v", json_integer(1));
    json_object_set_new(object, "networks", networks);
    cmd_json_print(object);
}

static void add_row(CmdTable *table, const MachineNetwork *network)
{
    unsigned n_up = 0;
    for (guint i = 0; i < network->members->len; i++) {
        const MachineNetworkMember *member = network->members->pdata[i];
        n_up += member->is_up;
    }
    g_autofree char *members = g_strdup_printf("%u of %u", n_up, network->members->len);
    const char *const cells[] = {network->name,   network->mode, network->is_up ? "up" : "down",
                                 network->bridge, network->cidr, network->cidr6,
                                 members};
    for (gsize i = 0; i < G_N_ELEMENTS(cells); i++) {
        cmd_table_add(table, cells[i]);
    }
}

static void print_table(const CmdContext *context, MachineHost *host, char **names)
{
    static const char *const titles[] = {"NAME", "MODE",  "STATUS",  "BRIDGE",
                                         "CIDR", "CIDR6", "RUNNING", NULL};
    g_autoptr(CmdTable) table = cmd_table_new(titles);
    for (char **name = names; *name; name++) {
        g_autoptr(MachineNetwork) network = network_of(context, host, *name);
        if (network) {
            add_row(table, network);
        }
    }
    cmd_table_print(table, stdout);
}

static int ls_main(const CmdContext *context, GError **error)
{
    g_autoptr(MachineHost) host = cmd_host_new(context, true, error);
    bool is_all = cmd_args_has(context->args, "all");
    g_auto(GStrv) names = host ? machine_network_names(host, is_all, error) : NULL;
    if (!names) {
        return 0;
    }
    if (context->is_json) {
        print_json(context, host, names);
    } else if (context->is_quiet) {
        for (char **name = names; *name; name++) {
            puts(*name);
        }
    } else {
        print_table(context, host, names);
    }
    return 0;
}

static const CmdFlag flags[] = {
    {.name = "all",
     .letter = 'a',
     .doc = "Those too that stand for a bridge which a machine names itself (bridge.NAME)."},
    {.name = NULL},
};

const CmdCommand cmd_network_ls = {
    .name = "network ls",
    .synopsis = "[flags]",
    .doc = "List networks, and how many of the machines on each run; with --quiet only names.",
    .detail = "Looks only: it takes no lock and waits for nobody.",
    .flags = flags,
    .has_json = true,
    .handler = ls_main,
};
