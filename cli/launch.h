#pragma once
#include "cli/command.h"
#include "cli/follow.h"
#include "driver/machine.h"

/* Starting a machine and following it as far as was asked: what `run` and `start` have in common.
 */

/* --wait, --timeout and --allow-degraded, for a command's table. */
#define CMD_LAUNCH_FLAGS                                                                           \
    {.name = "wait",                                                                               \
     .metavar = "LEVEL",                                                                           \
     .choices = cmd_wait_levels,                                                                   \
     .doc = "How far to follow it: QEMU runs, the guest's init was seen, ssh answers, cloud-init " \
            "has ended, "                                                                          \
            "all that `ready` lists (the default)."},                                              \
        {.name = "timeout",                                                                        \
         .metavar = "TIME",                                                                        \
         .doc =                                                                                    \
             "Give up waiting after this time, with status 7; the machine goes on (else its own "  \
             "timeouts)."},                                                                        \
    {                                                                                              \
        .name = "allow-degraded",                                                                  \
        .doc = "Recoverable errors of cloud-init are a warning, not status 11."                    \
    }
extern const char *const cmd_wait_levels[];

typedef struct {
    SpecWait wait;
    uint64_t timeout_ms; /* 0: not given */
    bool is_degraded_allowed;
} CmdWait;

/* Reads those flags; `otherwise` is the level when --wait is not given. CLI: not a duration. */
bool cmd_wait_read(const CmdContext *context, SpecWait otherwise, CmdWait *out, GError **error);

typedef struct {
    const CmdContext *context;
    MachineHost *host;
    const char *name;
    MachineSpec *spec;   /* of a new machine; NULL: the machine exists */
    const char *command; /* "run", "start", "restart" */
    bool is_rm;
    CmdWait wait;
} CmdLaunch;

/* Starts it (Ctrl-C undoes that, error CANCELLED) and follows it. out_is_up: the start itself went
 * through, so that there is a machine also when following it failed. Errors: those of
 * machine_launch() and cmd_follow(). */
bool cmd_launch(const CmdLaunch *launch, bool *out_is_up, GError **error);

/* Follows a machine's reboot in the same way. origin_ms: when it was asked for; offset: size of its
 * events then. */
bool cmd_launch_follow_reboot(const CmdLaunch *launch, uint64_t origin_ms, uint64_t offset,
                              GError **error);

/* Size of the machine's events: where what happens from now on begins. */
uint64_t cmd_events_size(const char *machine_dir);
