"""The command line that a search gives stands for the settings that it measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from uhd.host.quantize import command
from uhd.host.quantize_tuning import tuning
from uhd.quantize.grid import write_grid
from uhd.search.candidate import TRAINED, Base, Candidate, bases, candidate_of, command_line
from uhd.search.journal import Measured, measured_of

EVERY = [Candidate(base, int16) for base in bases(70, True) for int16 in ((), ("/a.0/Conv", "/b/Conv"))]


@pytest.mark.parametrize("candidate", EVERY, ids=lambda c: c.title)
def test_quantize_understands_it(candidate: Candidate, tmp_path: Path) -> None:
    words = command_line(
        candidate, Path("m.safetensors"), Path("photos"), 33, "esp32s3", Path("w.espdl"), None, carries_grid=True
    )
    parsed = command.make_context("quantize", words[1:]).params
    settings = candidate.settings("esp32s3", "")
    assert parsed["target"] == settings.target and parsed["calib_steps"] == 33
    assert parsed["calib_algorithm"] == settings.algorithm
    assert parsed["int16_op_pattern"] == settings.patterns
    assert parsed["use_layerwise_equalization"] == settings.equalize
    fields = tuning(**{key: parsed[key] for key in ("bias_correction", "tqt_steps", "tqt_rate", "recalibrate", "grid")})
    assert fields == {key: getattr(settings, key) for key in fields}


def test_a_grid_goes_before_an_algorithm(tmp_path: Path) -> None:
    grid = tmp_path / "g.json"
    write_grid(grid, {"input": (-7,), "/a:1": (-8, -9)})
    candidate = Candidate(Base(TRAINED, tqt_steps=5), ("/a",))
    words = command_line(candidate, Path("m"), Path("p"), 1, "esp32p4", Path("w.espdl"), grid, carries_grid=True)
    parsed = command.make_context("quantize", words[1:]).params
    assert parsed["grid"] == grid and not parsed["recalibrate"]
    fields = tuning(bias_correction=False, tqt_steps=5, tqt_rate=1e-4, recalibrate=False, grid=grid)
    assert fields["exponents"] == {"input": (-7,), "/a:1": (-8, -9)}


def test_records_hold_candidates() -> None:
    for candidate in EVERY:
        assert measured_of(Measured(candidate).as_dict()).candidate == candidate
        assert len({c.key for c in EVERY}) == len(EVERY)
    assert candidate_of({"base": {"algorithm": "kl"}, "int16": []}) == Candidate(Base("kl"))
