"""Passes over small hand-made graphs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from uhd.export.graph import (
    decompose_batchnorm,
    drop_unused,
    name_class_scores,
    opset,
    rename_depthwise,
    unshare_weights,
)
from uhd.export.verify import run_onnx


def make(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], channels: int = 4) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    shape = [1, channels, 5, 5]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def conv(name: str, source: str, target: str, weight: str, group: int) -> onnx.NodeProto:
    return helper.make_node("Conv", [source, weight], [target], name, group=group, pads=[1, 1, 1, 1])


def test_depthwise_names() -> None:
    weights = {
        "dw": np.ones((4, 1, 3, 3), np.float32),
        "grouped": np.ones((4, 2, 3, 3), np.float32),
        "dense": np.ones((4, 4, 3, 3), np.float32),
    }
    model = make(
        [
            conv("/a/Conv", "x", "1", "dw", 4),
            conv("/b/Conv", "1", "2", "dense", 1),
            conv("/c/Conv", "2", "3", "grouped", 2),
            conv("/depthwiseconv/d/Conv", "3", "4", "dw", 4),
            conv("d/Conv", "4", "y", "dw", 4),
        ],
        weights,
    )
    rename_depthwise(model.graph)
    expected = [
        "/depthwiseconv/a/Conv", "/b/Conv", "/c/Conv", "/depthwiseconv/d/Conv", "/depthwiseconv/d/Conv_1",
    ]  # fmt: skip
    assert [node.name for node in model.graph.node] == expected
    rename_depthwise(model.graph)
    assert [node.name for node in model.graph.node] == expected, "a second pass changes nothing"


def test_one_channel_is_not_depthwise() -> None:
    model = make([conv("/a/Conv", "x", "y", "w", 1)], {"w": np.ones((4, 1, 3, 3), np.float32)}, channels=1)
    rename_depthwise(model.graph)
    assert model.graph.node[0].name == "/a/Conv"


@pytest.mark.parametrize("epsilon", [None, 1e-3, 0.5])
def test_batchnorm_becomes_mul_and_add(epsilon: float | None) -> None:
    random = np.random.default_rng(0)
    constants = {name: random.normal(size=4).astype(np.float32) for name in ("gamma", "beta", "mean")}
    constants |= {"var": random.uniform(0.1, 2, 4).astype(np.float32), "unused": np.ones(3, np.float32)}
    extra = {} if epsilon is None else {"epsilon": epsilon}
    norm = helper.make_node(
        "BatchNormalization", ["x", "gamma", "beta", "mean", "var"], ["n"], "/s/BatchNormalization", **extra
    )
    model = make([norm, helper.make_node("Relu", ["n"], ["y"], "/s/Relu")], constants)
    image = random.normal(size=(1, 4, 5, 5)).astype(np.float32)
    before = run_onnx(model, image)[0]
    assert decompose_batchnorm(model.graph) == 1
    names = [node.name for node in model.graph.node]
    assert names == ["/s/BatchNormalization_mul", "/s/BatchNormalization_add", "/s/Relu"]
    assert all(list(t.dims) == [1, 4, 1, 1] for t in model.graph.initializer)
    assert len(model.graph.initializer) == 2
    onnx.checker.check_model(model)
    np.testing.assert_allclose(run_onnx(model, image)[0], before, atol=1e-6)
    assert decompose_batchnorm(model.graph) == 0


def test_shared_weights_get_copies() -> None:
    nodes = [conv("/a/Conv", "x", "1", "w", 1), conv("/b/Conv", "1", "2", "v", 1), conv("/c/Conv", "2", "y", "w", 1)]
    for node in nodes:
        node.input.append("zero")
    random = np.random.default_rng(0)
    weights = {name: random.normal(size=(4, 4, 3, 3)).astype(np.float32) for name in "wv"}
    model = make(nodes, weights | {"zero": np.zeros(4, np.float32)})
    image = random.normal(size=(1, 4, 5, 5)).astype(np.float32)
    before = run_onnx(model, image)[0]
    unshare_weights(model.graph)
    assert [list(node.input[1:]) for node in model.graph.node] == [
        ["w", "zero"], ["v", "/b/Conv_bias"], ["/c/Conv_weight", "/c/Conv_bias"],
    ]  # fmt: skip
    np.testing.assert_array_equal(run_onnx(model, image)[0], before)
    unshare_weights(model.graph)
    assert len(model.graph.initializer) == 6, "a second pass changes nothing"


def test_scores_are_named_only_before_topk() -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["r"], "/Reshape_9"),
        helper.make_node("Reshape", ["x", "flat"], ["q"], "/Reshape_10"),
        helper.make_node("TopK", ["r", "k"], ["y", "i"], "/TopK"),
    ]
    model = make(nodes, {"flat": np.array([1, -1]), "k": np.array([3])})
    name_class_scores(model.graph)
    assert [node.name for node in model.graph.node] == ["Reshape_2", "/Reshape_10", "/TopK"]


def test_outputs_that_are_constants_are_kept() -> None:
    model = make(
        [helper.make_node("Relu", ["x"], ["z"], "r")], {"y": np.ones(2, np.float32), "other": np.ones(2, np.float32)}
    )
    drop_unused(model.graph)
    assert [tensor.name for tensor in model.graph.initializer] == ["y"]
    assert opset(model) == 17
