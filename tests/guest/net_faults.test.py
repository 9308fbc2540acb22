#!/usr/bin/env python3
"""SIGKILL and errors before and after every step that makes or removes something of a network, then `vm-run gc`: the census of links,
addresses, routes, rules, processes and files is as it was. And a thousand times nothing is left.

Runs the build with failpoints, in a network namespace of its own. The disk boots nothing: what is tested is ours, not the guest's.
"""
# TIMEOUT 1700
import os
import shutil
import sys
import time

sys.path.insert(0, os.path.join(os.environ["SOURCE_DIR"], "tests", "lib"))
from netlab import NetPlace, command, difference, expect, inside, ip_json, take
from vmrun import Failure

FAULTY = os.path.join(os.environ["FAULT_BUILD_DIR"], "vm-run")
STEPS = ["directory", "lease", "disk", "seed", "run-dir", "network", "filter", "tap", "define", "boot", "watch"]
MIDDLES = ["directory.mid", "member.taken", "member.record", "member.dnsmasq", "member.up", "network.mark", "network.rules",
           "network.bridge", "network.hooks", "network.files", "network.supervisor", "network.ready", "network.mid", "filter.mid",
           "tap.persist", "tap.mid"]
END_MIDDLES = ["undo-filter.mid", "member.drop", "network.gone", "network.end-supervisor", "network.end-files", "network.end-rules",
               "network.end-mark"]
CYCLES = int(os.environ.get("NET_CYCLES", "100"))


class Faulty(NetPlace):
    def __init__(self, network):
        super().__init__(vm_run=FAULTY)
        self.network_name = network
        self.image = os.path.join(self.root, "empty.raw")
        with open(self.image, "wb") as file:
            file.truncate(16 << 20)

    def begin(self, fault="", name="m"):
        return self.run("run", self.image, "--name", name, "--memory", "64MiB", "-d", "--wait", "started", "--network", self.network_name,
                        "-p", "8080:80", "-p", "8081:81/udp", env={"VM_FAILPOINTS": fault})

    def settle(self):
        """The starter works on after its asker was killed: bounded wait."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and [line for line in command("ps", "-eo", "args").splitlines()
                                               if "internal-" in line and self.root in line]:
            time.sleep(0.05)


def cell(p, title, action, before, failed):
    try:
        action()
        p.settle()
        done = p.run("gc")
        if done.returncode != 0:
            raise Failure(f"gc ended with {done.returncode}: {done.stdout}{done.stderr}")
        end = time.monotonic() + 5
        lines = difference(before, take(p))
        while lines and time.monotonic() < end:
            time.sleep(0.05)
            lines = difference(before, take(p))
        if lines:
            raise Failure("left behind: " + "; ".join(lines[:8]))
        print(f"  ok   {title}", flush=True)
    except (Failure, OSError, ValueError) as problem:
        failed.append(title)
        print(f"  FAIL {title}: {problem}", flush=True)
        p.run("rm", "--force", "m")
        p.run("gc")


def must_fail(p, fault):
    done = p.begin(fault)
    if done.returncode == 0:
        raise Failure(f"'{fault}' was not noticed")


def end_with(p, fault):
    done = p.begin()
    if done.returncode != 0:
        raise Failure(f"start: {done.stderr}")
    p.run("rm", "--force", "m", env={"VM_FAILPOINTS": fault})
    p.run("rm", "--force", "m")


def every_cell(p, before):
    failed = []
    for step in STEPS:
        for when in ("before", "after"):
            cell(p, f"start: kill {when} {step}", lambda: must_fail(p, f"{step}.{when}=kill"), before, failed)
            cell(p, f"start: {step} fails {when} (ENOSPC)", lambda: must_fail(p, f"{step}.{when}=errno:28"), before, failed)
    for point in MIDDLES:
        cell(p, f"start: kill in the middle: {point}", lambda: must_fail(p, f"{point}=kill"), before, failed)
    for step in reversed(STEPS):
        for when in ("before", "after"):
            cell(p, f"end: kill {when} {step}", lambda: end_with(p, f"undo-{step}.{when}=kill"), before, failed)
    for point in END_MIDDLES:
        cell(p, f"end: kill in the middle: {point}", lambda: end_with(p, f"{point}=kill"), before, failed)
    for step in STEPS:
        cell(p, f"rollback: kill {step} while undoing", lambda: must_fail(p, f"watch.after=errno:5,undo-{step}.before=kill"), before, failed)
    expect(not failed, f"{len(failed)} cells failed: {', '.join(failed[:5])}")


def warm(p):
    """Once through: caches of the embedded driver, folders, base rules and switches that stay are no leftovers."""
    done = p.begin()
    expect(done.returncode == 0, done.stderr)
    p.run("rm", "--force", "m", status=0)
    p.run("gc", status=0)


def killed_at_each_step_of_a_network_of_its_own(lab):
    del lab
    with Faulty("default") as p:
        warm(p)
        every_cell(p, take(p))
        expect(not [link for link in ip_json("link", "show") if link["ifname"].startswith("vm")], "links of ours are left")


def killed_at_each_step_on_a_kept_network(lab):
    del lab
    with Faulty("lab") as p:
        p.run("network", "add", "lab", "--cidr", "10.77.0.0/24", "--cidr6", "fd77::/64", status=0)
        warm(p)
        every_cell(p, take(p))


def a_missing_part_is_named_and_nothing_is_left(lab):
    del lab
    with Faulty("default") as p:
        warm(p)
        before = take(p)
        build, parts = os.path.dirname(FAULTY), os.path.join(p.root, "bin")
        for missing in ("vm-run-net", "vm-run-nft.so"):
            shutil.rmtree(parts, ignore_errors=True)
            shutil.copytree(build, parts, ignore=lambda _, names: [n for n in names if not n.startswith("vm-run") or n == missing])
            p.vm_run = os.path.join(parts, "vm-run")
            done = p.begin()
            p.vm_run = FAULTY
            expect(done.returncode in (4, 5) and missing in done.stderr, f"without {missing}: exit {done.returncode}: {done.stderr}")
            expect(not p.names(), f"without {missing}: left {p.names()}")
            lines = difference(before, take(p))
            expect(not lines, f"without {missing}: {lines[:6]}")


def many_times_leave_nothing(lab):
    del lab
    with Faulty("default") as p:
        warm(p)
        before = take(p)
        for i in range(CYCLES):
            done = p.begin(name=f"m{i}")
            expect(done.returncode == 0, f"cycle {i}: {done.stderr}")
            p.run("rm", "--force", f"m{i}", status=0)
        p.settle()
        p.run("gc", status=0)
        lines = difference(before, take(p))
        expect(not lines, f"after {CYCLES} cycles: {lines[:8]}")


if not os.path.exists(FAULTY):
    sys.exit(f"no {FAULTY}: built by the test build-faults")
inside([killed_at_each_step_of_a_network_of_its_own, killed_at_each_step_on_a_kept_network,
        a_missing_part_is_named_and_nothing_is_left, many_times_leave_nothing])
