"""Counts beside slow counts, hand counts, and the figures of the reference."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from torch import Tensor, nn

from support.core_bench import shipped
from support.shared import shared_dir
from uhd import zoo
from uhd.errors import ConfigError, ModelError
from uhd.espdl.inspect import inspect_model
from uhd.espdl.reader import read_espdl
from uhd.models.architectures import CONFIGS, ModelConfig
from uhd.models.build import model_of
from uhd.models.checkpoint import load_checkpoint
from uhd.models.families import FAMILIES, family_config
from uhd.predict.chips import chip
from uhd.predict.latency import predict
from uhd.predict.workload import workload
from uhd.profile.cost import peak_live_bytes
from uhd.profile.espdl_cost import espdl_cost
from uhd.profile.onnx_cost import graph_cost, onnx_cost
from uhd.profile.torch_cost import checkpoint_cost, config_cost


def slow_macs(config: ModelConfig) -> int:
    """Multiply-accumulates of convolutions and linear layers of a model that really runs: for each filter, by how
    often it is laid on the input, counted with hooks."""
    model = model_of(config).eval()
    found = 0

    def count(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        nonlocal found
        weight = module.weight
        assert isinstance(weight, Tensor)
        places = output[0, 0].numel() if isinstance(module, nn.Conv2d) else output[..., 0].numel()
        found += sum(one_filter.numel() * places for one_filter in weight)

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.no_grad():
        model(torch.zeros(1, config.in_channels, 64, 64))
    return found


@pytest.mark.parametrize(
    "config",
    [
        family_config("current_rgb", 16),
        family_config("legacy_noese_swish", 24),
        family_config("current_y", 16, conv="std", sppf_scale="bn", context_rfb=True),
        CONFIGS["cnn"](),
    ],
    ids=["rgb16", "noese24", "std", "cnn"],
)
def test_macs_are_those_of_a_slow_count(config: ModelConfig) -> None:
    assert config_cost(config, "x").macs == slow_macs(config)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_counts_are_the_references(family: str) -> None:
    """FLOPs and MACs to the last one; of parameters, files have some constants more that hold shapes."""
    widths = json.loads(shared_dir("spec", "variants.json").read_text())["families"][family]["per_width"]
    for width in (16, 56) if family == "current_yuv422" else (16,):
        told = widths[str(width)]["export"]["full_raw_wrapper"]
        cost = config_cost(family_config(family, width), family)
        assert (cost.flops, cost.macs) == (told["profile_flops"], told["conv_macs"])
        assert 0 <= told["initializer_elements"] - cost.parameters <= 64


def test_parameters_are_all_there() -> None:
    """Without normalisations, what is counted is what the model has, and anchors that are a buffer."""
    config = family_config("current_rgb", 16, batchnorm=False)
    expected = sum(p.numel() for p in model_of(config).parameters()) + 2 * len(config.anchors)
    cost = config_cost(config, "x")
    assert cost.parameters == expected and cost.weight_bytes == 4 * expected
    transformer = CONFIGS["transformer"]()
    assert config_cost(transformer, "x").parameters == sum(p.numel() for p in model_of(transformer).parameters())


def test_rounding_costs_nothing() -> None:
    """A model trained with rounded weights is counted as the one that is deployed."""
    plain, rounded = (family_config("current_rgb", 16, **bits) for bits in ({}, {"w_bits": 8, "a_bits": 8}))
    assert config_cost(plain, "x") == config_cost(rounded, "x")


def test_a_model_in_all_its_files() -> None:
    """Float and integer file of one model: the same multiply-accumulates of the same layers."""
    floating = onnx_cost(shared_dir("fixtures", "espdl", "w16_yuv.onnx"))
    path = shared_dir("fixtures", "espdl", "w16_yuv_c.espdl")
    integers = espdl_cost(read_espdl(path), str(path))
    macs = [{layer.name: layer.macs for layer in cost.layers if layer.macs} for cost in (floating, integers)]
    assert macs[0] == macs[1] and len(macs[0]) == 42
    assert floating.flops == integers.flops
    own = sum(math.prod(t.dims) for t in onnx.load(shared_dir("fixtures", "espdl", "w16_yuv.onnx")).graph.initializer)
    assert floating.parameters == own


@pytest.mark.parametrize("name", ["ultratinyod_r_esp32s3_speed", "ultratinyod_a_esp32p4_precision"])
def test_espdl(name: str) -> None:
    path = shipped("R").with_name(f"{name}.espdl")
    model = read_espdl(path)
    report, times = inspect_model(model), predict(workload(model), chip(model.target)).ops
    cost = espdl_cost(model, name, times)
    assert cost.macs == report.macs and cost.weight_bytes == report.weight_bytes
    assert cost.peak_activation_bytes == report.peak_activation_bytes
    assert sum(layer.milliseconds or 0 for layer in cost.layers) == pytest.approx(sum(t.total_ms for t in times))
    assert all(layer.milliseconds is None for layer in espdl_cost(model, name).layers)


def test_exported() -> None:
    """A file with all maps counts as the reference's, and as the checkpoint it was made from."""
    from uhd.export.onnx_export import build_onnx

    path = zoo.checkpoint_path("R")
    cost = graph_cost(build_onnx(*load_checkpoint(path), "whole", verify=False), "exported")
    families = json.loads(shared_dir("spec", "variants.json").read_text())["families"]
    figures = families["current_yuv422"]["per_width"]["16"]["export"]["full_raw_wrapper"]
    assert (cost.flops, cost.macs) == (figures["profile_flops"], figures["conv_macs"])
    assert cost.parameters == figures["initializer_elements"]
    own = checkpoint_cost(path)
    assert (cost.flops, cost.macs) == (own.flops, own.macs)
    assert cost.peak_activation_bytes == own.peak_activation_bytes


def test_checkpoint_of_another_size() -> None:
    path = zoo.checkpoint_path("R")
    small, large = checkpoint_cost(path), checkpoint_cost(path, (128, 64))
    conv = [layer for layer in small.layers if layer.kind == "Conv" and layer.output_shape[-1] == 8]
    assert conv and 1.9 < large.macs / small.macs < 2.01 and small.parameters == large.parameters


def graph(nodes: list[onnx.NodeProto], shape: list[Any], weights: dict[str, tuple[int, ...]]) -> onnx.ModelProto:
    """A model from "x" to "y" with weights of zeros."""
    made = [helper.make_tensor(n, TensorProto.FLOAT, d, [0.0] * math.prod(d)) for n, d in weights.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    built = helper.make_graph(nodes, "g", [x], [y], made)
    return helper.make_model(built, opset_imports=[helper.make_opsetid("", 17)])


def node(kind: str, *inputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, list(inputs), ["y"], name=kind.lower(), **attributes)


#: Nodes counted by hand: (node, input shape, weights, MACs, FLOPs).
HAND = [
    (node("Conv", "x", "w", "b", kernel_shape=[3, 3], pads=[1] * 4), [1, 2, 4, 5], {"w": (6, 2, 3, 3), "b": (6,)},
     6 * 20 * 18, 2 * 6 * 20 * 18 + 6 * 20),
    (node("Conv", "x", "w", group=4, strides=[2, 2]), [1, 4, 4, 4], {"w": (4, 1, 2, 2)}, 4 * 4 * 4, 2 * 4 * 4 * 4),
    (node("ConvTranspose", "x", "w", strides=[2, 2]), [1, 3, 4, 4], {"w": (3, 5, 2, 2)}, 48 * 20, 2 * 48 * 20),
    (node("MatMul", "x", "w"), [1, 7, 3], {"w": (3, 5)}, 7 * 3 * 5, 2 * 7 * 3 * 5),
    (node("Gemm", "x", "w", transA=1), [3, 7], {"w": (3, 5)}, 7 * 3 * 5, 2 * 7 * 3 * 5),
    (node("MaxPool", "x", kernel_shape=[5, 5], pads=[2] * 4), [1, 2, 4, 4], {}, 0, 32 * 25),
    (node("GlobalAveragePool", "x"), [1, 2, 4, 4], {}, 0, 2),
    (node("Add", "x", "w"), [1, 2, 4, 4], {"w": (1, 2, 1, 1)}, 0, 32),
    (node("Relu", "x"), [1, 2, 4, 4], {}, 0, 32),
    (node("Transpose", "x"), [1, 2, 4, 4], {}, 0, 0),
]  # fmt: skip


@pytest.mark.parametrize(("made", "shape", "weights", "macs", "flops"), HAND, ids=lambda v: getattr(v, "op_type", ""))
def test_nodes_counted_by_hand(
    made: onnx.NodeProto, shape: list[int], weights: dict[str, tuple[int, ...]], macs: int, flops: int
) -> None:
    cost = graph_cost(graph([made], shape, weights), "hand")
    assert (cost.macs, cost.flops) == (macs, flops)
    assert cost.parameters == sum(math.prod(dims) for dims in weights.values())
    assert cost.weight_bytes == 4 * cost.parameters


def test_open_sizes(tmp_path: Path) -> None:
    made = graph([node("Relu", "x")], ["batch", 3, "height", "width"], {})
    onnx.save(made, tmp_path / "open.onnx")
    with pytest.raises(ConfigError, match="open size; give --size"):
        onnx_cost(tmp_path / "open.onnx")
    assert onnx_cost(tmp_path / "open.onnx", (8, 4)).flops == 3 * 32


def test_a_shared_weight_counts_once() -> None:
    first = helper.make_node("Add", ["x", "w"], ["m"])
    cost = graph_cost(graph([first, node("Add", "m", "w")], [1, 2], {"w": (1, 2), "kept": (3,)}), "x")
    assert [layer.parameters for layer in cost.layers] == [2, 0, 3]


@pytest.mark.parametrize("data", [b"", b"not onnx", b"\x08\x07"])
def test_bad_onnx(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"bad\.onnx: not a"):
        onnx_cost(path)


STEPS = st.lists(
    st.tuples(st.lists(st.sampled_from("abcdef"), max_size=2), st.lists(st.sampled_from("abcdef"), max_size=2)),
    max_size=5,
)


@settings(max_examples=30)
@given(STEPS, st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 9), min_size=1))
def test_peak_is_the_largest_of_all_moments(steps: list[tuple[list[str], list[str]]], sizes: dict[str, int]) -> None:
    """Looked at moment by moment: what has been written and will be read, or is being written. Inputs are there when
    the first step runs, read or not."""
    written, reads = [set(writes) for _, writes in steps], [set(r) for r, _ in steps]
    inputs = [{"a"}, *[set[str]()] * len(steps)]
    moments = [sizes.get("a", 0)]
    for now in range(len(steps)):
        there = {"a"}.union(*written[:now])
        needed = set().union(*reads[now:], {"f"})
        moments.append(sum(sizes.get(name, 0) for name in (there & needed) | written[now] | inputs[now]))
    assert peak_live_bytes(steps, sizes, ["a"], ["f"]) == max(moments)
