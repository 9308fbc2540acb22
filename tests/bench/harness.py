"""Measuring in pairs: ours and the peer's in turn, medians, one result a benchmark.

Pairs, because machines are never quiet for long: what disturbs one half of a pair disturbs the other as well, and a
median forgets the rest. Who goes first changes from pair to pair. Whole commands are timed by hyperfine, one run at a
time, without a shell.
"""
import contextlib
import json
import os
import shlex
import shutil
import statistics
import subprocess
import tempfile
import time

BUILD = os.path.abspath(os.environ["BUILD_DIR"])
SOURCE = os.path.abspath(os.environ["SOURCE_DIR"])
VM_RUN = os.path.join(BUILD, "vm-run")
LIMIT_S = 180      # a command that takes longer hangs
QUIET_IDLE = 0.9   # of all processors' time


class CannotRun(Exception):
    """The benchmark cannot be run here; says why."""


class Quiet:
    """Waits before each pair until others leave the processors alone, for wait_s in all at most."""

    def __init__(self, wait_s):
        self.left_s = wait_s

    @staticmethod
    def _times():
        with open("/proc/stat") as file:
            numbers = [int(n) for n in file.readline().split()[1:9]]
        return numbers[3], sum(numbers)

    def _is_quiet(self):
        idle, whole = self._times()
        time.sleep(0.25)
        idle_after, whole_after = self._times()
        return idle_after - idle >= QUIET_IDLE * (whole_after - whole)

    def wait(self):
        began = time.monotonic()
        while self.left_s > time.monotonic() - began:
            if self._is_quiet():
                break
            time.sleep(0.5)
        self.left_s -= time.monotonic() - began


class Run:
    """One measurement: milliseconds on the wall, of the processor (None: not known), what was printed."""

    def __init__(self, ms, cpu_ms=None, output=""):
        self.ms, self.cpu_ms, self.output = ms, cpu_ms, output


def need_program(name):
    if not shutil.which(name):
        raise CannotRun(f"{name} is not installed (make deps)")


def time_command(argv, env=None):
    """The whole command by hyperfine; its CPU time is that of its own processes, no daemon's."""
    need_program("hyperfine")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        report, output = os.path.join(folder, "report"), os.path.join(folder, "output")
        done = subprocess.run(["hyperfine", "-N", "--runs", "1", "--style", "none", "--export-json", report, "--output", output, "--",
                               shlex.join(argv)], env=env, capture_output=True, text=True, timeout=LIMIT_S)
        with contextlib.suppress(OSError), open(output, errors="replace") as file:
            printed = file.read()
        if done.returncode != 0:
            again = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=LIMIT_S)
            raise CannotRun(f"{shlex.join(argv)} failed: {printed}{done.stderr}{again.stderr}")
        with open(report) as file:
            result = json.load(file)["results"][0]
    return Run(result["times"][0] * 1000, (result["user"] + result["system"]) * 1000, printed)


def run_program(*argv):
    """A bench program's JSON line as a dict."""
    path = os.path.join(BUILD, argv[0])
    if not os.path.exists(path):
        raise CannotRun(f"{path} is missing: build it (cmake --build {BUILD})")
    done = subprocess.run([path, *map(str, argv[1:])], capture_output=True, text=True, timeout=LIMIT_S)
    if done.returncode != 0:
        raise CannotRun(f"{argv[0]}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def pairs(n, ours, peer, quiet):
    """[(ours, peer)] of n pairs, in alternating order; a pair before them warms caches and isn't kept."""
    kept = []
    for i in range(n + 1):
        quiet.wait()
        if i % 2:
            b = peer()
            a = ours()
        else:
            a = ours()
            b = peer()
        if i:
            kept.append((a, b))
    return kept


def _median(values, digits):
    known = [v for v in values if v is not None]
    return round(statistics.median(known), digits) if known else None


def result(name, measured, ours, peer, goal, **more):
    """The benchmark's object. measured: [(Run, Run)]; ours, peer: the commands; goal: the ratio wanted at least."""
    a, b = [pair[0] for pair in measured], [pair[1] for pair in measured]
    ours_ms, peer_ms = (round(statistics.median(r.ms for r in runs), 6) for runs in (a, b))  # 6: nanoseconds
    return {
        "name": name, "ours_ms": ours_ms, "peer_ms": peer_ms, "ratio": round(peer_ms / ours_ms, 3), "n": len(measured),
        "peer": peer, "ours": ours, "goal": f"ratio >= {goal}", "is_met": peer_ms / ours_ms >= goal,
        "ours_min_ms": round(min(r.ms for r in a), 6), "peer_min_ms": round(min(r.ms for r in b), 6),
        "ours_cpu_ms": _median([r.cpu_ms for r in a], 2), "peer_cpu_ms": _median([r.cpu_ms for r in b], 2), **more,
    }


def limit_result(name, runs, ours, limit_ms, **more):
    """As result(), where the goal is a time: the limit takes the peer's place."""
    made = result(name, [(run, Run(limit_ms)) for run in runs], ours, f"none: the limit is {limit_ms:g} ms", 1.0, **more)
    made["goal"] = f"<= {limit_ms:g} ms"
    return made


@contextlib.contextmanager
def folder():
    """A folder on a real file system (not tmpfs), gone afterwards."""
    path = tempfile.mkdtemp(prefix="vm-bench.", dir="/var/tmp")
    os.chmod(path, 0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
