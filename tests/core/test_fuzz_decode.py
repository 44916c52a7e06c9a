"""T12: random head outputs through decode and NMS under the sanitizers, a C++ program of its own.

``UHD_FUZZ_COUNT`` sets how many outputs; the suite draws few, always the same.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from support.components import need_compiler
from support.core_bench import shipped_component
from support.fakemodel import FakeModel
from uhd.device import compile as compiling

DRIVER = Path(__file__).parents[1] / "support" / "fuzz_decode.cpp"
COUNT = int(os.environ.get("UHD_FUZZ_COUNT", "20000"))


def driver(folder: Path, sources: list[Path], component: Path | None = None) -> Path:
    need_compiler()
    core = compiling.CORE
    includes = [core / "include", *([component] if component else [])]
    data = compiling.component_data(component) if component else []
    sources = [*sources, core / "src" / "decode.cpp", core / "src" / "suppress.cpp", DRIVER]
    toolchain = compiling.host_toolchain(shared=False, sanitize=True)
    return compiling.build(toolchain, sources, "fuzz-decode", includes=includes, data=data)


def shipped_driver(folder: Path) -> Path:
    """The fuzzer with the tables of variant R: 8 anchors, one class, quality and class scores."""
    component = shipped_component(folder / "r")
    sources = [p for p in compiling.component_sources(component) if p.name in ("info.cpp", "blobs.S")]
    return driver(folder, sources, component)


def made_driver(folder: Path) -> Path:
    """With a head of three classes and all factors."""
    model = FakeModel(maps=("obj", "quality", "cls"), classes=3, grid_h=9, grid_w=8, anchors=2, exponent=-5)
    return driver(folder, [model.write(folder / "made") / "src" / "model.cpp"])


@pytest.mark.parametrize(("make", "share"), [(shipped_driver, 0.75), (made_driver, 0.25)], ids=["R", "3 classes"])
def test_random_outputs(make, share: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    program, count, start = make(tmp_path), round(COUNT * share), time.perf_counter()
    environment = {**os.environ, "ASAN_OPTIONS": "abort_on_error=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
    done = subprocess.run([str(program), str(count), "12"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    tensors, candidates, rows = map(int, re.findall(r"\d+", done.stdout))
    assert tensors == count
    assert candidates > 20 * count and rows > 2 * count, "the outputs were too tame"
    with capsys.disabled():
        print(f"\n  {done.stdout.strip()} in {time.perf_counter() - start:.1f} s", end="")


def test_a_fault_would_be_reported(tmp_path: Path) -> None:
    """The driver's checks are not blind: boxes beyond four pictures are noticed, a map too small is refused."""
    model = FakeModel(anchors=2)
    source = model.write(tmp_path / "made") / "src" / "model.cpp"
    good = source.read_text()
    source.write_text(re.sub(r"(kSize0\[\] = \{)\d+", r"\g<1>262141", good))
    done = subprocess.run([str(driver(tmp_path, [source])), "2000", "1"], capture_output=True, text=True)
    assert (done.returncode, "more than four pictures" in done.stderr) == (4, True), done.stderr[-500:]
    source.write_text(good.replace('{"cls", 8, 8, 2, 1,', '{"cls", 8, 8, 1, 1,'))
    done = subprocess.run([str(driver(tmp_path, [source])), "2000", "1"], capture_output=True, text=True)
    assert done.returncode == 3, "check_decode() lets a map pass that is too small"
