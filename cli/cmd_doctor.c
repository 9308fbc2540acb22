#include <stdio.h>
#include "base/error.h"
#include "base/report.h"
#include "cli/commands.h"
#include "cli/json.h"
#include "driver/doctor.h"

static bool has_failure(const GPtrArray *checks)
{
    for (guint i = 0; i < checks->len; i++) {
        const MachineCheck *check = checks->pdata[i];
        if (check->level == DOCTOR_FAIL) {
            return true;
        }
    }
    return false;
}

static void print_text(const MachineCheck *check)
{
    g_autofree char *text = base_report_escape(check->text, 0);
    g_autofree char *remedy = check->remedy ? base_report_escape(check->remedy, 0) : NULL;
    printf("%s  %-16s %s%s%s\n", machine_check_level_name(check->level), check->id, text,
           remedy ? " - " : "", remedy ? remedy : "");
}

static void print_json(const GPtrArray *checks)
{
    json_t *list = json_array();
    for (guint i = 0; i < checks->len; i++) {
        const MachineCheck *check = checks->pdata[i];
        json_t *entry = json_object();
        json_object_set_new(entry, "id", cmd_json_text(check->id));
        json_object_set_new(entry, "level", json_string(machine_check_level_name(check->level)));
        json_object_set_new(entry, "text", cmd_json_text(check->text));
        json_object_set_new(entry, "remedy", cmd_json_text(check->remedy));
        json_array_append_new(list, entry);
    }
    json_t *object = json_object();
    json_object_set_new(object, "v", json_integer(1));
    json_object_set_new(object, "ok", json_boolean(!has_failure(checks)));
    json_object_set_new(object, "checks", list);
    cmd_json_print(object);
}

static int doctor_main(const CmdContext *context, GError **error)
{
    (void)error;
    g_autoptr(GPtrArray) checks = machine_doctor(context->state_dir, context->connect);
    if (context->is_json) {
        print_json(checks);
    }
    for (guint i = 0; !context->is_json && i < checks->len; i++) {
        const MachineCheck *check = checks->pdata[i];
        if (!context->is_quiet || check->level != DOCTOR_PASS) {
            print_text(check);
        }
    }
    return has_failure(checks) ? base_error_row(VM_ERROR_HOST)->exit_status : 0;
}

const CmdCommand cmd_doctor = {
    .name = "doctor",
    .synopsis = "[flags]",
    .doc = "Examine this host: what works, and what to do about the rest.",
    .detail = "A line each: pass, warn (works, but slower or with less) or fail (machines can't be "
              "run), the check, what "
              "was found, and the remedy. With --quiet only what does not pass. Nothing of the "
              "host is changed. Status 4 "
              "when a check fails.",
    .has_json = true,
    .handler = doctor_main,
};
