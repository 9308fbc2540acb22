#pragma once
#include <stdbool.h>
#include <jansson.h>
#include "driver/event_line.h"

/*
 * The watcher's pen for events.jsonl. A guest can cause events without end, so they come out of a
 * budget: a burst, then a few a second, nothing once the file has reached its limit. What only QEMU
 * or the host can cause is vital and is always written.
 */
typedef struct {
    int dirfd; /* borrowed */
    EventStamp stamp;
    unsigned n_tokens;
    uint64_t filled_ms; /* when tokens were last added */
} Journal;

/* What this boot's events said so far, for a watcher that replaces another one. */
typedef struct {
    unsigned stages_begun, stages_done; /* bits of Stage, since the last reboot */
    unsigned stalls;                    /* bits of StallKind, since the last reboot */
    bool has_provision, has_agent, has_rebooted, is_paused, has_end;
} JournalPast;

void journal_init(Journal *journal, int dirfd, EventStamp stamp);
/* members: stolen, NULL: none. */
void journal_write(Journal *journal, const char *type, json_t *members);
void journal_write_vital(Journal *journal, const char *type, json_t *members);
/* Reads the whole file once, when a watcher begins. */
JournalPast journal_past(const Journal *journal);
/* Did a command ask for the end (a stop event of this boot near the end of the file)? */
bool journal_has_stop(const Journal *journal);
