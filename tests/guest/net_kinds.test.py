#!/usr/bin/env python3
"""Networks of every kind with tiny guests, and what belongs to others: fixed addresses, DHCP, modes, foreign bridges, macvtaps.

Everything is in network namespaces of the test's own (tests/lib/netlab.py).
"""
# TIMEOUT 1500
import json
import os
import sys

sys.path.insert(0, os.path.join(os.environ["SOURCE_DIR"], "tests", "lib"))
from netlab import (GUEST_PORT, HOST4, HOST6, OUTSIDE4, OUTSIDE6, OUTSIDE_PORT, Checks, NetPlace, ask, expect_same, inside, ip,
                    ip_json, take, wait_until)

PROTOS = ("tcp", "udp")


def by_dhcp(p, name):
    """A network-config that says no address: the guest has to ask."""
    path = os.path.join(p.root, f"{name}.json")
    with open(path, "w") as file:
        json.dump({"version": 2, "ethernets": {"eth0": {"dhcp4": True, "dhcp6": True}}}, file)
    return ["--network-config", path]


def guests_that_ask_and_guests_with_fixed_addresses(lab):
    checks = Checks()
    with NetPlace() as p:
        p.run("network", "add", "lab", "--cidr", "10.77.0.0/24", "--cidr6", "fd77::/64", "--domain", "lab.test", "--mtu", "1400", status=0)
        p.start("asks", "--network", "lab", *by_dhcp(p, "asks"))
        asks = p.nic("asks")
        wanted = "10.77.0.123" if asks["ip4"] != "10.77.0.123" else "10.77.0.124"  # the other's follows from its id
        p.start("fixed", "--network", f"lab,ip={wanted},ip6=fd77::123")
        fixed = p.nic("fixed")
        checks.that((fixed["ip4"], fixed["ip6"]) == (wanted, "fd77::123"), f"fixed addresses: {fixed}")
        # who wants what another has, and what is no guest's
        for wish, status, said in ((f"ip={wanted}", 6, "fixed"), (f"ip={asks['ip4']}", 6, "asks"), ("ip=10.77.0.1", 3, "10.77.0.1"),
                                   ("ip=10.77.0.0", 3, "10.77.0.0"), ("ip=10.77.0.255", 3, "10.77.0.255"), ("ip=10.78.0.5", 3, "10.77.0.0/24"),
                                   ("ip6=fd78::1", 3, "fd77::/64")):
            done = p.run("run", p.image, "--name", "other", "--memory", "128MiB", "-d", "--wait", "started", "--network", f"lab,{wish}")
            checks.that(done.returncode == status and said in done.stderr, f"{wish}: exit {done.returncode}, {done.stderr}")
            checks.that("other" not in p.names(), f"{wish}: something was left")
        p.wait_ready("asks", "fixed")
        wait_until(lambda: f" {asks['ip6']}/" in p.guest("asks", "ip", "addr", "show", "eth0"), 15, "an address by DHCPv6")
        addresses = p.guest("asks", "ip", "addr", "show", "eth0")
        checks.that(f" {asks['ip4']}/24" in addresses and "mtu 1400" in addresses, f"by DHCP: {addresses}")
        checks.that("default via fe80:" in p.guest("asks", "ip", "-6", "route"), "no router by RA")
        checks.that("lab.test" in p.guest("asks", "cat", "/etc/resolv.conf"), "no domain by DHCP")
        for proto in PROTOS:
            checks.answer(p.guest_ask("asks", proto, "fixed", GUEST_PORT), f"{proto} ", f"asks knows fixed by name, {proto}")
            checks.answer(p.guest_ask("fixed", proto, "asks.lab.test", GUEST_PORT), f"{proto} ", f"fixed knows asks by name, {proto}")
            checks.answer(p.guest_ask("asks", proto, OUTSIDE4, OUTSIDE_PORT), f"{proto} {HOST4} ", f"asks goes out, v4 {proto}")
            checks.answer(p.guest_ask("asks", proto, OUTSIDE6, OUTSIDE_PORT), f"{proto} {HOST6} ", f"asks goes out, v6 {proto}")
        # an address that somebody takes for himself is not his
        stolen = "10.77.0.200" if asks["ip4"] != "10.77.0.200" else "10.77.0.201"
        p.guest("asks", "ip", "addr", "add", f"{stolen}/24", "dev", "eth0")
        checks.answer(ask("tcp", stolen, GUEST_PORT), None, "a stolen address")
        # removed and made anew: the next guest with that address gets it
        p.run("rm", "--force", "fixed", status=0)
        p.start("after", "--network", f"lab,ip={wanted}", *by_dhcp(p, "after"))
        p.wait_ready("after")
        checks.that(f" {wanted}/24" in p.guest("after", "ip", "addr", "show", "eth0"), "the freed address by DHCP")
        checks.that(p.agent("asks").execute("nslookup", "fixed.lab.test")[0] != 0, "the name of a machine that is gone resolves")
    checks.end()


def isolated_routed_and_two_nics(lab):
    checks = Checks()
    with NetPlace() as p:
        p.run("network", "add", "alone", "--mode", "isolated", "--cidr", "10.78.0.0/24", "--cidr6", "fd78::/64", status=0)
        p.run("network", "add", "plain", "--mode", "routed", "--cidr", "10.79.0.0/24", "--cidr6", "fd79::/64", status=0)
        for family, net in (("-4", "10.79.0.0/24"), ("-6", "fd79::/64")):
            lab.outside.run("ip", family, "route", "add", net, "via", HOST4 if family == "-4" else HOST6)
        p.start("one", "--network", "alone")
        p.start("two", "--network", "plain", "--network", "alone")
        p.wait_ready("one", "two")
        one, routed, second = p.nic("one"), p.nic("two"), p.nic("two", 1)
        for proto in PROTOS:
            checks.answer(p.guest_ask("one", proto, OUTSIDE4, OUTSIDE_PORT), None, f"an isolated guest goes out, v4 {proto}")
            checks.answer(p.guest_ask("one", proto, OUTSIDE6, OUTSIDE_PORT), None, f"an isolated guest goes out, v6 {proto}")
            checks.answer(p.guest_ask("two", proto, OUTSIDE4, OUTSIDE_PORT), f"{proto} {routed['ip4']} ", f"routed, v4 {proto}")
            checks.answer(p.guest_ask("two", proto, OUTSIDE6, OUTSIDE_PORT), f"{proto} {routed['ip6']} ", f"routed, v6 {proto}")
            checks.answer(lab.outside.ask(proto, routed["ip4"], GUEST_PORT), f"{proto} {OUTSIDE4} ", f"outside to routed, v4 {proto}")
            checks.answer(p.guest_ask("two", proto, one["ip4"], GUEST_PORT), f"{proto} {second['ip4']} ", f"by the second NIC, {proto}")
            checks.answer(lab.outside.ask(proto, one["ip4"], GUEST_PORT), None, f"outside to isolated, {proto}")
        p.run("update", "one", "-p", "8080:7/both", status=0)
        for proto in PROTOS:
            checks.answer(lab.outside.ask(proto, HOST4, 8080), f"{proto} ", f"a port of an isolated guest, v4 {proto}")
            checks.answer(lab.outside.ask(proto, HOST6, 8080), f"{proto} ", f"a port of an isolated guest, v6 {proto}")
        checks.answer(p.guest_ask("one", "tcp", OUTSIDE4, OUTSIDE_PORT), None, "an isolated guest with a port goes out")
    checks.end()


def what_is_anothers_is_left_alone(lab):
    """Foreign ports, addresses, links, tables: never touched, and said."""
    checks = Checks()
    with NetPlace() as p:
        p.run("network", "add", "lab", "--cidr", "10.77.0.0/24", status=0)
        bridge = p.network("lab")["bridge"]
        p.start("web", "--network", "lab", "-p", "8080:7")
        ip("link", "add", "by-hand0", "type", "veth", "peer", "name", "by-hand1")
        ip("link", "set", "by-hand0", "master", bridge, "up")
        ip("addr", "add", "10.77.0.250/24", "dev", bridge)
        done = p.run("network", "check", "--fix", "lab")
        checks.that(done.returncode == 4 and "by-hand0" in done.stdout and "10.77.0.250" in done.stdout, f"check says nothing: {done}")
        p.run("rm", "--force", "web", status=0)
        done = p.run("network", "rm", "lab")
        said = done.stdout + done.stderr
        checks.that("by-hand0" in said, f"nothing is said of the foreign port: {said}")
        link = ip_json("link", "show", "by-hand0")
        checks.that(link and link[0].get("master") == bridge, "the foreign port was taken off")
        checks.that("10.77.0.250" in json.dumps(ip_json("addr", "show", "dev", bridge)), "the foreign address is gone")
        p.run("gc", status=0)
        checks.that(ip_json("link", "show", "by-hand0")[0].get("master") == bridge, "gc took the foreign port off")
        ip("link", "del", "by-hand0")
        p.run("gc", status=0)
        checks.that("10.77.0.250" in json.dumps(ip_json("addr", "show", "dev", bridge)), "gc took the foreign address")
        ip("addr", "del", "10.77.0.250/24", "dev", bridge)
        if "lab" in p.run("network", "ls", status=0).stdout:
            p.run("network", "rm", "lab", status=0)
        p.run("gc", status=0)
        checks.that(bridge not in [link["ifname"] for link in ip_json("link", "show")], "the bridge stays for ever")

        # a link that has the name which our bridge would get
        ip("link", "add", bridge, "type", "bridge")
        done = p.run("network", "add", "lab", "--cidr", "10.77.0.0/24")
        checks.that(done.returncode == 6 and bridge in done.stderr, f"a foreign bridge of our name: {done.returncode} {done.stderr}")
        p.run("gc", status=0)
        checks.that(bridge in [link["ifname"] for link in ip_json("link", "show")], "a foreign bridge was removed")
        ip("link", "del", bridge)
        p.run("network", "rm", "lab")

        # prefixes that this host knows, and other networks' ones
        for cidr, said in (("198.51.100.128/25", "198.51.100.0/24"), ("198.51.0.0/16", "198.51.100.0/24")):
            done = p.run("network", "add", "clash", "--cidr", cidr)
            checks.that(done.returncode == 3 and said in done.stderr, f"{cidr}: {done.returncode} {done.stderr}")
    checks.end()


def kept_networks_stay_and_two_stores_share_a_host(lab):
    checks = Checks()
    with NetPlace() as p, NetPlace() as q:
        p.run("network", "add", "kept", "--cidr", "10.77.0.0/24", status=0)
        before = take(p)
        for _ in range(2):
            p.run("network", "add", "kept", "--cidr", "10.77.0.0/24", status=0)
        expect_same(before, p, "the same network three times")
        done = p.run("network", "add", "kept", "--cidr", "10.78.0.0/24")
        checks.that(done.returncode == 6 and "10.77.0.0/24" in done.stderr and "10.78.0.0/24" in done.stderr, f"another kept: {done.stderr}")

        p.start("web", "--network", "default", "-p", "8080:7/both")
        q.start("web", "--network", "default")
        a, b = p.nic("web"), q.nic("web")
        checks.that(a["ip4"].rsplit(".", 1)[0] != b["ip4"].rsplit(".", 1)[0], f"two stores, one prefix: {a} {b}")
        checks.that(a["tap"] != b["tap"] and a["bridge"] != b["bridge"], f"two stores, one link: {a} {b}")
        done = q.run("run", q.image, "--name", "thief", "-d", "--memory", "128MiB", "--wait", "started", "-p", "8080:7")
        checks.that(done.returncode == 6 and "8080" in done.stderr and p.state in done.stderr + p.state, f"a port of another store: {done.stderr}")
        p.wait_ready("web")
        q.run("gc", status=0)
        q.run("rm", "--force", "web", status=0)
        q.run("gc", status=0)
        checks.answer(lab.outside.ask("tcp", HOST4, 8080), f"tcp {OUTSIDE4} ", "after another store's gc")
        p.run("network", "rm", "kept", status=0)
        done = p.run("network", "rm", "default")
        checks.that(done.returncode != 0 and "web" in done.stderr, f"a network with a machine: {done.returncode} {done.stderr}")
        p.run("rm", "--force", "web", status=0)
        checks.that("default" not in p.run("network", "ls", status=0).stdout, "default stays without machines")
    checks.end()


def static(p, name, address):
    """A network-config with this address: where nothing of ours knows the prefix."""
    path = os.path.join(p.root, f"{name}.json")
    with open(path, "w") as file:
        json.dump({"version": 2, "ethernets": {"eth0": {"addresses": [f"{address}/24"]}}}, file)
    return ["--network-config", path]


def bridge_of_somebody_else(lab):
    """A bridge that is not ours, by a machine's `bridge=` and as a network with addresses (the router there is the host)."""
    checks = Checks()
    ip("link", "add", "br0", "type", "bridge")
    ip("addr", "add", "10.99.0.1/24", "dev", "br0")
    ip("link", "set", "br0", "up")
    with NetPlace() as p:
        p.warm()
        before = take(p, sysctls=False)
        p.run("network", "add", "office", "--mode", "bridge", "--bridge", "br0", "--cidr", "10.99.0.0/24", "--gateway", "10.99.0.1", status=0)
        p.start("named", "--network", "office,ip=10.99.0.8")
        p.start("bare", "--network", "bridge=br0,ip=10.99.0.7", "-p", "8080:7/both", *static(p, "bare", "10.99.0.7"))
        p.wait_ready("named", "bare")
        p.run("update", "named", "-p", "8081:7", status=0)
        checks.answer(ask("tcp", "127.0.0.1", 8080), "tcp 10.99.0.1 ", "the host's loopback to a guest of a foreign bridge")
        for proto in PROTOS:
            checks.answer(lab.outside.ask(proto, HOST4, 8080), f"{proto} ", f"a port to a guest of a foreign bridge, {proto}")
            checks.answer(p.guest_ask("bare", proto, "10.99.0.8", GUEST_PORT), f"{proto} 10.99.0.7 ", f"neighbours on a foreign bridge, {proto}")
        checks.answer(lab.outside.ask("tcp", HOST4, 8081), "tcp ", "a port to a guest of a network on a foreign bridge")
        p.guest("bare", "ip", "addr", "add", "10.99.0.9/24", "dev", "eth0")
        checks.answer(ask("tcp", "10.99.0.9", GUEST_PORT), None, "a stolen address on a foreign bridge")
        p.run("network", "check", status=0)
        p.run("rm", "--force", "bare", status=0)
        p.run("rm", "--force", "named", status=0)
        p.run("network", "rm", "office", status=0)
        expect_same(before, p, "the foreign bridge", sysctls=False)
        done = p.run("run", p.image, "--name", "x", "--network", "bridge=nosuch", "-d")
        checks.that(done.returncode == 5 and "nosuch" in done.stderr, f"no such bridge: {done.returncode} {done.stderr}")
    checks.end()


def macvtaps(lab):
    """Guests on the uplink itself, without a bridge: they and the outside reach each other, the host does not (a macvtap's nature)."""
    checks = Checks()
    with NetPlace() as p:
        p.warm()
        before = take(p)
        p.start("a", "--network", "macvtap=up0", *static(p, "a", "198.51.100.50"))
        p.start("b", "--network", "macvtap=up0,macvtap_mode=bridge", *static(p, "b", "198.51.100.51"))
        link = ip_json("-d", "link", "show", p.nic("a")["tap"])[0]
        checks.that(link["linkinfo"]["info_kind"] == "macvtap" and any(n.startswith("vm-run:") for n in link["altnames"]), f"link: {link}")
        p.wait_ready("a", "b")
        checks.answer(lab.outside.ask("tcp", "198.51.100.50", GUEST_PORT), f"tcp {OUTSIDE4} ", "outside to a macvtap")
        checks.answer(p.guest_ask("a", "udp", "198.51.100.51", GUEST_PORT), "udp 198.51.100.50 ", "macvtap to macvtap")
        checks.answer(p.guest_ask("a", "tcp", OUTSIDE4, OUTSIDE_PORT), "tcp 198.51.100.50 ", "macvtap to outside")
        p.run("rm", "--force", "a", status=0)
        p.run("stop", "b", "--timeout", "0s", status=0)
        p.run("rm", "b", status=0)
        expect_same(before, p, "macvtaps are gone")
        done = p.run("run", p.image, "--name", "x", "--network", "macvtap=nosuch", "-d")
        checks.that(done.returncode == 5 and "nosuch" in done.stderr, f"no such link: {done.returncode} {done.stderr}")
    checks.end()


inside([guests_that_ask_and_guests_with_fixed_addresses, isolated_routed_and_two_nics, what_is_anothers_is_left_alone,
        kept_networks_stay_and_two_stores_share_a_host, bridge_of_somebody_else, macvtaps])
