"""Checks of what a build for a chip, and a board on this machine, need."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from uhd.device import idf
from uhd.device.doctor_check import CHIPS, Check
from uhd.device.esptool_program import GET_ESPTOOL, find_esptool
from uhd.device.serial_ports import access_fix, list_serial_ports
from uhd.device.versions import satisfies
from uhd.paths import FIRMWARE

#: Compilers by chip; ESP-IDF before 5.3 named the first one after the chip.
COMPILERS = {"esp32s3": ("xtensa-esp32s3-elf-gcc", "xtensa-esp-elf-gcc"), "esp32p4": ("riscv32-esp-elf-gcc",)}
_BUILD_TOOLS = ("cmake", "ninja")
#: Programs that take serial ports away -> how to stop them.
_GRABBERS = {
    "ModemManager": "`sudo systemctl disable --now ModemManager`",
    "brltty": "`sudo apt-get remove brltty`",
}


def esp_idf() -> Iterator[Check]:
    """An active ESP-IDF that is new enough, and the programs it builds with."""
    purpose = "building for a chip"
    wanted = ".".join(map(str, idf.MIN_VERSION))
    found = idf.find_idf()
    if found is None:
        yield Check("ESP-IDF", "missing", f"not active (wanted >= {wanted})", purpose, idf.GET_IDF, CHIPS, True)
        return
    version = ".".join(map(str, found.version)) or "of unknown version"
    old = bool(found.version) and found.version[:2] < idf.MIN_VERSION
    text = f"{version} at {found.path}"
    yield Check("ESP-IDF", "missing" if old else "ok", text, purpose, idf.GET_IDF if old else "", CHIPS, True)
    absent = [tool for tool in _BUILD_TOOLS if not shutil.which(tool)]
    fix = f"`{found.path}/install.sh esp32s3,esp32p4`, then `. {found.path}/export.sh`" if absent else ""
    text = f"no {' and no '.join(absent)}" if absent else " and ".join(_BUILD_TOOLS)
    yield Check("ESP-IDF's tools", "missing" if absent else "ok", text, purpose, fix, CHIPS, True)


def toolchains() -> Iterator[Check]:
    """The compiler of each chip, on PATH as ``export.sh`` leaves it."""
    for chip, names in COMPILERS.items():
        path = next((p for name in names if (p := shutil.which(name))), None)
        fix = "" if path else f"`$IDF_PATH/install.sh {chip}`, then `. $IDF_PATH/export.sh`"
        yield Check(
            f"compiler for {chip}",
            "ok" if path else "missing",
            path or "not on PATH",
            f"building for {chip}",
            fix,
            (chip,),
            True,
        )


def manifests(firmware: Path = FIRMWARE) -> dict[str, str]:
    """Component -> version range, from the hand-written manifests of the firmware; ESP-IDF itself left out."""
    import yaml

    wanted: dict[str, str] = {}
    folders = [firmware / "main", *sorted((firmware / "components").glob("*"))]
    for path in (folder / "idf_component.yml" for folder in folders):
        content = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
        for name, value in ((content or {}).get("dependencies") or {}).items():
            ranges = value.get("version", "*") if isinstance(value, dict) else value
            local = isinstance(value, dict) and ("path" in value or "override_path" in value)
            if name != "idf" and not local:
                wanted[name if "/" in name else f"espressif/{name}"] = str(ranges)
    return wanted


def components(firmware: Path = FIRMWARE) -> Iterator[Check]:
    """What ESP-IDF's component manager has locked, against the manifests."""
    wanted = manifests(firmware)
    if not wanted:
        return
    name, purpose = "components", "building for a chip (camera, display, ESP-DL)"
    locks = sorted(firmware.glob("dependencies.lock*"))
    if not locks:
        text = f"{len(wanted)} wanted, none locked yet"
        yield Check(name, "warning", text, purpose, "the first build-fw for a chip downloads them (network)")
        return
    wrong = [f"{lock.name}: {text}" for lock in locks for text in _unlike(wanted, lock)]
    fix = f"delete {', '.join(lock.name for lock in locks)} in firmware/ and build again" if wrong else ""
    found = "; ".join(wrong) or f"{len(wanted)} locked as wanted"
    yield Check(name, "warning" if wrong else "ok", found, purpose, fix)


def _unlike(wanted: Mapping[str, str], lock: Path) -> Iterator[str]:
    import yaml

    content: Any = yaml.safe_load(lock.read_text(encoding="utf-8"))
    locked = {n: str(v.get("version", "")) for n, v in (content.get("dependencies") or {}).items()}
    for name, ranges in wanted.items():
        if name not in locked:
            continue  # a component of another chip
        try:
            if not satisfies(locked[name], ranges):
                yield f"{name} {locked[name]} (wanted {ranges})"
        except ValueError as error:
            yield f"{name}: {error}"


def flasher() -> Iterator[Check]:
    """esptool, which ``flash`` runs."""
    purpose = "flashing a board, also without ESP-IDF"
    tool = find_esptool()
    if tool is None:
        yield Check("esptool", "missing", "none", purpose, GET_ESPTOOL)
        return
    version = ".".join(map(str, tool.version))
    old = tool.version < (4, 8)
    yield Check(
        "esptool",
        "warning" if old else "ok",
        f"{version} ({' '.join(tool.command)})",
        purpose,
        GET_ESPTOOL if old else "",
    )


def platformio() -> Iterator[Check]:
    """PlatformIO, for those who prefer it."""
    purpose = "building with PlatformIO instead of idf.py (optional)"
    program = shutil.which("pio") or shutil.which("platformio")
    try:
        found = f"{importlib.metadata.version('platformio')} in this environment"
    except importlib.metadata.PackageNotFoundError:
        found = program or ""
    fix = "" if found else "pipx install platformio"
    yield Check("PlatformIO", "ok" if found else "missing", found or "none (optional)", purpose, fix)


def ports() -> Iterator[Check]:
    """Boards that are plugged in, whether this user may open them, and programs that take ports away."""
    purpose = "flashing and talking to a board"
    boards = [port for port in list_serial_ports() if port.plausible]
    if not boards:
        yield Check("serial port", "warning", "no board plugged in", purpose, "plug it in with a data cable")
    for board in boards:
        fix = access_fix(board.path)
        found = f"{board}{': this user may not open it' if fix else ''}"
        yield Check("serial port", "broken" if fix else "ok", found, purpose, fix, CHIPS)
    running = running_programs()
    for program, fix in _GRABBERS.items():
        if program in running:
            yield Check(program, "warning", "is running and may take the port of a board", purpose, fix)


def running_programs(proc: Path = Path("/proc")) -> set[str]:
    """Names of the running programs; empty where the system does not tell."""
    names = set()
    for folder in os.listdir(proc) if proc.is_dir() else ():  # noqa: PTH208 - a Path per process is slow
        if re.fullmatch(r"\d+", folder):
            try:
                names.add((proc / folder / "comm").read_text().strip())
            except OSError:
                continue
    return names
