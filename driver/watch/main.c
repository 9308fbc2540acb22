#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver/watch/state.h"

/*
 * vm-run-watch: see driver/watch.h. How it works: one process, one thread, one loop. What it knows
 * comes from five sources (QEMU's monitor, its pidfd, the serial log, the status port, the ssh
 * probe); boot.c turns it into stages, end.c into the end. Nothing of ours may outlive the machine,
 * and nothing of the machine may end with us.
 */

#define OK_LIMIT_MS 500

/* Takes the machine's watcher lock; -1: another one has it (errno EAGAIN), or it can't be had. */
static int take_lock(int dirfd)
{
    for (int i = 0; i < 3; i++) {
        int fd = openat(dirfd, WATCH_LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        struct stat opened, named;
        if (fd < 0 || fcntl(fd, F_SETLK, &lock) != 0) {
            int errnum = fd >= 0 && errno == EACCES ? EAGAIN : errno;
            close(fd);
            errno = errnum;
            return -1;
        }
        if (fstat(fd, &opened) == 0 &&
            fstatat(dirfd, WATCH_LOCK_FILE, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
            opened.st_ino == named.st_ino) {
            if (ftruncate(fd, 0) == 0) {
                dprintf(fd, "%d\n", getpid());
            }
            return fd;
        }
        close(fd); /* its holder removed it just now */
    }
    errno = EAGAIN;
    return -1;
}

void watch_let_go(Watch *watch)
{
    if (watch->lock_fd < 0) {
        return;
    }
    probe_end(&watch->probe);
    monitor_end(&watch->monitor);
    status_end(&watch->status);
    console_end(&watch->console);
    boot_clear(&watch->boot);
    unlinkat(watch->dirfd, WATCH_LOCK_FILE, 0);
    close(watch->lock_fd);
    watch->lock_fd = -1;
}

/* Where reading the serial log begins. A replacement after a reboot can't tell the boots in it
 * apart. */
static uint64_t log_begin(const Watch *watch, const JournalPast *past)
{
    return past && past->has_rebooted ? UINT64_MAX : watch->config.log_offset;
}

static void begin_parts(Watch *watch, const char *dir, bool is_replacement)
{
    JournalPast past = {0};
    journal_init(&watch->journal, watch->dirfd, watch->config.stamp);
    if (is_replacement) {
        past = journal_past(&watch->journal);
    }
    const JournalPast *told = is_replacement ? &past : NULL;
    end_init(&watch->end, watch);
    watch->end.is_told = past.has_end;
    probe_init(&watch->probe, watch);
    probe_restart(&watch->probe);
    monitor_init(&watch->monitor, watch);
    watch->monitor.is_paused = past.is_paused;
    boot_begin(&watch->boot, watch, told);
    bool is_running = end_watch_qemu(&watch->end, watch->config.qemu_pid, watch->config.qemu_start);
    console_begin(&watch->console, watch, dir, log_begin(watch, told));
    status_begin(&watch->status, watch);
    if (is_running) {
        monitor_begin(&watch->monitor);
    } else {
        end_qemu(&watch->end);
    }
}

/* For a socket or a pipe; the other end may be gone. */
static void say(int fd, const char *text)
{
    char line[520];
    int n = snprintf(line, sizeof line, "%s\n", text);
    ssize_t ignored = fd >= 0 ? write(fd, line, (size_t)n) : 0;
    (void)ignored;
}

void watch_say_ok(Watch *watch)
{
    say(watch->ok_fd, "ok");
    watch->ok_fd = -1;
    loop_timer_stop(&watch->ok_limit);
}

static void ok_limit_expired(void *data)
{
    watch_say_ok(data);
}

/* Opens the machine's directory, loads its record, takes its lock. false: `why` is set, nothing is
 * held. */
static bool take_machine(Watch *watch, const char *dir, bool *out_is_taken, char *why, size_t n_why)
{
    int dirfd = dir[0] == '/' ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (dirfd < 0) {
        snprintf(why, n_why, "error cannot open the machine's directory: %s",
                 dir[0] == '/' ? strerror(errno) : "no absolute path");
        return false;
    }
    size_t n_word = (size_t)snprintf(why, n_why, "error ");
    bool is_loaded = watch_config_load(&watch->config, dirfd, why + n_word, n_why - n_word);
    watch->lock_fd = is_loaded ? take_lock(dirfd) : -1;
    *out_is_taken = is_loaded && watch->lock_fd < 0 && errno == EAGAIN;
    if (is_loaded && watch->lock_fd < 0) {
        snprintf(why + n_word, n_why - n_word, "cannot take the lock: %s", strerror(errno));
    }
    if (watch->lock_fd < 0) {
        watch_config_clear(&watch->config);
        close(dirfd);
        return false;
    }
    watch->dirfd = dirfd;
    return true;
}

void watch_begin(Watch *watch, const char *dir, bool is_replacement, int answer_fd)
{
    char why[400];
    bool is_taken = false;
    if (!take_machine(watch, dir, &is_taken, why, sizeof why)) {
        say(answer_fd, is_taken && is_replacement ? "ok" : why); /* another one watches */
        return;
    }
    watch->is_watching = true;
    watch->ok_fd = answer_fd;
    watch->ok_limit.expired = ok_limit_expired;
    watch->ok_limit.data = watch;
    loop_timer_in(&watch->loop, &watch->ok_limit, OK_LIMIT_MS);
    begin_parts(watch, dir, is_replacement);
}

static void reap(Watch *watch)
{
    pid_t pid;
    int status;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == watch->starter.pid) {
            starter_ended(&watch->starter);
        } else {
            end_child(&watch->end, pid, status);
        }
    }
}

static void signals_ready(void *data, uint32_t events)
{
    Watch *watch = data;
    struct signalfd_siginfo info;
    (void)events;
    while (read(watch->signals.fd, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo != SIGCHLD) {
            loop_quit(&watch->loop);
        }
    }
    reap(watch);
}

static void block_signals(Watch *watch, sigset_t *ours)
{
    sigemptyset(ours);
    sigaddset(ours, SIGCHLD);
    sigaddset(ours, SIGTERM);
    sigaddset(ours, SIGINT);
    sigprocmask(SIG_BLOCK, ours, &watch->first_mask);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
}

/* Our own standard descriptors: the caller's pipes must not stay open for as long as the machine
 * runs. */
static bool use_null(void)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    bool is_ok = fd >= 0 && dup2(fd, 0) >= 0 && dup2(fd, 1) >= 0 && dup2(fd, 2) >= 0;
    if (fd > 2) {
        close(fd);
    }
    return is_ok && chdir("/") == 0;
}

static int run(Watch *watch, const sigset_t *signals)
{
    int fd = signalfd(-1, signals, SFD_CLOEXEC | SFD_NONBLOCK);
    loop_source_init(&watch->signals, signals_ready, watch);
    if (fd < 0 || !loop_add(&watch->loop, &watch->signals, fd, EPOLLIN)) {
        return 1;
    }
    if (watch->starter.fd >= 0) {
        starter_begin(&watch->starter, watch);
    }
    loop_run(&watch->loop);
    watch_let_go(watch);
    watch_config_clear(&watch->config);
    starter_end(&watch->starter);
    loop_close(&watch->loop);
    return 0;
}

static int exec_main(Watch *watch, char **argv)
{
    sigset_t signals;
    setsid();
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) {
        return 1;
    }
    block_signals(watch, &signals);
    if (!starter_exec(&watch->starter, argv, &watch->first_mask) || !use_null() ||
        !loop_init(&watch->loop)) {
        return 1;
    }
    return run(watch, &signals);
}

static int dir_main(Watch *watch, const char *dir, int ready_fd)
{
    sigset_t signals;
    pid_t pid = fork();
    if (pid != 0) {
        return pid < 0;
    }
    setsid();
    block_signals(watch, &signals);
    ready_fd = starter_keep_only(ready_fd);
    if (!use_null() || !loop_init(&watch->loop)) {
        say(ready_fd, "error cannot set up");
        return 1;
    }
    watch_begin(watch, dir, true, ready_fd);
    return watch->is_watching ? run(watch, &signals) : 0;
}

static int usage(void)
{
    fputs("usage: vm-run-watch --exec -- PROGRAM [ARG...]\n"
          "       vm-run-watch --dir DIR [--ready-fd FD]\n"
          "Started by vm-run, not by hand.\n",
          stderr);
    return 2;
}

/* "--ready-fd FD": -1 when it is no number. */
static int parse_fd(const char *text)
{
    char *end;
    long fd = strtol(text, &end, 10);
    return *text && !*end && fd >= 0 && fd <= INT_MAX ? (int)fd : -1;
}

int main(int argc, char **argv)
{
    static Watch watch = {.dirfd = -1, .lock_fd = -1, .ok_fd = -1, .starter = {.fd = -1}};
    umask(077);
    unsetenv(STARTER_SOCKET_ENV); /* of a watcher above the caller */
    if (argc >= 4 && strcmp(argv[1], "--exec") == 0 && strcmp(argv[2], "--") == 0) {
        return exec_main(&watch, argv + 3);
    }
    bool is_dir = (argc == 3 || argc == 5) && strcmp(argv[1], "--dir") == 0;
    int ready_fd =
        is_dir && argc == 5 && strcmp(argv[3], "--ready-fd") == 0 ? parse_fd(argv[4]) : -1;
    if (!is_dir || (argc == 5 && ready_fd < 0)) {
        return usage();
    }
    return dir_main(&watch, argv[2], ready_fd);
}
