#include "net/supervisor/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/capability.h>
#include <glib-unix.h>
#include "base/error.h"
#include "base/fd.h"
#include "base/proc.h"
#include "net/dnsmasq.h"

/*
 * dnsmasq, our child. It runs as its own user from its first instruction, with the three
 * capabilities that it needs as ambient ones: a change of user by itself would take the signal away
 * that ends it with us (prctl(2), PR_SET_PDEATHSIG). That it answers is told by its log: once it
 * has read the file "ready" of its last folder, its sockets are bound and its folders watched
 * (dnsmasq 2.90, inotify.c).
 */
enum {
    LINE_MAX_BYTES = 2000,
    END_MS = 2000,
    FIRST_WAIT_MS = 100,
    LAST_WAIT_MS = 10000,
    LOG_MAX = 30
};

/* --- the child -------------------------------------------------------------------------------- */

static bool keep_capabilities(void)
{
    static const int kept[] = {CAP_NET_ADMIN, CAP_NET_RAW, CAP_NET_BIND_SERVICE};
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};
    for (size_t i = 0; i < G_N_ELEMENTS(kept); i++) {
        data[0].effective |= 1U << kept[i];
    }
    data[0].permitted = data[0].inheritable = data[0].effective;
    if (syscall(SYS_capset, &header, data) != 0) {
        return false;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(kept); i++) {
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, kept[i], 0, 0) != 0) {
            return false;
        }
    }
    return true;
}

static bool become_user(uid_t uid, gid_t gid)
{
    return prctl(PR_SET_KEEPCAPS, 1) == 0 && setgroups(0, NULL) == 0 &&
           setresgid(gid, gid, gid) == 0 && setresuid(uid, uid, uid) == 0 && keep_capabilities();
}

static void G_GNUC_NORETURN run_dnsmasq(const Supervisor *supervisor, int log_fd, uid_t uid,
                                        gid_t gid, pid_t parent)
{
    static char *const no_env[] = {NULL};
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGHUP, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    bool is_ready = dup2(log_fd, STDERR_FILENO) >= 0 && become_user(uid, gid) &&
                    prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent;
    if (is_ready) {
        execve(supervisor->dnsmasq_argv[0], supervisor->dnsmasq_argv, no_env);
    }
    dprintf(STDERR_FILENO, "cannot run '%s': %s\n", supervisor->dnsmasq_argv[0], strerror(errno));
    _exit(127);
}

/* --- its life --------------------------------------------------------------------------------- */

static void begin_again_in(Supervisor *supervisor, unsigned ms);

static void set_state(Supervisor *supervisor, bool is_ready)
{
    supervisor->state.dnsmasq_pid = supervisor->dnsmasq_pid;
    supervisor->state.dnsmasq_start =
        supervisor->dnsmasq_pid ? base_proc_start_ticks(supervisor->dnsmasq_pid) : 0;
    supervisor->state.is_dnsmasq_ready = is_ready;
    supervisor_write_state(supervisor);
}

/* A guest must not fill the log, nor keep us busy with it: LOG_MAX lines a second. */
static void log_line(Supervisor *supervisor, const char *text)
{
    gint64 second = g_get_monotonic_time() / G_USEC_PER_SEC;
    if (second != supervisor->log_second) {
        if (supervisor->n_log_lines > LOG_MAX) {
            supervisor_log(supervisor, "dnsmasq: %u more lines were left out",
                           supervisor->n_log_lines - LOG_MAX);
        }
        supervisor->log_second = second;
        supervisor->n_log_lines = 0;
    }
    if (supervisor->n_log_lines++ < LOG_MAX) {
        supervisor_log(supervisor, "%s", text);
    }
}

static void take_line(Supervisor *supervisor, const char *line)
{
    const char *colon = strstr(line, ": ");
    const char *text = colon ? colon + 2 : line;
    bool is_read = g_str_has_prefix(text, "read ");
    if (is_read && strstr(text, supervisor->ready_mark) && !supervisor->state.is_dnsmasq_ready) {
        supervisor->n_dnsmasq_failures = 0;
        set_state(supervisor, true);
        supervisor_answer(supervisor, NULL);
    }
    if (!is_read && !g_str_has_prefix(text, "inotify: ")) {
        g_free(supervisor->dnsmasq_last);
        supervisor->dnsmasq_last = g_strdup_printf("dnsmasq: %s", text);
        log_line(supervisor, supervisor->dnsmasq_last);
    }
}

/* False: its end closed the pipe. */
static bool read_log(Supervisor *supervisor)
{
    char chunk[4096];
    ssize_t n;
    while ((n = read(supervisor->dnsmasq_log_fd, chunk, sizeof chunk)) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            if (chunk[i] == '\n') {
                take_line(supervisor, supervisor->dnsmasq_line->str);
                g_string_truncate(supervisor->dnsmasq_line, 0);
            } else if (chunk[i] && supervisor->dnsmasq_line->len < LINE_MAX_BYTES) {
                g_string_append_c(supervisor->dnsmasq_line, chunk[i]);
            }
        }
    }
    return n < 0 && (errno == EAGAIN || errno == EINTR);
}

static gboolean on_log(gint fd, GIOCondition condition, gpointer data)
{
    Supervisor *supervisor = data;
    (void)fd;
    (void)condition;
    if (read_log(supervisor)) {
        return G_SOURCE_CONTINUE;
    }
    supervisor->dnsmasq_log_source = 0;
    return G_SOURCE_REMOVE;
}

static void forget(Supervisor *supervisor)
{
    g_clear_handle_id(&supervisor->dnsmasq_source, g_source_remove);
    g_clear_handle_id(&supervisor->dnsmasq_log_source, g_source_remove);
    base_fd_close(&supervisor->dnsmasq_pidfd);
    base_fd_close(&supervisor->dnsmasq_log_fd);
    supervisor->dnsmasq_pid = 0;
}

static int reap(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
}

/* What a person does about its last line; transfer full. */
static char *last_words(const Supervisor *supervisor)
{
    const char *line = supervisor->dnsmasq_last ? supervisor->dnsmasq_last : "dnsmasq ended";
    bool is_taken = strstr(line, "listening socket") && strstr(line, "already in use");
    return g_strconcat(line,
                       is_taken ? " - another DNS server has port 53 of all addresses: let it bind "
                                  "its own only (dnsmasq: bind-dynamic), or give the network "
                                  "dns: false"
                                : "",
                       NULL);
}

static gboolean on_end(gint fd, GIOCondition condition, gpointer data)
{
    Supervisor *supervisor = data;
    (void)fd;
    (void)condition;
    bool was_ready = supervisor->state.is_dnsmasq_ready;
    read_log(supervisor);
    int status = reap(supervisor->dnsmasq_pid);
    supervisor->dnsmasq_source = 0;
    forget(supervisor);
    set_state(supervisor, false);
    if (supervisor->answer_fd >= 0) { /* it never answered: its network can't be up */
        g_autofree char *why = last_words(supervisor);
        supervisor_answer(supervisor, why);
        supervisor_quit(supervisor, 1);
        return G_SOURCE_REMOVE;
    }
    supervisor_log(supervisor, "dnsmasq ended (%s %d), starting it again",
                   WIFSIGNALED(status) ? "signal" : "status",
                   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    unsigned wait_ms = FIRST_WAIT_MS << MIN(supervisor->n_dnsmasq_failures, 7U);
    supervisor->n_dnsmasq_failures += !was_ready;
    begin_again_in(supervisor, was_ready ? 0 : MIN(wait_ms, (unsigned)LAST_WAIT_MS));
    return G_SOURCE_REMOVE;
}

/* Leases of an earlier one are not taken over: a machine that is gone may have had them. */
static void forget_leases(const Supervisor *supervisor)
{
    g_autofree char *folder = net_dnsmasq_folder(supervisor->store_id, supervisor->name);
    g_autofree char *file = g_build_filename(folder, "leases", "leases", NULL);
    unlink(file);
}

/* Takes the pidfd and the read end of the log. */
static void follow(Supervisor *supervisor, pid_t pid, int pidfd, int log_fd)
{
    supervisor->dnsmasq_pid = pid;
    supervisor->dnsmasq_bridge = supervisor->bridge_index;
    supervisor->dnsmasq_pidfd = pidfd;
    supervisor->dnsmasq_log_fd = log_fd;
    supervisor->dnsmasq_source = g_unix_fd_add(pidfd, G_IO_IN, on_end, supervisor);
    supervisor->dnsmasq_log_source = g_unix_fd_add(log_fd, G_IO_IN | G_IO_HUP, on_log, supervisor);
    set_state(supervisor, false);
}

static bool start(Supervisor *supervisor, GError **error)
{
    int ends[2];
    uid_t uid;
    gid_t gid;
    net_dnsmasq_user(&uid, &gid);
    forget_leases(supervisor);
    if (pipe2(ends, O_CLOEXEC) != 0) {
        base_error_set_errno(error, errno, "cannot make a pipe");
        return false;
    }
    autofd int log_fd = ends[0];
    autofd int write_fd = ends[1];
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        run_dnsmasq(supervisor, write_fd, uid, gid, parent);
    }
    autofd int pidfd = pid > 0 ? pidfd_open(pid, 0) : -1;
    if (pidfd < 0 || fcntl(log_fd, F_SETFL, O_NONBLOCK) != 0) {
        base_error_set_errno(error, errno, "cannot start dnsmasq");
        return false;
    }
    follow(supervisor, pid, base_fd_steal(&pidfd), base_fd_steal(&log_fd));
    return true;
}

static gboolean on_timer(gpointer data)
{
    Supervisor *supervisor = data;
    g_autoptr(GError) problem = NULL;
    supervisor->dnsmasq_timer = 0;
    if (!supervisor->dnsmasq_pid && !start(supervisor, &problem)) {
        supervisor_log(supervisor, "warning: %s", problem->message);
        begin_again_in(supervisor, LAST_WAIT_MS);
    }
    return G_SOURCE_REMOVE;
}

static void begin_again_in(Supervisor *supervisor, unsigned ms)
{
    g_clear_handle_id(&supervisor->dnsmasq_timer, g_source_remove);
    supervisor->dnsmasq_timer = g_timeout_add(ms, on_timer, supervisor);
}

static char *find_program(void)
{
    static const char *const places[] = {"/usr/sbin/dnsmasq", "/usr/local/sbin/dnsmasq"};
    char *path = g_find_program_in_path("dnsmasq");
    for (size_t i = 0; !path && i < G_N_ELEMENTS(places); i++) {
        path = access(places[i], X_OK) == 0 ? g_strdup(places[i]) : NULL;
    }
    return path;
}

bool resolver_begin(Supervisor *supervisor, NetNetwork *network, GError **error)
{
    supervisor->needs_dnsmasq = net_dnsmasq_is_needed(network);
    if (!supervisor->needs_dnsmasq) {
        supervisor_answer(supervisor, NULL);
        return true;
    }
    g_autofree char *program = find_program();
    if (!program) {
        return base_fail(error, VM_ERROR_HOST,
                         "dnsmasq is not installed - install the package dnsmasq-base, or give the "
                         "network dhcp: false and dns: false");
    }
    supervisor->dnsmasq_argv = net_dnsmasq_argv(network, program);
    supervisor->ready_mark = network->record->has_dhcp ? "/reservations/" NET_DNSMASQ_READY
                                                       : "/hosts/" NET_DNSMASQ_READY;
    supervisor->dnsmasq_line = g_string_new(NULL);
    return start(supervisor, error);
}

void resolver_refresh(Supervisor *supervisor)
{
    if (!supervisor->needs_dnsmasq) {
        return;
    }
    supervisor->n_dnsmasq_failures = 0;
    if (!supervisor->dnsmasq_pid) {
        begin_again_in(supervisor, 0);
    } else if (supervisor->dnsmasq_bridge != supervisor->bridge_index) {
        pidfd_send_signal(supervisor->dnsmasq_pidfd, SIGTERM, NULL, 0);
    }
}

void resolver_end(Supervisor *supervisor)
{
    g_clear_handle_id(&supervisor->dnsmasq_timer, g_source_remove);
    if (supervisor->dnsmasq_pid) {
        pidfd_send_signal(supervisor->dnsmasq_pidfd, SIGTERM, NULL, 0);
        if (!base_proc_wait_end(supervisor->dnsmasq_pidfd, END_MS, NULL)) {
            pidfd_send_signal(supervisor->dnsmasq_pidfd, SIGKILL, NULL, 0);
        }
        reap(supervisor->dnsmasq_pid);
        forget(supervisor);
    }
    g_strfreev(supervisor->dnsmasq_argv);
    if (supervisor->dnsmasq_line) {
        g_string_free(supervisor->dnsmasq_line, TRUE);
    }
    g_free(supervisor->dnsmasq_last);
}
