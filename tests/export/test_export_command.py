"""``python -m uhd.host export``: summary, JSON, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
import torch

from support.golden import with_recipe_weights
from uhd.host.__main__ import main
from uhd.manifest import ModelManifest
from uhd.models import UltraTinyODConfig
from uhd.models.checkpoint import save_checkpoint
from uhd.models.ultratinyod import UltraTinyOD


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    config = UltraTinyODConfig(width=2, in_channels=2, improved_head=True)
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, with_recipe_weights(UltraTinyOD(config)), ModelManifest(name="tiny"))
    return path


def test_summary(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out" / "tiny.onnx"
    assert main(["export", str(checkpoint), "--output", str(output)]) == 0
    text = capsys.readouterr().out
    assert "obj_quality_cls" in text
    assert "box [1, 12, 8, 8]" in text
    assert "wh_scale [3, 2]" in text
    assert "outputs equal the model's within" in text
    onnx.checker.check_model(onnx.load(output))


def test_json(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "post.onnx"
    arguments = ["--output", str(output), "--flavour", "post", "--topk", "7", "--opset", "16", "--no-verify", "--json"]
    assert main(["export", str(checkpoint), *arguments]) == 0
    summary = json.loads(capsys.readouterr().out)
    file = onnx.load(output)
    assert summary["outputs"] == {"score_classid_cxcywh": [1, 7, 6]}
    assert summary["input"] == {"input_yuv422": [1, 2, 64, 64]}
    assert (summary["opset"], summary["nodes"]) == (16, len(file.graph.node))
    assert summary["verified"] is False


GARBAGE = {
    "model.onnx": b"\x08\x08\x12\x07pytorch",
    "model.espdl": b"EDL2" + bytes(60),
    "photo.pt": b"\xff\xd8\xff\xe0" + bytes(99),
    "empty.pt": b"",
    "cut.pt": b"PK\x03\x04" + bytes(20),
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.pt", "--output", "a.onnx"], "missing.pt: cannot read the checkpoint"),
        ([".", "--output", "a.onnx"], "cannot read the checkpoint (Is a directory)"),
        (["tiny.json", "--output", "a.onnx"], "tiny.json: damaged"),
        (["model.onnx", "--output", "a.onnx"], "model.onnx: this is an ONNX file; give the checkpoint"),
        (["model.espdl", "--output", "a.onnx"], "model.espdl: this is an .espdl file; give the checkpoint"),
        (["photo.pt", "--output", "a.onnx"], "photo.pt: damaged, truncated"),
        (["empty.pt", "--output", "a.onnx"], "empty.pt: damaged, truncated"),
        (["cut.pt", "--output", "a.onnx"], "cut.pt: damaged or truncated"),
        (["half.safetensors", "--output", "a.onnx"], "half.safetensors: damaged, truncated"),
        (
            ["other.pt", "--output", "a.onnx"],
            "other.pt: weights of another project (layer1.weight, ...); this reads ultratinyod",
        ),
        (["tiny.safetensors", "--output", "tiny.safetensors"], "this would replace the checkpoint"),
        (["tiny.safetensors", "--output", "tiny.json"], "this would replace the manifest of the checkpoint"),
        (["tiny.safetensors", "--output", "tiny.json/a.onnx"], "a.onnx: cannot write there"),
        (["tiny.safetensors", "--output", "/proc/a.onnx"], "/proc/a.onnx: cannot write there"),
        (["tiny.safetensors", "--output", "a.onnx", "--opset", "99"], "opset 99 is not supported"),
        (["tiny.safetensors", "--output", "a.onnx", "--topk", "0"], "--topk"),
        (["tiny.safetensors", "--output", "a.onnx", "--batch-size", "0"], "--batch-size"),
        (["tiny.safetensors", "--output", "a.onnx", "--flavour", "nopost"], "--flavour"),
        (["tiny.safetensors"], "--output"),
    ],
)
def test_mistakes(
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(checkpoint.parent)
    for name, content in GARBAGE.items():
        Path(name).write_bytes(content)
    Path("half.safetensors").write_bytes(checkpoint.read_bytes()[:-100])
    torch.save({"layer1.weight": torch.zeros(3)}, "other.pt")
    before = {path: path.read_bytes() for path in checkpoint.parent.iterdir()}
    assert main(["export", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert error.count("\n") == 1
    assert {path: path.read_bytes() for path in checkpoint.parent.iterdir()} == before
