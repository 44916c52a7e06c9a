"""Sheets of augmented pictures with their boxes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from uhd.image.draw import contact_sheet, draw_labels
from uhd.train.augment.config import AugmentConfig
from uhd.train.augment.pictures import to_bytes
from uhd.train.augment.pipeline import Pipeline
from uhd.train.config import TrainConfig
from uhd.train.photos import PhotoStore
from uhd.train.targets import Targets


def preview(
    store: PhotoStore, config: TrainConfig, count: int, *, augment: AugmentConfig | None = None, columns: int = 6
) -> NDArray[np.uint8]:
    """``count`` pictures of the store (from the first on, again if it has fewer), augmented, at the network's size.

    They are shown before their conversion to luma or packed chroma. Returns an RGB uint8 sheet [H,W,3].
    """
    chosen = AugmentConfig.of(config) if augment is None else augment
    pipeline = Pipeline(chosen, config.input_size, config.resize_mode)
    photos = torch.arange(count) % len(store)
    numbers = pipeline.draw(torch.Generator().manual_seed(config.seed), count)
    canvas, pictures = pipeline(store, photos, numbers)
    return sheet(to_bytes(pictures.planes, pictures.white).cpu(), canvas.targets(), columns)


def sheet(rgb: torch.Tensor, targets: Targets, columns: int = 6) -> NDArray[np.uint8]:
    """RGB uint8 [B,h,w,3] in main memory and their boxes as one RGB sheet; a colour for each label."""
    cells = []
    for number, picture in enumerate(rgb.numpy()):
        mine = targets.image == number
        rows = np.concatenate([targets.label[mine].numpy()[:, None], targets.boxes[mine].numpy()], axis=1)
        cells.append(draw_labels(np.ascontiguousarray(picture[..., ::-1]), rows, min_side=256))
    return np.ascontiguousarray(contact_sheet(cells, columns=columns)[..., ::-1])
