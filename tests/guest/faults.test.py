#!/usr/bin/env python3
"""SIGKILL and errors before and after every step of start and end, then `vm-run gc`: the census is as it was.

Runs the build with failpoints. One machine at a time, embedded driver, a disk that
boots nothing: what is tested is ours, not the guest's.
"""
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.environ["SOURCE_DIR"], "tests", "lib"))
import census

VM_RUN = os.path.join(os.environ["FAULT_BUILD_DIR"], "vm-run")
STEPS = ["directory", "disk", "seed", "run-dir", "define", "boot", "forward", "watch"]
LIMIT_S = 60
NAME = f"fault-{os.getpid()}"


class Bench:
    def __init__(self):
        self.root = tempfile.mkdtemp(prefix="vm-run-faults.", dir="/var/tmp")
        os.chmod(self.root, 0o711)
        self.state = os.path.join(self.root, "state")
        self.image = os.path.join(self.root, "empty.raw")
        with open(self.image, "wb") as file:
            file.truncate(16 << 20)
        self.failed = []
        self.n_cells = 0

    def run(self, *argv, fault="", ok=None):
        env = dict(os.environ, VM_FAILPOINTS=fault, VM_RUN_STATE_DIR=self.state)
        env.pop("VM_RUN_URI", None)
        done = subprocess.run([VM_RUN, *argv], env=env, capture_output=True, text=True, timeout=LIMIT_S,
                              stdin=subprocess.DEVNULL)
        if ok is not None and (done.returncode == 0) != ok:
            raise AssertionError(f"{argv} with '{fault}' ended with {done.returncode}: {done.stderr.strip()}")
        return done

    def start(self, fault="", ok=None, name=NAME):
        return self.run("run", self.image, "--name", name, "--memory", "64MiB", "-d", "--wait", "started",
                        "--connect", f"qemu:///embed?root={self.state}/libvirt", fault=fault, ok=ok)

    def settle(self):
        """The starter works on after its asker was killed, and a watcher ends after its QEMU: bounded wait, no sleep for luck."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if not [p for p in census.take([self.state], [])["processes"] if "internal-" in p]:
                return
            time.sleep(0.05)

    def take(self):
        return census.take([self.root], [NAME], skip=[f"{self.state}/libvirt", f"{self.state}/libvirt.lock"])

    def cell(self, title, action):
        self.n_cells += 1
        before = self.take()
        try:
            action()
            self.settle()
            done = self.run("gc")
            if done.returncode != 0:
                raise AssertionError(f"gc ended with {done.returncode}: {done.stdout}{done.stderr}")
            lines = census.difference(before, self.take())
            if lines:
                raise AssertionError("left behind: " + "; ".join(lines[:6]))
            print(f"ok   {title}")
        except (AssertionError, subprocess.TimeoutExpired) as problem:
            print(f"FAIL {title}: {problem}")
            self.failed.append(title)
            self.run("rm", "--force", NAME)
            self.run("gc")


def cells(bench):
    for step in STEPS:
        for when in ("before", "after"):
            bench.cell(f"start: kill {when} {step}", lambda: bench.start(f"{step}.{when}=kill", ok=False))
            bench.cell(f"start: {step} fails {when} (ENOSPC)", lambda: bench.start(f"{step}.{when}=errno:28", ok=False))
    bench.cell("start: kill in the middle of directory", lambda: bench.start("directory.mid=kill", ok=False))
    for step in reversed(STEPS):
        for when in ("before", "after"):
            def end(fault):
                bench.start(ok=True)
                bench.run("rm", "--force", NAME, fault=fault)
                bench.run("rm", "--force", NAME)
            bench.cell(f"end: kill {when} {step}", lambda: end(f"undo-{step}.{when}=kill"))
    for step in STEPS:
        bench.cell(f"rollback: kill {step} while undoing", lambda: bench.start(f"watch.after=errno:5,undo-{step}.before=kill", ok=False))


def main():
    bench = Bench()
    try:
        bench.start(ok=True)  # warms the embedded root: its caches are no leftovers
        bench.run("rm", "--force", NAME, ok=True)
        bench.run("gc")
        image = os.stat(bench.image)
        cells(bench)
        if os.stat(bench.image).st_mtime_ns != image.st_mtime_ns or os.stat(bench.image).st_mode != image.st_mode:
            bench.failed.append("the base image changed")
    finally:
        bench.run("rm", "--force", NAME)
        bench.run("gc")
        shutil.rmtree(bench.root, ignore_errors=True)
    print(f"{bench.n_cells - len(bench.failed)} passed, {len(bench.failed)} failed")
    return 1 if bench.failed else 0


if __name__ == "__main__":
    sys.exit(main())
