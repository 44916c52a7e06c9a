"""A board's own rates decide what a candidate is predicted to take, and a search with others is another search."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from uhd import zoo
from uhd.espdl.reader import read_espdl
from uhd.host.__main__ import main
from uhd.manifest import load_manifest
from uhd.predict.chips import chip
from uhd.predict.rates import RatesFile, Source, save_rates
from uhd.predict.refit import Errors
from uhd.search.inputs import Inputs, load_inputs
from uhd.search.measure import cost


@pytest.fixture
def slow_board(tmp_path: Path) -> Path:
    """Rates of an ESP32-S3 whose clock runs at half the speed."""
    board = replace(chip("esp32s3"), clock_hz=chip("esp32s3").clock_hz / 2, basis="made up")
    source = Source(model="m", sha256="0", operators=9, runs=1, weights="psram", activations=None, measured_ms=1.0)
    path = tmp_path / "latency_esp32s3.json"
    save_rates(
        path,
        RatesFile(chip=board, source=source, kept=(), before=Errors(0, 0), after=Errors(0, 0), left_out=Errors(0, 0)),
    )
    return path


def test_the_cost_is_that_of_the_board(slow_board: Path) -> None:
    shipped = zoo.shipped_espdl("R", "esp32s3", "speed")
    assert shipped is not None
    model = read_espdl(shipped.path, "esp32s3")
    usual, slow = cost(model, shipped.path), cost(model, shipped.path, slow_board)
    assert 1.5 * usual[0] < slow[0] <= 2 * usual[0] and usual[1] == slow[1]


def test_inputs_carry_them(slow_board: Path, tmp_path: Path) -> None:
    onnx = tmp_path / "float.onnx"
    onnx.write_bytes(b"any")
    manifest = load_manifest(zoo.checkpoint_path("R").with_suffix(".json"))
    networks = np.zeros((1, 4, 4, 2), np.uint8)
    plain = Inputs(
        onnx, manifest, "esp32s3", np.zeros((1, 2, 4, 4), np.float32), "none", networks,
        (((4, 4), np.array([[0, 0.5, 0.5, 1, 1.0]])),), {"box": np.zeros((1, 4, 1, 1), np.float32)},
    )  # fmt: skip
    for inputs in (plain, replace(plain, rates=slow_board)):
        inputs.save(tmp_path / "inputs.npz")
        assert load_inputs(tmp_path / "inputs.npz").rates == inputs.rates
    assert plain.digest() != replace(plain, rates=slow_board).digest()


def test_rates_of_another_chip_are_refused_before_anything_is_written(
    slow_board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["search", "--variant", "R", "--photos", "none", "--val", "none", "--output", str(tmp_path / "o")]
    assert main([*words, "--target", "esp32p4", "--rates", str(slow_board)]) == 2
    assert "rates of an esp32s3" in capsys.readouterr().err and not (tmp_path / "o").exists()
    assert main([*words, "--target", "esp32s3", "--rates", str(tmp_path / "none.json")]) == 2
    assert "cannot read the rates" in capsys.readouterr().err
