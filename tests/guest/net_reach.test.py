#!/usr/bin/env python3
"""Two tiny guests on one managed network: who reaches whom, before and after things go wrong, and after live changes.

Everything is in network namespaces of the test's own (tests/lib/netlab.py).
"""
# TIMEOUT 1500
import json
import os
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.environ["SOURCE_DIR"], "tests", "lib"))
from netlab import (GUEST_PORT, HOST4, HOST6, OUTSIDE4, OUTSIDE6, OUTSIDE_PORT, Checks, NetPlace, ask, expect, expect_same, get_sysctl,
                    inside, ip, command, set_sysctl, take, wait_until)

PORT = 8080
PROTOS = ("tcp", "udp")
LAB = ["--cidr", "10.77.0.0/24", "--cidr6", "fd77::/64", "--domain", "lab.test"]


def two_machines(p, *web):
    p.run("network", "add", "lab", *LAB, status=0)
    p.start("web", "--network", "lab", "-p", f"{PORT}:{GUEST_PORT}/both", *web)
    p.start("db", "--network", "lab")
    p.wait_ready("web", "db")
    return p.nic("web"), p.nic("db")


def neighbours(p, checks, web, db):
    for proto in PROTOS:
        for host in ("web", "web.lab.test", web["ip4"], web["ip6"]):
            checks.answer(p.guest_ask("db", proto, host, GUEST_PORT), f"{proto} {db['ip6']} " if ":" in host else f"{proto} ",
                          f"db asks {host} by {proto}")
        checks.answer(p.guest_ask("web", proto, "db", GUEST_PORT), f"{proto} ", f"web asks db by {proto}")
    for family in ("-4", "-6"):
        code, out = p.agent("db").execute("ping", family, "-c", "1", "-w", "3", "web.lab.test")
        checks.that(code == 0, f"ping {family} web.lab.test: {out}")


def ports_from_everywhere(lab, p, checks, web, db, port=PORT, protos=PROTOS):
    """The four places: outside, the host's own addresses, its loopback, machines of the network (the machine itself too)."""
    gateway = p.network("lab")
    for proto in protos:
        checks.answer(lab.outside.ask(proto, HOST4, port), f"{proto} {OUTSIDE4} ", f"outside, v4 {proto}")
        checks.answer(lab.outside.ask(proto, HOST6, port), f"{proto} {OUTSIDE6} ", f"outside, v6 {proto}")
        for host in (HOST4, gateway["gateway"], "127.0.0.1", "127.0.0.5"):
            checks.answer(ask(proto, host, port), f"{proto} {gateway['gateway']} ", f"host to {host} {proto}")
        # with br_netfilter the kernel undoes NAT before it looks for ::1 in what comes from a link, and drops it
        loopback6 = ["::1"] if get_sysctl("net.bridge.bridge-nf-call-ip6tables") == "0" else []
        for host in (HOST6, gateway["gateway6"], *loopback6):
            checks.answer(ask(proto, host, port), f"{proto} {gateway['gateway6']} ", f"host to {host} {proto}")
        for name in ("db", "web"):
            for host in (HOST4, HOST6, gateway["gateway"], gateway["gateway6"]):
                checks.answer(p.guest_ask(name, proto, host, port), f"{proto} ", f"{name} to {host} {proto}")
    del web, db


def way_out(p, checks, name):
    for proto in PROTOS:
        checks.answer(p.guest_ask(name, proto, OUTSIDE4, OUTSIDE_PORT), f"{proto} {HOST4} ", f"{name} goes out, v4 {proto}")
        checks.answer(p.guest_ask(name, proto, OUTSIDE6, OUTSIDE_PORT), f"{proto} {HOST6} ", f"{name} goes out, v6 {proto}")


class Service:
    """A service of the host at this address."""

    def __init__(self, address):
        self.address = address

    def __enter__(self):
        self.sock = socket.create_server((self.address, 5555))
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def _serve(self):
        try:
            while True:
                with self.sock.accept()[0] as connection:
                    connection.sendall(b"secret\n")
        except OSError:
            pass

    def __exit__(self, *_):
        self.sock.shutdown(socket.SHUT_RDWR)  # ends accept()
        self.sock.close()


def loopback_is_the_hosts_own(p, checks, name, nic):
    with Service("127.0.0.1"):
        checks.answer(ask("tcp", "127.0.0.1", 5555), "secret", "the host asks itself")
        gateway = p.network("lab")["gateway"]
        checks.answer(p.guest_ask(name, "tcp", gateway, 5555), None, f"{name} asks the gateway for a loopback service")
        p.guest(name, "sh", "-c", f"sysctl -qw net.ipv4.conf.eth0.route_localnet=1 net.ipv4.conf.all.route_localnet=1;"
                f"ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.0/8 via {gateway} dev eth0 src {nic['ip4']}")
        checks.answer(p.guest_ask(name, "tcp", "127.0.0.1", 5555), None, f"{name} sends to 127.0.0.1 by its network")
        p.guest(name, "sh", "-c", "ip route del 127.0.0.0/8; ip addr add 127.0.0.1/8 dev lo")


def machines_reach_each_other_and_ports_work_from_everywhere(lab):
    checks = Checks()
    with NetPlace() as p:
        p.warm()
        before = take(p, sysctls=False)
        web, db = two_machines(p)
        neighbours(p, checks, web, db)
        ports_from_everywhere(lab, p, checks, web, db)
        way_out(p, checks, "db")
        loopback_is_the_hosts_own(p, checks, "db", db)
        checks.that(get_sysctl("net.ipv4.conf.all.route_localnet") == "0", "route_localnet is switched for all links")
        for name in ("iptables", "ip6tables"):  # bridged packets are seen by the host's filters
            set_sysctl(f"net.bridge.bridge-nf-call-{name}", "1")
        neighbours(p, checks, web, db)
        ports_from_everywhere(lab, p, checks, web, db)
        way_out(p, checks, "db")
        loopback_is_the_hosts_own(p, checks, "db", db)
        p.run("rm", "--force", "web", status=0)
        checks.answer(lab.outside.ask("tcp", HOST4, PORT), None, "the port of a machine that is gone")
        p.run("rm", "--force", "db", status=0)
        p.run("network", "rm", "lab", status=0)
        expect_same(before, p, "all machines and networks are gone", sysctls=False)
    checks.end()


def what_was_killed_or_flushed_comes_back(lab):
    checks = Checks()
    with NetPlace() as p:
        web, db = two_machines(p)
        taken = take(p)
        first = p.network("lab")
        checks.that(first["supervisor_pid"] and first["dnsmasq_pid"], f"a supervisor and a dnsmasq: {first}")
        os.kill(first["dnsmasq_pid"], signal.SIGKILL)
        took = wait_until(lambda: p.network("lab")["dnsmasq_pid"] not in (0, None, first["dnsmasq_pid"]), 30, "a new dnsmasq")
        print(f"  dnsmasq is back after {took * 1000:.0f} ms")
        wait_until(lambda: p.agent("db").execute("nslookup", "web.lab.test")[0] == 0, 30, "names resolve again")
        command("nft", "flush", "ruleset")
        took = wait_until(lambda: "vm_driver" in command("nft", "list", "tables"), 30, "our tables are back")
        print(f"  rules are back after {took * 1000:.0f} ms")
        wait_until(lambda: lab.outside.ask("tcp", HOST4, PORT), 30, "the port works again")
        neighbours(p, checks, web, db)
        ports_from_everywhere(lab, p, checks, web, db)
        expect_same(taken, p, "after a killed dnsmasq and a flushed rule set")
        for table in ("inet vm_driver", "bridge vm_driver"):
            command("nft", "delete", "table", *table.split())
            wait_until(lambda: table in command("nft", "list", "tables"), 30, f"table {table} is back")
        expect_same(taken, p, "after both tables were deleted")
        os.kill(p.network("lab")["supervisor_pid"], signal.SIGKILL)
        done = p.run("network", "check", "lab")
        checks.that(done.returncode != 0 and "supervisor" in done.stdout + done.stderr, f"check says nothing of the supervisor: {done}")
        p.run("network", "check", "lab", "--fix", status=0)
        p.run("network", "check", "lab", status=0)
        expect_same(taken, p, "after a killed supervisor and check --fix")
        # a tap that somebody pulled off the bridge, a link that somebody set down
        ip("link", "set", web["tap"], "nomaster")
        done = p.run("network", "check", "lab")
        checks.that(done.returncode != 0 and web["tap"] in done.stdout + done.stderr, f"check says nothing of the tap: {done}")
        p.run("network", "check", "lab", "--fix", status=0)
        checks.answer(p.guest_ask("db", "tcp", web["ip4"], GUEST_PORT), "tcp ", "the mended tap")
        # the host's own fault does not end with a guest: a second run of everything changes nothing
        for _ in range(2):
            p.run("gc", status=0)
        expect_same(taken, p, "after gc")
    checks.end()


def live_changes_need_no_restart(lab):
    checks = Checks()
    with NetPlace() as p:
        web, db = two_machines(p)
        pid = p.show("web")["qemu_pid"]

        # traffic on one port goes on while another one is added
        stream = socket.create_connection((HOST4, PORT), timeout=5)
        lines = stream.makefile("rw")
        expect(lines.readline().startswith("tcp "), "a connection")
        p.run("update", "web", "-p", f"9090:{GUEST_PORT}/tcp", status=0)
        lines.write("still there\n")
        lines.flush()
        checks.that(lines.readline() == "still there\n", "a connection was cut by a change that did not concern it")
        ports_from_everywhere(lab, p, checks, web, db, port=9090, protos=("tcp",))
        # a port that goes takes its connections with it
        p.run("update", "web", "--unpublish", f"{PORT}:{GUEST_PORT}/both", status=0)
        checks.answer(lab.outside.ask("tcp", HOST4, PORT), None, "a port that was taken away")
        stream.settimeout(3)
        try:
            lines.write("are you there?\n")
            lines.flush()
            answer = lines.readline()
        except OSError:
            answer = ""
        checks.that(answer == "", f"a connection outlived its port: {answer!r}")
        stream.close()

        # egress
        gateway = p.network("lab")["gateway"]
        with Service("0.0.0.0"):
            checks.answer(p.guest_ask("db", "tcp", gateway, 5555), "secret", "db asks the host")
            p.run("update", "db", "--restricted", status=0)
            for host in (gateway, HOST4):
                checks.answer(p.guest_ask("db", "tcp", host, 5555), None, f"restricted db asks the host at {host}")
        checks.answer(p.guest_ask("db", "tcp", "web.lab.test", GUEST_PORT), "tcp ", "restricted db asks its neighbour by name")
        way_out(p, checks, "db")
        p.run("update", "db", "--egress-default", "allow", status=0)
        way_out(p, checks, "db")
        p.run("update", "db", "--egress-deny", f"{OUTSIDE4}/32", status=0)
        checks.answer(p.guest_ask("db", "tcp", OUTSIDE4, OUTSIDE_PORT), None, "db goes where it may not")
        checks.answer(p.guest_ask("db", "tcp", OUTSIDE6, OUTSIDE_PORT), f"tcp {HOST6} ", "db goes where it may")
        checks.answer(p.guest_ask("db", "tcp", web["ip4"], GUEST_PORT), "tcp ", "db asks its neighbour")
        p.run("update", "db", "--hermetic", status=0)
        for host, port in ((OUTSIDE6, OUTSIDE_PORT), (web["ip4"], GUEST_PORT), (web["ip6"], GUEST_PORT)):
            checks.answer(p.guest_ask("db", "tcp", host, port), None, f"hermetic db asks {host}")
        checks.that(p.agent("db").execute("nslookup", "web.lab.test")[0] != 0, "hermetic db asks for a name")
        checks.answer(p.guest_ask("web", "tcp", db["ip4"], GUEST_PORT), "tcp ", "answers of a hermetic machine")
        checks.answer(ask("tcp", db["ip4"], GUEST_PORT), "tcp ", "answers of a hermetic machine to the host")
        p.run("update", "db", "--egress-default", "allow", status=0)
        way_out(p, checks, "db")

        # the cable
        p.run("update", "web", "--link", "down", status=0)
        checks.that(p.nic("web")["link"] == "down", f"show: {p.nic('web')}")
        checks.answer(lab.outside.ask("tcp", HOST4, 9090), None, "a machine without its cable")
        wait_until(lambda: "NO-CARRIER" in p.guest("web", "ip", "link", "show", "eth0"), 30, "the guest sees it")
        p.run("update", "web", "--link", "up", status=0)
        wait_until(lambda: lab.outside.ask("tcp", HOST4, 9090), 20, "with its cable again")

        # all of it holds when the guest boots anew, and when the machine is started anew
        p.guest("web", "sh", "-c", "(sleep 0.5; reboot) >/dev/null 2>&1 &")
        wait_until(lambda: lab.outside.ask("tcp", HOST4, 9090) is None, 20, "the guest reboots")
        wait_until(lambda: lab.outside.ask("tcp", HOST4, 9090), 60, "its port after a reboot")
        checks.that(p.show("web")["qemu_pid"] == pid, "the machine was started anew")
        p.run("stop", "web", "--timeout", "0s", status=0)
        p.run("start", "web", "--wait", "started", status=0)
        wait_until(lambda: lab.outside.ask("tcp", HOST4, 9090), 60, "its port after a new start")
        checks.answer(lab.outside.ask("tcp", HOST4, PORT), None, "a port that was taken away, after a new start")
    checks.end()


def the_address_is_known_at_once(lab):
    checks = Checks()
    with NetPlace() as p:
        began = time.monotonic()
        done = p.run("run", p.image, "--name", "web", "--memory", "128MiB", "-d", "--wait", "started", "--json", "-p", "auto:7/both", status=0)
        took = time.monotonic() - began
        view = json.loads(done.stdout)
        nic = view["nics"][0]
        checks.that(nic["ip4"] and nic["ip6"] and nic["network"] == "default", f"nics: {nic}")
        checks.that(all(f["host_port"] for f in view["forwards"]), f"forwards: {view['forwards']}")
        checks.that("tiny: ready" not in p.console("web"), f"the guest was waited for ({took:.1f} s)")
        table = p.run("ps", status=0).stdout
        checks.that(nic["ip4"] in table, f"ps: {table}")
        shown = p.run("show", "web", status=0).stdout
        checks.that(nic["ip4"] in shown and nic["ip6"] in shown and str(view["forwards"][0]["host_port"]) in shown, f"show: {shown}")
        p.wait_ready("web")
        for host in (nic["ip4"], nic["ip6"]):
            wait_until(lambda: ask("tcp", host, GUEST_PORT), 30, f"{host} answers")
        port = view["forwards"][0]["host_port"]
        checks.that(lab.outside.ask("tcp", HOST4, port), f"port {port} from outside")
        first = nic["ip4"]
        p.run("stop", "web", "--timeout", "0s", status=0)
        p.run("start", "web", "--wait", "started", status=0)
        checks.that(p.nic("web")["ip4"] == first, f"another address after a restart: {p.nic('web')}")
    checks.end()


inside([machines_reach_each_other_and_ports_work_from_everywhere, what_was_killed_or_flushed_comes_back, live_changes_need_no_restart,
        the_address_is_known_at_once])
