"""Mirrors, crops, shifts and zooms."""

from __future__ import annotations

from typing import Annotated, Any, Self

import torch
from pydantic import Field
from torch import Tensor

from uhd.train.augment.canvas import MIN_AREA, Canvas
from uhd.train.augment.op import Amounts, CanvasOp, ClassSwap, Factors, between, probability, whole_between

#: Windows that RandomResizedCrop tries.
_TRIES = 10


class HorizontalFlip(CanvasOp):
    """Mirror left and right; ``class_swap_map`` renames labels of mirrored objects (a left hand becomes a right)."""

    class_swap_map: ClassSwap = Field(default_factory=dict)

    def plan(self, canvas: Canvas, u: Tensor) -> None:
        canvas.mirror(u[:, 0] < self.prob, 0, self.class_swap_map)


class VerticalFlip(CanvasOp):
    """Mirror top and bottom."""

    def plan(self, canvas: Canvas, u: Tensor) -> None:
        canvas.mirror(u[:, 0] < self.prob, 1, {})


class RandomScale(CanvasOp):
    """Enlarge or shrink about the centre; the picture keeps its size, a shrunk one gets a grey margin."""

    scale_range: Factors = (1.0, 1.0)
    keep_aspect_ratio: bool = True
    min_visibility: float = probability(0.0)

    @property
    def draws(self) -> int:
        return 3

    def plan(self, canvas: Canvas, u: Tensor) -> None:
        factor = between(u[:, 1:].double(), self.scale_range)
        if self.keep_aspect_ratio:
            factor = factor[:, :1].expand(-1, 2)
        chosen = (u[:, 0] < self.prob)[:, None]
        span = torch.where(chosen, (canvas.size / factor).round().clamp(min=1), canvas.size)
        low = torch.floor((canvas.size - span) / 2)
        canvas.crop(low, span, min_visible=chosen[:, 0] * self.min_visibility, min_area=chosen[:, 0] * MIN_AREA)


class Translation(CanvasOp):
    """Shift by up to ``translate`` of each side; ``fill`` is the colour of what comes in."""

    translate: float = Field(default=0.0, ge=0.0, le=1.0, allow_inf_nan=False)
    fill: Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=3, max_length=3)] = [114, 114, 114]
    min_visibility: float = probability(0.0)

    @property
    def draws(self) -> int:
        return 3

    def plan(self, canvas: Canvas, u: Tensor) -> None:
        chosen = u[:, 0] < self.prob
        shift = torch.trunc(between(u[:, 1:].double(), (-self.translate, self.translate)) * canvas.size)
        low = torch.where(chosen[:, None], -shift, 0.0)
        canvas.background[chosen] = torch.tensor(self.fill, dtype=torch.float32)
        canvas.crop(low, canvas.size, min_visible=chosen * self.min_visibility, min_area=chosen * MIN_AREA)


class RandomCrop(CanvasOp):
    """Crop a window of a part of the area, where enough objects are in it; otherwise the picture stays whole.

    ``ratio``: part of the picture's area, or a range. ``aspect_ratio``: width / height, a range, or none for the
    picture's own. Up to ``max_retries`` windows are tried for one with ``min_boxes`` objects (any, if the picture had
    none, or with ``allow_empty``). ``deterministic``: one try, in the centre, with the middle of each range.
    """

    number = "ratio"

    prob: float = probability(1.0)
    ratio: Amounts = (0.9, 0.9)
    aspect_ratio: Factors | None = None
    min_boxes: int = Field(default=1, ge=0)
    max_retries: int = Field(default=10, ge=1, le=1000)
    allow_empty: bool = False
    deterministic: bool = False
    min_visibility: float = probability(0.0)

    @property
    def tries(self) -> int:
        return 1 if self.deterministic else self.max_retries

    @property
    def draws(self) -> int:
        return 1 + (0 if self.deterministic else 4 * self.tries)

    def windows(self, size: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Corner and extent [b,tries,2] of the windows tried in canvases of ``size`` [b,2]; u [b,tries,4]."""
        width, height = size[:, None, 0], size[:, None, 1]
        area = width * height * between(u[..., 0], self.ratio).clamp(1e-6, 1)
        side = torch.minimum(torch.sqrt(area).round().clamp(min=1), torch.minimum(width, height))
        aspect = between(u[..., 1], self.aspect_ratio) if self.aspect_ratio else (width / height).expand_as(area)
        tall = torch.sqrt(area / aspect).round().clamp(min=1)
        wide = (tall * aspect).round().clamp(min=1)
        shrink = torch.minimum(width / wide, height / tall)
        fits = shrink >= 1
        tall = torch.where(fits, tall, torch.floor(tall * shrink).clamp(min=1))
        wide = torch.where(fits, wide, torch.floor(wide * shrink).clamp(min=1))
        square = aspect == 1
        span = torch.stack([torch.where(square, side, wide), torch.where(square, side, tall)], 2)
        span = torch.minimum(span, size[:, None])
        room = size[:, None] - span
        return torch.floor(room / 2) if self.deterministic else whole_between(u[..., 2:], 0.0, room).double(), span

    def plan(self, canvas: Canvas, u: Tensor) -> None:
        tries = self.tries
        middle = torch.full((canvas.count, 1, 4), 0.5, dtype=torch.float64)
        chances = middle if self.deterministic else u[:, 1:].double().reshape(-1, tries, 4)
        low, span = self.windows(canvas.size, chances)
        least = 0 if self.allow_empty else self.min_boxes
        _first_good(canvas, u[:, 0] < self.prob, low, span, torch.ones(low.shape[:2]), least, self.min_visibility)


class RandomResizedCrop(CanvasOp):
    """Crop a window of a part ``scale`` of the area with an aspect in ``ratio``, where an object stays visible.

    Ten windows are tried for one that lies in the picture and keeps an object (any, if there was none, or with
    ``allow_empty``); boxes less visible than ``min_visibility`` are dropped. If none is found, it stays whole.
    """

    scale: Factors = (0.6, 1.0)
    ratio: Factors = (0.75, 1.33)
    min_visibility: float = probability(0.25)
    allow_empty: bool = False

    @property
    def draws(self) -> int:
        return 1 + 4 * _TRIES

    def plan(self, canvas: Canvas, u: Tensor) -> None:
        chances = u[:, 1:].double().reshape(-1, _TRIES, 4)
        size = canvas.size[:, None]
        area = size.prod(2) * between(chances[..., 0], self.scale)
        aspect = between(chances[..., 1], self.ratio)
        span = torch.stack([torch.sqrt(area * aspect), torch.sqrt(area / aspect)], 2).round().clamp(min=1)
        fits = (span <= size).all(2)
        span = torch.minimum(span, size)
        low = whole_between(chances[..., 2:], 0.0, size - span).double()
        least = 0 if self.allow_empty else 1
        _first_good(canvas, u[:, 0] < self.prob, low, span, fits, least, self.min_visibility)


def _first_good(
    canvas: Canvas, chosen: Tensor, low: Tensor, span: Tensor, fits: Tensor, min_boxes: int, min_visible: float
) -> None:
    """Crop the ``chosen`` [b] samples to the first of the windows ``low``, ``span`` [b,tries,2] that is good.

    It must be among ``fits`` [b,tries] and keep ``min_boxes`` boxes, or the sample had none; without one the sample
    stays whole.
    """
    of = canvas.box_row
    box_low, box_high = canvas.box_low[:, None], canvas.box_high[:, None]
    seen = (torch.minimum(box_high, low[of] + span[of]) - torch.maximum(box_low, low[of])).clamp(min=0).prod(2)
    least = torch.maximum(MIN_AREA * span[of].prod(2), min_visible * (box_high - box_low).prod(2))
    kept = torch.zeros(low.shape[:2]).index_add_(0, of, ((seen > 0) & (seen >= least)).float())
    empty = torch.bincount(of, minlength=canvas.count) == 0
    good = fits.bool() & ((kept >= min_boxes) | empty[:, None])
    chosen = chosen & good.any(1)
    first = good.int().argmax(1)  # of equal values, the first
    rows = torch.arange(canvas.count)
    low = torch.where(chosen[:, None], low[rows, first], 0.0)
    span = torch.where(chosen[:, None], span[rows, first], canvas.size)
    canvas.crop(low, span, min_visible=chosen * min_visible, min_area=chosen * MIN_AREA)


class ZoomCrop(CanvasOp):
    """The default: a window whose sides are ``scale`` times the picture's, anywhere it fits, perhaps mirrored.

    The aspect changes by a factor e^a, a in -aspect..aspect. A window larger than the picture shows a grey margin.
    ``mirror`` is the share mirrored, whether cropped or not; a box less visible than ``min_visible`` is dropped.
    """

    prob: float = probability(0.9)
    scale: Factors = (0.45, 1.15)
    aspect: float = Field(default=0.25, ge=0.0, le=4.0, allow_inf_nan=False)
    mirror: float = probability(0.5)
    min_visible: float = probability(0.3)
    class_swap_map: ClassSwap = Field(default_factory=dict)

    @property
    def draws(self) -> int:
        return 6

    def mild(self) -> Self:
        half: dict[str, Any] = {"scale": ((1 + self.scale[0]) / 2, (1 + self.scale[1]) / 2), "aspect": self.aspect / 2}
        return self.model_copy(update=half)

    def plan(self, canvas: Canvas, u: Tensor) -> None:
        scale = between(u[:, 0], self.scale)
        skew = torch.exp(between(u[:, 1], (-self.aspect, self.aspect)) / 2)
        whole = canvas.size.float()
        span = torch.stack([whole[:, 0] * scale * skew, whole[:, 1] * scale / skew], 1).round().clamp(min=1)
        span = torch.where((u[:, 2] < self.prob)[:, None], span, whole)
        low = (u[:, 4:].flip(1) * (whole - span)).round()
        canvas.crop(low.double(), span.double(), min_visible=self.min_visible)
        canvas.mirror(u[:, 3] < self.mirror, 0, self.class_swap_map)
