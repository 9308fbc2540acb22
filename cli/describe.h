#pragma once
#include "cli/command.h"
#include "schemas/spec.h"

/*
 * A machine as the command line describes it: IMAGE or -f FILE, then the flags of the option table
 * and
 * --set in the order given, so that a flag wins over the file. Shared by `run` and `seed`.
 */

/* The flags that cmd_describe() reads besides the option table's, for a command's own table. */
#define CMD_DESCRIBE_FLAGS                                                                         \
    {.name = "file",                                                                               \
     .letter = 'f',                                                                                \
     .metavar = "FILE",                                                                            \
     .kind = CMD_VALUE_FILE,                                                                       \
     .doc = "Read the machine from this spec file (- is standard input); flags win over it."},     \
    {                                                                                              \
        .name = "set", .metavar = "PATH=VALUE", .is_list = true,                                   \
        .doc = "Set any option by its path in the spec file, such as cloud_init.schema=warn."      \
    }

/* spec_machine_set() or spec_network_set(). */
typedef void (*CmdSetFn)(void *spec, const char *path, const char *text, const char *shown,
                         BaseReport *report);
/* --set and the flags that have a spec_path, in the order given, by `set`, whose mistakes go to the
 * report. false: `error`, of the command line. */
bool cmd_describe_flags(const CmdArgs *args, CmdSetFn set, void *spec, BaseReport *report,
                        GError **error);

/* Reads the spec and the mistakes in it; no defaults are filled in and no name is made up. Transfer
 * full. needs_image: IMAGE or -f must be given; otherwise a description without an image will do.
 * NULL: `error` is set (CLI: IMAGE and -f, or neither) or the report has an error. Reads files
 * only. */
MachineSpec *cmd_describe(const CmdContext *context, bool needs_image, BaseReport *report,
                          GError **error);

/* Defaults and every check that needs no host: the spec, its cloud-init texts, its ssh keys (the
 * agent is asked when it is named). To be called once, last. Returns the key lines, transfer full.
 */
GPtrArray *cmd_describe_check(MachineSpec *spec, BaseReport *report);
