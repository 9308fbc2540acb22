#include "net/network_supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/child.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/proc.h"
#include "net/dnsmasq.h"
#include "net/json.h"

#define PROGRAM "vm-run-net"

enum {
    STATE_MAX_BYTES = 4096,
    READY_MS = 10000, /* dnsmasq answers after some 40 ms */
    TERM_MS = 3000,   /* from SIGTERM to SIGKILL */
    ANSWER_MAX_BYTES = 1024
};

/* --- who it is -------------------------------------------------------------------------------- */

uint64_t net_supervisor_own_netns(void)
{
    struct stat st;
    return stat("/proc/thread-self/ns/net", &st) == 0 ? (uint64_t)st.st_ino : 0;
}

static pid_t lock_holder(int dirfd)
{
    autofd int fd =
        openat(dirfd, NET_SUPERVISOR_LOCK, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    bool is_held = fd >= 0 && fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    return is_held ? lock.l_pid : 0;
}

static void read_state(int dirfd, NetSupervisor *out)
{
    g_autofree char *text = base_file_read(dirfd, NET_SUPERVISOR_FILE, STATE_MAX_BYTES, NULL, NULL);
    json_t *object = text ? json_loads(text, 0, NULL) : NULL;
    uint64_t pid = 0;
    net_json_get_number(object, "dnsmasq", INT32_MAX, &pid);
    net_json_get_number(object, "dnsmasq_start", INT64_MAX, &out->dnsmasq_start);
    net_json_get_number(object, "netns", INT64_MAX, &out->netns);
    net_json_get_bool(object, "ready", &out->is_dnsmasq_ready);
    json_decref(object);
    if (pid > 0 && base_proc_start_ticks((pid_t)pid) == out->dnsmasq_start) {
        out->dnsmasq_pid = (pid_t)pid;
    }
}

void net_supervisor_find(int dirfd, NetSupervisor *out)
{
    *out = (NetSupervisor){.pid = lock_holder(dirfd)};
    read_state(dirfd, out);
}

pid_t net_supervisor_elsewhere(int dirfd)
{
    NetSupervisor state;
    net_supervisor_find(dirfd, &state);
    /* one that was killed before it wrote has none: it is replaced */
    return state.pid && state.netns && state.netns != net_supervisor_own_netns() ? state.pid : 0;
}

bool net_supervisor_write(int dirfd, const NetSupervisor *state, GError **error)
{
    json_t *object =
        json_pack("{s:i, s:I, s:i, s:I, s:b}", "pid", (int)state->pid, "netns",
                  (json_int_t)state->netns, "dnsmasq", (int)state->dnsmasq_pid, "dnsmasq_start",
                  (json_int_t)state->dnsmasq_start, "ready", state->is_dnsmasq_ready);
    g_autofree char *text = net_json_to_text(object);
    return base_file_write_whole(dirfd, NET_SUPERVISOR_FILE, text, strlen(text), 0600, error);
}

/* --- ending ----------------------------------------------------------------------------------- */

/* SIGTERM, then SIGKILL; waits. */
static bool end_process(int pidfd, pid_t pid, const char *what, GError **error)
{
    pidfd_send_signal(pidfd, SIGTERM, NULL, 0);
    if (base_proc_wait_end(pidfd, TERM_MS, NULL)) {
        return true;
    }
    pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
    return base_proc_wait_end(pidfd, TERM_MS, NULL) ||
           base_fail(error, VM_ERROR_LEFTOVER, "%s (pid %d) can't be ended", what, (int)pid);
}

bool net_supervisor_end_dnsmasq(int dirfd, GError **error)
{
    NetSupervisor state;
    net_supervisor_find(dirfd, &state);
    autofd int pidfd =
        state.dnsmasq_pid ? base_proc_open(state.dnsmasq_pid, state.dnsmasq_start) : -1;
    return pidfd < 0 || end_process(pidfd, state.dnsmasq_pid, "dnsmasq", error);
}

void net_supervisor_reload_dnsmasq(int dirfd)
{
    NetSupervisor state;
    net_supervisor_find(dirfd, &state);
    autofd int pidfd =
        state.dnsmasq_pid ? base_proc_open(state.dnsmasq_pid, state.dnsmasq_start) : -1;
    if (pidfd >= 0) {
        pidfd_send_signal(pidfd, SIGHUP, NULL, 0);
    }
}

bool net_supervisor_end(int dirfd, GError **error)
{
    pid_t pid = lock_holder(dirfd);
    autofd int pidfd = pid > 0 ? pidfd_open(pid, 0) : -1;
    if (pidfd >= 0 && lock_holder(dirfd) == pid && /* so the pidfd is of the holder */
        !end_process(pidfd, pid, "the network's supervisor", error)) {
        return false;
    }
    if (lock_holder(dirfd) != 0) {
        return base_fail(error, VM_ERROR_BUSY, "the network has another supervisor by now");
    }
    if (!net_supervisor_end_dnsmasq(dirfd, error)) { /* of one that was killed */
        return false;
    }
    unlinkat(dirfd, NET_SUPERVISOR_FILE, 0);
    unlinkat(dirfd, NET_SUPERVISOR_LOCK, 0);
    return true;
}

/* --- starting --------------------------------------------------------------------------------- */

static char *find_program(GError **error)
{
    static const char *const places[] = {PROGRAM, "../libexec/vm-run/" PROGRAM};
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *folder = g_path_get_dirname(self ? self : "/usr/bin/vm-run");
    for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
        g_autofree char *place = g_build_filename(folder, places[i], NULL);
        g_autofree char *path = g_canonicalize_filename(place, "/");
        if (access(path, X_OK) == 0) {
            return g_steal_pointer(&path);
        }
    }
    base_fail(error, VM_ERROR_NOT_FOUND,
              "the supervisor '" PROGRAM "' is not installed beside '%s'", folder);
    return NULL;
}

static int left_ms(gint64 end_us)
{
    return (int)MAX((end_us - g_get_monotonic_time() + 999) / 1000, 0);
}

/* "ok", or why not. */
static bool read_answer(int fd, gint64 end_us, GError **error)
{
    char answer[ANSWER_MAX_BYTES + 1];
    size_t n = 0;
    for (;;) {
        struct pollfd in = {.fd = fd, .events = POLLIN};
        int n_ready = poll(&in, 1, left_ms(end_us));
        if (n_ready == 0) {
            return base_fail(error, VM_ERROR_TIMEOUT, "the supervisor did not answer within %d ms",
                             READY_MS);
        }
        ssize_t n_read = n_ready > 0 ? read(fd, answer + n, ANSWER_MAX_BYTES - n) : -1;
        if (n_read < 0 && errno == EINTR) {
            continue;
        }
        n += n_read > 0 ? (size_t)n_read : 0;
        answer[n] = '\0';
        char *end = strchr(answer, '\n');
        if (n_read <= 0 || end || n == ANSWER_MAX_BYTES) {
            if (end) {
                *end = '\0';
            }
            return !strcmp(answer, "ok") ||
                   base_fail(error, VM_ERROR_HOST, "%s",
                             n ? answer : "the supervisor ended without an answer");
        }
    }
}

static void reap(pid_t pid)
{
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
}

/* Its first process ends at once; the second, nobody's child, answers when all is ready. */
static bool start(NetNetwork *network, gint64 end_us, GError **error)
{
    g_autofree char *program = find_program(error);
    int ends[2];
    if (!program) {
        return false;
    }
    if (pipe2(ends, O_CLOEXEC)) {
        base_error_set_errno(error, errno, "cannot make a pipe");
        return false;
    }
    autofd int answer_fd = ends[0];
    autofd int write_fd = ends[1];
    const char *const argv[] = {program, network->state_dir, network->store_id,
                                network->record->name, NULL};
    BaseChild child = BASE_CHILD_INIT;
    child.argv = argv;
    child.stdout_fd = write_fd;
    child.is_new_session = true;
    pid_t pid = base_child_spawn(&child, NULL, error);
    base_fd_close(&write_fd);
    if (pid < 0) {
        return false;
    }
    bool is_ok = read_answer(answer_fd, end_us, error);
    reap(pid);
    return is_ok;
}

static bool is_ready(const NetNetwork *network, const NetSupervisor *state)
{
    return !net_dnsmasq_is_needed(network) || (state->dnsmasq_pid && state->is_dnsmasq_ready);
}

/* Waits until the supervisor wrote its state again, or is no more. */
static bool wait_for_write(int inotify_fd, pid_t pid, gint64 end_us, GError **error)
{
    char events[4096];
    autofd int pidfd = pidfd_open(pid, 0);
    struct pollfd in[] = {{.fd = inotify_fd, .events = POLLIN}, {.fd = pidfd, .events = POLLIN}};
    int left = pidfd < 0 ? 0 : left_ms(end_us);
    int n = left > 0 ? poll(in, G_N_ELEMENTS(in), left) : 0;
    if (pidfd < 0) {
        return true;
    }
    if (n == 0) {
        return base_fail(error, VM_ERROR_TIMEOUT,
                         "dnsmasq does not answer - see its network's " NET_SUPERVISOR_LOG);
    }
    if (n > 0 && read(inotify_fd, events, sizeof events) < 0 && errno != EAGAIN) {
        base_error_set_errno(error, errno, "cannot wait for dnsmasq");
        return false;
    }
    return true;
}

static int watch_folder(const NetNetwork *network, GError **error)
{
    autofd int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", network->dirfd);
    if (fd < 0 || inotify_add_watch(fd, path, IN_MOVED_TO | IN_DELETE) < 0) {
        base_error_set_errno(error, errno, "cannot watch the folder of network '%s'",
                             network->record->name);
        return -1;
    }
    return base_fd_steal(&fd);
}

bool net_supervisor_begin(NetNetwork *network, GError **error)
{
    NetSupervisor state;
    net_supervisor_find(network->dirfd, &state);
    bool is_ours = state.pid && state.netns == net_supervisor_own_netns();
    if (is_ours && is_ready(network, &state)) {
        return true;
    }
    autofd int inotify_fd = watch_folder(network, error);
    gint64 end_us = g_get_monotonic_time() + (gint64)READY_MS * 1000;
    while (inotify_fd >= 0) {
        net_supervisor_find(network->dirfd, &state);
        is_ours = state.pid && state.netns == net_supervisor_own_netns();
        if (is_ours && is_ready(network, &state)) {
            return true;
        }
        if (!is_ours) { /* none, or killed at its begin */
            return net_supervisor_end(network->dirfd, error) && start(network, end_us, error);
        }
        if (!wait_for_write(inotify_fd, state.pid, end_us, error)) {
            return false;
        }
    }
    return false;
}
