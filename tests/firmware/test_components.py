"""The firmware's components: all sources registered, portable ones free of libraries and clean in both compilers."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from support.idf_project import (
    COMPONENTS,
    FIRMWARE,
    PORTABLE,
    PORTABLE_FLAGS,
    host_compiler,
    registered_sources,
    sources,
)
from uhd.paths import MODEL_COMPONENT

#: All that a freestanding C++ compiler without libstdc++ has.
C_HEADERS = {"stdint.h", "stddef.h", "stdbool.h", "limits.h", "float.h", "string.h", "math.h"}

#: Folders of a component that are compiled for other programs: the host twin, benchmarks.
NOT_DEVICE = ("host", "bench")

#: What may not appear in portable code: heap, exceptions, run-time types, start-up order.
FORBIDDEN = r"\b(malloc|calloc|realloc|free|throw|try|catch|dynamic_cast|typeid|std::)\b|\bnew\s+[\w(]|\bdelete\b(?!;)"


def components() -> list[Path]:
    """Every component of the project: ``main``, the folders with sources in ``components``, the committed models."""
    found = {p for p in COMPONENTS.iterdir() if list(p.rglob("*.cpp"))} - {MODEL_COMPONENT}
    return [FIRMWARE / "main", *sorted(found), *sorted(p for p in MODEL_COMPONENT.iterdir() if p.is_dir())]


def portable_files() -> list[Path]:
    """Sources and headers of the portable components, as far as a device runs them."""
    files = [p for name in PORTABLE for p in (COMPONENTS / name).rglob("*.[ch]pp")]
    return sorted(p for p in files if not set(NOT_DEVICE) & set(p.relative_to(COMPONENTS).parts))


def without_comments(text: str) -> str:
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"', " ", text, flags=re.S)


@pytest.mark.parametrize("component", components(), ids=lambda p: p.name)
def test_every_source_is_registered(component: Path) -> None:
    cmake = component / "CMakeLists.txt"
    assert cmake.is_file(), f"{component} is no component of ESP-IDF"
    listed = registered_sources(cmake)
    there = {str(p.relative_to(component)) for p in component.rglob("*.cpp")}
    there = {name for name in there if name.partition("/")[0] not in NOT_DEVICE}
    assert there and listed >= there, f"not in {cmake}: {sorted(there - listed)}"


def test_registered_sources_notices_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "a.cpp").touch()
    (tmp_path / "CMakeLists.txt").write_text('idf_component_register(SRCS "a.cpp" "b.cpp")  # "c.cpp"\n')
    with pytest.raises(AssertionError, match=r"b\.cpp"):
        registered_sources(tmp_path / "CMakeLists.txt")
    (tmp_path / "b.cpp").touch()
    assert registered_sources(tmp_path / "CMakeLists.txt") == {"a.cpp", "b.cpp"}


@pytest.mark.parametrize("path", portable_files(), ids=lambda p: p.name)
def test_portable_code_needs_no_library(path: Path) -> None:
    text = path.read_text()
    for header in re.findall(r"^\s*#\s*include\s*<([^>]+)>", text, re.M):
        assert header in C_HEADERS, f"{path} includes <{header}>"
    for header in re.findall(r'^\s*#\s*include\s*"([^"]+)"', text, re.M):
        places = [path.parent / header, *(COMPONENTS / name / "include" / header for name in PORTABLE)]
        assert any(p.is_file() for p in places), f"{path} includes {header}, which is in no portable component"
    found = re.search(FORBIDDEN, without_comments(text))
    assert not found, f"{path} uses {found[0]}"


def test_core_does_not_look_into_the_runtime() -> None:
    """uhd_core sees a model only through model.hpp; the runtime knows nothing of uhd_core."""
    core = {p.name for p in (COMPONENTS / "uhd_core" / "include" / "uhd").iterdir()}
    for path in portable_files():
        used = {Path(h).name for h in re.findall(r'#\s*include\s*"(uhd/[^"]+)"', path.read_text())}
        if "uhd_core" in path.parts:
            assert used - core <= {"backend.hpp", "model.hpp", "status.hpp"}, path
        else:
            assert not used & core, path


def portable_sources() -> list[Path]:
    return [path for name in PORTABLE for path in sources(name)]


def compile_all(command: list[str], tmp_path: Path) -> None:
    """One object a source; the compiler's words on failure."""
    includes = [f"-I{COMPONENTS / name / 'include'}" for name in PORTABLE]
    for path in portable_sources():
        output = ["-c", str(path), "-o", str(tmp_path / f"{path.stem}.o")]
        done = subprocess.run([*command, *PORTABLE_FLAGS, *includes, *output], capture_output=True, text=True)
        assert done.returncode == 0, f"{path.name}: {done.stderr}"


def undefined_symbols(tool: str, tmp_path: Path) -> set[str]:
    """What the portable objects together ask others for."""
    lines = subprocess.run([tool, *map(str, tmp_path.glob("*.o"))], capture_output=True, text=True, check=True).stdout
    table = [line.split() for line in lines.splitlines() if line and not line.endswith(":")]
    defined = {row[-1] for row in table if len(row) == 3}
    return {row[-1] for row in table if len(row) == 2 and row[0] == "U"} - defined


def test_portable_sources_compile_for_this_machine(tmp_path: Path) -> None:
    compile_all([host_compiler(), "-O1"], tmp_path)
    nm = shutil.which("nm") or pytest.skip("no nm here")
    wanted = undefined_symbols(nm, tmp_path)
    heap = {
        name for name in wanted if re.match(r"_Zn[wa]|_Zd[la]|malloc|calloc|realloc|free$|__cxa_(throw|guard)", name)
    }
    assert not heap, f"the portable components call {heap}"
    assert "memcpy" in wanted


def test_portable_sources_compile_for_rv32(tmp_path: Path) -> None:
    compiler = shutil.which("riscv64-unknown-elf-g++") or pytest.skip("no RISC-V compiler here")
    specs = subprocess.run([compiler, "-print-file-name=picolibc.specs"], capture_output=True, text=True).stdout.strip()
    if not Path(specs).is_file():
        pytest.skip("picolibc for RISC-V is not installed")
    machine = [
        "-march=rv32imafc",
        "-mabi=ilp32f",
        "--specs=picolibc.specs",
        "-ffreestanding",
        "-fno-threadsafe-statics",
    ]
    compile_all([compiler, "-O2", *machine], tmp_path)
    wanted = undefined_symbols("riscv64-unknown-elf-nm", tmp_path)
    # Only the C library's memory functions, the compiler's own helpers and what generated code defines.
    allowed = (
        r"mem(cpy|set|move|cmp)|strlen|__(?!cxa_(throw|guard|begin|allocate))\w+|_ZN3uhd(10model_info|9model_run)\w*"
    )
    strange = {name for name in wanted if not re.fullmatch(allowed, name)}
    assert wanted and not strange, f"the device would have to supply {strange}"
