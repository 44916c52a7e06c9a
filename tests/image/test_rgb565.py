"""RGB565 camera frames on the host: the wording of the contract, OpenCV's packing, and the photo path."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.camera import slow_rgb565_to_network
from support.photos import random_rgb
from uhd.errors import ConfigError, DataError
from uhd.image.resize import network_input_u8
from uhd.image.rgb565 import rgb565_to_network, rgb565_to_rgb, rgb_to_rgb565


@given(
    half_width=st.integers(1, 90), height=st.integers(1, 90), extra=st.integers(0, 9), half_out=st.integers(1, 12),
    rows=st.integers(1, 24), big=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_equals_the_contract(
    half_width: int, height: int, extra: int, half_out: int, rows: int, big: bool, seed: int
) -> None:
    width, stride, out = 2 * half_width, 4 * half_width + extra, (rows, 2 * half_out)
    data = random.Random(seed).randbytes(stride * (height - 1) + 2 * width)
    made = rgb565_to_network(data, width, height, stride, out, big_endian=big)
    np.testing.assert_array_equal(made, slow_rgb565_to_network(data, width, height, stride, out, big))


def test_every_pixel_value() -> None:
    words = np.arange(65536, dtype=np.uint16)
    rgb = rgb565_to_rgb(words)
    assert rgb[0].tolist() == [0, 0, 0] and rgb[-1].tolist() == [255, 255, 255]
    for channel, levels in enumerate((32, 64, 32)):
        values = np.unique(rgb[:, channel])
        assert len(values) == levels
        # Repeating bits is the nearest of the evenly spaced levels, up to one.
        assert np.abs(values - np.linspace(0, 255, levels)).max() < 1
    back = rgb_to_rgb565(rgb.reshape(256, 256, 3)).reshape(-1).view("<u2")
    np.testing.assert_array_equal(back, words)


@pytest.mark.parametrize("size", [(240, 240), (240, 320), (480, 640), (64, 64)])
@pytest.mark.parametrize("big", [False, True])
def test_equals_the_photo_path_of_the_expanded_picture(size: tuple[int, int], big: bool) -> None:
    frame = rgb_to_rgb565(random_rgb(3, *size), big_endian=big)
    expanded = rgb565_to_rgb(frame.view(">u2" if big else "<u2").astype(np.uint16))
    expected = network_input_u8(expanded, (64, 64), "opencv_inter_nearest_yuv422")
    np.testing.assert_array_equal(rgb565_to_network(frame, size[1], size[0], big_endian=big), expected)


def test_cutting_the_low_bits_moves_luma_little() -> None:
    rgb = random_rgb(4, 240, 240)
    exact = network_input_u8(rgb, (64, 64), "opencv_inter_nearest_yuv422").astype(int)
    made = rgb565_to_network(rgb_to_rgb565(rgb), 240, 240).astype(int)
    assert 0 < np.abs(made - exact).max() <= 7


@pytest.mark.parametrize(
    ("size", "width", "height", "stride", "message"),
    [
        (1000, 5, 4, 10, "5 pixels wide"),
        (1000, 4, 4, 7, "stride of 7 bytes"),
        (31, 4, 4, 8, "holds 31 bytes"),
        (1000, 4, 0, 8, "sizes must be at least 1"),
    ],
)
def test_errors(size: int, width: int, height: int, stride: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rgb565_to_network(bytes(size), width, height, stride)


def test_odd_network_width() -> None:
    with pytest.raises(ConfigError, match="even network width, not 63"):
        rgb565_to_network(bytes(8192), 64, 64, out=(64, 63))
