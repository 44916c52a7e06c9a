"""Node names of exported files: the published lists, and the names derived from the module tree."""

from __future__ import annotations

import json
import math
from functools import cache
from typing import Any

import pytest
import torch

from support.golden import with_recipe_weights
from support.shared import shared_dir
from uhd.export.names import conv_nodes
from uhd.export.onnx_export import build_onnx
from uhd.export.wrappers import Parts
from uhd.manifest import ModelManifest, ResizeMode
from uhd.models import FAMILIES, UltraTinyODConfig, family_config
from uhd.models.ultratinyod import UltraTinyOD

EXPORTS = {"parts": "static_nopost_nocat", "raw": "static_nopost", "post": "static"}
MODES: dict[int, ResizeMode] = {
    1: "opencv_inter_nearest_y",
    2: "opencv_inter_nearest_yuv422",
    3: "opencv_inter_nearest",
}

#: One family of each kind of graph; the others differ from these in sizes only.
DISTINCT = ["legacy_ese_swish", "legacy_ese_iou_swish", "current_yuv422", "readme_train_lo", "readme_train_nolo"]


@cache
def published() -> dict[str, Any]:
    return json.loads(shared_dir("spec", "variants.json").read_text())["families"]


def built(family: str, flavour: Any, width: int = 16) -> Any:
    config = family_config(family, width)
    manifest = ModelManifest(name=family, resize_mode=MODES[config.in_channels])
    return build_onnx(with_recipe_weights(UltraTinyOD(config)), manifest, flavour, verify=False)


def check(family: str, flavour: str) -> None:
    rows, model = published()[family], built(family, flavour)
    export = EXPORTS[flavour]
    found = [(node.op_type, node.name) for node in model.graph.node]
    assert [name for op, name in found if op == "Conv"] == rows["conv_nodes"][export]
    # Constants are initializers here. The joined map needs no Transpose: see docs/decisions/0002.
    ours_to_leave_out = {"Constant"} | ({"Transpose"} if flavour == "raw" else set())
    assert sorted(found) == sorted((op, name) for op, name in rows["all_nodes"][export] if op not in ours_to_leave_out)
    io = rows["io"][export]
    for kind, values in (("input", model.graph.input), ("output", model.graph.output)):
        shapes = [[value.name, [dim.dim_value for dim in value.type.tensor_type.shape.dim]] for value in values]
        assert shapes == io[kind]
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [17]
    if flavour == "parts":
        elements = sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
        assert elements == rows["per_width"]["16"]["export"][export]["initializer_elements"]


@pytest.mark.parametrize("family", FAMILIES)
def test_parts(family: str) -> None:
    check(family, "parts")


@pytest.mark.parametrize("flavour", ["raw", "post"])
@pytest.mark.parametrize("family", DISTINCT)
def test_raw_and_post(family: str, flavour: str) -> None:
    check(family, flavour)


def test_int16_patterns_find_their_operators() -> None:
    """Names that published precision presets address."""
    names = {node.name for node in built("current_yuv422", "parts", 4).graph.node}
    for name in (
        "/backbone/stem/conv/Conv",
        "/depthwiseconv/context_res/context_res.2/dw/conv/Conv",
        "/large_obj_down/large_obj_down.3/conv/Conv",
        "/depthwiseconv/large_obj_down/large_obj_down.0/Conv",
        "/box_tower/box_tower.1/pw/conv/Conv",
        "/box_out/Conv",
        "/quality_out/Conv",
        "/cls_out/Conv",
    ):
        assert name in names


def test_derived_names_follow_the_calls() -> None:
    config = UltraTinyODConfig(width=2, improved_head=True, iou_aware_head=True, quant_arch=1, context_rfb=True)
    wrapper = Parts(UltraTinyOD(config).eval())
    x = torch.zeros(1, 3, 32, 32)
    names = conv_nodes(wrapper, x)
    assert names[:2] == ["/backbone/stem/conv/Conv", "/backbone/block1/dw/conv/Conv"]
    assert "/context_res/context_res.1/conv/Conv" in names
    assert "/head_rfb/branch_wide/branch_wide.0/Conv" in names
    assert "/box_tower.0/dw/conv/Conv" in names, "this rewiring calls the tower's blocks one by one"
    assert "/quality_tower/quality_tower.1/pw/conv/Conv" in names
    assert not any("obj_conv" in name for name in names), "objectness is not needed for quality_cls"
    assert names == conv_nodes(wrapper, x), "hooks are gone after the call"
