#!/usr/bin/env python3
"""The same machine from other places: an ordinary user, a bridge in a network namespace, a libvirtd (qemu:///system).

The last two run this file again inside namespaces of their own: nothing of the host's links or daemons is touched.
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.environ["SOURCE_DIR"], "tests", "lib"))
from vmrun import SOURCE, VM_RUN, Place, expect, main, need, wait_until

TINY = need("tiny")
RUN = ["run", TINY, "--memory", "256MiB"]
NOBODY = 65534


def an_ordinary_user_does_it_all():
    """Nothing but the embedded driver and the user network; no root, no daemon; the home holds the state directory only."""
    home = tempfile.mkdtemp(prefix="vh.", dir="/var/tmp")
    os.chown(home, NOBODY, NOBODY)
    env = {"HOME": home, "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}

    def run(*argv, status=0):
        done = subprocess.run([VM_RUN, *argv], env=env, cwd=home, user=NOBODY, group=NOBODY, extra_groups=[], text=True,
                              capture_output=True, timeout=240, stdin=subprocess.DEVNULL)
        expect(done.returncode == status, f"{argv}: exit {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    try:
        run("doctor")
        run("image", "probe", TINY)
        run("image", "overlay", TINY, os.path.join(home, "over.qcow2"))
        out = run(*RUN, "--name", "mine", "-d", "--wait", "ssh", "-p", "auto:80", "--hostname", "hers")
        expect(out == "mine\n", f"stdout {out!r}")
        view = json.loads(run("show", "mine", "--json"))
        expect(view["uri"].startswith("qemu:///embed") and view["dir"].startswith(home), view["uri"])
        expect(os.stat(f"/proc/{view['qemu_pid']}").st_uid == NOBODY, "QEMU is not hers")
        expect(run("ssh", "mine", "--", "hostname") == "hers\n", "hostname")
        run("stats", "mine"), run("logs", "mine"), run("events", "mine"), run("gc"), run("ps")
        run("stop", "mine")
        run("start", "mine", "--wait", "started")
        run("restart", "mine", "--wait", "started")
        run("rm", "mine", status=6)
        run("rm", "--force", "mine")
        expect(sorted(os.listdir(home)) == [".local", "over.qcow2"], f"home holds {os.listdir(home)}")
        bridge = subprocess.run([VM_RUN, *RUN, "--name", "b", "-d", "--network", "bridge=br0"], env=env, cwd=home, user=NOBODY,
                                group=NOBODY, extra_groups=[], text=True, capture_output=True, timeout=60)
        expect(bridge.returncode in (4, 5), f"a bridge without root: {bridge.returncode} {bridge.stderr}")
    finally:
        subprocess.run([VM_RUN, "rm", "--force", "mine"], env=env, user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True)
        shutil.rmtree(home, ignore_errors=True)


# --- a bridge ---------------------------------------------------------------------------------------------------

def ip(*argv):
    return subprocess.run(["ip", *argv], check=True, capture_output=True, text=True).stdout


def a_bridge():
    inside("unshare", "--net", "--mount", "--", scene="bridge_inside")


def bridge_inside():
    ip("link", "set", "lo", "up")
    ip("link", "add", "br0", "type", "bridge")
    ip("addr", "add", "10.99.0.1/24", "dev", "br0")
    ip("link", "set", "br0", "up")
    with Place() as p:
        config = os.path.join(p.root, "net.yaml")
        mac = "52:54:00:aa:bb:cc"
        with open(config, "w") as file:
            json.dump({"version": 2, "ethernets": {"n0": {"match": {"macaddress": mac}, "addresses": ["10.99.0.7/24"]}}}, file)
        links = ip("-j", "link", "show")
        started = p.run("run", TINY, "--memory", "256MiB", "--name", "bridged", "--set", f"networks=[{{bridge: br0, mac: '{mac}'}}]",
                        "--network-config", config, "--user", "root", "-d", "--wait", "boot", status=0)
        view = p.show("bridged")
        tap = view["nics"][0]["tap"]
        link = json.loads(ip("-j", "-d", "link", "show", tap))[0]
        expect(link["master"] == "br0" and len(tap) == 15 and link["altnames"][0].startswith("vm-run:"), f"the tap is {link}")
        wait_until(lambda: p.run("ssh", "bridged", "--", "hostname").stdout == "bridged\n", 90, "ssh over the bridge")
        p.run("rm", "--force", "bridged", status=0)
        expect(tap not in ip("-j", "link", "show"), "the tap was left")
        expect(json.loads(links)[-1]["ifname"] == "br0" and "br0" in ip("-j", "link", "show"), "the bridge is gone")
        # somebody else's link with our name is refused and stays
        ip("tuntap", "add", "dev", tap, "mode", "tap")
        done = p.run("run", TINY, "--memory", "256MiB", "--name", "bridged", "--network", "bridge=br0", "-d", "--wait", "started", status=6)
        expect(tap in done.stderr, done.stderr)
        expect(tap in ip("-j", "link", "show"), "a foreign link was removed")
        p.run("gc", status=0)
        expect(tap in ip("-j", "link", "show"), "gc removed a foreign link")
        done = p.run("run", TINY, "--name", "x", "--network", "bridge=nosuch", "-d", status=5)
        expect("nosuch" in done.stderr, done.stderr)
        expect(not p.names(), f"left {p.names()}")
        del started


# --- libvirtd -----------------------------------------------------------------------------------------------------

def a_libvirtd():
    inside(os.path.join(SOURCE, "tests", "lib", "private-libvirtd"), scene="libvirtd_inside")


def virsh(*argv, check=True):
    return subprocess.run(["virsh", "-q", "-c", "qemu:///system", *argv], check=check, capture_output=True, text=True).stdout


FOREIGN = """<domain type='qemu'><name>web</name><memory unit='MiB'>64</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"""


def libvirtd_inside():
    with Place(connect="qemu:///system") as p:
        path = os.path.join(p.root, "foreign.xml")
        with open(path, "w") as file:
            file.write(FOREIGN)
        virsh("define", path)
        done = p.run(*RUN, "--name", "web", "-d", status=6)
        expect("web" in done.stderr and "not ours" in done.stderr, done.stderr)
        expect("web" in virsh("list", "--all", "--name"), "the foreign domain is gone")
        p.run("gc", status=0)
        expect("web" in virsh("list", "--all", "--name"), "gc took a foreign domain")

        image = os.stat(TINY)
        p.run(*RUN, "--name", "sys", "-d", "--wait", "ssh", "--user", "root", status=0)
        view = p.show("sys")
        expect(view["uri"] == "qemu:///system", view["uri"])
        expect(os.stat(f"/proc/{view['qemu_pid']}").st_uid != 0, "QEMU runs as root")
        for name in os.listdir(view["dir"]):
            st = os.stat(os.path.join(view["dir"], name))
            expect(st.st_uid == 0 and st.st_mode & 0o077 == 0, f"{name}: {st.st_uid} {st.st_mode:o}")
        expect((os.stat(TINY).st_uid, os.stat(TINY).st_mode) == (image.st_uid, image.st_mode), "the base image was chowned")

        # libvirtd dies and comes again: the guest runs on
        with open("/run/libvirtd.pid") as file:
            os.kill(int(file.read()), signal.SIGKILL)
        expect(p.run("ssh", "sys", "--", "hostname", status=0).stdout == "sys\n", "the guest died with libvirtd")
        expect(p.show("sys")["status"] == "running", "it does not run")
        done = p.run(*RUN, "--name", "other", "-d", "--wait", "started", status=4, limit_s=60)
        expect("E_HOST" in done.stderr and not [n for n in p.names() if n == "other"], done.stderr)
        done = p.run("rm", "--force", "sys")
        expect(done.returncode == 9, f"rm without a libvirtd: {done.returncode} {done.stderr}")
        subprocess.run(["libvirtd", "-d"], check=True)
        wait_until(lambda: subprocess.run(["virsh", "-q", "-c", "qemu:///system", "list"], capture_output=True).returncode == 0, 60, "libvirtd answers")
        p.run("gc", status=0)
        expect(not p.names(), f"gc left {p.names()}")
        expect(virsh("list", "--all", "--name").split() == ["web"], "domains are left")


def inside(*wrapper, scene):
    done = subprocess.run([*wrapper, sys.executable, os.path.abspath(__file__), scene], capture_output=True, text=True, timeout=300)
    expect(done.returncode == 0, done.stdout + done.stderr)


if sys.argv[1:] in (["bridge_inside"], ["libvirtd_inside"]):
    main([bridge_inside, libvirtd_inside])
main([an_ordinary_user_does_it_all, a_bridge, a_libvirtd])
