"""Exported files against the golden files, graphs and outputs of the published exporter."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import pytest

from support.golden import golden_array, golden_config, golden_file, golden_model, golden_names
from uhd.export.onnx_export import Built, ExportOptions, build
from uhd.export.verify import row_difference, run_onnx
from uhd.manifest import ModelManifest
from uhd.models.checkpoint import load_checkpoint

NAMES = golden_names()
PUBLISHED = [name for name in ("w16_rgb", "w16_yuv422") if name in NAMES]

#: Golden file -> flavour and options of ours, and its recorded outputs and input.
FILES: dict[str, tuple[str, ExportOptions]] = {
    "static": ("post", ExportOptions()),
    "dynamic": ("post", ExportOptions(dynamic_resize=True, allow_mismatch=True)),
    "nopost_noconcat": ("parts", ExportOptions()),
    "static_nopost": ("raw", ExportOptions()),
    "primitive": ("primitive", ExportOptions()),
}
CASES = [(name, file) for name in PUBLISHED for file in FILES if file != "primitive" or name == "w16_rgb"]
CASES = CASES or [("fixtures-absent", "static")]

#: Published keys whose text differs. The published score_mode is empty and the formula that of another mode (both are
#: wrong for this head), the box formula speaks of one wh_scale for both sides.
OTHER_TEXT = {"score_mode", "decode_score", "decode_bbox"}


@cache
def built(name: str, file: str) -> Built:
    model, manifest = load_checkpoint(golden_file(name, "checkpoint.pt"))
    flavour, options = FILES[file]
    return build(model, manifest, flavour, options)


@pytest.mark.parametrize(("name", "file"), CASES)
def test_outputs_equal_the_recorded_ones(name: str, file: str) -> None:
    image = golden_array(name, "dynamic_input.npy" if file == "dynamic" else "input.npy")[:1]
    recorded = golden_array(name, f"{file}_ort.npz")
    ours = built(name, file).onnx
    names = [output.name for output in ours.graph.output]
    assert set(names) == set(recorded)
    for output, got in zip(names, run_onnx(ours, image), strict=True):
        want = recorded[output]
        if output == "score_classid_cxcywh":
            assert row_difference(want[0], got[0]) <= 1e-5
            continue
        if output.startswith("txtywh"):  # the published channels are [anchor][row][column][field]
            _, channels, height, width = want.shape
            scrambled = want.reshape(8, height, width, channels // 8)
            want = scrambled.transpose(0, 3, 1, 2).reshape(want.shape)
        np.testing.assert_allclose(got, want, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "file"), CASES)
def test_graph_and_metadata_are_those_of_the_golden_file(name: str, file: str) -> None:
    ours, golden = built(name, file).onnx, onnx.load(golden_file(name, f"{file}.onnx"))
    left_out = {"Constant"} | ({"Transpose"} if file == "static_nopost" else set())
    found = [(node.op_type, node.name) for node in ours.graph.node]
    wanted = [(node.op_type, node.name) for node in golden.graph.node if node.op_type not in left_out]
    assert sorted(found) == sorted(wanted)
    for mine, theirs in ((ours.graph.input, golden.graph.input), (ours.graph.output, golden.graph.output)):
        assert [(v.name, v.type.tensor_type.shape) for v in mine] == [
            (v.name, v.type.tensor_type.shape) for v in theirs
        ]
    props = {prop.key: prop.value for prop in ours.metadata_props}
    published = {p.key: p.value for p in golden.metadata_props if not p.key.startswith("onnxsim")}
    assert published.keys() <= props.keys()
    different = {key for key, value in published.items() if props[key] != value}
    assert different <= OTHER_TEXT
    if file == "dynamic":
        mine, theirs = ours.graph.node[0], next(n for n in golden.graph.node if n.name == "InputResize")
        assert (mine.name, list(mine.input), list(mine.output)) == (
            theirs.name,
            list(theirs.input),
            list(theirs.output),
        )
        assert list(mine.attribute) == list(theirs.attribute)


@pytest.mark.parametrize("name", NAMES)
def test_raw_map_of_every_case(name: str) -> None:
    image, want = golden_array(name, "input.npy"), golden_array(name, "raw.npy")
    batch, channels, height, width = image.shape
    config = golden_config(name)
    mode = "opencv_inter_nearest" + ("_yuv422" if channels == 2 else "")
    manifest = ModelManifest.model_validate(
        {"name": name, "resize_mode": mode, "input_height": height, "input_width": width}
    )
    file = build(golden_model(name), manifest, "whole", ExportOptions(batch=batch), verify=False).onnx
    raw, anchors, wh_scale = run_onnx(file, image)
    if config.rounds_activations:  # a rounding difference may come out as a whole step of a 4-bit activation
        assert np.mean(np.abs(raw - want) > 1e-5) < 0.02
    else:
        np.testing.assert_allclose(raw, want, atol=1e-5, rtol=0)
    np.testing.assert_array_equal(anchors, np.float32(config.anchors))
    assert wh_scale.shape == anchors.shape


OTHERS = (
    [("opt_minimal", "fast"), ("opt_nc3", "post"), ("opt_nonsquare", "fast")] if PUBLISHED else [(NAMES[0], "post")]
)


@pytest.mark.parametrize(("name", "flavour"), OTHERS)
def test_rows_of_other_cases(name: str, flavour: str) -> None:
    image, want = golden_array(name, "input.npy"), golden_array(name, "decoded.npy")
    height, width = image.shape[2:]
    manifest = ModelManifest(name=name, resize_mode="opencv_inter_nearest", input_height=height, input_width=width)
    file = build(golden_model(name), manifest, flavour, verify=False).onnx
    assert row_difference(want[0], run_onnx(file, image[:1])[0][0]) <= 1e-5


def test_the_w64_checkpoint() -> None:
    """Its files were too large to record; its rows were not."""
    model, manifest = load_checkpoint(golden_file("w64_se_iou_swish", "checkpoint.pt"))
    image, want = (golden_array("w64_se_iou_swish", file) for file in ("input.npy", "decoded.npy"))
    rows = run_onnx(build(model, manifest, "post", ExportOptions(batch=2)).onnx, image)[0]
    assert max(row_difference(one, other) for one, other in zip(want, rows, strict=True)) <= 1e-5
