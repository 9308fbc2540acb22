"""Reads the code blocks of a Markdown file: what a person is told to type, and what they are told to see."""
import re
from dataclasses import dataclass, field


@dataclass
class Block:
    language: str
    line: int  # of its first line
    lines: list = field(default_factory=list)


@dataclass
class Step:
    command: str
    line: int
    typed: list = field(default_factory=list)  # into the session that it begins
    shown: list = field(default_factory=list)


def blocks(path):
    found, block = [], None
    with open(path) as file:
        for number, line in enumerate(file.read().splitlines(), 1):
            fence = re.match(r"\s*```(\w*)$", line)
            if not fence and block is not None:
                block.lines.append(line)
            elif fence and block is None:
                block = Block(fence.group(1), number + 1)
            elif fence:
                found.append(block)
                block = None
    if block is not None:
        raise ValueError(f"{path}:{block.line}: this block has no end")
    return found


def steps(block):
    """The commands of a console block. A line that ends with a backslash goes on in the next."""
    found, is_open = [], False
    for number, line in enumerate(block.lines, block.line):
        typed = re.match(r"[\w-]+@[\w-]+:~[$#] ?(.*)", line)
        if block.language != "console":
            break
        if is_open:
            found[-1].command += "\n" + line
        elif line.startswith("$ "):
            found.append(Step(line[2:], number))
        elif not found:
            raise ValueError(f"line {number}: output before a command")
        elif typed:
            found[-1].typed.append(typed.group(1))
        else:
            found[-1].shown.append(line)
        is_open = (is_open or line.startswith("$ ")) and line.endswith("\\")
    return found
