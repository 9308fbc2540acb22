#pragma once
#include <stdbool.h>
#include "driver/watch/loop.h"

/*
 * The ssh probe: connects to the guest's ssh and reads its banner "SSH-". User networking accepts
 * every connection at once, whatever the guest does, so only the banner counts. Stops at its first
 * success of a boot.
 */
struct Watch;

typedef struct {
    struct Watch *watch;
    LoopSource source;
    LoopTimer next;  /* when to try (again) */
    LoopTimer limit; /* of one try */
    unsigned wait_ms;
    int fd;     /* -1: no try under way */
    bool is_on; /* tries are being made */
    bool is_done;
    unsigned n_read; /* bytes of the banner so far */
} Probe;

void probe_init(Probe *probe, struct Watch *watch);
/* A boot begins: the first try comes with the first sign of init, or after a while without one. */
void probe_restart(Probe *probe);
/* The guest is far enough: tries at once, if no tries are being made. */
void probe_now(Probe *probe);
/* The guest says that its sshd runs: the next try is now. */
void probe_hurry(Probe *probe);
/* No more tries in this boot. */
void probe_end(Probe *probe);
