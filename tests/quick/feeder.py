"""The status feeder's shell, run as in a guest without systemd: /dev, /run and /var/log are folders of this
test in a mount namespace. Lines are put into the log as cloud-init does; what comes out of the port is compared."""
import email
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time

BUILD = pathlib.Path(os.environ["BUILD_DIR"])
UNSHARE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
DEADLINE_S = 20
LOG = "2026-11-25 13:35:40,921 - "


def feeder_text(folder):
    """The boothook as it stands in a seed."""
    (folder / "spec.yaml").write_text("version: 1\nname: a\nvms: {a: {image: /x}}\n")
    subprocess.run([BUILD / "tests/guest-make_seed", folder / "spec.yaml", folder, "1", "i"], check=True)
    vendor = subprocess.run(["isoinfo", "-R", "-x", "/vendor-data", "-i", folder / "seed.iso"], check=True,
                            capture_output=True).stdout
    parts = {p.get_filename(): p for p in email.message_from_bytes(vendor).walk()}
    return parts["vm-feeder"].get_payload(decode=True).decode().split("\n", 1)[1]


class Machine:
    def __init__(self, folder, shell, log=""):
        self.folder, self.rest = folder, b""
        for name in ("dev/virtio-ports", "run/cloud-init", "log"):
            (folder / name).mkdir(parents=True)
        for name in ("null", "zero"):
            (folder / "dev" / name).touch()
        self.port = folder / "dev/virtio-ports/vmrun.status"
        os.mkfifo(self.port)
        if shell == "busybox":  # its tools too
            (folder / "bin").mkdir()
            subprocess.run(["busybox", "--install", "-s", folder / "bin"], check=True)
            shell = f"env PATH={folder}/bin sh"
        (folder / "hook").write_text(feeder_text(folder))
        (folder / "log/cloud-init.log").write_text(log)
        self.fd = os.open(self.port, os.O_RDONLY | os.O_NONBLOCK)
        script = (f"mount --bind /dev/null {folder}/dev/null && mount --rbind {folder}/dev /dev && "
                  f"mount --bind {folder}/log /var/log && mount --bind {folder}/run /run && exec {shell} {folder}/hook")
        begin = time.monotonic()
        done = subprocess.run([*UNSHARE, "sh", "-c", script], capture_output=True, text=True, timeout=DEADLINE_S)
        self.took_s = time.monotonic() - begin
        same("the hook's end", (done.returncode, done.stdout, done.stderr), (0, "", ""))

    def log(self, *lines):
        with open(self.folder / "log/cloud-init.log", "a", encoding="utf-8") as log:
            log.write("".join(line + "\n" for line in lines))

    def result(self, value):
        (self.folder / "run/cloud-init/result.json").write_text(json.dumps({"v1": value}, indent=1) + "\n")

    def line(self):
        """The next line without its uptime; None at the end."""
        while b"\n" not in self.rest:
            if not select.select([self.fd], [], [], DEADLINE_S)[0]:
                raise AssertionError("nothing comes")
            data = os.read(self.fd, 65536)
            if not data:
                return None
            self.rest += data
        line, self.rest = self.rest.split(b"\n", 1)
        words = line.decode().split(" ")
        at = 1 if words[0] in ("hello", "done", "ssh") else 0
        if words[0] != "result":
            float(words[at])
            words[at] = "T"
        return " ".join(words)

    def finish(self, value=None):
        """Ends cloud-init; the lines from then on, ssh left out: whether port 22 is open here is nobody's business."""
        if value is not None:
            self.result(value)
        self.log(LOG + "handlers.py[DEBUG]: finish: modules-final: SUCCESS: running modules for final")
        lines = []
        while (line := self.line()) is not None:
            lines.append(line)
        return [line for line in lines[1:] if not line.startswith("ssh ")]


def same(what, got, expected):
    if got != expected:
        raise AssertionError(f"{what}:\n  got      {got!r}\n  expected {expected!r}")


def follows_the_log(folder, shell):
    old = LOG + "util.py[DEBUG]: Cloud-init v. 22.4.2 running 'init-local' at x\n"
    old += LOG + "handlers.py[DEBUG]: start: of-an-earlier-boot: x\n" + old
    old += LOG + "handlers.py[DEBUG]: start: init-local/a: back\\slash %s \t é\n"
    machine = Machine(folder, shell, old)
    same("greeting", machine.line(), "hello T")
    same("this boot alone, bytes as they are", machine.line(), f"T {LOG}handlers.py[DEBUG]: start: init-local/a: back\\slash %s \t é")
    machine.log(LOG + "util.py[DEBUG]: noise", LOG + "util.py[WARNING]: one", "Traceback: noise")
    same("a warning", machine.line(), f"T {LOG}util.py[WARNING]: one")
    machine.log(LOG + "x[ERROR]: " + "y" * 5000)
    same("cut", len(machine.line()) < 1005, True)
    same("the end", machine.finish({"datasource": "x", "errors": []}),
         ['result { "v1": { "datasource": "x", "errors": [] } } ', "done T done"])
    same("the hook doesn't wait", machine.took_s < DEADLINE_S / 2, True)


def tells_errors(folder, shell):
    machine = Machine(folder, shell)
    same("greeting", machine.line(), "hello T")
    lines = machine.finish({"errors": ["('scripts_vendor', RuntimeError('x'))"]})
    same("error", lines[-1], "done T error")
    same("the JSON is whole", json.loads(lines[0][len("result "):])["v1"]["errors"], ["('scripts_vendor', RuntimeError('x'))"])


def tells_degraded(folder, shell):
    machine = Machine(folder, shell)
    machine.line()
    same("degraded", machine.finish({"errors": [], "recoverable_errors": {"WARNING": ["x"]}})[-1], "done T degraded")


def tells_recoverable_none(folder, shell):
    machine = Machine(folder, shell)
    machine.line()
    same("done", machine.finish({"errors": [], "recoverable_errors": {}})[-1], "done T done")


def lacks_a_result(folder, shell):
    machine = Machine(folder, shell)
    machine.line()
    same("unknown", machine.finish(), ["done T unknown"])


def main():
    probe = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True)
    if probe.returncode != 0:
        print("skipped: no mount namespace:", probe.stderr.strip())
        return 77
    shells = ["dash", "bash --posix"] + (["busybox"] if shutil.which("busybox") else [])
    for shell in shells:
        for case in (follows_the_log, tells_errors, tells_degraded, tells_recoverable_none, lacks_a_result):
            folder = pathlib.Path(tempfile.mkdtemp())
            try:
                case(folder, shell)
                print("ok:", shell, case.__name__)
            finally:
                shutil.rmtree(folder)
    return 0


sys.exit(main())
