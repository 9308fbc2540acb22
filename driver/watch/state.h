#pragma once
#include <stdbool.h>
#include <signal.h>
#include <sys/types.h>
#include "driver/watch/boot.h"
#include "driver/watch/config.h"
#include "driver/watch/console.h"
#include "driver/watch/end.h"
#include "driver/watch/journal.h"
#include "driver/watch/loop.h"
#include "driver/watch/monitor.h"
#include "driver/watch/probe.h"
#include "driver/watch/starter.h"
#include "driver/watch/status.h"

/* All of one watcher; its parts know each other through it. */
typedef struct Watch {
    Loop loop;
    LoopSource signals;
    sigset_t first_mask; /* what children get */
    Starter starter;
    bool is_watching;
    WatchConfig config;
    int dirfd, lock_fd;
    int ok_fd; /* who waits for "ok": the starter's socket or --ready-fd; -1: nobody any more */
    LoopTimer ok_limit;
    Journal journal;
    Console console;
    Monitor monitor;
    StatusPort status;
    Probe probe;
    Boot boot;
    End end;
} Watch;

/*
 * Begins to watch the machine in `dir` (absolute). `answer_fd` (borrowed, -1: nobody) gets "ok" as
 * soon as QEMU's monitor would tell us of a shutdown (after half a second in any case), or "error
 * ..." and nothing has changed. is_replacement: another one's work goes on, QEMU may be gone.
 */
void watch_begin(Watch *watch, const char *dir, bool is_replacement, int answer_fd);

/* The monitor is ready, or will never be. Once; later calls do nothing. */
void watch_say_ok(Watch *watch);

/* Gives everything back: sockets, timers, the lock and its file. Twice is fine. */
void watch_let_go(Watch *watch);
