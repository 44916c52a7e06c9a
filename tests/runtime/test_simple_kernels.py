"""The kernels that are no convolutions, called directly, against NumPy and Python integers."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from support import kernels
from support.kernels import guarded, guards_intact, pointer, reference_round

ROUNDINGS = {"u": False, "e": True}
MANY = settings(max_examples=50, deadline=None)


def limits(bits: int) -> tuple[int, int]:
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def call(name: str, *arguments: Any) -> None:
    function = getattr(kernels.library(), name)
    function.restype = None
    function(*(pointer(a) if isinstance(a, np.ndarray) else a for a in arguments))


def result(name: str, before: tuple[Any, ...], shape: tuple[int, ...], bits: int, *after: Any) -> NDArray[Any]:
    """The output array of a kernel; nothing beside it may be written."""
    whole, out = guarded(int(np.prod(shape)), f"int{bits}")
    call(name, *before, out, *after)
    assert guards_intact(whole, out)
    return out.reshape(shape).copy()


def rounded(
    values: NDArray[Any], shift: int, even: bool, bits: int, low: int | None = None, high: int | None = None
) -> NDArray[Any]:
    bottom, top = limits(bits)
    bottom, top = bottom if low is None else low, top if high is None else high
    made = [min(max(reference_round(int(v), shift, even), bottom), top) for v in values.reshape(-1)]
    return np.array(made, f"int{bits}").reshape(values.shape)


def numbers(rng: np.random.Generator, bits: int, *shape: int) -> NDArray[Any]:
    low, high = limits(bits)
    data = rng.integers(low, high + 1, shape)
    data[rng.random(shape) < 0.2] = low
    data[rng.random(shape) < 0.2] = high
    return data.astype(f"int{bits}")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("rounding", "ue")
@pytest.mark.parametrize("shift", [-32, -9, -1, 0, 1, 2, 7, 14, 30, 31, 40, 64])
def test_requantize(bits: int, rounding: str, shift: int) -> None:
    x = np.arange(*limits(bits), 1 if bits == 8 else 37).astype(f"int{bits}")
    low, high = limits(bits)
    for bounds in ((low, high), (0, high), (-5, 90)):
        op = kernels.Requantize(x.size, shift, *bounds)
        made = result(f"requantize_{bits}{rounding}", (ctypes.byref(op), x), x.shape, bits)
        np.testing.assert_array_equal(made, rounded(x.astype(int), shift, ROUNDINGS[rounding], bits, *bounds))


@pytest.mark.parametrize("rounding", "ue")
@pytest.mark.parametrize("shift", [-8, -3, 0, 3, 8])
def test_requantize_between_widths(rounding: str, shift: int) -> None:
    rng = np.random.default_rng(shift + 9)
    narrow, wide = numbers(rng, 8, 300), numbers(rng, 16, 300)
    up, down = kernels.Requantize(300, shift, *limits(16)), kernels.Requantize(300, shift, *limits(8))
    even = ROUNDINGS[rounding]
    made = result(f"requantize_8to16{rounding}", (ctypes.byref(up), narrow), (300,), 16)
    np.testing.assert_array_equal(made, rounded(narrow.astype(int), shift, even, 16))
    made = result(f"requantize_16to8{rounding}", (ctypes.byref(down), wide), (300,), 8)
    np.testing.assert_array_equal(made, rounded(wide.astype(int), shift, even, 8))


STRIDES = {"full": (1, 1, 1), "channel": (0, 0, 1), "pixel": (1, 1, 0), "row": (1, 0, 0), "one": (0, 0, 0)}


@MANY
@given(st.integers(0, 1 << 30), st.sampled_from([8, 16]), st.sampled_from("ue"), st.sampled_from(list(STRIDES)),
       st.tuples(*[st.integers(1, 6)] * 3), st.integers(-3, 33))  # fmt: skip
def test_binary_with_broadcasting(
    seed: int, bits: int, rounding: str, kind: str, shape: tuple[int, int, int], shift: int
) -> None:
    rng = np.random.default_rng(seed)
    repeated = tuple(n if s else 1 for n, s in zip(shape, STRIDES[kind], strict=True))
    a, b = numbers(rng, bits, *shape), numbers(rng, bits, *repeated)

    def steps(of: tuple[int, ...]) -> tuple[int, ...]:
        dense = (of[1] * of[2], of[2], 1)
        return tuple(0 if n == 1 and m != 1 else s for n, m, s in zip(of, shape, dense, strict=True))

    for swap in (False, True):
        first, second = (b, a) if swap else (a, b)
        op = kernels.Binary(*shape, *steps(first.shape), *steps(second.shape), 0, *limits(bits))
        product = kernels.Binary(*shape, *steps(first.shape), *steps(second.shape), shift, *limits(bits))
        p, q = first.astype(int), second.astype(int)
        expected = {"add": p + q, "subtract": p - q}
        for name, values in expected.items():
            made = result(f"{name}_{bits}", (ctypes.byref(op), first, second), shape, bits)
            np.testing.assert_array_equal(made, np.clip(values, *limits(bits)))
        made = result(f"multiply_{bits}{rounding}", (ctypes.byref(product), first, second), shape, bits)
        np.testing.assert_array_equal(made, rounded(p * q, shift, ROUNDINGS[rounding], bits))


def test_binary_in_place() -> None:
    rng = np.random.default_rng(0)
    a, b = numbers(rng, 8, 999), numbers(rng, 8, 999)
    op = kernels.Binary(1, 1, 999, 0, 0, 1, 0, 0, 1, 0, -128, 127)
    expected = np.clip(a.astype(int) + b, -128, 127)
    call("add_8", ctypes.byref(op), a, b, b)
    np.testing.assert_array_equal(b, expected)


@MANY
@given(st.integers(0, 1 << 30), st.sampled_from([8, 16]), st.tuples(*[st.integers(1, 9)] * 3), st.integers(1, 7),
       st.integers(1, 3), st.integers(0, 4), st.integers(1, 3))  # fmt: skip
def test_max_pool(
    seed: int, bits: int, shape: tuple[int, int, int], k: int, stride: int, pad: int, dilation: int
) -> None:
    rng = np.random.default_rng(seed)
    x = numbers(rng, bits, *shape)
    reach = dilation * (k - 1) + 1
    height, width = ((n + 2 * pad - reach) // stride + 1 for n in shape[:2])
    if height < 1 or width < 1:
        return
    window = kernels.Window(*shape, height, width, shape[2], k, k, stride, stride, dilation, dilation, pad, pad)
    padded = np.full((shape[0] + 2 * pad, shape[1] + 2 * pad, shape[2]), limits(bits)[0])
    padded[pad : pad + shape[0], pad : pad + shape[1]] = x
    expected = np.array(
        [[padded[y * stride :, c * stride :][:reach:dilation, :reach:dilation].max((0, 1)) for c in range(width)]
         for y in range(height)]
    )  # fmt: skip
    whole, scratch = guarded(shape[0] * width, f"int{bits}")
    made = result(f"max_pool_{bits}", (ctypes.byref(window), x), (height, width, shape[2]), bits, scratch)
    np.testing.assert_array_equal(made, expected)
    assert guards_intact(whole, scratch)
    if height * width <= shape[0] * shape[1]:
        call(f"max_pool_{bits}", ctypes.byref(window), x, x, scratch)
        np.testing.assert_array_equal(x.reshape(-1)[: made.size], made.reshape(-1))


@MANY
@given(st.integers(0, 1 << 30), st.sampled_from([8, 16]), st.sampled_from("ue"), st.integers(1, 70), st.integers(1, 9),
       st.integers(-9, 9))  # fmt: skip
def test_mean(seed: int, bits: int, rounding: str, pixels: int, channels: int, shift: int) -> None:
    x = numbers(np.random.default_rng(seed), bits, pixels, channels)
    op = kernels.Mean(pixels, channels, 1 << max(-shift, 0), 1 << max(shift, 0))
    made = result(f"mean_{bits}{rounding}", (ctypes.byref(op), x), (channels,), bits)
    low, high = limits(bits)
    for total, value in zip(x.astype(int).sum(0), made, strict=True):
        numerator, denominator = int(total) << max(-shift, 0), pixels << max(shift, 0)
        floor, rest = divmod(numerator, denominator)
        up = 2 * rest > denominator or (2 * rest == denominator and (rounding == "u" or floor % 2 == 1))
        assert value == min(max(floor + up, low), high)


def test_lookup_of_bytes() -> None:
    rng = np.random.default_rng(1)
    table, x = numbers(rng, 8, 256), numbers(rng, 8, 700)
    made = result("lookup_8", (table, ctypes.c_uint32(700), x), (700,), 8)
    np.testing.assert_array_equal(made, table[x.astype(int) + 128])


@pytest.mark.parametrize("rounding", "ue")
@pytest.mark.parametrize("shift", [0, 1, 5, 8])
def test_lookup_of_words(rounding: str, shift: int) -> None:
    rng = np.random.default_rng(2)
    table = numbers(rng, 16, (65536 >> shift) + 1)
    x = np.unique(np.concatenate([numbers(rng, 16, 3000), np.arange(-600, 600).astype(np.int16)]))
    made = result(f"lookup_16{rounding}", (table, ctypes.c_uint32(shift), ctypes.c_uint32(x.size), x), (x.size,), 16)
    index = [reference_round(int(v) + 32768, shift, ROUNDINGS[rounding]) for v in x]
    np.testing.assert_array_equal(made, table[index])


@MANY
@given(st.tuples(*[st.integers(1, 9)] * 4), st.integers(1, 5))
def test_resize(sizes: tuple[int, int, int, int], channels: int) -> None:
    in_h, in_w, out_h, out_w = sizes
    x = np.arange(in_h * in_w * channels).astype(np.int16).reshape(in_h, in_w, channels)
    op = kernels.Resize(in_h, in_w, out_h, out_w, 2 * channels)
    made = result("resize", (ctypes.byref(op), x), (out_h, out_w, channels), 16)
    rows = [y * in_h // out_h for y in range(out_h)]
    columns = [c * in_w // out_w for c in range(out_w)]
    np.testing.assert_array_equal(made, x[rows][:, columns])


@MANY
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.randoms(use_true_random=False), st.sampled_from([8, 16]))
def test_move_transposes_and_slices(shape: list[int], random: Any, bits: int) -> None:
    x = numbers(np.random.default_rng(sum(shape)), bits, *shape)
    order = list(range(len(shape)))
    random.shuffle(order)
    window = tuple(slice(random.randrange(n), None, random.choice([1, 2])) for n in shape)
    view = x[window].transpose(order)
    size = x.itemsize
    source = [s // size for s in view.strides]
    target = [int(np.prod(view.shape[i + 1 :])) for i in range(view.ndim)]
    lead = 6 - view.ndim
    op = kernels.Move()
    for name, values in (("extent", [1] * lead + list(view.shape)), ("from", [0] * lead + source),
                         ("to", [0] * lead + target)):  # fmt: skip
        setattr(op, name, (ctypes.c_uint32 * 6)(*values))
    start = ctypes.c_void_p(view.__array_interface__["data"][0])
    made = result(f"move_{bits}", (ctypes.byref(op), start), view.shape, bits)
    np.testing.assert_array_equal(made, view)
