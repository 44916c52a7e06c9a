"""Sampling by index equals cropping, mirroring and the image room's own resize."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uhd.errors import ConfigError, DataError
from uhd.image.resize import INTEGER_MODES, RESIZE_MODES, resize_image
from uhd.train.augment.canvas import Canvas
from uhd.train.augment.pictures import Pictures
from uhd.train.augment.render import render
from uhd.train.batches import network_images, network_input, plain_batch, single_chroma_input
from uhd.train.photos import GREY, PhotoStore

torch.set_num_threads(1)

SIZES = [(40, 64), (186, 224), (37, 211), (224, 149), (5, 7), (64, 64), (128, 128)]
FLAT = torch.zeros(1, dtype=torch.bool)


def noise_store(seed: int = 0) -> tuple[PhotoStore, list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    photos = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
    return PhotoStore.build((photo, np.zeros((0, 5), np.float32)) for photo in photos), photos


@pytest.mark.parametrize("mode", RESIZE_MODES)
@pytest.mark.parametrize("size", [(64, 64), (48, 80)])
def test_whole_photos_are_the_image_contract(mode: str, size: tuple[int, int]) -> None:
    store, photos = noise_store()
    got = plain_batch(store, torch.arange(len(photos)), mode, size)
    for i, photo in enumerate(photos):
        expected = resize_image(photo, size, mode)
        found = got[i].permute(1, 2, 0).numpy()
        if mode == "opencv_inter_linear":
            assert np.abs(found - expected).max() < 1e-6, f"photo {photo.shape}"
        else:
            assert np.array_equal(found, expected), f"photo {photo.shape}"


@settings(max_examples=60, deadline=None)
@given(
    photo=st.integers(0, len(SIZES) - 1),
    x=st.integers(-60, 200),
    y=st.integers(-60, 200),
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    flips=st.tuples(st.booleans(), st.booleans()),
    mode=st.sampled_from([mode for mode in RESIZE_MODES if mode != "opencv_inter_linear"]),
)
def test_a_window_is_pad_crop_mirror_resize(
    photo: int, x: int, y: int, width: int, height: int, flips: tuple[bool, bool], mode: str
) -> None:
    store, photos = noise_store()
    margin = 520
    padded = np.pad(photos[photo], ((margin, margin), (margin, margin), (0, 0)), constant_values=GREY)
    window = padded[margin + y : margin + y + height, margin + x : margin + x + width]
    window = window[:: -1 if flips[1] else 1, :: -1 if flips[0] else 1]
    canvas = Canvas(store, torch.tensor([photo]))
    canvas.crop(torch.tensor([[x, y]], dtype=torch.float64), torch.tensor([[width, height]], dtype=torch.float64))
    for axis in (0, 1):
        canvas.mirror(torch.tensor([flips[axis]]), axis, {})
    planes, white = render(canvas, (64, 64), mode)
    got = network_images(Pictures(planes, white, FLAT), mode)[0].permute(1, 2, 0).numpy()
    assert np.array_equal(got, resize_image(np.ascontiguousarray(window), (64, 64), mode))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_crop_of_a_mirrored_crop_is_one_window(data: st.DataObject) -> None:
    store, photos = noise_store()
    window = photos[1]
    canvas = Canvas(store, torch.tensor([1]))
    for _ in range(3):
        height, width = window.shape[:2]
        w, h = data.draw(st.integers(1, width + 20)), data.draw(st.integers(1, height + 20))
        x, y = data.draw(st.integers(-10, width)), data.draw(st.integers(-10, height))
        flip = data.draw(st.booleans())
        padded = np.pad(window, ((400, 400), (400, 400), (0, 0)), constant_values=GREY)
        window = padded[400 + y : 400 + y + h, 400 + x : 400 + x + w][:, :: -1 if flip else 1]
        canvas.crop(torch.tensor([[x, y]], dtype=torch.float64), torch.tensor([[w, h]], dtype=torch.float64))
        canvas.mirror(torch.tensor([flip]), 0, {})
    planes, _ = render(canvas, (32, 32), "opencv_inter_nearest")
    expected = resize_image(np.ascontiguousarray(window), (32, 32), "opencv_inter_nearest")
    assert np.array_equal(planes[0].permute(1, 2, 0).numpy(), (expected * 255).round())


@pytest.mark.parametrize("mode", INTEGER_MODES)
def test_fractions_of_bytes_are_rounded_before_colours_are_packed(mode: str) -> None:
    planes = torch.rand(2, 3, 8, 8) * 255
    got = network_images(Pictures(planes, 255.0, FLAT.repeat(2)), mode)
    rounded = planes.round().to(torch.uint8).permute(0, 2, 3, 1)
    assert torch.equal(got, network_input(rounded, mode))
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_linear_input_of_bytes_and_odd_widths() -> None:
    rgb = torch.randint(0, 256, (1, 6, 7, 3), dtype=torch.uint8)
    assert torch.allclose(network_input(rgb, "torch_bilinear"), rgb.permute(0, 3, 1, 2) / 255)
    with pytest.raises(ConfigError, match="even"):
        single_chroma_input(rgb)


def test_no_photos_is_an_error() -> None:
    with pytest.raises(DataError, match="no photos"):
        PhotoStore.build([])


def test_large_stores_are_indexed_in_64_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    store, photos = noise_store()
    small = plain_batch(store, torch.arange(len(photos)), "torch_nearest", 32)
    monkeypatch.setattr("uhd.train.photos._SMALL", 1)
    assert torch.equal(small, plain_batch(store, torch.arange(len(photos)), "torch_nearest", 32))
