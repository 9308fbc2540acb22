#pragma once
#include <stdbool.h>
#include <jansson.h>
#include "driver/line_buffer.h"
#include "driver/watch/loop.h"

/*
 * QEMU's second monitor, held for as long as the machine runs: connects, negotiates, asks for what
 * may have happened before, and turns QMP events into facts. A lost connection is made again.
 */
#define MONITOR_PORTS_MAX 8

struct Watch;

typedef struct {
    struct Watch *watch;
    LoopSource source;
    LoopTimer retry;
    unsigned retry_ms;
    int fd;        /* -1: not connected */
    bool is_live;  /* negotiated */
    bool was_live; /* ever: then it would have told us of a shutdown */
    bool is_paused;
    LineBuffer lines;
    char ports[MONITOR_PORTS_MAX]
              [64]; /* virtserialport devices, by the number in the request's id */
    unsigned n_ports;
    char agent_device[64]; /* the one that is the guest agent's, "": not known */
    char agent_chardev[64];
} Monitor;

void monitor_init(Monitor *monitor, struct Watch *watch);
void monitor_begin(Monitor *monitor);
/* Reads what QEMU said last. */
void monitor_drain(Monitor *monitor);
void monitor_end(Monitor *monitor);
