#include <stdio.h>
#include <string.h>
#include "base/error.h"
#include "cli/commands.h"
#include "cli/host.h"
#include "cli/json.h"
#include "cli/network_flags.h"
#include "cli/say.h"
#include "cli/signals.h"
#include "driver/update.h"
#include "schemas/rules.h"
#include "schemas/spec.h"

/*
 * How it works: the machine's spec is loaded, the flags are laid over it, and it is checked as a
 * whole, so that a mistake has the same line as in a spec file; what differs then is the change.
 */
enum { MAX_TRIES = 64 };

typedef struct {
    const CmdContext *context;
    MachineSpec *spec;
    MachineChange change;
    unsigned nic;
    bool is_link_down;
    uint64_t rate_in_bps, rate_out_bps;
} Update;

static const char *shown_flag(const CmdGiven *given, char *buffer, size_t n)
{
    g_snprintf(buffer, n, "--%s", given->flag->name);
    return buffer;
}

/* --- ports ------------------------------------------------------------------------------------ */

static void free_port(SpecPort *port)
{
    g_free(port->host_addr);
    g_free(port->pos.file);
    g_free(port);
}

/* As the list writes it; NULL: it is none, *out_why says why not. Transfer full. */
static char *canonical_port(const char *text, VmError *out_code, const char **out_why)
{
    SpecPort port = {0};
    bool is_port = spec_port_from_text(&port, text, out_code, out_why);
    char *written = is_port ? spec_port_to_text(&port) : NULL;
    g_free(port.host_addr);
    return written;
}

static int find_port(const MachineSpec *spec, const char *written)
{
    for (guint i = 0; i < spec->ports->len; i++) {
        g_autofree char *own = spec_port_to_text(spec->ports->pdata[i]);
        if (g_str_equal(own, written)) {
            return (int)i;
        }
    }
    return -1;
}

static bool has_port(const MachineSpec *spec, const char *text)
{
    VmError code;
    const char *why;
    g_autofree char *written = canonical_port(text, &code, &why);
    return written && find_port(spec, written) >= 0;
}

/* Takes the mappings out that are written like `text`, all with "all"; none of them is said, and
 * no mistake. */
static bool unpublish(const Update *update, const char *text, GError **error)
{
    MachineSpec *spec = update->spec;
    VmError code = VM_ERROR_PORT;
    const char *why = NULL;
    while (g_str_equal(text, "all") && spec->ports->len > 0) {
        free_port(g_ptr_array_remove_index(spec->ports, spec->ports->len - 1));
    }
    g_autofree char *written = g_str_equal(text, "all") ? NULL : canonical_port(text, &code, &why);
    if (why) {
        return base_fail(error, code, "--unpublish '%s' %s", text, why);
    }
    int at = written ? find_port(spec, written) : -1;
    if (written && at < 0) {
        cmd_say_warning(update->context, "machine '%s' has no port '%s'", spec->name, written);
    }
    for (; at >= 0; at = find_port(spec, written)) {
        free_port(g_ptr_array_remove_index(spec->ports, (guint)at));
    }
    return true;
}

/* --- NICs ------------------------------------------------------------------------------------- */

static bool read_rate(const CmdArgs *args, const char *flag, uint64_t *out, const uint64_t **member,
                      GError **error)
{
    const char *text = cmd_args_text(args, flag);
    if (!text) {
        return true;
    }
    *out = 0;
    *member = out;
    const char *why = NULL;
    if (g_str_equal(text, "none") || spec_rate_check(text, out, &why)) {
        return true;
    }
    return base_fail(error, VM_ERROR_RANGE, "--%s '%s' %s", flag, text, why);
}

static bool read_nic(Update *update, GError **error)
{
    const CmdArgs *args = update->context->args;
    const char *link = cmd_args_text(args, "link");
    if (!cmd_args_count(args, "nic", &update->nic, error) ||
        !read_rate(args, "rate-in", &update->rate_in_bps, &update->change.rate_in_bps, error) ||
        !read_rate(args, "rate-out", &update->rate_out_bps, &update->change.rate_out_bps, error)) {
        return false;
    }
    if (update->nic >= update->spec->networks->len) {
        return base_fail(error, VM_ERROR_NOT_FOUND, "machine '%s' has no NIC %u",
                         update->spec->name, update->nic);
    }
    update->change.nic = update->nic;
    if (link) {
        update->is_link_down = g_str_equal(link, "down");
        update->change.is_link_down = &update->is_link_down;
    }
    return true;
}

/* --- all -------------------------------------------------------------------------------------- */

/* What is given of egress is the whole new policy. */
static void reset_egress(MachineSpec *spec)
{
    static const char *const paths[] = {"egress.hermetic", "egress.restricted", "egress.default",
                                        "egress.allow", "egress.deny"};
    spec_egress_clear(&spec->egress);
    spec->egress.allow = g_ptr_array_new();
    spec->egress.deny = g_ptr_array_new();
    for (gsize i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_hash_table_remove(spec->origins, paths[i]);
    }
}

static bool is_egress(const CmdGiven *given)
{
    return given->flag->spec_path && g_str_has_prefix(given->flag->spec_path, "egress.");
}

static bool read_given(Update *update, const CmdGiven *given, BaseReport *report, GError **error)
{
    char shown[64];
    const char *path = given->flag->spec_path;
    if (g_str_equal(given->flag->name, "unpublish")) {
        update->change.ports = update->spec->ports;
        return unpublish(update, given->value, error);
    }
    if (is_egress(given) && !update->change.egress) {
        reset_egress(update->spec);
        update->change.egress = &update->spec->egress;
    }
    bool is_there = g_strcmp0(path, "ports") == 0 && has_port(update->spec, given->value);
    if (path && !is_there) {
        spec_machine_set(update->spec, path, given->value ? given->value : "true",
                         shown_flag(given, shown, sizeof(shown)), report);
    }
    if (g_strcmp0(path, "ports") == 0) {
        update->change.ports = update->spec->ports;
    }
    return true;
}

/* Reads the flags in their order; false: `error`, or the report has a mistake. */
static bool read_change(Update *update, BaseReport *report, GError **error)
{
    const GArray *given = update->context->args->given;
    for (guint i = 0; i < given->len; i++) {
        if (!read_given(update, &g_array_index(given, CmdGiven, i), report, error)) {
            return false;
        }
    }
    const MachineChange *change = &update->change;
    bool is_nic = cmd_args_has(update->context->args, "link") ||
                  cmd_args_has(update->context->args, "rate-in") ||
                  cmd_args_has(update->context->args, "rate-out");
    if (!is_nic && !change->ports && !change->egress) {
        return base_fail(
            error, VM_ERROR_CLI,
            "nothing to change - give --publish, --unpublish, --link, a rate or egress");
    }
    if (is_nic && !read_nic(update, error)) {
        return false;
    }
    if (!base_report_n_errors(report)) {
        spec_machine_finish(update->spec, report);
    }
    return base_report_n_errors(report) == 0;
}

static void tell(const Update *update, bool is_changed)
{
    if (update->context->is_json) {
        json_t *object = json_object();
        json_object_set_new(object, "v", json_integer(1));
        json_object_set_new(object, "name", cmd_json_text(update->spec->name));
        json_object_set_new(object, "changed", json_boolean(is_changed));
        cmd_json_print(object);
    } else {
        cmd_say_note(update->context, is_changed ? "changed '%s'" : "'%s' was so already",
                     update->spec->name);
    }
}

/* One try: spec, flags over it, change. Status as of a handler. */
static int try_update(const CmdContext *context, MachineHost *host, GError **error)
{
    const char *name = cmd_args_operand(context->args, 0);
    g_autoptr(BaseReport) report = base_report_new();
    g_autoptr(MachineSpec) spec = machine_spec_load(host, name, error);
    if (!spec) {
        return 0;
    }
    g_autofree char *based_on = spec_machine_to_json(spec);
    Update update = {.context = context, .spec = spec, .change.based_on = based_on};
    bool is_changed = false;
    int status = 0;
    if (!read_change(&update, report, error)) {
        status = cmd_say_report(context, report);
    } else if (machine_update(host, name, &update.change, &is_changed, error)) {
        tell(&update, is_changed);
    }
    explicit_bzero(based_on, strlen(based_on));
    return status;
}

/* Flags add to what is there, so when that changed meanwhile they are laid over it again. */
static int update_main(const CmdContext *context, GError **error)
{
    g_autoptr(MachineHost) host = cmd_host_new(context, true, error);
    if (!host) {
        return 0;
    }
    cmd_signals_init(); /* a change that has begun goes on to its end */
    for (unsigned i = 0;; i++) {
        GError *problem = NULL;
        int status = try_update(context, host, &problem);
        if (i + 1 >= MAX_TRIES || !g_error_matches(problem, VM_ERROR, VM_ERROR_STALE_PLAN)) {
            if (problem) {
                g_propagate_error(error, problem);
            }
            return status;
        }
        g_error_free(problem);
    }
}

static const char *const link_words[] = {"up", "down", NULL};

static const CmdFlag flags[] = {
    {.name = "publish",
     .letter = 'p',
     .metavar = "PORTS",
     .is_list = true,
     .spec_path = "ports",
     .doc = "Add a port of this host that leads into the guest, written as for run."},
    {.name = "unpublish",
     .metavar = "PORTS",
     .is_list = true,
     .doc = "Take one away that was written so; all: every one. Its connections end."},
    CMD_EGRESS_FLAGS,
    {.name = "nic",
     .metavar = "N",
     .doc = "Which NIC --link and the rates concern, counted from 0."},
    {.name = "link", .metavar = "STATE", .choices = link_words, .doc = "Plug or unplug its cable."},
    {.name = "rate-in", .metavar = "RATE", .doc = "Most that goes to the guest; none: no limit."},
    {.name = "rate-out", .metavar = "RATE", .doc = "Most that comes from it; none: no limit."},
    {.name = NULL},
};

static const char *const examples[] = {
    "vm-run update web --publish 8443:443 --unpublish 8080:80",
    "both at once; other ports and their connections stay",
    "vm-run update web --egress-default deny --egress-allow 0.0.0.0/0:443/tcp",
    "the guest reaches nothing but https",
    "vm-run update web --link down",
    "pulls the cable of its first NIC",
    NULL};

const CmdCommand cmd_update = {
    .name = "update",
    .synopsis = "[flags] NAME",
    .doc = "Change ports, egress, links and rates of a machine, also while it runs.",
    .detail = "All of it or nothing: when a port is taken, nothing has changed. A running machine "
              "has it at once and without a gap for what stays; a stopped one at its next start. "
              "The same again changes nothing and succeeds. What the spec file says is not changed "
              "with it.",
    .examples = examples,
    .flags = flags,
    .n_operands_min = 1,
    .n_operands_max = 1,
    .operand = CMD_OPERAND_MACHINE,
    .has_json = true,
    .handler = update_main,
};
