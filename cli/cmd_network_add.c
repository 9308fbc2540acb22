#include <stdio.h>
#include "base/error.h"
#include "cli/commands.h"
#include "cli/host.h"
#include "cli/network_flags.h"
#include "cli/say.h"
#include "cli/signals.h"
#include "driver/networks.h"
#include "schemas/spec.h"

static NetworkSpec *describe(const CmdContext *context, BaseReport *report, GError **error)
{
    bool is_file = cmd_args_has(context->args, "file");
    if (is_file && cmd_network_has_spec_flags(context->args)) {
        base_fail(error, VM_ERROR_CLI, "give -f FILE or the network's options, not both");
        return NULL;
    }
    return is_file ? cmd_network_spec_of_file(context, report, error)
                   : cmd_network_spec_of_flags(context, report, error);
}

static void print_network(const CmdContext *context, const MachineNetwork *network)
{
    if (context->is_json) {
        g_autofree char *json = machine_network_to_json(network);
        puts(json);
        return;
    }
    cmd_say_note(context, "network '%s' is up on bridge %s: %s%s%s", network->name,
                 network->bridge ? network->bridge : "?", network->cidr ? network->cidr : "",
                 network->cidr && network->cidr6 ? ", " : "", network->cidr6 ? network->cidr6 : "");
    puts(network->name);
}

static void add(const CmdContext *context, NetworkSpec *spec, BaseReport *report, GError **error)
{
    g_autoptr(MachineHost) host = cmd_host_new(context, false, error);
    spec->is_kept = true;
    cmd_signals_init(); /* what has begun goes on to its end */
    bool is_added = host && machine_network_add(host, spec, report, error);
    g_autoptr(MachineNetwork) network =
        is_added ? machine_network_load(host, spec->name, error) : NULL;
    if (network) {
        print_network(context, network);
    }
}

static int add_main(const CmdContext *context, GError **error)
{
    return cmd_network_main(context, describe, add, error);
}

static const CmdFlag flags[] = {
    {.name = "file",
     .letter = 'f',
     .metavar = "FILE",
     .kind = CMD_VALUE_FILE,
     .doc = "Take the network of that name from this spec file (- is standard input)."},
    {.name = "set",
     .metavar = "KEY=VALUE",
     .is_list = true,
     .doc = "Set any option by its key in the spec file, such as egress.restricted=true."},
    {.name = NULL},
};

static const char *const examples[] = {
    "vm-run network add lab",
    "a NAT network with free private prefixes",
    "vm-run network add --cidr 10.77.0.0/24 --domain lab.test lab",
    "machines resolve each other as web and web.lab.test",
    "vm-run network add --mode bridge --bridge br0 --cidr 192.0.2.0/24 --gateway 192.0.2.1 office",
    "fixed addresses on a bridge that is there already",
    NULL};

const CmdCommand cmd_network_add = {
    .name = "network add",
    .synopsis = "[flags] NETWORK",
    .doc = "Make a network that stays until it is removed, and print its name.",
    .detail = "The same again changes nothing and succeeds; a network of that name that differs is "
              "refused with both values (status 6). Prefixes that are not given are chosen so that "
              "they overlap neither a route of this host nor another network. Needs root.\n\n"
              "Networks in a spec file need no such command: each is made with the first machine "
              "on it that starts, and goes with the last one.",
    .examples = examples,
    .flags = flags,
    .n_operands_min = 1,
    .n_operands_max = 1,
    .has_network_flags = true,
    .has_json = true,
    .handler = add_main,
};
