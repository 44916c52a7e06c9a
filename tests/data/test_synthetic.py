from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uhd.data.synthetic import make_scene


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**63), size=st.tuples(st.integers(16, 100), st.integers(16, 100)))
def test_every_scene_is_valid(seed: int, size: tuple[int, int]) -> None:
    rgb, boxes = make_scene(seed, size)
    assert rgb.shape == (*size, 3) and rgb.dtype == np.uint8
    assert boxes.dtype == np.float32 and boxes.shape[1:] == (5,) and len(boxes) <= 5
    assert (boxes[:, 0] == 0).all() and (boxes[:, 3:] > 0).all()
    low, high = boxes[:, 1:3] - boxes[:, 3:] / 2, boxes[:, 1:3] + boxes[:, 3:] / 2
    assert (low >= -1e-6).all() and (high <= 1 + 1e-6).all()


def test_a_seed_is_a_picture() -> None:
    first, second = make_scene(7, (48, 64)), make_scene(7, (48, 64))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    pictures = {hashlib.sha256(make_scene(seed, (32, 32))[0]).digest() for seed in range(30)}
    assert len(pictures) == 30


def test_variety() -> None:
    scenes = [make_scene(seed, (64, 64)) for seed in range(150)]
    counts = np.bincount([len(boxes) for _, boxes in scenes], minlength=6)
    assert counts[0] > 5 and (counts[1:5] > 5).all()
    boxes = np.concatenate([boxes for _, boxes in scenes])
    assert boxes[:, 4].min() < 0.25 and boxes[:, 4].max() > 0.75
    assert np.median(boxes[:, 4] / boxes[:, 3]) > 1.5  # people stand
    assert np.ptp([rgb.mean() for rgb, _ in scenes]) > 60


def test_boxes_are_around_something() -> None:
    """Inside a box the picture varies more than in the plain background beside it, nearly always."""
    inside = []
    for seed in range(60):
        rgb, boxes = make_scene(seed, (96, 96), max_people=1)
        for _, cx, cy, w, h in boxes:
            y0, y1 = round((cy - h / 2) * 96), round((cy + h / 2) * 96)
            x0, x1 = round((cx - w / 2) * 96), round((cx + w / 2) * 96)
            inside.append(rgb[y0:y1, x0:x1].std(axis=(0, 1)).mean() > 0.75 * rgb.std(axis=(0, 1)).mean())
    assert len(inside) > 40 and np.mean(inside) > 0.7


def test_too_small() -> None:
    with pytest.raises(ValueError, match="at least 16 x 16"):
        make_scene(0, (8, 100))
