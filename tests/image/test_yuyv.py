from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.oracles import camera_pixel
from uhd.errors import ConfigError, DataError
from uhd.image.resize import network_input_u8
from uhd.image.yuyv import camera_to_network, rgb_to_yuyv


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    half_width=st.integers(1, 200),
    height=st.integers(1, 90),
    padding=st.integers(0, 9),
    out=st.sampled_from([(64, 64), (48, 80), (3, 5), (1, 1), (7, 2)]),
    spare=st.integers(0, 5),
)
def test_equals_the_contract_pixel_by_pixel(
    seed: int, half_width: int, height: int, padding: int, out: tuple[int, int], spare: int
) -> None:
    width, stride = 2 * half_width, 4 * half_width + padding
    rng = np.random.default_rng(seed)
    frame = rng.integers(0, 256, (height - 1) * stride + 2 * width + spare, dtype=np.uint8).tobytes()
    found = camera_to_network(frame, width, height, stride, out)
    assert found.shape == (*out, 2) and found.dtype == np.uint8
    for y, x in np.ndindex(out):
        assert found[y, x].tolist() == camera_pixel(frame, width, height, stride, out, x, y)


def test_the_picture_of_the_documentation() -> None:
    """160 pixels to 64: Y0 Y2 Y5 Y7, U of pair 0, V of pair 1, U of pair 2, V of pair 3."""
    row = np.zeros(320, np.uint8)
    row[0::2] = np.arange(160)
    row[1::4], row[3::4] = 100 + np.arange(80), 180 - np.arange(80)
    found = camera_to_network(row, 160, 1, out=(1, 64))[0]
    assert found[:4].tolist() == [[0, 100], [2, 179], [5, 102], [7, 177]]


def test_a_frame_of_network_size_equals_the_photo_path() -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    frame = rgb_to_yuyv(rgb)
    expected = network_input_u8(rgb, (64, 64), "opencv_inter_nearest_yuv422")
    np.testing.assert_array_equal(camera_to_network(frame, 64, 64), expected)
    np.testing.assert_array_equal(frame.reshape(64, 64, 2), expected)


def test_luma_of_camera_and_photo_path_agree_where_the_index_does() -> None:
    rgb = np.random.default_rng(2).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    camera = camera_to_network(rgb_to_yuyv(rgb), 320, 240)
    photo = network_input_u8(rgb, (64, 64), "opencv_inter_nearest_yuv422")
    np.testing.assert_array_equal(camera[..., 0], photo[..., 0])


def test_rgb_to_yuyv_equals_opencv() -> None:
    rgb = np.random.default_rng(3).integers(0, 256, (31, 46, 3), dtype=np.uint8)
    frame = rgb_to_yuyv(rgb)
    assert frame.shape == (31, 92) and frame.dtype == np.uint8
    np.testing.assert_array_equal(frame, cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_YUYV).reshape(31, 92))


def test_any_buffer_will_do() -> None:
    frame = np.random.default_rng(4).integers(0, 256, (70, 300), dtype=np.uint8)
    expected = camera_to_network(frame.tobytes(), 140, 70, 300)
    for buffer in (frame, frame.ravel(), memoryview(frame.tobytes()), bytearray(frame.tobytes()), frame[::1]):
        np.testing.assert_array_equal(camera_to_network(buffer, 140, 70, 300), expected)
    cropped = frame[:, :280]  # rows that are not contiguous are packed first
    np.testing.assert_array_equal(camera_to_network(cropped, 140, 70), expected)


def test_the_result_is_a_copy() -> None:
    frame = np.zeros((64, 128), np.uint8)
    found = camera_to_network(frame, 64, 64)
    frame[:] = 255
    assert not found.any()


@pytest.mark.parametrize(
    ("size", "width", "height", "stride", "message"),
    [
        (1000, 5, 4, 10, "5 pixels wide; cameras pack pixels in pairs"),
        (1000, 6, 4, 11, "stride of 11 bytes, but a row of 6 pixels takes 12"),
        (4 * 12 - 1, 6, 4, 12, "holds 47 bytes, but 6 x 4 pixels at a stride of 12 take 48"),
        (3 * 15 + 11, 6, 4, 15, "holds 56 bytes, .* take 57"),
        (0, 0, 4, 12, "sizes must be at least 1"),
        (10, 4, -1, 8, "sizes must be at least 1"),
    ],
)
def test_errors(size: int, width: int, height: int, stride: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        camera_to_network(bytes(size), width, height, stride)


def test_odd_width_of_a_picture() -> None:
    with pytest.raises(ConfigError, match="even picture width"):
        rgb_to_yuyv(np.zeros((2, 3, 3), np.uint8))
