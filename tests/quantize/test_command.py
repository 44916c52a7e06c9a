"""The ``quantize`` command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from support.photos import random_rgb, save_png
from support.quantize_nets import checkpoint_of, detector_onnx
from uhd import zoo
from uhd.espdl.reader import read_espdl
from uhd.host.__main__ import main
from uhd.manifest import load_manifest


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(3):
        save_png(folder / f"{index}.png", random_rgb(index))
    return folder


def test_a_checkpoint_becomes_an_espdl(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = checkpoint_of()
    manifest_before = checkpoint.with_suffix(".json").read_bytes()
    output = tmp_path / "made" / "tiny.espdl"
    code = main(
        ["quantize", str(checkpoint), "--calibration", str(photos), "--target", "esp32p4", "--calib-steps", "2",
         "--int16-op-pattern", "/box_out/Conv", "--int16-op-pattern", "quality_out", "--calib-algorithm", "minmax",
         "--output", str(output), "--export-anchors", "--json"]
    )  # fmt: skip
    said = json.loads(capsys.readouterr().out)
    assert code == 0
    assert said["espdl"] == str(output) and said["size_bytes"] == output.stat().st_size
    assert said["calibration"] == "2 photos of photos"
    assert said["int16_operators"] == ["/box_out/Conv", "/quality_out/Conv"]
    assert said["test_vector_mismatches"] == 0 < said["test_vector_integers"]
    assert {finding["severity"] for finding in said["findings"]} <= {"note"}
    assert read_espdl(output).sha256 == said["espdl_sha256"]
    manifest = load_manifest(output.with_suffix(".json"))
    assert manifest.quantization is not None and manifest.quantization.target == "esp32p4"
    assert manifest.weights_sha256 and len(manifest.anchors) == 2
    assert sorted(p.name for p in output.parent.iterdir()) == [
        "tiny.espdl", "tiny.json", "tiny_anchors.npy", "tiny_wh_scale.npy",
    ]  # fmt: skip
    assert checkpoint.with_suffix(".json").read_bytes() == manifest_before


def test_the_table_and_the_words_of_the_published_commands(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx, _ = detector_onnx()
    output = tmp_path / "r.espdl"
    code = main(
        ["quantize", "--onnx-model", str(onnx), "--espdl-model", str(output), "--image-dir", str(photos),
         "--resize-mode", "opencv_inter_nearest_yuv422", "--target", "esp32s3", "--preset", "R-distill",
         "--calib-algorithm", "minmax", "--num-of-bits", "8"]
    )  # fmt: skip
    heard = capsys.readouterr()
    assert code == 0
    for text in (str(output), "R-distill", "3 photos of photos; minmax", "0 of", "box int8 1x8x8x8, 2^"):
        assert text in heard.out
    assert "int16  /depthwiseconv/backbone/block1/dw/conv/Conv" in heard.out
    assert "is slow" not in heard.out and "more operators, see --json" in heard.out
    assert "[3/3] quantize  for esp32s3, preset R-distill" in heard.err and "calibrate (3 steps)" in heard.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.onnx"], "missing.onnx: no such file"),
        (["{photos}/0.png"], "neither an .onnx file nor a checkpoint"),
        (["{onnx}", "--calib-algorithm", "best"], "unknown calibration algorithm 'best'"),
        (["{onnx}", "--preset", "Q-speed"], "unknown preset 'Q-speed'"),
        (["{onnx}", "--variant", "Q"], "unknown variant 'Q'"),
        (["{onnx}", "--resize-mode", "torch_nearest"], "made for resize mode opencv_inter_nearest_yuv422"),
        (["{onnx}", "--int16-op-pattern", "["], "not a regular expression"),
        (["{onnx}", "--calib-steps", "0"], "0 calibration photos"),
        (["{onnx}", "--manifest", "missing.json"], "missing.json: cannot read the manifest"),
        (["{onnx}", "--output", "r.bin"], "must end in .espdl"),
        (["{onnx}", "--onnx-model", "{onnx}"], "name one model"),
        ([], "name one model"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_two(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    filled = [a.format(onnx=detector_onnx()[0], photos=photos) for a in arguments]
    assert main(["quantize", *filled, "--calibration", str(photos), "--target", "c"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert message in said[-1] and said[-1].startswith("error: ")
    assert sum(line.startswith("error: ") for line in said) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_folder_without_photos_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx, _ = detector_onnx()
    assert main(["quantize", str(onnx), "--calibration", str(tmp_path), "--target", "c"]) == 2
    assert f"error: {tmp_path}: no photos directly in it" in capsys.readouterr().err


def test_a_checkpoints_manifest_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for suffix in (".safetensors", ".json"):
        shutil.copy(zoo.checkpoint_path("R").with_suffix(suffix), tmp_path / f"r{suffix}")
    before = (tmp_path / "r.json").read_bytes()
    words = ["quantize", str(tmp_path / "r.safetensors"), "--calibration", str(tmp_path), "--target", "c"]
    assert main([*words, "--output", str(tmp_path / "r.espdl")]) == 2
    assert "its manifest would replace" in capsys.readouterr().err
    assert (tmp_path / "r.json").read_bytes() == before
