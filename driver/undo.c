#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "driver/step.h"

/*
 * How it works: the record names every step; walking it backwards undoes them. Each undo is
 * idempotent, so rollback, stop, destroy and crash recovery are this one walk, and a walk that was
 * cut off is simply done again.
 */

static bool fault_undo(StepKind kind, const char *when)
{
#ifdef VM_FAILPOINTS
    g_autofree char *point = g_strdup_printf("undo-%s.%s", machine_step_name(kind), when);
    return base_failpoint(point) != 0;
#else
    (void)kind, (void)when;
    return false;
#endif
}

static bool is_in_scope(const StepRow *row, StepKind kind, const UndoOptions *options)
{
    if (options->scope == UNDO_BOOT && row->scope != UNDO_BOOT) {
        return false;
    }
    if (kind == STEP_WATCH && options->keep_watcher) {
        return false;
    }
    return options->has_domain || !row->needs_domain;
}

static bool undo_step(MachineHost *host, const MachinePlan *plan, int dirfd, const PlanStep *step,
                      GError **error)
{
    const StepRow *row = machine_step_row(step->kind);
    GError *problem = NULL;
    if (fault_undo(step->kind, "before") || !row->undo(host, plan, dirfd, step->index, &problem) ||
        fault_undo(step->kind, "after")) {
        g_propagate_prefixed_error(
            error, problem ? problem : g_error_new(VM_ERROR, VM_ERROR_HOST, "injected"),
            "%s: ", machine_step_name(step->kind));
        return false;
    }
    return true;
}

bool machine_undo(MachineHost *host, const MachinePlan *plan, int dirfd, const UndoOptions *options,
                  GError **error)
{
    g_autoptr(GString) left = g_string_new(NULL);
    for (unsigned i = plan->steps->len; i-- > 0;) {
        const PlanStep *step = &g_array_index(plan->steps, PlanStep, i);
        /* The folder goes last and only when all else went: without it nobody would know the rest.
         */
        if (!is_in_scope(machine_step_row(step->kind), step->kind, options) ||
            (step->kind == STEP_DIRECTORY && left->len)) {
            continue;
        }
        g_autoptr(GError) problem = NULL;
        if (!undo_step(host, plan, dirfd, step, &problem)) {
            g_string_append_printf(left, "%s%s", left->len ? "; " : "", problem->message);
        }
    }
    if (left->len) {
        return base_fail(error, VM_ERROR_LEFTOVER, "machine '%s': %s", plan->ident->name,
                         left->str);
    }
    if (dirfd >= 0 && options->scope == UNDO_BOOT && unlinkat(dirfd, "boot.json", 0) < 0 &&
        errno != ENOENT) {
        base_error_set_errno(error, errno, "machine '%s': boot.json", plan->ident->name);
        return false;
    }
    return true;
}

/* --- recovery --------------------------------------------------------------------------------- */

/* A folder without a readable record holds nothing outside itself that its name doesn't tell: the
 * plan's names follow from the identity. */
static bool recover_without_record(MachineHost *host, const char *name, int dirfd,
                                   const GError *why, GError **error)
{
    (void)host;
    bool has_files = faccessat(dirfd, "spec.json", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    return base_fail(error, VM_ERROR_STATE, "machine '%s': %s%s", name, why->message,
                     has_files ? "; its disks are untouched" : "");
}

bool machine_recover(MachineHost *host, const char *name, bool *out_was_removed, GError **error)
{
    *out_was_removed = false;
    autofd int dirfd = machine_store_open_machine(host->store, name, error);
    if (dirfd < 0) {
        return false;
    }
    Journal journal;
    machine_journal_read(dirfd, &journal);
    g_autoptr(GError) why = NULL;
    g_autoptr(MachinePlan) plan = machine_record_load(dirfd, &why);
    if (!plan) {
        return recover_without_record(host, name, dirfd, why, error);
    }
    bool was_changing = journal.is_open && journal.op == JOURNAL_UPDATE;
    if (was_changing && (!machine_update_finish(host, name, dirfd, error) ||
                         !machine_journal_commit(dirfd, error))) {
        return false;
    }
    journal.is_open &= !was_changing;
    g_autoptr(MachineBoot) boot = machine_boot_load(dirfd, NULL);
    autofd int pidfd = boot ? machine_boot_open_qemu(boot) : -1;
    bool is_ended = boot && pidfd < 0 && !plan->is_test_driver;
    if (!journal.is_open && !is_ended) {
        return true;
    }
    bool is_all = machine_journal_wants_all_gone(&journal) || (is_ended && boot->is_rm);
    if (!journal.is_open && is_ended) {
        machine_event_append(dirfd, "end", boot->boot, boot->start_ms,
                             "{\"reason\":\"lost\",\"detail\":\"found ended; nobody watched\"}",
                             NULL);
    }
    if (!machine_journal_begin(dirfd, is_all ? JOURNAL_DESTROY : JOURNAL_END, error)) {
        return false;
    }
    UndoOptions options = {.scope = is_all ? UNDO_ALL : UNDO_BOOT, .has_domain = true};
    if (!machine_undo(host, plan, dirfd, &options, error)) {
        return false;
    }
    *out_was_removed = is_all;
    return is_all || machine_journal_commit(dirfd, error);
}
