#include "driver/embed/reaper.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * How it works: libvirt waits itself for the processes that it forked: those are in our session, or
 * lead one (the middle process of a daemonizing pair). What such a middle process leaves behind is
 * in the session it made without leading it; only those are ours to reap.
 */
static char *children_path(void)
{
    return g_strdup_printf("/proc/self/task/%d/children", (int)getpid());
}

static bool is_left_behind(pid_t pid)
{
    char state = 0;
    int session = 0;
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)pid);
    g_autofree char *stat = NULL;
    const char *after = g_file_get_contents(path, &stat, NULL, NULL) ? strrchr(stat, ')') : NULL;
    return after && sscanf(after + 1, " %c %*d %*d %d", &state, &session) == 2 && state == 'Z' &&
           session != pid && session != getsid(0);
}

static void reap(void)
{
    g_autofree char *path = children_path();
    g_autofree char *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        return;
    }
    g_auto(GStrv) pids = g_strsplit(text, " ", -1);
    for (unsigned i = 0; pids[i]; i++) {
        gint64 pid = g_ascii_strtoll(pids[i], NULL, 10);
        if (pid > 0 && is_left_behind((pid_t)pid)) {
            waitpid((pid_t)pid, NULL, WNOHANG);
        }
    }
}

static gpointer run(gpointer data)
{
    sigset_t only_child;
    sigemptyset(&only_child);
    sigaddset(&only_child, SIGCHLD);
    for (;;) {
        if (sigwaitinfo(&only_child, NULL) == SIGCHLD) {
            reap();
        }
    }
    return data;
}

void embed_reaper_begin(void)
{
    g_autofree char *path = children_path();
    sigset_t only_child;
    sigemptyset(&only_child);
    sigaddset(&only_child, SIGCHLD);
    if (access(path, R_OK) != 0 || pthread_sigmask(SIG_BLOCK, &only_child, NULL) != 0) {
        return;
    }
    GThread *thread = g_thread_try_new("reaper", run, NULL, NULL);
    if (thread) {
        g_thread_unref(thread);
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    }
}
