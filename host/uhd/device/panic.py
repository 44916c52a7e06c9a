"""Addresses in a crash report of ESP-IDF, turned into functions and source lines."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
from pathlib import Path

#: Xtensa prints one line of PC:SP pairs; RISC-V the registers, of which these two are code.
_BACKTRACE = re.compile(r"Backtrace:((?: ?0x[0-9a-fA-F]{8}:0x[0-9a-fA-F]{8})+)")
_REGISTERS = re.compile(r"\b(?:MEPC|RA) +: 0x([0-9a-fA-F]{8})")
_UNKNOWN = re.compile(r"\?\? (?:at )?\?\?:")
_PREFIXES = {"esp32s3": ("xtensa-esp32s3-elf-", "xtensa-esp-elf-"), "esp32p4": ("riscv32-esp-elf-",)}
#: These read the debug information of every chip.
_GENERAL = ("llvm-addr2line", "riscv64-unknown-elf-addr2line")


def crash_addresses(line: str) -> list[int]:
    """Code addresses in a line of console text, the innermost first; none in a line that is no crash report."""
    if match := _BACKTRACE.search(line):
        return [int(pair.partition(":")[0], 16) for pair in match[1].split()]
    # A register dump has MEPC and RA; a line of other registers has neither.
    return [int(value, 16) for value in _REGISTERS.findall(line) if int(value, 16)]


def find_elf(folder: Path) -> Path | None:
    """The app's ELF file in an ESP-IDF build folder, or in its ``idf/``."""
    for candidate in (folder, folder / "idf"):
        described = candidate / "project_description.json"
        if described.is_file():
            try:
                name = json.loads(described.read_text(encoding="utf-8"))["app_elf"]
            except (ValueError, KeyError):
                continue
            if (candidate / name).is_file():
                return candidate / name
    return next(iter(sorted(folder.glob("*.elf"))), None)


def find_addr2line(chip: str = "") -> str | None:
    """A program that knows this chip's debug information: ESP-IDF's own, or a general one."""
    chips = _PREFIXES.get(chip, tuple(p for prefixes in _PREFIXES.values() for p in prefixes))
    names = [*(f"{prefix}addr2line" for prefix in chips), *_GENERAL]
    return next((path for name in names if (path := shutil.which(name))), None)


class Decoder:
    """Looks addresses up in an ELF file. Says nothing where program, file or address is not there."""

    def __init__(self, elf: Path, program: str) -> None:
        self.elf, self.program = elf, program

    def lines(self, text: str) -> list[str]:
        """One line for every code address in a line of console text."""
        return [line for address in crash_addresses(text) if (line := self._look_up(address))]

    @functools.lru_cache(maxsize=256)  # noqa: B019 - lives as long as the monitor
    def _look_up(self, address: int) -> str:
        command = [self.program, "-pfiaC", "-e", str(self.elf), hex(address)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        found = " ".join(done.stdout.split())
        return found if done.returncode == 0 and not _UNKNOWN.search(found) else ""
