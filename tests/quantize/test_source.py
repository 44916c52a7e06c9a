"""Checks of the float model before anything is quantized."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from support.quantize_nets import ANCHORS, Plan, detector_onnx, manifest_for
from support.shared import shared_dir
from uhd.errors import ConfigError, ModelError
from uhd.manifest import ModelManifest
from uhd.quantize.source import agreed_manifest, manifest_of, read_source, run_float


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    plan = Plan()
    return plan.save(tmp_path / "plain.onnx", plan.conv("/stem/Conv", "input", 2, 6), 6)


def edited(path: Path, edit: Callable[[onnx.ModelProto], object]) -> Path:
    model = onnx.load(path)
    edit(model)
    onnx.save(model, path)
    return path


def test_an_export_of_ours_is_read_with_its_manifest() -> None:
    path, manifest = detector_onnx()
    source = read_source(path)
    assert source.shape == (1, 2, 64, 64)
    assert source.maps == {"box": (1, 8, 8, 8), "quality": (1, 2, 8, 8), "cls": (1, 2, 8, 8)}
    assert source.anchors is not None and source.wh_scale is not None
    np.testing.assert_allclose(source.anchors, ANCHORS, rtol=1e-6)
    assert manifest_of(source) == manifest
    kept = {output.name for output in onnx.load_from_string(source.onnx).graph.output}
    assert kept == {"box", "quality", "cls"}


def test_the_file_is_only_read(plain: Path) -> None:
    before = plain.read_bytes()
    read_source(plain)
    assert plain.read_bytes() == before


def test_a_symbolic_batch_becomes_one(plain: Path) -> None:
    def symbolic(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"

    source = read_source(edited(plain, symbolic))
    assert source.shape == (1, 2, 16, 16) and source.maps["box"] == (1, 8, 16, 16)


def rename_box(model: onnx.ModelProto) -> None:
    box = model.graph.node[1]
    model.graph.output[0].name = box.output[0] = "heat"
    box.name = "/heat/Conv"
    for constant in model.graph.initializer:
        constant.name = constant.name.replace("box_out", "heat")
    box.input[1:] = [name.replace("box_out", "heat") for name in box.input[1:]]


def drop_scores(model: onnx.ModelProto) -> None:
    del model.graph.output[1]


def symbolic_height(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "H"


def batch_of_four(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


def second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, 1, 16, 16]))
    model.graph.node.append(helper.make_node("Identity", ["mask"], ["obj"]))
    model.graph.output.append(helper.make_tensor_value_info("obj", TensorProto.FLOAT, [1, 1, 16, 16]))


def stray_concat(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Add", ["box", "input"], ["obj"], name="/bad"))
    model.graph.output.append(helper.make_tensor_value_info("obj", TensorProto.FLOAT, [1, 8, 16, 16]))


def dangling(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "nowhere"


def odd_anchors(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((2, 3), np.float32), "anchors"))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (rename_box, r"no box map among its outputs \(heat, cls\)"),
        (drop_scores, "no score map"),
        (symbolic_height, "no fixed shape"),
        (batch_of_four, "batch of 4"),
        (second_input, "2 inputs"),
        (stray_concat, "shapes do not fit together"),
        (dangling, "not a sound ONNX model"),
        (odd_anchors, "anchors is not a list of"),
    ],
)
def test_models_that_cannot_be_quantized_are_one_line(
    plain: Path, edit: Callable[[onnx.ModelProto], object], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        read_source(edited(plain, edit))
    assert "\n" not in str(caught.value) and str(plain) in str(caught.value)


def test_a_model_that_does_not_run_is_one_line(plain: Path) -> None:
    def five_channels(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 5

    with pytest.raises(ModelError, match="the float model does not run") as caught:
        run_float(read_source(edited(plain, five_channels)), np.zeros((5, 16, 16), np.float32))
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_finite_are_named(plain: Path) -> None:
    def poison(model: onnx.ModelProto) -> None:
        bias = next(c for c in model.graph.initializer if c.name == "/cls_out/Conv.bias")
        bias.CopyFrom(numpy_helper.from_array(np.full(2, np.nan, np.float32), bias.name))

    maps = run_float(read_source(plain), np.zeros((2, 16, 16), np.float32))
    assert {name: values.shape for name, values in maps.items()} == {"box": (1, 8, 16, 16), "cls": (1, 2, 16, 16)}
    with pytest.raises(ModelError, match="cls map holds values that are not finite"):
        run_float(read_source(edited(plain, poison)), np.zeros((2, 16, 16), np.float32))


def test_damaged_files_are_named(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot read"):
        read_source(tmp_path / "missing.onnx")
    data = plain.read_bytes()
    for broken in (b"", b"not onnx at all", data[: len(data) // 2], data[:40], b"\x00" * 100):
        plain.write_bytes(broken)
        with pytest.raises(ModelError, match=r"damaged, truncated, or not|not a sound"):
            read_source(plain)


def test_published_files_are_read_by_their_properties() -> None:
    manifest = manifest_of(read_source(shared_dir("fixtures", "golden", "w16_yuv422", "nopost_noconcat.onnx")))
    assert manifest.resize_mode == "opencv_inter_nearest_yuv422"
    assert manifest.score_mode == "quality_cls"  # the file leaves it empty, and kept quality and cls
    assert manifest.stride == 8 and manifest.class_names == ["person"]


def test_a_file_that_says_nothing_needs_a_resize_mode(plain: Path) -> None:
    source = read_source(plain)
    with pytest.raises(ModelError, match="neither a manifest nor a resize mode"):
        manifest_of(source)
    assert manifest_of(source, "torch_bilinear").resize_mode == "torch_bilinear"
    with pytest.raises(ConfigError, match="unknown resize mode 'bicubic'"):
        manifest_of(source, "bicubic")


def test_a_resize_mode_that_contradicts_the_file_is_refused() -> None:
    source = read_source(detector_onnx()[0])
    assert manifest_of(source, "opencv_inter_nearest_yuv422") == detector_onnx()[1]
    with pytest.raises(ModelError, match="made for resize mode opencv_inter_nearest_yuv422"):
        manifest_of(source, "torch_bilinear")


def test_anchors_of_the_file_fill_an_empty_manifest() -> None:
    path, manifest = detector_onnx()
    bare = manifest.model_copy(update={"anchors": [], "wh_scale": []})
    filled = agreed_manifest(read_source(path), bare)
    np.testing.assert_allclose(filled.anchors, ANCHORS, rtol=1e-6)
    assert len(filled.wh_scale) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_channels": 3}, "3 input channels, the file has 2"),
        ({"input_height": 32}, "32 input height, the file has 16"),
        ({"input_width": 32}, "32 input width"),
        ({"anchors": [(0.1, 0.2)] * 3}, "3 anchors, the box map has 2"),
        ({"class_names": ["a", "b"]}, "2 classes, the cls map has 2 channels"),
        ({"score_mode": "obj_cls"}, "needs the map obj"),
    ],
)
def test_a_manifest_of_another_model_is_refused(plain: Path, changes: dict[str, object], message: str) -> None:
    manifest = ModelManifest.model_validate({**manifest_for().model_dump(), **changes})
    with pytest.raises(ModelError, match=message):
        agreed_manifest(read_source(plain), manifest)
    agreed_manifest(read_source(plain), manifest_for())


def test_other_anchors_than_the_file_carries_are_refused() -> None:
    path, manifest = detector_onnx()
    other = manifest.model_copy(update={"anchors": [(0.1, 0.2), (0.4, 0.71)]})
    with pytest.raises(ModelError, match="says other anchors"):
        agreed_manifest(read_source(path), other)
