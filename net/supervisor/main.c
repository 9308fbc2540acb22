#include "net/supervisor/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib-unix.h>
#include "base/error.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/report.h"
#include "net/dnsmasq.h"

enum { LOG_HALF_BYTES = 256 * 1024, LOG_LINE_BYTES = 500 };

void supervisor_log(const Supervisor *supervisor, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    g_autofree char *text = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    g_autofree char *shown = base_report_escape(text, LOG_LINE_BYTES);
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *time = g_date_time_format(now, "%FT%TZ");
    g_autofree char *line = g_strdup_printf("%s %s", time, shown);
    struct stat st;
    if (fstatat(supervisor->dirfd, NET_SUPERVISOR_LOG, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        st.st_size > LOG_HALF_BYTES) {
        renameat(supervisor->dirfd, NET_SUPERVISOR_LOG, supervisor->dirfd, NET_SUPERVISOR_LOG ".1");
    }
    base_file_append_line(supervisor->dirfd, NET_SUPERVISOR_LOG, line, false, NULL);
}

void supervisor_answer(Supervisor *supervisor, const char *problem)
{
    if (supervisor->answer_fd < 0) {
        return;
    }
    g_autofree char *line = g_strdup_printf("%s\n", problem ? problem : "ok");
    ssize_t ignored = write(supervisor->answer_fd, line, strlen(line));
    (void)ignored;
    base_fd_close(&supervisor->answer_fd);
}

void supervisor_quit(Supervisor *supervisor, int exit_status)
{
    supervisor->exit_status = exit_status;
    g_main_loop_quit(supervisor->loop);
}

void supervisor_write_state(Supervisor *supervisor)
{
    g_autoptr(GError) problem = NULL;
    if (!net_supervisor_write(supervisor->dirfd, &supervisor->state, &problem)) {
        supervisor_log(supervisor, "warning: %s", problem->message);
    }
}

/* The lock says who supervises; -1: another one does, or it can't be had. */
static int take_lock(int dirfd)
{
    autofd int fd =
        openat(dirfd, NET_SUPERVISOR_LOCK, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct stat opened, named;
    if (fd < 0 || fcntl(fd, F_SETLK, &lock) != 0 || fstat(fd, &opened) != 0 ||
        fstatat(dirfd, NET_SUPERVISOR_LOCK, &named, AT_SYMLINK_NOFOLLOW) != 0 ||
        opened.st_ino != named.st_ino) {
        return -1;
    }
    return base_fd_steal(&fd);
}

static gboolean on_signal(gint fd, GIOCondition condition, gpointer data)
{
    struct signalfd_siginfo info;
    (void)condition;
    while (read(fd, &info, sizeof info) == sizeof info) {
        supervisor_quit(data, 0);
    }
    return G_SOURCE_CONTINUE;
}

/* Our own lock's file was removed: the network is gone, whoever did that. */
static gboolean on_folder(gint fd, GIOCondition condition, gpointer data)
{
    _Alignas(struct inotify_event) char events[4096];
    ssize_t n;
    (void)condition;
    while ((n = read(fd, events, sizeof events)) > 0) {
        for (char *next = events; next < events + n;) {
            const struct inotify_event *event = (const struct inotify_event *)(void *)next;
            if (event->len && !strcmp(event->name, NET_SUPERVISOR_LOCK)) {
                ((Supervisor *)data)->is_orphan = true;
                supervisor_quit(data, 0);
            }
            next += sizeof *event + event->len;
        }
    }
    return G_SOURCE_CONTINUE;
}

static bool watch(Supervisor *supervisor, GError **error)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    int inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", supervisor->dirfd);
    if (signal_fd < 0 || inotify_fd < 0 || inotify_add_watch(inotify_fd, path, IN_DELETE) < 0) {
        base_error_set_errno(error, errno, "cannot watch the network's folder");
        return false;
    }
    g_unix_fd_add(signal_fd, G_IO_IN, on_signal, supervisor);
    g_unix_fd_add(inotify_fd, G_IO_IN, on_folder, supervisor);
    return true;
}

/* The record is read without its lock: who started us holds it. */
static bool begin(Supervisor *supervisor, GError **error)
{
    g_autoptr(NetStore) store = net_store_open(supervisor->state_dir, supervisor->store_id, error);
    g_autoptr(NetNetwork) network = store ? net_network_peek(store, supervisor->name, error) : NULL;
    if (!network) {
        return false;
    }
    supervisor->dirfd = fcntl(network->dirfd, F_DUPFD_CLOEXEC, 3);
    supervisor->lock_fd = take_lock(supervisor->dirfd);
    if (supervisor->lock_fd < 0) {
        return base_fail(error, VM_ERROR_BUSY, "the network has a supervisor already");
    }
    supervisor->bridge = g_strdup(network->record->bridge);
    supervisor->state = (NetSupervisor){.pid = getpid(), .netns = net_supervisor_own_netns()};
    supervisor_write_state(supervisor);
    return watch(supervisor, error) && events_begin(supervisor, error) &&
           resolver_begin(supervisor, network, error);
}

static void end(Supervisor *supervisor)
{
    checker_end(supervisor);
    resolver_end(supervisor);
    events_end(supervisor);
    if (supervisor->is_orphan) { /* nobody else could tell whose it was */
        net_dnsmasq_end(supervisor->store_id, supervisor->name, NULL);
    }
    if (supervisor->lock_fd >= 0) {
        unlinkat(supervisor->dirfd, NET_SUPERVISOR_FILE, 0);
        unlinkat(supervisor->dirfd, NET_SUPERVISOR_LOCK, 0);
    }
    base_fd_close(&supervisor->lock_fd);
    base_fd_close(&supervisor->dirfd);
}

/* Nobody's child, with descriptors of our own. */
static bool become_daemon(Supervisor *supervisor)
{
    pid_t pid = fork();
    if (pid != 0) {
        _exit(pid < 0);
    }
    setsid();
    umask(077);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    supervisor->answer_fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    autofd int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    return null_fd >= 0 && dup2(null_fd, 0) >= 0 && dup2(null_fd, 1) >= 0 &&
           dup2(null_fd, 2) >= 0 && chdir("/") == 0;
}

static int run(Supervisor *supervisor)
{
    g_autoptr(GError) problem = NULL;
    supervisor->loop = g_main_loop_new(NULL, FALSE);
    if (begin(supervisor, &problem)) {
        g_main_loop_run(supervisor->loop);
    } else {
        supervisor_answer(supervisor, problem->message);
        supervisor->exit_status = 1;
    }
    end(supervisor);
    return supervisor->exit_status;
}

int main(int argc, char **argv)
{
    static Supervisor supervisor = {.dirfd = -1,
                                    .lock_fd = -1,
                                    .answer_fd = -1,
                                    .nft_fd = -1,
                                    .route_fd = -1,
                                    .check_pidfd = -1,
                                    .dnsmasq_pidfd = -1,
                                    .dnsmasq_log_fd = -1};
    if (argc != 4 || argv[1][0] != '/') {
        fputs("usage: vm-run-net STATE-DIR STORE-ID NETWORK\nStarted by vm-run, not by hand.\n",
              stderr);
        return 2;
    }
    supervisor.state_dir = argv[1];
    supervisor.store_id = argv[2];
    supervisor.name = argv[3];
    return become_daemon(&supervisor) ? run(&supervisor) : 1;
}
