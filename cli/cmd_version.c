#include <stdio.h>
#include "cli/commands.h"

static int version_main(const CmdContext *context, GError **error)
{
    (void)error;
    printf(context->is_json ? "{\"v\":1,\"version\":\"%s\"}\n" : "vm-run %s\n", VM_VERSION);
    return 0;
}

const CmdCommand cmd_version = {
    .name = "version",
    .synopsis = "[flags]",
    .doc = "Show the version of this program.",
    .has_json = true,
    .handler = version_main,
};
