#include <dlfcn.h>
#include <glib.h>
#include <sanitizer/tsan_interface.h>

/*
 * GLib's mutexes and conditions are futexes of its own, which ThreadSanitizer can't see: it would
 * call every field that they protect a race. These take the place of GLib's calls in a program
 * built with -DSANITIZE=thread, tell the sanitizer, and go on to the real ones. Pairs of one name:
 * compiler-rt's sanitizer/tsan_interface.h, "Annotations for custom mutexes".
 */
#define REAL(name) ((__typeof__(&name))real(#name))
#define EXPORTED   __attribute__((visibility("default")))

static void *real(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    g_assert(found);
    return found;
}

EXPORTED void g_mutex_lock(GMutex *mutex)
{
    __tsan_mutex_pre_lock(mutex, 0);
    REAL(g_mutex_lock)(mutex);
    __tsan_mutex_post_lock(mutex, 0, 0);
}

EXPORTED gboolean g_mutex_trylock(GMutex *mutex)
{
    __tsan_mutex_pre_lock(mutex, __tsan_mutex_try_lock);
    gboolean is_locked = REAL(g_mutex_trylock)(mutex);
    __tsan_mutex_post_lock(mutex, is_locked ? __tsan_mutex_try_lock : __tsan_mutex_try_lock_failed,
                           0);
    return is_locked;
}

EXPORTED void g_mutex_unlock(GMutex *mutex)
{
    __tsan_mutex_pre_unlock(mutex, 0);
    REAL(g_mutex_unlock)(mutex);
    __tsan_mutex_post_unlock(mutex, 0);
}

/* Waiting gives the mutex back and takes it again. */
static void begin_wait(GMutex *mutex)
{
    __tsan_mutex_pre_unlock(mutex, 0);
    __tsan_mutex_post_unlock(mutex, 0);
}

static void end_wait(GMutex *mutex)
{
    __tsan_mutex_pre_lock(mutex, 0);
    __tsan_mutex_post_lock(mutex, 0, 0);
}

EXPORTED void g_cond_wait(GCond *cond, GMutex *mutex)
{
    begin_wait(mutex);
    REAL(g_cond_wait)(cond, mutex);
    end_wait(mutex);
}

EXPORTED gboolean g_cond_wait_until(GCond *cond, GMutex *mutex, gint64 end_time)
{
    begin_wait(mutex);
    gboolean is_signalled = REAL(g_cond_wait_until)(cond, mutex, end_time);
    end_wait(mutex);
    return is_signalled;
}
