"""Worst-case stack depth of a linked RISC-V program, from its disassembly: frames, calls, calls through pointers."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

_FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
_SOURCE = re.compile(r"^(/\S+):(\d+)(?: \(discriminator \d+\))?$")
_GROWTH = re.compile(r"sp,sp,-(\d+)$")
_TARGET = re.compile(r"<([^>+]+)>$")


@dataclass
class Function:
    """Bytes of stack it takes itself, whom it calls, and the source lines of its calls through pointers."""

    frame: int = 0
    calls: set[str] = field(default_factory=set)
    pointers: set[tuple[str, int]] = field(default_factory=set)
    dynamic: bool = False  # moves the stack by a register: a VLA, or alloca


def parse(disassembly: Iterable[str]) -> dict[str, Function]:
    """Functions of ``objdump -dl --no-show-raw-insn`` by their linker names."""
    functions: dict[str, Function] = {}
    name, current, source = "", Function(), ("", 0)
    for line in map(str.rstrip, disassembly):
        if found := _FUNCTION.match(line):
            name = found[1]
            current = functions.setdefault(name, Function())
        elif found := _SOURCE.match(line):
            source = (found[1], int(found[2]))
        fields = line.split("\t")
        if len(fields) != 3:
            continue
        operation, operands = fields[1:]
        if found := _GROWTH.match(operands):
            current.frame += int(found[1])
        elif operation == "sub" and operands.startswith("sp,sp,"):
            current.dynamic = True
        target = _TARGET.search(operands)
        # With a name, jalr and jr are far calls, whose address two instructions put together.
        if target and (operation in ("jal", "jalr", "jr") or (operation == "j" and target[1] != name)):
            current.calls.add(target[1])
        elif operation == "jalr" or (operation == "jr" and operands != "ra"):
            current.pointers.add(source)
    return functions


def read_elf(elf: Path) -> dict[str, Function]:
    """Functions of a program that was linked with line numbers (-g1)."""
    command = ["riscv64-unknown-elf-objdump", "-dl", "--no-show-raw-insn", str(elf)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return parse(done.stdout.splitlines())


def deepest(
    functions: dict[str, Function], start: str, targets: Callable[[str, int], list[str]]
) -> tuple[int, list[str]]:
    """(bytes, path) of the deepest chain of calls from ``start``.

    ``targets``: the functions that a call through a pointer on that line of source may reach. Fails on recursion and
    on frames whose size is not fixed.
    """
    known: dict[str, tuple[int, list[str]]] = {}

    def visit(name: str, above: tuple[str, ...]) -> tuple[int, list[str]]:
        assert name not in above, f"recursion: {' -> '.join([*above, name])}"
        if name not in known:
            function = functions[name]
            assert not function.dynamic, f"{name} takes stack of a size known only when it runs"
            callees = set(function.calls)
            for line in function.pointers:
                callees.update(targets(*line))
            below = max((visit(c, (*above, name)) for c in sorted(callees)), key=lambda d: d[0], default=(0, []))
            known[name] = (function.frame + below[0], [name, *below[1]])
        return known[name]

    return visit(start, ())
