"""vm-run image inspect, with the real libguestfs and its appliance under TCG: what it finds in the
debian guest, in a disk made of a folder, and in disks that hold nothing or a broken file system; how a
deadline ends it; and that nothing is left.
"""
import glob
import json
import os
import subprocess
import sys
import tempfile
import time

BUILD, SOURCE = os.environ["BUILD_DIR"], os.environ["SOURCE_DIR"]
VM_RUN = f"{BUILD}/vm-run"

FILES = {
    "etc/os-release": 'NAME="Hand Made"\nID=debian\nVERSION_ID="12"\nPRETTY_NAME="Hand Made 12"\n',
    "etc/debian_version": "12.5\n",
    "etc/hostname": "handmade\n",
    "etc/fstab": "LABEL=root / ext4 defaults 0 1\n",
    "etc/cloud/cloud.cfg": "users:\n - default\nsystem_info:\n   default_user:\n     name: ops\n",
    "usr/bin/cloud-init": "#!/usr/bin/python3\n",
    "usr/lib/python3/dist-packages/cloudinit/version.py":
        "__VERSION__ = \"22.4.2\"\n_PACKAGED_VERSION = '22.4.2-1'\n",
    "lib/modules/6.1.0-test/modules.builtin": "kernel/drivers/block/virtio_blk.ko\n",
    "lib/modules/6.1.0-test/kernel/drivers/net/virtio_net.ko.xz": "x",
    "usr/sbin/sshd": "x",
}


def make_disk(folder):
    """A disk that is one ext4 file system with FILES, and bytes that are no UTF-8 in its label."""
    root = f"{folder}/root"
    for name, text in FILES.items():
        os.makedirs(os.path.dirname(f"{root}/{name}"), exist_ok=True)
        with open(f"{root}/{name}", "w", encoding="ascii") as file:
            file.write(text)
    for name in ("bin", "dev", "proc", "sys", "tmp", "var"):
        os.makedirs(f"{root}/{name}", exist_ok=True)
    disk = f"{folder}/made.raw"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-L", b"la\xffbel", "-d", root, disk, "32M"],
                   check=True)
    return disk


def inspect(disk, *flags):
    done = subprocess.run([VM_RUN, "image", "inspect", "--json", *flags, disk],
                          capture_output=True, text=True, timeout=840, check=False)
    print(f"-- {os.path.basename(disk)} {' '.join(flags)}: {done.returncode}\n{done.stdout}{done.stderr}",
          flush=True)
    return done


def check(is_true, what):
    if not is_true:
        sys.exit(f"failed: {what}")


def sockets():
    """libguestfs puts its socket into /tmp for root, whatever TMPDIR says."""
    return set(glob.glob("/tmp/libguestfs*"))


def check_clean(tmp, before):
    """Nothing in our own TMPDIR; what is new in /tmp may be somebody else's, who ends some day."""
    check(os.listdir(tmp) == [], "no temporary files left")
    until = time.monotonic() + 120
    while sockets() - before and time.monotonic() < until:
        time.sleep(1)
    check(not sockets() - before, "no sockets left")


def check_made(folder):
    found = json.loads(inspect(make_disk(folder)).stdout)
    os_found, init = found["os"], found["cloud_init"]
    check(found["v"] == 1, "version of the answer")
    check(os_found["type"] == "linux" and os_found["distro"] == "debian", "system")
    check(os_found["hostname"] == "handmade", "host name")
    check(os_found["version"].startswith("12"), "version")
    check(init == {"present": True, "version": "22.4.2-1", "default_user": "ops"}, "cloud-init")
    check(found["kernels"] == [{"version": "6.1.0-test", "virtio_blk": True, "virtio_net": True}],
          "kernels")
    check(found["sshd"] is True and found["guest_agent"] is False, "programs")
    (system,) = found["filesystems"]
    check(system["type"] == "ext4" and system["size"] == 32 << 20, "file system")
    check("la" in system["label"] and "bel" in system["label"], "label made valid")


def check_debian():
    image = subprocess.run([f"{SOURCE}/tests/guest/need", "debian"], check=True,
                           capture_output=True, text=True).stdout.strip()
    before = os.stat(image)
    found = json.loads(inspect(image).stdout)
    check(found["os"]["distro"] == "debian" and found["os"]["arch"] == "x86_64", "debian's system")
    check(found["os"]["version"].startswith("12"), "debian's version")
    check(found["cloud_init"]["present"] and found["cloud_init"]["version"].startswith("22.4"),
          "debian's cloud-init")
    check(found["cloud_init"]["default_user"] == "debian", "debian's user")
    check(found["guest_agent"] and found["sshd"], "debian's programs")
    check(all(k["virtio_blk"] and k["virtio_net"] for k in found["kernels"]), "debian's kernel")
    check(len(found["kernels"]) >= 1, "debian has a kernel")
    after = os.stat(image)
    check((before.st_mtime_ns, before.st_uid, before.st_mode, before.st_blocks) ==
          (after.st_mtime_ns, after.st_uid, after.st_mode, after.st_blocks), "image untouched")


def check_nothing(folder):
    """No system, and a file system with its first megabytes overwritten: answers, not failures."""
    empty, broken = f"{folder}/empty.raw", f"{folder}/made.raw"
    with open(empty, "wb") as file:
        file.truncate(8 << 20)
    with open(broken, "r+b") as file:
        file.seek(4096)
        file.write(os.urandom(4 << 20))
    for disk in (empty, broken):
        done = inspect(disk)
        found = json.loads(done.stdout)
        check(done.returncode == 0 and found["os"] is None and found["cloud_init"] is None,
              f"nothing in {disk}")


def check_deadline(folder):
    began = time.monotonic()
    done = inspect(f"{folder}/empty.raw", "--timeout", "3s")
    check(done.returncode == 7 and "E_TIMEOUT" in done.stderr, "timed out")
    check(len(done.stderr.strip().splitlines()) == 1, "one line")
    check(time.monotonic() - began < 60, "ended in time")
    mine = subprocess.run(["pgrep", "-f", f"{folder}/empty.raw"], capture_output=True, check=False)
    check(mine.stdout == b"", "no process left")


def main():
    before = sockets()
    with tempfile.TemporaryDirectory(prefix="vm-image-inspect-") as folder:
        os.environ["TMPDIR"] = f"{folder}/tmp"
        os.mkdir(os.environ["TMPDIR"])
        check_made(folder)
        check_nothing(folder)
        check_deadline(folder)
        check_debian()
        check_clean(os.environ["TMPDIR"], before)


main()
