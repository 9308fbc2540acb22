#include "base/error.h"
#include "cli/commands.h"
#include "cli/host.h"
#include "cli/say.h"
#include "cli/signals.h"

static bool rm_one(const CmdContext *context, MachineHost *host, const char *name, GError **error)
{
    if (!machine_destroy(host, name, cmd_args_has(context->args, "force"), error)) {
        return false;
    }
    cmd_say_note(context, "removed '%s'", name);
    return true;
}

static int rm_main(const CmdContext *context, GError **error)
{
    g_autoptr(MachineHost) host = cmd_host_new(context, true, error);
    if (!host) {
        return 0;
    }
    cmd_signals_init(); /* a removal that has begun goes on to its end */
    return cmd_each_machine(context, host, rm_one);
}

static const CmdFlag flags[] = {
    {.name = "force", .letter = 'f', .doc = "Also a machine that runs: it is ended at once."},
    {.name = NULL},
};

const CmdCommand cmd_rm = {
    .name = "rm",
    .synopsis = "[--force] NAME...",
    .doc = "Remove machines with their disks, seed and logs; images stay.",
    .detail = "Of several machines all are tried, and the exit status is the highest: 5 for one "
              "that does not exist, 6 "
              "for one that runs, 9 when something could not be removed.",
    .flags = flags,
    .n_operands_min = 1,
    .n_operands_max = G_MAXUINT,
    .operand = CMD_OPERAND_MACHINE,
    .handler = rm_main,
};
