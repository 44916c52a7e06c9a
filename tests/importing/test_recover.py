"""Weights and options out of a graph: every option of the architecture, whatever the names in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from support.imports import known_model, pictures, published
from uhd.importing.from_onnx import ALL_MAPS, OnnxModel, model_from_onnx
from uhd.importing.net import StrangerError
from uhd.importing.recover import Recovered
from uhd.models.blocks import ConvBNAct, Style
from uhd.models.ultratinyod import UltraTinyOD
from uhd.quantize.source import read_source

FULL = {"residual": True, "improved_head": True, "iou_aware_head": True, "head_ese": True, "large_obj_branch": True}

#: Each line has several options at once; every option and every rewiring is in one.
OPTIONS: list[dict[str, Any]] = [
    {**FULL, "quant_arch": 1, "sppf_scale": "conv", "num_classes": 3, "score_mode": "obj_quality_cls"},
    {**FULL, "quant_arch": 2, "context_rfb": True, "context_dilation": 3, "in_channels": 1},
    {"iou_aware_head": True, "quant_arch": 4, "activation": "relu", "sppf_scale": "bn", "disable_cls": True},
    {**FULL, "quant_arch": 6, "large_obj_depth": 3, "large_obj_ch_scale": 0.5, "score_mode": "obj"},
    {**FULL, "quant_arch": 9, "conv": "std", "out_stride": 4},
    {**FULL, "quant_arch": 11, "num_classes": 2, "attr_classes": 2, "out_stride": 16},
    {
        "batchnorm": False,
        "conv": "std",
        "context_rfb": True,
        "in_channels": 3,
        "large_obj_branch": True,
        "quant_arch": 5,
    },
    {"improved_head": True, "width": 16, "cls_bottleneck_ratio": 0.25, "quality_power": 0.5},
]
#: Branches without a map in the file, and options that only they show.
HIDDEN = {"score_mode", "anchors"}


def imported(path: Path) -> OnnxModel:
    return model_from_onnx(read_source(path, ALL_MAPS))


def same_maps(a: UltraTinyOD, b: UltraTinyOD, names: list[str]) -> float:
    x = pictures(a)
    with torch.no_grad():
        ours, theirs = a.maps(x, names), b.maps(x, names)
    return max(float((ours[name] - theirs[name]).abs().max()) for name in names)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of variant R's architecture; tests edit copies of it."""
    return published(tmp_path_factory.mktemp("full") / "full.onnx", known_model(**FULL, activation="relu"))


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: " ".join(f"{k}={v}" for k, v in o.items() if k not in FULL))
def test_every_option(tmp_path: Path, options: dict[str, Any]) -> None:
    model = known_model(**options)
    path = published(tmp_path / "a.onnx", model)
    found = imported(path)
    config, got = model.config, found.model.config
    names = [*config.maps_for(), *(["attr"] if config.attr_count else [])]
    assert same_maps(model, found.model, names) <= 1e-5
    hidden = set(HIDDEN)
    if "cls" not in names:  # a score without classes leaves no trace of them
        hidden |= {"num_classes", "disable_cls", "cls_bottleneck_ratio"}
    if config.quant_arch in (10, 11):
        hidden.add("residual")
    if not config.large_obj_branch:
        hidden |= {"large_obj_depth", "large_obj_ch_scale"}
    assert got.model_dump(exclude=hidden) == config.model_dump(exclude=hidden)
    assert set(got.maps_for()) == set(config.maps_for())
    np.testing.assert_allclose(found.model.anchors, model.anchors, rtol=1e-6)
    np.testing.assert_allclose(found.model.wh_scale.detach(), model.wh_scale.detach(), rtol=1e-6)


def test_two_halves_of_the_boxes_become_one(tmp_path: Path) -> None:
    model = known_model(**FULL, quant_arch=8)
    found = imported(published(tmp_path / "a.onnx", model))
    assert found.model.config.quant_arch == 2
    assert same_maps(model, found.model, ["box", "quality", "cls"]) <= 1e-5


def test_a_file_of_the_whole_model_has_all_branches(tmp_path: Path) -> None:
    model = known_model(**FULL)
    found = imported(published(tmp_path / "a.onnx", model, "whole"))
    assert same_maps(model, found.model, ["box", "obj", "quality", "cls"]) <= 1e-5
    assert (found.manifest.score_mode, found.notes) == ("quality_cls", [])


def test_names_play_no_part(full: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    before = imported(full).model.state_dict()
    file = onnx.load(full)
    graph = file.graph
    kept = {value.name for value in (*graph.input, *graph.output)}
    new = {name: f"t{index}" for index, name in enumerate(dict.fromkeys(n for node in graph.node for n in node.output))}
    new |= {tensor.name: f"c{index}" for index, tensor in enumerate(graph.initializer)}
    for node in graph.node:
        node.name = ""
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = name if name in kept or not name else new[name]
    for tensor in graph.initializer:
        tensor.name = tensor.name if tensor.name in kept else new[tensor.name]
    del graph.value_info[:]
    onnx.save(file, path)
    after = imported(path).model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


def test_normalisations_that_nobody_folded(full: Path, tmp_path: Path) -> None:
    """A file whose exporter kept a normalisation behind the convolution reads as the folded one does."""
    path = tmp_path / "a.onnx"
    file, want = onnx.load(full), imported(full).model
    conv = next(node for node in file.graph.node if node.op_type == "Conv")
    rng = np.random.default_rng(1)
    scale, variance = rng.uniform(0.5, 2, 4).astype(np.float32), rng.uniform(0.5, 2, 4).astype(np.float32)
    tensors = {tensor.name: tensor for tensor in file.graph.initializer}
    bias = numpy_helper.to_array(tensors[conv.input[2]])
    factor = np.sqrt(variance + np.float32(1e-5)) / scale
    weight = numpy_helper.to_array(tensors[conv.input[1]]) * factor[:, None, None, None]
    tensors[conv.input[1]].CopyFrom(numpy_helper.from_array(weight.astype(np.float32), conv.input[1]))
    for name, value in (("s", scale), ("b", bias), ("m", np.zeros_like(bias)), ("v", variance)):
        file.graph.initializer.append(numpy_helper.from_array(value, f"bn_{name}"))
    made, after = conv.output[0], f"{conv.output[0]}_bare"
    del conv.input[2]
    conv.output[0] = after
    names = [after, "bn_s", "bn_b", "bn_m", "bn_v"]
    norm = onnx.helper.make_node("BatchNormalization", names, [made], "bn", epsilon=1e-5)
    file.graph.node.insert(list(file.graph.node).index(conv) + 1, norm)
    onnx.save(file, path)
    got = imported(path).model
    assert got.config == want.config
    assert same_maps(want, got, ["box", "quality", "cls"]) <= 1e-5


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_normalisation_of_a_bias_is_exact(seed: int) -> None:
    """The block computes bit for bit what a convolution with that bias does."""
    rng = np.random.default_rng(seed)
    block = ConvBNAct(3, 5, 1, Style(), act=False).eval()
    bias = rng.normal(0, 10.0 ** rng.integers(-3, 3), 5).astype(np.float32)
    found = Recovered()
    found.norm("bn", np.ones(5, np.float32), bias)
    block.load_state_dict({key: torch.from_numpy(np.array(v)) for key, v in found.weights.items()}, strict=False)
    x = torch.from_numpy(rng.normal(0, 1, (1, 3, 4, 4)).astype(np.float32))
    with torch.no_grad():
        assert torch.equal(block(x), block.conv(x) + torch.from_numpy(bias)[:, None, None])


def bent_input(file: onnx.ModelProto) -> None:
    stem = next(node for node in file.graph.node if node.op_type == "Conv")
    file.graph.node.insert(0, onnx.helper.make_node("Tanh", [stem.input[0]], ["bent"], "bent"))
    stem.input[0] = "bent"


def another_activation(file: onnx.ModelProto) -> None:
    next(node for node in file.graph.node if node.op_type == "Relu").op_type = "Elu"


def one_more_convolution(file: onnx.ModelProto) -> None:
    """One more convolution at the end of the box branch."""
    out = next(node for node in file.graph.node if node.output[0] == "box")
    weight = np.zeros((16, 16, 1, 1), np.float32)
    file.graph.initializer.append(numpy_helper.from_array(weight, "extra"))
    file.graph.node.insert(
        list(file.graph.node).index(out), onnx.helper.make_node("Conv", [out.input[0], "extra"], ["more"], "more")
    )
    out.input[0] = "more"


@pytest.mark.parametrize("edit", [bent_input, another_activation, one_more_convolution])
def test_strangers(full: Path, tmp_path: Path, edit: Any) -> None:
    file = onnx.load(full)
    edit(file)
    onnx.save(file, tmp_path / "a.onnx")
    with pytest.raises(StrangerError):
        imported(tmp_path / "a.onnx")
