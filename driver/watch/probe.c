#include "driver/watch/probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "driver/watch/state.h"

#define FIRST_TRY_MS 15000 /* for guests whose console says nothing that we know */
#define WAIT_MIN_MS  500
#define WAIT_MAX_MS  3000
#define TRY_MS       5000

static const char banner[] = "SSH-";

static void stop_try(Probe *probe)
{
    loop_remove(&probe->watch->loop, &probe->source);
    loop_timer_stop(&probe->limit);
    if (probe->fd >= 0) {
        close(probe->fd);
        probe->fd = -1;
    }
}

static void try_later(void *data)
{
    Probe *probe = data;
    stop_try(probe);
    loop_timer_in(&probe->watch->loop, &probe->next, probe->wait_ms);
    probe->wait_ms = probe->wait_ms * 2 > WAIT_MAX_MS ? WAIT_MAX_MS : probe->wait_ms * 2;
}

static void probe_ready(void *data, uint32_t events)
{
    Probe *probe = data;
    char bytes[sizeof banner];
    (void)events;
    ssize_t n = read(probe->fd, bytes, strlen(banner) - probe->n_read);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0 || memcmp(bytes, banner + probe->n_read, (size_t)n) != 0) {
        try_later(probe);
        return;
    }
    probe->n_read += (unsigned)n;
    if (probe->n_read == strlen(banner)) {
        stop_try(probe);
        probe->is_done = true;
        boot_ssh_done(&probe->watch->boot);
    }
}

/* A socket that is being connected, -1: not to be had. */
static int connect_tcp(const char *addr, uint16_t port)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    bool is_v4 = inet_pton(AF_INET, addr, &v4.sin_addr) == 1;
    if (!is_v4 && inet_pton(AF_INET6, addr, &v6.sin6_addr) != 1) {
        return -1;
    }
    const struct sockaddr *to = is_v4 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
    int fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, to, is_v4 ? sizeof v4 : sizeof v6) != 0 && errno != EINPROGRESS) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static void try_now(void *data)
{
    Probe *probe = data;
    const WatchConfig *config = &probe->watch->config;
    probe->is_on = true;
    probe->n_read = 0;
    probe->fd = connect_tcp(config->ssh_addr, config->ssh_port);
    if (probe->fd < 0 || !loop_add(&probe->watch->loop, &probe->source, probe->fd, EPOLLIN)) {
        try_later(probe);
        return;
    }
    loop_timer_in(&probe->watch->loop, &probe->limit, TRY_MS);
}

void probe_init(Probe *probe, Watch *watch)
{
    *probe = (Probe){.watch = watch, .fd = -1};
    probe->next.expired = try_now;
    probe->limit.expired = try_later;
    probe->next.data = probe->limit.data = probe;
    loop_source_init(&probe->source, probe_ready, probe);
}

void probe_restart(Probe *probe)
{
    stop_try(probe);
    probe->is_on = probe->is_done = false;
    probe->wait_ms = WAIT_MIN_MS;
    if (probe->watch->config.ssh_port != 0) {
        loop_timer_in(&probe->watch->loop, &probe->next, FIRST_TRY_MS);
    }
}

void probe_now(Probe *probe)
{
    if (probe->watch->config.ssh_port != 0 && !probe->is_on && !probe->is_done) {
        loop_timer_stop(&probe->next);
        try_now(probe);
    }
}

void probe_hurry(Probe *probe)
{
    if (probe->watch->config.ssh_port != 0 && !probe->is_done) {
        stop_try(probe);
        probe->wait_ms = WAIT_MIN_MS;
        loop_timer_stop(&probe->next);
        try_now(probe);
    }
}

void probe_end(Probe *probe)
{
    stop_try(probe);
    loop_timer_stop(&probe->next);
    probe->is_done = true;
}
