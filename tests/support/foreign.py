"""The environment of somebody else: another language, time zone and hash seed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def foreign_environment(folder: Path) -> dict[str, str]:
    """Variables that make C libraries write 0,5 for a half; skips where the language cannot be made."""
    compiler = shutil.which("localedef")
    place = folder / "locales" / "de_DE.UTF-8"
    place.parent.mkdir()
    words = [str(compiler), "-i", "de_DE", "-f", "UTF-8", str(place)]
    if compiler is None or subprocess.run(words, capture_output=True).returncode or not place.exists():
        pytest.skip("no locale with a decimal comma: localedef or its sources (Debian: locales) are missing")
    return {
        "LOCPATH": str(place.parent), "LC_ALL": "de_DE.UTF-8", "LANG": "de_DE.UTF-8", "TZ": "Asia/Kolkata",
        "PYTHONHASHSEED": "4711",
    }  # fmt: skip
