"""Rewrites keep every value: ONNX Runtime computes the same before and after."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from support.quantize_nets import Plan
from uhd.quantize.rewrite import channel_constants_to_depthwise, state_defaults, unshare_constants


def outputs(model: onnx.ModelProto) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    picture = np.random.default_rng(1).uniform(-1, 1, (1, 2, 16, 16)).astype(np.float32)
    return list(session.run(None, {"input": picture}))


def batch_norm_leftover(folder: Path, shape: tuple[int, ...], swap: bool) -> onnx.ModelProto:
    """Relu -> Mul -> Add with a constant a channel, as a decomposed batch norm leaves them; pool reads the Relu too."""
    plan = Plan()
    relu = plan.node("Relu", "/act", plan.conv("/stem/Conv", "input", 2, 6))
    rng = np.random.default_rng(2)
    scale = plan.constant("scale", rng.normal(0, 1, shape))
    shift = plan.constant("shift", rng.normal(0, 1, shape))
    scaled = plan.node("Mul", "/bn_mul", *((scale, relu) if swap else (relu, scale)))
    moved = plan.node("Add", "/bn_add", *((shift, scaled) if swap else (scaled, shift)))
    pooled = plan.node("MaxPool", "/pool", relu, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    return onnx.load(plan.save(folder / "bn.onnx", plan.node("Concat", "/cat", moved, pooled, axis=1), 12))


@pytest.mark.parametrize("shape", [(1, 6, 1, 1), (6, 1, 1)])
@pytest.mark.parametrize("swap", [False, True])
def test_mul_and_add_become_one_depthwise_convolution(tmp_path: Path, shape: tuple[int, ...], swap: bool) -> None:
    model = batch_norm_leftover(tmp_path, shape, swap)
    before = outputs(model)
    assert channel_constants_to_depthwise(model) == ["/bn_mul"]
    onnx.checker.check_model(model, full_check=True)
    kinds = [node.op_type for node in model.graph.node]
    assert "Mul" not in kinds and "Add" not in kinds
    made = next(node for node in model.graph.node if node.name == "/bn_mul")
    assert {a.name: onnx.helper.get_attribute_value(a) for a in made.attribute}["group"] == 6
    for one, other in zip(before, outputs(model), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_product_that_others_read_keeps_its_sum_apart(tmp_path: Path) -> None:
    plan = Plan()
    stem = plan.conv("/stem/Conv", "input", 2, 6)
    scaled = plan.node("Mul", "/mul", stem, plan.constant("scale", np.arange(6.0).reshape(1, 6, 1, 1)))
    moved = plan.node("Add", "/add", scaled, plan.constant("shift", np.arange(6.0).reshape(1, 6, 1, 1)))
    model = onnx.load(plan.save(tmp_path / "m.onnx", plan.node("Concat", "/cat", scaled, moved, axis=1), 12))
    before = outputs(model)
    assert channel_constants_to_depthwise(model) == ["/mul", "/add"]
    for one, other in zip(before, outputs(model), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_scalars_and_maps_are_left_alone(tmp_path: Path) -> None:
    plan = Plan()
    stem = plan.conv("/stem/Conv", "input", 2, 6)
    gained = plan.node("Mul", "/gain", stem, plan.constant("gain", np.array(0.5)))
    wide = plan.node("Add", "/wide", gained, plan.constant("row", np.ones((1, 1, 1, 16))))
    model = onnx.load(plan.save(tmp_path / "m.onnx", plan.node("Mul", "/square", wide, gained), 6))
    text = model.SerializeToString()
    assert channel_constants_to_depthwise(model) == []
    assert model.SerializeToString() == text


def test_strides_are_written_down(tmp_path: Path) -> None:
    plan = Plan()
    pooled = plan.node("MaxPool", "/pool", plan.conv("/stem/Conv", "input", 2, 6), kernel_shape=[3, 3], pads=[1] * 4)
    model = onnx.load(plan.save(tmp_path / "m.onnx", pooled, 6))
    before = outputs(model)
    state_defaults(model)
    (pool,) = (node for node in model.graph.node if node.op_type == "MaxPool")
    assert {a.name: list(a.ints) for a in pool.attribute}["strides"] == [1, 1]
    state_defaults(model)
    assert len([a for a in pool.attribute if a.name == "strides"]) == 1
    for one, other in zip(before, outputs(model), strict=True):
        np.testing.assert_array_equal(one, other)


def test_every_operator_gets_constants_of_its_own(tmp_path: Path) -> None:
    plan = Plan()
    plan.constant("zero", np.zeros(6))
    first = plan.conv("/first/Conv", "input", 2, 6, bias="zero")
    second = plan.conv("/second/Conv", first, 6, 6, bias="zero")
    model = onnx.load(plan.save(tmp_path / "m.onnx", plan.conv("/third/Conv", second, 6, 6, bias="zero"), 6))
    before = outputs(model)
    unshare_constants(model)
    onnx.checker.check_model(model, full_check=True)
    constants = {constant.name for constant in model.graph.initializer}
    used = [name for node in model.graph.node for name in node.input if name in constants]
    assert len(used) == len(set(used)) == 10
    for one, other in zip(before, outputs(model), strict=True):
        np.testing.assert_array_equal(one, other)
