"""Rates from the times of single operators: found again, and their files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uhd.errors import ConfigError
from uhd.predict.chips import chip, chip_with
from uhd.predict.latency import Chip, Memory, Placement, Rates, predict
from uhd.predict.published import published
from uhd.predict.rates import RatesFile, Source, load_rates, save_rates
from uhd.predict.refit import Errors, errors, refit
from uhd.predict.workload import Op

S3 = chip("esp32s3")
MODELS = {(point.variant, point.preset): point.ops for point in published()}
MIXED = MODELS["R", "precision"]

RATES = st.builds(
    Rates,
    mac=st.floats(0.05, 1.0),
    requantize=st.floats(2, 60),
    unaligned=st.floats(1, 4),
    int16=st.floats(1, 4),
    depthwise=st.floats(1, 12),
    other=st.one_of(st.just(0.0), st.floats(0.1, 10)),
    call=st.one_of(st.just(0.0), st.floats(100, 5000)),
)


def timed(ops: tuple[Op, ...], true: Chip, weights: Memory = "psram") -> list[float]:
    """What a chip with these rates would take, exactly."""
    return [time.total_ms for time in predict(ops, true, Placement(weights)).ops]


@settings(max_examples=5, deadline=None)
@given(RATES, st.floats(1e7, 2e8), st.sampled_from([("R", "precision"), ("Y", "precision"), ("A", "precision")]))
def test_rates_are_found_again(rates: Rates, bandwidth: float, name: tuple[str, str]) -> None:
    true = replace(S3, rates=rates, bandwidth={**S3.bandwidth, "psram": bandwidth})
    found = refit(MODELS[name], timed(MODELS[name], true), S3, Placement(), "made up")
    assert found.chip.rates.call == pytest.approx(rates.call, rel=1e-3, abs=0.5)
    assert vars(replace(found.chip.rates, call=0)) == pytest.approx(vars(replace(rates, call=0)), rel=1e-3, abs=1e-3)
    assert found.chip.bandwidth["psram"] == pytest.approx(bandwidth, rel=1e-3)
    assert found.kept == () and found.chip.fitted and found.chip.basis == "made up"
    assert found.after.operators < 1e-4 and found.left_out.operators < 1e-3


def test_what_a_model_says_nothing_of_stays() -> None:
    """All in int8, weights in SRAM: nothing of int16, requantizing, or PSRAM."""
    true = replace(
        S3, rates=replace(S3.rates, mac=0.4, depthwise=9.0, other=2.0, call=500.0, int16=3.3, requantize=1.0)
    )
    ops = MODELS["R", "speed"]
    found = refit(ops, timed(ops, true, "sram"), S3, Placement("sram"), "x")
    assert set(found.kept) == {"bandwidth", "requantize", "int16"}
    assert found.chip.bandwidth == S3.bandwidth
    wanted = replace(true.rates, int16=S3.rates.int16, requantize=S3.rates.requantize)
    assert vars(found.chip.rates) == pytest.approx(vars(wanted), rel=1e-3)


def test_flash_is_fitted_where_weights_run_from_it() -> None:
    true = replace(S3, bandwidth={**S3.bandwidth, "flash": 17e6})
    found = refit(MIXED, timed(MIXED, true, "flash"), S3, Placement("flash"), "x")
    assert found.chip.bandwidth == pytest.approx({**S3.bandwidth, "flash": 17e6}, rel=1e-3)


def test_with_noise_the_fit_is_better_than_before_and_left_out_no_better_than_the_fit() -> None:
    true = replace(S3, rates=replace(S3.rates, mac=0.35, call=800.0))
    chance = np.random.default_rng(3)
    ms = [t * f for t, f in zip(timed(MIXED, true), chance.lognormal(0, 0.1, len(MIXED)), strict=True)]
    found = refit(MIXED, ms, S3, Placement(), "x")
    assert found.after.operators < 0.15 < 0.3 < found.before.operators
    assert found.after.operators < found.left_out.operators < 0.25
    assert abs(found.after.total) < 0.1

    def loss(rates: Rates) -> float:
        predicted = np.array(timed(MIXED, replace(found.chip, rates=rates)))
        scale = np.maximum(ms, 0.01 * sum(ms))
        return float(np.sum(((predicted - ms) / scale) ** 2))

    best = loss(found.chip.rates)
    for name, value in vars(found.chip.rates).items():
        for factor in (0.98, 1.02):
            assert loss(replace(found.chip.rates, **{name: value * factor})) >= best - 1e-6, f"{name} could be better"


def test_too_few_operators() -> None:
    with pytest.raises(ConfigError, match=r"4 timed operators are too few for . rates; a whole table"):
        refit(MIXED[:4], timed(MIXED[:4], S3), S3, Placement(), "x")


def test_errors_by_hand() -> None:
    assert errors([1.0, 3.0], [2.0, 2.0]) == Errors(0.0, 0.5)
    assert errors([1.0, 2.0], [2.0, 2.0]) == Errors(-0.25, 0.25)


def file_of(board: Chip) -> RatesFile:
    source = Source(
        model="m.espdl", sha256="0", operators=9, runs=1, weights="psram", activations=None, measured_ms=1.5
    )
    return RatesFile(
        chip=board, source=source, kept=("int16",), before=Errors(1, 1), after=Errors(0, 0), left_out=Errors(0, 0.1)
    )


def test_a_file_of_rates_comes_back(tmp_path: Path) -> None:
    board = replace(S3, rates=replace(S3.rates, call=123.25), basis="somebody's board")
    path = tmp_path / "latency_esp32s3.json"
    save_rates(path, file_of(board))
    assert load_rates(path) == file_of(board) and chip_with("esp32s3", path) == board
    assert chip_with("esp32s3", None) == S3
    with pytest.raises(ConfigError, match="rates of an esp32s3, not of an esp32p4; give --target"):
        chip_with("esp32p4", path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: "[]", "not a file of rates"),
        (lambda d: "{", "Invalid JSON"),
        (lambda d: json.dumps(d | {"format": "uhd-latency-2"}), "format: "),
        (lambda d: json.dumps(d | {"more": 1}), "more: "),
        (lambda d: json.dumps(d | {"chip": d["chip"] | {"clock_hz": 0}}), "clock_hz is 0"),
        (lambda d: json.dumps(d | {"chip": d["chip"] | {"rates": d["chip"]["rates"] | {"mac": -1}}}), "mac is -1"),
        (lambda d: json.dumps(d | {"chip": d["chip"] | {"bandwidth": {"sram": 1.0}}}), "no bandwidth of flash, psram"),
    ],
)
def test_bad_files_of_rates(tmp_path: Path, change: object, says: str) -> None:
    assert callable(change)
    path = tmp_path / "rates.json"
    path.write_text(change(json.loads(file_of(S3).model_dump_json())))
    with pytest.raises(ConfigError, match=r"rates\.json: not a file of rates") as raised:
        load_rates(path)
    assert says in str(raised.value) and "\n" not in str(raised.value)
    with pytest.raises(ConfigError, match="cannot read"):
        load_rates(tmp_path / "missing.json")
