"""README.md and docs/: every command line parses, every spec passes `check`, every link leads somewhere.

A command line parses when its command exists and each of its flags is in that command's --help. The tutorial's commands are
run as well, by tests/guest/docs.test.py, and README's first screen shows only what the tutorial does.
"""
import functools
import glob
import os
import re
import shlex
import subprocess
import sys

SOURCE = os.environ["SOURCE_DIR"]
VM_RUN = os.path.join(os.environ["BUILD_DIR"], "vm-run")
sys.path.insert(0, os.path.join(SOURCE, "tests", "lib"))
import documents

mistakes = []
checked = {"commands": 0, "specs": 0, "links": 0}


def mistake(path, line, what):
    mistakes.append(f"{os.path.relpath(path, SOURCE)}:{line}: {what}")


def text_of(path):
    with open(path) as file:
        return file.read()


# --- commands -----------------------------------------------------------------------------------------------------

@functools.cache
def flags_of(*command):
    """The flags of a command and which of them take a value; None: there is no such command."""
    done = subprocess.run([VM_RUN, *command, "--help"], capture_output=True, text=True)
    if done.returncode:
        return None
    flags = {}
    for match in re.finditer(r"^ +(?:-(\w), )?--([\w-]+)( [A-Z][A-Z=]*)?", done.stdout, re.M):
        for name in filter(None, (match.group(1) and f"-{match.group(1)}", f"--{match.group(2)}")):
            flags[name] = bool(match.group(3))
    return flags


def own_words(words):
    """Those of one vm-run: up to a pipe, a redirection or the guest's command."""
    ends = [i for i, word in enumerate(words) if word in ("|", "<", ">", "--", ";", "&&", ";;")]
    return words[:min(ends, default=len(words))]


def command_of(words):
    """(flags before it, the command, what follows); global flags may stand first."""
    i = 0
    while i < len(words) and words[i].startswith("-"):
        i += 2 if words[i] in ("--state-dir", "--connect") else 1
    n = 2 if words[i:i + 1] in (["image"], ["network"]) else 1
    return words[i:i + n], words[:i] + words[i + n:]


def check_words(path, line, words):
    command, rest = command_of(own_words(words))
    if command == ["COMMAND"] or not command:
        command = command[1:]
    flags = flags_of(*command)
    checked["commands"] += 1
    if flags is None:
        mistake(path, line, f"no such command: vm-run {' '.join(command)}")
        return
    i = 0
    while i < len(rest):
        name, _, value = rest[i].partition("=")
        if name.startswith("-") and len(name) > 1:
            if name not in flags and name not in ("--help", "-h"):
                mistake(path, line, f"vm-run {' '.join(command)} has no flag {name}")
            elif flags.get(name) and not value:
                i += 1
        i += 1


def words_of(text):
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|<>;&")
    lexer.whitespace_split = True
    return list(lexer)


def check_make(path, line, words):
    targets = re.findall(r"^([\w-]+):", text_of(os.path.join(SOURCE, "Makefile")), re.M)
    for target in [w for w in words if w not in targets and "=" not in w]:
        mistake(path, line, f"make has no target {target}")


def check_line(path, line, text):
    """A command line, or what follows a shell's `10) ` or `| `."""
    try:
        words = words_of(text)
    except ValueError as problem:
        mistake(path, line, f"{problem}: {text}")
        return
    for i, word in enumerate(words):
        if word == "vm-run" and (i == 0 or words[i - 1] in ("|", ";", "-r") or words[i - 1].endswith(")")):
            check_words(path, line, words[i + 1:])
    if words[:1] == ["make"]:
        check_make(path, line, words[1:])


def check_blocks(path):
    for block in documents.blocks(path):
        if block.language == "console":
            for step in documents.steps(block):
                check_line(path, step.line, step.command)
        elif block.language == "sh":
            for number, line in enumerate(block.lines, block.line):
                check_line(path, number, line)
        elif block.language == "yaml" and not path.endswith("tutorial-run.md"):
            check_spec(path, block)


def check_spec(path, block):
    done = subprocess.run([VM_RUN, "check", "-"], input="\n".join(block.lines) + "\n", capture_output=True, text=True)
    checked["specs"] += 1
    if done.returncode:
        mistake(path, block.line, f"this spec has mistakes: {done.stdout}{done.stderr}")


def check_inline(path):
    is_code = False
    for number, line in enumerate(text_of(path).splitlines(), 1):
        if line.lstrip().startswith("```"):
            is_code = not is_code
        for code in [] if is_code else re.findall(r"`(vm-run [^`]+)`", line):
            if not re.search(r"\.\.|\[|\|", code):  # a usage line
                check_line(path, number, code)


# --- links --------------------------------------------------------------------------------------------------------

def anchors(path):
    headings = re.findall(r"^#+ (.*)$", text_of(path), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def check_links(path):
    for number, line in enumerate(text_of(path).splitlines(), 1):
        for target in re.findall(r"\]\(([^)\s]+)\)", line):
            if re.match(r"\w+:", target):
                continue
            checked["links"] += 1
            name, _, anchor = target.partition("#")
            to = os.path.normpath(os.path.join(os.path.dirname(path), name)) if name else path
            if not os.path.exists(to):
                mistake(path, number, f"no such file: {target}")
            elif anchor and anchor not in anchors(to):
                mistake(path, number, f"no such heading: {target}")


# --- the first screen -----------------------------------------------------------------------------------------------

def plain(line):
    return re.sub(r"[0-9]+", "0", " ".join(line.split()))


def check_first_screen():
    """What README shows of a run is what the tutorial shows, which is run with the guest tests."""
    def runs(name):
        path = os.path.join(SOURCE, name)
        return [(path, step) for block in documents.blocks(path) for step in documents.steps(block)
                if step.command.startswith("vm-run run debian")]

    known = [plain(line) for line in runs("docs/tutorial-run.md")[0][1].shown]
    path, step = runs("README.md")[0]
    shown = [plain(line) for line in step.shown if line != "..."]
    for line in [line for line in shown if line not in known]:
        mistake(path, step.line, f"the tutorial does not show: {line}")
    if len(shown) < 3 or shown != sorted(shown, key=lambda line: known.index(line) if line in known else 0):
        mistake(path, step.line, "too little is shown, or not in order")


# --- the architecture -------------------------------------------------------------------------------------------------

def check_architecture():
    """Every program and part that is built is named, and every program, part and source file that is named exists."""
    path = os.path.join(SOURCE, "docs", "architecture.md")
    text = text_of(path)
    built = set()
    for cmake in glob.glob(os.path.join(SOURCE, "*", "CMakeLists.txt")):
        built.update(re.findall(r"^ *(?:vm_module|add_executable)\((vm-run-[\w-]+)", text_of(cmake), re.M))
    named = {name for name in re.findall(r"`(vm-run-[\w-]+)(?:\.so)?", text)}
    for name in sorted(built - named):
        mistake(path, 1, f"{name} is not named")
    for name in sorted(named - built):
        mistake(path, 1, f"{name} is not built")
    for name in re.findall(r"`([\w/]+\.[ch])`", text):
        if not glob.glob(os.path.join(SOURCE, "**", name), recursive=True):
            mistake(path, 1, f"there is no {name}")


files = [os.path.join(SOURCE, "README.md"), *sorted(glob.glob(os.path.join(SOURCE, "docs", "**", "*.md"), recursive=True))]
for file in files:
    check_links(file)
    check_inline(file)
    if os.path.dirname(file) != os.path.join(SOURCE, "docs", "reference"):
        check_blocks(file)
check_first_screen()
check_architecture()
print("\n".join(mistakes))
print(f"{len(files)} documents, {checked}, {len(mistakes)} mistakes")
sys.exit(1 if mistakes or min(checked.values()) == 0 else 0)
