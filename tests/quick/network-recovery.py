#!/usr/bin/env python3
"""Networks after what nobody planned: a reboot of the host, and gc that runs beside starts and SIGKILLs. No guest boots."""
# TIMEOUT 600
import os
import random
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.environ["SOURCE_DIR"], "tests", "lib"))
import netlab
from netlab import NetPlace, command, expect, ip_json, wait_until


class Bench(NetPlace):
    def __init__(self):
        super().__init__()
        netlab.set_sysctl("net.bridge.bridge-nf-call-ip6tables", "0")  # else ::1 gets no answer, which check says
        self.disk = os.path.join(self.root, "empty.raw")
        with open(self.disk, "wb") as file:
            file.truncate(16 << 20)

    def argv(self, name, *argv):
        return ["run", self.disk, "--name", name, "--memory", "64MiB", "-d", "--wait", "started", *argv]

    def check(self):
        for name in self.run("network", "ls", "-q", status=0).stdout.split():
            done = self.run("network", "check", name)
            expect(done.returncode == 0, f"network check {name}: {done.stdout}{done.stderr}")


def links():
    return sorted(link["ifname"] for link in ip_json("link", "show") if link["ifname"].startswith("vm"))


def kill_all_of(mark):
    """Those of this namespace whose command line has the mark, each by its pid."""
    here = os.stat("/proc/self/ns/net").st_ino
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                text = file.read().decode(errors="replace")
            if os.stat(f"/proc/{pid}/ns/net").st_ino == here and mark in text and int(pid) != os.getpid():
                os.kill(int(pid), signal.SIGKILL)
        except OSError:
            continue


def reboot(bench):
    """What a reboot leaves: the state directory, and nothing else."""
    for mark in ("vm-run-watch", "vm-run-net", "qemu-system", "dnsmasq"):
        kill_all_of(mark)
    wait_until(lambda: not [p for p in netlab._processes_here() if "qemu-system" in p or "vm-run" in p], 30, "all ended")
    for name in links():
        command("ip", "link", "del", name, check=False)
    command("nft", "flush", "ruleset")
    command("sh", "-c", "rm -rf /run/vm-run/*")


def after_a_reboot(lab):
    """What ran is stopped, keeps its addresses and starts again; what was stopped, too; gc finds nothing more."""
    del lab
    with Bench() as bench:
        bench.run(*bench.argv("web", "-p", "8080:80"), status=0)
        bench.run(*bench.argv("db"), status=0)
        bench.run("stop", "--force", "db", status=0)
        before = {name: bench.nic(name) for name in ("web", "db")}
        reboot(bench)
        expect(bench.show("web")["status"] == "stopped", "it is seen to be stopped")
        bench.run("start", "web", "--wait", "started", status=0)
        bench.run("start", "db", "--wait", "started", status=0)
        expect({name: bench.nic(name) for name in before} == before, "same addresses, same names")
        bench.check()
        reboot(bench)
        bench.run("gc", status=0)
        expect(bench.run("gc", status=0).stdout == "", "gc tidies once")
        bench.run("rm", "--force", "web", status=0)
        bench.run("rm", "--force", "db", status=0)
        expect(links() == [] and os.listdir(os.path.join(bench.state, "networks")) == [], f"nothing is left: {links()}")


def gc_beside_starts(lab):
    """gc takes nothing from a start that is under way, whatever is killed around it."""
    del lab
    with Bench() as bench:
        bench.run(*bench.argv("warm"), status=0)
        results, killed = {}, set()
        stop = threading.Event()

        def collect():
            while not stop.is_set():
                bench.run("gc")

        def begin(name):
            results[name] = bench.run(*bench.argv(name, "-p", "auto:80"))

        def begin_and_kill(name, delay_s):
            child = bench.spawn(*bench.argv(name, "-p", "auto:80"))
            time.sleep(delay_s)
            child.send_signal(signal.SIGKILL)
            child.communicate()
            killed.add(name)
        collector = threading.Thread(target=collect)
        collector.start()
        random.seed(7)
        threads = [threading.Thread(target=begin, args=(f"m{i}",)) for i in range(6)]
        threads += [threading.Thread(target=begin_and_kill, args=(f"k{i}", random.uniform(0.05, 1.5))) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stop.set()
        collector.join()
        bad = {name: done.stderr for name, done in results.items() if done.returncode != 0}
        expect(not bad, f"all that nobody killed start: {bad}")
        wait_until(lambda: not [p for p in netlab._processes_here() if "internal-" in p and "vm-run-watch" not in p], 30, "nobody works on it")
        bench.run("gc", status=0)
        for name in list(results) + ["warm"]:
            view = bench.show(name)
            expect(view["status"] == "running", f"{name} runs: {view['status']}")
        bench.check()
        for name in bench.names():
            bench.run("rm", "--force", name, status=0)
        bench.run("gc", status=0)
        expect(links() == [] and os.listdir(os.path.join(bench.state, "networks")) == [], f"nothing is left: {links()}")


netlab.inside([after_a_reboot, gc_beside_starts])
