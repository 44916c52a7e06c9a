"""Sums of convolutions against sums written out in Python integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uhd.espdl.model import EspdlModel, Node, Tensor
from uhd.quantize.accumulators import bound_findings, limited_convolutions, measure, range_findings, worst_case


def conv_model(
    weight: np.ndarray, bias: np.ndarray | None, size: tuple[int, int], *, depthwise: bool = False, stride: int = 1,
    dilation: int = 1, pad: int = 0, target: str = "esp32s3", bits: int = 8,
) -> EspdlModel:  # fmt: skip
    """One convolution of an int8 map; ``weight`` is [N, H, W, C], or [1, H, W, N] if depthwise."""
    kernel = list(weight.shape[1:3])
    channels_in = weight.shape[3]
    channels_out = weight.shape[3] if depthwise else weight.shape[0]
    out = [(s + 2 * pad - (k - 1) * dilation - 1) // stride + 1 for s, k in zip(size, kernel, strict=True)]
    tensors = {
        "x": Tensor("x", (1, *size, channels_in), "int8", (-5,)),
        "w": Tensor("w", weight.shape, "int8", (-5,), weight),
        "y": Tensor("y", (1, *out, channels_out), "int8", (-5,)),
    }
    inputs = ["x", "w"]
    if bias is not None:
        tensors["b"] = Tensor("b", bias.shape, "int32", (-10,), bias)
        inputs.append("b")
    attributes = {
        "group": channels_in if depthwise else 1, "kernel_shape": kernel, "strides": [stride] * 2,
        "dilations": [dilation] * 2, "pads": [pad] * 4,
    }  # fmt: skip
    node = Node("/conv", "Conv", tuple(inputs), ("y",), attributes, bits)
    return EspdlModel("m", target, (node,), tensors, ("x",), ("y",), "", 0)


def sums_by_hand(model: EspdlModel, image: np.ndarray) -> tuple[int, int]:
    """(largest |finished sum|, largest |partial sum| in the worst order), one product at a time."""
    node = model.nodes[0]
    weight = model.tensors["w"].data
    assert weight is not None
    bias = model.tensors["b"].data if "b" in model.tensors else None
    a = node.attributes
    pad, stride, dilation = a["pads"][0], a["strides"][0], a["dilations"][0]
    depthwise = a["group"] > 1
    _, out_h, out_w, out_c = model.tensors["y"].shape
    _, h, w, c = model.tensors["x"].shape
    final = partial = 0
    for y in range(out_h):
        for x in range(out_w):
            for n in range(out_c):
                start = int(bias[n]) if bias is not None else 0
                products = []
                for ky in range(weight.shape[1]):
                    for kx in range(weight.shape[2]):
                        sy, sx = y * stride + ky * dilation - pad, x * stride + kx * dilation - pad
                        if not (0 <= sy < h and 0 <= sx < w):
                            continue
                        if depthwise:
                            products.append(int(image[sy, sx, n]) * int(weight[0, ky, kx, n]))
                        else:
                            products += [int(image[sy, sx, i]) * int(weight[n, ky, kx, i]) for i in range(c)]
                final = max(final, abs(start + sum(products)))
                up = sum(p for p in [start, *products] if p > 0)
                down = -sum(p for p in [start, *products] if p < 0)
                partial = max(partial, up, down)
    return final, partial


def no_activations(model: EspdlModel, inputs: dict[str, Any]) -> dict[str, Any]:
    return {}


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1), channels=st.integers(1, 4), out=st.integers(1, 4), kernel=st.sampled_from([1, 3]),
    stride=st.integers(1, 2), dilation=st.integers(1, 2), depthwise=st.booleans(), with_bias=st.booleans(),
)  # fmt: skip
def test_measured_sums_are_those_written_out(
    seed: int, channels: int, out: int, kernel: int, stride: int, dilation: int, depthwise: bool, with_bias: bool
) -> None:
    depthwise = depthwise and channels > 1
    rng = np.random.default_rng(seed)
    shape = (1, kernel, kernel, channels) if depthwise else (out, kernel, kernel, channels)
    weight = rng.integers(-128, 128, shape, dtype=np.int8)
    count = channels if depthwise else out
    bias = rng.integers(-5000, 5000, count, dtype=np.int32) if with_bias else None
    model = conv_model(
        weight, bias, (6, 5), depthwise=depthwise, stride=stride, dilation=dilation, pad=dilation * (kernel // 2)
    )
    images = [rng.integers(-128, 128, (1, 6, 5, channels), dtype=np.int8) for _ in range(2)]
    (result,) = measure(model, [{"x": image} for image in images], no_activations)
    by_hand = [sums_by_hand(model, image[0]) for image in images]
    assert result.operator == "/conv"
    assert result.final == max(final for final, _ in by_hand)
    assert result.partial == max(partial for _, partial in by_hand)
    assert result.final <= result.partial <= worst_case(model, model.nodes[0])


def test_worst_case_is_reached_by_the_worst_input() -> None:
    rng = np.random.default_rng(3)
    weight = rng.integers(-128, 128, (3, 1, 1, 40), dtype=np.int8)
    bias = np.array([100, -7, 50], np.int32)
    model = conv_model(weight, bias, (1, 3))
    # For each channel the input with the signs of -weight, at -128: w * x = +128 |w| where w < 0.
    sums = [abs(int((np.where(weight[n, 0, 0] < 0, -128, 127).astype(int) * weight[n, 0, 0]).sum()) + int(bias[n]))
            for n in range(3)]  # fmt: skip
    bound = worst_case(model, model.nodes[0])
    assert max(sums) <= bound <= max(sums) * 128 / 127 + 2 * 128


@pytest.mark.parametrize(
    ("target", "bits", "expected"), [("esp32s3", 8, 1), ("esp32s3", 16, 0), ("c", 8, 0), ("esp32p4", 8, 0)]
)
def test_only_int8_on_the_s3_is_limited(target: str, bits: int, expected: int) -> None:
    model = conv_model(np.ones((1, 1, 1, 4), np.int8), None, (2, 2), target=target, bits=bits)
    assert len(list(limited_convolutions(model))) == expected
    assert len(measure(model, [{"x": np.zeros((1, 2, 2, 4), np.int8)}], no_activations)) == expected


def test_an_overflow_on_real_pictures_is_an_error_and_a_possible_one_a_note() -> None:
    """64 channels of 127 * 127 sum to 1,032,256; a lane holds 524,287."""
    model = conv_model(np.full((1, 1, 1, 64), 127, np.int8), None, (1, 1))
    assert [f.severity for f in bound_findings(model)] == ["note"]
    quiet = measure(model, [{"x": np.full((1, 1, 1, 64), 10, np.int8)}], no_activations)
    assert range_findings(model, quiet, 1) == []
    loud = measure(model, [{"x": np.full((1, 1, 1, 64), 127, np.int8)}], no_activations)
    (finding,) = range_findings(model, loud, 1)
    assert (finding.severity, finding.operator) == ("error", "/conv")
    assert "1,032,256" in finding.message and "524,287" in finding.message


def test_sums_that_cancel_are_a_warning() -> None:
    weight = np.full((1, 1, 1, 128), 127, np.int8)
    weight[..., 1::2] = -127
    model = conv_model(weight, None, (1, 1))
    ranges = measure(model, [{"x": np.full((1, 1, 1, 128), 127, np.int8)}], no_activations)
    assert (ranges[0].final, ranges[0].partial) == (0, 64 * 127 * 127)
    assert [f.severity for f in range_findings(model, ranges, 1)] == ["warning"]


def test_inner_convolutions_take_what_the_engine_computed() -> None:
    model = conv_model(np.full((1, 1, 1, 2), 3, np.int8), None, (1, 1))
    node = Node("/conv", "Conv", ("inner", "w"), ("y",), model.nodes[0].attributes)
    model = EspdlModel("m", "esp32s3", (node,), model.tensors, ("x",), ("y",), "", 0)
    ranges = measure(
        model, [{"x": np.zeros((1, 1, 1, 2), np.int8)}], lambda m, i: {"inner": np.full((1, 1, 1, 2), 7, np.int8)}
    )
    assert ranges[0].final == 42
