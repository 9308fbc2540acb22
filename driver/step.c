#include "driver/step.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/file.h"
#include "cloudinit/seed.h"
#include "driver/step_boot.h"
#include "driver/step_net.h"
#include "imaging/copy.h"
#include "imaging/overlay.h"

/* --- telling ---------------------------------------------------------------------------------- */

typedef struct {
    char *type, *members;
    uint64_t at_ms;
} HeldEvent;

static void held_event_free(void *data)
{
    HeldEvent *held = data;
    g_free(held->type);
    g_free(held->members);
    g_free(held);
}

GPtrArray *machine_step_held_events_new(void)
{
    return g_ptr_array_new_with_free_func(held_event_free);
}

void machine_step_event(StepContext *c, const char *type, const char *members)
{
    if (c->dirfd < 0) {
        HeldEvent *held = g_new0(HeldEvent, 1);
        *held = (HeldEvent){g_strdup(type), g_strdup(members), machine_boottime_ms()};
        g_ptr_array_add(c->held_events, held);
        return;
    }
    machine_event_append(c->dirfd, type, c->boot->boot, c->boot->start_ms, members, NULL);
}

void machine_step_stage(StepContext *c, Stage stage, const char *state, const char *text)
{
    if (c->callbacks && c->callbacks->progress) {
        c->callbacks->progress((int)stage, state, text, -1, c->callbacks->data);
    }
    json_t *members = json_pack("{s:s,s:s,s:s*}", "stage", machine_stage_name(stage), "state",
                                state, "detail", text);
    char *json = json_dumps(members, JSON_COMPACT);
    machine_step_event(c, "stage", json ? json : "{}");
    free(json);
    json_decref(members);
}

void machine_step_forward(StepContext *c, const PlanForward *from, uint16_t host_port)
{
    MachineForward *forward = g_new0(MachineForward, 1);
    *forward = (MachineForward){g_strdup(from->proto), g_strdup(from->host_addr), host_port,
                                from->guest_port};
    g_ptr_array_add(c->boot->forwards, forward);
    json_t *members =
        json_pack("{s:s,s:s,s:i,s:i}", "proto", forward->proto, "host_addr", forward->host_addr,
                  "host_port", host_port, "guest_port", forward->guest_port);
    char *json = json_dumps(members, JSON_COMPACT);
    machine_step_event(c, "forward", json);
    free(json);
    json_decref(members);
}

/* --- directory -------------------------------------------------------------------------------- */

static bool write_text(int dirfd, const char *name, const char *text, GError **error)
{
    return base_file_write_whole(dirfd, name, text, strlen(text), 0600, error);
}

static bool write_record(StepContext *c, int dirfd, GError **error)
{
    g_autofree char *record = machine_plan_to_json(c->plan);
    return base_file_write_atomic(dirfd, "record.json", record, strlen(record), 0600, error) &&
           machine_history_save(dirfd, c->created, c->boot->boot, error) &&
           machine_boot_save(dirfd, c->boot, error);
}

static bool write_new_files(StepContext *c, int dirfd, GError **error)
{
    g_autofree char *spec = spec_machine_to_json(c->spec);
    bool is_ok = write_text(dirfd, "spec.json", spec, error) &&
                 write_text(dirfd, "host_key", c->host_key->private_openssh, error) &&
                 write_text(dirfd, "host_key.pub", c->host_key->public_line, error) &&
                 write_text(dirfd, "id_ed25519", c->user_key->private_openssh, error) &&
                 write_text(dirfd, "id_ed25519.pub", c->user_key->public_line, error) &&
                 machine_journal_begin(dirfd, JOURNAL_START_NEW, error) &&
                 machine_journal_intent(dirfd, STEP_DIRECTORY, 0, error) &&
                 write_record(c, dirfd, error);
    memset(spec, 0, strlen(spec));
    return is_ok;
}

static void flush_events(StepContext *c)
{
    uint64_t now = machine_boottime_ms();
    for (unsigned i = 0; i < c->held_events->len; i++) {
        const HeldEvent *held = g_ptr_array_index(c->held_events, i);
        machine_event_append_late(c->dirfd, held->type, c->boot->boot, c->boot->start_ms,
                                  now - held->at_ms, held->members, NULL);
    }
    g_ptr_array_set_size(c->held_events, 0);
}

/* A new machine's folder appears whole: made under a name that is never a machine's, then renamed.
 */
static bool directory_apply(StepContext *c, unsigned index G_GNUC_UNUSED, GError **error)
{
    if (!c->is_new) {
        bool is_written = write_record(c, c->dirfd, error);
        flush_events(c);
        return is_written;
    }
    int machines_fd = c->host->store->machines_fd;
    g_autofree char *temp = g_strdup_printf(".new-%s", c->plan->ident->name);
    if (!base_dir_remove_tree(machines_fd, temp, error)) {
        return false;
    }
    /* QEMU, as another user, passes through to its UEFI variables and nothing else: all files are
     * 0600. */
    mode_t mode = geteuid() == 0 ? 0711 : 0700;
    if (mkdirat(machines_fd, temp, mode) < 0) {
        base_error_set_errno(error, errno, "cannot make '%s'", c->plan->dir);
        return false;
    }
    autofd int fd = openat(machines_fd, temp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fchmod(fd, mode) < 0) {
        base_error_set_errno(error, errno, "cannot make '%s'", c->plan->dir);
        base_dir_remove_tree(machines_fd, temp, NULL);
        return false;
    }
    if (!write_new_files(c, fd, error)) {
        base_dir_remove_tree(machines_fd, temp, NULL);
        return false;
    }
    (void)base_failpoint("directory.mid");
    if (renameat2(machines_fd, temp, machines_fd, c->plan->ident->name, RENAME_NOREPLACE) < 0) {
        base_error_set_errno(error, errno, "cannot make '%s'", c->plan->dir);
        base_dir_remove_tree(machines_fd, temp, NULL);
        return false;
    }
    c->dirfd = base_fd_steal(&fd);
    flush_events(c);
    return true;
}

/* The folder leaves its name first, so that nobody sees half a machine. */
static bool directory_undo(MachineHost *host, const MachinePlan *plan, int dirfd G_GNUC_UNUSED,
                           unsigned index G_GNUC_UNUSED, GError **error)
{
    int machines_fd = host->store->machines_fd;
    g_autofree char *temp = g_strdup_printf(".new-%s", plan->ident->name);
    g_autofree char *gone = g_strdup_printf(".gone-%s", plan->ident->name);
    if (!base_dir_remove_tree(machines_fd, temp, error) ||
        !base_dir_remove_tree(machines_fd, gone, error)) {
        return false;
    }
    if (renameat(machines_fd, plan->ident->name, machines_fd, gone) < 0) {
        if (errno == ENOENT) {
            return true;
        }
        base_error_set_errno(error, errno, "cannot remove '%s'", plan->dir);
        return false;
    }
    return base_dir_remove_tree(machines_fd, gone, error);
}

/* --- disks ------------------------------------------------------------------------------------ */

static bool copy_progress(uint64_t done, uint64_t total, void *data)
{
    const MachineCallbacks *cb = ((StepContext *)data)->callbacks;
    if (cb && cb->progress) {
        cb->progress(STAGE_OVERLAY, "begin", "copying", total ? (int)(done * 1000 / total) : -1,
                     cb->data);
    }
    return !(cb && cb->cancelled && cb->cancelled(cb->data));
}

static bool disk_apply(StepContext *c, unsigned index, GError **error)
{
    const PlanDisk *disk = g_ptr_array_index(c->plan->disks, index);
    struct stat st;
    if (!c->is_new && fstatat(c->dirfd, disk->file, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISREG(st.st_mode)) {
        return true; /* a restart: the data stays */
    }
    if (!c->is_new) {
        return base_fail(error, VM_ERROR_STATE,
                         "disk '%s': '%s/%s' is missing - put it back, or remove the machine",
                         disk->name, c->plan->dir, disk->file);
    }
    bool is_ok;
    if (disk->is_copy) {
        is_ok = img_copy_create(c->bases[index], c->dirfd, disk->file, disk->virtual_bytes,
                                copy_progress, c, error);
    } else {
        ImgOverlay overlay = {
            .backing_path = disk->base_path,
            .backing_format = disk->base_format,
            .backing_bytes = disk->base_virtual_bytes,
            .virtual_bytes = disk->virtual_bytes,
        };
        is_ok = img_overlay_create(c->dirfd, disk->file, &overlay, NULL, error);
    }
    if (!is_ok) {
        g_prefix_error(error, "disk '%s': ", disk->name);
    }
    return is_ok;
}

static bool unlink_in(int dirfd, const char *name, GError **error)
{
    if (dirfd < 0 || unlinkat(dirfd, name, 0) == 0 || errno == ENOENT) {
        return true;
    }
    base_error_set_errno(error, errno, "cannot remove '%s'", name);
    return false;
}

static bool disk_undo(MachineHost *host G_GNUC_UNUSED, const MachinePlan *plan, int dirfd,
                      unsigned index, GError **error)
{
    const PlanDisk *disk = g_ptr_array_index(plan->disks, index);
    return unlink_in(dirfd, disk->file, error);
}

/* --- seed ------------------------------------------------------------------------------------- */

static SeedTexts *build_seed(StepContext *c)
{
    const MachinePlan *plan = c->plan;
    g_autoptr(GPtrArray) kept = g_ptr_array_new_with_free_func(g_free);
    g_autofree SeedNic *nics = machine_plan_seed_nics(plan, kept);
    SeedInput input = {
        .spec = c->spec,
        .instance_id = plan->instance_id,
        .public_keys = (const char *const *)c->public_keys->pdata,
        .host_key = c->host_key,
        .password_hash = c->spec->password_hash,
        .nics = nics,
        .n_nics = plan->nics->len,
        .has_status_port = !plan->is_test_driver,
    };
    return seed_texts_build(&input);
}

/* It stays attached and is made again whenever it is missing, from the machine's own record. */
static bool seed_apply(StepContext *c, unsigned index G_GNUC_UNUSED, GError **error)
{
    struct stat st;
    if (!c->is_new && fstatat(c->dirfd, "seed.iso", &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISREG(st.st_mode)) {
        return true;
    }
    g_autoptr(SeedTexts) texts = build_seed(c);
    return seed_iso_write(texts, c->dirfd, "seed.iso", true, error);
}

static bool seed_undo(MachineHost *host G_GNUC_UNUSED, const MachinePlan *plan G_GNUC_UNUSED,
                      int dirfd, unsigned index G_GNUC_UNUSED, GError **error)
{
    return unlink_in(dirfd, "seed.iso", error);
}

/* --- sockets' folder -------------------------------------------------------------------------- */

static bool run_dir_apply(StepContext *c, unsigned index G_GNUC_UNUSED, GError **error)
{
    const MachinePlan *plan = c->plan;
    if (strlen(plan->run_dir) + strlen("/q") > 107) {
        return base_fail(
            error, VM_ERROR_HOST,
            "'%s' is too long for a socket's path (107 bytes) - choose a shorter --state-dir",
            plan->run_dir);
    }
    g_autofree char *parent = g_path_get_dirname(plan->run_dir);
    g_autofree char *base = g_path_get_basename(plan->run_dir);
    autofd int parent_fd = base_dir_open_make(parent, geteuid() == 0 ? 0711 : 0700, error);
    /* What a crashed boot of this machine left there is not needed by anybody. */
    if (parent_fd < 0 || !base_dir_remove_tree(parent_fd, base, error)) {
        return false;
    }
    if (mkdirat(parent_fd, base, 0700) < 0) {
        base_error_set_errno(error, errno, "cannot make '%s'", plan->run_dir);
        return false;
    }
    autofd int fd = openat(parent_fd, base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || (geteuid() == 0 && fchown(fd, plan->qemu_uid, plan->qemu_gid) < 0)) {
        base_error_set_errno(error, errno, "cannot give '%s' to the user of QEMU", plan->run_dir);
        return false;
    }
    return true;
}

static bool run_dir_undo(MachineHost *host, const MachinePlan *plan, int dirfd G_GNUC_UNUSED,
                         unsigned index G_GNUC_UNUSED, GError **error)
{
    /* The record is ours, but a path in it is believed only when it is the one that follows from
     * the name. */
    g_autofree char *base = g_path_get_basename(plan->run_dir);
    if (strcmp(base, plan->ident->run_name) != 0) {
        return base_fail(error, VM_ERROR_STATE, "'%s' is not this machine's folder of sockets",
                         plan->run_dir);
    }
    (void)host;
    g_autofree char *parent = g_path_get_dirname(plan->run_dir);
    autofd int parent_fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent_fd < 0) {
        return true;
    }
    return base_dir_remove_tree(parent_fd, base, error);
}

/* --- the table -------------------------------------------------------------------------------- */

static const StepRow rows[] = {
    [STEP_DIRECTORY] = {UNDO_ALL, -1, false, directory_apply, directory_undo},
    [STEP_LEASE] = {UNDO_ALL, -1, false, step_lease_apply, step_lease_undo},
    [STEP_DISK] = {UNDO_ALL, STAGE_OVERLAY, false, disk_apply, disk_undo},
    [STEP_SEED] = {UNDO_ALL, STAGE_SEED, false, seed_apply, seed_undo},
    [STEP_RUN_DIR] = {UNDO_BOOT, -1, false, run_dir_apply, run_dir_undo},
    [STEP_NETWORK] = {UNDO_BOOT, -1, false, step_network_apply, step_network_undo},
    [STEP_FILTER] = {UNDO_BOOT, -1, false, step_filter_apply, step_filter_undo},
    [STEP_TAP] = {UNDO_BOOT, -1, false, step_tap_apply, step_tap_undo},
    [STEP_DEFINE] = {UNDO_BOOT, STAGE_DEFINE, true, step_define_apply, step_define_undo},
    [STEP_BOOT] = {UNDO_BOOT, STAGE_BOOT, true, step_boot_apply, step_boot_undo},
    [STEP_FORWARD] = {UNDO_BOOT, -1, false, step_forward_apply, step_forward_undo},
    [STEP_WATCH] = {UNDO_BOOT, -1, false, step_watch_apply, step_watch_undo},
};
G_STATIC_ASSERT(G_N_ELEMENTS(rows) == STEP_N);

const StepRow *machine_step_row(StepKind kind)
{
    return &rows[kind];
}
