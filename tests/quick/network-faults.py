#!/usr/bin/env python3
"""SIGKILL and errors before, amid and after every step of a machine's network, both ways, then `vm-run gc`: links, rules,
leases, processes and files are as they were.

Runs the build with failpoints in a laboratory of its own. The machine has a NIC on a network that comes and goes with it one
on a bridge of somebody else's and one on a link, ports and limits; its disk boots nothing.
"""
# TIMEOUT 900
import os
import sys

sys.path.insert(0, os.path.join(os.environ["SOURCE_DIR"], "tests", "lib"))
import netlab
from netlab import Failure, NetPlace, command, ip, wait_until

FAULTS = os.environ["FAULT_BUILD_DIR"]
NAME = "fault"
STEPS = ["lease", "network", "filter", "tap"]
MIDDLE = ["network.mid", "filter.mid", "tap.mid"]
SPEC = """
version: 1
name: faults
networks:
  lab: {mode: nat, cidr: 10.77.0.0/24, cidr6: "fd00:77::/64"}
vms:
  fault:
    image: %s
    memory: 64MiB
    networks:
      - {network: lab, rate_in: 100Mbit, rate_out: 10Mbit}
      - {bridge: br9, ip: 192.0.2.77}
      - {macvtap: port9}
    ports: ["8080:80", "auto:443/both"]
    egress: {restricted: true}
"""


class Bench(NetPlace):
    def __init__(self):
        super().__init__(vm_run=os.path.join(FAULTS, "vm-run"))
        self.spec = os.path.join(self.root, "spec.yaml")
        disk = os.path.join(self.root, "empty.raw")
        with open(disk, "wb") as file:
            file.truncate(16 << 20)
        with open(self.spec, "w") as file:
            file.write(SPEC % disk)
        self.failed, self.n_cells = [], 0

    def fault(self, *argv, fault, is_ok=None):
        done = self.run(*argv, env={"VM_FAILPOINTS": fault}, limit_s=90)
        if is_ok is not None and (done.returncode == 0) != is_ok:
            raise Failure(f"{argv[0]} with '{fault}' ended with {done.returncode}: {done.stderr.strip()}")

    def begin(self, fault="", is_ok=False):
        self.fault("run", "-f", self.spec, "-d", "--wait", "started", fault=fault, is_ok=is_ok)

    def end(self, fault):
        self.begin(is_ok=True)
        self.fault("rm", "--force", NAME, fault=fault)

    def stop(self, fault):
        self.begin(is_ok=True)
        self.fault("stop", "--force", NAME, fault=fault)  # or the watcher's end command was first
        self.run("start", NAME, "--wait", "started", limit_s=90, status=0)

    def tidy(self):
        """The starter works on after its asker was killed; then what is there is removed as anybody would."""
        wait_until(lambda: not [p for p in netlab._processes_here() if "internal-" in p and "vm-run-watch" not in p], 30,
                   "nobody works on it")
        done = self.run("gc")
        if done.returncode != 0:
            raise Failure(f"gc ended with {done.returncode}: {done.stdout}{done.stderr}")

    def cell(self, title, action, *argv):
        self.n_cells += 1
        before = netlab.take(self, sysctls=False)
        try:
            action(*argv)
            self.tidy()
            if self.names():
                self.run("rm", "--force", NAME, status=0)
            netlab.expect_same(before, self, title, sysctls=False)
            print(f"ok   {title}", flush=True)
        except Failure as problem:
            print(f"FAIL {title}: {problem}", flush=True)
            self.failed.append(title)
            self.run("rm", "--force", NAME)
            self.run("gc")


def faults(lab):
    del lab
    ip("link", "add", "br9", "type", "bridge")
    ip("link", "set", "br9", "up")
    ip("link", "add", "port9", "type", "veth", "peer", "name", "switch9")
    ip("link", "set", "port9", "up")
    with Bench() as bench:
        bench.begin(is_ok=True)  # warms the embedded root; the base rules stay, as forwarding does
        bench.run("rm", "--force", NAME, status=0)
        bench.tidy()
        points = [f"{step}.{when}" for step in STEPS for when in ("before", "after")] + MIDDLE
        for point in points:
            bench.cell(f"start: killed at {point}", bench.begin, f"{point}=kill")
        for step in STEPS:
            for when in ("before", "after"):
                bench.cell(f"start: {step} fails {when}", bench.begin, f"{step}.{when}=errno:28")
        for step in STEPS:
            for when in ("before", "after"):
                bench.cell(f"end: killed {when} {step}", bench.end, f"undo-{step}.{when}=kill")
        bench.cell("end: killed amid filter", bench.end, "undo-filter.mid=kill")
        for step in STEPS[1:]:
            bench.cell(f"stop: killed before {step}, then started", bench.stop, f"undo-{step}.before=kill")
        for step in STEPS:
            bench.cell(f"rollback: killed at {step}", bench.begin, f"watch.after=errno:5,undo-{step}.before=kill")
        print(f"{bench.n_cells - len(bench.failed)} of {bench.n_cells} cells", flush=True)
        if bench.failed:
            raise Failure(f"{len(bench.failed)} failed: {', '.join(bench.failed)}")


netlab.inside([faults])
