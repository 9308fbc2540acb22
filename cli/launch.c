#include "cli/launch.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/progress.h"
#include "cli/say.h"
#include "cli/signals.h"
#include "driver/facts.h"

/* The watcher tells of a machine's own timeouts; should it be dead, we end a little later. */
enum { TIMEOUT_SLACK_MS = 10000, REMIND_MS = 20000 };

const char *const cmd_wait_levels[] = {"started", "boot", "ssh", "cloud-init", "ready", NULL};

bool cmd_wait_read(const CmdContext *context, SpecWait otherwise, CmdWait *out, GError **error)
{
    const char *level = cmd_args_text(context->args, "wait");
    *out = (CmdWait){.wait = otherwise,
                     .is_degraded_allowed = cmd_args_has(context->args, "allow-degraded")};
    if (level) {
        spec_wait_from_text(level, &out->wait); /* one of the flag's choices */
    }
    return cmd_args_duration(context->args, "timeout", &out->timeout_ms, error);
}

static CmdProgress *progress_new(const CmdContext *context)
{
    CmdProgressStyle style = {
        .out = stderr,
        .is_quiet = context->is_quiet,
        .is_live = context->is_live,
        .has_color = context->has_color,
    };
    return cmd_progress_new(&style);
}

typedef struct {
    CmdProgress *progress;
    uint64_t origin_ms;
} Starting;

static void on_progress(int stage, const char *state, const char *text, int permille, void *data)
{
    Starting *starting = data;
    double t_s = (double)(cmd_clock_ms() - starting->origin_ms) / 1000.0;
    if (stage >= 0 && stage < STAGE_N) {
        cmd_progress_stage(starting->progress, (Stage)stage, state, text, permille, t_s);
    }
}

static bool is_cancelled(void *data)
{
    (void)data;
    return cmd_signals_first();
}

static bool start(const CmdLaunch *launch, CmdProgress *progress, uint64_t origin_ms,
                  GError **error)
{
    Starting starting = {progress, origin_ms};
    MachineCallbacks callbacks = {on_progress, is_cancelled, &starting};
    MachineStartOptions options = {
        .command = launch->command,
        .is_rm = launch->is_rm,
        .is_new = launch->spec != NULL,
        .shown = launch->name,
        .network = g_getenv("VM_RUN_NETWORK"),
    };
    bool is_started =
        machine_launch(launch->host, launch->name, launch->spec, &options, &callbacks, error);
    cmd_progress_clear(progress);
    return is_started;
}

/* Emulation is ten times slower: said once, with the reason, where nobody asked for it. */
static void say_accel(const CmdLaunch *launch, const MachineView *view, const MachineSpec *spec)
{
    if (spec->accel != SPEC_ACCEL_AUTO || g_strcmp0(view->accel, spec_accel_name(SPEC_ACCEL_TCG))) {
        return;
    }
    g_autoptr(HostFacts) facts = host_facts_new();
    host_facts_probe_local(facts);
    facts->is_kvm_listed = true; /* what can be told without libvirt */
    host_facts_judge_kvm(facts);
    cmd_say_warning(launch->context, "machine '%s' is emulated (TCG), which is slow: %s",
                    launch->name,
                    facts->kvm_reason ? facts->kvm_reason : "libvirt offers no KVM here");
}

static bool is_auto(const MachineSpec *spec)
{
    const SpecNetwork *first = spec && spec->networks->len ? spec->networks->pdata[0] : NULL;
    return first && first->kind == SPEC_NET_AUTO;
}

/* Root's machines are on a network of their own, unless something is in the way; others' never. */
static void say_network(const CmdLaunch *launch, const MachineView *view)
{
    if (geteuid() == 0 && view->net_reason && is_auto(launch->spec)) {
        cmd_say_note(launch->context, "machine '%s' is on the user network, not on 'default': %s",
                     launch->name, view->net_reason);
    }
}

static uint64_t deadline_of(const CmdLaunch *launch, const MachineSpec *spec, uint64_t origin_ms)
{
    if (launch->wait.timeout_ms) {
        return origin_ms + launch->wait.timeout_ms;
    }
    uint64_t own_ms =
        launch->wait.wait == SPEC_WAIT_BOOT ? spec->timeouts.boot_ms : spec->timeouts.ready_ms;
    return origin_ms + own_ms + TIMEOUT_SLACK_MS;
}

static bool check_reachable(const CmdLaunch *launch, const MachineView *view, GError **error)
{
    if (launch->wait.wait == SPEC_WAIT_SSH && !view->ssh_port) {
        return base_fail(
            error, VM_ERROR_HOST,
            "machine '%s' has no address that ssh could reach - wait for 'boot' instead",
            launch->name);
    }
    return true;
}

/* What is known of the machine after its start; NULL members: see error. */
typedef struct {
    MachineView *view;
    MachineSpec *spec;
} Known;

static void known_clear(Known *known)
{
    machine_view_free(known->view);
    spec_machine_free(known->spec);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Known, known_clear)

static bool known_load(const CmdLaunch *launch, Known *out, GError **error)
{
    out->view = machine_view_load(launch->host, launch->name, error);
    out->spec = out->view ? machine_spec_load(launch->host, launch->name, error) : NULL;
    return out->spec;
}

static bool follow(const CmdLaunch *launch, CmdProgress *progress, const Known *known,
                   CmdFollow *how, GError **error)
{
    if (!check_reachable(launch, known->view, error)) {
        return false;
    }
    how->context = launch->context;
    how->progress = progress;
    how->name = launch->name;
    how->dir = known->view->dir;
    how->boot = known->view->boot;
    how->wait = launch->wait.wait;
    how->deadline_ms = deadline_of(launch, known->spec, how->origin_ms);
    how->has_own_timeout = launch->wait.timeout_ms;
    how->is_degraded_allowed = launch->wait.is_degraded_allowed;
    return cmd_follow(how, error);
}

bool cmd_launch(const CmdLaunch *launch, bool *out_is_up, GError **error)
{
    cmd_signals_init();
    uint64_t origin_ms = cmd_clock_ms();
    g_autoptr(CmdProgress) progress = progress_new(launch->context);
    *out_is_up = start(launch, progress, origin_ms, error);
    g_auto(Known) known = {NULL, NULL};
    if (!*out_is_up || !known_load(launch, &known, error)) {
        return false;
    }
    say_accel(launch, known.view, known.spec);
    say_network(launch, known.view);
    CmdFollow how = {.origin_ms = origin_ms};
    return launch->wait.wait == SPEC_WAIT_STARTED || follow(launch, progress, &known, &how, error);
}

static void ask_again(void *data)
{
    const CmdLaunch *launch = data;
    if (machine_reboot(launch->host, launch->name, NULL)) {
        cmd_say_note(launch->context, "asked '%s' again", launch->name);
    }
}

bool cmd_launch_follow_reboot(const CmdLaunch *launch, uint64_t origin_ms, uint64_t offset,
                              GError **error)
{
    g_autoptr(CmdProgress) progress = progress_new(launch->context);
    g_auto(Known) known = {NULL, NULL};
    if (!known_load(launch, &known, error)) {
        return false;
    }
    CmdFollow how = {.origin_ms = origin_ms,
                     .offset = offset,
                     .begins_with_reboot = true,
                     .remind = ask_again,
                     .remind_data = (void *)(uintptr_t)launch,
                     .remind_ms = REMIND_MS};
    return follow(launch, progress, &known, &how, error);
}

uint64_t cmd_events_size(const char *machine_dir)
{
    g_autofree char *path = g_build_filename(machine_dir, "events.jsonl", NULL);
    struct stat st;
    return lstat(path, &st) ? 0 : (uint64_t)st.st_size;
}
