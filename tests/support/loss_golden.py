"""The recorded losses of the reference, and how their inputs are made again."""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
import torch

from support.shared import shared_dir
from uhd.detect.decode import split_raw
from uhd.train.targets import Targets


@functools.cache
def recorded() -> dict[str, Any]:
    return json.loads((shared_dir("fixtures", "losses") / "losses.json").read_text())


def flat_targets(images: list[dict[str, Any]], classes: int = 3) -> Targets:
    """Per-image boxes and labels as one ``Targets``; fewer classes than 3 fold the labels."""
    image = [number for number, entry in enumerate(images) for _ in entry["boxes"]]
    label = [label % max(classes, 1) for entry in images for label in entry["labels"]]
    boxes = [box for entry in images for box in entry["boxes"]]
    return Targets(torch.tensor(image), torch.tensor(label), torch.tensor(boxes).reshape(-1, 4))


def raw_map(classes: int, quality: bool) -> torch.Tensor:
    shape = (3, 3 * (5 + quality + classes), 5, 6)
    values = np.random.RandomState(1000 + 10 * classes + quality).normal(0, 1.2, shape)
    return torch.from_numpy(values.astype(np.float32))


def maps_of(raw: torch.Tensor, classes: int, quality: bool) -> dict[str, torch.Tensor]:
    return split_raw(raw, 3, classes, quality)
