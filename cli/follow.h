#pragma once
#include <stdint.h>
#include "cli/command.h"
#include "cli/progress.h"
#include "schemas/machine_spec.h"

/*
 * Following a start by its events until it is as far as was asked, showing the stages as they pass.
 * No connection is held and nothing is asked of the guest: the machine's watcher writes the events.
 */
typedef struct {
    const CmdContext *context;
    CmdProgress *progress;
    const char *name;
    const char *dir; /* the machine's folder */
    unsigned boot;   /* events of other starts are skipped */
    uint64_t offset; /* where in the events to begin */
    SpecWait wait;
    uint64_t deadline_ms; /* of cmd_clock_ms(); 0: none */
    bool has_own_timeout; /* the machine's own timeouts are said, and end nothing */
    uint64_t origin_ms;   /* of cmd_clock_ms(): when the start was asked for */
    bool is_degraded_allowed;
    bool begins_with_reboot; /* what was before the next reboot of the guest counts for nothing */
    /* As long as it doesn't: what is done every remind_ms, since a guest that is busy or still
     * booting may not have heard. NULL: nothing. */
    void (*remind)(void *data);
    void *remind_data;
    unsigned remind_ms;
} CmdFollow;

/* CLOCK_BOOTTIME, the clock of the events, in milliseconds. */
uint64_t cmd_clock_ms(void);

/* true: the level was reached. Errors: TIMEOUT; PROVISION (cloud-init failed, the guest stands
 * where it can't go on, or it ended); DEGRADED; CANCELLED (a signal; cmd_signals_init() must have
 * been called). The machine is left as it is. Blocks until then. */
bool cmd_follow(const CmdFollow *follow, GError **error);
