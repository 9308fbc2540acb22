#pragma once
#include <stdbool.h>
#include "driver/line_buffer.h"
#include "driver/watch/loop.h"

/*
 * The status port: lines of the feeder in the guest (cloudinit/feeder.h). It must always be read: a
 * guest that writes to a port which nobody reads waits. A lost connection is made again.
 */
struct Watch;

typedef struct {
    struct Watch *watch;
    LoopSource source;
    LoopTimer retry;
    unsigned retry_ms;
    int fd; /* -1: not connected */
    LineBuffer lines;
} StatusPort;

/* Nothing to do when the machine has no status port. */
void status_begin(StatusPort *status, struct Watch *watch);
void status_drain(StatusPort *status);
void status_end(StatusPort *status);
