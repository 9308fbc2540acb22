#!/usr/bin/env python3
"""The commands on a guest that boots: run, look, log in, stand at the console, stop, start, restart, remove, and leave nothing."""
import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time

SOURCE = os.environ["SOURCE_DIR"]
VM_RUN = os.path.join(os.environ["BUILD_DIR"], "vm-run")
BOOT_S = 300
n_failed = 0


def check(what, is_right, *shown):
    global n_failed
    if not is_right:
        n_failed += 1
        print("FAILED:", what, *shown, flush=True)


class Bench:
    def __init__(self):
        self.root = tempfile.mkdtemp(prefix="vm-run-cli.", dir="/var/tmp")
        os.chmod(self.root, 0o711)
        self.state = os.path.join(self.root, "state")
        self.env = dict(os.environ, VM_RUN_STATE_DIR=self.state, TERM="xterm")
        self.env["VM_RUN_URI"] = f"qemu:///embed?root={self.state}/libvirt"

    def run(self, *argv, text="", timeout=BOOT_S):
        return subprocess.run([VM_RUN, *argv], env=self.env, input=text, capture_output=True, text=True, timeout=timeout)

    def begin(self, *argv):
        return subprocess.Popen([VM_RUN, *argv], env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def show(self, name):
        return json.loads(self.run("show", "--json", name).stdout)

    def names(self):
        return self.run("ps", "--quiet").stdout.split()

    def leftovers(self):
        """Processes that name the state directory, and what is left of machines in it."""
        found = os.listdir(os.path.join(self.state, "machines"))
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    words = file.read().decode(errors="replace")
            except OSError:
                continue
            if self.state in words and int(pid) != os.getpid():
                found.append(words.replace("\0", " ")[:200])
        return found

    def expect_nothing_left(self, what):
        """A watcher and its end command go a moment after their machine: a bounded wait."""
        deadline = time.monotonic() + 10
        while self.leftovers() and time.monotonic() < deadline:
            time.sleep(0.1)
        check(f"{what}: nothing left", not self.leftovers(), self.leftovers())

    def close(self):
        for name in self.names():
            self.run("rm", "--force", name)
        self.expect_nothing_left("the end")
        shutil.rmtree(self.root, ignore_errors=True)


class Terminal:
    """A command at a terminal of its own; the settings can be compared afterwards."""

    def __init__(self, bench, *argv):
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(self.slave)
        self.seen = ""
        self.process = subprocess.Popen([VM_RUN, *argv], env=bench.env, stdin=self.slave, stdout=self.slave,
                                        stderr=self.slave, start_new_session=True)

    def expect(self, pattern, timeout=60):
        deadline = time.monotonic() + timeout
        is_over = False
        while not re.search(pattern, self.seen) and not is_over:
            is_over = time.monotonic() > deadline or self.process.poll() is not None
            while select_readable(self.master, 0.2):
                self.seen += os.read(self.master, 4096).decode(errors="replace")
        check(f"terminal: {pattern}", re.search(pattern, self.seen), repr(self.seen[-400:]))

    def write(self, text):
        os.write(self.master, text.encode())

    def end(self, timeout=60):
        deadline = time.monotonic() + timeout
        while self.process.poll() is None and time.monotonic() < deadline: # what is not read may block it
            if select_readable(self.master, 0.2):
                self.seen += os.read(self.master, 4096).decode(errors="replace")
        status = self.process.poll()
        check("terminal: the command ended", status is not None)
        check("terminal: settings as before", termios.tcgetattr(self.slave) == self.before)
        os.close(self.master)
        os.close(self.slave)
        return status


def select_readable(fd, timeout):
    import select
    return select.select([fd], [], [], max(0, timeout))[0]


def test_run(bench, image):
    done = bench.run("run", "-d", "--name", "web", "--memory", "256MiB", image)
    check("run: status", done.returncode == 0, done.returncode, done.stderr)
    check("run: the name on standard output", done.stdout == "web\n", done.stdout)
    lines = done.stderr.splitlines()
    for stage in ["image", "overlay", "seed", "define", "boot", "kernel", "init", "ssh", "ready"]:
        check(f"run: stage {stage}", sum(bool(re.match(rf"{stage} +\d+\.\d s$", line)) for line in lines) == 1, lines)
    check("run: no control bytes", not re.search(r"[\x00-\x09\x0b-\x1f]", done.stderr), repr(done.stderr))
    again = bench.run("run", "--name", "web", image)
    check("run of a name that exists", again.returncode == 6 and "vm-run start web" in again.stderr, again.stderr)


def test_looking(bench):
    began = time.monotonic()
    listed = bench.run("ps").stdout.splitlines()
    check("ps: time", time.monotonic() - began < 10)
    check("ps", len(listed) == 2 and re.match(r"web +running ", listed[1]), listed)
    machine = bench.show("web")
    check("show --json", machine["status"] == "running" and machine["stage"] == "ready" and machine["ssh"]["port"] > 0, machine)
    check("show", "status       running for " in bench.run("show", "web").stdout)
    spec = bench.run("show", "--spec", "web").stdout
    check("show --spec", "memory: 256MiB" in spec, spec)
    events = [json.loads(line) for line in bench.run("events", "--json", "web").stdout.splitlines()]
    check("events --json", {"start", "stage", "forward"} <= {event["type"] for event in events}, events)
    check("events", re.search(r"stage +stage=ready state=done", bench.run("events", "web").stdout))
    log = bench.run("logs", "web").stdout
    check("logs", "Linux version" in log and "\x1b" not in log, log[:300])
    tail = bench.run("logs", "--tail", "2", "web").stdout
    check("logs --tail", log.endswith(tail) and 1 <= tail.count("\n") <= 3, repr(tail))
    numbers = json.loads(bench.run("stats", "--json", "web").stdout)
    check("stats --json", any(value for value in numbers.values()), numbers)


def test_ssh(bench):
    done = bench.run("ssh", "web", "--", "sh", "-c", "cat; echo \"$0 it's\" >&2; exit 7", "a b", text="in")
    check("ssh: status", done.returncode == 7, done.returncode)
    check("ssh: output", done.stdout == "in" and done.stderr == "a b it's\n", done.stdout, done.stderr)
    check("ssh: not found", bench.run("ssh", "web", "--", "no-such-command").returncode == 127)
    check("ssh: hostname", bench.run("ssh", "web", "--", "hostname").stdout.strip() == "web")


def test_console(bench):
    person = Terminal(bench, "console", "web")
    person.expect(r"Ctrl-\] leaves it")
    second = bench.run("console", "web")
    check("console: the second one", second.returncode == 6 and "--force" in second.stderr, second.stderr)
    person.write("\r")
    person.expect(r"leaves it\r\n[\s\S]*\S")
    taker = Terminal(bench, "console", "--force", "web")
    person.expect("taken over by somebody else")
    check("console: status when taken over", person.end() == 6)
    taker.expect(r"Ctrl-\] leaves it")
    taker.write("\x1d")
    taker.expect("still runs")
    check("console: status", taker.end() == 0)


def test_ending(bench):
    check("rm of what runs", bench.run("rm", "web").returncode == 6)
    stopping = bench.begin("stop", "web")
    began = time.monotonic()
    first = stopping.stderr.readline()
    check("stop: acknowledged", first.startswith("vm-run: stopping 'web' (up to") and time.monotonic() - began < 10, first)
    rest = stopping.communicate(timeout=60)[1]
    check("stop: status", stopping.returncode == 0 and "has stopped after" in rest, rest)
    machine = bench.show("web")
    check("stop: state", machine["status"] == "stopped" and machine["end_reason"] == "guest-shutdown", machine)
    check("ssh to what is stopped", bench.run("ssh", "web").returncode == 4)
    done = bench.run("start", "--json", "web")
    check("start", done.returncode == 0 and json.loads(done.stdout)["boot"] == 2, done.stderr)
    done = bench.run("restart", "web")
    check("restart", done.returncode == 0 and re.search(r"^ready +", done.stderr, re.M), done.stderr)
    check("restart: the same QEMU", bench.show("web")["boot"] == 2)
    done = bench.run("rm", "--force", "none", "web")
    check("rm of several", done.returncode == 5 and "removed 'web'" in done.stderr, done.stderr)
    bench.expect_nothing_left("rm")


def test_one_command(bench, image):
    done = bench.run("run", "--rm", "--quiet", image, "--", "sh", "-c", "cat; echo err >&2; exit 42", text="in")
    check("run -- COMMAND", (done.returncode, done.stdout, done.stderr) == (42, "in", "err\n"), done)
    bench.expect_nothing_left("run --rm")


def test_live_line(bench, image):
    person = Terminal(bench, "run", "--rm", image, "--", "tty")
    person.expect(r"\r(firmware|kernel|init) +\d+ s[^\n]*\x1b\[K", BOOT_S)
    person.expect(r"kernel +\x1b\[0m +\d+\.\d s\r\n", BOOT_S)
    person.expect("/dev/pts/|/dev/tty", BOOT_S)
    check("live line: status", person.end() == 0)


def test_interrupted(bench, image):
    """Ctrl-C while it boots: all of it goes, and the status says so."""
    running = bench.begin("run", "--rm", image, "--", "true")
    for line in running.stderr:
        if line.startswith("boot "):
            running.send_signal(signal.SIGINT)
            break
    rest = running.communicate(timeout=60)[1]
    check("interrupted: status", running.returncode == 130, running.returncode, rest)
    bench.expect_nothing_left("interrupted")


def test_nothing_bootable(bench):
    """An empty disk: said within seconds, status 10, kept for a look unless --rm."""
    image = os.path.join(bench.root, "empty.raw")
    with open(image, "wb") as file:
        file.truncate(16 << 20)
    began = time.monotonic()
    done = bench.run("run", "-d", "--name", "empty", "--save-spec", os.path.join(bench.root, "empty.yaml"), image)
    check("nothing bootable: status", done.returncode == 10, done.returncode, done.stderr)
    check("nothing bootable: in time", time.monotonic() - began < 60)
    check("nothing bootable: said", "found nothing to boot" in done.stderr.splitlines()[-1], done.stderr)
    check("nothing bootable: quoted", re.search(r"^  \| .*No bootable device", done.stderr, re.M), done.stderr)
    check("nothing bootable: kept", bench.names() == ["empty"] and "vm-run rm --force empty" in done.stderr, done.stderr)
    check("save-spec", "empty:" in open(os.path.join(bench.root, "empty.yaml")).read())
    following = bench.begin("logs", "-f", "empty")
    events = bench.begin("events", "-f", "empty")
    done = bench.run("stop", "--force", "empty")
    check("stop --force", done.returncode == 0, done.stderr)
    check("logs -f ends with the machine", "No bootable device" in following.communicate(timeout=30)[0])
    bench.run("rm", "empty")
    check("events -f ends with the removal", "reason=stopped" in events.communicate(timeout=30)[0])
    done = bench.run("run", "--rm", "--quiet", image, "--", "true")
    check("nothing bootable: status with a command", done.returncode == 125 and done.stderr.count("\n") == 1, done.stderr)
    bench.expect_nothing_left("nothing bootable")


def main():
    image = subprocess.run([os.path.join(SOURCE, "tests/guest/need"), "tiny"], check=True, capture_output=True,
                           text=True).stdout.strip()
    bench = Bench()
    try:
        test_nothing_bootable(bench)
        test_run(bench, image)
        test_looking(bench)
        test_ssh(bench)
        test_console(bench)
        test_ending(bench)
        test_one_command(bench, image)
        test_live_line(bench, image)
        test_interrupted(bench, image)
    finally:
        bench.close()
    if not n_failed:
        print("all as expected")
    return n_failed > 0


sys.exit(main())
