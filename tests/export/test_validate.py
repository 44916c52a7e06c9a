"""mAP of exported files beside that of their checkpoints, on generated scenes."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from support.golden import with_recipe_weights
from support.scenes import write_scenes
from uhd import zoo
from uhd.data.yolo import Sample, load_split
from uhd.errors import DataError, ModelError
from uhd.export.onnx_export import ExportOptions, export_onnx
from uhd.export.validate import validate
from uhd.host.__main__ import main
from uhd.manifest import ModelManifest
from uhd.models import UltraTinyODConfig
from uhd.models.checkpoint import load_checkpoint
from uhd.models.detector import Detector
from uhd.models.ultratinyod import UltraTinyOD


@cache
def shipped() -> tuple[Detector, ModelManifest]:
    return load_checkpoint(zoo.checkpoint_path("R"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"), 12, size=(120, 160))


@pytest.fixture(scope="module")
def samples(folder: Path) -> list[Sample]:
    return load_split(folder)


@pytest.mark.parametrize(
    ("flavour", "options"),
    [
        ("parts", ExportOptions()),
        ("fast", ExportOptions(top_k=30, conf=0.02, batch=2)),
        ("post", ExportOptions(dynamic_resize=True, allow_mismatch=True)),
    ],
)
def test_the_file_is_as_good_as_the_checkpoint(
    samples: list[Sample], tmp_path: Path, flavour: str, options: ExportOptions
) -> None:
    model, manifest = shipped()
    path = tmp_path / "r.onnx"
    export_onnx(model, manifest, path, flavour, options, verify=False)
    found = validate(path, model, samples)
    assert (found.images, found.boxes) == (12, sum(len(sample.boxes) for sample in samples))
    assert found.torch.map50 > 0.03, "nothing to compare"
    assert found.difference <= 1e-4
    assert (found.own_size is not None) == options.dynamic_resize
    if found.own_size is not None:  # its packed chroma was picked apart by the graph
        assert found.own_size != found.onnx


def test_attributes_are_left_out(samples: list[Sample], tmp_path: Path) -> None:
    """Rows of attributes compete for the places, and are no detections."""
    config = UltraTinyODConfig(width=2, attr_classes=2, score_mode="obj_cls")
    model = with_recipe_weights(UltraTinyOD(config)).eval()
    manifest = ModelManifest(name="a", resize_mode="opencv_inter_nearest")
    path = tmp_path / "a.onnx"
    export_onnx(model, manifest, path, "fast", verify=False)
    assert validate(path, model, samples).difference <= 1e-4


def spoil(path: Path) -> None:
    model = onnx.load(path)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("box_out.bias"))
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.5), bias.name))
    onnx.save(model, path)


def test_a_file_that_is_worse_is_refused(samples: list[Sample], tmp_path: Path) -> None:
    model, manifest = shipped()
    path = tmp_path / "r.onnx"

    def inspect(file: Path) -> None:
        spoil(file)
        validate(file, model, samples)

    with pytest.raises(ModelError, match=r"the exported file reaches mAP .* on 12 photos, the checkpoint"):
        export_onnx(model, manifest, path, "parts", verify=False, inspect=inspect)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_validated(samples: list[Sample], tmp_path: Path) -> None:
    model, manifest = shipped()
    path = tmp_path / "r.onnx"
    export_onnx(model, manifest, path, verify=False)
    empty = [Sample(sample.image, np.empty((0, 5), np.float32)) for sample in samples]
    with pytest.raises(DataError, match="no photo has a box"):
        validate(path, model, empty)
    file = onnx.load(path)
    del file.metadata_props[:]
    onnx.save(file, path)
    with pytest.raises(ModelError, match="carries no export record"):
        validate(path, model, samples)


def test_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["export", str(zoo.checkpoint_path("R")), "--output", str(tmp_path / "r.onnx"), "--no-verify"]
    assert main([*arguments, "--val", str(folder), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["validation"]
    assert found["difference"] <= 1e-4
    assert abs(found["onnx"]["map50"] - found["torch"]["map50"]) <= found["difference"] + 1e-12
    assert found["images"] == 12
    shorter = write_scenes(tmp_path / "two", 2)
    assert main([*arguments, "--validate", str(shorter)]) == 0
    text = capsys.readouterr().out
    assert "file mAP@0.5" in " ".join(text.split())
    assert "2 photos" in text


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--val", "nowhere"], "nowhere"),
        (["--val", "unlabelled"], "label file a.txt is missing"),
        (["--val", "unlabelled", "--classes", "x"], "'x' is not a comma-separated list"),
    ],
)
def test_photos_that_cannot_be_used(
    extra: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "unlabelled").mkdir()
    (tmp_path / "unlabelled" / "a.png").write_bytes(b"")
    arguments = ["export", str(zoo.checkpoint_path("R")), "--output", "r.onnx", "--no-verify", *extra]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["unlabelled"]
