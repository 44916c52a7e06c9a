"""Files that resize by themselves: the eight resize modes, against the resizing of training."""

from __future__ import annotations

from typing import get_args

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from support.golden import with_recipe_weights
from uhd.export.dynamic import insert_resize, resized
from uhd.export.metadata import channel_names, input_name
from uhd.export.onnx_export import ExportOptions, build
from uhd.export.verify import run_onnx
from uhd.image.resize import INTEGER_MODES, input_channels, resize_image
from uhd.manifest import ModelManifest, ResizeMode
from uhd.models import UltraTinyODConfig
from uhd.models.ultratinyod import UltraTinyOD

MODES: tuple[ResizeMode, ...] = get_args(ResizeMode)


def resizer(mode: ResizeMode, size: tuple[int, int]) -> onnx.ModelProto:
    """A file that does nothing but resize."""
    name, channels = input_name(mode), input_channels(mode)
    shape = [1, channels, *size]
    graph = helper.make_graph(
        [helper.make_node("Relu", [name], ["y"], "last")],
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    insert_resize(model, mode)
    onnx.checker.check_model(model)
    return model


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("source", [(97, 131), (64, 160), (40, 24)])
def test_all_modes_resize_as_training_does(mode: ResizeMode, source: tuple[int, int]) -> None:
    size = (64, 64)
    rgb = np.random.default_rng(1).integers(0, 256, (*source, 3), np.uint8)
    want = resize_image(rgb, size, mode)
    if input_channels(mode) == 3:
        planes = rgb.astype(np.float32) / np.float32(255)
    else:  # the caller hands over planes of the picture's size
        if rgb.shape[1] % 2:
            rgb = rgb[:, :-1]
        planes = resize_image(rgb, rgb.shape[:2], mode)
        want = resize_image(rgb, size, mode)
    got = run_onnx(resizer(mode, size), planes.transpose(2, 0, 1)[None].copy())[0][0].transpose(1, 2, 0)
    if mode.endswith("yuv422"):  # the chroma of a picked pixel may be that of its neighbour: only luma is exact
        got, want = got[..., :1], want[..., :1]
    np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_names_of_the_input(mode: ResizeMode) -> None:
    names = {1: "input_y", 2: "input_yuv422", 3: "input_rgb"}
    assert input_name(mode) == names[input_channels(mode)]
    assert len(channel_names(mode)) == input_channels(mode)


@pytest.mark.parametrize("mode", MODES)
def test_what_verification_expects(mode: ResizeMode) -> None:
    """``resized`` against the graph and, where it is one picture of RGB, against the resizing of training."""
    images = np.random.default_rng(2).random((1, input_channels(mode), 48, 64), np.float32)
    want = resized(images, mode, (24, 32))
    np.testing.assert_allclose(run_onnx(resizer(mode, (24, 32)), images)[0], want, atol=1e-5)
    if mode in INTEGER_MODES:
        np.testing.assert_array_equal(want, images[:, :, ::2, ::2])


def test_a_whole_model_takes_any_size() -> None:
    config = UltraTinyODConfig(width=2, in_channels=1)
    manifest = ModelManifest(name="y", resize_mode="opencv_inter_nearest_y", input_height=32, input_width=40)
    model = with_recipe_weights(UltraTinyOD(config))
    fixed = build(model, manifest, "fast", ExportOptions(batch=2), verify=False)
    free = build(model, manifest, "fast", ExportOptions(batch=2, dynamic_resize=True))
    assert free.difference is not None
    dims = free.onnx.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == [2, 1, "H", "W"]
    assert free.record.model_copy(update={"dynamic_resize": False}) == fixed.record
    images = np.random.default_rng(2).random((2, 1, 96, 80), np.float32)
    for one, other in zip(
        run_onnx(free.onnx, images), run_onnx(fixed.onnx, images[:, :, ::3, ::2].copy()), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-5)
