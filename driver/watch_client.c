#include "driver/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"

#define LOCK_FILE     "watch.lock"
#define SOCKET_ENV    "VM_RUN_WATCH_FD"
#define ANSWER_MS     2000
#define ANSWER_MAX    1024
#define KILL_AFTER_MS 2000

/* --- starting one ----------------------------------------------------------------------------- */

typedef struct {
    char *const *argv;
    int stdio[3];        /* owned by spawn_detached's caller, never -1 */
    const int *keep_fds; /* NULL: none */
    int report_fd;       /* CLOEXEC: Report messages */
} Spawn;

typedef struct {
    pid_t pid;  /* of the new process, or 0 */
    int errnum; /* why it could not be executed, or 0 */
} Report;

static void spawn_report(const Spawn *spawn, pid_t pid, int errnum)
{
    Report report = {.pid = pid, .errnum = errnum};
    ssize_t ignored = write(spawn->report_fd, &report, sizeof report);
    (void)ignored;
}

/* Between fork and exec of a program with threads: async-signal-safe calls only. */
static void spawn_exec(Spawn *spawn)
{
    for (int i = 0; i < 3; i++) { /* out of the way of what is put there */
        if (spawn->stdio[i] < 3) {
            spawn->stdio[i] = fcntl(spawn->stdio[i], F_DUPFD_CLOEXEC, 3);
        }
    }
    if (spawn->report_fd < 3) {
        spawn->report_fd = fcntl(spawn->report_fd, F_DUPFD_CLOEXEC, 3);
    }
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    for (int i = 0; i < 3; i++) {
        if (dup2(spawn->stdio[i], i) < 0) {
            spawn_report(spawn, 0, errno);
            _exit(127);
        }
    }
    for (const int *fd = spawn->keep_fds; fd && *fd >= 0; fd++) {
        fcntl(*fd, F_SETFD, 0);
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    execv(spawn->argv[0], spawn->argv);
    spawn_report(spawn, 0, errno);
    _exit(127);
}

/* The middle process, whose end makes the new one nobody's child. */
static void spawn_middle(Spawn *spawn)
{
    pid_t pid = fork();
    if (pid == 0) {
        spawn_exec(spawn);
    }
    spawn_report(spawn, MAX(pid, 0), pid < 0 ? errno : 0);
    _exit(0);
}

/* Reads the reports until exec (or the failure) closed the pipe. */
static pid_t spawn_result(int report_fd, const char *program, GError **error)
{
    Report report;
    pid_t pid = -1;
    int errnum = 0;
    ssize_t n;
    while ((n = read(report_fd, &report, sizeof report)) == sizeof report ||
           (n < 0 && errno == EINTR)) {
        if (n > 0) {
            pid = report.pid > 0 ? report.pid : pid;
            errnum = report.errnum ? report.errnum : errnum;
        }
    }
    if (errnum != 0 || pid < 0) {
        base_error_set_errno(error, errnum ? errnum : EIO, "cannot start the watcher '%s'",
                             program);
        return -1;
    }
    return pid;
}

static pid_t spawn_detached(Spawn *spawn, GError **error)
{
    int report[2];
    if (pipe2(report, O_CLOEXEC) != 0) {
        base_error_set_errno(error, errno, "cannot start the watcher");
        return -1;
    }
    autofd int report_in = report[0];
    spawn->report_fd = report[1];
    pid_t middle = fork();
    if (middle == 0) {
        spawn_middle(spawn);
    }
    int errnum = errno;
    close(report[1]);
    if (middle < 0) {
        base_error_set_errno(error, errnum, "cannot start the watcher");
        return -1;
    }
    pid_t pid = spawn_result(report_in, spawn->argv[0], error);
    while (waitpid(middle, NULL, 0) < 0 && errno == EINTR) {
        continue;
    }
    return pid;
}

/* As spawn_detached, with /dev/null where a descriptor is -1. */
static pid_t spawn_program(char *const *argv, int stdin_fd, int stdout_fd, int stderr_fd,
                           const int *keep_fds, GError **error)
{
    autofd int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd < 0) {
        base_error_set_errno(error, errno, "cannot open '/dev/null'");
        return -1;
    }
    Spawn spawn = {.argv = argv, .keep_fds = keep_fds};
    const int wanted[3] = {stdin_fd, stdout_fd, stderr_fd};
    for (int i = 0; i < 3; i++) {
        spawn.stdio[i] = wanted[i] >= 0 ? wanted[i] : null_fd;
    }
    return spawn_detached(&spawn, error);
}

pid_t machine_watch_exec(const char *watch_program, const char *const *argv, int stdin_fd,
                         int stdout_fd, int stderr_fd, const int *keep_fds, GError **error)
{
    g_autoptr(GPtrArray) words = g_ptr_array_new();
    g_ptr_array_add(words, (char *)watch_program);
    g_ptr_array_add(words, "--exec");
    g_ptr_array_add(words, "--");
    for (const char *const *word = argv; *word; word++) {
        g_ptr_array_add(words, (char *)*word);
    }
    g_ptr_array_add(words, NULL);
    return spawn_program((char *const *)words->pdata, stdin_fd, stdout_fd, stderr_fd, keep_fds,
                         error);
}

/* --- talking to one --------------------------------------------------------------------------- */

/* One line, without its end; NULL: none in time (TIMEOUT) or at all (HOST). */
static char *read_answer(int fd, GError **error)
{
    gint64 deadline_us = g_get_monotonic_time() + ANSWER_MS * 1000;
    char answer[ANSWER_MAX + 1];
    size_t n = 0;
    for (;;) {
        gint64 left_us = deadline_us - g_get_monotonic_time();
        struct pollfd in = {.fd = fd, .events = POLLIN};
        int n_ready = left_us > 0 ? poll(&in, 1, (int)(left_us / 1000) + 1) : 0;
        if (n_ready == 0) {
            base_fail(error, VM_ERROR_TIMEOUT, "the watcher did not answer within %d ms",
                      ANSWER_MS);
            return NULL;
        }
        ssize_t n_read = n_ready > 0 ? read(fd, answer + n, ANSWER_MAX - n) : -1;
        if (n_read < 0 && (errno == EINTR || errno == EAGAIN)) {
            continue;
        }
        if (n_read <= 0) {
            base_fail(error, VM_ERROR_HOST, "the watcher ended without an answer");
            return NULL;
        }
        n += (size_t)n_read;
        answer[n] = '\0';
        char *end = strchr(answer, '\n');
        if (end) {
            return g_strndup(answer, (gsize)(end - answer));
        }
    }
}

static bool take_answer(int fd, const char *machine_dir, GError **error)
{
    g_autofree char *answer = read_answer(fd, error);
    if (!answer) {
        return false;
    }
    if (strcmp(answer, "ok") == 0) {
        return true;
    }
    return base_fail(error, VM_ERROR_HOST, "the watcher of '%s' refuses: %s", machine_dir,
                     g_str_has_prefix(answer, "error ") ? answer + strlen("error ") : answer);
}

/* The socket to the watcher that we are below, -1: none. */
static int parent_socket(void)
{
    const char *text = getenv(SOCKET_ENV);
    char *end;
    long fd = text && *text ? strtol(text, &end, 10) : -1;
    if (fd < 3 || fd > INT_MAX || *end || fcntl((int)fd, F_SETFD, FD_CLOEXEC) != 0) {
        return -1;
    }
    return (int)fd;
}

/* false: that watcher is not there any more, or can't (it watches another machine): a new one says
 * why, if it can't either. */
static bool tell_parent(int fd, const char *machine_dir)
{
    g_autofree char *line = g_strdup_printf("watch %s\n", machine_dir);
    ssize_t n = send(fd, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT);
    return n == (ssize_t)strlen(line) && take_answer(fd, machine_dir, NULL);
}

static bool begin_replacement(const char *watch_program, const char *machine_dir, GError **error)
{
    int ready[2];
    if (pipe2(ready, O_CLOEXEC) != 0) {
        base_error_set_errno(error, errno, "cannot start the watcher");
        return false;
    }
    autofd int ready_in = ready[0];
    autofd int ready_out = ready[1];
    char number[16];
    snprintf(number, sizeof number, "%d", ready_out);
    char *const argv[] = {(char *)watch_program, "--dir", (char *)machine_dir,
                          "--ready-fd",          number,  NULL};
    const int keep[] = {ready_out, -1};
    if (spawn_program(argv, -1, -1, -1, keep, error) < 0) {
        return false;
    }
    base_fd_close(&ready_out);
    return take_answer(ready_in, machine_dir, error);
}

bool machine_watch_begin(const char *watch_program, const char *machine_dir, GError **error)
{
    char canonical[PATH_MAX];
    if (!realpath(machine_dir, canonical)) {
        base_error_set_errno(error, errno, "cannot watch '%s'", machine_dir);
        return false;
    }
    if (strchr(canonical, '\n')) {
        return base_fail(error, VM_ERROR_PATH, "a line break is in the name of '%s'", canonical);
    }
    if (machine_watch_pid(canonical) != 0) {
        return true;
    }
    int fd = parent_socket();
    if (fd >= 0 && tell_parent(fd, canonical)) {
        return true;
    }
    return begin_replacement(watch_program, canonical, error);
}

/* --- finding and ending one ------------------------------------------------------------------- */

static pid_t lock_holder(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fd < 0 || fcntl(fd, F_GETLK, &lock) != 0 || lock.l_type == F_UNLCK) {
        return 0;
    }
    return lock.l_pid;
}

static int open_lock(const char *machine_dir)
{
    g_autofree char *path = g_build_filename(machine_dir, LOCK_FILE, NULL);
    return open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

pid_t machine_watch_pid(const char *machine_dir)
{
    autofd int fd = open_lock(machine_dir);
    return lock_holder(fd);
}

static bool ended_within(int pidfd, int timeout_ms)
{
    struct pollfd process = {.fd = pidfd, .events = POLLIN};
    int n;
    do {
        n = poll(&process, 1, timeout_ms);
    } while (n < 0 && errno == EINTR);
    return n > 0;
}

bool machine_watch_end(const char *machine_dir, GError **error)
{
    autofd int lock_fd = open_lock(machine_dir);
    pid_t pid = lock_holder(lock_fd);
    autofd int pidfd = pid > 0 ? pidfd_open(pid, 0) : -1;
    if (pidfd >= 0 && lock_holder(lock_fd) == pid) { /* so the pidfd is of the holder */
        pidfd_send_signal(pidfd, SIGTERM, NULL, 0);
        if (!ended_within(pidfd, KILL_AFTER_MS)) {
            pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
        }
        if (!ended_within(pidfd, KILL_AFTER_MS)) {
            return base_fail(error, VM_ERROR_TIMEOUT, "watcher %d of '%s' can't be ended", pid,
                             machine_dir);
        }
    }
    if (lock_fd >= 0 && lock_holder(lock_fd) == 0) {
        g_autofree char *path = g_build_filename(machine_dir, LOCK_FILE, NULL);
        unlink(path);
    }
    return true;
}

char *machine_watch_program(GError **error)
{
    static const char *const places[] = {"vm-run-watch", "../libexec/vm-run/vm-run-watch"};
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *folder = g_path_get_dirname(self ? self : "/usr/bin/vm-run");
    for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
        g_autofree char *place = g_build_filename(folder, places[i], NULL);
        g_autofree char *path = g_canonicalize_filename(place, "/");
        if (access(path, X_OK) == 0) {
            return g_steal_pointer(&path);
        }
    }
    base_fail(error, VM_ERROR_NOT_FOUND, "the watcher 'vm-run-watch' is not installed beside '%s'",
              folder);
    return NULL;
}
