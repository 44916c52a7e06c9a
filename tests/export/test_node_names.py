"""Node names of exported files: the published lists, and the names derived from the module tree."""

from __future__ import annotations

import json
import math
import re
from functools import cache
from typing import Any

import onnx
import pytest
import torch

from support.golden import with_recipe_weights
from support.shared import shared_dir
from uhd.export.names import conv_nodes
from uhd.export.onnx_export import ExportOptions, build_onnx
from uhd.export.wrappers import Parts
from uhd.manifest import ModelManifest, ResizeMode
from uhd.models import FAMILIES, UltraTinyODConfig, family_config
from uhd.models.ultratinyod import UltraTinyOD

EXPORTS = {
    "parts": "static_nopost_nocat",
    "raw": "static_nopost",
    "whole": "full_raw_wrapper",
    "primitive": "static_primitive",
    "post": "static",
    "dynamic": "dynamic",
    "dynamic raw": "dynamic_nopost",
}
MODES: dict[int, ResizeMode] = {
    1: "opencv_inter_nearest_y",
    2: "opencv_inter_nearest_yuv422",
    3: "opencv_inter_nearest",
}

#: One family of each kind of graph; the others differ from these in sizes only.
DISTINCT = ["legacy_ese_swish", "legacy_ese_iou_swish", "current_yuv422", "readme_train_lo", "readme_train_nolo"]

#: Nodes of published files that ours do without. Constants are initializers here. The joined map needs no Transpose:
#: see docs/decisions/0002.
LEFT_OUT = {"raw": {"Constant", "Transpose"}, "dynamic raw": {"Constant", "Transpose"}}


@cache
def published() -> dict[str, Any]:
    return json.loads(shared_dir("spec", "variants.json").read_text())["families"]


def built(family: str, export: str, width: int = 16) -> onnx.ModelProto:
    config = family_config(family, width)
    manifest = ModelManifest(name=family, resize_mode=MODES[config.in_channels])
    dynamic, _, flavour = export.partition(" ") if export.startswith("dynamic") else ("", "", export)
    options = ExportOptions(dynamic_resize=bool(dynamic))
    model = with_recipe_weights(UltraTinyOD(config))
    return build_onnx(model, manifest, flavour or "post", options, verify=False)


def check(family: str, export: str) -> None:
    rows, model = published()[family], built(family, export)
    published_name = EXPORTS[export]
    found = [(node.op_type, node.name) for node in model.graph.node]
    assert [name for op, name in found if op == "Conv"] == rows["conv_nodes"][published_name]
    skipped = LEFT_OUT.get(export, {"Constant"})
    wanted = [(op, name) for op, name in rows["all_nodes"][published_name] if op not in skipped]
    assert sorted(found) == sorted(wanted)
    io = rows["io"][published_name]
    for kind, values in (("input", model.graph.input), ("output", model.graph.output)):
        shapes = [[value.name, [dim.dim_value for dim in value.type.tensor_type.shape.dim]] for value in values]
        if export == "whole":  # recorded without the names that published files have
            shapes = [[old, shape] for (_, shape), (old, _) in zip(shapes, io[kind], strict=True)]
        assert shapes == io[kind]
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [17]
    if export == "parts":
        elements = sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
        assert elements == rows["per_width"]["16"]["export"][published_name]["initializer_elements"]


@pytest.mark.parametrize("family", FAMILIES)
def test_parts(family: str) -> None:
    check(family, "parts")


@pytest.mark.parametrize("export", ["raw", "post"])
@pytest.mark.parametrize("family", DISTINCT)
def test_raw_and_post(family: str, export: str) -> None:
    check(family, export)


@pytest.mark.parametrize(
    ("family", "export"),
    [
        ("legacy_ese_swish", "whole"),
        ("current_yuv422", "whole"),
        ("readme_train_nolo", "whole"),
        ("legacy_ese_swish", "primitive"),
        ("legacy_ese_swish", "dynamic raw"),
    ],
)
def test_other_flavours(family: str, export: str) -> None:
    """Golden files cover the rest: see test_onnx_golden.py."""
    check(family, export)


@cache
def names_of(export: str) -> list[str]:
    return [node.name for node in built("current_yuv422", export, 4).graph.node]


def test_published_int16_patterns_find_their_operators() -> None:
    """Every pattern of the published commands, searched as those commands do, finds one operator and no other."""
    text = shared_dir("spec", "readme-commands.md").read_text()
    blocks = re.findall(r"--int16-op-pattern((?: *\\?\s+\"?/[\w./]+\"?)+)", text)
    patterns = {pattern for block in blocks for pattern in re.findall(r"/[\w./]+", block)}
    assert len(patterns) >= 30
    for pattern in patterns:
        names = names_of("whole" if pattern.startswith("/model/") else "parts")
        found = [name for name in names if re.search(pattern, name)]
        assert len(found) == 1, (pattern, found)


def test_fast_rows_keep_the_names_of_the_network() -> None:
    kept = {name for name in names_of("post") if re.search(r"/(Conv|Relu|Resize)$", name) and name.count("/") > 1}
    assert kept and kept <= set(names_of("fast"))
    assert len(names_of("fast")) < len(names_of("post")) - 30


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
