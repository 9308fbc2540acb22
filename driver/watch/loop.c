#include "driver/watch/loop.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "driver/event_line.h"

/* Sets the timer descriptor to the earliest timer, if that changed. */
static void arm(Loop *loop)
{
    uint64_t earliest = 0;
    for (LoopTimer *timer = loop->timers; timer; timer = timer->next) {
        if (timer->due_ms != 0 && (earliest == 0 || timer->due_ms < earliest)) {
            earliest = timer->due_ms;
        }
    }
    if (earliest == loop->armed_ms) {
        return;
    }
    struct itimerspec spec = {
        .it_value = {(time_t)(earliest / 1000), (long)(earliest % 1000) * 1000000},
    };
    timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
    loop->armed_ms = earliest;
}

static void timers_ready(void *data, uint32_t events)
{
    Loop *loop = data;
    (void)events;
    uint64_t n;
    if (read(loop->timer_fd, &n, sizeof n) != sizeof n) {
        return;
    }
    loop->armed_ms = 0;
    uint64_t now = event_clock_ms();
    for (LoopTimer *timer = loop->timers; timer; timer = timer->next) {
        if (timer->due_ms != 0 && timer->due_ms <= now) {
            timer->due_ms = 0;
            timer->expired(timer->data);
        }
    }
}

bool loop_init(Loop *loop)
{
    *loop = (Loop){.epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
    loop->timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    loop_source_init(&loop->timer_source, timers_ready, loop);
    return loop->epoll_fd >= 0 && loop->timer_fd >= 0 &&
           loop_add(loop, &loop->timer_source, loop->timer_fd, EPOLLIN);
}

void loop_close(Loop *loop)
{
    close(loop->timer_fd);
    close(loop->epoll_fd);
}

void loop_run(Loop *loop)
{
    while (!loop->is_quitting) {
        struct epoll_event event;
        arm(loop);
        int n = epoll_wait(loop->epoll_fd, &event, 1, -1);
        if (n == 1) {
            LoopSource *source = event.data.ptr;
            source->ready(source->data, event.events);
        } else if (n < 0 && errno != EINTR) {
            return;
        }
    }
}

void loop_quit(Loop *loop)
{
    loop->is_quitting = true;
}

void loop_source_init(LoopSource *source, void (*ready)(void *data, uint32_t events), void *data)
{
    *source = (LoopSource){.ready = ready, .data = data, .fd = -1};
}

bool loop_add(Loop *loop, LoopSource *source, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data = {.ptr = source}};
    loop_remove(loop, source);
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        return false;
    }
    source->fd = fd;
    source->events = events;
    return true;
}

void loop_remove(Loop *loop, LoopSource *source)
{
    loop_timer_stop(&source->rest);
    if (source->fd >= 0) {
        epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
        source->fd = -1;
    }
}

/* What loop_rest() needs at its end; kept in the source itself. */
static void rest_is_over(void *data)
{
    LoopSource *source = data;
    struct epoll_event event = {.events = source->events, .data = {.ptr = source}};
    epoll_ctl(source->rest_epoll_fd, EPOLL_CTL_ADD, source->fd, &event);
}

void loop_rest(Loop *loop, LoopSource *source, unsigned ms)
{
    if (source->fd < 0 || source->rest.due_ms != 0) {
        return;
    }
    epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
    source->rest.expired = rest_is_over;
    source->rest.data = source;
    source->rest_epoll_fd = loop->epoll_fd;
    loop_timer_in(loop, &source->rest, ms);
}

void loop_timer_at(Loop *loop, LoopTimer *timer, uint64_t due_ms)
{
    if (!timer->is_known) {
        timer->next = loop->timers;
        loop->timers = timer;
        timer->is_known = true;
    }
    timer->due_ms = due_ms ? due_ms : 1;
}

void loop_timer_in(Loop *loop, LoopTimer *timer, uint64_t ms)
{
    loop_timer_at(loop, timer, event_clock_ms() + ms);
}

void loop_timer_stop(LoopTimer *timer)
{
    timer->due_ms = 0;
}
