"""Sampling by index equals cropping and the image room's own resize; boxes follow the pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uhd.errors import DataError
from uhd.image.resize import INTEGER_MODES, network_input_u8, resize_image
from uhd.train.augment.basic import apply_colours, crop_targets, draw_colours, draw_crops
from uhd.train.batches import network_input, plain_batch
from uhd.train.config import TrainConfig
from uhd.train.photos import GREY, Crops, PhotoStore, sample

SIZES = [(40, 64), (186, 224), (37, 211), (224, 149), (5, 7), (64, 64)]


def noise_store(seed: int = 0) -> tuple[PhotoStore, list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    photos = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
    return PhotoStore.build((photo, np.zeros((0, 5), np.float32)) for photo in photos), photos


@pytest.mark.parametrize("mode", INTEGER_MODES)
def test_whole_photos_are_the_image_contract(mode: str) -> None:
    store, photos = noise_store()
    got = plain_batch(store, torch.arange(len(photos)), mode, 64)
    for i, photo in enumerate(photos):
        expected = resize_image(photo, (64, 64), mode)
        assert np.array_equal(got[i].permute(1, 2, 0).numpy(), expected), f"photo {photo.shape}"


@settings(max_examples=80, deadline=None)
@given(
    photo=st.integers(0, len(SIZES) - 1),
    x=st.integers(-60, 200),
    y=st.integers(-60, 200),
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    flip=st.booleans(),
    mode=st.sampled_from(["opencv_inter_nearest", "torch_nearest", "opencv_inter_nearest_yuv422"]),
)
def test_a_window_is_pad_crop_mirror_resize(
    photo: int, x: int, y: int, width: int, height: int, flip: bool, mode: str
) -> None:
    store, photos = noise_store()
    margin = 520
    padded = np.pad(photos[photo], ((margin, margin), (margin, margin), (0, 0)), constant_values=GREY)
    window = padded[margin + y : margin + y + height, margin + x : margin + x + width]
    if flip:
        window = window[:, ::-1]
    crops = Crops(*(torch.tensor([v]) for v in (x, y, width, height)), torch.tensor([flip]))
    got = sample(store, torch.tensor([photo]), crops, (64, 64), mode)
    expected = network_input_u8(np.ascontiguousarray(window), (64, 64), mode)
    assert np.array_equal((network_input(got, mode)[0].permute(1, 2, 0) * 255).round().numpy(), expected)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), left=st.integers(5, 90), top=st.integers(5, 90), wide=st.integers(25, 100))
def test_boxes_follow_the_pixels(seed: int, left: int, top: int, wide: int) -> None:
    """A red rectangle in a blue photo: its pixels in the sampled crop are those that the box says, to one pixel."""
    height, width, tall = 200, 210, wide + 10
    photo = np.zeros((height, width, 3), np.uint8)
    photo[..., 2] = 200
    photo[top : top + tall, left : left + wide] = (255, 0, 0)
    box = [0, (left + wide / 2) / width, (top + tall / 2) / height, wide / width, tall / height]
    store = PhotoStore.build([(photo, np.array([box], np.float32))])
    index = torch.zeros(8, dtype=torch.int64)
    config = TrainConfig(crop_prob=1.0, flip_prob=0.5, crop_min=0.5)
    crops = draw_crops(torch.Generator().manual_seed(seed), store.sizes[index], config)
    targets = crop_targets(store, index, crops, 0.0)
    red = sample(store, index, crops, (64, 64), config.resize_mode)[..., 0] == 255
    for place in range(8):
        rows, columns = np.nonzero(red[place].numpy())
        found = targets.boxes[targets.image == place]
        if not len(found):
            assert not len(rows)
            continue
        cx, cy, w, h = (found[0] * 64).tolist()
        if not len(rows):
            assert min(w, h) < 1.01, "only a sliver may fall between the samples"
            continue
        for low, high, pixels in ((cx - w / 2, cx + w / 2, columns), (cy - h / 2, cy + h / 2, rows)):
            assert abs(pixels.min() - low) <= 1.01 and abs(pixels.max() + 1 - high) <= 1.01


def test_hidden_boxes_are_dropped_and_labels_kept() -> None:
    photo = np.zeros((100, 100, 3), np.uint8)
    rows = np.array([[2, 0.1, 0.5, 0.2, 0.2], [1, 0.5, 0.5, 0.2, 0.2], [0, 0.38, 0.5, 0.2, 0.2]], np.float32)
    store = PhotoStore.build([(photo, rows), (photo, rows[:0]), (photo, rows[1:])])
    window = Crops(*(torch.full((3,), v) for v in (40, 40, 20, 20)), torch.zeros(3, dtype=torch.bool))
    photos = torch.tensor([2, 1, 0])
    kept = crop_targets(store, photos, window, 0.3)
    assert kept.image.tolist() == [0, 0, 2, 2] and kept.label.tolist() == [1, 0, 1, 0]
    assert torch.allclose(kept.boxes[0], torch.tensor([0.5, 0.5, 1.0, 1.0]))
    assert torch.allclose(kept.boxes[1], torch.tensor([0.2, 0.5, 0.4, 1.0]), atol=1e-6)
    assert crop_targets(store, photos, window, 0.41).label.tolist() == [1, 1]


def test_crops_keep_to_their_rules() -> None:
    sizes = torch.tensor([[120, 200], [300, 80]]).repeat(500, 1)
    config = TrainConfig(crop_prob=0.8, crop_min=0.4, crop_max=1.3, flip_prob=0.25)
    crops = draw_crops(torch.Generator().manual_seed(0), sizes, config)
    for start, length, side in ((crops.y, crops.height, sizes[:, 0]), (crops.x, crops.width, sizes[:, 1])):
        smaller = length <= side
        assert ((start >= 0) & (start + length <= side))[smaller].all(), "a smaller window lies inside"
        assert ((start <= 0) & (start + length >= side))[~smaller].all(), "a larger one holds the photo"
        ratio = length / side
        assert ratio.min() > 0.4 * 0.87 and ratio.max() < 1.3 * 1.15
    whole = (crops.width == sizes[:, 1]) & (crops.height == sizes[:, 0])
    assert 0.15 < whole.float().mean() < 0.27 and 0.2 < crops.flip.float().mean() < 0.3


def test_colours_within_their_rules() -> None:
    off = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, "channel_gain": 0.0, "grey_prob": 0.0}
    rgb = torch.randint(0, 256, (4, 8, 8, 3), dtype=torch.uint8)
    same = apply_colours(rgb, *draw_colours(torch.Generator(), 4, TrainConfig(**off)))
    assert torch.equal(same, rgb)
    grey = apply_colours(rgb, *draw_colours(torch.Generator(), 4, TrainConfig(**{**off, "grey_prob": 1.0})))
    assert (grey.max(3).values - grey.min(3).values).max() <= 1
    luma = rgb.float() @ torch.tensor([0.299, 0.587, 0.114])
    assert (grey[..., 0].float() - luma).abs().max() <= 0.51
    bright = apply_colours(rgb, *draw_colours(torch.Generator(), 4, TrainConfig(**{**off, "brightness": 0.1})))
    shift = (bright.int() - rgb.int())[(bright > 0) & (bright < 255)]
    assert 0 < shift.abs().max() <= 26
    turn = draw_colours(torch.Generator(), 4, TrainConfig(**{**off, "hue": 1.0}))
    assert (apply_colours(torch.full_like(rgb, 90), *turn) == 90).all(), "grey has no hue"


def test_no_photos_is_an_error() -> None:
    with pytest.raises(DataError, match="no photos"):
        PhotoStore.build([])
