#include <stdio.h>
#include "base/error.h"
#include "cli/commands.h"
#include "cli/host.h"
#include "cli/network_flags.h"
#include "cli/say.h"
#include "cli/signals.h"
#include "driver/networks.h"

static NetworkSpec *describe(const CmdContext *context, BaseReport *report, GError **error)
{
    bool is_file = cmd_args_has(context->args, "file");
    if (is_file == cmd_network_has_spec_flags(context->args)) {
        base_fail(error, VM_ERROR_CLI,
                  is_file ? "give -f FILE or a policy's flags, not both"
                          : "nothing to change - give -f FILE or a policy's flags");
        return NULL;
    }
    return is_file ? cmd_network_spec_of_file(context, report, error)
                   : cmd_network_spec_of_flags(context, report, error);
}

static void change(const CmdContext *context, NetworkSpec *spec, BaseReport *report, GError **error)
{
    g_autoptr(MachineHost) host = cmd_host_new(context, false, error);
    bool is_whole = cmd_args_has(context->args, "file");
    cmd_signals_init(); /* what has begun goes on to its end */
    bool is_changed = host && machine_network_update(host, spec, is_whole, report, error);
    g_autoptr(MachineNetwork) network =
        is_changed ? machine_network_load(host, spec->name, error) : NULL;
    if (network && context->is_json) {
        g_autofree char *json = machine_network_to_json(network);
        puts(json);
    } else if (network) {
        cmd_say_note(context, "network '%s': its policy is in force", network->name);
    }
}

static int update_main(const CmdContext *context, GError **error)
{
    return cmd_network_main(context, describe, change, error);
}

static const CmdFlag flags[] = {
    {.name = "file",
     .letter = 'f',
     .metavar = "FILE",
     .kind = CMD_VALUE_FILE,
     .doc = "Take the policy of the network of that name in this spec file (- is standard input)."},
    CMD_EGRESS_FLAGS,
    {.name = NULL},
};

static const char *const examples[] = {"vm-run network update lab --restricted",
                                       "its machines reach nothing private but each other, at once",
                                       "vm-run network update lab --egress-default allow",
                                       "lifts the policy",
                                       "vm-run network update lab -f lab.yaml",
                                       "what the file says of its egress",
                                       NULL};

const CmdCommand cmd_network_update = {
    .name = "network update",
    .synopsis = "[flags] NETWORK",
    .doc = "Change what the machines of a network may reach, also while they run.",
    .detail = "All of them at once, or nothing; connections that the new policy denies end. The "
              "same again changes nothing and succeeds. A machine's own policy holds besides: both "
              "must let something out. Whatever else a file says of the network must be as it is "
              "(status 6): prefixes and modes are chosen once, with `network add`. Needs root.",
    .examples = examples,
    .flags = flags,
    .n_operands_min = 1,
    .n_operands_max = 1,
    .operand = CMD_OPERAND_NETWORK,
    .has_json = true,
    .handler = update_main,
};
