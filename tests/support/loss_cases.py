"""Random maps and objects for the losses."""

from __future__ import annotations

import math

import torch

from support.slow_assign import Object, Place
from support.slow_train import Box, logistic
from uhd.train.targets import Targets

Maps = dict[str, torch.Tensor]
SIZES = ((0.12, 0.2), (0.3, 0.35), (0.5, 0.8))


def random_targets(seed: int, images: int, objects: int, classes: int, *, images_used: int | None = None) -> Targets:
    """Objects in order of their images, as a batch gives them."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(images_used or images, (objects,), generator=generator).sort().values
    size = torch.rand(objects, 2, generator=generator) * 0.7 + 0.03
    boxes = torch.cat([torch.rand(objects, 2, generator=generator), size], 1)
    return Targets(image, torch.randint(max(classes, 1), (objects,), generator=generator), boxes)


def random_maps(
    seed: int, images: int, height: int, width: int, *, classes: int = 1, quality: bool = True, spread: float = 1.5
) -> Maps:
    generator = torch.Generator().manual_seed(seed)
    fields = {"box": 4, "obj": 1, **({"quality": 1} if quality else {}), **({"cls": classes} if classes else {})}
    maps = {}
    for name, count in fields.items():
        part = torch.randn(images, count * len(SIZES), height, width, generator=generator) * spread
        maps[name] = (part.contiguous(memory_format=torch.channels_last) if seed % 2 else part).requires_grad_()
    return maps


def decoded(box: torch.Tensor) -> dict[Place, Box]:
    """Predicted boxes by place, with anchors ``SIZES``."""
    images, _, height, width = box.shape
    values, boxes = box.tolist(), {}
    for image in range(images):
        for anchor, (wide, tall) in enumerate(SIZES):
            for row in range(height):
                for column in range(width):
                    t = [values[image][4 * anchor + k][row][column] for k in range(4)]
                    boxes[image, anchor, row, column] = (
                        (logistic(t[0]) + column) / width,
                        (logistic(t[1]) + row) / height,
                        wide * math.log1p(math.exp(t[2])),
                        tall * math.log1p(math.exp(t[3])),
                    )
    return boxes


def class_logits(cls: torch.Tensor) -> dict[Place, list[float]]:
    images, channels, height, width = cls.shape
    depth, values = channels // len(SIZES), cls.tolist()
    return {
        (image, anchor, row, column): [values[image][anchor * depth + k][row][column] for k in range(depth)]
        for image in range(images)
        for anchor in range(len(SIZES))
        for row in range(height)
        for column in range(width)
    }


def objects_of(targets: Targets) -> list[Object]:
    boxes = [tuple(box) for box in targets.boxes.tolist()]
    return list(zip(targets.image.tolist(), targets.label.tolist(), boxes, strict=True))  # type: ignore[arg-type]


def place_of(row: int, height: int, width: int, anchors: int = len(SIZES)) -> Place:
    """What a row of the candidates' table stands for."""
    cell, anchor = divmod(row, anchors)
    line, column = divmod(cell, width)
    image, line = divmod(line, height)
    return image, anchor, line, column
