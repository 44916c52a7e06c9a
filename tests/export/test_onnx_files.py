"""Exported files: bytes, metadata, options out of range, and what is left after a failure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from support.golden import with_recipe_weights
from uhd.errors import ConfigError, ModelError
from uhd.export import onnx_export
from uhd.export.metadata import input_name, read_manifest, score_text
from uhd.export.onnx_export import ExportOptions, build_onnx, export_onnx
from uhd.export.verify import row_difference
from uhd.manifest import ModelManifest
from uhd.models import UltraTinyODConfig
from uhd.models.checkpoint import complete_manifest
from uhd.models.ultratinyod import UltraTinyOD

CONFIG = UltraTinyODConfig(width=2, in_channels=2, improved_head=True, iou_aware_head=True)
MANIFEST = ModelManifest(name="tiny", variant=None)


def tiny(**changes: Any) -> UltraTinyOD:
    return with_recipe_weights(UltraTinyOD(CONFIG.model_copy(update=changes)))


@pytest.mark.parametrize("flavour", ["parts", "post"])
def test_same_model_same_bytes(tmp_path: Path, flavour: Any) -> None:
    model = tiny().train()
    first, second = tmp_path / "a.onnx", tmp_path / "sub" / "b.onnx"
    result = export_onnx(model, MANIFEST, first, flavour)
    export_onnx(tiny(), MANIFEST, second, flavour)
    assert first.read_bytes() == second.read_bytes()
    assert model.training, "the caller's model is left as it was"
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["a.onnx"]
    file = onnx.load(first)
    assert result.nodes == len(file.graph.node)
    assert result.size == first.stat().st_size
    assert result.parameters == sum(onnx.numpy_helper.to_array(t).size for t in file.graph.initializer)
    assert result.input == ("input_yuv422", (1, 2, 64, 64))


@pytest.mark.parametrize(
    ("changes", "flavour", "expected"),
    [
        (
            {},
            "parts",
            {
                "score_mode": "quality_cls",
                "decode_score": "score = sigmoid(quality) * sigmoid(cls)",
                "raw_concat": "false",
                "postprocess_mode": "raw",
                "img_size": "64x64",
                "disable_cls": "false",
                "dynamic_resize": "false",
                "quality_power": "1.0",
                "resize_mode": "opencv_inter_nearest_yuv422",
                "raw_concat_fields": None,
            },
        ),
        (
            {"disable_cls": True, "quality_power": 0.5},
            "raw",
            {
                "score_mode": "quality",
                "decode_score": "score = sigmoid(quality)^0.5",
                "raw_concat": "true",
                "raw_concat_fields": "box,quality",
                "raw_concat_layout": "anchor_interleaved",
                "disable_cls": "true",
                "quality_power": "0.5",
            },
        ),
        (
            {"score_mode": "obj_cls"},
            "post",
            {
                "score_mode": "obj_cls",
                "decode_score": "score = sigmoid(obj) * sigmoid(cls)",
                "postprocess_mode": "full",
            },
        ),
    ],
)
def test_metadata(changes: dict[str, Any], flavour: Any, expected: dict[str, str | None]) -> None:
    model = tiny(**changes)
    file = build_onnx(model, MANIFEST, flavour, verify=False)
    props = {prop.key: prop.value for prop in file.metadata_props}
    assert {key: props.get(key) for key in expected} == expected
    assert not any(key.startswith("onnxsim") for key in props)
    assert read_manifest(file, "file") == complete_manifest(model, MANIFEST)


def test_a_file_without_a_manifest() -> None:
    file = build_onnx(tiny(), MANIFEST, verify=False)
    del file.metadata_props[:]
    assert read_manifest(file, "x.onnx") is None
    file.metadata_props.add(key="uhd_manifest", value="{}")
    with pytest.raises(ModelError, match="x.onnx: manifest key name"):
        read_manifest(file, "x.onnx")


@pytest.mark.parametrize("mode", ["torch_bilinear", "torch_nearest", "opencv_inter_linear", "opencv_inter_nearest"])
def test_input_names(mode: Any) -> None:
    assert input_name(mode) == "input_rgb"
    assert input_name("opencv_inter_nearest_yuv422") == "input_yuv422"
    assert {input_name(f"opencv_inter_nearest_{y}") for y in ("y", "y_bin", "y_tri")} == {"input_y"}


def test_score_text_names_every_factor() -> None:
    assert score_text(UltraTinyODConfig(improved_head=True, quality_power=2)) == (
        "score = sigmoid(obj) * sigmoid(quality)^2 * sigmoid(cls)"
    )


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"flavour": "nopost"}, "unknown flavour 'nopost'; choose one of parts, raw, whole, primitive, post, fast"),
        ({"options": ExportOptions(opset=9)}, "opset 9 is not supported; choose"),
        ({"flavour": "post", "options": ExportOptions(top_k=0)}, "top-k 0"),
        ({"options": ExportOptions(batch=0)}, "a batch of 0 pictures"),
        ({"flavour": "post", "options": ExportOptions(conf=1)}, "conf-thresh 1 is not in 0..1"),
        ({"options": ExportOptions(conf=0.5)}, "flavour parts selects nothing"),
    ],
)
def test_options_out_of_range(tmp_path: Path, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        export_onnx(tiny(), MANIFEST, tmp_path / "a.onnx", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("opset", [13, 18, 20])
def test_other_opsets(opset: int) -> None:
    file = build_onnx(tiny(large_obj_branch=True, head_ese=True), MANIFEST, "post", ExportOptions(opset=opset))
    assert next(entry.version for entry in file.opset_import if entry.domain == "") == opset


def test_model_and_manifest_must_agree(tmp_path: Path) -> None:
    rgb = MANIFEST.model_copy(update={"resize_mode": "opencv_inter_nearest"})
    with pytest.raises(ModelError, match="makes 3 channels"):
        export_onnx(tiny(), rgb, tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(model: onnx.ModelProto) -> onnx.ModelProto:
        bias = next(t for t in model.graph.initializer if t.name.endswith("box_out.bias"))
        bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + 1, bias.name))
        return model

    monkeypatch.setattr(onnx_export.passes, "simplify", spoil)
    with pytest.raises(ModelError, match="differs from the model by"):
        export_onnx(tiny(), MANIFEST, tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_exporter_that_renames_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(model: onnx.ModelProto) -> onnx.ModelProto:
        next(node for node in model.graph.node if node.op_type == "Conv").name = "node_conv2d"
        return model

    monkeypatch.setattr(onnx_export.passes, "simplify", rename)
    with pytest.raises(ModelError, match="named convolutions in an unknown way .*Conv"):
        build_onnx(tiny(), MANIFEST)


def test_unwritable_output(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write there"):
        export_onnx(tiny(), MANIFEST, tmp_path / "file" / "a.onnx", verify=False)


def rows(*scores: float) -> np.ndarray:
    return np.array([[s, 0, i, i, 1, 1] for i, s in enumerate(scores)], np.float32)


def test_row_difference_allows_ties_and_nothing_else() -> None:
    a = rows(0.9, 0.5, 0.5, 0.1)
    assert row_difference(a, a[[0, 2, 1, 3]]) == 0
    assert row_difference(a, a[[1, 0, 2, 3]]) == pytest.approx(0.4)
    moved = a.copy()
    moved[1, 2] += 0.25
    assert row_difference(a, moved) == pytest.approx(0.25)
    exchanged = a.copy()
    exchanged[3, 2:] = 0.7
    assert row_difference(a, exchanged) == 0, "a tie at the cut may fall either way"
    assert row_difference(a, a[:3]) == np.inf
