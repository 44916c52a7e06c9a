from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.shared import shared_dir
from uhd.errors import ConfigError
from uhd.image.resize import (
    INTEGER_MODES,
    RESIZE_MODES,
    input_channels,
    network_input_u8,
    network_values,
    opencv_nearest_index,
    resize_image,
    to_bytes,
    torch_nearest_index,
)
from uhd.manifest import ModelManifest

SIZES = st.tuples(st.integers(1, 90), st.integers(1, 45).map(lambda n: 2 * n))


def oracle(rgb: np.ndarray, size: tuple[int, int], mode: str) -> np.ndarray:
    """The operation that each mode is named after, by OpenCV and torch themselves. ``rgb`` is float32 0..1."""
    if mode.startswith("torch"):
        chw = torch.from_numpy(rgb.transpose(2, 0, 1).copy())[None]
        if mode == "torch_nearest":
            out = torch.nn.functional.interpolate(chw, size=size, mode="nearest")
        else:
            out = torch.nn.functional.interpolate(chw, size=size, mode="bilinear", align_corners=False)
        return out[0].numpy().transpose(1, 2, 0)
    if mode == "opencv_inter_linear":
        return np.clip(cv2.resize(rgb, size[::-1], interpolation=cv2.INTER_LINEAR), 0, 1)
    out = cv2.resize(rgb, size[::-1], interpolation=cv2.INTER_NEAREST)
    if mode == "opencv_inter_nearest":
        return out
    byte = np.rint(out * 255).astype(np.uint8)
    if mode.endswith("yuv422"):
        return cv2.cvtColor(byte, cv2.COLOR_RGB2YUV_YUYV).astype(np.float32) / 255
    luma = cv2.cvtColor(byte, cv2.COLOR_RGB2YUV)[..., :1].astype(np.float32) / 255
    if mode.endswith("_bin"):
        return np.where(luma >= 0.5, np.float32(1), np.float32(0))
    if mode.endswith("_tri"):
        return np.where(luma < 1 / 3, 0, np.where(luma < 2 / 3, 0.5, 1)).astype(np.float32)
    return luma


@pytest.mark.parametrize("mode", RESIZE_MODES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), source=st.tuples(st.integers(1, 200), st.integers(1, 200)), size=SIZES)
def test_equals_opencv_and_torch(mode: str, seed: int, source: tuple[int, int], size: tuple[int, int]) -> None:
    rgb = np.random.default_rng(seed).integers(0, 256, (*source, 3), dtype=np.uint8)
    real = rgb.astype(np.float32) / np.float32(255)
    expected = oracle(real, size, mode)
    for picture in (rgb, real):
        found = resize_image(picture, size, mode)
        assert found.dtype == np.float32 and found.shape == (*size, input_channels(mode)) == expected.shape
        if mode in INTEGER_MODES:
            np.testing.assert_array_equal(found, expected)
        else:
            np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


def test_bilinear_of_large_pictures_equals_torch() -> None:
    for source, size in [((1080, 1920), (64, 64)), ((3001, 333), (63, 64)), ((37, 2500), (100, 7))]:
        real = np.random.default_rng(1).random((*source, 3), dtype=np.float32)
        found = resize_image(real, size, "torch_bilinear")
        np.testing.assert_allclose(found, oracle(real, size, "torch_bilinear"), atol=1e-6, rtol=0)


def test_fixtures() -> None:
    folder = shared_dir("fixtures", "preprocess")
    rgb = np.load(folder / "image_rgb_u8.npy")
    golden = np.load(folder / "resized_opencv_4.11.0.npz")
    assert {key.split("__")[0] for key in golden.files} == set(RESIZE_MODES)
    for key in golden.files:
        mode, size = key.split("__")
        height, width = map(int, size.split("x"))
        found = resize_image(rgb, (height, width), mode)
        tolerance = 0.0 if mode in INTEGER_MODES else 1e-6
        np.testing.assert_allclose(found, golden[key], atol=tolerance, rtol=0, err_msg=key)


@pytest.mark.parametrize("target", [64, 48, 80, 7, 160])
def test_nearest_index_of_every_source_size(target: int) -> None:
    for source in range(1, 1300, 1 if target == 64 else 5):
        row = np.arange(source, dtype=np.float32)[None]
        by_opencv = cv2.resize(row, (target, 1), interpolation=cv2.INTER_NEAREST)[0]
        by_torch = torch.nn.functional.interpolate(torch.from_numpy(row)[None], size=target, mode="nearest")[0, 0]
        assert np.array_equal(opencv_nearest_index(source, target), by_opencv), source
        assert np.array_equal(torch_nearest_index(source, target), by_torch.numpy()), source


def test_documented_exceptions_of_the_opencv_index() -> None:
    exact = {n: np.arange(64) * n // 64 for n in range(1, 4097)}
    off = [n for n, index in exact.items() if not np.array_equal(opencv_nearest_index(n, 64), index)]
    assert len(off) == 149 and off[0] == 186
    assert max(np.abs(opencv_nearest_index(n, 64) - exact[n]).max() for n in off) == 1
    assert all(np.array_equal(torch_nearest_index(n, 64), index) for n, index in exact.items())


@pytest.mark.parametrize("mode", INTEGER_MODES)
def test_bytes_and_values_give_the_network_input(mode: str) -> None:
    rgb = np.random.default_rng(4).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    byte = network_input_u8(rgb, (32, 48), mode)
    assert byte.dtype == np.uint8
    np.testing.assert_array_equal(network_values(mode)[byte], oracle(rgb.astype(np.float32) / 255, (32, 48), mode))


def test_threshold_tables() -> None:
    assert np.flatnonzero(np.diff(network_values("opencv_inter_nearest_y_bin"))).tolist() == [127]
    tri = network_values("opencv_inter_nearest_y_tri")
    assert np.flatnonzero(np.diff(tri)).tolist() == [84, 169] and set(tri.tolist()) == {0.0, 0.5, 1.0}
    np.testing.assert_array_equal(network_values("torch_nearest"), np.arange(256, dtype=np.float32) / np.float32(255))


def test_bytes_survive_the_way_through_float() -> None:
    byte = np.arange(256, dtype=np.uint8)
    assert np.array_equal(to_bytes(byte.astype(np.float32) / np.float32(255)), byte)
    assert to_bytes(np.array([-1, 2, 0.5], np.float32)).tolist() == [0, 255, 127]


def test_float_outside_the_range_is_clipped() -> None:
    wild = np.array([[[-1, 0.5, 3]]], dtype=np.float32).repeat(2, axis=1)
    for mode in RESIZE_MODES:
        found = resize_image(wild, (2, 2), mode)
        assert found.min() >= 0 and found.max() <= 1


def test_mode_names() -> None:
    rgb = np.zeros((4, 4, 3), np.uint8)
    assert resize_image(rgb, (2, 2), "OpenCV-Inter-Nearest-YUV422").shape == (2, 2, 2)
    assert set(ModelManifest.model_fields["resize_mode"].annotation.__args__) == set(RESIZE_MODES)
    with pytest.raises(ConfigError, match="unknown resize mode 'area'; choose one of torch_bilinear"):
        resize_image(rgb, (2, 2), "area")


def test_refusals() -> None:
    rgb = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ConfigError, match="even picture width, not 3"):
        resize_image(rgb, (2, 3), "opencv_inter_nearest_yuv422")
    with pytest.raises(ConfigError, match="torch_bilinear has no byte form"):
        network_input_u8(rgb, (2, 2), "torch_bilinear")
    with pytest.raises(ConfigError, match="no byte form"):
        network_values("opencv_inter_linear")
    with pytest.raises(ConfigError, match="at least 1 x 1"):
        resize_image(rgb, (0, 2), "torch_nearest")
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match="expected an RGB picture"):
            resize_image(wrong, (2, 2), "torch_nearest")
    with pytest.raises(ValueError, match="uint8 or float32"):
        resize_image(np.zeros((4, 4, 3)), (2, 2), "torch_nearest")
