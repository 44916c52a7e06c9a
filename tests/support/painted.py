"""Photos in which every object is a bright red rectangle, so that boxes can be checked against pixels."""

from __future__ import annotations

import numpy as np
import torch

from uhd.train.augment.config import AugmentConfig
from uhd.train.augment.pipeline import Pipeline
from uhd.train.photos import PhotoStore
from uhd.train.targets import Targets

torch.set_num_threads(1)

#: Red above this is an object: objects have 255 (or half of it, mixed with something), margins 114, the rest 0.
RED = 120


def painted_store(seed: int, count: int = 6, *, objects: int = 2) -> PhotoStore:
    """Photos of several shapes; the object that starts furthest left has label 0, the next 1, ..."""
    rng = np.random.default_rng(seed)
    photos = []
    for _ in range(count):
        height, width = (int(side) for side in rng.integers(120, 240, 2))
        photo = np.zeros((height, width, 3), np.uint8)
        photo[..., 1:] = rng.integers(0, 200, 2)
        rows = []
        for label in range(objects):
            tall, wide = (int(side) for side in rng.integers(30, 70, 2))
            left = int(rng.integers(label * width // objects, max(label * width // objects + 1, width - wide)))
            left, top = min(left, width - wide), int(rng.integers(0, height - tall))
            photo[top : top + tall, left : left + wide] = (255, 0, 0)
            centre = ((left + wide / 2) / width, (top + tall / 2) / height)
            rows.append([label, *centre, wide / width, tall / height])
        photos.append((photo, np.array(rows, np.float32).reshape(-1, 5)))
    return PhotoStore.build(photos)


def augmented(
    store: PhotoStore, values: object, *, seed: int = 0, count: int | None = None, size: tuple[int, int] = (64, 64),
    mode: str = "opencv_inter_nearest",
) -> tuple[torch.Tensor, Targets]:  # fmt: skip
    """RGB planes [n,3,h,w] 0..255 of the store's photos through a configuration given as plain values."""
    pipeline = Pipeline(AugmentConfig.parse(values, "test"), size, mode)
    photos = torch.arange(count or len(store)) % len(store)
    numbers = pipeline.draw(torch.Generator().manual_seed(seed), len(photos))
    canvas, pictures = pipeline(store, photos, numbers)
    return pictures.planes * (255 / pictures.white), canvas.targets()


def boxes_match(planes: torch.Tensor, targets: Targets, slack: float = 1.01) -> None:
    """Assert that red pixels lie in boxes grown by ``slack`` pixels, and boxes shrunk by as much are red all over."""
    height, width = planes.shape[2:]
    y, x = torch.arange(height)[:, None], torch.arange(width)[None]
    for number in range(len(planes)):
        red = planes[number, 0] > RED
        explained = torch.zeros_like(red)
        for cx, cy, w, h in targets.boxes[targets.image == number].tolist():
            x0, x1 = (cx - w / 2) * width, (cx + w / 2) * width
            y0, y1 = (cy - h / 2) * height, (cy + h / 2) * height
            explained |= (x + 1 > x0 - slack) & (x < x1 + slack) & (y + 1 > y0 - slack) & (y < y1 + slack)
            inner = (x >= x0 + slack) & (x + 1 <= x1 - slack) & (y >= y0 + slack) & (y + 1 <= y1 - slack)
            assert bool(red[inner].all()), f"picture {number}: box {(x0, y0, x1, y1)} holds other pixels"
        assert not bool((red & ~explained).any()), f"picture {number}: an object without a box"


def boxes_valid(targets: Targets) -> None:
    """Assert that no box is empty, not finite, or reaches beyond the picture."""
    boxes = targets.boxes.double()
    assert bool(boxes.isfinite().all()) and bool((boxes[:, 2:] > 0).all())
    assert bool((boxes[:, :2] - boxes[:, 2:] / 2 >= -1e-6).all()) and bool(
        (boxes[:, :2] + boxes[:, 2:] / 2 <= 1 + 1e-6).all()
    )
    assert bool((targets.image.diff() >= 0).all()), "boxes come by picture"
