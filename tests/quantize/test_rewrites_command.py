"""``quantize --split-filters``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.photos import random_rgb, save_png
from support.quantize_nets import detector_onnx
from uhd.espdl.reader import read_espdl
from uhd.host.__main__ import main
from uhd.host.quantize_split import Forecast
from uhd.manifest import load_manifest


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(5):
        save_png(folder / f"{index}.png", random_rgb(index))
    onnx, _ = detector_onnx()
    return ["quantize", str(onnx), "--calibration", str(folder), "--calib-steps", "2", "--calib-algorithm", "minmax",
            "--output", str(tmp_path / "made" / "tiny.espdl")]  # fmt: skip


def test_the_result_as_json(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main([*words, "--target", "esp32s3", "--split-filters", "--filter-limit", "2k", "--preset", "R-distill",
                 "--json"])  # fmt: skip
    said = json.loads(capsys.readouterr().out)
    split = said["split"]
    assert code == 0 and split["limit_bytes"] == 2048
    assert {"name": "/backbone/block4/pw/conv/Conv", "filter_bytes": 4096, "channels": [32, 32]} in split["operators"]
    assert split["compared"]["pictures"] == 5, "all photos, not only those of the calibration"
    assert split["compared"]["constants"] > 30_000 and split["compared"]["values"] > 400_000
    assert split["predicted"]["after_ms"] > 0 and split["predicted"]["traffic_bytes"] > 0
    manifest = load_manifest(tmp_path / "made" / "tiny.json")
    assert manifest.quantization is not None and manifest.anchors
    assert manifest.quantization.rewrites == said["rewrites"] and len(said["rewrites"]) == len(split["operators"])
    assert manifest.quantization.preset == "R-distill" and manifest.quantization.calibration == "2 photos of photos"
    assert manifest.quantization.calibration_algorithm == "minmax"
    model = read_espdl(tmp_path / "made" / "tiny.espdl")
    assert model.sha256 == said["espdl_sha256"] and said["test_vector_mismatches"] == 0
    assert {node.name for node in model.nodes} > {f"/backbone/block4/pw/conv/Conv_part{part}" for part in range(2)}


def test_the_result_in_words(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--target", "esp32p4", "--split-filters", "--filter-limit", "4095", "--export-anchors"]) == 0
    out = capsys.readouterr().out
    for text in (
        "  split  /backbone/block4/pw/conv/Conv: 4,096 B, channels 32 + 32", "equal: ", "of activations on 5 pictures",
        "predicted on esp32p4, weights in PSRAM: ", "not in that: the pieces move ",
    ):  # fmt: skip
        assert text in out
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == [
        "tiny.espdl", "tiny.json", "tiny_anchors.npy", "tiny_wh_scale.npy",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "verdict", "gain"),
    [(128.4, 62.9, "2.0 times", 1.91), (39.3, 39.3, "1.0 times", 0.9), (155.6, 178.1, "slower: raise", 0.85)],
)
def test_a_loss_is_called_one(before: float, after: float, verdict: str, gain: float) -> None:
    found = Forecast("esp32s3", before, after, 270_000, 4.4)
    assert found.verdict.startswith(verdict) and found.gain == pytest.approx(gain, abs=0.01)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--filter-limit", "48k"], "--filter-limit 48k without --split-filters"),
        (["--split-filters", "--filter-limit", "0"], "--filter-limit 0"),
        (["--split-filters", "--filter-limit", "4.5k"], "--filter-limit 4.5k"),
    ],
)
def test_mistakes(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert main([*words, "--target", "esp32s3", *more]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "made").exists()
