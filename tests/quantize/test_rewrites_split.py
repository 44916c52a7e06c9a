"""Splitting filters in a float graph: which, into how much, and that nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from support.quantize_nets import Plan
from uhd.errors import ConfigError, ModelError
from uhd.quantize.rewrites.grid import split_exponents
from uhd.quantize.rewrites.split import BLOCK, piece_channels, split_filters


@given(st.integers(1, 3000), st.integers(1, 5000), st.sampled_from([8, 16]), st.integers(1, 100_000))
def test_pieces_are_whole_blocks_within_the_limit(channels: int, channel_bytes: int, bits: int, limit: int) -> None:
    sizes, block = piece_channels(channels, channel_bytes, bits, limit), BLOCK[bits]
    assert sum(sizes) == channels and min(sizes) > 0
    assert all(size % block == 0 for size in sizes[:-1])
    assert max(sizes) * channel_bytes <= limit or max(sizes) <= block
    assert max(sizes) - min(sizes) < 2 * block
    fewest = -(-channels // max(block, limit // channel_bytes // block * block))
    assert len(sizes) == fewest  # more pieces would be more calls and more joining for nothing


def graph(folder: Path) -> onnx.ModelProto:
    """A wide and a narrow convolution, one whose Relu is not its only reader, and a depthwise one."""
    plan = Plan()
    wide = plan.node("Relu", "/wide/Relu", plan.conv("/wide/Conv", "input", 2, 40))
    deep = plan.node(
        "Conv", "/dw/Conv", wide, plan.constant("dw.weight", plan.rng.normal(0, 1, (40, 1, 3, 3))),
        group=40, kernel_shape=[3, 3], pads=[1, 1, 1, 1],
    )  # fmt: skip
    shared = plan.conv("/shared/Conv", deep, 40, 40)
    joined = plan.node("Add", "/Add", shared, plan.node("Relu", "/shared/Relu", shared))
    return onnx.load(plan.save(folder / "plan.onnx", joined, 40))


def bits_of(model: onnx.ModelProto, bits: int = 8) -> dict[str, int]:
    return {node.name: bits for node in model.graph.node if node.op_type == "Conv"}


def outputs(model: onnx.ModelProto) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    picture = np.random.default_rng(1).uniform(-1, 1, (1, 2, 16, 16)).astype(np.float32)
    return list(session.run(None, {"input": picture}))


@pytest.mark.parametrize(("bits", "limit", "wide", "shared"), [
    (8, 64, (32, 8), (16, 16, 8)), (16, 64, (16, 16, 8), (8,) * 5), (8, 80, (), (16, 16, 8)), (8, 640, (), (16, 16, 8)),
    (8, 1599, (), (32, 8)), (8, 1600, (), ()), (16, 1600, (), (16, 16, 8)), (16, 1920, (), (24, 16)),
])  # fmt: skip
def test_only_what_exceeds_the_limit_is_split(
    tmp_path: Path, bits: int, limit: int, wide: tuple[int, ...], shared: tuple[int, ...]
) -> None:
    model = graph(tmp_path)
    before, content = outputs(model), model.SerializeToString(deterministic=True)
    splits = {split.operator: split for split in split_filters(model, bits_of(model, bits), limit)}
    onnx.checker.check_model(model, full_check=True)
    assert {name: split.channels for name, split in splits.items() if name in ("/wide/Conv", "/shared/Conv")} == {
        name: sizes for name, sizes in (("/wide/Conv", wide), ("/shared/Conv", shared)) if sizes
    }
    assert "/dw/Conv" not in splits
    if not splits:
        assert model.SerializeToString(deterministic=True) == content
    for old, new in zip(before, outputs(model), strict=True):
        np.testing.assert_allclose(old, new, rtol=0, atol=1e-5)
    sizes = {tensor.name: numpy_helper.to_array(tensor).size * bits // 8 for tensor in model.graph.initializer}
    read = {name for node in model.graph.node for name in node.input}
    assert set(sizes) <= read, "constants of the whole filter are gone"
    for split in splits.values():
        made = [sizes[node.input[1]] for node in model.graph.node if node.name in split.parts]
        assert sum(made) == split.filter_bytes > limit and max(made) == split.largest_bytes


def test_names_and_where_the_relu_goes(tmp_path: Path) -> None:
    model = graph(tmp_path)
    split_filters(model, bits_of(model), 64)
    nodes = {node.name: node for node in model.graph.node}
    assert list(nodes["/wide/Conv_concat"].input) == ["/wide/Relu_out_part0", "/wide/Relu_out_part1"]
    assert list(nodes["/wide/Conv_concat"].output) == ["/wide/Relu_out"] == list(nodes["/dw/Conv"].input[:1])
    assert list(nodes["/wide/Relu_part1"].input) == list(nodes["/wide/Conv_part1"].output)
    assert not {"/wide/Conv", "/wide/Relu", "/shared/Conv"} & set(nodes)
    assert list(nodes["/shared/Relu"].input) == list(nodes["/shared/Conv_concat"].output) == ["/shared/Conv_out"]
    assert list(nodes["/box_out/Conv"].output) == ["box"]


def test_a_concat_that_alone_reads_pieces_takes_them(tmp_path: Path) -> None:
    """Two of its inputs are split, one of them is read by the pooling, too."""
    plan = Plan()
    x = plan.conv("/stem/Conv", "input", 2, 20)
    a, b, c = (plan.conv(f"/{name}/Conv", x, 20, 40) for name in "abc")
    pooled = plan.node("MaxPool", "/pool", b, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    rows = plan.node("Concat", "/rows", x, x, axis=2)
    half = plan.node("MaxPool", "/half", rows, kernel_shape=[2, 1], strides=[2, 1])
    model = onnx.load(
        plan.save(tmp_path / "plan.onnx", plan.node("Concat", "/cat", half, a, pooled, b, c, axis=1), 180)
    )
    before = outputs(model)
    wanted = dict.fromkeys(("/a/Conv", "/b/Conv", "/c/Conv"), 8)
    splits = {split.operator: split for split in split_filters(model, wanted, 400)}
    for old, new in zip(before, outputs(model), strict=True):
        np.testing.assert_allclose(old, new, rtol=0, atol=1e-5)
    nodes = {node.name: node for node in model.graph.node}
    pieces = {name: [f"/{name}/Conv_out_part{number}" for number in range(3)] for name in "abc"}
    assert list(nodes["/cat"].input) == ["/half_out", *pieces["a"], "/pool_out", "/b/Conv_out", *pieces["c"]]
    assert list(nodes["/b/Conv_concat"].input) == pieces["b"]
    assert not {"/a/Conv_concat", "/c/Conv_concat"} & set(nodes)
    places = {name: (split.concat, split.replaced, split.first_input) for name, split in splits.items()}
    assert places == {
        "/a/Conv": ("/cat", 1, 1), "/b/Conv": ("/b/Conv_concat", None, 0), "/c/Conv": ("/cat", 4, 6)
    }  # fmt: skip
    grid = {f"/cat:{index}": (index,) for index in range(5)} | {f"{name}:1": (9,) for name in splits}
    grid |= {split.output: (20,) for split in splits.values()}
    made = split_exponents(grid, list(splits.values()))
    assert [made[f"/cat:{index}"] for index in range(9)] == [(i,) for i in (0, 1, 1, 1, 2, 3, 4, 4, 4)]


def test_convolutions_without_known_bits_stay(tmp_path: Path) -> None:
    model = graph(tmp_path)
    assert split_filters(model, {}, 1) == ()
    assert [split.operator for split in split_filters(model, {"/shared/Conv": 8}, 1)] == ["/shared/Conv"]


def test_mistakes(tmp_path: Path) -> None:
    model = graph(tmp_path)
    with pytest.raises(ConfigError, match="limit of 0 bytes"):
        split_filters(model, bits_of(model), 0)
    model.graph.node[-1].name = "/wide/Conv_part1"
    with pytest.raises(ModelError, match="/wide/Conv_part1: a piece of a filter would take this name"):
        split_filters(model, bits_of(model), 64)
