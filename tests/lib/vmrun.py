"""Runs the built vm-run in a state directory of its own; what the guest tests share."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

import census

BUILD = os.environ["BUILD_DIR"]
SOURCE = os.environ["SOURCE_DIR"]
VM_RUN = os.path.join(BUILD, "vm-run")


def need(guest):
    """Path of the cached guest image; it is built when it is missing."""
    return subprocess.run([os.path.join(SOURCE, "tests", "guest", "need"), guest], check=True, capture_output=True,
                          text=True).stdout.strip()


class Failure(AssertionError):
    pass


def expect(is_true, what):
    if not is_true:
        raise Failure(what)


def wait_until(condition, limit_s, what):
    """Waits for something that sends no event to us; bounded. Gives the seconds it took."""
    began = time.monotonic()
    while time.monotonic() - began < limit_s:
        if condition():
            return time.monotonic() - began
        time.sleep(0.01)
    raise Failure(f"not within {limit_s} s: {what}")


class Place:
    """A temporary folder with a state directory; `with` removes all of it and says what was left."""

    def __init__(self, vm_run=VM_RUN, connect=None):
        self.vm_run = vm_run
        self.root = tempfile.mkdtemp(prefix="vm-run-test.", dir="/var/tmp")
        os.chmod(self.root, 0o711)
        self.state = os.path.join(self.root, "state")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("VM_RUN_", "LIBVIRT_"))}
        self.env["VM_RUN_STATE_DIR"] = self.state
        self.env["VM_RUN_NETWORK"] = "user"  # links only where a test asks for them: netlab.py
        self.env["VM_RUN_URI"] = connect or f"qemu:///embed?root={self.state}/libvirt"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for name in self.names():
            self.run("rm", "--force", name)
        self.run("gc")
        shutil.rmtree(self.root, ignore_errors=True)

    def names(self):
        folder = os.path.join(self.state, "machines")
        return [n for n in os.listdir(folder) if not n.startswith(".")] if os.path.isdir(folder) else []

    def spawn(self, *argv, **kwargs):
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen([self.vm_run, *argv], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True, **kwargs)

    def run(self, *argv, status=None, limit_s=240, env=None):
        done = subprocess.run([self.vm_run, *argv], env=dict(self.env, **(env or {})), capture_output=True, text=True,
                              timeout=limit_s, stdin=subprocess.DEVNULL)
        if status is not None and done.returncode != status:
            raise Failure(f"vm-run {' '.join(argv)}: exit {done.returncode}, expected {status}\n{done.stdout}{done.stderr}")
        return done

    def show(self, name):
        return json.loads(self.run("show", name, "--json", status=0).stdout)

    def events(self, name):
        with open(os.path.join(self.state, "machines", name, "events.jsonl")) as file:
            return [json.loads(line) for line in file]

    def take(self, machines):
        return census.take([self.root], machines, skip=[f"{self.state}/libvirt", f"{self.state}/libvirt.lock"])


def main(scenes):
    """Runs each function of the list (or those named on the command line); prints a line each and the sum."""
    failed = 0
    wanted = [s for s in scenes if s.__name__ in sys.argv[1:]] or scenes
    for scene in wanted:
        began = time.monotonic()
        try:
            scene()
            print(f"ok   {scene.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
        except (AssertionError, subprocess.SubprocessError, OSError, KeyError, ValueError) as problem:
            failed += 1
            print(f"FAIL {scene.__name__} ({time.monotonic() - began:.1f} s): {problem}", flush=True)
    print(f"{len(wanted) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
