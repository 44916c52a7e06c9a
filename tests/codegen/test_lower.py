"""What lowering refuses, and the ranges that its proofs rest on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.made_models import Maker, random_inputs
from uhd.codegen.lower import lower
from uhd.codegen.lower_move import collapse
from uhd.errors import ModelError
from uhd.espdl import oracle
from uhd.espdl.model import EspdlModel, Tensor


def one(op: str, shape: tuple[int, ...] = (1, 4, 4, 6), attributes: dict[str, Any] | None = None, *,
        exponent: int = -7, bits: int = 8, operands: int = 1) -> EspdlModel:  # fmt: skip
    """A model of a single node on a 4x4x6 input."""
    make = Maker(0)
    x = make.input(4, 4, 6)
    return make.model(make.node(op, [x] * operands, shape, exponent, attributes, bits=bits, name=f"/the/{op}"))


REFUSED = [
    (one("Softmax"), "Softmax.*no such operator; supported: Add, Clip, Concat, Conv"),
    (one("Relu", bits=32), r"not S8 or S16"),
    (one("Relu", attributes={"quant_type": "W8A16"}, bits=16), "W8A16"),
    (one("Add", exponent=-5, operands=2), "unaligned exponents"),
    (one("MaxPool", exponent=-5, attributes={"kernel_shape": [1, 1]}), "unaligned exponents"),
    (one("Resize", (1, 8, 8, 6), {"mode": "linear"}), "mode linear"),
    (one("ReduceMean", (1, 1, 1, 1)), "mean over axes"),
    (one("GlobalAveragePool", (1, 1, 1, 6), exponent=-40), "exponents that differ by -33"),
    (one("HardSwish"), "no table in the file"),
    (one("LUT"), "no table that fits"),
    (one("Transpose", (1, 6, 4, 4), {"perm": [0, 0, 1, 2]}), "perm"),
    (one("Slice", (1, 2, 4, 6)), "starts and ends"),
    (one("Split", (1, 4, 4, 6), {"axis": 9}), "axis 9"),
]


@pytest.mark.parametrize(("model", "message"), REFUSED, ids=[m for _, m in REFUSED])
def test_refusals_name_the_node_and_a_way_out(model: EspdlModel, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        lower(model)
    text = str(caught.value)
    assert model.nodes[0].name in text and "; " in text and "\n" not in text


def test_refuses_float_inputs_batches_and_constant_outputs() -> None:
    make = Maker(0)
    x = make.input(4, 4, 2)
    y = make.same("Relu", [x])
    model = make.model(y)
    for change, message in ((dict(dtype="float32"), "is float32"), (dict(shape=(2, 4, 4, 2)), "batch 1")):
        with pytest.raises(ModelError, match=message):
            lower(replace(model, tensors={**model.tensors, x: replace(model.tensors[x], **change)}))
    with pytest.raises(ModelError, match="is a constant"):
        lower(replace(model, outputs=(make.constant(np.zeros(3, np.int8)),)))


def test_refuses_a_bias_of_another_exponent() -> None:
    make = Maker(0)
    model = make.model(make.conv(make.input(4, 4, 2), 3))
    name = model.nodes[0].inputs[2]
    model.tensors[name] = replace(model.tensors[name], exponents=(-3,))
    with pytest.raises(ModelError, match="the bias has exponent -3"):
        lower(model)


def test_refuses_mixed_widths() -> None:
    make = Maker(0)
    x = make.input(4, 4, 2)
    model = make.model(make.conv(x, 3))
    model.tensors[x] = Tensor(x, (1, 4, 4, 2), "int16", (-7,))
    with pytest.raises(ModelError, match="a filter of int8 on int16"):
        lower(model)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 30), st.sampled_from(["c", "esp32p4"]), st.sampled_from([8, 16]))
def test_ranges_hold(seed: int, target: str, bits: int) -> None:
    """No activation leaves the range that the chunks' proofs assume; and the ranges are not all trivial."""
    make = Maker(seed, target, bits)
    x = make.input(5, 5, 6)
    y = make.conv(x, 6, relu=True, spread=0.5)
    z = make.pool(y, 3, 1, 1)
    added = make.same("Add", [y, z])
    less = make.same("Sub", [y, added])
    halved = make.requantize(less, 2)
    larger = make.resize(halved, 10, 10, -1)
    model = make.model(make.gate(make.concat([make.same("Clip", [larger]), larger])))
    values = lower(model).values
    top = np.iinfo(f"int{bits}").max
    assert (values[y].low, values[y].high) == (0, top) == (values[z].low, values[z].high)
    assert (values[halved].low, values[halved].high) == (-(top + 1) // 4, (top + 1) // 4)
    for kind in ("random", "ends"):
        found = oracle.run(model, random_inputs(model, np.random.default_rng(seed), kind), keep_all=True)
        for name, array in found.items():
            assert values[name].low <= array.min() and array.max() <= values[name].high, name


def test_clip_bounds_become_integers() -> None:
    make = Maker(1)
    x = make.input(3, 3, 4, -5)
    bounds = [make.constant(np.array(v, np.float32)) for v in (-0.4, 1.26)]
    model = make.model(make.node("Clip", [x, *bounds], make.shape(x), -5))
    (step,) = lower(model).steps
    assert (step.fields["lowest"], step.fields["highest"]) == (-13, 40)
    inputs = random_inputs(model, np.random.default_rng(0))
    assert set(oracle.run(model, inputs)[model.outputs[0]].reshape(-1).tolist()) <= set(range(-13, 41))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.permutations(range(5)))
def test_collapsed_axes_visit_the_same_elements(shape: list[int], order: list[int]) -> None:
    array = np.arange(int(np.prod(shape))).reshape(shape)
    turned = array.transpose([axis for axis in order if axis < len(shape)])
    dense = [int(np.prod(turned.shape[i + 1 :])) for i in range(turned.ndim)]
    axes = collapse(turned.shape, tuple(s // array.itemsize for s in turned.strides), tuple(dense))
    assert len(axes) <= max(1, turned.ndim)
    source, target = np.zeros(1, int), np.zeros(1, int)
    for extent, a, b in axes:
        source = (source[:, None] + a * np.arange(extent)).reshape(-1)
        target = (target[:, None] + b * np.arange(extent)).reshape(-1)
    result = np.empty(array.size, int)
    result[target] = array.reshape(-1)[source]
    np.testing.assert_array_equal(result, turned.reshape(-1))
