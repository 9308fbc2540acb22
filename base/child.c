#include "base/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/error.h"
#include "base/fd.h"
#include "base/report.h"

/*
 * How it works. All that allocates happens before fork(2), since only async-signal-safe calls are
 * allowed after it in a program with threads: the program is looked up, argv and environment are
 * laid out, and the three descriptors are duplicated to numbers above 2, so that the child can put
 * them at 0, 1 and 2 in any order. The child tells by a close-on-exec pipe that its exec failed and
 * why; end of file on it means that the program runs. From then on base_child_run() is one poll(2)
 * over stdout, stderr, the pidfd and the deadline.
 */

enum {
    STDERR_TAIL_BYTES = 4096,
    STDERR_SHOWN_BYTES = 300,
    OUTPUT_MAX_BYTES = 1024 * 1024,
    DRAIN_CHUNKS =
        64, /* of 4 KiB: more than a pipe holds, so that a flood can't hide the deadline */
};

/* All that the child needs, laid out before the fork. */
typedef struct {
    const BaseChild *child;
    char *path;      /* of the program; owned */
    GPtrArray *argv; /* NULL-terminated; owned, the strings borrowed */
    GPtrArray *env;  /* NULL-terminated; owned */
    int fds[3];      /* above 2, CLOEXEC; owned */
    int report_fd;   /* gets an errno when exec fails; owned */
    bool dies_with_us;
} Start;

static void start_clear(Start *start)
{
    g_free(start->path);
    g_clear_pointer(&start->argv, g_ptr_array_unref);
    g_clear_pointer(&start->env, g_ptr_array_unref);
    for (int i = 0; i < 3; i++) {
        base_fd_close(&start->fds[i]);
    }
    base_fd_close(&start->report_fd);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Start, start_clear)

#define START_INIT                                                                                 \
    {                                                                                              \
        .fds = {-1, -1, -1}, .report_fd = -1                                                       \
    }

static const char *program_name(const BaseChild *child)
{
    const char *slash = strrchr(child->argv[0], '/');
    return slash ? slash + 1 : child->argv[0];
}

/* --- before the fork -------------------------------------------------------- */

static bool has_variable(const GPtrArray *env, const char *name)
{
    size_t n = strlen(name);
    for (guint i = 0; i < env->len; i++) {
        const char *entry = env->pdata[i];
        if (!strncmp(entry, name, n) && entry[n] == '=') {
            return true;
        }
    }
    return false;
}

static GPtrArray *build_env(const BaseChild *child)
{
    static const char *const kept[] = {"PATH", "HOME", "LANG", "TMPDIR"};
    GPtrArray *env = g_ptr_array_new_with_free_func(g_free);
    for (const char *const *entry = child->extra_env; entry && *entry; entry++) {
        g_ptr_array_add(env, g_strdup(*entry));
    }
    for (gsize i = 0; i < G_N_ELEMENTS(kept); i++) {
        const char *value = getenv(kept[i]);
        if (value && !has_variable(env, kept[i])) {
            g_ptr_array_add(env, g_strdup_printf("%s=%s", kept[i], value));
        }
    }
    g_ptr_array_add(env, NULL);
    return env;
}

static GPtrArray *build_argv(const BaseChild *child)
{
    GPtrArray *argv = g_ptr_array_new();
    for (const char *const *word = child->argv; *word; word++) {
        g_ptr_array_add(argv, (gpointer)*word);
    }
    g_ptr_array_add(argv, NULL);
    return argv;
}

/* fd < 0: /dev/null. */
static bool place_fd(int fd, int *out_fd, GError **error)
{
    autofd int null_fd = fd < 0 ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0 && null_fd < 0) {
        base_error_set_errno(error, errno, "cannot open '/dev/null'");
        return false;
    }
    int placed = fcntl(fd < 0 ? null_fd : fd, F_DUPFD_CLOEXEC, 3);
    if (placed < 0) {
        base_error_set_errno(error, errno, "cannot duplicate descriptor %d", fd);
        return false;
    }
    *out_fd = placed;
    return true;
}

static bool start_prepare(Start *start, const BaseChild *child, const int fds[3], GError **error)
{
    g_assert(child->argv && child->argv[0]);
    start->child = child;
    start->path = strchr(child->argv[0], '/') ? g_strdup(child->argv[0])
                                              : g_find_program_in_path(child->argv[0]);
    if (!start->path) {
        g_autofree char *shown = base_report_escape(child->argv[0], 100);
        return base_fail(error, VM_ERROR_NOT_FOUND, "program '%s' is not in PATH - install it",
                         shown);
    }
    start->argv = build_argv(child);
    start->env = build_env(child);
    for (int i = 0; i < 3; i++) {
        if (!place_fd(fds[i], &start->fds[i], error)) {
            return false;
        }
    }
    return true;
}

/* --- after the fork: async-signal-safe calls only --------------------------- */

static void reset_signals(void)
{
    sigset_t none;
    struct sigaction by_default = {.sa_handler = SIG_DFL};
    for (int number = 1; number < NSIG; number++) {
        sigaction(number, &by_default,
                  NULL); /* fails for the two that can't be caught, and libc's */
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static int set_limit(__rlimit_resource_t resource, uint64_t value)
{
    struct rlimit limit = {.rlim_cur = value, .rlim_max = value};
    struct rlimit now;
    if (!getrlimit(resource, &now) && now.rlim_max < value) {
        limit = (struct rlimit){now.rlim_max, now.rlim_max}; /* stricter already */
    }
    return setrlimit(resource, &limit);
}

static int set_limits(const BaseChild *child)
{
    if (set_limit(RLIMIT_CORE, 0) ||
        (child->limit_as_bytes && set_limit(RLIMIT_AS, child->limit_as_bytes)) ||
        (child->limit_cpu_s && set_limit(RLIMIT_CPU, child->limit_cpu_s)) ||
        (child->limit_fsize_bytes && set_limit(RLIMIT_FSIZE, child->limit_fsize_bytes))) {
        return errno;
    }
    return 0;
}

/* 0 or an errno. */
static int become_child(const Start *start, pid_t parent)
{
    const BaseChild *child = start->child;
    if (start->dies_with_us && (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)) {
        return ESRCH; /* the parent died before the call */
    }
    if (child->is_new_session) {
        setsid();
    } else if (!child->is_foreground) {
        setpgid(0, 0);
    }
    for (int i = 0; i < 3; i++) {
        if (dup2(start->fds[i], i) < 0) {
            return errno;
        }
    }
    if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC)) {
        return errno;
    }
    reset_signals();
    return set_limits(child);
}

static void G_GNUC_NORETURN run_child(const Start *start, pid_t parent)
{
    int errnum = become_child(start, parent);
    if (!errnum) {
        execve(start->path, (char *const *)start->argv->pdata, (char *const *)start->env->pdata);
        errnum = errno;
    }
    if (write(start->report_fd, &errnum, sizeof errnum) < 0) {
        errnum = errno;
    }
    _exit(127);
}

/* --- starting --------------------------------------------------------------- */

static void reap(pid_t pid)
{
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
}

/* Waits for the exec; 0 when the program runs, else its errno. */
static int read_report(int fd)
{
    int errnum = 0;
    ssize_t n;
    do {
        n = read(fd, &errnum, sizeof errnum);
    } while (n < 0 && errno == EINTR);
    return n == sizeof errnum ? errnum : 0;
}

static void fail_exec(const Start *start, int errnum, GError **error)
{
    g_autofree char *shown = base_report_escape(start->path, 0);
    base_error_set_errno(error, errnum, "cannot run '%s'", shown);
}

/* fds: stdin, stdout, stderr of the child, -1: /dev/null. */
static pid_t spawn(const BaseChild *child, const int fds[3], bool dies_with_us, int *out_pidfd,
                   GError **error)
{
    g_auto(Start) start = START_INIT;
    int report[2];
    if (!start_prepare(&start, child, fds, error)) {
        return -1;
    }
    if (pipe2(report, O_CLOEXEC)) {
        base_error_set_errno(error, errno, "cannot make a pipe");
        return -1;
    }
    autofd int report_fd = report[0];
    /* above 2, where the child's own descriptors go */
    start.report_fd = fcntl(report[1], F_DUPFD_CLOEXEC, 3);
    close(report[1]);
    start.dies_with_us = dies_with_us;
    pid_t parent = getpid();
    pid_t pid = start.report_fd < 0 ? -1 : fork();
    if (pid == 0) {
        run_child(&start, parent);
    }
    if (pid < 0) {
        fail_exec(&start, errno, error);
        return -1;
    }
    base_fd_close(&start.report_fd);
    int errnum = read_report(report_fd);
    autofd int pidfd = errnum ? -1 : pidfd_open(pid, 0);
    if (errnum || pidfd < 0) {
        errnum = errnum ? errnum : errno;
        kill(pid, SIGKILL);
        reap(pid);
        fail_exec(&start, errnum, error);
        return -1;
    }
    if (out_pidfd) {
        *out_pidfd = base_fd_steal(&pidfd);
    }
    return pid;
}

pid_t base_child_spawn(const BaseChild *child, int *out_pidfd, GError **error)
{
    const int fds[3] = {child->stdin_fd, child->stdout_fd, child->stderr_fd};
    return spawn(child, fds, child->dies_with_us, out_pidfd, error);
}

/* --- running to the end ----------------------------------------------------- */

typedef enum { END_BY_ITSELF, END_TIMEOUT, END_TOO_MUCH, END_FAILED } EndKind;

/* A running child. */
typedef struct {
    const BaseChild *child;
    pid_t pid;
    int pidfd, stdout_fd, stderr_fd; /* owned, -1: none */
    GString *out;                    /* what stdout gave */
    GString *tail;                   /* the end of what stderr gave */
    gint64 end_us;                   /* monotonic, 0: none */
} Run;

static void run_clear(Run *run)
{
    base_fd_close(&run->pidfd);
    base_fd_close(&run->stdout_fd);
    base_fd_close(&run->stderr_fd);
    g_string_free(run->out, TRUE);
    g_string_free(run->tail, TRUE);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Run, run_clear)

/* Our end of a pipe in out_read (non-blocking), the child's in out_write. */
static bool make_pipe(int *out_read, int *out_write, GError **error)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) {
        base_error_set_errno(error, errno, "cannot make a pipe");
        return false;
    }
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    *out_read = ends[0];
    *out_write = ends[1];
    return true;
}

static bool run_start(Run *run, bool captures_stdout, GError **error)
{
    const BaseChild *child = run->child;
    autofd int out_fd = -1;
    autofd int err_fd = -1;
    if (captures_stdout && child->stdout_fd < 0 && !make_pipe(&run->stdout_fd, &out_fd, error)) {
        return false;
    }
    if (child->stderr_fd < 0 && !make_pipe(&run->stderr_fd, &err_fd, error)) {
        return false;
    }
    const int fds[3] = {child->stdin_fd, out_fd >= 0 ? out_fd : child->stdout_fd,
                        err_fd >= 0 ? err_fd : child->stderr_fd};
    run->pid = spawn(child, fds, true, &run->pidfd, error);
    if (child->timeout_ms) {
        run->end_us = g_get_monotonic_time() + (gint64)child->timeout_ms * 1000;
    }
    return run->pid > 0;
}

/* Appends what can be read now, closing at the end; max_bytes: of all of it. */
static void drain(int *fd, GString *text, size_t max_bytes, bool keeps_tail)
{
    char chunk[4096];
    for (unsigned i = 0; *fd >= 0 && i < DRAIN_CHUNKS; i++) {
        ssize_t n = read(*fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n <= 0) {
            base_fd_close(fd);
            return;
        }
        g_string_append_len(text, chunk, n);
        if (text->len > max_bytes && !keeps_tail) {
            return;
        }
        if (text->len > max_bytes) {
            g_string_erase(text, 0, (gssize)(text->len - max_bytes));
        }
    }
}

static void run_drain(Run *run, size_t max_bytes)
{
    drain(&run->stdout_fd, run->out, max_bytes, false);
    drain(&run->stderr_fd, run->tail, STDERR_TAIL_BYTES, true);
}

static int left_ms(const Run *run)
{
    if (!run->end_us) {
        return -1;
    }
    gint64 left_us = MAX(run->end_us - g_get_monotonic_time(), 0);
    return (int)((left_us + 999) / 1000);
}

static EndKind run_follow(Run *run)
{
    size_t max_bytes =
        run->child->max_output_bytes ? run->child->max_output_bytes : OUTPUT_MAX_BYTES;
    for (;;) {
        struct pollfd fds[] = {{.fd = run->pidfd, .events = POLLIN},
                               {.fd = run->stdout_fd, .events = POLLIN},
                               {.fd = run->stderr_fd, .events = POLLIN}};
        int n = poll(fds, G_N_ELEMENTS(fds), left_ms(run));
        if (n < 0 && errno != EINTR) {
            return END_FAILED;
        }
        run_drain(run, max_bytes);
        if (run->out->len > max_bytes) {
            return END_TOO_MUCH;
        }
        if (n > 0 && fds[0].revents) {
            run_drain(run, max_bytes); /* what it wrote between the drain and its end */
            return run->out->len > max_bytes ? END_TOO_MUCH : END_BY_ITSELF;
        }
        if (run->end_us && g_get_monotonic_time() >= run->end_us) {
            return END_TIMEOUT;
        }
    }
}

static void run_kill(const Run *run)
{
    if (!run->child->is_foreground) {
        kill(-run->pid, SIGKILL); /* the pid is not reaped yet, so the group is still its own */
    }
    pidfd_send_signal(run->pidfd, SIGKILL, NULL, 0);
}

/* Reaps it; exit status, or 128 + signal, -1 when somebody else reaped it. */
static int run_reap(const Run *run)
{
    siginfo_t info = {0};
    int result;
    do {
        result = waitid(P_PIDFD, (id_t)run->pidfd, &info, WEXITED);
    } while (result < 0 && errno == EINTR);
    if (result < 0) {
        return -1;
    }
    return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

/* " - <last line of stderr>", or "". Transfer full. */
static char *last_words(const Run *run)
{
    g_autofree char *text = g_strndup(run->tail->str, run->tail->len);
    g_strchomp(text);
    const char *line = strrchr(text, '\n');
    g_autofree char *shown = base_report_escape(line ? line + 1 : text, STDERR_SHOWN_BYTES);
    return *shown ? g_strdup_printf(": %s", shown) : g_strdup("");
}

static bool run_judge(const Run *run, EndKind end, int status, GError **error)
{
    g_autofree char *name = base_report_escape(program_name(run->child), 100);
    g_autofree char *words = last_words(run);
    switch (end) {
    case END_TIMEOUT:
        return base_fail(error, VM_ERROR_TIMEOUT, "%s did not end within %u ms%s", name,
                         run->child->timeout_ms, words);
    case END_TOO_MUCH:
        return base_fail(error, VM_ERROR_HOST, "%s wrote too much output%s", name, words);
    case END_FAILED:
        return base_fail(error, VM_ERROR_HOST, "%s can't be waited for%s", name, words);
    case END_BY_ITSELF:
        break;
    }
    if (status == 0) {
        return true;
    }
    if (status > 128) {
        return base_fail(error, VM_ERROR_HOST, "%s was ended by signal %d (%s)%s", name,
                         status - 128, g_strsignal(status - 128), words);
    }
    return base_fail(error, VM_ERROR_HOST, "%s ended with status %d%s", name, status, words);
}

bool base_child_run(const BaseChild *child, char **out_stdout, int *out_status, GError **error)
{
    g_auto(Run) run = {.child = child, .pid = -1, .pidfd = -1, .stdout_fd = -1, .stderr_fd = -1};
    run.out = g_string_new(NULL);
    run.tail = g_string_new(NULL);
    if (out_stdout) {
        *out_stdout = NULL;
    }
    if (out_status) {
        *out_status = -1;
    }
    if (!run_start(&run, out_stdout != NULL, error)) {
        return false;
    }
    EndKind end = run_follow(&run);
    if (end != END_BY_ITSELF) {
        run_kill(&run);
    }
    int status = run_reap(&run);
    if (out_status) {
        *out_status = status;
    }
    if (out_stdout && end == END_BY_ITSELF) {
        *out_stdout = g_strndup(run.out->str, run.out->len);
    }
    return run_judge(&run, end, status, error);
}
