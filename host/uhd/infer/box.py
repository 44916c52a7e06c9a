"""What a detector returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Box:
    """One object in a picture. ``x0``, ``y0``, ``x1``, ``y1`` are its edges in pixels, inside the picture.

    A box over the whole picture has x0 = y0 = 0, x1 = width, y1 = height.
    """

    score: float
    class_id: int
    class_name: str
    x0: float
    y0: float
    x1: float
    y1: float
    picture_width: int
    picture_height: int

    @property
    def normalised(self) -> tuple[float, float, float, float]:
        """The edges x0, y0, x1, y1 as fractions of the picture, 0..1."""
        width, height = self.picture_width, self.picture_height
        return self.x0 / width, self.y0 / height, self.x1 / width, self.y1 / height


def boxes_of(rows: NDArray[Any], width: int, height: int, class_names: Sequence[str]) -> list[Box]:
    """Rows [n,6] score, class, cx, cy, w, h (normalised) as boxes; parts outside are cut, what is empty is left out."""
    rows = np.asarray(rows, np.float64).reshape(-1, 6)
    half = rows[:, 4:6] / 2
    low, high = np.clip(rows[:, 2:4] - half, 0, 1), np.clip(rows[:, 2:4] + half, 0, 1)
    size = np.array([width, height])
    found = []
    for (score, label), (x0, y0), (x1, y1) in zip(rows[:, :2].tolist(), low * size, high * size, strict=True):
        if x1 > x0 and y1 > y0:
            number = int(label)
            name = class_names[number] if number < len(class_names) else f"class_{number}"
            edges = (float(x0), float(y0), float(x1), float(y1))
            found.append(Box(score, number, name, *edges, width, height))
    return found
