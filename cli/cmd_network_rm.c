#include "base/error.h"
#include "cli/commands.h"
#include "cli/host.h"
#include "cli/json.h"
#include "cli/say.h"
#include "cli/signals.h"
#include "driver/networks.h"

static bool rm_one(const CmdContext *context, MachineHost *host, const char *name, GError **error)
{
    if (!machine_network_remove(host, name, error)) {
        return false;
    }
    if (context->is_json) {
        json_t *object = json_object();
        json_object_set_new(object, "v", json_integer(1));
        json_object_set_new(object, "removed", cmd_json_text(name));
        cmd_json_print(object);
    } else {
        cmd_say_note(context, "removed network '%s'", name);
    }
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

const CmdCommand cmd_network_rm = {
    .name = "network rm",
    .synopsis = "[flags] NETWORK...",
    .doc = "Remove networks that no machine has an interface on.",
    .detail = "Bridge, rules, servers and record go. A machine keeps its addresses while it "
              "exists, so one that is stopped holds its network too (status 6, and it is named): "
              "remove the machine first. A bridge that is not ours stays as it is. With --json one "
              "line for each network that was removed.",
    .n_operands_min = 1,
    .n_operands_max = G_MAXUINT,
    .operand = CMD_OPERAND_NETWORK,
    .has_json = true,
    .handler = rm_main,
};
