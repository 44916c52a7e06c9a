"""Files that are no model, or none that can be run: one line that says what to do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from support.photos import random_rgb, save_png
from uhd import Detector, zoo
from uhd.device.build import float_onnx
from uhd.errors import ConfigError, ModelError, ToolMissingError, UhdError
from uhd.infer.options import ModelOptions


def refused(path: Path, kind: type[UhdError] = ModelError, options: ModelOptions | None = None) -> str:
    """The one line that a file is refused with."""
    with pytest.raises(kind) as caught:
        Detector.load(path, options=options)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 500
    return text


@pytest.fixture(scope="module")
def good() -> Path:
    return float_onnx(zoo.checkpoint_path("R"))


def espdl(folder: Path) -> Path:
    """A copy of a shipped file with its manifest."""
    shipped = zoo.shipped_espdl("R", "c", "speed")
    assert shipped is not None
    path = folder / "model.espdl"
    path.write_bytes(shipped.path.read_bytes())
    path.with_suffix(".json").write_bytes(shipped.path.with_suffix(".json").read_bytes())
    return path


def test_missing_empty_and_folders(tmp_path: Path) -> None:
    assert "none.onnx" in refused(tmp_path / "none.onnx")
    assert "a folder" in refused(tmp_path)
    (tmp_path / "empty.onnx").write_bytes(b"")
    assert "empty" in refused(tmp_path / "empty.onnx")


def test_other_kinds_of_files(tmp_path: Path) -> None:
    assert "picture" in refused(save_png(tmp_path / "model.png", random_rgb(1)))
    (tmp_path / "model.onnx").write_text('{"name": "x"}')
    assert "JSON" in refused(tmp_path / "model.onnx")
    (tmp_path / "notes.txt").write_text("The model is elsewhere.\n")
    assert "not an ONNX file" in refused(tmp_path / "notes.txt")
    (tmp_path / "model.uhdm").write_bytes(b"UHDM" + bytes(60))
    assert ".espdl it was made from" in refused(tmp_path / "model.uhdm")


@pytest.mark.parametrize("part", [0.02, 0.3, 0.9, 0.999])
def test_truncated_onnx(tmp_path: Path, good: Path, part: float) -> None:
    data = good.read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(data[: int(len(data) * part)])
    assert str(path) in refused(path)


@pytest.mark.parametrize("name", ["model.espdl", "model.safetensors", "model.tflite", "model.pt"])
def test_garbage_by_its_ending(tmp_path: Path, name: str) -> None:
    pytest.importorskip("ai_edge_litert") if name.endswith("tflite") else None
    (tmp_path / name).write_bytes(np.random.default_rng(5).bytes(3000))
    assert name in refused(tmp_path / name)


def test_truncated_espdl_and_checkpoint(tmp_path: Path) -> None:
    path = espdl(tmp_path)
    path.write_bytes(path.read_bytes()[:9000])
    assert "model.espdl" in refused(path)
    checkpoint = tmp_path / "r.safetensors"
    checkpoint.write_bytes(zoo.checkpoint_path("R").read_bytes()[:9000])
    assert "r.safetensors" in refused(checkpoint)


def test_espdl_with_the_wrong_manifest_or_none(tmp_path: Path) -> None:
    path = espdl(tmp_path)
    sidecar = path.with_suffix(".json")
    values = json.loads(sidecar.read_text())
    values["quantization"]["espdl_sha256"] = "0" * 64
    sidecar.write_text(json.dumps(values))
    assert "another file" in refused(path)
    sidecar.write_text('{"quantizer": "settings of its own"}')
    assert "--manifest" in refused(path)
    sidecar.unlink()
    assert "--manifest" in refused(path)
    shipped = zoo.shipped_espdl("R", "c", "speed")
    assert shipped is not None
    options = ModelOptions(manifest=shipped.path.with_suffix(".json"), integers="oracle")
    assert Detector.load(path, options=options).manifest.name == shipped.manifest.name


def test_model_of_another_project(tmp_path: Path) -> None:
    """A classifier: sound ONNX, other outputs."""
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["probabilities"]),
        ],
        "classifier",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    path = tmp_path / "classifier.onnx"
    onnx.save(model, path)
    message = refused(path)
    assert "probabilities" in message and "not understood" in message


def test_options_at_odds_with_the_file(tmp_path: Path, good: Path) -> None:
    assert "64x64, not 96x96" in refused(good, ConfigError, ModelOptions(size=(96, 96)))
    assert "obj" in refused(good, ModelError, ModelOptions(score_mode="obj_quality_cls"))
    assert "choose one of" in refused(good, ConfigError, ModelOptions(score_mode="best"))
    shipped = espdl(tmp_path)
    assert "quantize the model" in refused(shipped, ConfigError, ModelOptions(score_mode="quality"))
    assert "64x64, not 32x32" in refused(shipped, ConfigError, ModelOptions(size=(32, 32)))


def test_scores_that_a_file_computes_itself(tmp_path: Path) -> None:
    from uhd.export.onnx_export import export_onnx
    from uhd.models.checkpoint import load_checkpoint

    model, manifest = load_checkpoint(zoo.checkpoint_path("R"))
    export_onnx(model, manifest, tmp_path / "fast.onnx", "fast", verify=False)
    message = refused(tmp_path / "fast.onnx", ConfigError, ModelOptions(quality_power=2.0))
    assert "computes its scores by itself" in message
    assert Detector.load(tmp_path / "fast.onnx", options=ModelOptions(score_mode=manifest.score_mode))


def test_open_choices_change_scores(good: Path) -> None:
    from support.infer import sample_pictures

    picture = sample_pictures()[0]
    plain = Detector.load(good, threshold=0.01, nms=False)(picture)
    other = Detector.load(good, threshold=0.0001, nms=False, options=ModelOptions(quality_power=2.0))(picture)
    assert other[0].score < plain[0].score
    alone = Detector.load(good, threshold=0.01, nms=False, options=ModelOptions(score_mode="quality"))(picture)
    assert alone[0].score > plain[0].score


def test_checkpoints_take_another_size() -> None:
    from support.infer import sample_pictures

    detector = Detector.load(zoo.checkpoint_path("R"), options=ModelOptions(size=(96, 128)), threshold=0.05)
    assert detector.engine.prepare(sample_pictures()[0]).shape == (2, 96, 128)
    assert any(detector(picture) for picture in sample_pictures())


def test_without_the_library_for_tflite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    path = tmp_path / "model.tflite"
    path.write_bytes(bytes(4) + b"TFL3" + bytes(100))
    assert "pip install ai-edge-litert" in refused(path, ToolMissingError)
