"""The commands that users of the reference have in their notes, as argument lists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path


def expand(text: str, variables: dict[str, str]) -> str:
    """``${NAME}`` and ``$NAME`` by their values, as a shell does."""
    return re.sub(r"\$\{(\w+)\}|\$(\w+)", lambda m: variables.get(m[1] or m[2], ""), text)


def training_commands(document: Path) -> list[list[str]]:
    """See ``program_commands``."""
    return program_commands(document, "train.py")


def program_commands(document: Path, program: str) -> list[list[str]]:
    """The arguments after ``program`` of every command in the code blocks of a Markdown file, variables expanded."""
    commands = []
    for block in re.findall(r"^```bash\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE):
        variables: dict[str, str] = {}
        for line in re.sub(r"\\\n", " ", block).splitlines():
            assignment = re.fullmatch(r"\s*(\w+)=(\S*)\s*", line)
            if assignment:
                variables[assignment[1]] = expand(assignment[2], variables)
            words = shlex.split(expand(line, variables)) if program in line else []
            if program in words:
                commands.append(words[words.index(program) + 1 :])
    return commands


def value_of(arguments: list[str], flag: str) -> str | None:
    """The value after ``flag``."""
    return arguments[arguments.index(flag) + 1] if flag in arguments else None
