"""Latency in ONNX Runtime: of our files beside the golden ones, and of rows beside maps."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from support.golden import golden_file, golden_index
from uhd.errors import ModelError
from uhd.export.onnx_export import build_onnx
from uhd.export.timing import Times, time_files
from uhd.host.__main__ import main
from uhd.models.checkpoint import load_checkpoint

#: Ratios are medians of rounds in which the files take turns; what is above 1 here is left to noise.
NOISE = 1.1

GOLDEN = {"static": "post", "nopost_noconcat": "parts", "static_nopost": "raw", "primitive": "primitive"}


@cache
def ours(flavour: str) -> bytes:
    model, manifest = load_checkpoint(golden_file("w16_rgb", "checkpoint.pt"))
    return build_onnx(model, manifest, flavour, verify=False).SerializeToString()


def is_as_fast(first: bytes, second: bytes) -> bool:
    """Whether the second takes no longer than the first, in one of five attempts."""
    return any(time_files({"first": first, "second": second}, 80)["second"].ratio <= NOISE for _ in range(5))


@pytest.mark.parametrize("golden", GOLDEN)
def test_not_slower_than_the_published_file(golden: str) -> None:
    golden_index()  # skips where there are none
    published = golden_file("w16_rgb", f"{golden}.onnx").read_bytes()
    assert is_as_fast(published, ours(GOLDEN[golden]))


def test_rows_cost_next_to_nothing() -> None:
    golden_index()
    assert is_as_fast(ours("parts"), ours("fast"))


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    golden_index()
    paths = []
    for flavour in ("parts", "fast"):
        paths.append(tmp_path / f"{flavour}.onnx")
        paths[-1].write_bytes(ours(flavour))
    arguments = ["bench", "onnx", *map(str, paths), "--rounds", "5"]
    assert main([*arguments, "--json"]) == 0
    figures: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["files"]
    assert [row["file"] for row in figures] == [str(path) for path in paths]
    assert figures[0]["ratio"] == 1
    assert all(0 < row["least_ms"] <= row["median_ms"] for row in figures)
    assert main(arguments) == 0
    assert "5 rounds, 1 thread" in capsys.readouterr().out
    assert main(["bench", "onnx", str(tmp_path / "none.onnx")]) == 2
    assert "none.onnx: cannot read the file" in capsys.readouterr().err


def test_files_that_do_not_run() -> None:
    with pytest.raises(ModelError, match=r"a\.onnx: ONNX Runtime does not take it"):
        time_files({"a.onnx": b"\x08\x08broken"})


def test_ratios_are_of_the_same_rounds() -> None:
    golden_index()
    model = ours("parts")
    times = time_files({"a": model, "b": model}, 40)
    assert times["a"].ratio == 1
    assert isinstance(times["b"], Times)
    assert 0.5 < times["b"].ratio < 2
