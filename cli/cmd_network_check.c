#include <stdio.h>
#include "base/error.h"
#include "base/report.h"
#include "cli/commands.h"
#include "cli/host.h"
#include "cli/json.h"
#include "cli/say.h"
#include "cli/signals.h"
#include "driver/networks.h"

/* What is to be checked, and what came of it. */
typedef struct {
    const CmdContext *context;
    MachineHost *host;
    bool is_fix;
    json_t *networks; /* with --json */
    bool is_well;
    int worst; /* exit status of checks that could not be made */
} Check;

static json_t *json_of_lines(const GPtrArray *lines)
{
    json_t *list = json_array();
    for (guint i = 0; i < lines->len; i++) {
        json_array_append_new(list, cmd_json_text(lines->pdata[i]));
    }
    return list;
}

static void print_lines(const char *name, const GPtrArray *lines, const char *tail)
{
    for (guint i = 0; i < lines->len; i++) {
        g_autofree char *line = g_strdup_printf("%s: %s%s", name, (char *)lines->pdata[i], tail);
        g_autofree char *shown = base_report_escape(line, 0);
        puts(shown);
    }
}

static void tell(Check *check, const char *name, const GPtrArray *differences,
                 const GPtrArray *fixed)
{
    if (check->context->is_json) {
        json_t *object = json_object();
        json_object_set_new(object, "name", cmd_json_text(name));
        json_object_set_new(object, "differences", json_of_lines(differences));
        json_object_set_new(object, "fixed", json_of_lines(fixed));
        json_array_append_new(check->networks, object);
        return;
    }
    print_lines(name, fixed, " (mended)");
    print_lines(name, differences, "");
    if (!differences->len && !fixed->len) {
        cmd_say_note(check->context, "%s: as it should be", name);
    }
}

static void check_one(Check *check, const char *name)
{
    g_autoptr(GPtrArray) differences = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) fixed = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    if (!machine_network_check(check->host, name, check->is_fix, differences, fixed, &error)) {
        cmd_say_error(error);
        check->worst = MAX(check->worst, base_error_row_of(error)->exit_status);
        return;
    }
    check->is_well &= differences->len == 0;
    tell(check, name, differences, fixed);
}

static void print_json(const Check *check)
{
    json_t *object = json_object();
    json_object_set_new(object, "v", json_integer(1));
    json_object_set_new(object, "ok", json_boolean(check->is_well && !check->worst));
    json_object_set(object, "networks", check->networks);
    cmd_json_print(object);
}

static int check_main(const CmdContext *context, GError **error)
{
    bool is_fix = cmd_args_has(context->args, "fix");
    g_autoptr(MachineHost) host = cmd_host_new(context, !is_fix, error);
    const GPtrArray *operands = context->args->operands;
    g_auto(GStrv) all = host && !operands->len ? machine_network_names(host, true, error) : NULL;
    if (!host || (!operands->len && !all)) {
        return 0;
    }
    Check check = {context, host, is_fix, context->is_json ? json_array() : NULL, true, 0};
    cmd_signals_init(); /* what has begun goes on to its end */
    for (guint i = 0; i < operands->len; i++) {
        check_one(&check, operands->pdata[i]);
    }
    for (char **name = all; name && *name; name++) {
        check_one(&check, *name);
    }
    if (context->is_json) {
        print_json(&check);
        json_decref(check.networks);
    }
    return check.is_well ? check.worst : base_error_row(VM_ERROR_HOST)->exit_status;
}

static const CmdFlag flags[] = {
    {.name = "fix", .doc = "Mend what can be mended, and tell what was and what is left."},
    {.name = NULL},
};

const CmdCommand cmd_network_check = {
    .name = "network check",
    .synopsis = "[--fix] [NETWORK...]",
    .doc = "Compare networks with what they should be: links, addresses, routes, rules, servers.",
    .detail = "Without a name all of them, those too that stand for a bridge which a machine names "
              "itself. One line on standard output for each difference; status 4 when some are "
              "left. What is not ours is told and never touched.",
    .flags = flags,
    .n_operands_max = G_MAXUINT,
    .operand = CMD_OPERAND_NETWORK,
    .has_json = true,
    .handler = check_main,
};
