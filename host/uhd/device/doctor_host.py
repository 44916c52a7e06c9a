"""Checks of what every target, or the emulated device, needs."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from uhd.device import cross
from uhd.device.compile import find_compiler
from uhd.device.doctor_check import ALL, CHIPS, Check, Status
from uhd.device.versions import parse_version, satisfies
from uhd.errors import ToolMissingError
from uhd.paths import ROOT, build_root

#: Oldest QEMU and compiler that the tests ran with.
MIN_QEMU = (7, 2)
_REQUIREMENT = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[^]]*\])?\s*([^;]*)")
_LEAST_FREE = {"qemu": 1 << 30, "chips": 3 << 30}


def project() -> dict[str, object]:
    """The ``[project]`` table of pyproject.toml; empty where the package is installed without its workspace."""
    path = ROOT / "pyproject.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))["project"] if path.is_file() else {}


def python() -> Iterator[Check]:
    """The interpreter's version against ``requires-python``."""
    wanted = str(project().get("requires-python", ">=3.11,<3.13"))
    version = ".".join(map(str, sys.version_info[:3]))
    good = satisfies(version, wanted)
    fix = "" if good else f"install Python {wanted} and run tools/quickstart.sh"
    yield Check("Python", "ok" if good else "broken", f"{version} (wanted {wanted})", "everything", fix, ALL)


def requirements() -> list[tuple[str, str]]:
    """(package, ranges) that the workspace imports."""
    lines = project().get("dependencies") or importlib.metadata.requires("uhd-workspace") or []
    assert isinstance(lines, list)
    matches = [_REQUIREMENT.match(line) for line in lines if "extra ==" not in line]
    return [(match[1], match[2].strip()) for match in matches if match]


def packages() -> Iterator[Check]:
    """Installed versions of what we import, from their metadata: nothing is imported."""
    wrong: list[str] = []
    missing: list[str] = []
    wanted = requirements()
    for name, ranges in wanted:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if not satisfies(version, ranges):
            wrong.append(f"{name} {version} (wanted {ranges})")
    fix = f"{sys.executable} -m pip install -e {ROOT}"
    purpose = "training, quantizing, every command"
    if missing or wrong:
        found = ", ".join([*(f"{name} is missing" for name in missing), *wrong])
        yield Check("Python packages", "missing" if not wrong else "broken", found, purpose, fix, ALL)
    else:
        yield Check("Python packages", "ok", f"all {len(wanted)} in range", purpose, "", ALL)


def first_line(command: list[str]) -> str:
    """What a program says first; "" if it does not run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.partition("\n")[0].strip() if done.returncode == 0 else ""


def compiler() -> Iterator[Check]:
    """A C++ compiler for this machine."""
    purpose = "the host twin (demo and parity with --target twin)"
    fix = "sudo apt-get install g++"
    try:
        path = find_compiler()
    except ToolMissingError:
        yield Check("C++ compiler", "missing", "none", purpose, fix)
        return
    version = first_line([path, "--version"])
    yield Check(
        "C++ compiler", "ok" if version else "broken", version or f"{path} fails", purpose, "" if version else fix
    )


def emulator() -> Iterator[Check]:
    """RISC-V compiler, its C library and QEMU."""
    purpose, fix = "the emulated device (--target qemu)", cross.PACKAGES
    gcc = shutil.which(cross.LINKER) and shutil.which(cross.COMPILER)
    version = first_line([cross.COMPILER, "--version"]) if gcc else ""
    status: Status = "ok" if version else "broken" if gcc else "missing"
    yield Check("RISC-V gcc", status, version or "none", purpose, "" if version else fix, ("qemu",))
    specs = first_line([cross.LINKER, "-print-file-name=picolibc.specs"]) if gcc else ""
    there = Path(specs).is_absolute()
    yield Check(
        "picolibc", "ok" if there else "missing", specs if there else "none", purpose, "" if there else fix, ("qemu",)
    )
    qemu = first_line([cross.EMULATOR, "--version"]) if shutil.which(cross.EMULATOR) else ""
    if not qemu:
        yield Check("QEMU", "broken" if shutil.which(cross.EMULATOR) else "missing", "none", purpose, fix, ("qemu",))
        return
    number = parse_version(qemu.partition("version ")[2])
    old = number[:2] < MIN_QEMU
    found = f"{'.'.join(map(str, number))}{' (older than 7.2, not tried)' if old else ''}"
    yield Check("QEMU", "warning" if old else "ok", found, purpose, fix if old else "", ("qemu",))


def disk() -> Iterator[Check]:
    """Room for build products."""
    folder = build_root()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    writable = os.access(folder, os.W_OK)
    text = f"{free / (1 << 30):.1f} GiB free for {build_root()}"
    fix = "" if writable else "set UHD_BUILD to a folder that this user may write"
    if writable and free < _LEAST_FREE["chips"]:
        fix = "free some space, or set UHD_BUILD to a folder on another disk"
    tight = free < _LEAST_FREE["qemu"]
    status: Status = "broken" if not writable or tight else "warning" if fix else "ok"
    yield Check("disk space", status, text, "builds (a chip's takes about 1 GiB)", fix, ("qemu", *CHIPS))
