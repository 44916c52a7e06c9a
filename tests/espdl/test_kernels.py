"""Integer kernels against scalar arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.espdl_reference import clamp, conv, round_fraction
from uhd.errors import ModelError
from uhd.espdl import kernels
from uhd.espdl.arith import round_shift, saturate
from uhd.espdl.shapes import Window
from uhd.targets import Rounding

ROUNDINGS: list[Rounding] = ["half_up", "half_even"]


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, object]:
    """Random small convolutions: dense, grouped or depthwise, any geometry that leaves an output."""
    group, per_group, outputs = draw(
        st.sampled_from([(1, 3, 4), (1, 1, 1), (2, 2, 3), (3, 1, 2), (4, 1, 1), (5, 1, 1)])
    )
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilations = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    pads = draw(st.tuples(*[st.integers(0, 2)] * 4))
    need = [max(1, dilations[a] * (kernel[a] - 1) + 1 - pads[a] - pads[a + 2]) for a in (0, 1)]
    return {
        "group": group, "per_group": per_group, "n": outputs * group, "kernel": kernel, "dilations": dilations,
        "pads": pads, "strides": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "size": (need[0] + draw(st.integers(0, 4)), need[1] + draw(st.integers(0, 4))),
        "bits": draw(st.sampled_from([8, 16])), "seed": draw(st.integers(0, 10**6)),
        "relu": draw(st.booleans()), "rounding": draw(st.sampled_from(ROUNDINGS)),
        "shift": draw(st.integers(-3, 12)), "extreme": draw(st.booleans()),
    }  # fmt: skip


@given(convolutions())
@settings(max_examples=120, deadline=None)
def test_convolution_equals_scalar_arithmetic(case: dict[str, object]) -> None:
    group, per_group, n, bits = (int(case[k]) for k in ("group", "per_group", "n", "bits"))  # type: ignore[call-overload]
    kernel, size, pads = case["kernel"], case["size"], case["pads"]
    rng = np.random.default_rng(case["seed"])  # type: ignore[arg-type]
    dtype = f"int{bits}"
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        if case["extreme"]:
            return rng.choice(np.array([low, high, -1, 0, 1]), shape).astype(dtype)
        return rng.integers(low, high + 1, shape).astype(dtype)

    x = draw((*size, per_group * group))  # type: ignore[misc]
    weight = draw((n, *kernel, per_group))  # type: ignore[misc]
    bias = rng.integers(-(2**20), 2**20, n)
    shifts = int(case["shift"]) + rng.integers(0, 4, n)  # type: ignore[call-overload]
    geometry = Window(kernel, case["strides"], pads, case["dilations"], False)  # type: ignore[arg-type]
    stored = weight.transpose(3, 1, 2, 0) if per_group == 1 and n == group and group > 1 else weight
    sums = kernels.conv_sums(x[None], stored, geometry, group) + bias
    result = saturate(round_shift(sums, shifts, case["rounding"]), dtype)  # type: ignore[arg-type]
    result = np.maximum(result, 0) if case["relu"] else result
    expected = conv(
        x, weight, bias.tolist(), strides=case["strides"], pads=pads, dilations=case["dilations"], group=group,  # type: ignore[arg-type]
        shifts=shifts.tolist(), rounding=case["rounding"], bits=bits, relu=case["relu"],  # type: ignore[arg-type]
    )  # fmt: skip
    assert result.shape == (1, *expected.shape)
    assert np.array_equal(result[0], expected)


def test_sums_stay_exact_at_the_worst_case() -> None:
    x = np.full((1, 3, 3, 512), -32768, np.int16)
    weight = np.full((2, 3, 3, 512), -32768, np.int16)
    weight[1, 0, 0, 0] = -32767
    sums = kernels.conv_sums(x, weight, Window((3, 3), (1, 1), (0, 0, 0, 0), (1, 1), False), 1)
    assert sums.reshape(-1).tolist() == [9 * 512 * 2**30, 9 * 512 * 2**30 - 2**15]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(1, 3), st.integers(0, 1), st.booleans())
@settings(max_examples=60)
def test_max_pool_equals_the_largest_under_each_window(
    h: int, w: int, kernel: int, stride: int, padding: int, ceil: bool
) -> None:
    padding = min(padding, kernel // 2)
    if min(h, w) + 2 * padding < kernel:
        return
    x = np.random.default_rng(h * 100 + w).integers(-128, 128, (1, h, w, 2)).astype(np.int8)
    geometry = Window((kernel, kernel), (stride, stride), (padding,) * 4, (1, 1), ceil)
    rows, columns = geometry.output(h, w)
    pooled = kernels.max_pool(x, geometry)
    assert pooled.shape == (1, rows, columns, 2)
    for oy in range(rows):
        for ox in range(columns):
            ys = [y for y in range(oy * stride - padding, oy * stride - padding + kernel) if 0 <= y < h]
            xs = [v for v in range(ox * stride - padding, ox * stride - padding + kernel) if 0 <= v < w]
            assert pooled[0, oy, ox].tolist() == x[0][np.ix_(ys, xs)].max(axis=(0, 1)).tolist()


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("shift", [-9, -1, 0, 1, 5])
@pytest.mark.parametrize("size", [(1, 1), (3, 7), (8, 8), (16, 15)])
def test_mean_is_rounded_once(rounding: Rounding, shift: int, size: tuple[int, int]) -> None:
    x = np.random.default_rng(size[1]).integers(-32768, 32768, (1, *size, 5)).astype(np.int16)
    result = saturate(kernels.mean(x, (1, 2), shift, rounding), "int16")
    scale = Fraction(1, size[0] * size[1]) / Fraction(2) ** shift
    expected = [clamp(round_fraction(int(x[..., c].sum(dtype=np.int64)) * scale, rounding), 16) for c in range(5)]
    assert result.reshape(-1).tolist() == expected


@pytest.mark.parametrize(("size", "to"), [((4, 4), (8, 8)), ((3, 5), (7, 6)), ((6, 6), (2, 3)), ((1, 1), (4, 4))])
def test_resize_takes_the_floor_index(size: tuple[int, int], to: tuple[int, int]) -> None:
    x = np.arange(size[0] * size[1] * 3).reshape(1, *size, 3)
    result = kernels.resize_nearest(x, *to)
    for y in range(to[0]):
        for c in range(to[1]):
            assert result[0, y, c].tolist() == x[0, y * size[0] // to[0], c * size[1] // to[1]].tolist()


def test_int8_table_starts_at_the_lowest_value() -> None:
    table = np.arange(256).astype(np.uint8).view(np.int8)
    x = np.array([-128, -1, 0, 127], np.int8)
    assert kernels.lut(x, table, "half_up").tolist() == [table[0], table[127], table[128], table[255]]
    with pytest.raises(ModelError, match="255 entries"):
        kernels.lut(x, table[1:], "half_up")


@pytest.mark.parametrize(("rounding", "ties"), [("half_up", [1, 2, 3]), ("half_even", [0, 2, 2])])
def test_int16_table_takes_the_nearest_entry(rounding: Rounding, ties: list[int]) -> None:
    table = np.arange(65536 // 32 + 1).astype(np.int16)
    x = np.array([-32768 + 16, -32768 + 48, -32768 + 80], np.int16)
    assert kernels.lut(x, table, rounding).tolist() == ties
    ends = np.array([-32768, 32767], np.int16)
    assert kernels.lut(ends, table, rounding).tolist() == [0, 2048]
    with pytest.raises(ModelError, match="2048 entries"):
        kernels.lut(x, table[:-1], rounding)
