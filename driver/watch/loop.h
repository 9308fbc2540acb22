#pragma once
#include <stdbool.h>
#include <stdint.h>

/*
 * The event loop of the watcher: epoll for descriptors, one timerfd (CLOCK_BOOTTIME) for all
 * timers. One descriptor is served at a time, so a callback may remove or free any other one.
 * Nothing is polled.
 */
typedef struct LoopTimer {
    void (*expired)(void *data);
    void *data;
    uint64_t due_ms; /* CLOCK_BOOTTIME, 0: off */
    struct LoopTimer *next;
    bool is_known; /* in the loop's list */
} LoopTimer;

typedef struct LoopSource {
    void (*ready)(void *data, uint32_t events); /* EPOLLIN ... */
    void *data;
    int fd; /* -1: not in the loop; borrowed */
    uint32_t events;
    LoopTimer rest; /* see loop_rest() */
    int rest_epoll_fd;
} LoopSource;

typedef struct Loop {
    int epoll_fd;
    int timer_fd;
    LoopSource timer_source;
    LoopTimer *timers;
    uint64_t armed_ms; /* what timer_fd is set to */
    bool is_quitting;
} Loop;

bool loop_init(Loop *loop); /* false: errno */
void loop_close(Loop *loop);
/* Serves until loop_quit(). */
void loop_run(Loop *loop);
void loop_quit(Loop *loop);

/* Sets ready and data; fd is -1 afterwards. */
void loop_source_init(LoopSource *source, void (*ready)(void *data, uint32_t events), void *data);
bool loop_add(Loop *loop, LoopSource *source, int fd, uint32_t events);
/* Absent is fine. Does not close the descriptor. */
void loop_remove(Loop *loop, LoopSource *source);
/* Looks away from a source for ms: a guest that writes without end costs a bounded share of the
 * CPU. */
void loop_rest(Loop *loop, LoopSource *source, unsigned ms);

/* Starts a timer (anew). timer->expired and data are set by its owner, who keeps it in place. */
void loop_timer_at(Loop *loop, LoopTimer *timer, uint64_t due_ms);
void loop_timer_in(Loop *loop, LoopTimer *timer, uint64_t ms);
void loop_timer_stop(LoopTimer *timer);
