"""Camera bytes to model integers in C++: equal to the host's function and to the contract's wording (T13)."""

from __future__ import annotations

import ctypes
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from support.camera import slow_camera_to_network
from support.fakemodel import FakeModel
from support.twinlib import library
from uhd.errors import DataError
from uhd.image.yuyv import camera_to_network

C = library().c


def cpp(data: bytes, width: int, height: int, stride: int, out: tuple[int, int]) -> NDArray[np.uint8] | int:
    """The C++ result, or its negative status."""
    result = np.full((*out, 2), 77, np.uint8)
    status = C.uhd_twin_camera_to_network(
        data, ctypes.c_uint32(len(data)), ctypes.c_uint32(width), ctypes.c_uint32(height), ctypes.c_uint32(stride),
        ctypes.c_uint16(out[1]), ctypes.c_uint16(out[0]), ctypes.c_void_p(result.ctypes.data),
    )  # fmt: skip
    return result if status == 0 else int(status)


@given(
    half_width=st.integers(1, 170), height=st.integers(1, 200), extra=st.integers(0, 70), tail=st.integers(0, 90),
    out=st.tuples(st.integers(1, 70), st.integers(1, 70)), seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_equals_the_contract(
    half_width: int, height: int, extra: int, tail: int, out: tuple[int, int], seed: int
) -> None:
    width, stride = 2 * half_width, 4 * half_width + extra
    data = random.Random(seed).randbytes(stride * (height - 1) + 2 * width + tail)
    result = cpp(data, width, height, stride, out)
    np.testing.assert_array_equal(result, slow_camera_to_network(data, width, height, stride, out))
    np.testing.assert_array_equal(result, camera_to_network(data, width, height, stride, out))


@pytest.mark.parametrize("height", [1, 63, 96, 240, 480, 1201])
@pytest.mark.parametrize("width", [2, 62, 64, 66, 96, 240, 320, 640, 1602])
@pytest.mark.parametrize("extra", [0, 1, 64])
def test_equals_the_host_for_camera_sizes(width: int, height: int, extra: int) -> None:
    stride = 2 * width + extra
    data = np.random.default_rng(width + height).integers(0, 256, stride * height, dtype=np.uint8).tobytes()
    np.testing.assert_array_equal(
        cpp(data, width, height, stride, (64, 64)), camera_to_network(data, width, height, stride)
    )


@given(
    st.integers(1, 90), st.integers(1, 40), st.integers(0, 9), st.lists(st.integers(0, 8000), max_size=25), st.randoms()
)
@settings(max_examples=80, deadline=None)
def test_pieces_in_any_order_give_the_whole(
    half_width: int, height: int, extra: int, cuts: list[int], shuffle: random.Random
) -> None:
    width, stride, out = 2 * half_width, 4 * half_width + extra, (16, 12)
    data = random.Random(half_width).randbytes(stride * height)
    edges = sorted({0, len(data), *(c % len(data) for c in cuts)})
    pieces = list(zip(edges, edges[1:], strict=False))
    shuffle.shuffle(pieces)
    result = np.full((*out, 2), 77, np.uint8)
    for start, end in pieces:
        C.uhd_twin_camera_piece(
            data[start:end], ctypes.c_uint32(start), ctypes.c_uint32(end - start), ctypes.c_uint32(width),
            ctypes.c_uint32(height), ctypes.c_uint32(stride), ctypes.c_uint16(out[1]), ctypes.c_uint16(out[0]),
            ctypes.c_void_p(result.ctypes.data),
        )  # fmt: skip
    np.testing.assert_array_equal(result, cpp(data, width, height, stride, out))


@pytest.mark.parametrize(
    ("width", "height", "stride", "size"),
    [(63, 64, 126, 9000), (0, 64, 128, 9000), (64, 0, 128, 9000), (64, 64, 127, 9000), (64, 64, 128, 8191),
     (65536, 65536, 131072, 9000), (2**31, 2, 2**32 - 1, 9000)],
)  # fmt: skip
def test_sizes_that_do_not_fit_are_refused_by_both(width: int, height: int, stride: int, size: int) -> None:
    assert cpp(bytes(size), width, height, stride, (64, 64)) == -1
    with pytest.raises(DataError):
        camera_to_network(bytes(size), width, height, stride)


def test_the_last_row_may_lack_its_padding() -> None:
    data = random.Random(3).randbytes(200 * 63 + 128)
    np.testing.assert_array_equal(cpp(data, 64, 64, 200, (64, 64)), slow_camera_to_network(data, 64, 64, 200, (64, 64)))


@pytest.mark.parametrize("bits", [8, 16])
def test_network_values_go_through_the_models_table(bits: int) -> None:
    model = FakeModel(bits=bits)
    network = np.random.default_rng(1).permutation(np.arange(64 * 64 * 2) % 256).astype(np.uint8).reshape(64, 64, 2)
    tensor = np.zeros((1, 64, 64, 2), model.dtype)
    function = library(model).c.uhd_twin_network_to_input
    function(ctypes.c_void_p(network.ctypes.data), ctypes.c_void_p(tensor.ctypes.data))
    np.testing.assert_array_equal(tensor[0], model.input_table()[network])
    assert len(np.unique(tensor)) > 100
