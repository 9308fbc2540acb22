#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/error.h"
#include "base/report.h"
#include "cli/commands.h"
#include "cli/host.h"
#include "cli/json.h"
#include "driver/event.h"

/* "key=value" of every member that is not common to all events. */
static char *format_members(const json_t *event)
{
    static const char *const common[] = {"v", "time", "boot", "t", "type", "lines", NULL};
    GString *out = g_string_new(NULL);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)event, key, value)
    {
        if (g_strv_contains(common, key)) {
            continue;
        }
        if (json_is_string(value)) {
            g_string_append_printf(out, " %s=%s", key, json_string_value(value));
        } else {
            char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
            g_string_append_printf(out, " %s=%s", key, text ? text : "");
            free(text);
        }
    }
    return g_string_free(out, FALSE);
}

static void print_text(const char *line)
{
    json_t *event = json_loads(line, 0, NULL);
    const char *time = json_string_value(json_object_get(event, "time"));
    const char *type = json_string_value(json_object_get(event, "type"));
    if (time && type) {
        g_autofree char *members = format_members(event);
        g_autofree char *text =
            g_strdup_printf("%s %9.3f  %-10s%s", time,
                            json_number_value(json_object_get(event, "t")), type, members);
        g_autofree char *shown = base_report_escape(text, 0);
        puts(shown);
    }
    json_decref(event);
}

static void print_line(const CmdContext *context, const char *line)
{
    if (context->is_json) {
        puts(line);
    } else {
        print_text(line);
    }
}

/* Prints what there is; false when the machine is gone. */
static bool print_available(const CmdContext *context, MachineFollower *follower)
{
    bool is_gone = false;
    for (;;) {
        g_autofree char *line = machine_follower_next(follower, &is_gone);
        if (!line) {
            break;
        }
        print_line(context, line);
    }
    return !is_gone;
}

static int events_main(const CmdContext *context, GError **error)
{
    g_autoptr(MachineHost) host = cmd_host_new(context, true, error);
    g_autoptr(MachineView) view =
        host ? machine_view_load(host, cmd_args_operand(context->args, 0), error) : NULL;
    g_autoptr(MachineFollower) follower = view ? machine_follower_new(view->dir, 0, error) : NULL;
    if (!follower) {
        return 0;
    }
    bool is_there = print_available(context, follower);
    while (is_there && cmd_args_has(context->args, "follow") && !fflush(stdout)) {
        struct pollfd fds[] = {{.fd = machine_follower_fd(follower), .events = POLLIN},
                               {.fd = fileno(stdout), .events = 0}};
        poll(fds, G_N_ELEMENTS(fds), -1);
        if (fds[1].revents) { /* POLLERR: who read it has gone */
            break;
        }
        is_there = print_available(context, follower);
    }
    return 0;
}

static const CmdFlag flags[] = {
    {.name = "follow", .letter = 'f', .doc = "Go on until the machine is removed."},
    {.name = NULL},
};

const CmdCommand cmd_events = {
    .name = "events",
    .synopsis = "[flags] NAME",
    .doc = "Show what happened to a machine: stages, stalls, provisioning, reboots, ends.",
    .detail = "A line each: time, seconds since that start was asked for, type, members. With "
              "--json the events as they "
              "are kept, one JSON object a line; new types and members may come, readers ignore "
              "what they don't know.",
    .flags = flags,
    .n_operands_min = 1,
    .n_operands_max = 1,
    .operand = CMD_OPERAND_MACHINE,
    .has_json = true,
    .handler = events_main,
};
