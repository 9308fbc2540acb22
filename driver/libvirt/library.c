#include "driver/libvirt/part.h"

#include <signal.h>

/*
 * How it works: libvirt has one event loop a process. Its default implementation runs on a thread
 * of this part from the first opening on; keepalive, the embedded driver's QEMU monitors and guest
 * agents need it. It is never stopped.
 */
static void ignore_error(void *data, virErrorPtr error)
{
    (void)data;
    (void)error;
}

GThread *virt_thread_new(const char *name, GThreadFunc func, gpointer data, GError **error)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    g_autoptr(GError) cause = NULL;
    GThread *thread = g_thread_try_new(name, func, data, &cause);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!thread) {
        base_fail(error, VM_ERROR_NO_SPACE, "cannot start a thread: %s", cause->message);
    }
    return thread;
}

static gpointer run_events(gpointer data)
{
    (void)data;
    for (;;) {
        if (virEventRunDefaultImpl() < 0) {
            g_usleep(50 * 1000);
        }
    }
    return NULL;
}

/* libvirt's log goes to stderr from its initialization on, unless these variables say otherwise:
 * ours for that moment. */
static int initialize_silently(void)
{
    static const char *const names[] = {"LIBVIRT_LOG_OUTPUTS", "LIBVIRT_DEBUG"};
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        if (g_getenv(names[i])) {
            return virInitialize();
        }
    }
    g_setenv("LIBVIRT_LOG_OUTPUTS", "4:file:/dev/null", TRUE);
    int result = virInitialize();
    g_unsetenv("LIBVIRT_LOG_OUTPUTS");
    return result;
}

static bool begin(GError **error)
{
    if (initialize_silently() < 0) {
        virt_error_set(error, "cannot initialize libvirt");
        return false;
    }
    virSetErrorFunc(NULL, ignore_error);
    if (virEventRegisterDefaultImpl() < 0) {
        virt_error_set(error, "cannot make libvirt's event loop");
        return false;
    }
    GThread *thread = virt_thread_new("virt-events", run_events, NULL, error);
    if (!thread) {
        return false;
    }
    g_thread_unref(thread);
    return true;
}

bool virt_library_begin(GError **error)
{
    static GMutex lock;
    static bool is_begun;
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&lock);
    is_begun = is_begun || begin(error);
    return is_begun;
}
