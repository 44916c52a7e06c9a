"""Every line of the portable C++ is run by some test: line coverage of uhd_core and uhd_runtime, file by file.

One pass of chosen tests with an instrumented build. The compiler is g++ behind a small wrapper, so whatever the
tests compile is counted; gcov, which comes with g++, reads the counts.
"""

from __future__ import annotations

import collections
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.shared import ROOT
from support.twinlib import SANITIZE
from uhd.paths import COMPONENTS, build_root

LIMIT = 0.95
TESTS = (
    "core/test_camera_picture.py", "core/test_decode_cpp.py", "core/test_device_camera.py", "core/test_device_loop.py",
    "core/test_package.py", "core/test_preprocess.py", "link/test_codec_cpp.py", "firmware/test_overlay.py",
    "runtime/test_conv_kernels.py", "runtime/test_simple_kernels.py",
)  # fmt: skip
#: Tests of numbers over many examples, which run no lines that the others leave out.
NOT_NEEDED = (
    "not thousand and not float and not exact and not camera_sizes and not product and not cobs_package"
    " and not no_bytes and not random_tensors and not both_encoders"
)
PARTS = ("uhd_core/src", "uhd_core/include", "uhd_runtime/src", "uhd_runtime/include")

Lines = dict[str, dict[int, int]]


def instrumented_run(folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs ``TESTS`` with everything compiled for coverage; objects stay in ``folder`` for the next time."""
    wrapper = folder / "bin" / "g++"
    wrapper.parent.mkdir(parents=True, exist_ok=True)
    # Only what compiles or links: a question to the compiler would leave counts in the current folder.
    counted = f'exec {shutil.which("g++")} "$@" --coverage -O0 -Wno-error'
    plain = f'exec {shutil.which("g++")} "$@"'
    wrapper.write_text(f'#!/bin/sh\ncase " $* " in\n*" -o "*) {counted} ;;\n*) {plain} ;;\nesac\n')
    wrapper.chmod(0o755)
    for old in folder.rglob("*.gcda"):
        old.unlink()
    environment = {
        **os.environ, "PATH": f"{wrapper.parent}{os.pathsep}{os.environ['PATH']}", "CXX": str(wrapper),
        "UHD_BUILD": str(folder / "build"), "CI": "true",
    }  # fmt: skip
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"--basetemp={folder / 'temp'}"]
    files = [str(ROOT / "tests" / name) for name in TESTS]
    return subprocess.run(
        [*command, "-k", NOT_NEEDED, *files], env=environment, capture_output=True, text=True, cwd=ROOT
    )


def merged(reports: list[dict]) -> Lines:  # type: ignore[type-arg]
    """How often each line ran, by file below ``components``, over all objects and instances of templates."""
    found: Lines = collections.defaultdict(lambda: collections.defaultdict(int))
    for report in reports:
        for entry in report["files"]:
            path = Path(report["current_working_directory"], entry["file"]).resolve()
            name = str(path.relative_to(COMPONENTS)) if COMPONENTS in path.parents else ""
            if name.startswith(PARTS):
                for line in entry["lines"]:
                    found[name][line["line_number"]] += line["count"]
    return found


def read_counts(folder: Path) -> Lines:
    counts = sorted(folder.rglob("*.gcda"))
    assert counts, "nothing was counted"
    reports = []
    for start in range(0, len(counts), 50):
        names = list(map(str, counts[start : start + 50]))
        done = subprocess.run(["gcov", "--json-format", "--stdout", *names], capture_output=True, text=True, cwd=folder)
        reports += [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return merged(reports)


def not_run(source: Path) -> dict[int, int]:
    """The lines of a source that no test has loaded."""
    code = enumerate(source.read_text().splitlines(), 1)
    return {n: 0 for n, text in code if text.strip() and not text.lstrip().startswith(("//", "#", "}"))}


@pytest.mark.slow
@pytest.mark.skipif(SANITIZE, reason="compiled for the sanitizers")
def test_lines_are_covered(capsys: pytest.CaptureFixture[str]) -> None:
    if not shutil.which("g++") or not shutil.which("gcov"):
        pytest.skip("g++ and gcov are not installed")
    folder = build_root() / "coverage"
    done = instrumented_run(folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    lines = read_counts(folder)
    for path in (p for part in PARTS[::2] for p in (COMPONENTS / part).glob("*.cpp")):
        lines.setdefault(str(path.relative_to(COMPONENTS)), not_run(path))
    total, ran = 0, 0
    with capsys.disabled():
        for name in sorted(lines):
            missed = sorted(n for n, count in lines[name].items() if not count)
            total, ran = total + len(lines[name]), ran + len(lines[name]) - len(missed)
            share = 1 - len(missed) / len(lines[name])
            print(f"\n  {share:6.1%} of {len(lines[name]):4} {name}", f"not run: {missed}" if missed else "", end="")
        print(f"\n  {ran / total:6.1%} of {total} lines", end="")
    assert ran / total >= LIMIT


def test_counts_are_added_up() -> None:
    """Objects and template instances add up; files elsewhere do not count."""
    core = str(COMPONENTS / "uhd_core" / "src" / "a.cpp")

    def report(name: str, *counts: tuple[int, int]) -> dict[str, object]:
        lines = [{"line_number": n, "count": c} for n, c in counts]
        return {"current_working_directory": "/", "files": [{"file": name, "lines": lines}]}

    made = merged(
        [report(core, (1, 0), (2, 3)), report(core, (1, 1), (2, 1), (3, 0)), report("/usr/include/x", (1, 1))]
    )
    assert made == {"uhd_core/src/a.cpp": {1: 1, 2: 4, 3: 0}}
