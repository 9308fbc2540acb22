"""Every hostile image is refused by the commands that take images, traced: nothing is executed but vm-run
itself, no name that stands inside an image is opened, and no file is made.
"""
import os
import re
import subprocess
import sys
import tempfile

BUILD = os.environ["BUILD_DIR"]
VM_RUN = f"{BUILD}/vm-run"
INSIDE = re.compile(r"shadow|secret|nonexistent|self\.qcow2|127\.0\.0\.1|/etc\"|/dev/vda|a\.raw")


def refuse(trace, image, *command):
    """Runs vm-run under strace; its status and what is wrong with what it did."""
    # a process that is traced can't be searched for leaks: LeakSanitizer would fail the run
    env = dict(os.environ, ASAN_OPTIONS="detect_leaks=0")
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", trace, "-e", "trace=execve,execveat,openat,openat2,open,connect",
         VM_RUN, *command], capture_output=True, text=True, check=False, env=env)
    with open(trace, encoding="utf-8", errors="replace") as file:
        calls = file.read().splitlines()
    wrong = [call for call in calls if INSIDE.search(call.replace(image, ""))]
    wrong += [call for call in calls if "execve" in call][1:]
    if len(done.stderr.strip().splitlines()) > 1:
        wrong.append(f"more than one line: {done.stderr}")
    return done.returncode, wrong


def main():
    n_failed = n_images = 0
    with tempfile.TemporaryDirectory(prefix="vm-hostile-") as folder:
        images, out, trace = f"{folder}/images", f"{folder}/out.qcow2", f"{folder}/trace"
        os.mkdir(images)
        subprocess.run([f"{BUILD}/tests/test-imaging-header", "--write-images", images], check=True)
        for name in sorted(os.listdir(images)):
            image = f"{images}/{name}"
            n_images += 1
            status, wrong = refuse(trace, image, "image", "overlay", image, out)
            wrong += refuse(trace, image, "image", "probe", image)[1]
            if status != 13 or wrong or os.path.lexists(out):
                print(f"FAILED: {name}: status {status}, {wrong}")
                n_failed += 1
    print(f"{n_images} images, {n_failed} failed")
    if n_images < 40 or n_failed:
        sys.exit(1)


main()
