#include <arpa/inet.h>
#include <jansson.h>
#include <string.h>

#include "base/error.h"
#include "driver/host.h"
#include "net/lease.h"

/*
 * Addresses on a bridge that somebody else serves: first the leases that DHCP servers of this host
 * gave to that MAC, then the guest agent, each with its limit. What an agent says is a guest's
 * word: parsed as an address, used to connect to and for nothing else. The neighbour table is only
 * told to people.
 */
#define AGENT_S  5
#define LEASE_MS 2000 /* only where a server keeps a file in which a lease can appear */

static bool is_nic_of(const MachineView *view, const char *mac)
{
    for (unsigned i = 0; mac && i < view->nics->len; i++) {
        const MachineNic *nic = g_ptr_array_index(view->nics, i);
        if (g_ascii_strcasecmp(nic->mac, mac) == 0) {
            return true;
        }
    }
    return false;
}

/* A global IPv4 address, in canonical text. */
static char *usable_address(const json_t *entry)
{
    const char *type = json_string_value(json_object_get(entry, "ip-address-type"));
    const char *text = json_string_value(json_object_get(entry, "ip-address"));
    struct in_addr addr;
    if (g_strcmp0(type, "ipv4") != 0 || !text || inet_pton(AF_INET, text, &addr) != 1) {
        return NULL;
    }
    uint32_t host = ntohl(addr.s_addr);
    if (host >> 24 == 127 || host >> 16 == 0xa9fe || host >> 28 >= 14 || host == 0) {
        return NULL; /* loopback, link-local, multicast */
    }
    char canonical[INET_ADDRSTRLEN];
    return g_strdup(inet_ntop(AF_INET, &addr, canonical, sizeof canonical));
}

/* The answer of guest-network-get-interfaces (QEMU guest agent protocol reference). */
static char *address_in(const MachineView *view, const char *answer)
{
    json_t *root = json_loads(answer, 0, NULL);
    char *found = NULL;
    size_t i, k;
    json_t *interface, *entry;
    json_array_foreach(json_object_get(root, "return"), i, interface)
    {
        if (!is_nic_of(view, json_string_value(json_object_get(interface, "hardware-address")))) {
            continue;
        }
        json_array_foreach(json_object_get(interface, "ip-addresses"), k, entry)
        {
            found = found ? found : usable_address(entry);
        }
    }
    json_decref(root);
    return found;
}

/* The first NIC on a bridge whose address we did not choose. */
static const MachineNic *foreign_nic(const MachineView *view, uint8_t out_mac[6])
{
    for (unsigned i = 0; i < view->nics->len; i++) {
        const MachineNic *nic = g_ptr_array_index(view->nics, i);
        if (nic->bridge && !nic->ip4 && base_mac_parse(nic->mac, out_mac)) {
            return nic;
        }
    }
    return NULL;
}

static char *find_lease(const MachineView *view)
{
    uint8_t mac[6];
    BaseIp ip;
    char text[BASE_IP_TEXT_BYTES];
    const MachineNic *nic = foreign_nic(view, mac);
    bool is_found = nic && view->status == MACHINE_STATUS_RUNNING &&
                    net_lease_find(net_lease_files, nic->bridge, mac, LEASE_MS, &ip, NULL) &&
                    base_ip_is_set(&ip);
    return is_found ? g_strdup(base_ip_format(&ip, text)) : NULL;
}

/* What to try next; the neighbour's address is nobody's word, so a person decides. */
static char *hint_at(const MachineView *view)
{
    uint8_t mac[6];
    BaseIp ip;
    char text[BASE_IP_TEXT_BYTES];
    const MachineNic *nic = foreign_nic(view, mac);
    if (nic && net_neighbour_find(nic->bridge, mac, &ip, NULL) && base_ip_is_set(&ip)) {
        return g_strdup_printf("'vm-run console %s'; its MAC was last seen with %s", view->name,
                               base_ip_format(&ip, text));
    }
    return g_strdup_printf("'vm-run console %s'", view->name);
}

bool machine_view_find_address(MachineHost *host, MachineView *view, GError **error)
{
    if (view->ssh_addr) {
        return true;
    }
    view->ssh_port = 22;
    view->ssh_addr = find_lease(view);
    if (view->ssh_addr) {
        return true;
    }
    g_autofree char *answer = NULL;
    if (view->nics->len && view->status == MACHINE_STATUS_RUNNING) {
        VirtConn *conn = machine_host_virt(host, view->uri, error);
        if (!conn) {
            return false;
        }
        answer = virt_agent_command(
            conn, view->uuid, "{\"execute\":\"guest-network-get-interfaces\"}", AGENT_S, NULL);
        machine_host_release(host);
    }
    view->ssh_addr = answer ? address_in(view, answer) : NULL;
    if (view->ssh_addr) {
        return true;
    }
    g_autofree char *hint = hint_at(view);
    return base_fail(error, VM_ERROR_NOT_FOUND,
                     "machine '%s': its address is not known (ssh is not forwarded, there is no "
                     "lease, and no guest agent tells it) - try %s",
                     view->name, hint);
}
