#include "driver/libvirt/job.h"

#include <errno.h>
#include <fcntl.h>
#include "base/fd.h"

typedef struct {
    VirtPart *part;
    VirtHandler handler;
    VirtArgs args; /* of copies */
    VirtDiskFd *fds;
    GMutex lock; /* guards what follows */
    GCond ended;
    bool is_ended, is_given_up;
    char *answer;
    GError *error;
} VirtJob;

static void job_clear(gpointer data)
{
    VirtJob *job = data;
    for (unsigned i = 0; job->fds && i < job->args.n_fds; i++) {
        base_fd_close(&job->fds[i].fd);
        g_free((char *)job->fds[i].group);
    }
    g_free(job->fds);
    g_free((char *)job->args.uuid);
    g_free((char *)job->args.text);
    g_free(job->answer);
    g_clear_error(&job->error);
    g_mutex_clear(&job->lock);
    g_cond_clear(&job->ended);
    virt_part_unref(job->part);
}

static void job_unref(VirtJob *job)
{
    g_atomic_rc_box_release_full(job, job_clear);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirtJob, job_unref)

static bool copy_fds(VirtJob *job, const VirtArgs *args, GError **error)
{
    job->fds = g_new0(VirtDiskFd, args->n_fds);
    for (unsigned i = 0; i < args->n_fds; i++) {
        const VirtDiskFd *from = &args->fds[i];
        job->fds[i] = (VirtDiskFd){g_strdup(from->group), fcntl(from->fd, F_DUPFD_CLOEXEC, 3),
                                   from->is_writable};
        job->args.n_fds = i + 1;
        if (job->fds[i].fd < 0) {
            base_error_set_errno(error, errno, "cannot pass the descriptor of '%s'", from->group);
            return false;
        }
    }
    job->args.fds = job->fds;
    return true;
}

static VirtJob *job_new(VirtPart *part, VirtHandler handler, const VirtArgs *args, GError **error)
{
    g_autoptr(VirtJob) job = g_atomic_rc_box_new0(VirtJob);
    job->part = virt_part_ref(part);
    job->handler = handler;
    g_mutex_init(&job->lock);
    g_cond_init(&job->ended);
    if (args) {
        job->args = (VirtArgs){g_strdup(args->uuid), g_strdup(args->text), args->number, NULL, 0};
        if (!copy_fds(job, args, error)) {
            return NULL;
        }
    }
    return g_steal_pointer(&job);
}

static gpointer job_work(gpointer data)
{
    g_autoptr(VirtJob) job = data;
    GError *error = NULL;
    char *answer = job->handler(job->part, &job->args, &error);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&job->lock);
    job->answer = answer;
    job->error = error;
    job->is_ended = true;
    if (job->is_given_up) {
        g_atomic_int_dec_and_test(&job->part->n_stuck);
    }
    g_cond_signal(&job->ended);
    return NULL;
}

static char *job_wait(VirtJob *job, const char *what, unsigned deadline_ms, GError **error)
{
    gint64 end_us = g_get_monotonic_time() + (gint64)deadline_ms * 1000;
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&job->lock);
    while (!job->is_ended) {
        if (!g_cond_wait_until(&job->ended, &job->lock, end_us) && !job->is_ended) {
            job->is_given_up = true;
            g_atomic_int_inc(&job->part->n_stuck);
            base_fail(error, VM_ERROR_TIMEOUT,
                      "libvirt (%s) did not answer within %u s when asked to %s - is it or the "
                      "host overloaded or stopped?",
                      job->part->uri, deadline_ms / 1000, what);
            return NULL;
        }
    }
    if (job->error) {
        g_propagate_error(error, g_steal_pointer(&job->error));
    }
    return g_steal_pointer(&job->answer);
}

char *virt_job_run(VirtPart *part, VirtHandler handler, const VirtArgs *args, const char *what,
                   unsigned deadline_ms, GError **error)
{
    g_autoptr(VirtJob) job = job_new(part, handler, args, error);
    if (!job) {
        return NULL;
    }
    GThread *thread = virt_thread_new("virt-call", job_work, g_atomic_rc_box_acquire(job), error);
    if (!thread) {
        job_unref(job);
        return NULL;
    }
    g_autofree char *answer = job_wait(job, what, deadline_ms, error);
    bool is_given_up = job->is_given_up;
    if (is_given_up) {
        g_thread_unref(thread);
    } else {
        g_thread_join(thread);
    }
    return g_steal_pointer(&answer);
}
