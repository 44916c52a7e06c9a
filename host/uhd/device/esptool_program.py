"""Espressif's esptool, as a program: finding it, speaking its dialect, showing its progress.

It is never imported: its licence is the GPL.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uhd.device.progress import Printer, Progress, run_logged
from uhd.errors import DeviceError, ToolMissingError

GET_ESPTOOL = "pip install 'esptool>=4.8' (here or with pipx), or activate ESP-IDF in this shell"

_WRITING = re.compile(r"^(Writing at 0x[0-9a-f]+).*?(\d+)(?:\.\d+)? ?%")
_DOING = re.compile(r"^(Writing|Erasing|Verifying|Compressed|Connecting|Hash of data|Wrote|Uploading|Running)\b")
_FATAL = re.compile(r"fatal error occurred: *|^error: *|^usage: *|^Error: *", re.IGNORECASE)
#: What esptool says -> what to do about it.
_HINTS = (
    ("No serial data received", "hold BOOT while you press RESET, then try again"),
    ("Failed to connect", "hold BOOT while you press RESET, then try again; is --port the right one?"),
    ("Wrong boot mode", "hold BOOT while you press RESET, then try again"),
    ("Permission denied", "`sudo usermod -aG dialout $USER`, then log in again"),
    ("could not open port", "is the board plugged in, and no other program (monitor, ModemManager) on the port?"),
    ("port is busy", "close the program that uses the port"),
    ("not ESP32", "this board has another chip: give its --target"),
    ("No module named", "the esptool found is incomplete: install it again"),
)


@dataclass(frozen=True)
class Esptool:
    """How to start it, and its version."""

    command: tuple[str, ...]
    version: tuple[int, ...]

    def words(self, *words: str) -> list[str]:
        """Commands, options and reset modes, given with hyphens, as this version spells them: 4 has underscores."""
        if self.version >= (5,):
            return list(words)
        # Options that had hyphens before version 5.
        old = {"--no-stub", "--encrypt-files"}
        return [
            w if w in old else ("--" if w.startswith("--") else "") + w.removeprefix("--").replace("-", "_")
            for w in words
        ]


def find_esptool(environment: Mapping[str, str] = os.environ) -> Esptool | None:
    """esptool of this Python, of ``PATH``, or of the active ESP-IDF's Python; None without one."""
    if importlib.util.find_spec("esptool"):
        return Esptool((sys.executable, "-m", "esptool"), _numbers(importlib.metadata.version("esptool")))
    search = environment.get("PATH", "")
    for name in ("esptool", "esptool.py"):
        if path := shutil.which(name, path=search):
            return _ask((path,), environment)
    python = Path(environment.get("IDF_PYTHON_ENV_PATH") or "/nonexistent") / "bin" / "python"
    return _ask((str(python), "-m", "esptool"), environment) if python.is_file() else None


def require_esptool(environment: Mapping[str, str] = os.environ) -> Esptool:
    """``find_esptool``, or ``ToolMissingError`` saying how to get it."""
    if (found := find_esptool(environment)) is None:
        raise ToolMissingError("esptool is not installed", hint=GET_ESPTOOL)
    return found


def _ask(command: tuple[str, ...], environment: Mapping[str, str]) -> Esptool | None:
    try:
        done = subprocess.run([*command, "version"], capture_output=True, text=True, env=dict(environment), timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = _numbers(done.stdout.strip().rpartition("\n")[2])
    return Esptool(command, version) if done.returncode == 0 and version else None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def run_esptool(
    tool: Esptool,
    arguments: Sequence[str],
    log: Path,
    *,
    progress: Progress | None = None,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Run it, all output in ``log``; ``progress`` hears (percent, 100, what).

    Raises ``DeviceError`` with the reason esptool gave, and what to do.
    """
    tell = progress or Printer()
    said: list[str] = []

    def on_line(line: str) -> None:
        text = line.strip()
        if not text:
            return
        said.append(text)
        if writing := _WRITING.match(text):
            tell(int(writing[2]), 100, writing[1])
        elif _DOING.match(text) and "%" not in text:
            tell(0, 100, text)

    # Its output is plain lines without a terminal; the width keeps it from folding them.
    surroundings = {**environment, "COLUMNS": "200", "NO_COLOR": "1"}
    status = run_logged([*tool.command, *arguments], log, surroundings, on_line, "is esptool complete?")
    if status != 0:
        reason, hint = explain(said)
        raise DeviceError(
            f"esptool failed (exit code {status}): {reason}", hint=f"{hint}; all of its output is in {log}"
        )


def explain(lines: Sequence[str]) -> tuple[str, str]:
    """(what went wrong, what to do) from esptool's output."""
    fatal = [line for line in lines if _FATAL.search(line)]
    reason = _FATAL.sub("", fatal[-1]).lstrip("A ") if fatal else (lines[-1] if lines else "it said nothing")
    everything = "\n".join(lines)
    hint = next((way for sign, way in _HINTS if sign in reason), "")
    return reason, hint or next((way for sign, way in _HINTS if sign in everything), "see what it said")
