#include "cli/follow.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include <jansson.h>
#include "base/error.h"
#include "cli/say.h"
#include "cli/signals.h"
#include "driver/event.h"

/*
 * How it works: each line of the machine's events goes to the handler of its type, which shows it
 * and notes what it says in State. The loop ends when the wished level was reached or State holds
 * an error. Between lines it sleeps in poll(2) on the follower, the signals and the deadline; a
 * live line adds a timer of a second.
 */

enum { TICK_MS = 1000 };

typedef struct {
    const CmdFollow *follow;
    bool is_waiting_for_reboot;
    uint64_t remind_at_ms; /* of cmd_clock_ms() */
    uint64_t origin_ms;    /* what the events' t counts from */
    bool is_reached[SPEC_WAIT_N];
    char *degraded; /* what degraded it, NULL: nothing */
    GError *error;
} State;

uint64_t cmd_clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static const char *text_of(const json_t *event, const char *key)
{
    const char *text = json_string_value(json_object_get(event, key));
    return text ? text : "";
}

static double now_s(const State *state)
{
    return (double)(cmd_clock_ms() - state->origin_ms) / 1000.0;
}

static void quote_lines(State *state, const json_t *event)
{
    size_t i;
    const json_t *line;
    json_array_foreach(json_object_get(event, "lines"), i, line)
    {
        if (json_is_string(line)) {
            cmd_say_quoted(state->follow->context, json_string_value(line));
        }
    }
}

/* --- stages ----------------------------------------------------------------------------------- */

/* A stage that began shows that the guest booted; one that is done may be a level of its own. */
static void note_levels(State *state, Stage stage, bool is_done)
{
    bool *reached = state->is_reached;
    reached[SPEC_WAIT_BOOT] |= stage >= STAGE_INIT;
    reached[SPEC_WAIT_SSH] |= is_done && stage == STAGE_SSH;
    reached[SPEC_WAIT_CLOUD_INIT] |= is_done && stage == STAGE_CLOUD_INIT;
    for (int level = 0; is_done && stage == STAGE_READY && level < SPEC_WAIT_N; level++) {
        reached[level] = true;
    }
}

static void on_stage(State *state, const json_t *event, double t_s)
{
    Stage stage = cmd_stage_from_name(text_of(event, "stage"));
    const char *what = text_of(event, "state");
    if (stage == STAGE_N) {
        return; /* of a newer version */
    }
    cmd_progress_stage(state->follow->progress, stage, what, text_of(event, "detail"), -1, t_s);
    note_levels(state, stage, g_str_equal(what, "done"));
}

/* --- stalls ----------------------------------------------------------------------------------- */

typedef enum { STALL_SAID, STALL_FATAL, STALL_TIMEOUT } StallWeight;

static const struct {
    const char *kind;
    const char *what;
    StallWeight weight; /* fatal: it stands there for ever, nothing is worth waiting for */
} stalls[] = {
    {"no-output", "its console has been silent for long", STALL_SAID},
    {"no-bootable-device", "its firmware found nothing to boot", STALL_FATAL},
    {"grub", "it stands at the boot loader's prompt", STALL_FATAL},
    {"panic", "its kernel panicked", STALL_FATAL},
    {"emergency", "it is in emergency mode", STALL_FATAL},
    {"initramfs", "it stands in the initramfs shell: its root file system was not found",
     STALL_FATAL},
    {"uefi-shell", "it stands in the UEFI shell: the image has no boot loader for UEFI",
     STALL_FATAL},
    {"boot-timeout", "kernel and init were not seen in time", STALL_TIMEOUT},
    {"ready-timeout", "it was not ready in time", STALL_TIMEOUT},
};

static void fail_stall(State *state, const char *what, StallWeight weight, const char *text)
{
    const char *name = state->follow->name;
    if (weight == STALL_TIMEOUT) {
        base_fail(&state->error, VM_ERROR_TIMEOUT,
                  "machine '%s': %s; it came as far as '%s' - give it longer with --timeout", name,
                  what, cmd_progress_where(state->follow->progress));
    } else {
        base_fail(&state->error, VM_ERROR_PROVISION,
                  "machine '%s': the guest did not boot: %s%s%s%s", name, what, *text ? " (" : "",
                  text, *text ? ")" : "");
    }
}

static void on_stall(State *state, const json_t *event, double t_s)
{
    const CmdFollow *follow = state->follow;
    const char *kind = text_of(event, "kind");
    (void)t_s;
    for (gsize i = 0; i < G_N_ELEMENTS(stalls); i++) {
        if (!g_str_equal(kind, stalls[i].kind)) {
            continue;
        }
        bool is_patient = stalls[i].weight == STALL_TIMEOUT && follow->has_own_timeout;
        cmd_progress_clear(follow->progress);
        cmd_say_warning(follow->context,
                        "machine '%s': %s; the last lines of its console:", follow->name,
                        stalls[i].what);
        quote_lines(state, event);
        if (stalls[i].weight != STALL_SAID && !is_patient) {
            fail_stall(state, stalls[i].what, stalls[i].weight, text_of(event, "text"));
        }
        return;
    }
}

/* --- provisioning ----------------------------------------------------------------------------- */

/* "module 'x': message (and 2 more)" of the errors that were reported. */
static char *describe_errors(const json_t *event)
{
    const json_t *errors = json_object_get(event, "errors");
    const json_t *first = json_array_get(errors, 0);
    size_t n = json_array_size(errors);
    if (!first) {
        return g_strdup("no reason was given");
    }
    const char *module = text_of(first, "module");
    const char *message = text_of(first, "message");
    g_autofree char *more = n > 1 ? g_strdup_printf(" (and %zu more)", n - 1) : g_strdup("");
    if (!*module) {
        return g_strdup_printf("%s%s", message, more);
    }
    return g_strdup_printf("module '%s': %s%s", module, message, more);
}

static void on_provision(State *state, const json_t *event, double t_s)
{
    const CmdFollow *follow = state->follow;
    const char *status = text_of(event, "status");
    state->is_reached[SPEC_WAIT_CLOUD_INIT] = true;
    state->is_reached[SPEC_WAIT_BOOT] = true;
    bool is_error = g_str_equal(status, "error");
    /* The stage's own event comes after this one, and a wait for cloud-init ends here. */
    cmd_progress_stage(follow->progress, STAGE_CLOUD_INIT, is_error ? "failed" : "done", NULL, -1,
                       t_s);
    if (!is_error && !g_str_equal(status, "degraded")) {
        return;
    }
    cmd_progress_clear(follow->progress);
    g_autofree char *what = describe_errors(event);
    if (is_error) {
        base_fail(&state->error, VM_ERROR_PROVISION, "machine '%s': cloud-init failed: %s",
                  follow->name, what);
    } else {
        cmd_say_warning(follow->context, "machine '%s': cloud-init had recoverable errors: %s",
                        follow->name, what);
        g_free(state->degraded);
        state->degraded = g_steal_pointer(&what);
    }
    quote_lines(state, event);
}

/* --- reboot, pause and end -------------------------------------------------------------------- */

/* The stages from firmware on begin again. */
static void on_reboot(State *state, const json_t *event, double t_s)
{
    (void)event;
    if (state->is_waiting_for_reboot) {
        state->origin_ms = cmd_clock_ms() - (uint64_t)(t_s * 1000.0);
    } else {
        cmd_progress_clear(state->follow->progress);
        cmd_say_note(state->follow->context, "machine '%s' reboots", state->follow->name);
    }
    state->is_waiting_for_reboot = false;
    memset(state->is_reached, 0, sizeof state->is_reached);
    state->is_reached[SPEC_WAIT_STARTED] = true;
    cmd_progress_reboot(state->follow->progress);
}

static void on_paused(State *state, const json_t *event, double t_s)
{
    const char *detail = text_of(event, "detail");
    (void)t_s;
    cmd_progress_clear(state->follow->progress);
    cmd_say_warning(state->follow->context, "machine '%s' is paused: %s%s%s", state->follow->name,
                    text_of(event, "reason"), *detail ? ": " : "", detail);
}

static void on_end(State *state, const json_t *event, double t_s)
{
    const char *detail = text_of(event, "detail");
    (void)t_s;
    base_fail(&state->error, VM_ERROR_PROVISION, "machine '%s' ended before it was %s: %s%s%s%s",
              state->follow->name, spec_wait_name(state->follow->wait), text_of(event, "reason"),
              *detail ? " (" : "", detail, *detail ? ")" : "");
}

/* --- the loop --------------------------------------------------------------------------------- */

static const struct {
    const char *type;
    void (*handle)(State *state, const json_t *event, double t_s);
} handlers[] = {
    {"stage", on_stage},   {"stall", on_stall},   {"provision", on_provision},
    {"reboot", on_reboot}, {"paused", on_paused}, {"end", on_end},
};

/* A line that is no event of ours is skipped: readers ignore what they don't know. */
static void handle_line(State *state, const char *line)
{
    json_t *event = json_loads(line, 0, NULL);
    json_int_t boot = json_integer_value(json_object_get(event, "boot"));
    const char *type = text_of(event, "type");
    double t_s = json_number_value(json_object_get(event, "t"));
    bool is_before =
        state->is_waiting_for_reboot && !g_str_equal(type, "reboot") && !g_str_equal(type, "end");
    for (gsize i = 0;
         event && boot == state->follow->boot && !is_before && i < G_N_ELEMENTS(handlers); i++) {
        if (g_str_equal(type, handlers[i].type)) {
            handlers[i].handle(state, event, t_s);
        }
    }
    json_decref(event);
}

static bool is_over(const State *state)
{
    return state->error || state->is_reached[state->follow->wait];
}

static void handle_lines(State *state, MachineFollower *follower)
{
    bool is_gone = false;
    while (!is_over(state)) {
        g_autofree char *line = machine_follower_next(follower, &is_gone);
        if (!line) {
            break;
        }
        handle_line(state, line);
    }
    if (is_gone && !is_over(state)) {
        base_fail(&state->error, VM_ERROR_PROVISION,
                  "machine '%s' ended and was removed before it was %s", state->follow->name,
                  spec_wait_name(state->follow->wait));
    }
}

static bool is_reminding(const State *state)
{
    return state->is_waiting_for_reboot && state->follow->remind;
}

static uint64_t left_until(uint64_t at_ms)
{
    uint64_t now = cmd_clock_ms();
    return at_ms > now ? at_ms - now : 0;
}

static bool is_late(const State *state)
{
    return state->follow->deadline_ms && !left_until(state->follow->deadline_ms);
}

/* How long poll(2) may sleep; -1: for ever. */
static int sleep_ms(const State *state)
{
    const CmdFollow *follow = state->follow;
    uint64_t left = follow->deadline_ms ? left_until(follow->deadline_ms) : G_MAXINT;
    if (is_reminding(state)) {
        left = MIN(left, left_until(state->remind_at_ms));
    }
    if (follow->context->is_live && !follow->context->is_quiet) {
        left = MIN(left, TICK_MS);
    }
    return left >= G_MAXINT ? -1 : (int)left;
}

static void remind_if_due(State *state)
{
    if (is_reminding(state) && !left_until(state->remind_at_ms)) {
        state->follow->remind(state->follow->remind_data);
        state->remind_at_ms = cmd_clock_ms() + state->follow->remind_ms;
    }
}

static void fail_timeout(State *state)
{
    const CmdFollow *follow = state->follow;
    const char *where = cmd_progress_where(follow->progress);
    base_fail(
        &state->error, VM_ERROR_TIMEOUT,
        "machine '%s' was not %s in time; it came as far as '%s' - give it longer with --timeout",
        follow->name, spec_wait_name(follow->wait), where);
}

static void wait_for_more(State *state, MachineFollower *follower)
{
    struct pollfd fds[] = {{.fd = machine_follower_fd(follower), .events = POLLIN},
                           {.fd = cmd_signals_fd(), .events = POLLIN}};
    int n = poll(fds, G_N_ELEMENTS(fds), sleep_ms(state));
    if (cmd_signals_first()) {
        base_fail(&state->error, VM_ERROR_CANCELLED,
                  "machine '%s': interrupted while waiting for '%s'", state->follow->name,
                  spec_wait_name(state->follow->wait));
    } else if (n == 0 && is_late(state)) {
        fail_timeout(state);
    } else if (n == 0) {
        remind_if_due(state);
    }
    cmd_progress_tick(state->follow->progress, now_s(state));
}

static bool finish(State *state, GError **error)
{
    cmd_progress_clear(state->follow->progress);
    if (!state->error && state->degraded && !state->follow->is_degraded_allowed &&
        state->follow->wait >= SPEC_WAIT_CLOUD_INIT) {
        base_fail(&state->error, VM_ERROR_DEGRADED,
                  "machine '%s': cloud-init had recoverable errors: %s - accept them with "
                  "--allow-degraded",
                  state->follow->name, state->degraded);
    }
    g_free(state->degraded);
    if (state->error) {
        g_propagate_error(error, state->error);
        return false;
    }
    return true;
}

bool cmd_follow(const CmdFollow *follow, GError **error)
{
    State state = {.follow = follow,
                   .is_waiting_for_reboot = follow->begins_with_reboot,
                   .remind_at_ms = cmd_clock_ms() + follow->remind_ms,
                   .origin_ms = follow->origin_ms};
    state.is_reached[SPEC_WAIT_STARTED] = !follow->begins_with_reboot;
    g_autoptr(MachineFollower) follower = machine_follower_new(follow->dir, follow->offset, error);
    if (!follower) {
        return false;
    }
    handle_lines(&state, follower);
    while (!is_over(&state)) {
        wait_for_more(&state, follower);
        handle_lines(&state, follower);
    }
    return finish(&state, error);
}
