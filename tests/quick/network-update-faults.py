#!/usr/bin/env python3
"""Live changes of a machine's network: ports, egress, cable, limits; three times the same, refused ones, and ones that
were cut off. No guest boots: its disk is empty.

Runs the build with failpoints in a laboratory of its own.
"""
# TIMEOUT 600
import concurrent.futures
import difflib
import json
import os
import re
import socket
import sys

sys.path.insert(0, os.path.join(os.environ["SOURCE_DIR"], "tests", "lib"))
import netlab
from netlab import Failure, NetPlace, command, expect, ip, wait_until

NAME = "live"


class Bench(NetPlace):
    def __init__(self):
        super().__init__(vm_run=os.path.join(os.environ["FAULT_BUILD_DIR"], "vm-run"))
        self.disk = os.path.join(self.root, "empty.raw")
        with open(self.disk, "wb") as file:
            file.truncate(16 << 20)

    def begin(self, *argv, name=NAME, status=0):
        return self.run("run", self.disk, "--name", name, "--memory", "64MiB", "-d", "--wait", "started", *argv, status=status)

    def update(self, *argv, status=0, fault=""):
        return self.run("update", NAME, *argv, status=status, env={"VM_FAILPOINTS": fault})

    def ports(self, name=NAME):
        return sorted((f["proto"], f["host_port"], f["guest_port"]) for f in self.show(name)["forwards"])

    def check(self, network="default"):
        done = self.run("network", "check", network)
        expect(done.returncode == 0, f"network check: {done.stdout}{done.stderr}")

    def tap(self, nic=0):
        return self.nic(NAME, nic)["tap"]


def maps():
    """Port maps of IPv4 as nf_tables has them: {(proto, host port): guest's port}; without a network there is no table."""
    text = command("nft", "-j", "list", "map", "inet", "vm_driver", "pm4any", check=False) or '{"nftables": []}'
    found = {}
    for item in json.loads(text)["nftables"]:
        for key, value in item.get("map", {}).get("elem", []):
            key = key["elem"]["val"] if "elem" in key else key
            found[tuple(key["concat"])] = value["concat"][1]
    return found



def listens(host, port):
    try:
        socket.create_connection((host, port), timeout=2).close()
        return True
    except OSError:
        return False


def ports_live(lab):
    del lab
    netlab.set_sysctl("net.bridge.bridge-nf-call-ip6tables", "0")  # else ::1 gets no answer, which check says
    with Bench() as bench:
        bench.begin("-p", "8080:80", "-p", "auto:443")
        auto = [host for _, host, guest in bench.ports() if guest == 443][0]
        bench.update("-p", "9000-9002:7000-7002/udp", "-p", "8081:81")
        expect(bench.ports() == sorted([("tcp", 8080, 80), ("tcp", auto, 443), ("tcp", 8081, 81)]
                                       + [("udp", 9000 + i, 7000 + i) for i in range(3)]), f"added: {bench.ports()}")
        expect(maps() == {("tcp", 8080): 80, ("tcp", auto): 443, ("tcp", 8081): 81, ("udp", 9000): 7000, ("udp", 9001): 7001,
                          ("udp", 9002): 7002}, f"in nf_tables: {maps()}")
        bench.check()
        rules = command("nft", "list", "ruleset")
        for _ in range(2):
            done = bench.update("-p", "8081:81")
            expect(command("nft", "list", "ruleset") == rules, "the same again changes no rule")
        expect(done.returncode == 0, "the same again is fine")
        bench.update("--unpublish", "all", "-p", "auto:443")
        expect(bench.ports() == [("tcp", auto, 443)], f"the port that was chosen stays: {bench.ports()}")
        expect(maps() == {("tcp", auto): 443}, f"others are gone: {maps()}")
        bench.check()
        bench.begin("-p", "7777:7", name="other")
        done = bench.update("-p", "7777:9", "-p", "7778:9", status=None)
        expect(done.returncode != 0 and "other" in done.stderr, f"taken by another machine, and which: {done.stderr}")
        expect(bench.ports() == [("tcp", auto, 443)], "a refused change changes nothing")
        expect(sorted(maps()) == sorted([("tcp", auto), ("tcp", 7777)]), f"nor in nf_tables: {maps()}")
        bench.run("rm", "--force", "other", status=0)
        expect("change" in [event["type"] for event in bench.events(NAME)], "it is an event")
        bench.run("stop", "--force", NAME, status=0)
        expect(maps() == {}, f"stopped: no ports: {maps()}")
        bench.update("-p", "8090:90")
        expect(maps() == {}, "a stopped machine has none")
        bench.run("start", NAME, "--wait", "started", status=0)
        expect([p for p in bench.ports() if p[2] == 90] == [("tcp", 8090, 90)], f"its next start has it: {bench.ports()}")
        bench.check()


def user_ports(lab):
    del lab
    netlab.set_sysctl("net.bridge.bridge-nf-call-ip6tables", "0")  # else ::1 gets no answer, which check says
    with Bench() as bench:
        bench.begin("--network", "user", "-p", "8080:80")
        ssh = [host for _, host, guest in bench.ports() if guest == 22][0]
        expect(listens("127.0.0.1", 8080), "QEMU listens")
        bench.update("--unpublish", "8080:80", "-p", "8181:80", "-p", "auto:443")
        auto = [host for _, host, guest in bench.ports() if guest == 443][0]
        expect(not listens("127.0.0.1", 8080), "the old port is closed")
        expect(listens("127.0.0.1", 8181) and listens("127.0.0.1", auto), "the new ones are open")
        expect(listens("127.0.0.1", ssh), "that of ssh stays")
        with socket.create_server(("127.0.0.1", 8282)):
            done = bench.update("-p", "8383:80", "-p", "8282:80", status=None)
        expect(done.returncode != 0 and "8282" in done.stderr, f"a taken port is named: {done.stderr}")
        expect(not listens("127.0.0.1", 8383), "then none is open")
        bench.begin("--network", "user", "-p", "auto:80", "-p", "auto:81", "--port-range", "24100-24109", name="range")
        chosen = {host for _, host, guest in bench.ports("range") if guest != 22}
        expect(len(chosen) == 2 and all(24100 <= port <= 24109 for port in chosen), f"from its own range: {chosen}")
        bench.update("--unpublish", "all")
        expect(bench.ports() == [("tcp", ssh, 22)] and not listens("127.0.0.1", 8181), f"all are closed: {bench.ports()}")


def egress_live(lab):
    del lab
    netlab.set_sysctl("net.bridge.bridge-nf-call-ip6tables", "0")  # else ::1 gets no answer, which check says
    with Bench() as bench:
        bench.begin()
        open_rules = command("nft", "list", "ruleset")
        bench.update("--hermetic")
        closed = command("nft", "list", "ruleset")
        expect(closed != open_rules, "a policy is rules")
        bench.check()
        bench.update("--hermetic")
        expect(command("nft", "list", "ruleset") == closed, "the same again changes no rule")
        bench.update("--egress-allow", "192.0.2.0/24:443/tcp", "--egress-default", "deny")
        bench.check()
        bench.update("--egress-default", "allow")
        expect(command("nft", "list", "ruleset") == open_rules, "lifted: as before")
        bench.check()


def link_and_rates(lab):
    del lab
    netlab.set_sysctl("net.bridge.bridge-nf-call-ip6tables", "0")  # else ::1 gets no answer, which check says
    with Bench() as bench:
        bench.begin()
        tap = bench.tap()

        def is_up():
            return "UP" in netlab.ip_json("link", "show", tap)[0]["flags"]
        expect(is_up(), "plugged in")
        for _ in range(3):
            bench.update("--link", "down")
        expect(not is_up(), "unplugged")
        expect(bench.nic(NAME)["link"] == "down", "show says so")
        bench.check()
        bench.update("--link", "up")
        expect(is_up(), "plugged in again")
        for _ in range(2):
            bench.update("--rate-in", "20Mbit", "--rate-out", "10Mbit")
        links = [link["ifname"] for link in netlab.ip_json("link", "show")]
        expect("vmo" + tap[3:] in links and "vmi" + tap[3:] in links, f"both directions have their own: {links}")
        bench.check()
        bench.update("--rate-in", "none", "--rate-out", "none")
        links = [link["ifname"] for link in netlab.ip_json("link", "show")]
        expect("vmo" + tap[3:] not in links and "vmi" + tap[3:] not in links, f"nothing is left of it: {links}")
        bench.check()


def at_once(lab):
    """Each adds a port to what it found; none is lost."""
    del lab
    with Bench() as bench:
        bench.begin()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: bench.update("-p", f"{9100 + i}:{100 + i}"), range(8)))
        expect(bench.ports() == [("tcp", 9100 + i, 100 + i) for i in range(8)], f"all are there: {bench.ports()}")
        expect(len(maps()) == 8, f"in nf_tables too: {maps()}")


def cut_off(lab):
    del lab
    netlab.set_sysctl("net.bridge.bridge-nf-call-ip6tables", "0")  # else ::1 gets no answer, which check says
    with Bench() as bench:
        bench.begin("-p", "8080:80", "-p", "auto:443")
        before, rules = bench.ports(), maps()
        for fault in ("update.before=kill", "update.mid=kill", "update.after=kill", "update.after=errno:28"):
            done = bench.update("--unpublish", "8080:80", "-p", "8181:80", "--hermetic", "--rate-in", "20Mbit", "--link", "down",
                                status=None, fault=fault)
            expect(done.returncode != 0, f"{fault}: it fails")
            bench.run("gc", status=0)
            expect(bench.ports() == before and maps() == rules, f"{fault}: as before: {bench.ports()} {maps()}")
            expect(bench.nic(NAME)["link"] == "up", f"{fault}: plugged in")
            bench.check()
            expect(bench.show(NAME)["status"] == "running", f"{fault}: it runs")
        bench.update("--unpublish", "8080:80", "-p", "8181:80")
        bench.update("-p", "8282:82", status=None, fault="update.mid=kill")
        bench.run("stop", "--force", NAME, status=0)
        expect(maps() == {}, f"cut off, then stopped: {maps()}")
        bench.run("start", NAME, "--wait", "started", status=0)
        expect(("tcp", 8181, 80) in bench.ports(), f"what was changed stays: {bench.ports()}")


def plain(item):
    """One object of nft -j, without what differs from time to time: handles, orders, what the kernel learns by itself."""
    (kind, body), = item.items()
    body = {key: value for key, value in body.items() if key != "handle"} if isinstance(body, dict) else body
    if kind in ("set", "map"):
        body["elem"] = [] if "timeout" in body else sorted(json.dumps(one, sort_keys=True) for one in body.get("elem", []))
    return f"{kind} {json.dumps(body, sort_keys=True)}"


def ruleset():
    return "\n".join(sorted(plain(item) for item in json.loads(command("nft", "-j", "-s", "list", "ruleset"))["nftables"]))


def expect_rules(wanted, what):
    now = ruleset()
    expect(now == wanted, what + ":\n" + "\n".join(difflib.unified_diff(wanted.splitlines(), now.splitlines(), lineterm="", n=1)))


def network_live(lab):
    """The network's own policy, for all its machines at once, also when it is cut off at each place."""
    del lab
    netlab.set_sysctl("net.bridge.bridge-nf-call-ip6tables", "0")  # else ::1 gets no answer, which check says
    with Bench() as bench:
        def change(*argv, status=0, fault=""):
            return bench.run("network", "update", "default", *argv, status=status, env={"VM_FAILPOINTS": fault})

        def shown():
            return json.loads(bench.run("network", "show", "default", "--json", status=0).stdout)["egress"]

        for name in ("one", "two", "down"):
            bench.begin("--restricted", name=name) if name == "two" else bench.begin(name=name)
        bench.run("stop", "--force", "down", status=0)
        before = ruleset()
        change("--egress-allow", "192.0.2.0/24:443/tcp", "--egress-default", "deny")
        closed = ruleset()
        expect(closed.count('"right": 443') > before.count('"right": 443'), "a policy is rules")
        expect(shown()["default"] == "deny" and shown()["allow"] == ["192.0.2.0/24:443/tcp"], f"it is shown: {shown()}")
        bench.check()
        for _ in range(2):
            change("--egress-allow", "192.0.2.0/24:443/tcp", "--egress-default", "deny")
            expect_rules(closed, "the same again changes no rule")
        bench.run("start", "down", "--wait", "started", status=0)
        bench.check()
        with_down = ruleset()
        expect(with_down.count('"right": 443') > closed.count('"right": 443'), "who starts later has it, too")
        change("--egress-allow", "192.0.2.0/24:80/tcp", status=None, fault="network-egress.rules=errno:28")
        expect_rules(with_down, "refused: as it was")
        bench.check()
        for fault in ("record", "member", "member#2", "rules"):
            change("--hermetic", status=None, fault=f"network-egress.{fault}=kill")
            expect(shown()["hermetic"], f"{fault}: what is wanted is known")
            bench.run("network", "check", "--fix", "default", status=0)
            bench.check()
            hermetic = ruleset()
            change("--hermetic")
            expect_rules(hermetic, f"{fault}: the check went on to its end")
            change("--egress-allow", "192.0.2.0/24:443/tcp", "--egress-default", "deny")
            expect_rules(with_down, f"{fault}: and back")
        change("--egress-default", "allow")
        bench.run("stop", "--force", "down", status=0)
        expect_rules(before, "lifted: as before")
        network_refused(bench, change)
        bench.check()


def network_refused(bench, change):
    before = ruleset()
    for argv, status, said in ((["--egress-allow", "192.0.2.0/33"], 3, "192.0.2.0/33"), ([], 2, "nothing to change"),
                               (["-f", "/nowhere.yaml", "--hermetic"], 2, "not both"), (["-f", "/nowhere.yaml"], 5, "/nowhere.yaml")):
        done = change(*argv, status=None)
        expect(done.returncode == status and said in done.stderr and done.stderr.count("\n") == 1, f"{argv}: {done}")
    lost = bench.run("network", "update", "defualt", "--hermetic", status=5)
    expect("did you mean 'default'" in lost.stderr, f"no such network: {lost.stderr}")
    path = os.path.join(bench.root, "nets.yaml")
    with open(path, "w") as file:
        file.write("version: 1\nname: t\nnetworks:\n  default: {domain: other.test, egress: {hermetic: true}}\nvms: {w: {image: ./x}}\n")
    differs = change("-f", path, status=6)
    expect("with domain 'none', not 'other.test'" in differs.stderr, f"a file that differs elsewhere: {differs.stderr}")
    expect_rules(before, "what was refused changed nothing")
    with open(path, "w") as file:
        file.write("version: 1\nname: t\nnetworks:\n  default: {egress: {restricted: true}}\nvms: {w: {image: ./x}}\n")
    change("-f", path)
    expect(ruleset() != before, "by a file")
    change("--egress-default", "allow")
    expect_rules(before, "and lifted")


netlab.inside([ports_live, user_ports, egress_live, network_live, link_and_rates, at_once, cut_off])
