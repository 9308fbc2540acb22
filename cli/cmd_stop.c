#include <stdio.h>
#include "base/error.h"
#include "cli/commands.h"
#include "cli/follow.h"
#include "cli/host.h"
#include "cli/say.h"
#include "cli/signals.h"

static bool is_cancelled(void *data)
{
    (void)data;
    return cmd_signals_first();
}

/* The grace that was asked for, else the machine's own. */
static bool grace_of(const CmdContext *context, MachineHost *host, const char *name,
                     uint64_t *out_ms, GError **error)
{
    if (cmd_args_has(context->args, "force")) {
        *out_ms = 0;
        return true;
    }
    if (cmd_args_has(context->args, "timeout")) {
        return cmd_args_duration(context->args, "timeout", out_ms, error);
    }
    g_autoptr(MachineSpec) spec = machine_spec_load(host, name, error);
    *out_ms = spec ? spec->timeouts.stop_ms : 0;
    return spec;
}

static void say_end(const CmdContext *context, const char *name, bool was_forced, uint64_t grace_ms,
                    double seconds)
{
    if (was_forced && cmd_signals_first()) {
        cmd_say_note(context, "machine '%s' was ended after %.1f s", name, seconds);
    } else if (was_forced && grace_ms) {
        cmd_say_warning(context, "machine '%s' did not stop by itself within %.0f s and was ended",
                        name, (double)grace_ms / 1000.0);
    } else {
        cmd_say_note(context, "machine '%s' %s after %.1f s", name,
                     was_forced ? "was ended" : "has stopped", seconds);
    }
}

static bool stop_one(const CmdContext *context, MachineHost *host, const char *name, GError **error)
{
    uint64_t grace_ms = 0;
    g_autoptr(MachineView) view = machine_view_load(host, name, error);
    if (!view || !grace_of(context, host, name, &grace_ms, error)) {
        return false;
    }
    if (view->status == MACHINE_STATUS_STOPPED) {
        cmd_say_note(context, "machine '%s' is stopped already", name);
        return true;
    }
    if (grace_ms) {
        cmd_say_note(context, "stopping '%s' (up to %.0f s; Ctrl-C ends it at once)...", name,
                     (double)grace_ms / 1000.0);
    } else {
        cmd_say_note(context, "ending '%s'...", name);
    }
    uint64_t begin_ms = cmd_clock_ms();
    bool was_forced = false;
    MachineCallbacks callbacks = {NULL, is_cancelled, NULL};
    if (!machine_stop(host, name, grace_ms, &was_forced, &callbacks, error)) {
        return false;
    }
    say_end(context, name, was_forced, grace_ms, (double)(cmd_clock_ms() - begin_ms) / 1000.0);
    return true;
}

static int stop_main(const CmdContext *context, GError **error)
{
    uint64_t ignored_ms = 0;
    if (!cmd_args_duration(context->args, "timeout", &ignored_ms, error)) {
        return 0;
    }
    g_autoptr(MachineHost) host = cmd_host_new(context, true, error);
    if (!host) {
        return 0;
    }
    cmd_signals_init();
    return cmd_each_machine(context, host, stop_one);
}

static const CmdFlag flags[] = {
    {.name = "timeout",
     .letter = 't',
     .metavar = "TIME",
     .doc = "How long the guest may take before it is ended (else timeouts.stop of the machine, "
            "30s)."},
    {.name = "force", .doc = "End it at once, as by pulling the plug."},
    {.name = NULL},
};

const CmdCommand cmd_stop = {
    .name = "stop",
    .synopsis = "[flags] NAME...",
    .doc = "Stop machines: ask the guest, and end it when it does not go in time.",
    .detail = "The guest is asked by its agent and by ACPI. How it went is said on standard error. "
              "The machine stays and can "
              "be started again, unless it was begun with --rm. Of several machines all are tried, "
              "and the exit status is "
              "the highest.",
    .flags = flags,
    .n_operands_min = 1,
    .n_operands_max = G_MAXUINT,
    .operand = CMD_OPERAND_MACHINE,
    .handler = stop_main,
};
