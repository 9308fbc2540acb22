#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/describe.h"
#include "cli/host.h"
#include "cli/launch.h"
#include "cli/name.h"
#include "cli/say.h"
#include "cli/signals.h"
#include "cli/ssh.h"
#include "imaging/fetch.h"
#include "imaging/source.h"

enum { STATUS_OUR_FAILURE = 125 };

/* One `run`: what was asked for, and what there is of it. */
typedef struct {
    const CmdContext *context;
    const char *const *command; /* for the guest, NULL: none */
    bool is_detached, is_rm;
    bool has_ssh; /* the machine will have an address that ssh reaches */
    MachineHost *host;
    MachineSpec *spec;
    CmdWait wait;
    bool is_up;
} Run;

static void run_clear(Run *run)
{
    machine_host_free(run->host);
    spec_machine_free(run->spec);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Run, run_clear)

/* --- before any effect ------------------------------------------------------------------------ */

/* Will ssh have an address to go to: a forwarded port, or the guest's own that is known? */
static bool has_known_address(const MachineSpec *spec)
{
    for (guint i = 0; spec->networks && i < spec->networks->len; i++) {
        const SpecNetwork *network = spec->networks->pdata[i];
        bool is_none =
            network->kind == SPEC_NET_AUTO && g_strcmp0(g_getenv("VM_RUN_NETWORK"), "none") == 0;
        bool is_foreign = network->kind == SPEC_NET_BRIDGE && !network->ip && !network->ip6;
        if (!is_none && !is_foreign && network->kind != SPEC_NET_MACVTAP &&
            network->kind != SPEC_NET_NONE) {
            return true;
        }
    }
    return false;
}

static bool check_flags(const Run *run, GError **error)
{
    if (run->is_detached && run->command) {
        return base_fail(error, VM_ERROR_CLI, "-d and a command for the guest exclude each other");
    }
    if (run->context->is_json && !run->is_detached) {
        return base_fail(error, VM_ERROR_CLI,
                         "--json needs -d: standard output is the session's otherwise");
    }
    return true;
}

static bool check_reachable(const Run *run, GError **error)
{
    bool needs_ssh = run->command || run->wait.wait == SPEC_WAIT_SSH;
    if (needs_ssh && !run->has_ssh) {
        return base_fail(error, VM_ERROR_CLI,
                         "%s needs ssh, and no address of the machine is known before it boots",
                         run->command ? "a command for the guest" : "--wait ssh");
    }
    return true;
}

static bool check_name(const Run *run, MachineHost *look, GError **error)
{
    const char *name = run->spec->name;
    if (!machine_store_has(machine_host_store(look), name)) {
        return true;
    }
    return base_fail(
        error, VM_ERROR_EXISTS,
        "machine '%s' exists - start it with 'vm-run start %s', or give another --name", name,
        name);
}

/* A start looks again, at the file that it uses; here so that a slip of the pen makes nothing. */
static bool check_image(const Run *run, GError **error)
{
    static const int formats[] = {[SPEC_IMAGE_FORMAT_AUTO] = -1,
                                  [SPEC_IMAGE_FORMAT_QCOW2] = IMG_FORMAT_QCOW2,
                                  [SPEC_IMAGE_FORMAT_RAW] = IMG_FORMAT_RAW};
    if (img_fetch_is_url(run->spec->image)) {
        return true;
    }
    g_autoptr(ImgSource) source =
        img_source_open(run->spec->image, NULL, formats[run->spec->image_format], error);
    return source;
}

/* A file that is there may be the only copy of what somebody wrote. */
static bool check_save_path(const Run *run, GError **error)
{
    const char *path = cmd_args_text(run->context->args, "save-spec");
    if (!path || !g_file_test(path, G_FILE_TEST_EXISTS)) {
        return true;
    }
    return base_fail(error, VM_ERROR_EXISTS, "'%s' exists - name another file, or remove it", path);
}

/* Name and defaults; what is wrong with the description goes to the report. Looks only. */
static bool complete(Run *run, MachineHost *look, BaseReport *report)
{
    const char *image = run->spec->image ? run->spec->image : "";
    if (!run->spec->name) {
        run->spec->name = cmd_name_generate(machine_host_store(look), image);
    }
    g_autoptr(GPtrArray) keys = cmd_describe_check(run->spec, report);
    (void)keys;
    run->has_ssh = has_known_address(run->spec);
    return !base_report_n_errors(report);
}

static bool read_wait(Run *run, GError **error)
{
    bool is_console_next = !run->is_detached && !run->command && run->spec && !run->has_ssh;
    SpecWait otherwise = is_console_next ? SPEC_WAIT_STARTED : SPEC_WAIT_READY;
    return cmd_wait_read(run->context, otherwise, &run->wait, error);
}

/* Reads and checks all that was given; nothing is made before all of it is right. */
static bool prepare(Run *run, BaseReport *report, GError **error)
{
    const CmdContext *context = run->context;
    if (!check_flags(run, error) || !read_wait(run, error)) {
        return false;
    }
    run->spec = cmd_describe(context, true, report, error);
    g_autoptr(MachineHost) look = run->spec ? cmd_host_new(context, true, error) : NULL;
    if (!look || !complete(run, look, report) || !read_wait(run, error) ||
        !check_reachable(run, error) || !check_name(run, look, error) || !check_image(run, error) ||
        !check_save_path(run, error)) {
        return false;
    }
    run->host = cmd_host_new(context, false, error);
    return run->host;
}

/* Once there is a machine that it describes; with its secrets, for its owner alone. */
static bool save_spec(const Run *run, GError **error)
{
    const char *path = cmd_args_text(run->context->args, "save-spec");
    if (!path) {
        return true;
    }
    g_autofree char *yaml = spec_machine_to_yaml(run->spec, true);
    bool is_saved = base_file_write_atomic(AT_FDCWD, path, yaml, strlen(yaml), 0600, error);
    explicit_bzero(yaml, strlen(yaml));
    return is_saved;
}

/* --- the session ------------------------------------------------------------------------------ */

static int print_machine(const Run *run, const MachineView *view)
{
    if (run->context->is_json) {
        g_autofree char *json = machine_view_to_json(view);
        puts(json);
    } else {
        puts(run->spec->name);
    }
    return 0;
}

static int attach_console(const Run *run, const MachineView *view, GError **error)
{
    CmdConsoleEnd end = CMD_CONSOLE_LEFT;
    cmd_console_attach(run->context, view, false, &end, error);
    return 0;
}

static int attach_ssh(const Run *run, const MachineView *view, GError **error)
{
    bool has_tty = run->command && cmd_ssh_has_tty();
    g_auto(GStrv) argv = cmd_ssh_argv(view, run->command, has_tty, error);
    int status = argv ? cmd_ssh_run(argv, error) : -1;
    if (status >= 0 && cmd_signals_first()) {
        return 128 + cmd_signals_first();
    }
    return status;
}

static int session(const Run *run, GError **error)
{
    g_autoptr(MachineView) view = machine_view_load(run->host, run->spec->name, error);
    if (!view) {
        return -1;
    }
    if (run->is_detached) {
        return print_machine(run, view);
    }
    return run->has_ssh && view->ssh_port ? attach_ssh(run, view, error)
                                          : attach_console(run, view, error);
}

/* --- afterwards ------------------------------------------------------------------------------- */

static void say_what_is_left(const Run *run)
{
    const char *name = run->spec->name;
    g_autoptr(MachineView) view = machine_view_load(run->host, name, NULL);
    if (view && view->status == MACHINE_STATUS_STOPPED) {
        cmd_say_note(
            run->context,
            "machine '%s' has ended: 'vm-run start %s' starts it again, 'vm-run rm %s' removes it",
            name, name, name);
    } else if (view) {
        cmd_say_note(
            run->context,
            "machine '%s' still runs: 'vm-run stop %s' stops it, 'vm-run rm --force %s' removes it",
            name, name, name);
    }
}

/* It may have removed itself already: it ended, and its watcher knew of --rm. */
static int remove_machine(const Run *run)
{
    g_autoptr(GError) error = NULL;
    if (machine_destroy(run->host, run->spec->name, true, &error) ||
        g_error_matches(error, VM_ERROR, VM_ERROR_NOT_FOUND)) {
        return 0;
    }
    cmd_say_error(error);
    return run->command ? STATUS_OUR_FAILURE : base_error_row_of(error)->exit_status;
}

static int clean_up(const Run *run, bool is_failed)
{
    bool is_left_running = run->is_detached && !is_failed;
    if (run->is_up && run->is_rm && !is_left_running) {
        return remove_machine(run);
    }
    if (run->is_up && !is_left_running) {
        say_what_is_left(run);
    }
    return 0;
}

static int run_main(const CmdContext *context, GError **error)
{
    g_auto(Run) run = {
        .context = context,
        .command = (const char *const *)context->args->rest,
        .is_detached = cmd_args_has(context->args, "detach"),
        .is_rm = cmd_args_has(context->args, "rm"),
    };
    g_autoptr(BaseReport) report = base_report_new();
    bool is_prepared = prepare(&run, report, error);
    int mistakes = cmd_say_report(context, report);
    if (!is_prepared) {
        return mistakes && run.command ? STATUS_OUR_FAILURE : mistakes;
    }
    CmdLaunch launch = {context, run.host, run.spec->name, run.spec, "run", run.is_rm, run.wait};
    bool is_ready = cmd_launch(&launch, &run.is_up, error);
    if (run.is_up && !save_spec(&run, is_ready ? error : NULL)) {
        is_ready = false; /* of two errors the first is said */
    }
    int status = is_ready ? session(&run, error) : -1;
    int cleaning = clean_up(&run, *error != NULL);
    return status > 0 ? status : cleaning;
}

static const CmdFlag flags[] = {
    {.name = "detach",
     .letter = 'd',
     .doc = "Do not attach: print the machine's name (or with --json all of it) when it is as far "
            "as --wait asks."},
    {.name = "rm", .doc = "Remove the machine and all of it when it ends or the session does."},
    CMD_LAUNCH_FLAGS,
    {.name = "save-spec",
     .metavar = "FILE",
     .kind = CMD_VALUE_FILE,
     .doc = "Write what was asked for as a spec file, too (readable by its owner alone)."},
    CMD_DESCRIBE_FLAGS,
    {.name = NULL},
};

static const char *const examples[] = {
    "vm-run run debian-12.qcow2",
    "boots it and logs you in; the machine stays",
    "vm-run run --rm debian-12.qcow2 -- uname -a",
    "runs one command in a machine that vanishes afterwards",
    "vm-run run -d -n web -m 2G -p 8080:80 --user-data web.yaml debian-12.qcow2",
    "a server in the background",
    NULL};

const CmdCommand cmd_run = {
    .name = "run",
    .synopsis = "[flags] IMAGE|-f FILE [-- COMMAND...]",
    .doc = "Create a machine from an image, boot it, and log in.",
    .detail = "IMAGE is a qcow2 or raw file or a URL; it is never written to. The boot is followed "
              "on standard error, stage "
              "by stage, until the machine is as far as --wait asks. Then you are logged in by ssh "
              "(or stand at the serial "
              "console, when ssh can't reach it; Ctrl-] leaves it). With -- COMMAND that command "
              "runs in the guest "
              "instead: its input and output are yours, and its exit status is passed on; a "
              "failure of ours is 125 then.\n\n"
              "A name is made up from the image's when --name is missing; one that exists is "
              "refused. Without --rm the machine "
              "stays when the session ends, and is said to. When the guest's provisioning fails "
              "(status 10) or has recoverable "
              "errors (11), the machine is kept for a look, unless --rm is given.\n\n"
              "Ctrl-C while it starts undoes everything. A second one ends at once, and 'vm-run "
              "gc' cleans up.",
    .examples = examples,
    .flags = flags,
    .n_operands_max = 1,
    .operand = CMD_OPERAND_FILE,
    .takes_command = true,
    .has_spec_flags = true,
    .has_json = true,
    .handler = run_main,
};
