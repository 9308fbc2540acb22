"""A laboratory for networks: namespaces of the test's own, so that nothing of the host is touched.

The test process goes into a network namespace (`host`), in which vm-run works with the embedded driver; a second one
(`outside`) is another host, joined to it by a link:

    outside  out0  198.51.100.2/24  2001:db8:51::2/64
    host     up0   198.51.100.1/24  2001:db8:51::1/64, default routes to outside

Port 9 of outside answers as the guests' port 7 does (netpeer.py). All of it ends with the process.
"""
import base64
import ctypes
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time

import netpeer
import vmrun
from vmrun import Failure, Place, expect, wait_until

OUTSIDE4, OUTSIDE6 = "198.51.100.2", "2001:db8:51::2"
HOST4, HOST6 = "198.51.100.1", "2001:db8:51::1"
OUTSIDE_PORT, GUEST_PORT = 9, 7
READY_S = 180
CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000

# As on a host that routes nothing yet. A namespace inherits others on some kernels.
SYSCTLS = {
    "net.ipv4.ip_forward": "0", "net.ipv4.conf.all.route_localnet": "0", "net.ipv4.conf.default.route_localnet": "0",
    "net.ipv4.conf.all.rp_filter": "0", "net.ipv4.conf.default.rp_filter": "0",
    "net.ipv6.conf.all.forwarding": "0", "net.ipv6.conf.default.forwarding": "0",
    "net.ipv6.conf.all.accept_dad": "0", "net.ipv6.conf.default.accept_dad": "0",
    "net.ipv6.conf.all.disable_ipv6": "0", "net.ipv6.conf.default.disable_ipv6": "0",
    "net.bridge.bridge-nf-call-iptables": "0", "net.bridge.bridge-nf-call-ip6tables": "0",
}


def command(*argv, check=True):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    if check and done.returncode != 0:
        raise Failure(f"{' '.join(argv)}: exit {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def ip(*argv):
    return command("ip", *argv)


def ip_json(*argv):
    return json.loads(command("ip", "-j", *argv) or "[]")


def _sysctl_path(name):
    return "/proc/sys/" + name.replace(".", "/")


def set_sysctl(name, value):
    path = _sysctl_path(name)
    if os.path.exists(path):
        with open(path, "w") as file:
            file.write(value)


def get_sysctl(name):
    with open(_sysctl_path(name)) as file:
        return file.read().strip()


def _unshare():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET | CLONE_NEWNS) != 0:
        print(f"skipped: no network namespace of our own: {os.strerror(ctypes.get_errno())} (needs root)")
        sys.exit(77)
    command("mount", "--make-rprivate", "/")
    command("mount", "-t", "sysfs", "sysfs", "/sys")  # of this namespace's links
    os.makedirs("/run/vm-run", mode=0o711, exist_ok=True)
    command("mount", "-t", "tmpfs", "-o", "mode=0711", "tmpfs", "/run/vm-run")  # others work in the host's


class Outside:
    """The other host: a process that holds its namespace."""

    def __init__(self):
        self.children = [subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"])]
        self.pid = self.children[0].pid
        here = os.stat("/proc/self/ns/net").st_ino
        wait_until(lambda: os.stat(f"/proc/{self.pid}/ns/net").st_ino != here, 10, "a second namespace")

    def argv(self, *argv):
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", *argv]

    def run(self, *argv, check=True):
        return command(*self.argv(*argv), check=check)

    def serve(self):
        self.children.append(subprocess.Popen(["setpriv", "--pdeathsig", "KILL",
                                               *self.argv(sys.executable, netpeer.__file__, "serve", str(OUTSIDE_PORT))]))

    def ask(self, proto, host, port, text="hello"):
        """What answers there: "tcp PEER PORT NAME"; None: nothing does."""
        done = subprocess.run(self.argv(sys.executable, netpeer.__file__, proto, host, str(port), text), capture_output=True, text=True,
                              timeout=30)
        return done.stdout.strip() if done.returncode == 0 else None

    def end(self):
        for child in self.children:
            child.kill()
            child.wait()


def _join(outside):
    ip("link", "set", "lo", "up")
    outside.run("ip", "link", "set", "lo", "up")
    ip("link", "add", "up0", "type", "veth", "peer", "name", "out0", "netns", str(outside.pid))
    for run, link, address4, address6 in ((command, "up0", HOST4, HOST6), (outside.run, "out0", OUTSIDE4, OUTSIDE6)):
        run("ip", "link", "set", link, "up")
        run("ip", "addr", "add", f"{address4}/24", "dev", link)
        run("ip", "addr", "add", f"{address6}/64", "dev", link, "nodad")
    ip("route", "add", "default", "via", OUTSIDE4)
    ip("-6", "route", "add", "default", "via", OUTSIDE6)


class Lab:
    """Enters the namespaces; `with` ends what is outside. Once a process."""

    def __init__(self):
        _unshare()
        for name, value in SYSCTLS.items():
            set_sysctl(name, value)
        self.outside = Outside()

    def __enter__(self):
        _join(self.outside)
        self.outside.serve()
        wait_until(lambda: self.outside.ask("tcp", OUTSIDE6, OUTSIDE_PORT), 10, "the outside answers")
        return self

    def __exit__(self, *_):
        self.outside.end()


def ask(proto, host, port, text="hello"):
    """From the host itself; None: nothing answers."""
    try:
        return netpeer.ask(proto, host, port, text)
    except OSError:
        return None


class Checks:
    """Many small facts about one laboratory: all are looked at, then those that are wrong are said together."""

    def __init__(self):
        self.n, self.wrong = 0, []

    def that(self, is_true, what):
        self.n += 1
        if not is_true:
            self.wrong.append(what)
            print(f"  WRONG {what}", flush=True)

    def answer(self, got, expected, what):
        """`got` begins with `expected`; None: nothing answers."""
        is_right = got is None if expected is None else got is not None and got.startswith(expected)
        self.that(is_right, f"{what}: {got!r}, expected {expected!r}")

    def end(self):
        print(f"  {self.n - len(self.wrong)} of {self.n} facts hold", flush=True)
        if self.wrong:
            raise Failure(f"{len(self.wrong)} wrong: " + "; ".join(self.wrong[:6]))


# --- machines ---------------------------------------------------------------------------------------------------

class NetPlace(Place):
    """A state directory whose machines get managed networks: what is asked for, else `default`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        del self.env["VM_RUN_NETWORK"]
        self.has_agent = self.env["VM_RUN_URI"].startswith("qemu:///embed")  # a libvirtd holds its socket for ever
        self.image = vmrun.need("tiny")

    def warm(self):
        """What stays by design: folders of the state directory, our tables with their base rules, the host's switches."""
        self.run("network", "add", "warm", status=0)
        self.run("network", "rm", "warm", status=0)
        self.run("gc", status=0)

    def start(self, name, *argv, wait="started", memory="128MiB", status=0):
        """vm-run run -d of the tiny guest; what `show` says then."""
        done = self.run("run", self.image, "--name", name, "--memory", memory, "--user", "root", "-d", "--wait", wait, *argv,
                        status=status)
        return self.show(name) if status == 0 else done

    def network(self, name):
        return json.loads(self.run("network", "show", name, "--json", status=0).stdout)

    def nic(self, name, index=0):
        return self.show(name)["nics"][index]

    def console(self, name):
        path = os.path.join(self.state, "machines", name, "serial.log")
        if not os.path.exists(path):
            return ""
        with open(path, errors="replace") as file:
            return file.read()

    def wait_ready(self, *names):
        for name in names:
            try:
                wait_until(lambda: "tiny: ready after" in self.console(name), READY_S, f"{name} is ready")
            except Failure as problem:
                raise Failure(f"{problem}\n{self.console(name)[-2000:]}") from problem
            if not self.has_agent:
                continue
            wait_until(lambda: "tentative" not in self.guest(name, "ip", "addr"), 10, f"{name} has its addresses")

    def agent(self, name):
        return Agent(os.path.join(self.run_dir(name), "a"))

    def run_dir(self, name):
        with open(os.path.join(self.state, "machines", name, "record.json")) as file:
            return json.load(file)["run_dir"]

    def guest(self, name, *argv, status=0):
        """Runs a command in the guest by its agent, which needs no network: what it printed."""
        return self.agent(name).run(*argv, status=status)

    def guest_ask(self, name, proto, host, port, text="hello"):
        """From inside the guest; None: nothing answers."""
        code, out = self.agent(name).execute("peer", proto, host, str(port), text)
        return out.strip() if code == 0 else None


class Agent:
    """The guest agent at its socket, between two calls of vm-run: commands in the guest."""

    def __init__(self, path):
        self.path = path

    def _call(self, stream, name, **arguments):
        """The answer to it: what an earlier client left unread is passed over, by guest-sync's number."""
        stream.write(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
        stream.flush()
        while True:
            line = stream.readline()
            if not line:
                raise Failure(f"the guest agent at {self.path} closed the connection")
            answer = json.loads(line)
            if name == "guest-sync" and answer.get("return") != arguments["id"]:
                continue
            if "error" in answer:
                raise Failure(f"guest agent: {name}: {answer['error']}")
            return answer["return"]

    def execute(self, *argv, limit_s=60):
        """(exit status, output) of a command in the guest."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(limit_s)
            sock.connect(self.path)
            with sock.makefile("rwb") as stream:
                self._call(stream, "guest-sync", id=time.monotonic_ns() & 0x7fffffff)
                pid = self._call(stream, "guest-exec", path="/bin/sh", arg=["-c", 'exec "$@"', "sh", *argv],
                                 env=["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], **{"capture-output": True})["pid"]
                end = time.monotonic() + limit_s
                while time.monotonic() < end:
                    done = self._call(stream, "guest-exec-status", pid=pid)
                    if done["exited"]:
                        out = base64.b64decode(done.get("out-data", "")) + base64.b64decode(done.get("err-data", ""))
                        return done.get("exitcode", 128 + done.get("signal", 0)), out.decode(errors="replace")
                    time.sleep(0.05)
        raise Failure(f"{argv} did not end in the guest within {limit_s} s")

    def run(self, *argv, status=0):
        code, out = self.execute(*argv)
        if code != status:
            raise Failure(f"in the guest: {' '.join(argv)}: exit {code}, expected {status}: {out}")
        return out


# --- census ------------------------------------------------------------------------------------------------------

def _links():
    found = {}
    for link in ip_json("-d", "link", "show"):
        found[link["ifname"]] = " ".join(str(x) for x in (
            link.get("linkinfo", {}).get("info_kind", "-"), link.get("master", "-"), ",".join(link.get("altnames", [])), link["mtu"],
            "UP" if "UP" in link["flags"] else "down"))
    return found


def _addresses():
    """Those that somebody chose; the kernel's link-local ones come and go by themselves."""
    return sorted(f"{link['ifname']} {a['local']}/{a['prefixlen']}" for link in ip_json("addr", "show") for a in link["addr_info"]
                  if not a["local"].startswith("fe80:"))


def _routes():
    lines = command("ip", "-4", "route", "show", "table", "all").splitlines()
    lines += command("ip", "-6", "route", "show", "table", "all").splitlines()
    return sorted(re.sub(r" +", " ", line).replace(" linkdown", "").strip() for line in lines if "fe80:" not in line and "ff00:" not in line)


def _ruleset():
    """Line by line, without what the kernel counts and what it learnt for a while."""
    text = re.sub(r"packets \d+ bytes \d+", "packets N bytes N", command("nft", "list", "ruleset"))
    return re.sub(r"\n\s*elements = \{[^}]*expires[^}]*\}", "", text).splitlines()


def _conf_sysctls():
    """Of every link: what switches routing and trust."""
    names = {f"net.ipv4.conf.{link}.{key}" for link in os.listdir("/proc/sys/net/ipv4/conf") for key in ("forwarding", "route_localnet", "rp_filter")}
    names |= {f"net.ipv6.conf.{link}.{key}" for link in os.listdir("/proc/sys/net/ipv6/conf")
              for key in ("forwarding", "accept_ra", "force_forwarding", "disable_ipv6")}
    return {name: get_sysctl(name) for name in sorted(names | set(SYSCTLS)) if os.path.exists(_sysctl_path(name.replace("conf.", "conf.", 1)))}


def _processes_here():
    """All in this network namespace but the test itself and what it started."""
    here, found = os.stat("/proc/self/ns/net").st_ino, []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{pid}/ns/net").st_ino != here or int(pid) == os.getpid():
                continue
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                text = file.read().decode(errors="replace").replace("\0", " ").strip()
        except OSError:
            continue
        if text:
            found.append(re.sub(r"\b\d{2,}\b", "N", text))
    return sorted(found)


def take(place, sysctls=True):
    """All that this namespace, /run/vm-run and the state directory hold."""
    files = place.take([])["files"]
    census = {"links": _links(), "addresses": _addresses(), "routes": _routes(), "nft": _ruleset(), "processes": _processes_here(),
              # gc takes the files of locks that nobody holds
              "files": {path: what.rsplit(" ", 1)[0] for path, what in files.items()
                        if path.startswith((place.state, "/run/")) and "/state/locks/" not in path}}
    if sysctls:
        census["sysctls"] = _conf_sysctls()
    return census


def difference(before, after):
    lines = []
    for key in before:
        if isinstance(before[key], dict):
            lines += [f"{key}: {name}: {before[key].get(name)} -> {after[key].get(name)}"
                      for name in sorted(set(before[key]) | set(after[key])) if before[key].get(name) != after[key].get(name)]
        elif isinstance(before[key], list):
            lines += [f"{key}: gone: {item}" for item in before[key] if item not in after[key]]
            lines += [f"{key}: new: {item}" for item in after[key] if item not in before[key]]
        elif before[key] != after[key]:
            lines.append(f"{key}: {before[key]} -> {after[key]}")
    return lines


def expect_same(before, place, what, limit_s=10, sysctls=True):
    """Ends are events that others follow: bounded wait."""
    lines = []

    def is_same():
        lines[:] = difference(before, take(place, sysctls))
        return not lines
    try:
        wait_until(is_same, limit_s, what)
    except Failure:
        raise Failure(f"{what}: not as before:\n  " + "\n  ".join(lines)) from None


def inside(scenes):
    """main() of a test file: its scenes run one after another, each in a process and a laboratory of its own, so that none
    meets what another left. `scene(lab)`."""
    wanted = [s for s in scenes if s.__name__ in sys.argv[1:]] or scenes
    if len(wanted) == 1 and os.environ.get("NETLAB_INSIDE"):
        with Lab() as lab:
            vmrun.main([_named(wanted[0], lab)])
    failed = 0
    for scene in wanted:
        done = subprocess.run([sys.executable, os.path.abspath(sys.argv[0]), scene.__name__], env=dict(os.environ, NETLAB_INSIDE="1"),
                              stdin=subprocess.DEVNULL)
        if done.returncode == 77:
            sys.exit(77)
        failed += done.returncode != 0
    print(f"{len(wanted) - failed} scenes passed, {failed} failed")
    sys.exit(1 if failed else 0)


def _named(scene, lab):
    def run():
        scene(lab)
    run.__name__ = scene.__name__
    return run


__all__ = ["Agent", "Checks", "HOST4", "HOST6", "OUTSIDE4", "OUTSIDE6", "OUTSIDE_PORT", "GUEST_PORT", "Failure", "Lab", "NetPlace", "ask", "command", "difference", "expect", "expect_same", "get_sysctl", "inside", "ip", "ip_json",
           "set_sysctl", "shutil", "take", "wait_until"]
