"""The emulated machine with a program that echoes, built with the firmware's own start-up code and serial driver."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

from support.emulated import need_emulator
from uhd.device import cross
from uhd.paths import COMPONENTS, FIRMWARE, build_root

MAIN = Path(__file__).with_name("echo_guest.cpp")


@functools.cache
def echo_guest() -> Path:
    """The ELF file."""
    need_emulator()
    emulator = FIRMWARE / "emulator"
    elf = build_root() / "test-emulator" / "echo.elf"
    elf.parent.mkdir(parents=True, exist_ok=True)
    objects = []
    for source in (MAIN, emulator / "machine.cpp", emulator / "start.S"):
        target = elf.with_name(f"echo-{source.stem}.o")
        language = cross._CXX if source.suffix == ".cpp" else ()
        includes = [f"-I{p}" for p in (emulator, *(COMPONENTS / n / "include" for n in ("uhd_core", "uhd_runtime")))]
        command = [cross.COMPILER, *cross._COMPILE, "-O2", *language, *includes, "-c", str(source), "-o", str(target)]
        subprocess.run(command, check=True)
        objects.append(str(target))
    command = [cross.LINKER, *cross._LINK, f"-T{emulator / 'link.ld'}", *objects, "-o", str(elf)]
    subprocess.run(command, check=True, capture_output=True)
    return elf
