"""Benchmarks of what needs no machine: overlay, seed, plan, the command line itself."""
import os
import subprocess

from harness import VM_RUN, Run, folder, limit_result, need_program, pairs, result, run_program, time_command

USER_DATA = "#cloud-config\npackage_update: false\nruncmd:\n  - echo hello\n"
VENDOR_DATA = ("#cloud-config\nuser: {name: ops}\ntimezone: Europe/Berlin\nlocale: C.UTF-8\npackages: [nginx]\n"
               "write_files:\n  - {path: /etc/motd, content: Hello}\n")
META_DATA = '{"instance-id": "11111111-2222-3333-4444-555555555555", "local-hostname": "web"}\n'
NETWORK_CONFIG = 'version: 2\nethernets:\n  nic0: {match: {macaddress: "52:54:00:12:34:56"}, dhcp4: true}\n'


def _base_image(place):
    """A qcow2 of 20 GiB, as cloud images are: sparse."""
    need_program("qemu-img")
    base = os.path.join(place, "base.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", base, "20G"], check=True)
    return base


def _fresh(path, argv):
    """Times a command that makes the file `path`."""
    run = time_command(argv)
    os.unlink(path)
    return run


def _qemu_img(base, target):
    return ["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", target]


def overlay(n, quiet):
    with folder() as place:
        base, target = _base_image(place), os.path.join(place, "peer.qcow2")
        os.environ["TMPDIR"] = place  # where bench-overlay works: the same file system
        measured = pairs(n or 30, lambda: Run(run_program("bench-overlay", base, 50)["ours_ms"]),
                         lambda: _fresh(target, _qemu_img(base, target)), quiet)
        del os.environ["TMPDIR"]
    yield result("overlay", measured, "in-process: open, check and overlay a 20 GiB image (bench-overlay, median of 50)",
                 "qemu-img create -f qcow2 -b BASE -F qcow2 FILE", 20)


def overlay_command(n, quiet):
    with folder() as place:
        base, ours, peer = _base_image(place), os.path.join(place, "ours.qcow2"), os.path.join(place, "peer.qcow2")
        measured = pairs(n or 30, lambda: _fresh(ours, [VM_RUN, "image", "overlay", base, ours]),
                         lambda: _fresh(peer, _qemu_img(base, peer)), quiet)
    yield result("overlay-command", measured, "vm-run image overlay BASE FILE", "qemu-img create -f qcow2 -b BASE -F qcow2 FILE", 3)


def seed(n, quiet):
    need_program("cloud-localds")
    with folder() as place:
        for name, text in (("user", USER_DATA), ("vendor", VENDOR_DATA), ("meta", META_DATA), ("network", NETWORK_CONFIG)):
            with open(os.path.join(place, name), "w") as file:
                file.write(text)
        user, vendor, meta, network, iso = (os.path.join(place, f) for f in ("user", "vendor", "meta", "network", "seed.iso"))
        argv = ["cloud-localds", "-V", vendor, "-N", network, iso, user, meta]
        os.environ["TMPDIR"] = place
        measured = pairs(n or 20, lambda: Run(run_program("bench-seed", 50)["ours_ms"]), lambda: _fresh(iso, argv), quiet)
        del os.environ["TMPDIR"]
    yield result("seed", measured, "in-process: texts and ISO of a typical seed (bench-seed, median of 50)",
                 "cloud-localds -V VENDOR -N NETWORK SEED.ISO USER META", 50)


def plan(n, quiet):
    runs, xml_ms = [], []
    for _ in range(n or 10):
        quiet.wait()
        line = run_program("bench-plan", 1000)
        runs.append(Run(line["ours_ms"]))
        xml_ms.append(line["xml_ms"])
    yield limit_result("plan", runs, "in-process: machine_plan_build() (bench-plan, median of 1000)", 1,
                       plan_and_xml_ms=sorted(xml_ms)[len(xml_ms) // 2])


def cli(n, quiet):
    with folder() as place:
        base = _base_image(place)
        for name, argv in (("cli-version", ["version"]), ("cli-help", ["--help"]), ("cli-image-probe", ["image", "probe", base])):
            time_command([VM_RUN, *argv])
            runs = []
            for _ in range(n or 30):
                quiet.wait()
                runs.append(time_command([VM_RUN, *argv]))
            yield limit_result(name, runs, f"vm-run {' '.join(argv[:2])}".replace(base, "IMAGE"), 10)
