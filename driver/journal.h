#pragma once
#include <stdbool.h>
#include <sys/types.h>
#include "driver/plan.h"

/*
 * The journal of one machine: what is being done to it right now, written before each effect and
 * durable (fdatasync). It says after a crash what has to be undone: an open START of a new machine
 * is rolled back whole, of an older one to "stopped"; an open END or DESTROY is done again; an open
 * UPDATE is taken back, or finished, by machine_update_finish(). Each operation begins a new file
 * (written whole, renamed), so it never grows.
 */
typedef enum {
    JOURNAL_NONE,
    JOURNAL_START_NEW,
    JOURNAL_START,
    JOURNAL_END,
    JOURNAL_DESTROY,
    JOURNAL_UPDATE, /* a live change: what runs goes on */
    JOURNAL_N
} JournalOp;

typedef struct {
    JournalOp
        op; /* of the last operation, NONE: the file is missing or damaged before its first line */
    bool is_open; /* begun and not committed */
    bool has_reached[STEP_N];
    pid_t pid;          /* who began it */
    uint64_t pid_start; /* its start time, in ticks */
} Journal;

bool machine_journal_begin(int dirfd, JournalOp op, GError **error);
bool machine_journal_intent(int dirfd, StepKind kind, unsigned index, GError **error);
bool machine_journal_commit(int dirfd, GError **error);
/* A torn last line (power loss) is ignored: its effect had not begun. Missing file: op NONE, not
 * open. */
void machine_journal_read(int dirfd, Journal *out);
/* Does what was cut off leave nothing of the machine: the start of a new one, or a removal? */
bool machine_journal_wants_all_gone(const Journal *journal);
/* Is the process that began the open operation still alive? */
bool machine_journal_is_alive(const Journal *journal);
