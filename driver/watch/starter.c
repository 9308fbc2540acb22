#include "driver/watch/starter.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "driver/watch/state.h"

#define OUR_FD 3

static void exec_program(char **argv, int fd, const sigset_t *mask)
{
    char number[16];
    snprintf(number, sizeof number, "%d", fd);
    if (fcntl(fd, F_SETFD, 0) != 0 || setenv(STARTER_SOCKET_ENV, number, 1) != 0) {
        _exit(127);
    }
    setpgid(0, 0);
    sigprocmask(SIG_SETMASK, mask, NULL);
    execv(argv[0], argv);
    dprintf(STDERR_FILENO, "cannot start '%s': %s\n", argv[0], strerror(errno));
    _exit(127);
}

int starter_keep_only(int fd)
{
    int last = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, OUR_FD);
    if (last > OUR_FD) {
        last = dup3(last, OUR_FD, O_CLOEXEC);
    }
    close_range(last < 0 ? OUR_FD : OUR_FD + 1, ~0U, 0);
    return last;
}

bool starter_exec(Starter *starter, char **argv, const sigset_t *mask)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        return false;
    }
    starter->pid = fork();
    if (starter->pid == 0) {
        exec_program(argv, ends[1], mask);
    }
    if (starter->pid < 0) {
        return false;
    }
    starter->fd = starter_keep_only(ends[0]);
    return fcntl(starter->fd, F_SETFL, O_NONBLOCK) == 0;
}

static void answer(Starter *starter, const char *text)
{
    char line[520];
    int n = snprintf(line, sizeof line, "%s\n", text);
    if (starter->fd >= 0) {
        send(starter->fd, line, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
}

static void take_line(Starter *starter, const char *line)
{
    Watch *watch = starter->watch;
    if (strcmp(line, "quit") == 0) {
        loop_quit(&watch->loop);
    } else if (strncmp(line, "watch ", strlen("watch ")) != 0) {
        answer(starter, "error unknown word");
    } else if (watch->is_watching) {
        answer(starter, "error a machine is watched already");
    } else {
        watch_begin(watch, line + strlen("watch "), false, starter->fd);
    }
}

static void starter_ready(void *data, uint32_t events)
{
    Starter *starter = data;
    (void)events;
    size_t n;
    char *line;
    long n_read = line_buffer_fill(&starter->lines, starter->fd);
    if (n_read < 0 && errno == EAGAIN) {
        return;
    }
    if (n_read <= 0) { /* its other end is closed; its exit decides */
        starter_end(starter);
        return;
    }
    while (starter->fd >= 0 && (line = line_buffer_next(&starter->lines, &n))) {
        take_line(starter, line);
    }
}

void starter_begin(Starter *starter, Watch *watch)
{
    starter->watch = watch;
    loop_source_init(&starter->source, starter_ready, starter);
    if (!line_buffer_init(&starter->lines, PATH_MAX + 64) ||
        !loop_add(&watch->loop, &starter->source, starter->fd, EPOLLIN)) {
        loop_quit(&watch->loop);
    }
}

void starter_ended(Starter *starter)
{
    starter->pid = 0;
    if (starter->fd >= 0) {
        starter_ready(starter, 0);
    }
    starter_end(starter);
    if (!starter->watch->is_watching) {
        loop_quit(&starter->watch->loop);
    }
}

void starter_end(Starter *starter)
{
    if (starter->fd >= 0) {
        starter->watch->ok_fd = starter->watch->ok_fd == starter->fd ? -1 : starter->watch->ok_fd;
        loop_remove(&starter->watch->loop, &starter->source);
        close(starter->fd);
        starter->fd = -1;
        line_buffer_clear(&starter->lines);
    }
}
