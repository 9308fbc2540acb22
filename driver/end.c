#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/proc.h"
#include "driver/step.h"
#include "driver/watch.h"

/*
 * Ending a machine. The wait for a guest holds neither a lock nor a connection, so others can look,
 * and end it harder.
 */
#define WATCHER_END_MS 1500 /* the watcher writes the end event within 100 ms of QEMU's end */
#define LOCK_MS        20000

/* What one call works on; dirfd -1 and plan NULL when there is no such machine. */
typedef struct {
    MachinePlan *plan;
    MachineBoot *boot;
    int dirfd;
} Target;

static void target_clear(Target *target)
{
    machine_plan_free(target->plan);
    machine_boot_free(target->boot);
    base_fd_close(&target->dirfd);
}

static bool target_load(MachineHost *host, const char *name, Target *out, GError **error)
{
    *out = (Target){.dirfd = machine_store_open_machine(host->store, name, error)};
    if (out->dirfd < 0) {
        return false;
    }
    out->plan = machine_record_load(out->dirfd, error);
    if (!out->plan) {
        g_prefix_error(error, "machine '%s': ", name);
        target_clear(out);
        return false;
    }
    out->boot = machine_boot_load(out->dirfd, NULL);
    return true;
}

/* Gives the lock back; the lock's file goes with its machine. */
static void unlock(MachineHost *host, const char *name, BaseLock *lock)
{
    if (machine_store_has(host->store, name)) {
        base_lock_free(lock);
    } else {
        base_lock_free_and_unlink(lock);
    }
}

static void tell_stop(const Target *t, uint64_t grace_ms)
{
    g_autofree char *members =
        g_strdup_printf("{\"by\":\"command\",\"grace_s\":%.3f}", (double)grace_ms / 1000);
    machine_event_append(t->dirfd, "stop", t->boot->boot, t->boot->start_ms, members, NULL);
}

/* Waits for the watcher to have written how it ended: event-driven, bounded. */
static bool wait_for_end_event(const Target *t, uint64_t offset)
{
    g_autoptr(MachineFollower) follower = machine_follower_new(t->plan->dir, offset, NULL);
    uint64_t deadline = machine_boottime_ms() + WATCHER_END_MS;
    while (follower) {
        bool is_gone = false;
        g_autofree char *line = machine_follower_next(follower, &is_gone);
        if (is_gone || (line && strstr(line, "\"type\":\"end\""))) {
            return true;
        }
        uint64_t now = machine_boottime_ms();
        struct pollfd fd = {machine_follower_fd(follower), POLLIN, 0};
        if (!line && (now >= deadline || poll(&fd, 1, (int)(deadline - now)) <= 0)) {
            return false;
        }
    }
    return false;
}

static uint64_t events_size(const Target *t)
{
    off_t size = 0;
    autofd int fd = openat(t->dirfd, "events.jsonl", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0) {
        size = lseek(fd, 0, SEEK_END);
    }
    return size > 0 ? (uint64_t)size : 0;
}

/* Nobody watched: the end is written by us. */
static void tell_end(const Target *t, const char *reason)
{
    g_autofree char *members = g_strdup_printf("{\"reason\":\"%s\"}", reason);
    machine_event_append(t->dirfd, "end", t->boot->boot, t->boot->start_ms, members, NULL);
}

/* Ends QEMU now and leaves the reason in the events. */
static bool end_qemu(const Target *t, GError **error)
{
    uint64_t offset = events_size(t);
    bool has_watcher = machine_watch_pid(t->plan->dir) > 0;
    autofd int pidfd = machine_boot_open_qemu(t->boot);
    if (pidfd < 0) {
        return true;
    }
    if (!machine_qemu_end(t->boot, error)) {
        return false;
    }
    if (!has_watcher || !wait_for_end_event(t, offset)) {
        tell_end(t, "stopped");
    }
    return true;
}

/* What clean_up() is to undo, decided again under the lock: between a wait and the lock others act.
 */
typedef struct {
    UndoScope scope;
    uint64_t start_ms; /* UNDO_BOOT: only of the boot that began then; another one is somebody's new
                          start, maybe of a new machine of that name; 0: of none */
    bool is_over;      /* UNDO_BOOT: not while QEMU runs, as when it was still being started then */
    bool keep_watcher; /* the caller is the watcher's end command */
    bool is_force;     /* UNDO_ALL: also when it runs */
} CleanUp;

static bool is_running(const Target *t)
{
    autofd int pidfd = t->boot ? machine_boot_open_qemu(t->boot) : -1;
    return pidfd >= 0;
}

/* Is what was asked for still to be done? */
static bool is_due(const Target *t, const Journal *journal, const CleanUp *what)
{
    if (what->scope == UNDO_ALL) {
        return true;
    }
    if (what->is_over && is_running(t)) {
        return false;
    }
    return journal->is_open || (t->boot && t->boot->start_ms == what->start_ms);
}

static bool clean_up_locked(MachineHost *host, Target *t, const CleanUp *what, GError **error)
{
    Journal journal;
    machine_journal_read(t->dirfd, &journal);
    if (what->scope == UNDO_ALL && !what->is_force && is_running(t)) {
        return base_fail(error, VM_ERROR_BUSY,
                         "machine '%s' is running - stop it first, or use --force",
                         t->plan->ident->name);
    }
    if (!is_due(t, &journal, what)) {
        return true;
    }
    bool is_all = what->scope == UNDO_ALL || (t->boot && t->boot->is_rm) ||
                  machine_journal_wants_all_gone(&journal);
    /* What can't be mended does not keep a machine from going. */
    if (!machine_update_finish(host, t->plan->ident->name, t->dirfd, is_all ? NULL : error) &&
        !is_all) {
        return false;
    }
    UndoOptions options = {
        .scope = is_all ? UNDO_ALL : UNDO_BOOT,
        .has_domain = t->boot || journal.is_open,
        .keep_watcher = what->keep_watcher,
    };
    return machine_journal_begin(t->dirfd, is_all ? JOURNAL_DESTROY : JOURNAL_END, error) &&
           machine_undo(host, t->plan, t->dirfd, &options, error) &&
           (is_all || machine_journal_commit(t->dirfd, error));
}

/* Takes the lock and undoes what belongs to a boot, or all of it. Nothing to do is success. */
static bool clean_up(MachineHost *host, const char *name, const CleanUp *what, GError **error)
{
    BaseLock *lock = machine_store_lock(host->store, name, LOCK_MS, error);
    if (!lock) {
        return false;
    }
    bool is_ok = true;
    if (machine_store_has(host->store, name)) {
        Target t;
        is_ok = target_load(host, name, &t, error);
        if (is_ok) {
            is_ok = clean_up_locked(host, &t, what, error);
            target_clear(&t);
        }
    }
    machine_host_release(host);
    unlock(host, name, lock);
    return is_ok;
}

/* Asks the guest and waits for QEMU's end; true when it has ended within the grace. */
static bool ask_and_wait(MachineHost *host, const Target *t, uint64_t grace_ms,
                         const MachineCallbacks *cb)
{
    VirtConn *conn = machine_host_virt(host, t->plan->uri, NULL);
    bool is_asked = conn && virt_shutdown(conn, t->plan->ident->uuid, NULL);
    machine_host_release(host);
    autofd int pidfd = machine_boot_open_qemu(t->boot);
    uint64_t deadline = machine_boottime_ms() + grace_ms;
    while (is_asked && pidfd >= 0) {
        uint64_t now = machine_boottime_ms();
        if (base_proc_wait_end(pidfd, now >= deadline ? 0 : (int)MIN(deadline - now, 200), NULL)) {
            return true;
        }
        if (machine_boottime_ms() >= deadline || (cb && cb->cancelled && cb->cancelled(cb->data))) {
            return false;
        }
    }
    return pidfd < 0;
}

bool machine_stop(MachineHost *host, const char *name, uint64_t grace_ms, bool *out_was_forced,
                  const MachineCallbacks *callbacks, GError **error)
{
    Target t;
    if (!target_load(host, name, &t, error)) {
        return false;
    }
    bool is_forced = false, is_ok = true;
    autofd int pidfd = t.boot ? machine_boot_open_qemu(t.boot) : -1;
    if (pidfd >= 0) {
        uint64_t offset = events_size(&t);
        bool has_watcher = machine_watch_pid(t.plan->dir) > 0;
        tell_stop(&t, grace_ms);
        is_forced = grace_ms == 0 || !ask_and_wait(host, &t, grace_ms, callbacks);
        if (is_forced) {
            is_ok = end_qemu(&t, error);
        } else if (!has_watcher || !wait_for_end_event(&t, offset)) {
            tell_end(&t, "guest-shutdown");
        }
    }
    CleanUp what = {.scope = UNDO_BOOT, .start_ms = t.boot ? t.boot->start_ms : 0};
    target_clear(&t);
    if (out_was_forced) {
        *out_was_forced = is_forced;
    }
    return is_ok && clean_up(host, name, &what, error);
}

bool machine_reboot(MachineHost *host, const char *name, GError **error)
{
    Target t;
    if (!target_load(host, name, &t, error)) {
        return false;
    }
    autofd int pidfd = t.boot ? machine_boot_open_qemu(t.boot) : -1;
    bool is_ok = pidfd >= 0 ||
                 base_fail(error, VM_ERROR_BUSY,
                           "machine '%s' is not running - `vm-run start %s` starts it", name, name);
    if (is_ok) {
        VirtConn *conn = machine_host_virt(host, t.plan->uri, error);
        is_ok = conn && virt_reboot(conn, t.plan->ident->uuid, error);
        machine_host_release(host);
    }
    target_clear(&t);
    return is_ok;
}

bool machine_destroy(MachineHost *host, const char *name, bool is_force, GError **error)
{
    Target t;
    if (!target_load(host, name, &t, error)) {
        return false;
    }
    autofd int pidfd = t.boot ? machine_boot_open_qemu(t.boot) : -1;
    bool is_ok = true;
    if (pidfd >= 0 && !is_force) {
        is_ok = base_fail(error, VM_ERROR_BUSY,
                          "machine '%s' is running - stop it first, or use --force", name);
    } else if (pidfd >= 0) {
        tell_stop(&t, 0);
        is_ok = machine_qemu_end(t.boot, error);
    }
    target_clear(&t);
    CleanUp what = {.scope = UNDO_ALL, .is_force = is_force};
    return is_ok && clean_up(host, name, &what, error);
}

bool machine_ended(MachineHost *host, const char *name, GError **error)
{
    if (!machine_store_has(host->store, name)) {
        return true;
    }
    Target t;
    if (!target_load(host, name, &t, error)) {
        return false;
    }
    bool is_over = t.boot && !is_running(&t);
    CleanUp what = {.scope = UNDO_BOOT,
                    .start_ms = t.boot ? t.boot->start_ms : 0,
                    .is_over = true,
                    .keep_watcher = true};
    target_clear(&t);
    return !is_over || clean_up(host, name, &what, error);
}
