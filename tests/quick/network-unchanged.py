#!/usr/bin/env python3
"""What is as it should be is not written again: with a machine running, every operation that may be repeated is done three times
while the kernel tells of every change of links, addresses, routes and rules. It must tell of none. (Of queues it tells reads as
well: their handles must stay.)
"""
# TIMEOUT 300
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.environ["SOURCE_DIR"], "tests", "lib"))
from netlab import Checks, NetPlace, command, inside, ip, wait_until

SPEC = """
version: 1
name: unchanged
networks:
  lab: {mode: nat, cidr: 10.77.0.0/24, cidr6: "fd00:77::/64"}
vms:
  m:
    image: %s
    memory: 64MiB
    networks:
      - {network: lab, rate_in: 100Mbit, rate_out: 10Mbit}
      - {bridge: br9, ip: 192.0.2.77}
    ports: ["8080:80", "8443:443/both"]
    egress: {restricted: true, deny: ["198.51.100.0/24:25/tcp"]}
"""


class Monitors:
    """What the kernel tells; `with` gives it as lines. A change of our own first and last shows that they listen."""
    COMMANDS = (["nft", "monitor"], ["ip", "-o", "monitor", "link", "address", "route"])

    def __init__(self, folder):
        self.files = [open(os.path.join(folder, argv[0]), "w+") for argv in self.COMMANDS]
        self.lines = None

    def _told(self):
        told = []
        for file in self.files:
            file.flush()
            with open(file.name) as again:
                told.append(again.read())
        return told

    def _mark(self, name):
        """A change that each of them tells; waits until they have."""
        command("nft", "add", "table", "inet", name)
        ip("link", "add", name, "type", "veth", "peer", "name", f"{name}p")
        wait_until(lambda: all(name in told for told in self._told()), 30, f"the monitors tell of {name}")

    def __enter__(self):
        self.children = [subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *argv], stdout=file, stderr=subprocess.STDOUT)
                         for argv, file in zip(self.COMMANDS, self.files)]
        time.sleep(0.3)  # until they listen; the mark proves it
        self._mark("begin0")
        self.skip = [len(told) for told in self._told()]
        return self

    def __exit__(self, *_):
        self._mark("final0")
        told = [text[n:] for text, n in zip(self._told(), self.skip)]
        for child in self.children:
            child.kill()
            child.wait()
        self.lines = [line for text in told for line in text.splitlines()
                      if line.strip() and not any(mark in line for mark in ("final0", "begin0", "# new generation"))]


def queues_of_ours():
    return "\n".join(line for line in command("tc", "qdisc", "show").splitlines() if " vm" in line)


def repeated_operations_change_nothing(lab):
    del lab
    ip("link", "add", "br9", "type", "bridge")
    ip("addr", "add", "192.0.2.1/24", "dev", "br9")
    ip("link", "set", "br9", "up")
    checks = Checks()
    with NetPlace() as p:
        disk, spec = os.path.join(p.root, "empty.raw"), os.path.join(p.root, "spec.yaml")
        with open(disk, "wb") as file:
            file.truncate(16 << 20)
        with open(spec, "w") as file:
            file.write(SPEC % disk)
        kept = ["network", "add", "kept", "--cidr", "10.78.0.0/24", "--cidr6", "fd78::/64", "--domain", "kept.test"]
        p.run(*kept, status=0)
        p.run("run", "-f", spec, "-d", "--wait", "started", status=0)
        time.sleep(1)  # router advertisements and the kernel's own addresses
        repeated = ["update", "--egress-deny", "198.51.100.0/24:25/tcp", "--restricted", "m"]
        operations = [
            kept, ["network", "ls"], ["network", "show", "lab"], ["network", "check"], ["network", "check", "--fix"], ["gc"], ["gc", "--dry-run"],
            ["ps"], ["show", "m"], ["doctor"], repeated,
            ["update", "--link", "up", "m"], ["update", "--rate-in", "100Mbit", "--rate-out", "10Mbit", "m"],
        ]
        queues = queues_of_ours()
        checks.that("tbf" in queues, f"no limits: {queues}")
        for operation in operations:
            with Monitors(p.root) as monitors:
                for _ in range(3):
                    done = p.run(*operation)
                    checks.that(done.returncode == 0 or operation == ["doctor"], f"{operation}: exit {done.returncode}: {done.stderr}")
            checks.that(not monitors.lines, f"{' '.join(operation)} changed: {monitors.lines[:6]}")
            checks.that(queues_of_ours() == queues, f"{' '.join(operation)} changed queues: {queues_of_ours()}")
            for name in ("begin0", "final0"):
                command("nft", "delete", "table", "inet", name)
                ip("link", "del", name)
    checks.end()


inside([repeated_operations_change_nothing])
