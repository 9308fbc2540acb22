#!/usr/bin/env python3
"""Installed below another folder than its own, the programs find each other and their parts: a network goes up,
its supervisor mends what somebody flushed, and nothing of it stays."""
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import time

CLONE_NEWNET = 0x40000000
BUILD = os.environ["BUILD_DIR"]


def run(*argv, ok=True):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    if ok and done.returncode != 0:
        sys.exit(f"{' '.join(argv)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def find(folder, name):
    for at, _, files in os.walk(folder):
        if name in files and os.path.basename(at) == "bin":
            return os.path.join(at, name)
    sys.exit(f"'{name}' was not installed below '{folder}'")


def check(vm_run):
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        print("skipped: no network namespace of our own (needs root)")
        sys.exit(77)
    run("ip", "link", "set", "lo", "up")
    before = run("ip", "-br", "link").stdout
    run(*vm_run, "network", "add", "lab")
    for name in ("flush", "delete"):
        run("nft", *(["flush", "ruleset"] if name == "flush" else ["delete", "table", "inet", "vm_driver"]))
        end = time.monotonic() + 10
        while run(*vm_run, "network", "check", "lab", ok=False).returncode != 0:
            if time.monotonic() > end:
                sys.exit("the supervisor did not put the rules back within 10 s")
            time.sleep(0.01)
    run(*vm_run, "network", "rm", "lab")
    if run("ip", "-br", "link").stdout != before:
        sys.exit("links are left")


def main():
    place = tempfile.mkdtemp(prefix="vm-run-installed-")
    try:
        os.chmod(place, 0o711)
        root, state = os.path.join(place, "root"), os.path.join(place, "state")
        subprocess.run(["cmake", "--install", BUILD], check=True, stdout=subprocess.DEVNULL,
                       env={**os.environ, "DESTDIR": root})
        check([find(root, "vm-run"), "--state-dir", state])
    finally:
        shutil.rmtree(place)


main()
