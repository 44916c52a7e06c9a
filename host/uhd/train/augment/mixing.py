"""Several photos in one picture. Partners are drawn from the whole store, unchanged."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from uhd.train.augment.canvas import MIN_AREA, Canvas
from uhd.train.augment.op import CanvasOp, Factors, between, probability, whole_between
from uhd.train.augment.pictures import noise

#: Labels are single precision: an edge of whole pixels may come out a little beside it.
_ROUNDING = 1e-2


def _partners(u: Tensor, canvas: Canvas) -> Tensor:
    """Uniform numbers -> photos of the store."""
    return whole_between(u, 0, len(canvas.store) - 1)


class Mosaic(CanvasOp):
    """Four pictures in a square of two by two, each stretched to the size of the first, and a window of one's size."""

    prob: float = probability(1.0)
    min_visibility: float = probability(0.0)

    @property
    def draws(self) -> int:
        return 6

    def plan(self, canvas: Canvas, u: Tensor) -> None:
        chosen = u[:, 0] < self.prob
        size = canvas.size
        corner = torch.where(chosen[:, None], torch.floor(u[:, 4:].double() * (size + 1)), 0.0)
        canvas.crop(corner, size, min_visible=chosen * self.min_visibility, min_area=chosen * MIN_AREA)
        rows = torch.nonzero(chosen)[:, 0]
        for number, place in enumerate(((1.0, 0.0), (0.0, 1.0), (1.0, 1.0))):
            photos = _partners(u[rows, 1 + number], canvas)
            extent = canvas.store.sizes[photos].flip(1).double()
            low = (corner[rows] / size[rows] - torch.tensor(place, dtype=torch.float64)) * extent
            canvas.paint(rows, photos, low, min_visible=self.min_visibility)


class MixUp(CanvasOp):
    """The mean of two pictures, with the boxes of both."""

    prob: float = probability(1.0)

    @property
    def draws(self) -> int:
        return 2

    def plan(self, canvas: Canvas, u: Tensor) -> None:
        rows = torch.nonzero(u[:, 0] < self.prob)[:, 0]
        photos = _partners(u[rows, 1], canvas)
        canvas.paint(rows, photos, torch.zeros(len(rows), 2, dtype=torch.float64), 0.5)


class CopyPaste(CanvasOp):
    """Objects of ``sample_num`` other pictures, cut out as rectangles and put down anywhere.

    At most ``max_paste_objects`` of each picture; their size, as a part of the picture, changes by ``scale_jitter``.
    An object of which a rectangle in front of it leaves less than ``min_visibility`` loses its box.
    """

    prob: float = probability(0.3)
    sample_num: int = Field(default=1, ge=0, le=100)
    max_paste_objects: int = Field(default=5, ge=0)
    scale_jitter: Factors = (0.8, 1.2)
    min_visibility: float = probability(0.25)

    @property
    def draws(self) -> int:
        return 1 + 2 * self.sample_num

    def plan(self, canvas: Canvas, u: Tensor) -> None:
        rows = torch.nonzero(u[:, 0] < self.prob)[:, 0]
        for number in range(self.sample_num):
            self._paste(canvas, rows, _partners(u[rows, 1 + 2 * number], canvas), u[rows, 2 + 2 * number])

    def _paste(self, canvas: Canvas, rows: Tensor, photos: Tensor, seed: Tensor) -> None:
        store = canvas.store
        place, box = store.boxes_of(photos)
        if not len(box):
            return
        count = torch.bincount(place, minlength=len(photos))
        nth = torch.arange(len(box)) - (torch.cumsum(count, 0) - count)[place]
        chance = noise(seed, 4 * int(count.max())).view(len(photos), -1, 4)[place, nth].double()  # [T,4]
        order = torch.argsort(place + chance[:, 0])  # shuffled within each photo
        keep = order[(torch.arange(len(box)) - (torch.cumsum(count, 0) - count)[place[order]]) < self.max_paste_objects]
        place, box, chance = place[keep], box[keep], chance[keep]

        extent = store.sizes[photos[place]].flip(1).double()
        centre, half = store.boxes[box, :2].double() * extent, store.boxes[box, 2:].double() * extent / 2
        near = torch.minimum(torch.floor(centre - half + _ROUNDING).clamp(min=0), extent - 1)
        far = torch.maximum(torch.minimum(torch.ceil(centre + half - _ROUNDING), extent), near + 1)
        size = canvas.size[rows[place]]
        patch = (far - near) / extent * size * between(chance[:, 1:2], self.scale_jitter)
        patch = torch.minimum(torch.floor(patch).clamp(min=1), size)
        corner = whole_between(chance[:, 2:], 0.0, size - patch).double()
        scale = (far - near) / patch
        canvas.add_layers(rows[place], photos[place], near - corner * scale, size * scale, near, far)
        behind = len(canvas.box_row)
        canvas.add_boxes(rows[place], store.labels[box], corner, corner + patch)
        canvas.keep_boxes(~_hidden(canvas, behind, 1 - self.min_visibility))


def _hidden(canvas: Canvas, behind: int, part: float) -> Tensor:
    """Whether more than ``part`` of a box lies beneath one of the boxes from number ``behind`` on, put down later."""
    number = torch.arange(len(canvas.box_row))
    later = (number[behind:] > number[:, None]) & (canvas.box_row[behind:] == canvas.box_row[:, None])  # [T,P]
    box, patch = torch.nonzero(later, as_tuple=True)
    low = torch.maximum(canvas.box_low[box], canvas.box_low[behind:][patch])
    high = torch.minimum(canvas.box_high[box], canvas.box_high[behind:][patch])
    covered = (high - low).clamp(min=0).prod(1) > part * (canvas.box_high - canvas.box_low).prod(1)[box]
    hidden = torch.zeros(len(number), dtype=torch.bool)
    hidden[box[covered]] = True
    return hidden
