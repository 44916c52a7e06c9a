"""Deterministic results of the reference: boxes, labels and every pixel."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from support.painted import augmented
from support.shared import shared_dir
from uhd.train.photos import PhotoStore


@cache
def recorded() -> dict[str, Any]:
    return json.loads((shared_dir("fixtures", "preprocess") / "preprocess.json").read_text())


def run(name: str, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, list[int]]:
    folder, given = shared_dir("fixtures", "preprocess"), recorded()["augment_input"]
    rows = np.concatenate([np.array(given["labels"])[:, None], np.array(given["boxes"])], 1).astype(np.float32)
    store = PhotoStore.build([(np.load(folder / "image_rgb_u8.npy"), rows)])
    case = recorded()["augment"][name]["case"]
    values = dict(case["cfg"])
    if "swap" in case:
        values["HorizontalFlip"] = {**values["HorizontalFlip"], "class_swap_map": case["swap"]}
    planes, targets = augmented(store, values, size=size)
    rgb = planes[0].permute(1, 2, 0).round().to(torch.uint8).numpy()
    return rgb, targets.boxes.numpy(), targets.label.tolist()


SAME = (
    "hflip", "hflip_swap", "vflip", "crop_det_sq", "crop_det_sq_07", "crop_det_ar", "crop_det_noar", "crop_det_fail",
    "remove_outliers", "togray", "clahe", "blur3", "median3", "brightness", "contrast", "saturation",
)  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_equals_the_reference(name: str) -> None:
    expected = recorded()["augment"][name]
    rgb, boxes, labels = run(name, tuple(expected["shape"][:2]))
    assert labels == expected["labels"]
    assert np.abs(boxes - np.array(expected["boxes"])).max() < 1e-6
    picture = np.load(shared_dir("fixtures", "preprocess") / "augment_images_u8.npz")[name]
    off = np.abs(picture.astype(int) - rgb)
    exact = name not in ("togray", "saturation")  # bytes are cut off there after, not during, the arithmetic
    assert off.max() <= (0 if exact else 1) and off.mean() < 0.05


def test_non_square_inputs_are_not_turned() -> None:
    """The reference swaps height and width of a cropped picture; the boxes are the same."""
    expected = recorded()["augment"]["crop_nonsquare_out"]
    rgb, boxes, labels = run("crop_nonsquare_out", (48, 80))
    assert rgb.shape == (48, 80, 3) and expected["shape"] == [80, 48, 3] and labels == expected["labels"]
    assert np.abs(boxes - np.array(expected["boxes"])).max() < 1e-6
    square = np.load(shared_dir("fixtures", "preprocess") / "augment_images_u8.npz")["crop_det_sq"]
    assert abs(float(rgb.mean()) - float(square.mean())) < 3, "the same window"


def test_enlarging_keeps_picture_and_boxes_together() -> None:
    """The reference cuts the enlarged picture at its upper left corner, and keeps a box without area."""
    expected = recorded()["augment"]["randomscale_15"]
    rgb, boxes, labels = run("randomscale_15", (90, 120))
    assert labels == expected["labels"][:2] and np.abs(boxes - np.array(expected["boxes"])[:2]).max() < 1e-6
    photo = np.load(shared_dir("fixtures", "preprocess") / "image_rgb_u8.npy")
    assert np.array_equal(rgb[45, 60], photo[45, 60]), "the centre stays"
    assert np.array_equal(rgb[0, 0], photo[15, 20])


def test_shrinking_works_on_pictures_that_are_not_square() -> None:
    assert "broadcast" in recorded()["augment"]["randomscale_05"]["reference_raises"]
    rgb, boxes, labels = run("randomscale_05", (90, 120))
    given = recorded()["augment_input"]
    assert labels == given["labels"]
    assert np.abs(boxes - (np.array(given["boxes"]) * 0.5 + [0.25, 0.25, 0, 0])).max() < 1e-2
    assert (rgb[:20] == 114).all() and not (rgb[30:60, 40:80] == 114).all()
