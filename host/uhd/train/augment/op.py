"""What an augmentation is: a strict set of parameters, and what it does to the samples of a batch.

Every random choice comes from uniform numbers in [0, 1) that the operation is handed, a row of ``draws`` numbers a
sample. So a sample's numbers, not the order of calls, decide what happens to it.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from torch import Tensor

from uhd.train.augment.canvas import Canvas
from uhd.train.augment.pictures import Pictures


def _pair(value: Any) -> Any:
    """One number means a range without width; YAML's lists are pairs."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return (value, value)
    return tuple(value) if isinstance(value, list) else value


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if not all(map(math.isfinite, value)) or value[0] > value[1]:
        raise ValueError("a range is [lowest, highest]")
    return value


def _not_negative(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] < 0:
        raise ValueError("must not be negative")
    return value


def _above_zero(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] <= 0:
        raise ValueError("must be above zero")
    return value


def _text_keys(value: Any) -> Any:
    """JSON and quoted YAML keys of a class map are texts."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        return value
    return {int(k) if isinstance(k, str) and k.isdecimal() else k: v for k, v in value.items()}


Range = Annotated[tuple[float, float], BeforeValidator(_pair), AfterValidator(_ordered)]
Amounts = Annotated[Range, AfterValidator(_not_negative)]
"""A range of numbers from 0."""
Factors = Annotated[Range, AfterValidator(_above_zero)]
"""A range of numbers above 0."""
Counts = Annotated[tuple[int, int], BeforeValidator(_pair), AfterValidator(_ordered)]
"""A range of whole numbers, both ends included."""
Kernels = Annotated[Counts, AfterValidator(_above_zero)]
ClassSwap = Annotated[dict[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]], BeforeValidator(_text_keys)]
"""Label (index in the list of classes) -> label of the mirrored object."""


def probability(default: float) -> Any:
    return Field(default=default, ge=0.0, le=1.0, allow_inf_nan=False)


def between(u: Tensor, ends: tuple[float, float]) -> Tensor:
    """Uniform numbers moved to a range of reals."""
    return u * (ends[1] - ends[0]) + ends[0]


def whole_between(u: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """Uniform numbers moved to whole numbers from ``low`` to ``high``, both included; int64."""
    span = torch.as_tensor(high, dtype=torch.float64) - low + 1
    top = torch.as_tensor(high, dtype=torch.float64)
    return torch.minimum(torch.floor(u.double() * span) + low, top).long()


class Op(BaseModel):
    """An augmentation. Unknown keys and wrong types are errors; ``prob`` is the share of samples that it changes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    number: ClassVar[str | None] = "prob"
    """The key that a bare number stands for."""

    prob: float = probability(0.0)

    @property
    def draws(self) -> int:
        """Uniform numbers a sample takes; the first one decides whether the sample is changed."""
        return 1

    def arrange(self, raw: Tensor, count: int) -> Tensor:
        """``draws * count`` numbers as drawn for a whole batch -> [count, draws], a row a sample."""
        return raw.view(self.draws, count).T

    def mild(self) -> Self:
        """The operation of the last, mild epochs: the same, unless a subclass says otherwise."""
        return self


class CanvasOp(Op):
    """Moves, mixes or drops things before any pixel is read."""

    def plan(self, canvas: Canvas, u: Tensor) -> None:
        """Change the canvas; ``u`` [b, draws]."""
        raise NotImplementedError


class PictureOp(Op):
    """Changes the values of pixels, at the network's resolution."""

    def paint(self, pictures: Pictures, u: Tensor) -> None:
        """Change the pictures whose first number is below ``prob``; ``u`` [b, draws]."""
        rows = torch.nonzero(u[:, 0] < self.prob)[:, 0]
        if not len(rows):
            return
        u = u[rows, 1:]
        if len(rows) == len(pictures.planes):
            pictures.planes = self.change(pictures.planes, u, pictures.white).clamp_(0, pictures.white)
        else:
            rows = rows.to(pictures.planes.device)
            changed = self.change(pictures.planes[rows], u, pictures.white)
            pictures.planes[rows] = changed.clamp_(0, pictures.white)

    def change(self, planes: Tensor, u: Tensor, white: float) -> Tensor:
        """New planes for ``planes`` [n,3,h,w] in 0..white, by ``u`` [n, draws - 1]; may exceed the range."""
        raise NotImplementedError
