"""Convolution kernels against the definition, computed in Python integers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from support.kernels import Window, reference_conv
from support.made_models import Maker, random_inputs
from support.program_runner import Runner
from uhd.codegen.lower import lower
from uhd.codegen.plan import plan_program
from uhd.codegen.steps import Step
from uhd.espdl.model import EspdlModel

SPREADS = [0.01, 0.15, 0.5, 9.0]


def only_step(model: EspdlModel) -> Step:
    (step,) = lower(model).steps
    return step


def expected(model: EspdlModel, x: NDArray[Any]) -> NDArray[Any]:
    """The result of the model's only convolution, from its definition."""
    node = model.nodes[0]
    source, weight, y = model.tensors[node.inputs[0]], model.tensors[node.inputs[1]], model.tensors[node.outputs[0]]
    attributes = node.attributes
    window = Window(
        *source.shape[1:], *y.shape[1:], *attributes["kernel_shape"], *attributes["strides"], *attributes["dilations"],
        *attributes["pads"][:2],
    )  # fmt: skip
    data = weight.data
    assert data is not None
    if weight.shape[0] == 1 and attributes["group"] > 1:
        data = data.transpose(3, 1, 2, 0)
    channels = y.shape[3]
    bias = model.tensors[node.inputs[2]].data if len(node.inputs) > 2 else np.zeros(channels, np.int64)
    assert bias is not None
    shift = np.broadcast_to(y.exponent - source.exponent - np.array(weight.exponents), channels)
    limits = np.iinfo(y.dtype)
    low = 0 if attributes["activation"] == "Relu" else limits.min
    even = model.target == "esp32p4"
    return reference_conv(x[0], data, bias, shift, window, attributes["group"], (low, limits.max), even)


def check(model: EspdlModel, seed: int, *, scalar: bool) -> None:
    program = lower(model)
    runner = Runner(program, plan_program(program), scalar=scalar)
    for kind in ("random", "ends", "high"):
        inputs = random_inputs(model, np.random.default_rng(seed), kind)
        made = runner.run(inputs, inside=kind == "random")[model.outputs[0]]
        np.testing.assert_array_equal(made[0], expected(model, inputs[model.inputs[0]]), err_msg=kind)


CONV = dict(
    seed=st.integers(0, 1 << 30), target=st.sampled_from(["c", "esp32p4"]), bits=st.sampled_from([8, 16]),
    spread=st.sampled_from(SPREADS), relu=st.booleans(), scalar=st.booleans(),
)  # fmt: skip
SETTINGS = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@SETTINGS
@given(
    **CONV,
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    channels=st.integers(1, 40),
    outputs=st.integers(1, 21),
)
def test_pointwise(seed, target, bits, spread, relu, scalar, size, channels, outputs) -> None:  # type: ignore[no-untyped-def]
    make = Maker(seed, target, bits)
    model = make.model(make.conv(make.input(*size, channels), outputs, relu=relu, spread=spread))
    assert only_step(model).kernel.startswith("conv_gemm")
    check(model, seed, scalar=scalar)


WINDOW = dict(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)), kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)), dilations=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.tuples(*[st.integers(0, 3)] * 4), channels=st.integers(1, 6), outputs=st.integers(1, 6),
)  # fmt: skip


def windowed(
    make: Maker, group: bool, size, kernel, strides, dilations, pads, channels, outputs, **more: Any
) -> EspdlModel | None:  # type: ignore[no-untyped-def]
    for axis in (0, 1):
        if size[axis] + pads[axis] + pads[axis + 2] < dilations[axis] * (kernel[axis] - 1) + 1:
            return None
    x = make.input(*size, channels)
    group_count = channels if group else 1
    return make.model(make.conv(x, channels if group else outputs, kernel, strides=strides, pads=pads,
                                dilations=dilations, group=group_count, **more))  # fmt: skip


@SETTINGS
@given(**CONV, **WINDOW)
def test_dense_windows(seed, target, bits, spread, relu, scalar, **window) -> None:  # type: ignore[no-untyped-def]
    model = windowed(Maker(seed, target, bits), False, relu=relu, spread=spread, **window)
    if model is not None:
        assert only_step(model).kernel.startswith("conv_gemm")
        check(model, seed, scalar=scalar)


@SETTINGS
@given(**CONV, **WINDOW)
def test_depthwise_windows(seed, target, bits, spread, relu, scalar, **window) -> None:  # type: ignore[no-untyped-def]
    model = windowed(Maker(seed, target, bits), True, relu=relu, spread=spread, **window)
    if model is not None:
        wanted = "conv_depthwise" if window["channels"] > 1 else "conv_gemm"
        assert only_step(model).kernel.startswith(wanted)
        check(model, seed, scalar=scalar)


@pytest.mark.parametrize("bits", [8, 16])
def test_depthwise_channels_of_every_kind(bits: int) -> None:
    """Sums that fit whole, by kernel row, and not at all, side by side in one layer."""
    make = Maker(3, "c", bits)
    model = make.model(make.conv(make.input(9, 7, 30), 30, (3, 3), pads=(1, 1, 1, 1), group=30))
    name = model.nodes[0].inputs[1]
    top = np.iinfo(f"int{bits}").max
    data = make.rng.integers(-top - 1, top + 1, (1, 3, 3, 30))
    data[..., :10] //= 16
    data[:, 1:, :, 20:] = 0
    data[:, 0, :, 20:25] = -top - 1  # a single row that no half word can hold
    model.tensors[name] = replace(model.tensors[name], data=data.astype(f"int{bits}"))
    step = only_step(model)
    offset = step.fields["mode"]
    assert isinstance(offset, int)
    modes = lower(model).data[offset : offset + 30]
    assert set(modes) == {0, 1, 2}
    check(model, 5, scalar=False)
    check(model, 6, scalar=True)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("target", ["c", "esp32p4"])
@pytest.mark.parametrize("shift", [-20, -3, -1, 0, 1, 15, 30, 31, 33, 62, 70])
def test_unusual_shifts(bits: int, target: str, shift: int) -> None:
    """Left shifts saturate, large right shifts leave nothing, whatever kernel is chosen."""
    make = Maker(shift + 50, target, bits)
    model = make.model(make.conv(make.input(3, 3, 5), 6, relu=False, spread=0.5, shift=shift))
    check(model, 1, scalar=False)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("group", [1, 4])
def test_left_shifts_of_a_few_channels_stay_fast(bits: int, group: int) -> None:
    """A dead channel's exponent may lie anywhere; its layer must not fall back to the slow kernel for that."""
    make = Maker(11, "esp32p4", bits)
    channels = 4
    model = make.model(make.conv(make.input(4, 5, 4), channels, (3, 3), group=group, relu=False, shift=3))
    node = model.nodes[0]
    weight, bias = (model.tensors[name] for name in node.inputs[1:])
    assert weight.data is not None and bias.data is not None
    data = weight.data // 8
    index = (Ellipsis, 2) if group > 1 else (2,)
    data[index] = 0
    exponents = [-7, -7, -1, -9]
    model.tensors[weight.name] = replace(weight, data=data, exponents=tuple(exponents))
    source, y = model.tensors["input"], model.tensors[node.outputs[0]]
    model.tensors[bias.name] = replace(
        bias, data=bias.data // 64, exponents=tuple(source.exponent + e for e in exponents)
    )
    assert y.exponent - source.exponent - max(exponents) < 0
    assert only_step(model).kernel.startswith("conv_gemm" if group == 1 else "conv_depthwise")
    check(model, 12, scalar=False)


@pytest.mark.parametrize("bits", [8, 16])
def test_bias_at_the_end_of_its_range(bits: int) -> None:
    make = Maker(9, "c", bits)
    model = make.model(make.conv(make.input(2, 5, 4), 6, relu=False, shift=8 if bits == 8 else 20))
    name = model.nodes[0].inputs[2]
    end = (1 << 31) - 1 if bits == 8 else 1 << 44
    kind = "int32" if bits == 8 else "int64"
    data = np.array([end, -end, 0, 1, -1, end - 5], kind)
    model.tensors[name] = replace(model.tensors[name], data=data)
    check(model, 2, scalar=False)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pads", [(0, 0, 0, 1), (0, 0, 2, 0), (1, 0, 0, 0), (0, 1, 0, 0)])
def test_pointwise_with_padding_on_one_side(bits: int, pads: tuple[int, int, int, int]) -> None:
    make = Maker(8, "c", bits)
    check(make.model(make.conv(make.input(3, 4, 5), 3, pads=pads, relu=False)), 4, scalar=False)


def test_left_shift_of_an_enormous_bias() -> None:
    make = Maker(10, "c", 16)
    model = make.model(make.conv(make.input(2, 2, 3), 4, relu=False, shift=-14, spread=0.0001))
    name = model.nodes[0].inputs[2]
    model.tensors[name] = replace(model.tensors[name], data=np.array([1 << 52, -(1 << 52), 1, -1], np.int64))
    check(model, 5, scalar=False)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("target", ["c", "esp32p4"])
def test_other_groupings(bits: int, target: str) -> None:
    make = Maker(4, target, bits)
    x = make.input(5, 4, 12)
    model = make.model(make.conv(x, 8, (3, 2), group=4, pads=(1, 0, 1, 1), strides=(2, 1), relu=False))
    assert only_step(model).kernel.startswith("conv_any")
    check(model, 3, scalar=False)


def test_kernels_wider_than_the_plane_allows() -> None:
    make = Maker(6)
    model = make.model(make.conv(make.input(2, 40, 3), 3, (1, 35), group=3))
    assert only_step(model).kernel.startswith("conv_any")
    check(model, 1, scalar=False)
    make = Maker(7)
    model = make.model(make.conv(make.input(12, 12, 3), 3, (3, 3), group=3, strides=(5, 5)))
    assert only_step(model).kernel.startswith("conv_any")
    check(model, 1, scalar=False)


@pytest.mark.parametrize("scalar", [False, True])
def test_the_largest_sums_there_are(scalar: bool) -> None:
    """All weights and inputs at one end: chunks of two products, every half word used to the last value."""
    for fill in (-128, 127):
        make = Maker(1)
        model = make.model(make.conv(make.input(4, 4, 64), 9, relu=False, shift=14, bias=False))
        name = model.nodes[0].inputs[1]
        model.tensors[name] = replace(model.tensors[name], data=np.full((9, 1, 1, 64), fill, np.int8))
        program = lower(model)
        runner = Runner(program, plan_program(program), scalar=scalar)
        for kind in ("low", "high", "ends"):
            inputs = random_inputs(model, np.random.default_rng(0), kind)
            np.testing.assert_array_equal(runner.run(inputs)[model.outputs[0]][0], expected(model, inputs["input"]))
