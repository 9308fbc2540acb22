#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "net/bridge.h"
#include "net/rules.h"
#include "net/tap.h"

/*
 * The network of machine number I, wholly: bridge, addresses, sysctls, rules; tap; filter and four
 * port maps. In the network namespace of the caller, which should be one of its own.
 *
 *   bench-net base      the base rules, which every host has after its first machine
 *   bench-net add I     machine I, cold: what a start pays
 *   bench-net remove I  takes machine I away, and the bridge with it when I is 1
 *   bench-net grow N    machines 1 to N in one process, one JSON line: {"first_ms", "last_ms",
 * "n"}, medians of the first and of the last ten
 */
#define STORE  "benchbnc"
#define SUBNET 20 /* bits: room for 4,000 machines */
enum { N_PORTS = 4, FIRST_PORT = 20000, N_EDGE = 10 };

typedef struct {
    char *bridge, *bridge_tag;
    BaseCidr cidr4, cidr6;
} Lab;

static void lab_init(Lab *lab)
{
    const char *why;
    lab->bridge_tag = net_bridge_owner_tag(STORE, "bench");
    lab->bridge = net_bridge_name(lab->bridge_tag);
    g_assert(base_cidr_parse("10.99.0.0/20", &lab->cidr4, &why));
    g_assert(base_cidr_parse("fd00:99::/64", &lab->cidr6, &why));
}

static void lab_clear(Lab *lab)
{
    g_free(lab->bridge);
    g_free(lab->bridge_tag);
}

static NetMember *member_new(const Lab *lab, unsigned i)
{
    g_autofree char *uuid = g_strdup_printf("00000000-0000-4000-8000-%012u", i);
    g_autofree char *owner = g_strdup_printf("%s:%s", STORE, uuid);
    NetMember *member = net_member_new();
    member->owner = g_strdup_printf("%s:0", owner);
    member->machine = g_strdup_printf("m%u", i);
    member->network = g_strdup("bench");
    member->bridge = g_strdup(lab->bridge);
    member->tap = net_tap_name(uuid, 0);
    member->tap_tag = net_tap_owner_tag(owner, 0);
    member->mac[0] = 0x52;
    member->mac[1] = 0x54;
    member->mac[4] = (uint8_t)(i >> 8);
    member->mac[5] = (uint8_t)i;
    member->ip4 = base_cidr_nth(&lab->cidr4, i + 1);
    member->ip6 = base_cidr_nth(&lab->cidr6, i + 1);
    member->is_up = true;
    for (unsigned k = 0; k < N_PORTS; k++) {
        NetPortMap *port = g_new0(NetPortMap, 1);
        port->host_port = (uint16_t)(FIRST_PORT + i * N_PORTS + k);
        port->guest = member->ip4;
        port->guest_port = (uint16_t)(80 + k);
        g_ptr_array_add(member->ports, port);
    }
    return member;
}

static bool add_bridge(const Lab *lab, GError **error)
{
    NetBridge bridge = {
        .name = lab->bridge,
        .owner_tag = lab->bridge_tag,
        .mode = SPEC_NET_MODE_NAT,
        .gateway4 = base_cidr_nth(&lab->cidr4, 1),
        .gateway6 = base_cidr_nth(&lab->cidr6, 1),
        .n_bits4 = lab->cidr4.n_bits,
        .n_bits6 = lab->cidr6.n_bits,
        .mtu = 1500,
    };
    net_bridge_mac(lab->bridge_tag, bridge.mac);
    NetRulesNetwork network = {.owner = STORE ":net:bench",
                               .bridge = lab->bridge,
                               .mode = SPEC_NET_MODE_NAT,
                               .cidr4 = lab->cidr4,
                               .cidr6 = lab->cidr6};
    return net_bridge_create(&bridge, error) && net_rules_add_network(&network, error);
}

static bool add_machine(const Lab *lab, unsigned i, GError **error)
{
    g_autoptr(NetMember) member = member_new(lab, i);
    char mac[18];
    NetTap tap = {.name = member->tap,
                  .owner_tag = member->tap_tag,
                  .bridge = lab->bridge,
                  .mac = base_mac_format(member->mac, mac)};
    if (!add_bridge(lab, error)) {
        return false;
    }
    g_autoptr(NetRulesLock) lock = net_rules_lock(10000, error);
    return lock && net_rules_choose_ports(&member, 1, FIRST_PORT, 65535, error) &&
           net_rules_apply(&member, 1, NULL, 0, error) && net_tap_create(&tap, error);
}

static bool remove_machine(const Lab *lab, unsigned i, GError **error)
{
    g_autoptr(NetMember) member = member_new(lab, i);
    if (!net_tap_remove(member->tap, member->tap_tag, error) ||
        !net_rules_remove(&member, 1, error)) {
        return false;
    }
    NetRulesNetwork network = {.owner = STORE ":net:bench",
                               .bridge = lab->bridge,
                               .mode = SPEC_NET_MODE_NAT,
                               .cidr4 = lab->cidr4,
                               .cidr6 = lab->cidr6};
    return i != 1 || (net_rules_remove_network(&network, error) &&
                      net_bridge_remove(lab->bridge, lab->bridge_tag, error));
}

/* --- growth ----------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    gint64 x = *(const gint64 *)a, y = *(const gint64 *)b;
    return (x > y) - (x < y);
}

static double median_ms(gint64 *ns, unsigned n)
{
    qsort(ns, n, sizeof(*ns), by_value);
    return (double)ns[n / 2] / 1e6;
}

static gint64 now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (gint64)now.tv_sec * 1000000000 + now.tv_nsec;
}

static bool grow(const Lab *lab, unsigned n, GError **error)
{
    g_autofree gint64 *ns = g_new0(gint64, n);
    for (unsigned i = 0; i < n; i++) {
        gint64 before_ns = now_ns();
        if (!add_machine(lab, i + 1, error)) {
            return false;
        }
        ns[i] = now_ns() - before_ns;
    }
    printf("{\"first_ms\": %.6f, \"early_ms\": %.6f, \"last_ms\": %.6f, \"n\": %u}\n",
           (double)ns[0] / 1e6, median_ms(ns + 1, N_EDGE), median_ms(ns + n - N_EDGE, N_EDGE), n);
    return true;
}

int main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";
    unsigned number = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    bool is_base = !strcmp(verb, "base") && argc == 2;
    bool is_grow = !strcmp(verb, "grow") && number >= 2 * N_EDGE && number <= 4000;
    bool is_add = !strcmp(verb, "add"), is_remove = !strcmp(verb, "remove");
    if (!is_base && !is_grow && !((is_add || is_remove) && number && number <= 4000)) {
        fprintf(stderr, "usage: bench-net base | add I | remove I | grow N\n");
        return 2;
    }
    g_autoptr(GError) error = NULL;
    Lab lab;
    lab_init(&lab);
    bool is_ok = is_base   ? net_rules_ensure_base(&error)
                 : is_grow ? grow(&lab, number, &error)
                 : is_add  ? add_machine(&lab, number, &error)
                           : remove_machine(&lab, number, &error);
    lab_clear(&lab);
    if (!is_ok) {
        fprintf(stderr, "bench-net: %s\n", error->message);
        return 1;
    }
    return 0;
}
