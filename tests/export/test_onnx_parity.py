"""What exported files compute, in ONNX Runtime, against torch and against the golden outputs."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from support.golden import golden_array, golden_model, golden_names, with_recipe_weights
from uhd.export.onnx_export import ExportOptions, build, build_onnx
from uhd.export.postprocess import Post
from uhd.export.verify import row_difference, run_onnx
from uhd.manifest import ModelManifest
from uhd.models import UltraTinyODConfig
from uhd.models.ultratinyod import UltraTinyOD

torch.set_num_threads(1)
NAMES = golden_names()


def manifest_for(config: UltraTinyODConfig, height: int = 64, width: int = 64) -> ModelManifest:
    mode = {1: "opencv_inter_nearest_y", 2: "opencv_inter_nearest_yuv422", 3: "opencv_inter_nearest"}[
        config.in_channels
    ]
    return ModelManifest(name="test", resize_mode=mode, input_height=height, input_width=width)


@pytest.mark.parametrize("name", NAMES)
def test_detection_rows_of_every_case(name: str) -> None:
    """The traced module itself, for all options."""
    model, image, want = golden_model(name), golden_array(name, "input.npy"), golden_array(name, "decoded.npy")
    with torch.no_grad():
        got = Post(model, 100)(torch.from_numpy(image)).numpy()
    assert got.shape == want.shape
    for one, other in zip(got, want, strict=True):
        assert row_difference(other, one) <= 1e-5


OPTIONS: list[dict[str, Any]] = [
    {},
    {"improved_head": True, "sppf_scale": "bn"},
    {"iou_aware_head": True, "disable_cls": True, "quality_power": 0.5},
    {"improved_head": True, "iou_aware_head": True, "quant_arch": 7, "num_classes": 2},
    {"large_obj_branch": True, "quant_arch": 5, "score_mode": "cls", "num_classes": 2, "context_rfb": True},
    {"conv": "std", "batchnorm": False, "out_stride": 16, "attr_classes": 2, "in_channels": 1},
]


@pytest.mark.parametrize(
    ("options", "flavour"), list(zip(OPTIONS, cycle(("parts", "raw", "fast")), strict=False)), ids=str
)
def test_file_equals_model(options: dict[str, Any], flavour: str) -> None:
    config = UltraTinyODConfig(width=4, residual=True, **options)
    built = build(with_recipe_weights(UltraTinyOD(config)), manifest_for(config, 48, 80), flavour)
    assert built.difference is not None
    assert built.difference <= 1e-5
    assert not any(node.op_type == "BatchNormalization" for node in built.onnx.graph.node)


def test_raw_map_keeps_the_channels_of_an_anchor_together() -> None:
    config = UltraTinyODConfig(width=4, iou_aware_head=True, num_classes=2)
    model = with_recipe_weights(UltraTinyOD(config)).eval()
    image = np.random.default_rng(1).random((1, 3, 64, 64), np.float32)
    raw, anchors, wh_scale = run_onnx(build_onnx(model, manifest_for(config), "raw"), image)
    with torch.no_grad():
        maps = {key: value.numpy() for key, value in model.maps(torch.from_numpy(image)).items()}
    blocks = raw.reshape(3, 4 + 1 + 2, 8, 8)
    for a, block in enumerate(blocks):
        np.testing.assert_allclose(block[:4], maps["box"][0, 4 * a : 4 * a + 4], atol=1e-5)
        np.testing.assert_allclose(block[4], maps["quality"][0, a], atol=1e-5)
        np.testing.assert_allclose(block[5:], maps["cls"][0, 2 * a : 2 * a + 2], atol=1e-5)
    np.testing.assert_array_equal(anchors, model.anchors.numpy())
    np.testing.assert_array_equal(wh_scale, model.wh_scale.detach().numpy())


def test_rows_are_the_best_cells() -> None:
    """Rows against a slow, separate decoding of the maps."""
    config = UltraTinyODConfig(width=4, improved_head=True, num_classes=3, quality_power=2.0)
    model = with_recipe_weights(UltraTinyOD(config)).eval()
    image = np.random.default_rng(1).random((1, 3, 32, 64), np.float32)
    rows = run_onnx(build_onnx(model, manifest_for(config, 32, 64), "post", ExportOptions(top_k=1000)), image)[0][0]
    with torch.no_grad():
        maps = {key: value[0].double().numpy() for key, value in model.maps(torch.from_numpy(image)).items()}
    want = []
    for a, (aw, ah) in enumerate((model.anchors * model.wh_scale).tolist()):
        for y in range(4):
            for x in range(8):
                tx, ty, tw, th = maps["box"][4 * a : 4 * a + 4, y, x]
                scores = [
                    _sigmoid(maps["obj"][a, y, x]) * _sigmoid(maps["quality"][a, y, x]) ** 2 * _sigmoid(logit)
                    for logit in maps["cls"][3 * a : 3 * a + 3, y, x]
                ]
                box = (
                    (_sigmoid(tx) + x) / 8,
                    (_sigmoid(ty) + y) / 4,
                    aw * np.logaddexp(0, tw),
                    ah * np.logaddexp(0, th),
                )
                want.append((max(scores), float(np.argmax(scores)), *box))
    want.sort(key=lambda row: -row[0])
    assert len(rows) == len(want) == 3 * 4 * 8
    assert row_difference(np.array(want, np.float32), rows) <= 1e-5


def _sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


def test_a_fresh_model_keeps_all_its_parameters() -> None:
    """Its biases are all zero; each convolution still has one of its own."""
    config = UltraTinyODConfig(width=2, residual=True)
    file = build_onnx(UltraTinyOD(config), manifest_for(config), "parts", verify=False)
    tensors = {tensor.name for tensor in file.graph.initializer}
    constants = [name for node in file.graph.node for name in node.input if name in tensors]
    assert len(constants) == len(set(constants))
    assert all(len(node.input) == 3 for node in file.graph.node if node.op_type == "Conv")


def test_graph_outputs_that_are_constants() -> None:
    config = UltraTinyODConfig(width=4)
    file = build_onnx(with_recipe_weights(UltraTinyOD(config)), manifest_for(config), "parts", verify=False)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in file.graph.initializer}
    np.testing.assert_array_equal(constants["anchors"], np.float32(config.anchors))
    assert constants["wh_scale"].shape == (3, 2)
