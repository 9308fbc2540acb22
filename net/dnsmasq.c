#include "net/dnsmasq.h"

#include <pwd.h>
#include <string.h>
#include "net/dnsmasq_internal.h"

enum { DEFAULT_MTU = 1500 };

bool net_dnsmasq_is_needed(const NetNetwork *network)
{
    const NetRecord *record = network->record;
    return net_record_is_ours(record) && (record->has_dhcp || record->has_dns);
}

char *net_dnsmasq_folder(const char *store_id, const char *name)
{
    return g_strdup_printf(NET_DNSMASQ_PARENT "/%s.net.%s", store_id, name);
}

void net_dnsmasq_user(uid_t *out_uid, gid_t *out_gid)
{
    static const char *const names[] = {"dnsmasq", "nobody"};
    *out_uid = *out_gid = 65534;
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        char text[4096];
        struct passwd entry, *found = NULL;
        if (getpwnam_r(names[i], &entry, text, sizeof text, &found) == 0 && found) {
            *out_uid = found->pw_uid;
            *out_gid = found->pw_gid;
            return;
        }
    }
}

/* --- arguments -------------------------------------------------------------------------------- */

G_GNUC_PRINTF(2, 3) static void add(GPtrArray *argv, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    g_ptr_array_add(argv, g_strdup_vprintf(format, arguments));
    va_end(arguments);
}

static char *netmask(const BaseCidr *cidr)
{
    BaseIp mask = {.n_bytes = 4};
    for (unsigned bit = 0; bit < cidr->n_bits; bit++) {
        mask.bytes[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
    }
    char text[BASE_IP_TEXT_BYTES];
    return g_strdup(base_ip_format(&mask, text));
}

/* Those of one family, comma-separated as a DHCP option takes them; NULL: none. Transfer full. */
static char *servers_of(const NetRecord *record, uint8_t n_bytes)
{
    GString *text = g_string_new(NULL);
    for (guint i = 0; i < record->dns_servers->len; i++) {
        const char *server = record->dns_servers->pdata[i];
        BaseIp ip;
        if (base_ip_parse(server, &ip) && ip.n_bytes == n_bytes) {
            g_string_append_printf(text, n_bytes == 4 ? ",%s" : ",[%s]", server);
        }
    }
    bool is_empty = text->len == 0;
    char *result = g_string_free(text, is_empty);
    return is_empty ? NULL : result;
}

static void add_range6(GPtrArray *argv, const NetRecord *record)
{
    char text[BASE_IP_TEXT_BYTES];
    add(argv, "--dhcp-range=%s,static,%u,1h", base_ip_format(&record->cidr6.ip, text),
        record->cidr6.n_bits);
    add(argv, "--enable-ra");
    bool is_isolated = record->mode == SPEC_NET_MODE_ISOLATED;
    if (record->mtu != DEFAULT_MTU) {
        add(argv, "--ra-param=%s,mtu:%u,0%s", record->bridge, record->mtu, is_isolated ? ",0" : "");
    } else if (is_isolated) { /* no router of anything */
        add(argv, "--ra-param=%s,0,0", record->bridge);
    }
}

static void add_dhcp(GPtrArray *argv, const NetRecord *record, const char *folder)
{
    char text[BASE_IP_TEXT_BYTES];
    g_autofree char *servers4 = servers_of(record, 4), *servers6 = servers_of(record, 16);
    if (base_ip_is_set(&record->cidr4.ip)) {
        g_autofree char *mask = netmask(&record->cidr4);
        add(argv, "--dhcp-range=%s,static,%s,1h", base_ip_format(&record->cidr4.ip, text), mask);
    }
    if (base_ip_is_set(&record->cidr6.ip)) {
        add_range6(argv, record);
    }
    add(argv, "--dhcp-hostsdir=%s/" NET_DNSMASQ_RESERVATIONS, folder);
    add(argv, "--dhcp-leasefile=%s/" NET_DNSMASQ_LEASES "/leases", folder);
    add(argv, "--dhcp-authoritative"); /* leases of an earlier dnsmasq go on */
    add(argv, "--dhcp-ignore-names");  /* a guest must not name itself */
    add(argv, "--dhcp-lease-max=65536");
    add(argv, "--no-ping");
    if (record->mode == SPEC_NET_MODE_ISOLATED) {
        add(argv, "--dhcp-option=3");
    }
    if (record->mtu != DEFAULT_MTU) {
        add(argv, "--dhcp-option=option:mtu,%u", record->mtu);
    }
    if (!record->has_dns) {
        add(argv, "--dhcp-option=6%s", servers4 ? servers4 : "");
    }
    if (!record->has_dns && servers6) {
        add(argv, "--dhcp-option=option6:dns-server%s", servers6);
    }
}

static void add_dns(GPtrArray *argv, const NetRecord *record, const char *folder)
{
    char text[BASE_CIDR_TEXT_BYTES];
    add(argv, "--hostsdir=%s/" NET_DNSMASQ_HOSTS, folder);
    add(argv, "--domain-needed");
    if (record->domain) {
        add(argv, "--local=/%s/", record->domain);
    }
    if (base_ip_is_set(&record->cidr4.ip)) {
        add(argv, "--rev-server=%s", base_cidr_format(&record->cidr4, text));
    }
    if (base_ip_is_set(&record->cidr6.ip)) {
        add(argv, "--rev-server=%s", base_cidr_format(&record->cidr6, text));
    }
    for (guint i = 0; i < record->dns_servers->len; i++) {
        add(argv, "--server=%s", (char *)record->dns_servers->pdata[i]);
    }
    if (record->dns_servers->len > 0) {
        add(argv, "--no-resolv");
    } else if (record->mode == SPEC_NET_MODE_ISOLATED) {
        add(argv, "--no-resolv");
        add(argv, "--local=/#/"); /* what we don't know does not exist */
    } else { /* the host's servers, those on its loopback too: dnsmasq is a process of the host */
        add(argv, "--resolv-file=/etc/resolv.conf");
    }
}

char **net_dnsmasq_argv(const NetNetwork *network, const char *program)
{
    const NetRecord *record = network->record;
    g_autofree char *folder = net_dnsmasq_folder(network->store_id, record->name);
    GPtrArray *argv = g_ptr_array_new();
    add(argv, "%s", program);
    add(argv, "--keep-in-foreground");
    add(argv, "--conf-file=/dev/null");
    add(argv, "--pid-file=");
    add(argv, "--log-facility=-");
    add(argv, "--quiet-dhcp");
    add(argv, "--quiet-dhcp6");
    add(argv, "--quiet-ra");
    add(argv, "--interface=%s", record->bridge);
    add(argv, "--bind-interfaces");
    add(argv, "--except-interface=lo");
    add(argv, "--no-hosts");
    if (record->domain) {
        add(argv, "--domain=%s", record->domain);
    }
    if (record->has_dns) {
        add_dns(argv, record, folder);
    } else {
        add(argv, "--port=0");
    }
    if (record->has_dhcp) {
        add_dhcp(argv, record, folder);
    }
    g_ptr_array_add(argv, NULL);
    return (char **)g_ptr_array_free(argv, FALSE);
}
