"""The portable C++ is clean: no warning of any compiler that is here, no finding of clang-tidy."""

from __future__ import annotations

import concurrent.futures
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from support.shared import ROOT
from uhd.device import compile as compiling
from uhd.files import write_text
from uhd.paths import COMPONENTS, build_root

WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Werror")
LANGUAGE = ("-std=c++17", "-fno-exceptions", "-fno-rtti")
INCLUDES = tuple(f"-I{COMPONENTS / name / 'include'}" for name in ("uhd_core", "uhd_runtime"))
COMPILERS = {
    "g++": ("-O2",),
    "riscv64-unknown-elf-g++": ("-O2", "-march=rv32imafc", "-mabi=ilp32f", "--specs=picolibc.specs"),
    "clang++": ("-O0",),
}
CONFIG = ROOT / "firmware" / ".clang-tidy"


def find(name: str) -> str:
    """A program, whose newest version may have a number behind its name; or a skip that says so."""
    numbered = (f"{name}-{version}" for version in range(22, 13, -1))
    return next(filter(None, map(shutil.which, (name, *numbered))), "") or pytest.skip(f"{name} is not installed")


def portable_sources() -> list[Path]:
    found = [*(compiling.CORE / "src").glob("*.cpp"), *compiling.runtime_sources()]
    assert len(found) > 12
    return sorted(found)


def passed_before(command: list[str], source: Path) -> Path:
    """A mark that this check passed on this content: sources, headers, settings, command."""
    digest = hashlib.sha256(repr(command).encode())
    headers = [p for name in ("uhd_core", "uhd_runtime") for p in (COMPONENTS / name).rglob("*.hpp")]
    for path in [source, CONFIG, *sorted(headers)]:
        digest.update(path.read_bytes())
    return build_root() / "clean" / f"{source.stem}-{digest.hexdigest()[:24]}"


def check_all(command: list[str], sources: list[Path], after: tuple[str, ...] = ()) -> None:
    """Runs the command on each source that has changed since it passed; fails with what it says."""

    def check(source: Path) -> str:
        mark = passed_before([*command, *after], source)
        if mark.exists():
            return ""
        done = subprocess.run([*command, str(source), *after], capture_output=True, text=True)
        if done.returncode == 0:
            write_text(mark, "")
            return ""
        return f"{source.name}:\n{(done.stdout + done.stderr)[-3000:]}"

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        complaints = [text for text in pool.map(check, sources) if text]
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("name", COMPILERS)
def test_no_warning(name: str, tmp_path: Path) -> None:
    command = [find(name), *LANGUAGE, *WARNINGS, *INCLUDES, *COMPILERS[name]]
    if name.startswith("riscv"):
        specs = subprocess.run([command[0], "-print-file-name=picolibc.specs"], capture_output=True, text=True).stdout
        if not Path(specs.strip()).is_absolute():
            pytest.skip("picolibc for RISC-V is not installed")
    check_all([*command, "-o", "/dev/null", "-c"], portable_sources())


@pytest.mark.parametrize("name", COMPILERS)
def test_a_warning_would_be_seen(name: str, tmp_path: Path) -> None:
    source = tmp_path / "bad.cpp"
    source.write_text("#include <stdint.h>\nuint8_t cut(uint32_t x) { return x; }\n")
    command = [find(name), *LANGUAGE, *WARNINGS, *COMPILERS[name]]
    done = subprocess.run([*command, "-c", str(source), "-o", "/dev/null"], capture_output=True, text=True)
    assert done.returncode != 0 and "conversion" in done.stderr


@pytest.mark.slow
def test_clang_tidy() -> None:
    check_all([find("clang-tidy"), f"--config-file={CONFIG}", "--quiet"], portable_sources(),
              ("--", *LANGUAGE, *INCLUDES))  # fmt: skip


def test_clang_tidy_would_find_something(tmp_path: Path) -> None:
    source = tmp_path / "bad.cpp"
    source.write_text("int first(const int* p) {\n  if (p) return 1;\n  return *p;\n}\n")
    command = [find("clang-tidy"), f"--config-file={CONFIG}", "--quiet", str(source), "--", *LANGUAGE]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0 and "NullDereference" in done.stdout
