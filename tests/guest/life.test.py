#!/usr/bin/env python3
"""A machine's life with a real guest (tiny): run, look, follow, end, crash; each scene leaves the census as it was."""
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.environ["SOURCE_DIR"], "tests", "lib"))
from vmrun import BUILD, VM_RUN, Place, expect, main, need, wait_until

TINY = need("tiny")
RUN = ["run", TINY, "--memory", "256MiB"]
LOOK_S = 0.05    # ps, show, logs
ACK_S = 0.2      # stop


def timed(place, *argv):
    began = time.monotonic()
    place.run(*argv, status=0)
    return time.monotonic() - began


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def command_passes_output_and_status_and_leaves_nothing():
    with Place() as p:
        image = os.stat(TINY)
        done = p.run(*RUN, "--name", "once", "--rm", "--", "sh", "-c", "echo out; echo err >&2; exit 7", status=7)
        expect(done.stdout == "out\n", f"stdout is {done.stdout!r}")
        expect("err" in done.stderr, "the command's stderr is missing")
        before = p.take(["once"])
        done = p.run(*RUN, "--name", "once", "--rm", "--quiet", "--", "echo", "a  b", "$HOME;*", status=0)
        expect(done.stdout == "a  b $HOME;*\n", f"arguments were changed: {done.stdout!r}")
        expect(p.take(["once"]) == before, "something was left behind")
        now = os.stat(TINY)
        expect((now.st_mtime_ns, now.st_mode, now.st_uid) == (image.st_mtime_ns, image.st_mode, image.st_uid), "the base image changed")


def others_look_and_stop_while_one_follows():
    with Place() as p:
        follower = p.spawn(*RUN, "--name", "web", "-d", "--wait", "ready")
        wait_until(lambda: p.names() and p.run("ps", "--quiet").stdout == "web\n" and p.show("web")["status"] == "running", 30, "it runs")
        for what in (["ps"], ["show", "web"], ["logs", "web"], ["events", "web"]):
            best = min(timed(p, *what) for _ in range(5))
            expect(best < LOOK_S, f"{what[0]} took {best * 1000:.0f} ms")
        began = time.monotonic()
        stop = p.spawn("stop", "web")
        ready, _, _ = select.select([stop.stderr], [], [], 5)
        took = time.monotonic() - began
        expect(ready and took < ACK_S, f"stop acknowledged after {took * 1000:.0f} ms")
        stop.communicate(timeout=60)
        expect(stop.returncode == 0, "stop failed")
        follower.communicate(timeout=30)
        expect(follower.returncode != 1, "the follower calls it a bug")
        expect(p.show("web")["status"] == "stopped", "it is not stopped")
        p.run("rm", "web", status=0)


def guest_powers_itself_off():
    with Place() as p:
        p.run(*RUN, "--name", "off", "--user", "root", "-d", "--wait", "ssh", "--rm", status=0)
        pid = p.show("off")["qemu_pid"]
        p.run("ssh", "off", "--", "poweroff")
        wait_until(lambda: not is_alive(pid), 60, "QEMU ends")
        took = wait_until(lambda: not p.names(), 30, "--rm is done")
        expect(took < 1, f"--rm took {took:.2f} s after QEMU's end")
        wait_until(lambda: not p.take(["off"])["processes"], 30, "watcher and end command end")

        p.run(*RUN, "--name", "off", "--user", "root", "-d", "--wait", "ssh", status=0)
        pid = p.show("off")["qemu_pid"]
        p.run("ssh", "off", "--", "poweroff")
        wait_until(lambda: not is_alive(pid), 60, "QEMU ends")
        took = wait_until(lambda: p.show("off")["end_reason"], 30, "the reason is recorded")
        expect(took < 1, f"the reason came {took:.2f} s after QEMU's end")
        expect(p.show("off")["end_reason"] == "guest-shutdown", f"reason {p.show('off')['end_reason']}")
        wait_until(lambda: p.show("off")["status"] == "stopped", 30, "it is stopped")
        p.run("start", "off", "--wait", "ssh", status=0)
        expect(p.show("off")["boot"] == 2, "it did not start a second time")


def guest_reboots_and_the_machine_stays():
    with Place() as p:
        p.run(*RUN, "--name", "again", "--user", "root", "-d", "--wait", "ssh", "-p", "auto:80", status=0)
        first = p.show("again")
        p.run("ssh", "again", "--", "reboot")
        wait_until(lambda: any(e["type"] == "reboot" for e in p.events("again")), 60, "the reboot is seen")
        n = sum(e["type"] == "stage" and e["stage"] == "ssh" and e["state"] == "done" for e in p.events("again"))
        wait_until(lambda: sum(e["type"] == "stage" and e["stage"] == "ssh" and e["state"] == "done" for e in p.events("again")) > n or n > 1,
                   120, "ssh is back")
        second = p.show("again")
        expect(first["qemu_pid"] == second["qemu_pid"] and first["forwards"] == second["forwards"], "the machine changed")
        p.run("ssh", "again", "--", "true", status=0)
        expect([e for e in p.events("again") if e["type"] == "reboot"][0]["by"] == "guest", "who rebooted it")


def crashes_tell_how_it_ended():
    with Place() as p:
        p.run(*RUN, "--name", "m", "-d", "--wait", "started", status=0)
        view = p.show("m")
        os.kill(view["watcher_pid"], signal.SIGKILL)
        wait_until(lambda: not is_alive(view["watcher_pid"]), 30, "the watcher ends")
        expect(is_alive(view["qemu_pid"]), "QEMU died with its watcher")
        p.run("gc", status=0)
        again = p.show("m")
        expect(again["watcher_pid"] not in (0, view["watcher_pid"]), "no new watcher")
        os.kill(view["qemu_pid"], signal.SIGKILL)
        wait_until(lambda: p.show("m")["end_reason"], 30, "the end is recorded")
        expect(p.show("m")["end_reason"] in ("killed", "crashed"), f"reason {p.show('m')['end_reason']}")
        wait_until(lambda: p.show("m")["status"] == "stopped", 30, "it is stopped")

        p.run("start", "m", "--wait", "started", status=0)
        view = p.show("m")
        os.kill(view["qemu_pid"], signal.SIGKILL)
        wait_until(lambda: p.show("m")["end_reason"], 30, "the end is recorded")
        end = [e for e in p.events("m") if e["type"] == "end"][-1]
        expect(end.get("signal") == 9 or "9" in str(end), f"the parent knows no signal: {end}")

        p.run("start", "m", "--wait", "started", status=0)
        view = p.show("m")
        for pid in (view["watcher_pid"], view["qemu_pid"]):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(view["qemu_pid"]), 30, "QEMU ends")
        p.run("start", "m", "--wait", "started", status=0)
        expect([e for e in p.events("m") if e["type"] == "end"][-1]["reason"] == "lost", "an unseen end is 'lost'")


def an_old_end_never_ends_a_new_boot():
    """The watcher's end command of the last boot may come when the next one runs already."""
    with Place() as p:
        p.run(*RUN, "--name", "m", "-d", "--wait", "started", status=0)
        for i in range(8):
            pid = p.show("m")["qemu_pid"]
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not is_alive(pid), 30, "QEMU ends")
            p.run("start", "m", "--wait", "started", status=0)
            wait_until(lambda: not [c for c in p.take(["m"])["processes"] if "internal-end" in c], 20, "the old end command ends")
            view = p.show("m")
            expect(view["status"] == "running" and is_alive(view["qemu_pid"]), f"round {i}: {view['status']}")
            expect(view["boot"] == i + 2, f"round {i}: boot {view['boot']}")


def a_host_reboot_is_survived():
    with Place() as p:
        p.run(*RUN, "--name", "m", "-d", "--wait", "started", status=0)
        view = p.show("m")
        for pid in (view["watcher_pid"], view["qemu_pid"]):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(view["qemu_pid"]), 30, "QEMU ends")
        path = os.path.join(p.state, "machines", "m", "boot.json")
        with open(path) as file:
            text = file.read()
        with open(path, "w") as file:  # the pid now belongs to somebody else, in another boot of the host
            file.write(re.sub(r'"boot_id": ?"[^"]*"', '"boot_id":"00000000-0000-0000-0000-000000000000"',
                              text.replace(f'"qemu_pid":{view["qemu_pid"]}', f'"qemu_pid":{os.getpid()}')))
        subprocess.run(["rm", "-rf", view["console"].rsplit("/", 1)[0]], check=True)
        expect(p.show("m")["status"] == "stopped", "it counts as running")
        p.run("start", "m", "--wait", "started", status=0)
        expect(p.show("m")["status"] == "running", "it does not run again")


def two_runs_of_one_name():
    with Place() as p:
        both = [p.spawn(*RUN, "--name", "one", "-d", "--wait", "started") for _ in range(2)]
        ends = sorted((child.communicate(timeout=120)[1], child.returncode) for child in both)
        codes = sorted(code for _, code in ends)
        expect(codes == [0, 6], f"exit statuses {codes}: {ends}")
        loser = [text for text, code in ends if code == 6][0].strip().splitlines()[-1]
        expect(re.search(r"error\[E_(EXISTS|BUSY)\]", loser), loser)
        p.run("rm", "one", status=6)
        p.run("rm", "--force", "one", status=0)
        p.run("rm", "one", status=5)


def a_taken_port_is_an_error_that_names_its_holder():
    with Place() as p, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        p.run("ps", status=0)
        done = p.run(*RUN, "--name", "m", "-d", "-p", f"{port}:80", status=6)
        expect(str(port) in done.stderr and str(os.getpid()) in done.stderr, done.stderr)
        expect(not p.names() and not p.take(["m"])["processes"], "something was left behind")


def nothing_bootable_is_said_at_once():
    with Place() as p:
        image = os.path.join(p.root, "empty.raw")
        with open(image, "wb") as file:
            file.truncate(16 << 20)
        p.run("run", image, "--name", "warm", "-d", "--wait", "started", "--memory", "64MiB", status=0)
        p.run("rm", "--force", "warm", status=0)
        began = time.monotonic()
        done = p.run("run", image, "--name", "m", "--memory", "64MiB", "--rm", "-d", status=10, limit_s=60)
        expect(time.monotonic() - began < 50, "it took too long to be recognised")
        expect("No bootable device" in done.stderr, done.stderr)
        expect(not p.names(), "--rm left it")


def a_full_disk_undoes_all():
    with Place() as p:
        p.run(*RUN, "--name", "warm", "-d", "--wait", "started", status=0)
        p.run("rm", "--force", "warm", status=0)
        for size in ("4k", "16k", "32k", "48k", "128k"):
            small = os.path.join(p.root, "small")
            os.makedirs(small, mode=0o711, exist_ok=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=711", "small", small], check=True)
            try:
                done = p.run(*RUN, "--name", "m", "-d", "--wait", "started", "--state-dir", small,
                             "--connect", p.env["VM_RUN_URI"])
                expect(done.returncode in (8, 4), f"{size}: exit {done.returncode}: {done.stderr}")
                expect("No space left" in done.stderr, f"{size}: {done.stderr}")
                p.run("gc", "--state-dir", small, "--connect", p.env["VM_RUN_URI"], status=0)
                left = [f for _, d, files in os.walk(small) for f in files if not f.startswith("libvirt")]
                expect(not left, f"{size}: left {left}")
            finally:
                subprocess.run(["umount", small], check=True)


def a_missing_part_is_named_and_nothing_is_left():
    with Place() as p:
        parts = os.path.join(p.root, "bin")
        os.makedirs(parts)
        for missing in ("vm-run-watch", "vm-run-embed", "vm-run-domain.so", "vm-run-iso.so"):
            shutil.rmtree(parts)
            shutil.copytree(BUILD, parts, ignore=lambda _, names: [n for n in names if not n.startswith("vm-run") or n == missing])
            p.vm_run = os.path.join(parts, "vm-run")
            done = p.run(*RUN, "--name", "m", "-d", "--wait", "started")
            expect(done.returncode in (4, 5), f"without {missing}: exit {done.returncode}: {done.stderr}")
            expect(missing in done.stderr, f"without {missing}: {done.stderr}")
            p.vm_run = VM_RUN
            expect(not p.names(), f"without {missing}: left {p.names()}")


def secrets_are_in_0600_files_only():
    canary = f"S3CR3T-{os.getpid()}-canary"
    with Place() as p:
        user_data = os.path.join(p.root, "user-data")
        with open(user_data, "w") as file:
            file.write(f"#cloud-config\nwrite_files: [{{path: /x, content: {canary}}}]\n")
        spec = os.path.join(p.root, "spec.yaml")
        with open(spec, "w") as file:
            file.write(f"version: 1\nname: s\nvms:\n  m:\n    image: {TINY}\n    memory: 256MiB\n    cloud_init: {{user_data: {user_data}}}\n"
                       f"    write_files: [{{path: /y, content: {canary}}}]\n    run: [\"echo {canary}\"]\n")
        os.chmod(user_data, 0o600)
        os.chmod(spec, 0o600)
        done = p.run("run", "-f", spec, "-d", "--wait", "started", status=0, env={"VM_RUN_LOG": "debug"})
        expect(canary not in done.stdout + done.stderr, "in what run printed")
        for pid in filter(str.isdigit, os.listdir("/proc")):
            for file in ("cmdline", "environ"):
                try:
                    with open(f"/proc/{pid}/{file}", "rb") as text:
                        expect(canary.encode() not in text.read() or int(pid) == os.getpid(), f"in /proc/{pid}/{file}")
                except OSError:
                    continue
        for folder, _, files in os.walk(p.root):
            for name in files:
                path = os.path.join(folder, name)
                if not os.path.isfile(path):
                    continue
                with open(path, "rb") as file:
                    has = canary.encode() in file.read()
                mode = os.stat(path).st_mode & 0o777
                expect(not has or mode & 0o077 == 0, f"{path} has mode {mode:o}")
                expect(not has or name in ("spec.json", "seed.iso", "user-data", "spec.yaml"), f"in {path}")
        for what in (["show", "m"], ["show", "m", "--json"], ["events", "m"], ["ps", "--json"]):
            expect(canary not in p.run(*what, status=0).stdout, f"in {what}")


def a_damaged_record_destroys_nothing():
    with Place() as p:
        p.run(*RUN, "--name", "m", "-d", "--wait", "started", status=0)
        p.run("stop", "m", "--timeout", "0s")
        path = os.path.join(p.state, "machines", "m", "record.json")
        with open(path) as file:
            whole = file.read()
        for bad in ("", whole[: len(whole) // 2], whole.replace('"v": 1', '"v": 2'), "[]"):
            with open(path, "w") as file:
                file.write(bad)
            for command in (["start", "m"], ["rm", "m"], ["show", "m"]):
                done = p.run(*command)
                expect(done.returncode == 4 and "E_STATE" in done.stderr, f"{command}: {done.returncode} {done.stderr}")
            expect(os.path.exists(os.path.join(p.state, "machines", "m", "root.qcow2")), "the disk is gone")
        with open(path, "w") as file:
            file.write(whole)
        p.run("rm", "m", status=0)


main([command_passes_output_and_status_and_leaves_nothing, others_look_and_stop_while_one_follows, guest_powers_itself_off,
      guest_reboots_and_the_machine_stays, crashes_tell_how_it_ended, an_old_end_never_ends_a_new_boot, a_host_reboot_is_survived, two_runs_of_one_name,
      a_taken_port_is_an_error_that_names_its_holder, nothing_bootable_is_said_at_once, a_full_disk_undoes_all, a_missing_part_is_named_and_nothing_is_left,
      secrets_are_in_0600_files_only, a_damaged_record_destroys_nothing])
