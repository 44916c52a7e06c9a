"""The benchmark: its figures are those of the same inference, and within the budget on the golden file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from support.components import made_component, made_detector
from support.shared import shared_dir
from uhd.codegen.lower import lower
from uhd.device import runtime_bench as bench
from uhd.device.cross import emulator_missing
from uhd.device.twin import Twin
from uhd.errors import DataError, UhdError
from uhd.host.__main__ import main
from uhd.host.bench import command


@pytest.fixture
def emulator() -> None:
    if missing := emulator_missing():
        pytest.skip(missing)


def test_checksum_is_fnv1a() -> None:
    """Published test values of 32-bit FNV-1a."""
    from numpy import frombuffer

    for text, value in ((b"", 0x811C9DC5), (b"a", 0xE40C292C), (b"foobar", 0xBF9CF968)):
        assert bench.checksum([frombuffer(text, "u1")]) == value


@pytest.mark.emu
@pytest.mark.usefixtures("emulator")
def test_steps_add_up_and_outputs_agree(tmp_path: Path) -> None:
    model, content = made_detector()
    component = made_component(tmp_path / "m", model, content)
    plain, traced = bench.run_emulated(component), bench.run_emulated(component, steps=True)
    assert len(traced.steps) == len(lower(model).steps)
    assert plain.instructions <= sum(traced.steps) < plain.instructions + 20 * len(traced.steps) + 50
    assert all(count > 0 for count in traced.steps)
    assert plain.checksum == traced.checksum == bench.twin_checksum(Twin(component))
    assert bench.run_emulated(component) == plain, "the count is not the same in every run"
    assert 2000 < bench.section_sizes(plain.elf)["code_bytes"] < 60000


@pytest.mark.emu
@pytest.mark.usefixtures("emulator")
def test_golden_file_is_within_budget() -> None:
    """R's architecture in int8: at most 28 M instructions; 10 % more than today's 16.6 M is noticed too."""
    path = shared_dir("fixtures", "espdl", "w16_yuv_c.espdl")
    done = CliRunner().invoke(command, ["runtime", "--model", str(path), "--layers", "--json"], standalone_mode=False)
    assert done.exit_code == 0 and done.exception is None, done.output
    figures = json.loads(done.stdout)
    assert figures["twin_equals_emulator"] is True
    assert figures["emulated"]["instructions"] < 18_300_000
    assert figures["activation_bytes"] <= 28 * 1024
    layers = figures["layers"]
    assert sum(layer["macs"] for layer in layers) == figures["macs"] == 7_760_128
    assert abs(sum(layer["instructions"] for layer in layers) / figures["emulated"]["instructions"] - 1) < 0.01
    assert figures["twin_images_per_second"] > 50
    assert "executor_images_per_second" not in figures


@pytest.mark.slow
def test_executor_is_timed() -> None:
    pytest.importorskip("esp_ppq")
    onnx = shared_dir("fixtures", "espdl", "w16_yuv.onnx")
    seconds = bench.time_executor(onnx, "c", images=3)
    assert len(seconds) == 3 and all(0 < s < 60 for s in seconds)


def test_executor_failure_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("esp_ppq")
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no model")
    with pytest.raises(UhdError, match="executor failed") as caught:
        bench.time_executor(bad, "c", images=1)
    assert "\n" not in str(caught.value)


def test_missing_files_are_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    missing = tmp_path / "none.espdl"
    assert main(["bench", "runtime", "--model", str(missing)]) == 2
    assert f"error: {missing}" in capsys.readouterr().err
    from uhd.host.bench import _subject

    with pytest.raises(DataError, match="no such file"):
        _subject(missing, tmp_path / "none.onnx")
