#include <stdio.h>
#include <string.h>
#include "base/error.h"
#include "base/report.h"
#include "cli/commands.h"
#include "cli/host.h"
#include "cli/table.h"
#include "driver/networks.h"

static void print_text(const char *label, const char *text)
{
    if (text && *text) {
        g_autofree char *shown = base_report_escape(text, 0);
        printf("%-12s %s\n", label, shown);
    }
}

/* "10.77.0.0/24, gateway 10.77.0.1"; transfer full. */
static char *prefix_text(const char *cidr, const char *gateway)
{
    return cidr && gateway ? g_strdup_printf("%s, gateway %s", cidr, gateway) : g_strdup(cidr);
}

static char *servers_text(const MachineNetwork *network)
{
    return g_strdup_printf("%s%s%s", network->has_dhcp ? "dhcp" : "",
                           network->has_dhcp && network->has_dns ? ", " : "",
                           network->has_dns ? "dns" : "");
}

static char *processes_text(const MachineNetwork *network)
{
    GString *out = g_string_new(NULL);
    if (network->supervisor_pid) {
        g_string_append_printf(out, "supervisor %d", (int)network->supervisor_pid);
    }
    if (network->dnsmasq_pid) {
        g_string_append_printf(out, "%sdnsmasq %d", out->len ? ", " : "",
                               (int)network->dnsmasq_pid);
    }
    return g_string_free(out, FALSE);
}

static void print_network(const MachineNetwork *network)
{
    g_autofree char *ip4 = prefix_text(network->cidr, network->gateway);
    g_autofree char *ip6 = prefix_text(network->cidr6, network->gateway6);
    g_autofree char *bridge = g_strdup_printf("%s%s", network->bridge ? network->bridge : "",
                                              network->is_ours ? "" : " (not ours)");
    g_autofree char *status =
        g_strdup_printf("%s%s", network->is_up ? "up" : "down", network->is_kept ? ", kept" : "");
    g_autofree char *mtu = network->mtu ? g_strdup_printf("%u", network->mtu) : NULL;
    g_autofree char *servers = servers_text(network);
    g_autofree char *processes = processes_text(network);
    print_text("name", network->name);
    print_text("mode", network->mode);
    print_text("status", status);
    print_text("bridge", bridge);
    print_text("ipv4", ip4);
    print_text("ipv6", ip6);
    print_text("domain", network->domain);
    print_text("mtu", mtu);
    print_text("servers", servers);
    print_text("host ports", network->port_range);
    print_text("egress", network->egress);
    print_text("processes", processes);
}

static void print_members(const MachineNetwork *network)
{
    static const char *const titles[] = {"MACHINE", "NIC", "STATUS", "MAC", "IPV4",
                                         "IPV6",    "TAP", "PORTS",  NULL};
    g_autoptr(CmdTable) table = cmd_table_new(titles);
    for (guint i = 0; i < network->members->len; i++) {
        const MachineNetworkMember *member = network->members->pdata[i];
        g_autofree char *nic = g_strdup_printf("%u", member->nic);
        g_autofree char *ports = cmd_format_forwards(member->ports);
        const char *const cells[] = {
            member->machine, nic,         member->is_up ? "up" : "down", member->mac, member->ip4,
            member->ip6,     member->tap, *ports ? ports : NULL};
        for (gsize k = 0; k < G_N_ELEMENTS(cells); k++) {
            cmd_table_add(table, cells[k]);
        }
    }
    if (network->members->len > 0) {
        putchar('\n');
        cmd_table_print(table, stdout);
    }
}

static int show_main(const CmdContext *context, GError **error)
{
    g_autoptr(MachineHost) host = cmd_host_new(context, true, error);
    g_autoptr(MachineNetwork) network =
        host ? machine_network_load(host, cmd_args_operand(context->args, 0), error) : NULL;
    if (!network) {
        return 0;
    }
    if (context->is_json) {
        g_autofree char *json = machine_network_to_json(network);
        puts(json);
    } else {
        print_network(network);
        print_members(network);
    }
    return 0;
}

const CmdCommand cmd_network_show = {
    .name = "network show",
    .synopsis = "[flags] NETWORK",
    .doc = "Show one network: its prefixes, bridge and servers, and the machines on it.",
    .n_operands_min = 1,
    .n_operands_max = 1,
    .operand = CMD_OPERAND_NETWORK,
    .has_json = true,
    .handler = show_main,
};
