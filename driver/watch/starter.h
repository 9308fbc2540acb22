#pragma once
#include <stdbool.h>
#include <signal.h>
#include <sys/types.h>
#include "driver/line_buffer.h"
#include "driver/watch/loop.h"

/* The starter below a watcher: our first child, and the socket on which it says what to watch
 * (driver/watch.h). */
#define STARTER_SOCKET_ENV "VM_RUN_WATCH_FD"

struct Watch;

typedef struct {
    struct Watch *watch;
    pid_t pid; /* 0: none, or ended */
    int fd;    /* -1: none, or closed */
    LoopSource source;
    LineBuffer lines;
} Starter;

/* Closes all descriptors from 3 on but `fd` (-1: all), which gets another number: returned, -1
 * without it. */
int starter_keep_only(int fd);
/* Starts argv with all descriptors of ours, then closes them here. mask: its signal mask. false:
 * errno. */
bool starter_exec(Starter *starter, char **argv, const sigset_t *mask);
/* Listens to it. */
void starter_begin(Starter *starter, struct Watch *watch);
/* It ended; what it said before is heard first. */
void starter_ended(Starter *starter);
void starter_end(Starter *starter);
