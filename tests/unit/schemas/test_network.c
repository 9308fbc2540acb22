#include "specs.h"

/* `networks:` of a file, and NICs on them. */

/* A file with networks and the lines of two machines; lines 4 and up are `networks`. */
static char *lab_file(const char *networks, const char *web, const char *db)
{
    return g_strdup_printf("version: 1\nname: t\nnetworks:\n%svms:\n  web:\n    image: i\n%s  db:\n"
                           "    image: i\n%s",
                           networks, web, db);
}

static void assert_lab(const char *networks, const char *web, const char *db, const char *expected)
{
    g_autofree char *text = lab_file(networks, web, db);
    assert_mistakes(text, expected);
}

static void assert_network(const char *keys, const char *expected)
{
    g_autofree char *networks = g_strdup_printf("  lab: {%s}\n", keys);
    assert_lab(networks, "", "", expected);
}

/* The error class of one option alone, NULL: fine. */
static const char *class_of(const char *path, const char *text)
{
    g_autoptr(BaseReport) report = base_report_new();
    g_autoptr(NetworkSpec) spec = spec_network_new();
    bool is_set = spec_network_set(spec, path, text, "--set", report);
    assert_int_equal(is_set, base_report_n_errors(report) == 0);
    return is_set ? NULL : base_error_row((int)base_report_item(report, 0)->code)->cls;
}

static void assert_texts(const char *path, const char *const *good, const char *const *bad,
                         const char *cls)
{
    for (; *good; good++) {
        const char *got = class_of(path, *good);
        if (got) {
            fail_msg("%s=%s: %s", path, *good, got);
        }
    }
    for (; *bad; bad++) {
        const char *got = class_of(path, *bad);
        if (g_strcmp0(got, cls) != 0) {
            fail_msg("%s=%s: %s", path, *bad, got ? got : "no error");
        }
    }
}

#define TEXTS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* --- one option ------------------------------------------------------------------------------- */

static void test_prefixes_then_room_for_a_machine(void **state)
{
    (void)state;
    assert_texts("cidr",
                 TEXTS("10.77.0.0/24", "10.77.0.1/24", "192.168.0.4/30", "10.0.0.0/8", "none"),
                 TEXTS("10.0.0.0/7", "10.0.0.0/31", "10.0.0.1/32", "10.0.0.1/33", "10.0.0.256/24",
                       "010.0.0.1/24", "10.0.0.0", "10.0.0.255/24", "fd00::/64", "10.0.0.0/",
                       "10.0.0.0/08", "127.0.0.0/24", "224.1.0.0/16", "169.254.0.0/16", "0.0.0.0/8",
                       "240.0.0.0/24", "lab", ""),
                 "E_NET");
    assert_texts("cidr6", TEXTS("fd77::/64", "2001:db8::1/64", "fd77::/126", "none"),
                 TEXTS("fd77::/127", "::1/129", "fe80::/64", "ff02::/64", "::/96", "10.0.0.0/24",
                       "::ffff:0:0/112", "2000::/16", "fd77::%eth0/64"),
                 "E_NET");
}

static void test_other_texts_then_rules(void **state)
{
    (void)state;
    assert_texts("dhcp_range", TEXTS("10.0.0.10-10.0.0.99", "10.0.0.1-10.0.0.1"),
                 TEXTS("10.0.0.99-10.0.0.10", "10.0.0.1", "10.0.0.1-", "fd00::1-fd00::2",
                       "10.0.0.1-10.0.0.2-10.0.0.3"),
                 "E_NET");
    assert_texts("port_range", TEXTS("20000-29999", "1-65535", "80-80"),
                 TEXTS("0-80", "80", "90-80", "1-65536", "-1-2", "a-b", "080-90"), "E_PORT");
    assert_texts("dns_servers", TEXTS("192.0.2.53", "2001:db8::53", "127.0.0.53", "[10.0.0.1]"),
                 TEXTS("resolver", "0.0.0.0", "ff02::1", "10.0.0.1:53"), "E_NET");
    assert_texts("bridge", TEXTS("br0", "virbr0"),
                 TEXTS("abcdefghijklmnop", "a%d", "lo", "x\" accept", "vm-*", "-x", "vmtabc"),
                 "E_NAME");
    assert_texts("name", TEXTS("lab", "default", "a-1"),
                 TEXTS("user", "none", "auto", "bridge", "macvtap", "Lab", "a_b", "1", ""),
                 "E_NAME");
    assert_texts("mtu", TEXTS("68", "1500", "65535"), TEXTS("67", "65536", "-1"), "E_RANGE");
    assert_texts("domain", TEXTS("lab.test", "LAB"), TEXTS("a..b", "-a", "1.2"), "E_NAME");
}

static void test_rates_then_bits_per_second(void **state)
{
    (void)state;
    g_autoptr(MachineSpec) spec = machine_with(
        "    networks: [{network: lab, rate_in: 20Mbit, rate_out: 1500kbit, link: down}]\n");
    const SpecNetwork *nic = g_ptr_array_index(spec->networks, 0);
    assert_true(nic->rate_in_bps == 20000000 && nic->rate_out_bps == 1500000);
    assert_true(nic->is_link_down);
    static const char *const bad[] = {"20", "20M", "20MB", "1.5Mbit", "-1Mbit", "Mbit", "20 Mbit"};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *text = g_strdup_printf("[{network: lab, rate_in: \"%s\"}]", bad[i]);
        const char *got = class_of_set("networks", text);
        assert_true(!g_strcmp0(got, "E_SCHEMA") || !g_strcmp0(got, "E_RANGE"));
    }
    assert_set_refused("networks", "[{network: lab, rate_in: 1kbit}]", "E_RANGE");
    assert_set_refused("networks", "[{network: lab, rate_in: 99999Gbit}]", "E_RANGE");
}

/* --- NICs ------------------------------------------------------------------------------------- */

static void test_one_line_then_as_the_map(void **state)
{
    (void)state;
    g_autoptr(MachineSpec) spec = machine_with(
        "    cpus: 4\n    networks: [\"lab,ip=10.77.0.10,mac=52:54:00:AA:00:01,queues=4\", "
        "\"macvtap=eth0.7,vepa\", \"bridge=br0,default_route=true,link=down\", auto]\n");
    const SpecNetwork *lab = g_ptr_array_index(spec->networks, 0);
    const SpecNetwork *macvtap = g_ptr_array_index(spec->networks, 1);
    const SpecNetwork *bridge = g_ptr_array_index(spec->networks, 2);
    const SpecNetwork *any = g_ptr_array_index(spec->networks, 3);
    assert_int_equal(lab->kind, SPEC_NET_MANAGED);
    assert_string_equal(lab->network, "lab");
    assert_string_equal(lab->ip, "10.77.0.10");
    assert_string_equal(lab->mac, "52:54:00:aa:00:01");
    assert_int_equal(lab->queues, 4);
    assert_false(lab->is_default_route);
    assert_int_equal(macvtap->kind, SPEC_NET_MACVTAP);
    assert_string_equal(macvtap->macvtap, "eth0.7");
    assert_int_equal(macvtap->macvtap_mode, SPEC_MACVTAP_VEPA);
    assert_int_equal(bridge->kind, SPEC_NET_BRIDGE);
    assert_true(bridge->is_default_route && bridge->is_link_down);
    assert_int_equal(any->kind, SPEC_NET_AUTO);
    assert_null(any->network);
}

static void test_mistakes_in_one_line_then_their_columns(void **state)
{
    (void)state;
    static const char form[] = "write NETWORK|bridge=NAME|macvtap=LINK[,MODE] and further "
                               "[,KEY=VALUE]";
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"lab,ip=10.0.0.256", "21: error[E_NET]: vms.web.networks[0].ip: '10.0.0.256' is no IPv4 "
                              "address"},
        {"lab,ipp=10.0.0.1", "18: error[E_SCHEMA]: vms.web.networks[0].ipp: unknown key - did you "
                             "mean 'ip'?"},
        {"lab,queues=two", "25: error[E_SCHEMA]: vms.web.networks[0].queues: expected an integer, "
                           "got 'two' - write it in decimal digits"},
        {"Lab", "14: error[E_NAME]: vms.web.networks[0].network: 'Lab' is not allowed: use "
                "lower-case letters, digits and '-'"},
        {"lab,link=off", "23: error[E_SCHEMA]: vms.web.networks[0].link: 'off' is none of up, "
                         "down"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *lines = g_strdup_printf("    networks:\n      -      %s\n", cases[i].text);
        g_autofree char *expected = g_strdup_printf("f:7:%s", cases[i].expected);
        assert_machine_mistakes(lines, expected);
    }
    static const char *const whole[][2] = {{"ip=10.0.0.1", "does not begin with a network"},
                                           {"lab,up", "has a part without '='"},
                                           {"lab,", "has a part without '='"},
                                           {"lab,ip=10.0.0.1,ip=10.0.0.2", "has a key twice"}};
    for (size_t i = 0; i < G_N_ELEMENTS(whole); i++) {
        g_autofree char *lines = g_strdup_printf("    networks:\n      - %s\n", whole[i][0]);
        g_autofree char *expected =
            g_strdup_printf("f:7:9: error[E_SCHEMA]: vms.web.networks[0]: '%s' %s - %s",
                            whole[i][0], whole[i][1], form);
        assert_machine_mistakes(lines, expected);
    }
}

static void test_nic_with_two_ends_then_schema(void **state)
{
    (void)state;
    assert_machine_mistakes("    networks: [{network: lab, bridge: br0}]\n",
                            "f:6:16: error[E_SCHEMA]: vms.web.networks[0]: network, bridge and "
                            "macvtap exclude each other - keep one of them");
    assert_machine_mistakes("    networks: [{bridge: br0, macvtap: eth0}]\n",
                            "f:6:16: error[E_SCHEMA]: vms.web.networks[0]: network, bridge and "
                            "macvtap exclude each other - keep one of them");
    assert_machine_mistakes(
        "    networks: [macvtap]\n",
        "f:6:16: error[E_SCHEMA]: vms.web.networks[0]: 'macvtap' is missing - add macvtap: LINK");
    assert_machine_mistakes("    networks: [{network: lab, macvtap_mode: vepa}]\n",
                            "f:6:45: error[E_SCHEMA]: vms.web.networks[0].macvtap_mode: needs a "
                            "macvtap - add macvtap: LINK");
}

static void test_keys_that_a_kind_lacks_then_schema(void **state)
{
    (void)state;
    static const char *const keys[] = {"ip: 10.0.0.1", "ip6: fd00::1", "rate_in: 1Mbit",
                                       "rate_out: 1Mbit"};
    static const char *const kinds[][2] = {{"network: user", "network user has none"},
                                           {"macvtap: eth0", "a macvtap has none"}};
    for (size_t k = 0; k < G_N_ELEMENTS(kinds); k++) {
        for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
            g_autofree char *lines =
                g_strdup_printf("    networks:\n      - %s\n        %s\n", kinds[k][0], keys[i]);
            g_autofree char *found = file_with(lines);
            g_autofree char *got = mistakes_of(found, strlen(found));
            g_autofree char *tail =
                g_strdup_printf("%s - use a managed network or a bridge", kinds[k][1]);
            assert_true(g_str_has_prefix(got, "f:8:"));
            assert_true(g_str_has_suffix(got, tail));
            assert_null(strchr(got, '\n'));
        }
    }
    assert_machine_mistakes("    cpus: 2\n    networks: [\"lab,queues=3\"]\n",
                            "f:7:28: error[E_RANGE]: vms.web.networks[0].queues: 3 are more than "
                            "the CPUs of the machine (2) - a queue more than CPUs serves nobody");
    assert_machine_mistakes("    cpus: 2\n    networks: [\"user,queues=2\"]\n",
                            "f:7:29: error[E_SCHEMA]: vms.web.networks[0].queues: network user has "
                            "one queue");
}

static void test_default_route_then_one(void **state)
{
    (void)state;
    g_autoptr(MachineSpec) first = machine_with("    networks: [lab, other]\n");
    assert_true(((SpecNetwork *)g_ptr_array_index(first->networks, 0))->is_default_route);
    assert_false(((SpecNetwork *)g_ptr_array_index(first->networks, 1))->is_default_route);
    g_autoptr(MachineSpec) second =
        machine_with("    networks: [{network: lab, default_route: false}, other]\n");
    assert_false(((SpecNetwork *)g_ptr_array_index(second->networks, 0))->is_default_route);
    assert_true(((SpecNetwork *)g_ptr_array_index(second->networks, 1))->is_default_route);
    g_autoptr(MachineSpec) none =
        machine_with("    networks: [{network: lab, default_route: false}]\n");
    assert_false(((SpecNetwork *)g_ptr_array_index(none->networks, 0))->is_default_route);
    assert_machine_mistakes(
        "    networks:\n      - lab,default_route=true\n      - other,default_route=true\n",
        "f:8:29: error[E_SCHEMA]: vms.web.networks[1].default_route: a machine has one default "
        "route, first in line 7 - keep one of them");
}

/* --- networks of a file ----------------------------------------------------------------------- */

static void test_network_of_a_file_then_members_and_defaults(void **state)
{
    (void)state;
    g_autoptr(BaseReport) report = base_report_new();
    g_autofree char *text =
        lab_file("  lab: {cidr: 10.77.0.0/24, domain: Lab.Test, egress: {default: deny, allow: "
                 "[10.0.0.0/8, \"::/0:443\"]}}\n  up: {mode: bridge, bridge: br0}\n  other: {}\n",
                 "    networks: [\"lab,ip=10.77.0.10\", up]\n", "");
    text[strcspn(text, "\"")] = '"';
    g_autoptr(SpecFile) file = spec_file_load_text(text, strlen(text), "f", "/base", report);
    assert_int_equal(base_report_n_errors(report), 1); /* "::/0:443" has no brackets */
    assert_int_equal(spec_file_n_networks(file), 3);
    const NetworkSpec *lab = spec_file_network(file, 0), *up = spec_file_network(file, 1);
    assert_string_equal(lab->name, "lab");
    assert_int_equal(lab->mode, SPEC_NET_MODE_NAT);
    assert_string_equal(lab->domain, "lab.test");
    assert_string_equal(lab->port_range, "20000-29999");
    assert_null(lab->cidr6);
    assert_true(lab->has_dhcp && lab->has_dns && !lab->is_kept && lab->mtu == 0);
    assert_true(lab->egress.is_default_deny);
    assert_int_equal(lab->pos.line, 4);
    assert_int_equal(up->mode, SPEC_NET_MODE_BRIDGE);
    assert_false(up->has_dhcp || up->has_dns);
    g_autoptr(MachineSpec) web = spec_file_steal_machine(file, 0);
    spec_machine_finish(web, report);
    assert_int_equal(web->network_specs->len, 2);
    assert_string_equal(((NetworkSpec *)g_ptr_array_index(web->network_specs, 1))->name, "up");
    g_autoptr(MachineSpec) db = spec_file_steal_machine(file, 1);
    spec_machine_finish(db, report);
    assert_int_equal(db->network_specs->len, 0);
}

static void test_options_together_then_rules(void **state)
{
    (void)state;
    static const struct {
        const char *keys, *expected;
    } cases[] = {
        {"mode: bridge", "f:4:3: error[E_SCHEMA]: networks.lab.bridge: is missing, and mode is "
                         "bridge - name a bridge of this host"},
        {"mode: bridge, bridge: br0, dhcp: true",
         "f:4:42: error[E_SCHEMA]: networks.lab.dhcp: mode bridge has no servers of ours - leave "
         "it out"},
        {"mode: bridge, bridge: br0, domain: a.b",
         "f:4:44: error[E_SCHEMA]: networks.lab.domain: mode bridge has no servers of ours - leave "
         "it out"},
        {"cidr: 10.0.0.0/24, gateway: 10.0.0.1",
         "f:4:37: error[E_SCHEMA]: networks.lab.gateway: is for mode bridge - write it as the host "
         "part of cidr"},
        {"mode: bridge, bridge: b, cidr: 10.0.0.0/24, gateway: 10.0.1.1",
         "f:4:62: error[E_NET]: networks.lab.gateway: '10.0.1.1' is outside 10.0.0.0/24"},
        {"mode: bridge, bridge: b, cidr: 10.0.0.0/24, gateway: 10.0.0.0",
         "f:4:62: error[E_NET]: networks.lab.gateway: '10.0.0.0' is the network's own address"},
        {"mode: bridge, bridge: b, cidr: 10.0.0.0/24, gateway: 10.0.0.255",
         "f:4:62: error[E_NET]: networks.lab.gateway: '10.0.0.255' is the broadcast address of "
         "10.0.0.0/24"},
        {"mode: bridge, bridge: b, cidr: 10.0.0.9/24, gateway: 10.0.0.1",
         "f:4:40: error[E_NET]: networks.lab.cidr: '10.0.0.9/24' has host bits that are not the "
         "gateway's - write the network itself"},
        {"mode: bridge, bridge: b, gateway: 10.0.0.1",
         "f:4:43: error[E_SCHEMA]: networks.lab.gateway: '10.0.0.1' needs cidr"},
        {"mode: routed", "f:4:3: error[E_NET]: networks.lab.cidr: is missing, and mode is routed - "
                         "write what others route to this host"},
        {"cidr: none, cidr6: none", "f:4:28: error[E_NET]: networks.lab.cidr6: neither IPv4 nor "
                                    "IPv6 is left - leave one of them out"},
        {"mtu: 1000, cidr6: \"fd00::/64\"",
         "f:4:14: error[E_RANGE]: networks.lab.mtu: 1000 is less than the 1280 that IPv6 needs - "
         "use 1280 or more, or cidr6: none"},
        {"dns: false, dns_servers: [10.0.0.1]",
         "f:4:34: error[E_SCHEMA]: networks.lab.dns_servers: dns is false - drop one of them"},
        {"cidr: 10.0.0.0/24, dhcp_range: 10.0.0.9-10.0.1.9",
         "f:4:40: error[E_NET]: networks.lab.dhcp_range: '10.0.0.9-10.0.1.9' is outside "
         "10.0.0.0/24"},
        {"dhcp_range: 10.0.0.9-10.0.1.9",
         "f:4:21: error[E_NET]: networks.lab.dhcp_range: '10.0.0.9-10.0.1.9' needs cidr"},
        {"egress: {hermetic: true, allow: [10.0.0.0/8]}",
         "f:4:41: error[E_SCHEMA]: networks.lab.egress.allow: has no effect beside hermetic - drop "
         "one of them"},
        {"egress: {allow: [10.0.0.0/8]}",
         "f:4:25: error[E_SCHEMA]: networks.lab.egress.allow: has no effect where all is allowed - "
         "add default: deny"},
        {"cdir: 10.0.0.0/24", "f:4:9: error[E_SCHEMA]: networks.lab.cdir: unknown key - did you "
                              "mean 'cidr'?"},
        {"mtu: 1000", ""},
        {"cidr: 10.0.0.0/24, dhcp: false, dns: false", ""},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        assert_network(cases[i].keys, cases[i].expected);
    }
}

static void test_networks_that_overlap_then_both_lines(void **state)
{
    (void)state;
    assert_lab("  a: {cidr: 10.0.0.0/8}\n  b: {cidr: 10.9.0.0/16, bridge: br9}\n  c: {cidr6: "
               "\"fd00::/60\", bridge: br9}\n  d: {cidr6: \"fd00:0:0:1::/64\"}\n",
               "", "",
               "f:5:13: error[E_NET]: networks.b.cidr: '10.9.0.0/16' overlaps '10.0.0.0/8' of "
               "network 'a', first in line 4 - use another range\n"
               "f:6:35: error[E_NAME]: networks.c.bridge: 'br9' is the bridge of network 'b', "
               "first in line 5 - use another name\n"
               "f:7:14: error[E_NET]: networks.d.cidr6: 'fd00:0:0:1::/64' overlaps 'fd00::/60' of "
               "network 'c', first in line 6 - use another range");
}

static void test_fixed_addresses_then_in_the_network(void **state)
{
    (void)state;
    static const char lab[] = "  lab: {cidr: 10.77.0.9/24, cidr6: \"fd77::/64\"}\n"
                              "  v4: {cidr: 10.78.0.0/24, cidr6: none}\n  any: {}\n"
                              "  up: {mode: bridge, bridge: br0}\n";
    static const struct {
        const char *nic, *expected;
    } cases[] = {
        {"lab,ip=10.77.0.10,ip6=fd77::9", ""},
        {"up,ip=10.1.2.3", ""},
        {"elsewhere,ip=10.1.2.3", ""},
        {"lab,ip=10.77.1.10", "16: error[E_NET]: vms.web.networks[0].ip: '10.77.1.10' is outside "
                              "10.77.0.9/24 of network 'lab'"},
        {"lab,ip=10.77.0.0", "16: error[E_NET]: vms.web.networks[0].ip: '10.77.0.0' is the "
                             "network's own address in 10.77.0.9/24 of network 'lab'"},
        {"lab,ip=10.77.0.255", "16: error[E_NET]: vms.web.networks[0].ip: '10.77.0.255' is the "
                               "broadcast address of 10.77.0.9/24 of network 'lab'"},
        {"lab,ip=10.77.0.9", "16: error[E_NET]: vms.web.networks[0].ip: '10.77.0.9' is the "
                             "gateway of 10.77.0.9/24 of network 'lab'"},
        {"lab,ip6=fd77::1", "17: error[E_NET]: vms.web.networks[0].ip6: 'fd77::1' is the gateway "
                            "of fd77::/64 of network 'lab'"},
        {"v4,ip=10.78.0.1", "15: error[E_NET]: vms.web.networks[0].ip: '10.78.0.1' is the gateway "
                            "of 10.78.0.0/24 of network 'v4'"},
        {"v4,ip6=fd77::9", "16: error[E_NET]: vms.web.networks[0].ip6: 'fd77::9': network 'v4' has "
                           "cidr6 none"},
        {"any,ip=10.0.0.9", "16: error[E_NET]: vms.web.networks[0].ip: '10.0.0.9': network 'any' "
                            "has no cidr that it could be in - add networks.any.cidr"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *web = g_strdup_printf("    networks:\n      - %s\n", cases[i].nic);
        g_autofree char *expected =
            *cases[i].expected ? g_strdup_printf("f:12:%s", cases[i].expected) : g_strdup("");
        assert_lab(lab, web, "", expected);
    }
}

static void test_machines_of_a_file_then_share_nothing(void **state)
{
    (void)state;
    assert_lab(
        "  lab: {cidr: 10.77.0.0/24}\n",
        "    networks: [\"lab,ip=10.77.0.10,mac=52:54:00:00:00:01\"]\n    ports: [\"8080:80\"]\n",
        "    networks: [\"lab,ip=10.77.0.10,mac=52:54:00:00:00:01\", other]\n    ports: "
        "[\"127.0.0.1:8079-8081:79-81\"]\n",
        "f:12:24: error[E_NET]: vms.db.networks[0].ip: '10.77.0.10' is that of 'web', first in "
        "line 8 - use another one\n"
        "f:12:39: error[E_NET]: vms.db.networks[0].mac: '52:54:00:00:00:01' is that of 'web', "
        "first in line 8 - use another one\n"
        "f:13:13: error[E_PORT]: vms.db.ports[0]: host port 8080 is that of 'web', first in line 9 "
        "- use another host port");
    assert_lab("  lab: {cidr: 10.77.0.0/24}\n",
               "    networks: [\"lab,ip=10.77.0.10\"]\n    ports: [\"192.0.2.1:8080:80\", "
               "\"auto:81\", \"53:53/udp\"]\n",
               "    networks: [\"other,ip=10.77.0.10\"]\n    ports: [\"192.0.2.2:8080:80\", "
               "\"auto:81\", \"53:53\"]\n",
               "");
    assert_lab("  lab: {}\n", "    networks: [user]\n    ports: [\"80:80\"]\n",
               "    networks: [user]\n    ports: [\"192.0.2.2:80:80\"]\n", "");
    assert_lab("  lab: {}\n", "    networks: [user]\n    ports: [\"80:80\"]\n",
               "    networks: [lab]\n    ports: [\"80:80\"]\n",
               "f:13:13: error[E_PORT]: vms.db.ports[0]: host port 80 is that of \'web\', first in "
               "line 9 - use another host port");
}

/* --- round trips ------------------------------------------------------------------------------ */

static NetworkSpec *full_network(BaseReport *report)
{
    static const char *const values[][2] = {
        {"name", "lab"},
        {"mode", "isolated"},
        {"bridge", "lab0"},
        {"cidr", "10.77.0.1/24"},
        {"cidr6", "fd77::/64"},
        {"domain", "lab.test"},
        {"mtu", "9000"},
        {"dhcp", "false"},
        {"dhcp_range", "10.77.0.10-10.77.0.99"},
        {"dns_servers", "192.0.2.53"},
        {"dns_servers", "[\"2001:db8::53\"]"},
        {"port_range", "30000-30999"},
        {"keep", "true"},
        {"egress.restricted", "true"},
        {"egress.allow", "[2001:db8::/32]:443/tcp"},
        {"egress.deny", "[10.0.0.0/8, 192.0.2.0/24]"},
    };
    NetworkSpec *spec = spec_network_new();
    for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
        assert_true(spec_network_set(spec, values[i][0], values[i][1], "--set", report));
    }
    return spec;
}

static void test_network_to_json_and_copy_then_equal(void **state)
{
    (void)state;
    g_autoptr(BaseReport) report = base_report_new();
    g_autoptr(NetworkSpec) spec = full_network(report);
    spec_network_finish(spec, report);
    assert_int_equal(base_report_n_items(report), 0);
    g_autofree char *json = spec_network_to_json(spec);
    g_autoptr(NetworkSpec) again = spec_network_from_json(json, NULL);
    g_autoptr(NetworkSpec) copy = spec_network_copy(spec);
    g_autofree char *json_again = spec_network_to_json(again);
    g_autofree char *json_copy = spec_network_to_json(copy);
    assert_string_equal(json, json_again);
    assert_string_equal(json, json_copy);
    assert_int_equal(copy->egress.deny->len, 2);
    assert_string_equal(spec_network_origin(again, "mtu")->file, "--set");
    g_autoptr(GError) error = NULL;
    assert_null(
        spec_network_from_json("{\"format\":1,\"spec\":{\"mtu\":1},\"origins\":{}}", &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_STATE));
}

static void test_machine_to_json_and_yaml_then_with_its_networks(void **state)
{
    (void)state;
    g_autoptr(BaseReport) report = base_report_new();
    g_autofree char *text = lab_file("  lab: {cidr: 10.77.0.0/24}\n  other: {}\n",
                                     "    networks: [\"lab,ip=10.77.0.10\", user]\n", "");
    g_autoptr(SpecFile) file = spec_file_load_text(text, strlen(text), "f", "/base", report);
    g_autoptr(MachineSpec) web = spec_file_steal_machine(file, 0);
    spec_machine_finish(web, report);
    assert_int_equal(base_report_n_items(report), 0);
    g_autofree char *json = spec_machine_to_json(web);
    g_autoptr(MachineSpec) again = spec_machine_from_json(json, NULL);
    g_autofree char *json_again = spec_machine_to_json(again);
    assert_string_equal(json, json_again);
    assert_int_equal(again->network_specs->len, 1);
    assert_true(((SpecNetwork *)g_ptr_array_index(again->networks, 0))->is_default_route);
    assert_int_equal(((SpecNetwork *)g_ptr_array_index(again->networks, 1))->kind, SPEC_NET_USER);
    g_autofree char *yaml = spec_machine_to_yaml(web, false);
    assert_string_equal(yaml,
                        "version: 1\nname: web\nnetworks:\n  lab:\n    cidr: 10.77.0.0/24\nvms:\n  "
                        "web:\n    image: /base/i\n    networks:\n    - network: lab\n      ip: "
                        "\"10.77.0.10\"\n    - user\n");
}

/* A network that was refused is copied to the machines all the same, and nothing crashes. */
static void test_refused_networks_then_every_mistake_once(void **state)
{
    (void)state;
    assert_lab("  \"a\\u0001\": {cidr: x}\n  lab: [1]\n  none: {}\n",
               "    networks: [\"lab,ip=10.0.0.9\"]\n", "",
               "f:4:3: error[E_NAME]: name 'a\\x01' is not allowed: use lower-case letters, digits "
               "and '-'\n"
               "f:4:21: error[E_NET]: networks.a\\x01.cidr: 'x' has an address that is none\n"
               "f:5:8: error[E_SCHEMA]: networks.lab: expected a map, got a list\n"
               "f:6:3: error[E_NAME]: name 'none' is a word that stands for something else in a "
               "list of networks");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prefixes_then_room_for_a_machine),
        cmocka_unit_test(test_other_texts_then_rules),
        cmocka_unit_test(test_rates_then_bits_per_second),
        cmocka_unit_test(test_one_line_then_as_the_map),
        cmocka_unit_test(test_mistakes_in_one_line_then_their_columns),
        cmocka_unit_test(test_nic_with_two_ends_then_schema),
        cmocka_unit_test(test_keys_that_a_kind_lacks_then_schema),
        cmocka_unit_test(test_default_route_then_one),
        cmocka_unit_test(test_network_of_a_file_then_members_and_defaults),
        cmocka_unit_test(test_options_together_then_rules),
        cmocka_unit_test(test_networks_that_overlap_then_both_lines),
        cmocka_unit_test(test_fixed_addresses_then_in_the_network),
        cmocka_unit_test(test_machines_of_a_file_then_share_nothing),
        cmocka_unit_test(test_network_to_json_and_copy_then_equal),
        cmocka_unit_test(test_machine_to_json_and_yaml_then_with_its_networks),
        cmocka_unit_test(test_refused_networks_then_every_mistake_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
