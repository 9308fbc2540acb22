"""docs/tutorial-run.md, run as it stands, and what docs/how-to.md shows of a stalled boot.

Each `$ ` line of a console block is run. Lines after a command are what it prints, in order: `...` stands for any lines,
digits for any digits, `...` at a line's end for its rest. `vm@NAME:~$ ` lines are typed into the session. A command that
shows an error must fail, any other succeed. A yaml block that begins with `# FILE` is that file.
"""
# TIMEOUT 900
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.environ["SOURCE_DIR"], "tests", "lib"))
import documents
from vmrun import BUILD, SOURCE, Place, expect, main, need


def plain(line):
    """Without what differs each time: numbers, ages, widths of columns."""
    line = re.sub(r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]+ [A-Z][a-z]{2}\b", "DATE", " ".join(line.split()))
    return re.sub(r"[0-9]+", "0", re.sub(r"\b[0-9]+[smhd]\b", "AGE", line))


def matches(shown, line):
    shown, line = plain(shown), plain(line)
    return line.startswith(shown[:-3].rstrip()) if shown.endswith("...") else line == shown


def expect_shown(step, output):
    """Every shown line comes, in order and, unless `...` stands between, one right after the other."""
    at, is_free = 0, True
    for shown in step.shown:
        if shown == "...":
            is_free = True
            continue
        found = next((i for i in range(at, len(output)) if matches(shown, output[i])), None)
        expect(found is not None, f"$ {step.command}\nshown but not printed (from line {at} on): {shown}\n" + "\n".join(output))
        expect(is_free or found == at, f"$ {step.command}\nnot shown before '{shown}': {output[at:found]}")
        at, is_free = found + 1, False


def run(step, place):
    env = dict(place.env, PATH=f"{BUILD}:{os.environ['PATH']}")
    done = subprocess.run(["bash", "-c", step.command], cwd=place.root, env=env, input="".join(f"{t}\n" for t in step.typed),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=420)
    print(f"$ {step.command}\n{done.stdout}", flush=True)
    output = [line.rstrip() for line in done.stdout.splitlines()]
    # what depends on the host: said where there is no KVM
    output = [line for line in output if "is emulated (TCG)" not in line]
    expect_shown(step, output)
    is_refused = any("error[" in line for line in step.shown)
    if "doctor" not in step.command:
        expect((done.returncode != 0) == is_refused, f"$ {step.command}: exit {done.returncode}")


def the_tutorial():
    with Place() as place:
        shutil.copy(need("debian"), os.path.join(place.root, "debian.qcow2"))
        for block in documents.blocks(os.path.join(SOURCE, "docs", "tutorial-run.md")):
            name = re.match(r"# (\S+\.yaml)$", block.lines[0]) if block.language == "yaml" else None
            if name:
                with open(os.path.join(place.root, name.group(1)), "w") as file:
                    file.write("\n".join(block.lines) + "\n")
            for step in documents.steps(block):
                run(step, place)
        expect(not place.names(), f"left over: {place.names()}")


def a_stalled_boot():
    with Place() as place:
        with open(os.path.join(place.root, "blank.img"), "wb") as file:
            file.truncate(64 << 20)
        all_steps = [s for block in documents.blocks(os.path.join(SOURCE, "docs", "how-to.md")) for s in documents.steps(block)]
        found = [s for s in all_steps if "blank.img" in s.command]
        expect(len(found) == 1 and len(found[0].shown) > 5, "docs/how-to.md shows no stalled boot")
        run(found[0], place)


main([the_tutorial, a_stalled_boot])
