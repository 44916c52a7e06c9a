"""Files of every flavour are cut at their maps, which then hold what the network computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from support.flavours import exported, small_network, whole_model
from support.quantize_nets import Plan, manifest_for, pictures
from support.shared import shared_dir
from uhd.detect.decode import split_raw
from uhd.errors import ConfigError, ModelError
from uhd.quantize.depthwise import int16_patterns
from uhd.quantize.maps import cut_at_maps
from uhd.quantize.patterns import Operator, select
from uhd.quantize.source import Source, agreed_manifest, manifest_of, read_source, run_float

PUBLISHED = [
    (case, name)
    for case in ("w16_rgb", "w16_yuv422")
    for name in ("static", "static_nopost", "nopost_noconcat", "dynamic", "primitive")
    if (case, name) != ("w16_yuv422", "primitive")
]


def operators(source: Source) -> list[Operator]:
    return [Operator(node.name, node.op_type) for node in onnx.load_from_string(source.onnx).graph.node]


def network_maps(picture: NDArray[np.float32], quant_arch: int = 0) -> dict[str, NDArray[np.float32]]:
    import torch

    network, _ = small_network(quant_arch)
    with torch.no_grad():
        maps = network.head.maps(network.backbone(torch.from_numpy(picture[None])))
    return {name: values.numpy() for name, values in maps.items()}


def assert_maps_equal(source: Source, wanted: dict[str, NDArray[np.float32]], picture: NDArray[np.float32]) -> None:
    for name, values in run_float(source, picture).items():
        np.testing.assert_allclose(values, wanted[name], atol=1e-5, err_msg=name)


@pytest.mark.parametrize(("case", "name"), PUBLISHED)
def test_published_files(case: str, name: str) -> None:
    """Whatever its flavour, a file's maps are those of the recorded raw map, and its constants those of the case."""
    folder = shared_dir("fixtures", "golden", case)
    raw, picture = np.load(folder / "raw.npy")[:1], np.load(folder / "input.npy")[0]
    source = read_source(folder / f"{name}.onnx")
    assert set(source.maps) == {"box", "quality", "cls"} and source.shape == (1, *picture.shape)
    assert_maps_equal(source, split_raw(raw, 8, 1, True), picture)
    manifest = agreed_manifest(source, manifest_of(source))
    assert (manifest.score_mode, manifest.stride, len(manifest.anchors)) == ("quality_cls", 8, 8)
    arrays = np.load(folder / "nopost_noconcat_ort.npz")
    np.testing.assert_allclose(
        np.array(manifest.anchors) * np.array(manifest.wh_scale), arrays["anchors"] * arrays["wh_scale"], rtol=1e-6
    )


def test_published_parts_equal_the_recorded_outputs() -> None:
    folder = shared_dir("fixtures", "golden", "w16_rgb")
    recorded = np.load(folder / "nopost_noconcat_ort.npz")
    assert_maps_equal(read_source(folder / "static.onnx"), dict(recorded), np.load(folder / "input.npy")[0])


@pytest.mark.parametrize("flavour", ["parts", "raw", "post"])
def test_our_own_flavours(flavour: str) -> None:
    picture = pictures(1)[0]
    source = read_source(exported(flavour))
    assert_maps_equal(source, network_maps(picture), picture)
    assert agreed_manifest(source, manifest_of(source)) == manifest_of(source)
    if flavour == "post":
        other = manifest_of(source).model_copy(update={"anchors": [(0.3, 0.3), (0.5, 0.5)]})
        with pytest.raises(ModelError, match="says other anchors"):
            agreed_manifest(source, other)


def test_a_graph_of_the_whole_model() -> None:
    """It has an objectness that its score does not use: left out, unless the caller's score mode needs it."""
    picture = pictures(1)[0]
    source = read_source(whole_model())
    assert list(source.maps) == ["box", "quality", "cls"]
    assert source.notes == ("obj: no part of the score (quality_cls), so its branch is left out",)
    assert_maps_equal(source, network_maps(picture), picture)
    assert source.anchors is not None and manifest_of(source).score_mode == "quality_cls"
    assert not any("obj_conv" in operator.name for operator in operators(source))
    full = read_source(whole_model(), "obj_quality_cls")
    assert list(full.maps) == ["box", "obj", "quality", "cls"] and not full.notes
    assert_maps_equal(full, network_maps(picture), picture)


def test_patterns_for_a_branch_that_is_left_out() -> None:
    names = operators(read_source(whole_model()))
    box, obj = "/model/head/box_tower/box_tower.1/dw/conv/Conv", "/model/head/obj_conv/dw/conv/Conv"
    chosen = select(names, [box, obj])
    assert len(chosen.int16) == 1 and chosen.notes == (
        f"{obj}: the graph has no obj branch, which its score does not use",
    )
    with pytest.raises(ConfigError, match="the graph has no such branch"):
        select(names, [obj])
    with pytest.raises(ConfigError, match="matches none"):
        select(names, [box, "/model/head/cls_conv/dw/conv/Conv"])  # it has a branch of classes, but not that block
    for pattern in int16_patterns(whole_model()):
        assert select(names, [pattern]).int16


def test_boxes_in_two_halves_become_one_convolution() -> None:
    picture = pictures(1)[0]
    for flavour in ("parts", "raw", "post"):
        source = read_source(exported(flavour, 3))
        assert_maps_equal(source, network_maps(picture, 3), picture)
        names = [operator.name for operator in operators(source)]
        assert "/box_out/Conv" in names and not any("Reshape" in n or "_xy" in n for n in names)


def test_a_map_behind_anything(tmp_path: Path) -> None:
    """Without fixtures or exporter: two maps, one bent, joined and clipped; the input may take any size."""
    plan = Plan()
    plan.conv("/box_out/Conv", "small", 2, 8, output="b")
    plan.conv("/cls_out/Conv", "small", 2, 2, output="c")
    joined = plan.node("Concat", "/Concat", plan.node("Sigmoid", "/Sigmoid", "b"), "c", axis=1)
    plan.node("Relu", "/Relu", joined, output="rows")
    resize = helper.make_node("Resize", ["input", "", "", "sizes"], ["small"], "Resize", mode="nearest",
                              coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
    sizes = numpy_helper.from_array(np.array([1, 2, 16, 16], np.int64), "sizes")
    given = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 2, "H", "W"])]
    rows = [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [1, 10, 16, 16])]
    graph = helper.make_graph([resize, *plan.nodes], "g", given, rows, [*plan.constants, sizes])
    path = tmp_path / "any.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    source = read_source(path)
    assert source.shape == (1, 2, 16, 16) and source.maps == {"box": (1, 8, 16, 16), "cls": (1, 2, 16, 16)}
    assert source.notes == ("Resize: left out, pictures are resized before they are packed",)
    agreed_manifest(source, manifest_for())
    assert [operator.type for operator in operators(source)] == ["Conv", "Conv"]


def test_other_graphs_stay_as_they_are() -> None:
    """No convolution with a head's name, a box without a score, halves without a bias."""
    plan = Plan()
    plan.conv("/heat/Conv", "input", 2, 8, output="rows")
    rows = [helper.make_tensor_value_info("rows", TensorProto.FLOAT, None)]
    given = [helper.make_tensor_value_info("input", TensorProto.FLOAT, plan.shape)]
    for name in ("/heat/Conv", "/box_out/Conv"):
        plan.nodes[0].name = name
        model = helper.make_model(helper.make_graph(plan.nodes, "g", given, rows, plan.constants))
        before = model.SerializeToString()
        assert cut_at_maps(model) is None and model.SerializeToString() == before
    half = Plan()
    parts = [half.node("Conv", f"/box_out_{k}/Conv", "input", half.constant("w", np.ones((4, 2, 1, 1)))) for k in
             ("xy", "wh")]  # fmt: skip
    half.node("Concat", "/Concat", *parts, half.conv("/cls_out/Conv", "input", 2, 2), axis=1, output="rows")
    model = helper.make_model(helper.make_graph(half.nodes, "g", given, rows, half.constants))
    with pytest.raises(ModelError, match="/box_out_xy/Conv: half of the boxes"):
        cut_at_maps(model)
