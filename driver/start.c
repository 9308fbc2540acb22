#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/proc.h"
#include "driver/reserve_note.h"
#include "driver/step.h"
#include "imaging/fetch.h"

/*
 * How a start works: lock the name; finish what a crash cut off; look (images, keys, connection,
 * facts: nothing is changed); decide (the pure plan); do its steps, each written to the journal
 * first; commit. On any error the steps are undone backwards by the function that also serves stop
 * and destroy.
 */

#define LOCK_MS 20000 /* an end command may still be tidying the last boot */

static void context_clear(StepContext *c)
{
    for (unsigned i = 0; c->bases && c->plan && i < c->plan->disks->len; i++) {
        img_source_free(c->bases[i]);
    }
    g_free(c->bases);
    machine_plan_free(c->plan);
    machine_nets_free(c->nets);
    base_fd_close(&c->dirfd);
    machine_boot_free(c->boot);
    g_free(c->created);
    seed_keypair_free(c->host_key);
    seed_keypair_free(c->user_key);
    if (c->public_keys) {
        g_ptr_array_unref(c->public_keys);
    }
    g_ptr_array_unref(c->held_events);
}

static bool is_cancelled(const StepContext *c, GError **error)
{
    const MachineCallbacks *cb = c->callbacks;
    if (cb && cb->cancelled && cb->cancelled(cb->data)) {
        base_fail(error, VM_ERROR_CANCELLED, "cancelled");
        return true;
    }
    return false;
}

/* --- looking ---------------------------------------------------------------------------------- */

static bool fetch_progress(uint64_t done, uint64_t total, void *data)
{
    const MachineCallbacks *cb = ((StepContext *)data)->callbacks;
    if (cb && cb->progress) {
        cb->progress(STAGE_IMAGE, "begin", "downloading", total ? (int)(done * 1000 / total) : -1,
                     cb->data);
    }
    return !(cb && cb->cancelled && cb->cancelled(cb->data));
}

/* The local file behind what the spec names; URLs go through the cache. Transfer full. */
static char *local_image(StepContext *c, const char *image, const char *cache_dir, GError **error)
{
    if (!img_fetch_is_url(image)) {
        return g_strdup(image);
    }
    g_autofree char *usual = g_build_filename(c->host->store->dir, "cache", "images", NULL);
    ImgFetch fetch = {
        .url = image, .sha256 = c->spec->sha256, .cache_dir = cache_dir ? cache_dir : usual};
    return img_fetch(&fetch, fetch_progress, c, error);
}

static int expected_format(SpecImageFormat format)
{
    return format == SPEC_IMAGE_FORMAT_QCOW2 ? (int)IMG_FORMAT_QCOW2
           : format == SPEC_IMAGE_FORMAT_RAW ? (int)IMG_FORMAT_RAW
                                             : -1;
}

static PlanImage plan_image_of(const ImgSource *source)
{
    return (PlanImage){
        .path = source->path,
        .format = source->header->format,
        .virtual_bytes = source->header->virtual_bytes,
        .file_bytes = source->header->file_bytes,
        .dev = source->dev,
        .ino = source->ino,
        .mtime_ns = source->mtime_ns,
    };
}

static bool add_source(StepContext *c, GPtrArray *sources, GArray *images, const char *image,
                       int expected, const char *cache_dir, GError **error)
{
    g_autofree char *path = local_image(c, image, cache_dir, error);
    ImgSource *source = path ? img_source_open(path, NULL, expected, error) : NULL;
    if (!source) {
        return false;
    }
    PlanImage looked = plan_image_of(source);
    g_array_append_val(images, looked);
    g_ptr_array_add(sources, source);
    return true;
}

/* New machine: opens and vets every image that the spec names. */
static bool look_at_images(StepContext *c, GPtrArray *sources, GArray *images,
                           const char *cache_dir, GError **error)
{
    machine_step_stage(c, STAGE_IMAGE, "begin", NULL);
    if (!add_source(c, sources, images, c->spec->image, expected_format(c->spec->image_format),
                    cache_dir, error)) {
        return false;
    }
    for (unsigned i = 0; i < c->spec->disks->len; i++) {
        const SpecDisk *disk = g_ptr_array_index(c->spec->disks, i);
        if (disk->source && !add_source(c, sources, images, disk->source, -1, cache_dir, error)) {
            g_prefix_error(error, "disk '%s': ", disk->name);
            return false;
        }
    }
    machine_step_stage(c, STAGE_IMAGE, "done", NULL);
    return true;
}

static bool same_base(const PlanDisk *disk, const ImgSource *source)
{
    return source->dev == disk->base_dev && source->ino == disk->base_ino &&
           source->mtime_ns == disk->base_mtime_ns &&
           source->header->file_bytes == disk->base_file_bytes &&
           source->header->virtual_bytes == disk->base_virtual_bytes;
}

/* Machine that exists: the bases must be the very files its overlays were made on. */
static bool look_at_bases(StepContext *c, const MachinePlan *record, GPtrArray *sources,
                          GArray *images, GError **error)
{
    for (unsigned i = 0; i < record->disks->len; i++) {
        const PlanDisk *disk = g_ptr_array_index(record->disks, i);
        if (!disk->base_path) {
            continue;
        }
        PlanImage recorded = {.path = disk->base_path,
                              .format = disk->base_format,
                              .virtual_bytes = disk->base_virtual_bytes,
                              .file_bytes = disk->base_file_bytes,
                              .dev = disk->base_dev,
                              .ino = disk->base_ino,
                              .mtime_ns = disk->base_mtime_ns};
        g_array_append_val(images, recorded);
        if (disk->is_copy) {
            g_ptr_array_add(sources, NULL);
            continue;
        }
        ImgSource *source = img_source_open(disk->base_path, NULL, (int)disk->base_format, error);
        if (!source) {
            g_prefix_error(error, "disk '%s': its base: ", disk->name);
            return false;
        }
        g_ptr_array_add(sources, source);
        if (!same_base(disk, source)) {
            return base_fail(
                error, VM_ERROR_IMAGE,
                "disk '%s': its base '%s' has changed since the overlay was made, which would "
                "corrupt it - put the old file back, or remove the machine and run it again",
                disk->name, disk->base_path);
        }
    }
    (void)c;
    return true;
}

/* Which base belongs to which disk: the order of images is the order of disks that have one. */
static void assign_bases(StepContext *c, GPtrArray *sources)
{
    c->bases = g_new0(ImgSource *, c->plan->disks->len + 1);
    unsigned next = 0;
    for (unsigned i = 0; i < c->plan->disks->len; i++) {
        const PlanDisk *disk = g_ptr_array_index(c->plan->disks, i);
        if (disk->base_path && next < sources->len) {
            c->bases[i] = g_steal_pointer(&g_ptr_array_index(sources, next));
            next++;
        }
    }
}

static SeedKeyPair *load_key(int dirfd, const char *file, GError **error)
{
    g_autofree char *text = base_file_read(dirfd, file, 64 * 1024, NULL, error);
    SeedKeyPair *pair = text ? seed_keypair_from_private(text, error) : NULL;
    if (text) {
        explicit_bzero(text, strlen(text));
    }
    return pair;
}

static bool look_at_keys(StepContext *c, const char *name, GError **error)
{
    if (c->is_new) {
        g_autofree char *comment = g_strdup_printf("vm-run:%s", name);
        c->host_key = seed_keypair_new(comment, error);
        c->user_key = c->host_key ? seed_keypair_new(comment, error) : NULL;
    } else {
        c->host_key = load_key(c->dirfd, "host_key", error);
        c->user_key = c->host_key ? load_key(c->dirfd, "id_ed25519", error) : NULL;
    }
    if (!c->user_key) {
        return false;
    }
    g_autoptr(BaseReport) report = base_report_new();
    g_autoptr(GPtrArray) keys = seed_keys_resolve(c->spec, NULL, report);
    if (!base_report_check(report, error)) {
        return false;
    }
    c->public_keys = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(c->public_keys, g_strdup(c->user_key->public_line));
    for (unsigned i = 0; keys && i < keys->len; i++) {
        g_ptr_array_add(c->public_keys, g_strdup(g_ptr_array_index(keys, i)));
    }
    g_ptr_array_add(c->public_keys, NULL);
    return true;
}

/* What looking at the host gave. */
typedef struct {
    HostFacts *facts;
    BaseReport *report;
    char *net_reason;
} Looked;

static void looked_clear(Looked *looked)
{
    host_facts_free(looked->facts);
    base_report_free(looked->report);
    g_free(looked->net_reason);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Looked, looked_clear)

/* --- deciding --------------------------------------------------------------------------------- */

/* The connection, the host's facts and the networks that the spec means by them. */
static bool look_at_host(StepContext *c, const MachinePlan *record, const MachineIdent *ident,
                         const char *wish, Looked *out, GError **error)
{
    if (!machine_host_virt(c->host, record ? record->uri : NULL, error)) {
        return false;
    }
    out->facts = machine_host_facts(c->host, error);
    if (!out->facts) {
        return false;
    }
    machine_nets_settle(c->spec, out->facts, wish, &out->net_reason);
    MachineNetsInput input = {c->host, c->spec, out->facts, ident, c->is_new};
    c->nets = machine_nets_look(&input, out->report, error);
    return c->nets;
}

static bool decide(StepContext *c, const char *name, const MachinePlan *record, GArray *images,
                   const char *wish, GError **error)
{
    g_auto(Looked) looked = {.report = base_report_new()};
    g_autoptr(MachineIdent) ident = machine_ident_new(c->host->store->dir, name);
    if (!look_at_host(c, record, ident, wish, &looked, error)) {
        return false;
    }
    g_autofree char *run_dir = machine_store_run_dir(c->host->store, ident);
    const char *reason = looked.net_reason ? looked.net_reason : record ? record->net_reason : NULL;
    PlanInput input = {
        .spec = c->spec,
        .facts = looked.facts,
        .ident = ident,
        .run_dir = run_dir,
        .generation = record ? record->generation : 1,
        .images = (PlanImage *)images->data,
        .n_images = images->len,
        .nets = c->nets->nets,
        .net_reason = reason,
    };
    c->plan = machine_plan_build(&input, looked.report);
    return c->plan || (base_report_check(looked.report, error), false);
}

/* --- doing ------------------------------------------------------------------------------------ */

/* "overlay.before=kill" and the like, for fault tests. */
static bool fault(StepKind kind, const char *when, GError **error)
{
#ifdef VM_FAILPOINTS
    g_autofree char *point = g_strdup_printf("%s.%s", machine_step_name(kind), when);
    int errnum = base_failpoint(point);
    if (errnum) {
        base_error_set_errno(error, errnum, "step '%s'", machine_step_name(kind));
        return true;
    }
#else
    (void)kind, (void)when, (void)error;
#endif
    return false;
}

static bool do_step(StepContext *c, const PlanStep *step, GError **error)
{
    const StepRow *row = machine_step_row(step->kind);
    if (is_cancelled(c, error) ||
        (c->dirfd >= 0 && !machine_journal_intent(c->dirfd, step->kind, step->index, error))) {
        return false;
    }
    if (row->stage >= 0) {
        machine_step_stage(c, (Stage)row->stage, "begin", NULL);
    }
    if (fault(step->kind, "before", error) || !row->apply(c, step->index, error) ||
        fault(step->kind, "after", error)) {
        if (row->stage >= 0) {
            machine_step_stage(c, (Stage)row->stage, "failed", NULL);
        }
        return false;
    }
    if (row->stage >= 0) {
        machine_step_stage(c, (Stage)row->stage, "done", NULL);
    }
    return true;
}

static bool do_steps(StepContext *c, GError **error)
{
    bool has_copy = false;
    for (unsigned i = 0; i < c->plan->disks->len; i++) {
        has_copy |= ((PlanDisk *)g_ptr_array_index(c->plan->disks, i))->is_copy && c->is_new;
    }
    if (has_copy) {
        machine_host_release(
            c->host); /* a copy may take minutes; it is opened again for the domain */
    }
    for (unsigned i = 0; i < c->plan->steps->len; i++) {
        const PlanStep *step = &g_array_index(c->plan->steps, PlanStep, i);
        if (step->kind > STEP_LEASE) {
            machine_nets_unlock(c->nets);
        }
        if (!do_step(c, step, error)) {
            return false;
        }
    }
    return machine_journal_commit(c->dirfd, error);
}

/* Nothing was done yet but what looking reserved. */
static void give_up_look(StepContext *c, const char *name, GError **error)
{
    if (c->nets) {
        machine_nets_abandon(c->nets, c->host, name, error);
    }
}

static void forget_reservations(StepContext *c)
{
    if (c->nets->has_reserved) {
        machine_reserve_forget(c->host, c->plan->ident->name);
    }
}

/* Everything of this start is taken back; what can't be is added to the message. */
static void roll_back(StepContext *c, GError **error)
{
    Journal journal;
    machine_journal_read(c->dirfd, &journal);
    UndoOptions options = {
        .scope = c->is_new ? UNDO_ALL : UNDO_BOOT,
        .has_domain = journal.has_reached[STEP_DEFINE],
    };
    g_autoptr(GError) left = NULL;
    if (c->dirfd < 0 && c->is_new) {
        give_up_look(c, c->plan->ident->name, error);
        return;
    }
    machine_nets_unlock(c->nets); /* the undo opens each again */
    if (!machine_undo(c->host, c->plan, c->dirfd, &options, &left)) {
        g_prefix_error(error, "[not all could be undone: %s; run `vm-run gc`] ", left->message);
        return;
    }
    forget_reservations(c);
    if (!c->is_new) {
        machine_journal_commit(c->dirfd, NULL);
    }
}

static void begin_boot(StepContext *c, const MachineStartOptions *options, unsigned boots)
{
    c->boot = machine_boot_new();
    c->boot->boot = boots + 1;
    c->boot->start_ms = machine_boottime_ms();
    c->boot->started = machine_now_text();
    c->boot->boot_id = g_strdup(base_proc_boot_id());
    c->boot->command = g_strdup(options->command ? options->command : "run");
    c->boot->is_rm = options->is_rm;
    g_autofree char *members = g_strdup_printf("{\"command\":\"%s\"}", c->boot->command);
    machine_step_event(c, "start", members);
}

/* On a network of ours it is known before the guest boots. */
static void set_ssh_address(StepContext *c)
{
    const char *addr = c->plan->is_test_driver ? NULL : machine_plan_ssh_addr(c->plan);
    if (addr) {
        c->boot->ssh_addr = g_strdup(addr);
        c->boot->ssh_port = 22;
    }
}

static bool start_locked(StepContext *c, const char *name, const MachineStartOptions *options,
                         GError **error)
{
    g_autoptr(GPtrArray) sources = g_ptr_array_new_with_free_func((GDestroyNotify)img_source_free);
    g_autoptr(GArray) images = g_array_new(FALSE, TRUE, sizeof(PlanImage));
    g_autoptr(MachinePlan) record = NULL;
    unsigned boots = 0;
    if (c->is_new) {
        c->created = machine_now_text();
    } else {
        record = machine_record_load(c->dirfd, error);
        if (!record) {
            return false;
        }
        machine_history_load(c->dirfd, &c->created, &boots);
    }
    int dirfd = c->dirfd;
    c->dirfd = -1; /* events wait until this start is certain */
    begin_boot(c, options, boots);
    bool is_looked = c->is_new ? look_at_images(c, sources, images, options->cache_dir, error)
                               : look_at_bases(c, record, sources, images, error);
    c->dirfd = dirfd;
    if (!is_looked || !look_at_keys(c, name, error) || is_cancelled(c, error) ||
        !decide(c, name, record, images, options->network, error)) {
        give_up_look(c, name, error);
        return false;
    }
    set_ssh_address(c);
    assign_bases(c, sources);
    if (!c->is_new && !machine_journal_begin(c->dirfd, JOURNAL_START, error)) {
        return false;
    }
    if (!do_steps(c, error)) {
        roll_back(c, error);
        return false;
    }
    forget_reservations(c);
    return true;
}

/* The name must be free for a new machine; one that exists must not run. */
static bool check_presence(MachineHost *host, const char *name, bool is_new, GError **error)
{
    bool is_removed = false;
    if (machine_store_has(host->store, name) && !machine_recover(host, name, &is_removed, error)) {
        return false;
    }
    bool has = machine_store_has(host->store, name);
    if (is_new && has) {
        return base_fail(error, VM_ERROR_EXISTS,
                         "machine '%s' exists - `vm-run start %s` starts it, `vm-run rm %s` "
                         "removes it, or choose another --name",
                         name, name, name);
    }
    if (is_new) {
        return machine_reserve_settle(host, name, error);
    }
    autofd int dirfd = machine_store_open_machine(host->store, name, error);
    if (dirfd < 0) {
        return false;
    }
    g_autoptr(MachineBoot) boot = machine_boot_load(dirfd, NULL);
    autofd int pidfd = boot ? machine_boot_open_qemu(boot) : -1;
    return pidfd < 0 || base_fail(error, VM_ERROR_BUSY, "machine '%s' is running already", name);
}

/* A plain password is hashed before anything is written, and forgotten. */
static bool hash_password(MachineSpec *spec, GError **error)
{
    if (!spec->password) {
        return true;
    }
    g_free(spec->password_hash);
    spec->password_hash = seed_password_hash(spec->password, error);
    explicit_bzero(spec->password, strlen(spec->password));
    g_clear_pointer(&spec->password, g_free);
    return spec->password_hash != NULL;
}

bool machine_start(MachineHost *host, const char *name, MachineSpec *spec,
                   const MachineStartOptions *options, const MachineCallbacks *callbacks,
                   GError **error)
{
    g_autoptr(BaseLock) lock = machine_store_lock(host->store, name, LOCK_MS, error);
    if (!lock || !check_presence(host, name, options->is_new, error)) {
        return false;
    }
    StepContext c = {.host = host, .dirfd = -1, .is_new = options->is_new, .callbacks = callbacks};
    c.held_events = machine_step_held_events_new();
    g_autoptr(MachineSpec) stored = NULL;
    if (!c.is_new) {
        c.dirfd = machine_store_open_machine(host->store, name, error);
        stored = c.dirfd < 0 ? NULL : machine_spec_load(host, name, error);
    }
    c.spec = spec ? spec : stored;
    bool is_ok = c.spec && hash_password(c.spec, error) && start_locked(&c, name, options, error);
    if (!is_ok) {
        g_prefix_error(error, "machine '%s': ", name);
    }
    machine_host_release(host);
    context_clear(&c);
    if (!is_ok && !machine_store_has(host->store, name)) {
        base_lock_free_and_unlink(g_steal_pointer(&lock));
    }
    return is_ok;
}
