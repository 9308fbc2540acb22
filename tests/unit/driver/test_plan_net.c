/* The networks of a plan: steps, where ports and ssh lead, records of before, and what `auto` is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <jansson.h>

#include "driver/member.h"
#include "driver/nets.h"
#include "schemas/spec.h"

typedef struct {
    MachineSpec *spec;
    HostFacts *facts;
    MachineIdent *ident;
    BaseReport *report;
    PlanNet nets[4];
} Given;

/* A host on which managed networks work. */
static HostFacts *some_facts(void)
{
    HostFacts *facts = host_facts_new();
    facts->kind = VIRT_KIND_EMBED;
    facts->uri = g_strdup("qemu:///embed?root=/s/libvirt");
    facts->emulator = g_strdup("/usr/bin/qemu-system-x86_64");
    facts->machine_q35 = g_strdup("pc-q35-7.2");
    facts->is_root = facts->is_netns_shared = facts->has_fd_associate = true;
    facts->has_net_admin = facts->has_tun = facts->has_nft = facts->has_dnsmasq = true;
    return facts;
}

static int set_up(void **state)
{
    Given *g = g_new0(Given, 1);
    g->report = base_report_new();
    g->spec = spec_machine_new();
    g->spec->name = g_strdup("web");
    spec_machine_set(g->spec, "image", "/images/debian.qcow2", "test", g->report);
    g->facts = some_facts();
    g->ident = machine_ident_new("/s", "web");
    *state = g;
    return 0;
}

static int tear_down(void **state)
{
    Given *g = *state;
    spec_machine_free(g->spec);
    host_facts_free(g->facts);
    machine_ident_free(g->ident);
    base_report_free(g->report);
    g_free(g);
    return 0;
}

static BaseIp ip(const char *text)
{
    BaseIp out = {0};
    assert_true(base_ip_parse(text, &out));
    return out;
}

static PlanNet managed(const char *network, const char *ip4, const char *gateway4)
{
    PlanNet net = {.kind = SPEC_NET_MANAGED, .network = network, .bridge = "vmbx"};
    net.ip4 = ip(ip4);
    net.n_bits4 = 24;
    if (gateway4) {
        net.gateway4 = ip(gateway4);
    }
    return net;
}

static void set(Given *g, const char *path, const char *text)
{
    assert_true(spec_machine_set(g->spec, path, text, "test", g->report));
}

static MachinePlan *build(Given *g)
{
    PlanImage image = {.path = "/images/debian.qcow2",
                       .format = IMG_FORMAT_QCOW2,
                       .virtual_bytes = 2ull << 30,
                       .file_bytes = 1000};
    spec_machine_finish(g->spec, g->report);
    PlanInput input = {.spec = g->spec,
                       .facts = g->facts,
                       .ident = g->ident,
                       .run_dir = "/run/vm-run/x.y",
                       .generation = 1,
                       .images = &image,
                       .n_images = 1,
                       .nets = g->nets};
    return machine_plan_build(&input, g->report);
}

/* --- steps, ports and ssh --------------------------------------------------------------------- */

static void test_plan_two_managed_nics_list_their_steps_in_order(void **state)
{
    Given *g = *state;
    set(g, "networks", "front");
    set(g, "networks", "back");
    g->nets[0] = managed("front", "10.8.0.5", "10.8.0.1");
    g->nets[1] = managed("back", "10.9.0.5", NULL);
    g_autoptr(MachinePlan) plan = build(g);
    assert_non_null(plan);
    static const PlanStep expected[] = {
        {STEP_DIRECTORY, 0}, {STEP_LEASE, 0},   {STEP_LEASE, 1},   {STEP_DISK, 0},   {STEP_SEED, 0},
        {STEP_RUN_DIR, 0},   {STEP_NETWORK, 0}, {STEP_NETWORK, 1}, {STEP_FILTER, 0}, {STEP_TAP, 0},
        {STEP_TAP, 1},       {STEP_DEFINE, 0},  {STEP_BOOT, 0},    {STEP_WATCH, 0},
    };
    assert_int_equal(plan->steps->len, G_N_ELEMENTS(expected));
    for (unsigned i = 0; i < plan->steps->len; i++) {
        const PlanStep *step = &g_array_index(plan->steps, PlanStep, i);
        assert_int_equal(step->kind, expected[i].kind);
        assert_int_equal(step->index, expected[i].index);
    }
}

static void test_plan_ports_lead_to_the_nic_that_answers_leave_by(void **state)
{
    Given *g = *state;
    set(g, "networks", "back,default_route=false");
    set(g, "networks", "front,default_route=true");
    set(g, "ports", "8080:80");
    g->nets[0] = managed("back", "10.9.0.5", "10.9.0.1");
    g->nets[1] = managed("front", "10.8.0.5", "10.8.0.1");
    g_autoptr(MachinePlan) plan = build(g);
    assert_non_null(plan);
    assert_int_equal(machine_plan_port_nic(plan), 1);
    assert_string_equal(machine_plan_ssh_addr(plan), "10.8.0.5");
    assert_int_equal(plan->forwards->len, 1);
    const PlanForward *forward = g_ptr_array_index(plan->forwards, 0);
    assert_string_equal(forward->host_addr, "*");
}

static void test_plan_without_a_default_route_ports_lead_to_the_first_address(void **state)
{
    Given *g = *state;
    set(g, "networks", "bridge=br0");
    set(g, "networks", "back");
    g->nets[0] = (PlanNet){.kind = SPEC_NET_BRIDGE, .network = "bridge.br0", .bridge = "br0"};
    g->nets[1] = managed("back", "10.9.0.5", NULL);
    g_autoptr(MachinePlan) plan = build(g);
    assert_non_null(plan);
    assert_int_equal(machine_plan_port_nic(plan), 1);
}

static void test_plan_as_record_keeps_all_of_a_nic(void **state)
{
    Given *g = *state;
    static const char *const servers[] = {"10.8.0.1", "fd00:8::1", NULL};
    set(g, "cpus", "2");
    set(g, "networks", "front,queues=2,rate_in=10Mbit,rate_out=1Mbit,link=down");
    g->nets[0] = managed("front", "10.8.0.5", "10.8.0.1");
    g->nets[0].ip6 = ip("fd00:8::5");
    g->nets[0].n_bits6 = 64;
    g->nets[0].nameservers = servers;
    g->nets[0].domain = "lab.test";
    g->nets[0].mtu = 1400;
    g_autoptr(MachinePlan) plan = build(g);
    assert_non_null(plan);
    g_autofree char *json = machine_plan_to_json(plan);
    g_autoptr(MachinePlan) again = machine_plan_from_json(json, NULL);
    assert_non_null(again);
    g_autofree char *twice = machine_plan_to_json(again);
    assert_string_equal(json, twice);
    const PlanNic *nic = g_ptr_array_index(again->nics, 0);
    assert_string_equal(nic->nameservers[1], "fd00:8::1");
    assert_int_equal(nic->queues, 2);
    assert_int_equal(nic->rate_in_bps, 10000000);
    assert_true(nic->is_link_down);
    assert_int_equal(again->steps->len, plan->steps->len);
}

/* A record of before there were networks: a bridge with its tap, no member of today. */
static void test_plan_reads_a_record_of_before_networks(void **state)
{
    Given *g = *state;
    set(g, "networks", "bridge=br0");
    g->nets[0] = (PlanNet){.kind = SPEC_NET_BRIDGE, .bridge = "br0"};
    g_autoptr(MachinePlan) plan = build(g);
    assert_non_null(plan);
    g_autofree char *json = machine_plan_to_json(plan);
    json_t *root = json_loads(json, 0, NULL);
    json_t *nic = json_array_get(json_object_get(root, "nics"), 0);
    assert_int_equal(json_object_size(nic), 6); /* kind, mac, bridge, tap, tap_tag, netdev */
    json_decref(root);
    g_autoptr(MachinePlan) again = machine_plan_from_json(json, NULL);
    assert_non_null(again);
    const PlanNic *read = g_ptr_array_index(again->nics, 0);
    assert_null(read->network);
    for (unsigned i = 0; i < again->steps->len; i++) {
        StepKind kind = g_array_index(again->steps, PlanStep, i).kind;
        assert_true(kind != STEP_LEASE && kind != STEP_NETWORK && kind != STEP_FILTER);
    }
}

static void test_plan_record_with_a_nic_damaged_at_any_byte_never_crashes(void **state)
{
    Given *g = *state;
    set(g, "networks", "front");
    set(g, "ports", "8080:80");
    g->nets[0] = managed("front", "10.8.0.5", "10.8.0.1");
    g_autoptr(MachinePlan) plan = build(g);
    assert_non_null(plan);
    g_autofree char *json = machine_plan_to_json(plan);
    unsigned n_read = 0;
    for (size_t i = 0; json[i]; i++) {
        g_autofree char *bad = g_strdup(json);
        bad[i] = bad[i] == '0' ? '9' : '0';
        g_autoptr(MachinePlan) again = machine_plan_from_json(bad, NULL);
        n_read += again != NULL;
    }
    assert_true(n_read < strlen(json));
}

/* --- auto ------------------------------------------------------------------------------------- */

static SpecNetwork *settle(Given *g, const char *wish, char **out_reason)
{
    spec_machine_finish(g->spec, g->report);
    machine_nets_settle(g->spec, g->facts, wish, out_reason);
    return g_ptr_array_index(g->spec->networks, 0);
}

static void test_auto_is_default_where_networks_work(void **state)
{
    g_autofree char *reason = NULL;
    const SpecNetwork *network = settle(*state, NULL, &reason);
    assert_int_equal(network->kind, SPEC_NET_MANAGED);
    assert_string_equal(network->network, "default");
    assert_null(reason);
}

static void test_auto_is_what_was_wished(void **state)
{
    Given *g = *state;
    g_autofree char *reason = NULL;
    assert_int_equal(settle(g, "user", &reason)->kind, SPEC_NET_USER);
    assert_null(reason);
    ((SpecNetwork *)g_ptr_array_index(g->spec->networks, 0))->kind = SPEC_NET_AUTO;
    SpecNetwork *lab = settle(g, "lab", &reason);
    assert_int_equal(lab->kind, SPEC_NET_MANAGED);
    assert_string_equal(lab->network, "lab");
    g_clear_pointer(&lab->network, g_free);
    lab->kind = SPEC_NET_AUTO;
    assert_int_equal(settle(g, "none", &reason)->kind, SPEC_NET_NONE);
}

static void test_auto_is_user_with_the_first_reason_that_stands_against(void **state)
{
    Given *g = *state;
    struct {
        bool *fact;
        const char *part;
    } rows[] = {
        {&g->facts->has_dnsmasq, "dnsmasq"},
        {&g->facts->has_nft, "nf_tables"},
        {&g->facts->has_tun, "/dev/net/tun"},
        {&g->facts->is_netns_shared, "another network namespace"},
        {&g->facts->has_net_admin, "CAP_NET_ADMIN"},
        {&g->facts->is_root, "root"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        *rows[i].fact = false;
        g_autofree char *reason = NULL;
        SpecNetwork *network = settle(g, "", &reason);
        assert_int_equal(network->kind, SPEC_NET_USER);
        assert_non_null(reason);
        assert_non_null(strstr(reason, rows[i].part));
        network->kind = SPEC_NET_AUTO;
    }
}

static void test_auto_of_a_libvirt_elsewhere_is_user(void **state)
{
    Given *g = *state;
    g->facts->kind = VIRT_KIND_REMOTE;
    g_autofree char *reason = NULL;
    assert_int_equal(settle(g, NULL, &reason)->kind, SPEC_NET_USER);
    assert_non_null(strstr(reason, "not on this host"));
}

/* --- members ---------------------------------------------------------------------------------- */

static void test_member_port_is_one_map_a_family_that_both_have(void **state)
{
    (void)state;
    static const struct {
        const char *host_addr;
        unsigned n_both, n_ip4_only;
    } rows[] = {{"*", 2, 1}, {"0.0.0.0", 1, 1}, {"::", 1, 0}, {"192.0.2.1", 1, 1}, {"::1", 1, 0}};
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(NetMember) member = net_member_new();
        member->ip4 = ip("10.8.0.5");
        assert_int_equal(machine_member_n_maps(member, rows[i].host_addr), rows[i].n_ip4_only);
        member->ip6 = ip("fd00:8::5");
        assert_int_equal(machine_member_n_maps(member, rows[i].host_addr), rows[i].n_both);
        machine_member_add_port(member, "udp", rows[i].host_addr, 53, 5353);
        const NetPortMap *map = g_ptr_array_index(member->ports, 0);
        assert_true(map->is_udp);
        assert_int_equal(map->host_port, 53);
        assert_int_equal(map->guest_port, 5353);
        assert_false(base_ip_is_wildcard(&map->host)); /* all addresses: none */
    }
}

static void test_member_range_is_the_machines_own_where_it_has_one(void **state)
{
    Given *g = *state;
    uint16_t first = 1, last = 2;
    machine_port_range_of(g->spec, &first, &last);
    assert_int_equal(first, 1);
    g->spec->port_range = g_strdup("24100-24109");
    machine_port_range_of(g->spec, &first, &last);
    assert_int_equal(first, 24100);
    assert_int_equal(last, 24109);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_plan_two_managed_nics_list_their_steps_in_order),
        TEST(test_plan_ports_lead_to_the_nic_that_answers_leave_by),
        TEST(test_plan_without_a_default_route_ports_lead_to_the_first_address),
        TEST(test_plan_as_record_keeps_all_of_a_nic),
        TEST(test_plan_reads_a_record_of_before_networks),
        TEST(test_plan_record_with_a_nic_damaged_at_any_byte_never_crashes),
        TEST(test_auto_is_default_where_networks_work),
        TEST(test_auto_is_what_was_wished),
        TEST(test_auto_is_user_with_the_first_reason_that_stands_against),
        TEST(test_auto_of_a_libvirt_elsewhere_is_user),
        TEST(test_member_port_is_one_map_a_family_that_both_have),
        TEST(test_member_range_is_the_machines_own_where_it_has_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
