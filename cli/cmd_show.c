#include <inttypes.h>
#include <stdio.h>
#include "base/error.h"
#include "base/report.h"
#include "cli/commands.h"
#include "cli/host.h"
#include "schemas/spec.h"

static void print_text(const char *label, const char *text)
{
    if (text && *text) {
        g_autofree char *shown = base_report_escape(text, 0);
        printf("%-12s %s\n", label, shown);
    }
}

static void print_size(const char *label, uint64_t bytes)
{
    g_autofree char *text = spec_format_size(bytes);
    print_text(label, text);
}

static void print_status(const MachineView *view)
{
    bool is_running = view->status == MACHINE_STATUS_RUNNING;
    g_autofree char *age = cmd_format_age(view->uptime_s);
    g_autofree char *status = g_strdup_printf("%s%s%s", machine_status_name(view->status),
                                              is_running ? " for " : "", is_running ? age : "");
    print_text("status", status);
    if (view->stage) {
        g_autofree char *stage =
            g_strdup_printf("%s %s", view->stage, view->stage_state ? view->stage_state : "");
        print_text("stage", stage);
    }
    print_text("provisioning", view->provision);
    if (view->end_reason) {
        g_autofree char *end =
            g_strdup_printf("%s%s%s%s", view->end_reason, view->end_detail ? " (" : "",
                            view->end_detail ? view->end_detail : "", view->end_detail ? ")" : "");
        print_text("ended", end);
    }
    print_text("created", view->created);
    print_text("started", view->started);
    if (view->is_rm) {
        print_text("at its end", "removed");
    }
}

/* "default 192.168.77.23 fd00::23 52:54:00:12:34:56 vmtabc on vmbabc": what there is of it. */
static void print_nics(const MachineView *view)
{
    for (guint i = 0; i < view->nics->len; i++) {
        const MachineNic *nic = view->nics->pdata[i];
        const char *const parts[] = {nic->ip4, nic->ip6, nic->mac, nic->tap};
        g_autoptr(GString) text = g_string_new(nic->network ? nic->network : nic->kind);
        for (gsize k = 0; k < G_N_ELEMENTS(parts); k++) {
            g_string_append_printf(text, "%s%s", parts[k] ? " " : "", parts[k] ? parts[k] : "");
        }
        const char *below = nic->bridge ? nic->bridge : nic->macvtap;
        g_string_append_printf(text, "%s%s%s", below ? " on " : "", below ? below : "",
                               nic->is_link_down ? " (link down)" : "");
        print_text("network", text->str);
    }
}

static void print_tags(const MachineView *view)
{
    g_autoptr(GList) keys = g_list_sort(g_hash_table_get_keys(view->tags), (GCompareFunc)g_strcmp0);
    for (GList *key = keys; key; key = key->next) {
        g_autofree char *text =
            g_strdup_printf("%s=%s", (const char *)key->data,
                            (const char *)g_hash_table_lookup(view->tags, key->data));
        print_text("tag", text);
    }
}

static void print_view(const MachineView *view)
{
    g_autofree char *forwards = cmd_format_forwards(view->forwards);
    g_autofree char *ssh =
        view->ssh_port ? g_strdup_printf("%s@%s port %u", view->login_user ? view->login_user : "?",
                                         view->ssh_addr, view->ssh_port)
                       : NULL;
    g_autofree char *cpus = g_strdup_printf("%u", view->cpus);
    print_text("name", view->name);
    print_status(view);
    print_text("image", view->image);
    print_text("format", view->image_format);
    print_text("cpus", cpus);
    print_size("memory", view->memory_bytes);
    print_size("disk", view->disk_bytes);
    print_text("accelerator", view->accel);
    print_text("hostname", view->hostname);
    print_text("ssh", ssh);
    print_text("ports", forwards);
    print_nics(view);
    print_text("not default", view->net_reason);
    print_tags(view);
    print_text("uuid", view->uuid);
    print_text("connection", view->uri);
    print_text("folder", view->dir);
}

static void print_spec(MachineHost *host, const char *name, GError **error)
{
    g_autoptr(MachineSpec) spec = machine_spec_load(host, name, error);
    g_autofree char *yaml = spec ? spec_machine_to_yaml(spec, false) : NULL;
    if (yaml) {
        fputs(yaml, stdout);
    }
}

static int show_main(const CmdContext *context, GError **error)
{
    const char *name = cmd_args_operand(context->args, 0);
    g_autoptr(MachineHost) host = cmd_host_new(context, true, error);
    if (host && cmd_args_has(context->args, "spec")) {
        print_spec(host, name, error);
        return 0;
    }
    g_autoptr(MachineView) view = host ? machine_view_load(host, name, error) : NULL;
    if (!view) {
        return 0;
    }
    if (context->is_json) {
        g_autofree char *json = machine_view_to_json(view);
        puts(json);
    } else {
        print_view(view);
    }
    return 0;
}

static const CmdFlag flags[] = {
    {.name = "spec", .doc = "The spec file that describes the machine, without its secrets."},
    {.name = NULL},
};

const CmdCommand cmd_show = {
    .name = "show",
    .synopsis = "[flags] NAME",
    .doc = "Show one machine: state, resources, addresses, how its last boot went.",
    .flags = flags,
    .n_operands_min = 1,
    .n_operands_max = 1,
    .operand = CMD_OPERAND_MACHINE,
    .has_json = true,
    .handler = show_main,
};
