from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.oracles import studio
from uhd.errors import ConfigError
from uhd.image.colour import luma_u8, yuv422_u8


def test_every_colour_equals_opencv() -> None:
    """All 2**24 colours; for the packed form each as a pair of two equal pixels."""
    green, blue = np.mgrid[:256, :256].astype(np.uint8)
    plane = np.stack([np.zeros_like(green), green, blue], axis=-1)
    for red in range(256):
        plane[..., 0] = red
        assert np.array_equal(luma_u8(plane), cv2.cvtColor(plane, cv2.COLOR_RGB2YUV)[..., 0])
        doubled = plane.repeat(2, axis=1)
        assert np.array_equal(yuv422_u8(doubled), cv2.cvtColor(doubled, cv2.COLOR_RGB2YUV_YUYV))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), height=st.integers(1, 40), half=st.integers(1, 40), extremes=st.booleans())
def test_random_pictures_equal_opencv(seed: int, height: int, half: int, extremes: bool) -> None:
    rng = np.random.default_rng(seed)
    shape = (height, 2 * half, 3)
    rgb = rng.choice(np.array([0, 255], np.uint8), shape) if extremes else rng.integers(0, 256, shape, dtype=np.uint8)
    assert np.array_equal(yuv422_u8(rgb), cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_YUYV))
    assert np.array_equal(luma_u8(rgb), cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV)[..., 0])


def test_close_to_the_real_valued_formula() -> None:
    colours = np.random.default_rng(1).integers(0, 256, (500, 3), dtype=np.uint8)
    packed = yuv422_u8(colours[:, None].repeat(2, axis=1)[None, :, :].reshape(1, 1000, 3))[0]
    for number, colour in enumerate(colours):
        y, u, v = studio(colour)
        found = [packed[2 * number, 0], packed[2 * number, 1], packed[2 * number + 1, 1]]
        np.testing.assert_allclose(found, [y, u, v], atol=0.75)


def test_primary_colours_of_the_reference() -> None:
    primary = np.array([[[255, 0, 0]], [[0, 255, 0]], [[0, 0, 255]], [[255, 255, 255]], [[0, 0, 0]], [[128] * 3]])
    pairs = yuv422_u8(primary.repeat(2, axis=1).astype(np.uint8))
    assert pairs[:, 0].tolist() == [[82, 90], [145, 54], [41, 240], [235, 128], [16, 128], [126, 128]]
    assert pairs[:, 1, 1].tolist() == [240, 34, 110, 128, 128, 128]
    assert luma_u8(primary)[:, 0].tolist() == [76, 150, 29, 255, 0, 128]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_torch_batches_equal_numpy(dtype: torch.dtype) -> None:
    rgb = np.random.default_rng(2).integers(0, 256, (2, 3, 10, 14, 3), dtype=np.uint8)
    packed, luma = yuv422_u8(torch.from_numpy(rgb).to(dtype)), luma_u8(torch.from_numpy(rgb).to(dtype))
    assert packed.dtype == luma.dtype == torch.uint8
    assert packed.shape == (2, 3, 10, 14, 2) and luma.shape == (2, 3, 10, 14)
    assert np.array_equal(packed.numpy(), yuv422_u8(rgb)) and np.array_equal(luma.numpy(), luma_u8(rgb))
    assert np.array_equal(yuv422_u8(rgb)[1, 2], cv2.cvtColor(rgb[1, 2], cv2.COLOR_RGB2YUV_YUYV))


def test_refuses_what_has_no_pairs_or_no_colour() -> None:
    with pytest.raises(ConfigError, match="even picture width, not 5"):
        yuv422_u8(np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(ValueError, match="expected RGB"):
        luma_u8(np.zeros((4, 4), np.uint8))
