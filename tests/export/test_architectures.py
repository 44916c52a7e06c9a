"""Files of the cnn and transformer architectures, against golden outputs and against the decoder of training."""

from __future__ import annotations

import numpy as np
import pytest

from support.architectures import other_names, other_options, small, with_recipe
from support.golden import golden_array, golden_index
from uhd.detect.heads import decode_head
from uhd.detect.nms import top_k_rows
from uhd.errors import ModelError
from uhd.export.onnx_export import ExportOptions, build
from uhd.export.verify import row_difference, run_onnx
from uhd.manifest import ModelManifest, ResizeMode
from uhd.models import build_model

MODES: dict[int, ResizeMode] = {
    1: "opencv_inter_nearest_y",
    2: "opencv_inter_nearest_yuv422",
    3: "opencv_inter_nearest",
}


def manifest_for(channels: int, height: int, width: int) -> ModelManifest:
    return ModelManifest(name="m", resize_mode=MODES[channels], input_height=height, input_width=width)


@pytest.mark.parametrize("name", other_names())
def test_golden_outputs(name: str) -> None:
    golden_index()  # skips where there are none
    image = golden_array(name, "input.npy")
    recorded = golden_array(name, "outputs.npz")
    model = with_recipe(build_model(name.partition("_")[0], other_options(name)))
    batch, channels, height, width = image.shape
    built = build(model, manifest_for(channels, height, width), "parts", ExportOptions(batch=batch))
    assert built.difference is not None
    got = dict(zip([port.name for port in built.record.outputs], run_onnx(built.onnx, image), strict=True))
    if "box" in got:
        a = len(got["anchors"])
        parts = [got[key].reshape(batch, a, -1, *got[key].shape[2:]) for key in built.record.fields]
        got = {"raw": np.concatenate(parts, 2).reshape(batch, -1, *got["box"].shape[2:])}
    for key, want in recorded.items():
        if name == "transformer":  # recorded with the queries first
            want = want.swapaxes(0, 1)
        np.testing.assert_allclose(got[key], want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["cnn", "anchor", "detr"])
def test_rows_are_those_of_the_training_decoder(name: str) -> None:
    model = small(name)
    config = model.config
    image = np.random.default_rng(0).random((1, config.in_channels, 32, 48), np.float32)
    built, parts = (
        build(model, manifest_for(config.in_channels, 32, 48), flavour, ExportOptions(top_k=7), verify=False)
        for flavour in ("fast", "parts")
    )
    maps = dict(zip([port.name for port in parts.record.outputs], run_onnx(parts.onnx, image), strict=True))
    scores, boxes = decode_head(
        config.head,
        {key: maps[key] for key in config.map_names if key in maps},
        anchors=maps.get("anchors", ()),
        wh_scale=maps.get("wh_scale", ()),
        score_mode=config.resolved_score_mode,
    )
    want = top_k_rows(scores, boxes, k=7)
    assert row_difference(want[0], run_onnx(built.onnx, image)[0][0]) <= 1e-5


def test_transformers_need_a_later_opset() -> None:
    with pytest.raises(ModelError, match="a transformer needs opset 14 or later, not 13"):
        build(small("detr"), manifest_for(3, 32, 32), "parts", ExportOptions(opset=13))
    built = build(small("detr"), manifest_for(3, 32, 32), "parts", ExportOptions(opset=20), verify=False)
    assert built.record.head == "detr"
    props = {prop.key: prop.value for prop in built.onnx.metadata_props}
    assert props["decode_score"].startswith("score = softmax(logits)")
