#include "net/supervisor/supervisor.h"

#include <errno.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <glib-unix.h>
#include "base/error.h"
#include "base/fd.h"

/*
 * One check at a time, in a child: what it loads and reads is gone with it. Its own changes may
 * give one more event and so one more check, which finds nothing. Where somebody else changes the
 * same again and again, we rest: five mends within ten seconds are a fight that nobody wins.
 */
enum {
    DEBOUNCE_MS = 10,
    LOCK_MS = 30000,
    CHILD_LIMIT_S = 60,
    FIGHT_US = 10 * 1000 * 1000,
    REST_MS = 30 * 1000,
    LINES_MAX = 20
};

typedef enum { CHECK_WELL, CHECK_MENDED, CHECK_LEFT, CHECK_GONE, CHECK_FAILED } CheckResult;

static void log_lines(const Supervisor *supervisor, const char *what, const GPtrArray *lines)
{
    for (guint i = 0; i < lines->len && i < LINES_MAX; i++) {
        supervisor_log(supervisor, "%s: %s", what, (const char *)lines->pdata[i]);
    }
    if (lines->len > LINES_MAX) {
        supervisor_log(supervisor, "%s: and %u more", what, lines->len - LINES_MAX);
    }
}

static CheckResult check(const Supervisor *supervisor)
{
    g_autoptr(GError) problem = NULL;
    g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) mended = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(NetStore) store =
        net_store_open(supervisor->state_dir, supervisor->store_id, &problem);
    g_autoptr(NetNetwork) network =
        store ? net_network_open(store, supervisor->name, LOCK_MS, &problem) : NULL;
    if (network ? !net_network_is_up(network)
                : g_error_matches(problem, VM_ERROR, VM_ERROR_NOT_FOUND)) {
        return CHECK_GONE;
    }
    if (!network || !net_network_check(network, true, left, mended, &problem)) {
        supervisor_log(supervisor, "warning: cannot check: %s", problem->message);
        return CHECK_FAILED;
    }
    log_lines(supervisor, "mended", mended);
    log_lines(supervisor, "not as it should be", left);
    return mended->len > 0 ? CHECK_MENDED : left->len > 0 ? CHECK_LEFT : CHECK_WELL;
}

static void G_GNUC_NORETURN run_child(const Supervisor *supervisor, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) {
        _exit(CHECK_FAILED);
    }
    alarm(CHILD_LIMIT_S);
    _exit((int)check(supervisor));
}

static gboolean on_timer(gpointer data);

static void begin_in(Supervisor *supervisor, unsigned ms)
{
    if (!supervisor->check_timer) {
        supervisor->check_timer = g_timeout_add(ms, on_timer, supervisor);
    }
}

/* Five within the time? */
static bool is_fight(Supervisor *supervisor)
{
    gint64 now_us = g_get_monotonic_time();
    unsigned at = supervisor->n_mends++ % G_N_ELEMENTS(supervisor->mends_us);
    gint64 *slot = &supervisor->mends_us[at];
    bool is_one = *slot > 0 && now_us - *slot < FIGHT_US;
    *slot = now_us;
    return is_one;
}

static void take_result(Supervisor *supervisor, CheckResult result)
{
    if (result == CHECK_GONE) {
        supervisor_quit(supervisor, 0);
        return;
    }
    if (result == CHECK_MENDED) {
        resolver_refresh(supervisor);
    }
    if (result == CHECK_MENDED && is_fight(supervisor)) {
        supervisor_log(supervisor,
                       "warning: somebody else changes this network again and again - resting for "
                       "%d s",
                       REST_MS / 1000);
        supervisor->is_check_wanted = false;
        begin_in(supervisor, REST_MS);
    }
}

static int reap(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
}

static gboolean on_child(gint pidfd, GIOCondition condition, gpointer data)
{
    Supervisor *supervisor = data;
    (void)pidfd;
    (void)condition;
    int status = reap(supervisor->check_pid);
    base_fd_close(&supervisor->check_pidfd);
    supervisor->check_pid = 0;
    supervisor->check_source = 0;
    take_result(supervisor, WIFEXITED(status) ? (CheckResult)WEXITSTATUS(status) : CHECK_FAILED);
    if (supervisor->is_check_wanted) {
        begin_in(supervisor, DEBOUNCE_MS);
    }
    return G_SOURCE_REMOVE;
}

static gboolean on_timer(gpointer data)
{
    Supervisor *supervisor = data;
    supervisor->check_timer = 0;
    supervisor->is_check_wanted = false;
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        run_child(supervisor, parent);
    }
    supervisor->check_pidfd = pid > 0 ? pidfd_open(pid, 0) : -1;
    if (supervisor->check_pidfd < 0) {
        supervisor_log(supervisor, "warning: cannot start a check: %s", g_strerror(errno));
        return G_SOURCE_REMOVE;
    }
    supervisor->check_pid = pid;
    supervisor->check_source =
        g_unix_fd_add(supervisor->check_pidfd, G_IO_IN, on_child, supervisor);
    return G_SOURCE_REMOVE;
}

void checker_request(Supervisor *supervisor)
{
    if (supervisor->check_pid) {
        supervisor->is_check_wanted = true;
    } else {
        begin_in(supervisor, DEBOUNCE_MS);
    }
}

void checker_end(Supervisor *supervisor)
{
    g_clear_handle_id(&supervisor->check_timer, g_source_remove);
    g_clear_handle_id(&supervisor->check_source, g_source_remove);
    if (supervisor->check_pid) {
        kill(supervisor->check_pid, SIGKILL); /* not reaped yet, so it is still it */
        reap(supervisor->check_pid);
        base_fd_close(&supervisor->check_pidfd);
    }
}
