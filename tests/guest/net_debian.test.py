#!/usr/bin/env python3
"""A Debian guest on a managed network: real cloud-init applies our network-config, `vm-run ssh` goes to its own address."""
# TIMEOUT 900
import os
import sys

sys.path.insert(0, os.path.join(os.environ["SOURCE_DIR"], "tests", "lib"))
from netlab import HOST4, OUTSIDE4, OUTSIDE6, Checks, NetPlace, inside
from vmrun import need


def cloud_init_applies_our_network_config(lab):
    checks = Checks()
    with NetPlace() as p:
        p.run("network", "add", "lab", "--cidr", "10.77.0.0/24", "--cidr6", "fd77::/64", "--domain", "lab.test", "--mtu", "1400", status=0)
        p.run("run", need("debian"), "--name", "deb", "--memory", "1GiB", "--cpus", "2", "--network", "lab", "--timezone", "Europe/Vienna",
              "-p", "2222:22", "-d", "--wait", "cloud-init", status=0, limit_s=600)
        nic = p.nic("deb")

        def inside_it(*argv):
            return p.run("ssh", "deb", "--", *argv, status=0, limit_s=120).stdout

        addresses = inside_it("ip", "addr", "show", "scope", "global")
        checks.that(f"inet {nic['ip4']}/24" in addresses, f"IPv4: {addresses}")
        checks.that(f"inet6 {nic['ip6']}/64" in addresses, f"IPv6: {addresses}")
        checks.that("mtu 1400" in addresses, f"MTU: {addresses}")
        view = p.network("lab")
        checks.that(f"default via {view['gateway']} " in inside_it("ip", "-4", "route"), "IPv4 route")
        routes = inside_it("ip", "-6", "route")
        checks.that("default" in routes and f"via {view['gateway6']} " in routes, f"IPv6 route: {routes}")
        dns = inside_it("resolvectl", "status")
        checks.that(view["gateway"] in dns and "lab.test" in dns, f"DNS: {dns}")
        checks.that(nic["ip4"] in inside_it("getent", "ahostsv4", "deb.lab.test"), "its own name by DNS")
        checks.that(inside_it("readlink", "-f", "/etc/localtime").strip().endswith("Europe/Vienna"), "timezone")
        checks.that("status: done" in inside_it("cloud-init", "status"), "cloud-init")
        for outside in (OUTSIDE4, OUTSIDE6):
            checks.that("1 received" in inside_it("sudo", "ping", "-c1", "-W3", outside), f"ping {outside}")
        ssh = p.show("deb")["ssh"]
        checks.that(ssh["addr"] == nic["ip4"] and ssh["port"] == 22, f"ssh goes to {ssh}")
        banner = lab.outside.ask("tcp", HOST4, 2222)
        checks.that(banner and banner.startswith("SSH-2.0"), f"port 2222 from outside: {banner}")
    checks.end()


inside([cloud_init_applies_our_network_config])
