#include "cli/host.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "cli/say.h"
#include "cli/signals.h"

MachineHost *cmd_host_new(const CmdContext *context, bool is_read_only, GError **error)
{
    return machine_host_new(context->state_dir, context->connect, is_read_only, error);
}

int cmd_each_machine(const CmdContext *context, MachineHost *host,
                     bool (*each)(const CmdContext *context, MachineHost *host, const char *name,
                                  GError **error))
{
    int worst = 0;
    for (guint i = 0; i < context->args->operands->len; i++) {
        g_autoptr(GError) error = NULL;
        const char *name = context->args->operands->pdata[i];
        if (!each(context, host, name, &error)) {
            cmd_say_error(error);
            worst = MAX(worst, base_error_row_of(error)->exit_status);
        }
    }
    return worst;
}

char *cmd_format_age(uint64_t seconds)
{
    static const struct {
        uint64_t seconds;
        char unit;
    } units[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
    for (gsize i = 0; i < G_N_ELEMENTS(units); i++) {
        if (seconds >= units[i].seconds) {
            return g_strdup_printf("%" PRIu64 "%c", seconds / units[i].seconds, units[i].unit);
        }
    }
    return g_strdup("0s");
}

char *cmd_format_forwards(const GPtrArray *forwards)
{
    GString *out = g_string_new(NULL);
    for (guint i = 0; i < forwards->len; i++) {
        const MachineForward *forward = forwards->pdata[i];
        bool is_ipv6 = strchr(forward->host_addr, ':');
        g_string_append_printf(out, "%s%s%s%s:%u->%u/%s", i ? ", " : "", is_ipv6 ? "[" : "",
                               forward->host_addr, is_ipv6 ? "]" : "", forward->host_port,
                               forward->guest_port, forward->proto);
    }
    return g_string_free(out, FALSE);
}
