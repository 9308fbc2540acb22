"""Benchmarks of machines that start and end; BENCH_IMAGE, else the tiny guest, is what they boot."""
import itertools
import json
import os
import re
import shutil
import statistics
import subprocess
import time

import vmrun
from harness import BUILD, LIMIT_S, VM_RUN, CannotRun, Run, limit_result, need_program, pairs, result, time_command

NAME = "bench"     # of the peer; ours are numbered: what an ended machine still does never meets a later one
SETTLE_S = 10
MEMORY_MIB = 256
DISK_GIB = 4
SYSTEM = "qemu:///system"
START_GOAL = 0.87    # 1 / 1.15
CLI_START_GOAL = 4
END_LIMIT_MS = 300
END_AFTER_S = 1    # the guest's firmware and kernel are at work then
RSS_LIMIT_MIB = 40


def _image(folder):
    """A copy of the image in this folder: a peer's libvirt changes the owner of what it is given."""
    try:
        image = os.environ.get("BENCH_IMAGE") or vmrun.need("tiny")
    except subprocess.CalledProcessError as problem:
        raise CannotRun(f"no guest image: {problem.stderr}") from problem
    return shutil.copyfile(image, os.path.join(folder, "base.qcow2"))


_numbers = itertools.count()


def _new_name():
    return f"{NAME}{next(_numbers)}"


def _run_argv(name, image, program=VM_RUN):
    return [program, "run", "-d", "--wait", "started", "--name", name, "--memory", f"{MEMORY_MIB}MiB", "--disk", f"{DISK_GIB}GiB", image]


def _must(place, *argv):
    done = place.run(*argv)
    if done.returncode != 0:
        raise CannotRun(f"vm-run {' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


def _pids_of(place, name):
    """QEMU and watcher of a machine, which must be running: a start that did not hold is no start."""
    view = json.loads(_must(place, "show", name, "--json"))
    if view["status"] != "running" or not view["qemu_pid"] or not view["watcher_pid"]:
        raise CannotRun(f"machine {name} does not run after its start: {view['status']}, {view['end_reason']} ({view['end_detail']})")
    return view["qemu_pid"], view["watcher_pid"]


def _is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def _has_end_command(place):
    """Does a watcher's `vm-run internal-end` still work for this state directory?"""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if b"internal-end" in words and place.state.encode() in words:
            return True
    return False


def _settle(place, pids):
    """Until an ended machine's processes are gone: they must not work while the next one is timed."""
    limit = time.monotonic() + SETTLE_S
    while any(map(_is_alive, pids)) or _has_end_command(place):
        if time.monotonic() > limit:
            raise CannotRun(f"processes of an ended machine are still there: {[pid for pid in pids if _is_alive(pid)]}")
        time.sleep(0.02)


def _remove(place, name):
    pids = _pids_of(place, name)
    _must(place, "rm", "--force", name)
    _settle(place, pids)


def _start_ours(place, image):
    name = _new_name()
    run = time_command(_run_argv(name, image), place.env)
    _remove(place, name)
    return run


class Bare:
    """Starts the very domain that vm-run starts, by libvirt's calls alone: same XML, same kinds of disks, own files."""

    def __init__(self, place, image, uri):
        self.uri, self.program = uri, os.path.join(BUILD, "bench-bare")
        self.folder = os.path.join(place.root, "peer")
        self.xml, self.overlay, self.seed = (os.path.join(self.folder, f) for f in ("domain.xml", "root.qcow2", "seed.iso"))
        os.mkdir(self.folder, 0o711)
        self.image = _image(self.folder)
        name = _new_name()
        _must(place, *_run_argv(name, image)[1:])
        with open(os.path.join(place.state, "machines", name, "record.json")) as file:
            record = json.load(file)
        text = subprocess.run([os.path.join(BUILD, "bench-xml"), place.state, name], check=True, capture_output=True, text=True).stdout
        self.run_dir = os.path.join(os.path.dirname(record["run_dir"]), "bench-peer")
        owner = os.stat(record["run_dir"])
        self.owner = owner.st_uid, owner.st_gid
        with open(self.xml, "w") as file:
            file.write(text.replace(record["run_dir"] + "/", self.run_dir + "/").replace(record["dir"] + "/", self.folder + "/").replace(image, self.image))
        shutil.copy(os.path.join(record["dir"], "seed.iso"), self.seed)
        _remove(place, name)
        self.name, self.is_by_fd = name, "fdgroup=" in text

    def command(self):
        disks = [f"root={self.overlay}:rw", f"root-base={self.image}", f"seed={self.seed}"] if self.is_by_fd else []
        return [self.program, "start", self.uri, self.xml, *disks]

    def start(self):
        self._clean()
        subprocess.run([VM_RUN, "image", "overlay", "--quiet", "--size", f"{DISK_GIB}GiB", self.image, self.overlay], check=True, stdout=subprocess.DEVNULL)
        os.mkdir(self.run_dir, 0o700)
        os.chown(self.run_dir, *self.owner)
        run = time_command(self.command())
        run.calls_ms = json.loads(run.output)["calls_ms"]
        done = subprocess.run([self.program, "end", self.uri, self.name], capture_output=True, text=True, timeout=LIMIT_S)
        if done.returncode != 0:
            raise CannotRun(f"cannot end the peer's domain: {done.stderr}")
        self._clean()
        return run

    def _clean(self):
        shutil.rmtree(self.run_dir, ignore_errors=True)
        for name in (self.overlay, os.path.join(self.folder, "serial.log")):
            if os.path.exists(name):
                os.unlink(name)


def _start(name, connect, n, quiet):
    with vmrun.Place(connect=connect) as place:
        image = _image(place.root)
        bare = Bare(place, image, place.env["VM_RUN_URI"])
        try:
            measured = pairs(n or 15, lambda: _start_ours(place, image), bare.start, quiet)
        finally:
            bare._clean()
    calls_ms = statistics.median(b.calls_ms for _, b in measured)
    yield result(name, measured, "vm-run run -d --wait started IMAGE", "bench-bare: virConnectOpen, virDomainDefineXMLFlags, "
                 "virDomainFDAssociate, virDomainCreate with the same XML", START_GOAL, peer_calls_ms=calls_ms, uri=re.sub(r"=/.*", "=...", connect or "embed"))


def start(n, quiet):
    yield from _start("start", SYSTEM, n, quiet)


def start_embed(n, quiet):
    yield from _start("start-embed", None, n, quiet)


class VirtInstall:
    """The same guest by virt-install: as vm-run does, it makes a thin overlay of the image and a seed with a name and a user."""

    def __init__(self, place):
        need_program("virt-install")
        self.folder = os.path.join(place.root, "peer")
        os.mkdir(self.folder, 0o711)
        self.image = _image(self.folder)
        self.overlay = os.path.join(self.folder, "root.qcow2")
        user_data = os.path.join(self.folder, "user-data")
        with open(user_data, "w") as file:
            file.write(f"#cloud-config\nhostname: {NAME}\nuser: vm\n")
        self.argv = ["virt-install", "--connect", SYSTEM, "--name", NAME, "--memory", str(MEMORY_MIB), "--vcpus", "1", "--virt-type", "qemu",
                     "--import", "--cloud-init", f"user-data={user_data}", "--disk",
                     f"path={self.overlay},size={DISK_GIB},format=qcow2,bus=virtio,backing_store={self.image},backing_format=qcow2",
                     "--network", "user,model=virtio", "--osinfo", "detect=off,require=off,name=linux2020", "--graphics", "none",
                     "--noautoconsole"]
        self.env = dict(os.environ, HOME=self.folder, XDG_CACHE_HOME=os.path.join(self.folder, "cache"), LC_ALL="C.UTF-8")

    def start(self):
        run = time_command(self.argv, self.env)
        self.end()
        return run

    def end(self):
        for command in (["destroy", NAME], ["undefine", NAME, "--managed-save", "--nvram"]):
            subprocess.run(["virsh", "--quiet", "--connect", SYSTEM, *command], check=True, capture_output=True, timeout=LIMIT_S)
        os.unlink(self.overlay)


def cli_start(n, quiet):
    with vmrun.Place(connect=SYSTEM) as place:
        image, peer = _image(place.root), VirtInstall(place)
        measured = pairs(n or 10, lambda: _start_ours(place, image), peer.start, quiet)
    yield result("cli-start", measured, "vm-run run -d --wait started IMAGE", "virt-install --import --cloud-init user-data=FILE "
                 "--disk FILE,backing_store=IMAGE --noautoconsole ...", CLI_START_GOAL, uri=SYSTEM)


def end(n, quiet):
    """With the embedded driver: QEMU is our watcher's child."""
    runs = []
    with vmrun.Place() as place:
        image = _image(place.root)
        for i in range((n or 10) + 1):
            quiet.wait()  # before there is a guest that keeps a processor busy
            name = _new_name()
            _must(place, *_run_argv(name, image)[1:])
            time.sleep(END_AFTER_S)
            pids = _pids_of(place, name)
            run = time_command([VM_RUN, "rm", "--force", name], place.env)
            if _is_alive(pids[0]):
                raise CannotRun(f"QEMU {pids[0]} is alive after its machine was removed")
            _settle(place, pids)
            if i:
                runs.append(run)
    yield limit_result("end", runs, "vm-run rm --force NAME of a running machine (embedded driver)", END_LIMIT_MS)


class Gauges:
    """A copy of the programs in which each one that a start needs is run by time(1), which tells its peak memory."""

    def __init__(self, place):
        need_program("time")
        self.log, self.bin = os.path.join(place.root, "rss"), os.path.join(place.root, "bin")
        os.mkdir(self.bin, 0o755)
        for name in ("vm-run-watch", "vm-run-libvirt.so", "vm-run-domain.so", "vm-run-iso.so"):
            os.symlink(os.path.join(BUILD, name), os.path.join(self.bin, name))
        shutil.copy(os.path.join(BUILD, "vm-run-watch"), os.path.join(self.bin, "watch"))
        os.replace(os.path.join(self.bin, "watch"), os.path.join(self.bin, "vm-run-watch"))
        self.vm_run = self._wrap("vm-run")
        self._wrap("vm-run-embed")

    def _wrap(self, name):
        real, wrapper = os.path.join(self.bin, name + "-real"), os.path.join(self.bin, name)
        shutil.copy(os.path.join(BUILD, name), real)
        with open(wrapper, "w") as file:
            file.write(f'#!/bin/sh\nexec {shutil.which("time")} -a -o {self.log} -f "%M {name} $1" {real} "$@"\n')
        os.chmod(wrapper, 0o755)
        return wrapper

    def read_mib(self):
        """{program and its command: its peak}"""
        found = {}
        with open(self.log) as file:
            for line in file:
                kib, _, name = line.strip().partition(" ")
                if kib.isdigit():
                    found[name] = max(found.get(name, 0), int(kib) / 1024)
        os.unlink(self.log)
        return found


def _peak_mib(pid):
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(r"^VmHWM:\s+(\d+) kB", file.read(), re.M).group(1)) / 1024


def _rss_of_start(connect):
    with vmrun.Place(connect=connect) as place:
        image = _image(place.root)
        gauges = Gauges(place)
        place.vm_run = gauges.vm_run
        name = _new_name()
        run = time_command(_run_argv(name, image, program=gauges.vm_run), place.env)
        found = gauges.read_mib()
        found["vm-run-watch"] = _peak_mib(_pids_of(place, name)[1])
        _remove(place, name)
    return run, found


def _rss_of_virt_install(place):
    peer, log = VirtInstall(place), os.path.join(place.root, "rss")
    peer.argv = ["time", "-o", log, "-f", "%M", *peer.argv]
    run = time_command(peer.argv, peer.env)
    peer.end()
    with open(log) as file:
        return run, int(file.read().split()[-1]) / 1024


def rss(n, quiet):
    processes, ours, peer, peer_mib = {}, [], [], 0
    for _ in range(n or 3):
        for connect, label in ((SYSTEM, "system"), (None, "embed")):
            quiet.wait()
            run, found = _rss_of_start(connect)
            ours += [run] if connect else []
            for name, mib in found.items():
                key = f"{name} ({label})"
                processes[key] = max(processes.get(key, 0), mib)
        with vmrun.Place(connect=SYSTEM) as place:
            run, mib = _rss_of_virt_install(place)
        peer.append(run)
        peer_mib = max(peer_mib, mib)
    made = result("rss", list(zip(ours, peer)), "vm-run run -d --wait started IMAGE: the largest of its processes", "virt-install --import "
                  "--cloud-init user-data=FILE --disk FILE,backing_store=IMAGE --noautoconsole ...", 1)
    largest = max(processes.values())
    made.update(ours_mib=round(largest, 1), peer_mib=round(peer_mib, 1), ratio=round(peer_mib / largest, 3), is_met=largest < RSS_LIMIT_MIB,
                goal=f"< {RSS_LIMIT_MIB} MiB", processes={name: round(mib, 1) for name, mib in sorted(processes.items())})
    yield made
