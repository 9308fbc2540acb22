#include <stdio.h>
#include "cli/commands.h"
#include "schemas/spec.h"

static int schema_main(const CmdContext *context, GError **error)
{
    (void)context;
    (void)error;
    g_autofree char *schema = spec_emit_json_schema();
    fputs(schema, stdout);
    return 0;
}

static const char *const examples[] = {
    "vm-run schema > spec-v1.json", "for an editor: # yaml-language-server: $schema=./spec-v1.json",
    NULL};

const CmdCommand cmd_schema = {
    .name = "schema",
    .synopsis = "[flags]",
    .doc = "Print the JSON Schema (draft-07) of the spec file, for editors.",
    .examples = examples,
    .handler = schema_main,
};
