"""A real guest (Debian 12, cloud-init 22.4.2) with our seed, booted by QEMU alone.

1. user-data that has every key of ours: which settings survive beside it, and which are said before boot.
2. no user-data: all of our settings; a command that fails is named; a reboot runs nothing again.
"""
# TIMEOUT 1500
import base64
import os
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(os.environ["SOURCE_DIR"])
BUILD = pathlib.Path(os.environ["BUILD_DIR"])
BOOT_S = 400
HASH = ("$6$saltstring$IxDD3jeSOb5eB1CX5LBsqZFVkJdido3OUILO5Ifz5iwMuTS4XMS130MTSuDDl3aCI6WouIL9AjRbLCelDCy.g.")


def same(what, got, expected):
    if got != expected:
        raise AssertionError(f"{what}:\n  got      {got!r}\n  expected {expected!r}")
    print("ok:", what, flush=True)


def run(*argv, **more):
    return subprocess.run([str(a) for a in argv], check=True, text=True, capture_output=True, **more)


class Guest:
    """A QEMU with the seed in `folder`; lines of its status port."""

    def __init__(self, folder, image, port):
        self.folder, self.port, self.lines, self.rest = folder, port, [], b""
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", image, "-F", "qcow2", folder / "disk")
        (folder / "status").unlink(missing_ok=True)
        self.qemu = subprocess.Popen([
            "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "max", "-smp", "2", "-m", "768",
            "-nodefaults", "-display", "none", "-device", "virtio-rng-pci",
            "-drive", f"file={folder}/disk,if=virtio,format=qcow2",
            "-drive", f"file={folder}/seed.iso,if=virtio,format=raw,readonly=on",
            "-netdev", f"user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22",
            "-device", "virtio-net-pci,netdev=n0,mac=52:54:00:aa:bb:01",
            "-chardev", f"file,id=serial,path={folder}/serial", "-serial", "chardev:serial",
            "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=status,path={folder}/status,server=on,wait=on",
            "-device", "virtserialport,chardev=status,name=vmrun.status"])
        self.status = self._connect()

    def _connect(self):
        for _ in range(100):
            try:
                status = socket.socket(socket.AF_UNIX)
                status.connect(str(self.folder / "status"))
                return status
            except OSError:
                time.sleep(0.1)
        raise AssertionError("QEMU does not listen")

    def wait(self, begin):
        """The next line that begins so, the lines before it kept in self.lines."""
        deadline = time.monotonic() + BOOT_S
        while True:
            while b"\n" in self.rest:
                line, self.rest = self.rest.split(b"\n", 1)
                self.lines.append(line.decode("utf-8", "replace"))
                if self.lines[-1].startswith(begin):
                    return self.lines[-1]
            self.status.settimeout(max(0.1, deadline - time.monotonic()))
            data = self.status.recv(65536)
            if not data:
                raise AssertionError("QEMU ended")
            self.rest += data

    def count(self, text):
        return sum(text in line for line in self.lines)

    def ssh(self, key, user, command, check=True):
        out = subprocess.run(
            ["ssh", "-q", "-i", str(self.folder / key), "-p", str(self.port), "-o", "IdentitiesOnly=yes",
             "-o", f"UserKnownHostsFile={self.folder}/known_hosts", "-o", "StrictHostKeyChecking=yes",
             "-o", "HostKeyAlgorithms=ssh-ed25519", "-o", "BatchMode=yes", "-o", "ConnectTimeout=60",
             f"{user}@127.0.0.1", command], capture_output=True, text=True, timeout=180)
        if check and out.returncode != 0:
            raise AssertionError(f"ssh {user} {command}: {out.returncode} {out.stderr}")
        return out.stdout.strip("\n")

    def end(self):
        self.qemu.kill()
        self.qemu.wait()
        self.status.close()


def make_repository(folder):
    """Two packages and the index of a repository that needs no network, as elements of write_files."""
    index, files = "", {}
    for name in ("vmrun-ours", "vmrun-theirs"):
        (folder / name / "DEBIAN").mkdir(parents=True)
        (folder / name / "usr/share" / name).mkdir(parents=True)
        (folder / name / "DEBIAN/control").write_text(
            f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <nobody@example.com>\n"
            "Description: test\n")
        run("dpkg-deb", "--root-owner-group", "--build", folder / name, folder / f"{name}.deb")
        deb = (folder / f"{name}.deb").read_bytes()
        files[f"{name}.deb"] = deb
        digest = run("sha256sum", folder / f"{name}.deb").stdout.split()[0]
        index += run("dpkg-deb", "-f", folder / f"{name}.deb").stdout
        index += f"Filename: ./{name}.deb\nSize: {len(deb)}\nSHA256: {digest}\n\n"
    files["Packages"] = index.encode()
    lines = [f"  - {{ path: /srv/repo/{name}, encoding: b64, content: {base64.b64encode(data).decode()} }}"
             for name, data in files.items()]
    lines.append('  - { path: /etc/apt/sources.list, content: "deb [trusted=yes] file:/srv/repo ./\\n" }')
    return "\n".join(lines)


def make_seed(folder, port, instance, spec):
    (folder / "spec.yaml").write_text(spec)
    return run(BUILD / "tests/guest-make_seed", folder / "spec.yaml", folder, port, instance).stderr


def everything(folder, image, port):
    print("--- user-data with every key of ours", flush=True)
    for name in ("joe", "typed"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
    joe = (folder / "joe.pub").read_text().strip()
    (folder / "user.yaml").write_text(f"""#cloud-config
bootcmd: [ "echo bootcmd >>/root/order" ]
users:
  - name: joe
    ssh_authorized_keys: [ "{joe}" ]
ssh_authorized_keys: [ "{joe}" ]
apt: {{ preserve_sources_list: true }}
timezone: America/New_York
locale: C.UTF-8
hostname: theirs
manage_etc_hosts: true
packages: [ vmrun-theirs ]
runcmd: [ "echo runcmd >>/root/order" ]
write_files:
{make_repository(folder)}
  - {{ path: /etc/theirs.txt, content: "theirs\\n" }}
""")
    said = make_seed(folder, port, "everything-1", f"""version: 1
name: survival
vms:
  ours:
    image: {image}
    user: ops
    ssh_keys: [ "{(folder / 'typed.pub').read_text().strip()}" ]
    password_hash: "{HASH}"
    timezone: Europe/Berlin
    locale: C.UTF-8
    packages: [ vmrun-ours ]
    write_files:
      - {{ path: /etc/ours.txt, content: "ours é \\u2028 {{{{ x }}}}\\n", permissions: "0640", owner: "root:adm" }}
      - {{ path: /etc/ours.bin, content: "AAECAwQ=", encoding: base64 }}
    run:
      - echo "run1 $(id -un)" >>/root/order
      - |
        [ -e /usr/share/vmrun-ours ] && [ -e /etc/ours.txt ] && echo run2 >>/root/order
    cloud_init: {{ user_data: user.yaml }}
""")
    same("what can't survive is said before boot", said.replace(f"{folder}/", ""),
         "user.yaml:8:1: warning[E_CI]: user-data: 'timezone' wins over the machine's time zone 'Europe/Berlin' - drop one of the two\n"
         "user.yaml:10:1: warning[E_CI]: user-data: 'hostname' wins over the machine's host name 'ours' - drop one of the two\n")
    guest = Guest(folder, image, port)
    try:
        same("cloud-init is done", guest.wait("done ").split()[2], "done")
        same("ssh was told once", sum(line.startswith("ssh ") for line in guest.lines), 1)
        same("the result came", guest.count('result { "v1": {'), 1)
        same("our user, by the machine's key, host key checked", guest.ssh("id", "ops", "id -un; sudo -n id -un"), "ops\nroot")
        same("our user, by the key of ssh_keys", guest.ssh("typed", "ops", "id -un"), "ops")
        same("our user, by the key of user-data", guest.ssh("joe", "ops", "id -un"), "ops")
        same("their user", guest.ssh("joe", "joe", "id -un"), "joe")
        same("root is sent away", guest.ssh("id", "root", "id", check=False)[:24], "Please login as the user")
        same("both sides' commands, in order", guest.ssh("id", "ops", "sudo cat /root/order"), "bootcmd\nrun1 root\nrun2\nruncmd")
        same("both sides' packages", guest.ssh("id", "ops", r"dpkg-query -W -f '${Package}\n' 'vmrun-*'"), "vmrun-ours\nvmrun-theirs")
        same("both sides' files", guest.ssh("id", "ops", "cat /etc/theirs.txt; stat -c '%a %U:%G' /etc/ours.txt; sudo cat /etc/ours.txt; od -An -tx1 /etc/ours.bin"),
             "theirs\n640 root:adm\nours é \u2028 {{ x }}\n 00 01 02 03 04")
        same("our password hash", guest.ssh("id", "ops", "sudo getent shadow ops | cut -d: -f2"), HASH)
        same("no hash in a log or the status", (guest.ssh("id", "ops", f"sudo grep -rlF '{HASH[15:40]}' /var/log || true"), guest.count(HASH[15:40])), ("", 0))
        same("their time zone and host name", guest.ssh("id", "ops", "cat /etc/timezone; hostname"), "America/New_York\ntheirs")
        same("nothing of the feeder stays", guest.ssh("id", "ops", "pgrep -fxc '/bin/sh /run/vm-run-feed' || true; systemctl is-failed vm-run-feed || true"), "0\ninactive")
    finally:
        guest.end()


def plain(folder, image, port):
    print("--- no user-data; a command that fails; a reboot", flush=True)
    said = make_seed(folder, port, "plain-1", f"""version: 1
name: plain
vms:
  plain:
    image: {image}
    hostname: plain.example.com
    timezone: Europe/Berlin
    locale: C.UTF-8
    run:
      - echo run1 >>/root/order
      - "echo run2 >>/root/order; exit 7"
      - echo run3 >>/root/order
""")
    same("nothing to say", said, "")
    guest = Guest(folder, image, port)
    try:
        same("cloud-init ends with an error", guest.wait("done ").split()[2], "error")
        same("the failing command is named", guest.count("Runparts: 1 failures (vm-40-run-0001) in 3 attempted") > 0, True)
        same("its module failed", sum("finish: modules-final/config-scripts" in l and "vendor: FAIL: " in l for l in guest.lines), 1)
        same("the default user", guest.ssh("id", "vm", "id -un; sudo -n id -un"), "vm\nroot")
        same("our settings", guest.ssh("id", "vm", "cat /etc/timezone; hostname; grep -c '^127.*plain.example.com' /etc/hosts; grep LANG= /etc/default/locale"),
             "Europe/Berlin\nplain\n1\nLANG=C.UTF-8")
        same("the others ran", guest.ssh("id", "vm", "sudo cat /root/order"), "run1\nrun2\nrun3")
        guest.lines.clear()
        guest.ssh("id", "vm", "sudo systemctl reboot", check=False)
        guest.wait("hello ")
        guest.wait("done ")
        same("after a reboot it tells of that boot alone", guest.count("start: init-local/check-cache"), 1)
        same("nothing ran again", guest.ssh("id", "vm", "sudo cat /root/order"), "run1\nrun2\nrun3")
    finally:
        guest.end()


def main():
    image = subprocess.run([ROOT / "tests/guest/need", "debian"], check=True, text=True, stdout=subprocess.PIPE).stdout.strip()
    for part in (everything, plain):
        folder = pathlib.Path(tempfile.mkdtemp())
        try:
            part(folder, image, random.randrange(20000, 32000))
        except Exception as why:
            serial = folder / "serial"
            tail = serial.read_text(errors="replace")[-1500:] if serial.exists() else ""
            print(f"FAIL: {type(why).__name__}: {why}\n--- the console's end\n{tail}", file=sys.stderr)
            return 1
        finally:
            shutil.rmtree(folder)
    return 0


sys.exit(main())
