#include <stdio.h>
#include "base/error.h"
#include "base/report.h"
#include "cli/commands.h"
#include "cli/host.h"
#include "cli/json.h"
#include "cli/say.h"
#include "cli/signals.h"

static void print_item(const MachineGcItem *item)
{
    g_autofree char *line =
        g_strdup_printf("%s: %s%s%s", item->object, item->error ? "failed: " : "",
                        item->error ? item->error : item->action, "");
    g_autofree char *shown = base_report_escape(line, 0);
    puts(shown);
}

static void print_json(const GPtrArray *items, bool is_dry_run)
{
    json_t *list = json_array();
    for (guint i = 0; i < items->len; i++) {
        const MachineGcItem *item = items->pdata[i];
        json_t *entry = json_object();
        json_object_set_new(entry, "object", cmd_json_text(item->object));
        json_object_set_new(entry, "action", cmd_json_text(item->action));
        json_object_set_new(entry, "error", cmd_json_text(item->error));
        json_array_append_new(list, entry);
    }
    json_t *object = json_object();
    json_object_set_new(object, "v", json_integer(1));
    json_object_set_new(object, "dry_run", json_boolean(is_dry_run));
    json_object_set_new(object, "items", list);
    cmd_json_print(object);
}

static int gc_main(const CmdContext *context, GError **error)
{
    bool is_dry_run = cmd_args_has(context->args, "dry-run");
    g_autoptr(MachineHost) host = cmd_host_new(context, is_dry_run, error);
    if (!host) {
        return 0;
    }
    cmd_signals_init(); /* an undo that has begun goes on to its end */
    g_autoptr(GPtrArray) items = machine_gc(host, is_dry_run, error);
    if (!items) {
        return 0;
    }
    if (context->is_json) {
        print_json(items, is_dry_run);
        return 0;
    }
    for (guint i = 0; i < items->len; i++) {
        print_item(items->pdata[i]);
    }
    if (!items->len) {
        cmd_say_note(context, "nothing was left behind");
    }
    return 0;
}

static const CmdFlag flags[] = {
    {.name = "dry-run", .doc = "Only say what would be done."},
    {.name = NULL},
};

const CmdCommand cmd_gc = {
    .name = "gc",
    .synopsis = "[flags]",
    .doc = "Find and undo what crashes left behind; only what carries our mark.",
    .detail = "Starts and removals that were cut off are rolled back or finished, domains and "
              "links without their machine "
              "are removed, a running machine without its watcher gets a new one. Status 9 when "
              "something could "
              "not be removed.",
    .flags = flags,
    .has_json = true,
    .handler = gc_main,
};
