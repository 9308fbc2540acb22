#pragma once
#include <stdbool.h>

/*
 * Runs a function in a child of ours that is traced: it can be killed at any of the system calls by
 * which it changes something outside (messages, ioctls, writes, opens for writing), so a death is
 * tried at each point there is, not only at those that somebody thought of.
 */
typedef struct {
    unsigned n_calls;       /* system calls that may have an effect, up to its end */
    unsigned n_write_opens; /* of those: files opened for writing */
    bool is_killed;         /* by us */
    int status;             /* as waitpid(2) tells */
} TestTrace;

/* kill_at: at the start of which of those calls (from 1) it is killed with SIGKILL; 0: never. work
 * returns whether all is well: the child then ends with 0, else 1. */
TestTrace test_trace(bool (*work)(void *data), void *data, unsigned kill_at);
