"""From uniform numbers to augmented pictures and their boxes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from uhd.train.augment.canvas import Canvas
from uhd.train.augment.config import AugmentConfig
from uhd.train.augment.geometry import RandomCrop, RandomResizedCrop
from uhd.train.augment.op import CanvasOp, Op, PictureOp
from uhd.train.augment.pictures import Pictures, noise
from uhd.train.augment.render import render
from uhd.train.photos import PhotoStore


class Pipeline:
    """The operations of a configuration for one size and resize mode. Holds no state between calls."""

    def __init__(self, config: AugmentConfig, size: tuple[int, int], mode: str) -> None:
        """``size`` is (height, width) of the network's input."""
        self.pre, self.post, self.size, self.mode = config.pre, config.post, size, mode
        self._ops: tuple[Op, ...] = (*config.pre, *config.post)

    def draw(self, generator: Generator, count: int) -> list[Tensor]:
        """Numbers for a whole batch of ``count`` samples: [count, draws] for each operation."""
        return [op.arrange(torch.rand(op.draws * count, generator=generator), count) for op in self._ops]

    def draw_for(self, seed: int, photos: Tensor) -> list[Tensor]:
        """Numbers that depend on the seed and each photo's place in the store alone, so that evaluation repeats."""
        return [noise(photos + 0x51ED2701 * (seed + 1), op.draws, stream) for stream, op in enumerate(self._ops)]

    def __call__(self, store: PhotoStore, photos: Tensor, numbers: Sequence[Tensor]) -> tuple[Canvas, Pictures]:
        """Augment ``photos`` [b] of the store with ``numbers`` of [b, draws] each.

        Operations that move things are planned first, in their order, then the pixels are read once, then colours
        change, in their order: moving and colouring a pixel may be swapped.
        """
        canvas = Canvas(store, photos)
        parts = list(zip(self._ops, numbers, strict=True))
        for number, (op, u) in enumerate(parts):
            if number == len(self.pre):
                self._reduce(canvas)
            if isinstance(op, CanvasOp):
                op.plan(canvas, u)
        planes, white = render(canvas, self.size, self.mode)
        pictures = Pictures(planes, white, torch.zeros(canvas.count, dtype=torch.bool))
        for op, u in parts:
            if isinstance(op, PictureOp):
                op.paint(pictures, u)
        return canvas, pictures

    def _reduce(self, canvas: Canvas) -> None:
        """From here on the canvas counts the pixels of the network's input, if any operation still asks."""
        if any(isinstance(op, CanvasOp) for op in self.post):
            canvas.rescale(self.size[1], self.size[0])


def for_evaluation(config: AugmentConfig) -> AugmentConfig:
    """The configuration for validation photos: what is evaluated must not depend on the labels.

    A crop without objects is kept as it is (in training the whole photo would take its place).
    """

    def blind(op: Op) -> Op:
        return op.model_copy(update={"allow_empty": True}) if isinstance(op, (RandomCrop, RandomResizedCrop)) else op

    return AugmentConfig(tuple(map(blind, config.pre)), tuple(map(blind, config.post)))
