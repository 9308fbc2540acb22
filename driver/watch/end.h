#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "driver/watch/loop.h"

/*
 * The end of QEMU: seen by a pidfd, explained by what its monitor said last, by its exit status
 * when we are its parent (the subreaper), and by the stop event of a command; told by the end
 * event; then the end command runs.
 */
#define END_REAPED_MAX 16

struct Watch;

typedef struct {
    pid_t pid;
    int status;
} Reaped;

typedef struct {
    struct Watch *watch;
    LoopSource qemu; /* its pidfd */
    int pidfd;       /* -1: none */
    bool is_told;
    pid_t command_pid;             /* the end command, 0: not running */
    Reaped reaped[END_REAPED_MAX]; /* ring: children that ended, QEMU perhaps among them before we
                                      know its pid */
    unsigned n_reaped;
    char cause[32]; /* of the last SHUTDOWN event, "" */
} End;

void end_init(End *end, struct Watch *watch);
/* Watches this process. false: it has ended already. */
bool end_watch_qemu(End *end, pid_t pid, uint64_t start_ticks);
/* From the monitor: SHUTDOWN's reason; NULL: it goes on after all (a reset). */
void end_cause(End *end, const char *cause);
/* A child ended. */
void end_child(End *end, pid_t pid, int status);
/* Writes the end event (unless another watcher did: is_told), gives the lock back, runs the end
 * command, and quits the loop. Once. */
void end_qemu(End *end);
