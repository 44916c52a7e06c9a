"""Boxes go where their pixels go, through every operation that moves pixels, alone and chained in any order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.painted import augmented, boxes_match, boxes_valid, painted_store
from uhd.train.photos import PhotoStore

MOVES: dict[str, Any] = {
    "HorizontalFlip": {"prob": 0.5},
    "VerticalFlip": {"prob": 0.5},
    "RandomScale": {"prob": 1.0, "scale_range": [0.4, 1.8]},
    "Translation": {"prob": 1.0, "translate": 0.4},
    "RandomCrop": {"ratio": [0.2, 1.0], "aspect_ratio": [0.5, 2.0]},
    "RandomResizedCrop": {"prob": 1.0, "min_visibility": 0.0},
    "ZoomCrop": {"min_visible": 0.0, "prob": 1.0},
    "Mosaic": {"prob": 0.7},
    "MixUp": {"prob": 0.7},
    "CopyPaste": {"prob": 1.0, "sample_num": 2, "min_visibility": 0.0},
}


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6))
@pytest.mark.parametrize("name", MOVES)
def test_each_operation(name: str, seed: int) -> None:
    planes, targets = augmented(painted_store(seed), {name: MOVES[name]}, seed=seed)
    boxes_valid(targets)
    boxes_match(planes, targets)
    assert len(targets)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), names=st.permutations(list(MOVES)), length=st.integers(2, 5), post=st.integers(0, 2))
def test_chains(seed: int, names: list[str], length: int, post: int) -> None:
    chosen = names[:length]
    values = {
        "data_augment_pre": {name: MOVES[name] for name in chosen[post:]},
        "data_augment_post": {name: MOVES[name] for name in chosen[:post]},
    }
    planes, targets = augmented(painted_store(seed, 4), values, seed=seed, size=(64, 96))
    boxes_valid(targets)
    small = sum(name in ("RandomCrop", "RandomResizedCrop", "ZoomCrop", "RandomScale") for name in chosen)
    boxes_match(planes, targets, slack=1.01 if small < 2 else 2.5)  # crops of crops: a photo's pixel gets wide


def test_labels_are_swapped_only_where_mirrored() -> None:
    store = painted_store(3, 8)
    for values in ({"HorizontalFlip": {"prob": 0.5, "class_swap_map": {0: 1, 1: 0}}},
                   {"ZoomCrop": {"prob": 0.0, "class_swap_map": {"0": 1, "1": 0}}}):  # fmt: skip
        _, targets = augmented(store, values, seed=4, count=64)
        place, rows = store.boxes_of(torch.arange(64) % 8)
        before = store.boxes[rows]
        mirrored = (targets.boxes[:, 0] - before[:, 0]).abs() > 1e-5
        assert 30 < int(mirrored.sum()) < 98
        assert torch.equal(targets.label, torch.where(mirrored, 1 - store.labels[rows], store.labels[rows]))
        assert torch.allclose(targets.boxes[mirrored, 0], 1 - before[mirrored, 0])
    _, targets = augmented(store, {"HorizontalFlip": {"prob": 1.0, "class_swap_map": {0: 1}}})
    assert set(targets.label.tolist()) == {1}, "a map may be one way"


def one_box(left: float, width: float) -> PhotoStore:
    rows = np.array([[0, left + width / 2, 0.5, width, 0.5]], np.float32)
    return PhotoStore.build([(np.zeros((100, 100, 3), np.uint8), rows)])


@pytest.mark.parametrize(("share", "kept"), [(0.2, 0), (0.3, 1)])
def test_hardly_visible_boxes_are_dropped(share: float, kept: int) -> None:
    """The centred crop of half the area cuts at x = 0.15: ``share`` of the box stays."""
    store = one_box(0.15 - 0.1 * (1 - share), 0.1)
    crop = {"RandomCrop": {"ratio": 0.49, "aspect_ratio": 1.0, "deterministic": True, "allow_empty": True}}
    crop["RandomCrop"]["min_visibility"] = 0.25
    _, targets = augmented(store, crop)
    assert len(targets) == kept
    if kept:
        assert targets.boxes[0].tolist() == pytest.approx(
            [share * 0.1 / 0.7 / 2, 0.5, share * 0.1 / 0.7, 0.5 / 0.7], abs=1e-5
        )


def test_crops_that_lose_the_objects_are_tried_again_then_given_up() -> None:
    store = one_box(0.0, 0.05)
    crop = {"ratio": 0.09, "aspect_ratio": 1.0, "max_retries": 1}
    _, once = augmented(store, {"RandomCrop": crop}, count=400)
    cropped = once.boxes[:, 3] > 0.51
    assert len(once) == 400 and 0.0 < cropped.float().mean() < 0.1
    _, often = augmented(store, {"RandomCrop": {**crop, "max_retries": 20}}, count=400)
    assert (often.boxes[:, 3] > 0.51).float().mean() > 5 * cropped.float().mean()
    _, empty = augmented(store, {"RandomCrop": {**crop, "allow_empty": True}}, count=400)
    assert len(empty) < 60


def test_a_pasted_object_takes_the_box_of_what_it_hides() -> None:
    store = painted_store(5, 8, objects=3)
    values = {"CopyPaste": {"prob": 1.0, "sample_num": 3}}
    _, kept = augmented(store, values, seed=1, count=64)
    _, every = augmented(store, {"CopyPaste": {**values["CopyPaste"], "min_visibility": 0.0}}, seed=1, count=64)
    assert len(every) == 64 * 12 and 64 * 6 < len(kept) < len(every)
    _, few = augmented(store, {"CopyPaste": {"prob": 1.0, "max_paste_objects": 1, "min_visibility": 0.0}}, count=64)
    assert len(few) == 64 * 4


def test_small_boxes_are_outliers() -> None:
    store = one_box(0.4, 0.02)
    assert len(augmented(store, {"RemoveOutliers": 0.0099})[1]) == 1
    assert len(augmented(store, {"RemoveOutliers": 0.0101})[1]) == 0
    after = {"data_augment_pre": {"RandomCrop": {"ratio": 0.25, "aspect_ratio": 1.0, "deterministic": True}}}
    assert len(augmented(store, {**after, "data_augment_post": {"RemoveOutliers": 0.0101}})[1]) == 1, "measured last"


def test_photos_without_objects_stay_and_are_cropped() -> None:
    rng = np.random.default_rng(0)
    store = PhotoStore.build((rng.integers(0, 256, (90, 120, 3), dtype=np.uint8), np.zeros((0, 5))) for _ in range(4))
    values = {name: MOVES[name] for name in ("RandomCrop", "RandomResizedCrop", "Mosaic", "CopyPaste", "MixUp")}
    planes, targets = augmented(store, values)
    whole, _ = augmented(store, None)
    assert planes.shape == (4, 3, 64, 64) and len(targets) == 0
    assert not any(torch.equal(a, b) for a, b in zip(planes, whole, strict=True))


def test_translation_shows_its_colour_and_zooming_out_grey() -> None:
    store = painted_store(1, 3)
    planes, _ = augmented(store, {"Translation": {"prob": 1.0, "translate": 0.5, "fill": [1, 2, 250]}}, seed=2)
    fill = (planes == torch.tensor([1.0, 2.0, 250.0])[:, None, None]).all(1)
    assert (fill.flatten(1).sum(1) > 0).all()
    zoomed, _ = augmented(store, {"RandomScale": {"prob": 1.0, "scale_range": 0.5}})
    assert (zoomed[:, :, :15] == 114).all() and (zoomed[:, :, :, 50:] == 114).all()
    inside, _ = augmented(store, None, size=(32, 32))
    assert (zoomed[:, :, 16:48, 16:48] == inside).float().mean() > 0.95, "the whole photo in the middle, but for edges"
