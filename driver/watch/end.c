#include "driver/watch/end.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver/watch/state.h"

/* What QEMU says in SHUTDOWN (qapi/run-state.json, ShutdownCause) and what it means for the
 * machine. */
static const struct {
    const char *cause, *reason, *detail;
} causes[] = {
    {"guest-shutdown", "guest-shutdown", "the guest switched itself off"},
    {"guest-reset", "guest-shutdown", "the guest reset itself and may not start again"},
    {"guest-panic", "guest-panic", "the guest's kernel panicked"},
    {"host-qmp-quit", "killed", "QEMU was told to quit"},
    {"host-signal", "killed", "QEMU was ended by a signal"},
    {"host-ui", "killed", "QEMU's window was closed"},
    {"host-error", "crashed", "QEMU met an error of the host"},
};

static void qemu_ready(void *data, uint32_t events)
{
    (void)events;
    end_qemu(data);
}

void end_init(End *end, Watch *watch)
{
    *end = (End){.watch = watch, .pidfd = -1};
    loop_source_init(&end->qemu, qemu_ready, end);
}

/* Field 22 of /proc/PID/stat, 0: gone. The name in field 2 may hold anything, so from its last ')'
 * on. */
static uint64_t start_ticks_of(pid_t pid)
{
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0) {
        close(fd);
    }
    if (n <= 0) {
        return 0;
    }
    text[n] = '\0';
    const char *at = strrchr(text, ')');
    unsigned long long ticks = 0;
    if (!at ||
        sscanf(at + 1,
               " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
               &ticks) != 1) {
        return 0;
    }
    return ticks;
}

bool end_watch_qemu(End *end, pid_t pid, uint64_t start_ticks)
{
    int pidfd = pidfd_open(pid, 0);
    if (pidfd < 0) {
        return false;
    }
    if (start_ticks_of(pid) != start_ticks ||
        !loop_add(&end->watch->loop, &end->qemu, pidfd, EPOLLIN)) {
        close(pidfd);
        return false;
    }
    end->pidfd = pidfd;
    return true;
}

void end_cause(End *end, const char *cause)
{
    /* The guest's own shutdown is why, whoever signals what is left of QEMU afterwards. */
    if (!cause || strncmp(end->cause, "guest-", 6) != 0) {
        snprintf(end->cause, sizeof end->cause, "%s", cause ? cause : "");
    }
}

void end_child(End *end, pid_t pid, int status)
{
    if (pid == end->command_pid) {
        loop_quit(&end->watch->loop);
        return;
    }
    end->reaped[end->n_reaped++ % END_REAPED_MAX] = (Reaped){.pid = pid, .status = status};
}

/* QEMU's wait status; false: it was no child of ours. */
static bool qemu_status(End *end, int *out_status)
{
    pid_t pid = end->watch->config.qemu_pid;
    int status;
    if (waitpid(pid, &status, WNOHANG) == pid) {
        end_child(end, pid, status);
    }
    for (unsigned i = 0; i < END_REAPED_MAX; i++) {
        if (end->reaped[i].pid == pid) {
            *out_status = end->reaped[i].status;
            return true;
        }
    }
    return false;
}

static void explain_status(int status, const char **reason, const char **detail, json_t *event)
{
    if (WIFSIGNALED(status)) {
        int number = WTERMSIG(status);
        bool is_kill =
            number == SIGKILL || number == SIGTERM || number == SIGINT || number == SIGHUP;
        *reason = is_kill ? "killed" : "crashed";
        *detail = is_kill ? "QEMU was killed" : "QEMU crashed";
        json_object_set_new(event, "signal", json_integer(number));
    } else if (WEXITSTATUS(status) != 0) {
        *reason = "crashed";
        *detail = "QEMU ended with an error";
    }
}

static json_t *explain(End *end)
{
    Watch *watch = end->watch;
    json_t *event = json_object();
    const char *reason = watch->monitor.was_live ? "crashed" : "lost";
    const char *detail = watch->monitor.was_live
                             ? "QEMU ended without a word: it crashed or was killed"
                             : "QEMU ended while nobody watched";
    int status = 0;
    bool has_status = qemu_status(end, &status);
    if (has_status) {
        explain_status(status, &reason, &detail, event);
        if (!WIFSIGNALED(status)) {
            json_object_set_new(event, "exit_status", json_integer(WEXITSTATUS(status)));
        }
    }
    for (size_t i = 0; i < sizeof causes / sizeof *causes; i++) {
        if (strcmp(end->cause, causes[i].cause) == 0) {
            reason = causes[i].reason;
            detail = causes[i].detail;
        }
    }
    if (journal_has_stop(&watch->journal)) {
        bool is_host = strcmp(reason, "killed") == 0 || strcmp(reason, "lost") == 0;
        detail = is_host ? "a command ended it"
                 : strcmp(reason, "guest-shutdown") == 0
                     ? "the guest switched itself off when asked to"
                     : detail;
        reason = is_host ? "stopped" : reason;
    }
    json_object_set_new(event, "reason", json_string(reason));
    json_object_set_new(event, "detail", json_string(detail));
    return event;
}

/* Runs the end command on /dev/null, without anything of ours. */
static void run_command(End *end)
{
    char **argv = end->watch->config.end_command;
    pid_t pid = argv ? fork() : -1;
    if (pid == 0) {
        close_range(3, ~0U, 0);
        setpgid(0, 0);
        signal(SIGPIPE, SIG_DFL);
        sigprocmask(SIG_SETMASK, &end->watch->first_mask, NULL);
        execv(argv[0], argv);
        _exit(127);
    }
    if (pid < 0) {
        loop_quit(&end->watch->loop);
        return;
    }
    end->command_pid = pid;
}

void end_qemu(End *end)
{
    Watch *watch = end->watch;
    loop_remove(&watch->loop, &end->qemu);
    watch_say_ok(watch);
    monitor_drain(&watch->monitor);
    status_drain(&watch->status);
    if (!end->is_told) {
        end->is_told = true;
        journal_write_vital(&watch->journal, "end", explain(end));
    }
    watch_let_go(watch);
    run_command(end);
}
