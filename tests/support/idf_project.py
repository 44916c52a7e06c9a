"""Building parts of the firmware for this machine, with stand-ins for ESP-IDF's headers (``idf_shim``)."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from support.shared import ROOT

FIRMWARE = ROOT / "firmware"
COMPONENTS = FIRMWARE / "components"
SHIM = Path(__file__).parent / "idf_shim"

#: Components whose sources are written by hand and know nothing of ESP-IDF.
PORTABLE = ("uhd_core", "uhd_runtime")
PORTABLE_FLAGS = ("-std=c++17", "-fno-exceptions", "-fno-rtti", "-Wall", "-Wextra", "-Werror")


def host_compiler() -> str:
    """g++, or a skip that says so."""
    return shutil.which("g++") or pytest.skip("no g++ here")


def sources(component: str) -> list[Path]:
    """Every C++ file that a component compiles for the device, in a fixed order."""
    folder = COMPONENTS / component
    return sorted((folder / "src").glob("*.cpp")) if (folder / "src").is_dir() else sorted(folder.glob("*.cpp"))


def registered_sources(cmake: Path) -> set[str]:
    """File names that a component's ``CMakeLists.txt`` lists, wildcards expanded."""
    found: set[str] = set()
    text = re.sub(r"#.*|\$\{CMAKE_CURRENT_(SOURCE|LIST)_DIR\}/", "", cmake.read_text())
    for pattern in re.findall(r"[\w./*]+\.(?:cpp|c|S)\b", text):
        matches = list(cmake.parent.glob(pattern))
        assert matches, f"{cmake} lists {pattern}, which is not there"
        found |= {str(p.relative_to(cmake.parent)) for p in matches}
    return found


def kconfig_defaults(path: Path, names: tuple[str, ...]) -> list[str]:
    """``-DCONFIG_NAME=value`` from the last plain ``default`` of each option."""
    text = path.read_text()
    flags = []
    for name in names:
        end = r"\n\s*(?:config |choice |endchoice|endmenu)"
        body = re.search(rf"config {name}\n(.*?)(?={end})", text, re.S)
        assert body, f"{path} has no option {name}"
        values = re.findall(r"^\s*default (-?\w+)$", body[1], re.M)
        assert values, f"{name} has no default"
        flags.append(f"-DCONFIG_{name}={ {'y': '1', 'n': '0'}.get(values[-1], values[-1]) }")
    return flags


def compile_host(output: Path, files: list[Path], flags: list[str]) -> Path:
    """Compile and link with warnings as errors; fails the test with the compiler's words."""
    includes = [f"-I{COMPONENTS / name / 'include'}" for name in ("uhd_board", *PORTABLE)]
    command = [host_compiler(), "-O1", "-g", "-pthread", *PORTABLE_FLAGS, "-isystem", str(SHIM), *includes, *flags]
    done = subprocess.run([*command, *map(str, files), "-o", str(output)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return output
