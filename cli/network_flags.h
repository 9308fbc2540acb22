#pragma once
#include "cli/command.h"
#include "schemas/spec.h"

/* What commands that describe a network have in common. */

/* A network of the first operand's name, made of --set KEY=VALUE and the flags that have a
 * spec_path. NULL: said in the report, or `error` (of the command line). Transfer full. */
NetworkSpec *cmd_network_spec_of_flags(const CmdContext *context, BaseReport *report,
                                       GError **error);
/* The one of that name in the file of --file; likewise. */
NetworkSpec *cmd_network_spec_of_file(const CmdContext *context, BaseReport *report,
                                      GError **error);

/* Is there --set or a flag with a spec_path? */
bool cmd_network_has_spec_flags(const CmdArgs *args);

/* What both commands do around their own: describes, acts, says the report. Returns the exit status
 * of the report. */
typedef NetworkSpec *(*CmdNetworkDescribeFn)(const CmdContext *context, BaseReport *report,
                                             GError **error);
typedef void (*CmdNetworkActFn)(const CmdContext *context, NetworkSpec *spec, BaseReport *report,
                                GError **error);
int cmd_network_main(const CmdContext *context, CmdNetworkDescribeFn describe, CmdNetworkActFn act,
                     GError **error);

/* Rows of a flag table: a policy of egress, of a machine or of a network. */
extern const char *const cmd_egress_default_words[];
#define CMD_EGRESS_FLAGS                                                                           \
    {.name = "egress-allow",                                                                       \
     .metavar = "RULE",                                                                            \
     .is_list = true,                                                                              \
     .spec_path = "egress.allow",                                                                  \
     .doc = "What guests may reach. The egress flags given are the whole new policy."},            \
        {.name = "egress-deny",                                                                    \
         .metavar = "RULE",                                                                        \
         .is_list = true,                                                                          \
         .spec_path = "egress.deny",                                                               \
         .doc = "What they may not reach."},                                                       \
        {.name = "egress-default",                                                                 \
         .metavar = "WORD",                                                                        \
         .choices = cmd_egress_default_words,                                                      \
         .spec_path = "egress.default",                                                            \
         .doc = "What holds where no rule fits; allow alone lifts a policy."},                     \
        {.name = "hermetic",                                                                       \
         .spec_path = "egress.hermetic",                                                           \
         .doc = "Nothing may be reached at all."},                                                 \
    {                                                                                              \
        .name = "restricted", .spec_path = "egress.restricted",                                    \
        .doc = "Not the host, link-local addresses and private ranges but the network's own."      \
    }
