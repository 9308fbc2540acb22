#include "base/error.h"
#include "cli/commands.h"
#include "cli/follow.h"
#include "cli/host.h"
#include "cli/launch.h"
#include "cli/say.h"
#include "cli/signals.h"

/* The guest reboots by itself: the machine, its QEMU and its forwards stay. */
static void reboot(const CmdLaunch *launch, const MachineView *view, GError **error)
{
    uint64_t offset = cmd_events_size(view->dir), origin_ms = cmd_clock_ms();
    if (machine_reboot(launch->host, launch->name, error)) {
        cmd_say_note(launch->context, "asked '%s' to reboot", launch->name);
        cmd_launch_follow_reboot(launch, origin_ms, offset, error);
    }
}

/* As by the reset button: ended at once and started again. */
static void cycle(const CmdLaunch *launch, const MachineView *view, GError **error)
{
    bool is_up = false;
    if (view->status == MACHINE_STATUS_STOPPED ||
        machine_stop(launch->host, launch->name, 0, NULL, NULL, error)) {
        cmd_launch(launch, &is_up, error);
    }
}

static int restart_main(const CmdContext *context, GError **error)
{
    const char *name = cmd_args_operand(context->args, 0);
    CmdWait wait;
    if (!cmd_wait_read(context, SPEC_WAIT_READY, &wait, error)) {
        return 0;
    }
    g_autoptr(MachineHost) host = cmd_host_new(context, true, error);
    g_autoptr(MachineView) view = host ? machine_view_load(host, name, error) : NULL;
    if (!view) {
        return 0;
    }
    cmd_signals_init();
    bool is_running = view->status == MACHINE_STATUS_RUNNING;
    bool is_forced = cmd_args_has(context->args, "force");
    if (is_running && is_forced && view->is_rm) {
        base_fail(error, VM_ERROR_DATA_LOSS,
                  "machine '%s' is removed when it ends (--rm) - restart it without --force", name);
        return 0;
    }
    CmdLaunch launch = {context, host, name, NULL, "restart", view->is_rm, wait};
    if (is_running && !is_forced) {
        reboot(&launch, view, error);
    } else {
        cycle(&launch, view, error);
    }
    return 0;
}

static const CmdFlag flags[] = {
    {.name = "force", .doc = "End it at once and start it again, instead of asking the guest."},
    CMD_LAUNCH_FLAGS,
    {.name = NULL},
};

const CmdCommand cmd_restart = {
    .name = "restart",
    .synopsis = "[flags] NAME",
    .doc = "Reboot a machine and follow its boot; one that is stopped is started.",
    .detail = "The guest is asked to reboot by its agent or by ACPI; the machine, its disks and "
              "its port forwards stay.",
    .flags = flags,
    .n_operands_min = 1,
    .n_operands_max = 1,
    .operand = CMD_OPERAND_MACHINE,
    .handler = restart_main,
};
