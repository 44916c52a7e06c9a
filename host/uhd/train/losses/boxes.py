"""Overlap of boxes in element-wise pairs, differentiable. Boxes are [..., 4] as cx, cy, w, h.

The gradients are written out by hand: a batch has a thousand pairs, on which ``autograd`` would spend its time with a
hundred tiny operations. They go to the first box, the prediction; the second is the truth.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_EPS = 1e-7

Planes = tuple[Tensor, ...]
"""cx, cy, w, h of boxes as four tensors that broadcast: kernels run over whole planes instead of strides."""
Kind = Literal["iou", "giou", "ciou"]


def planes(boxes: Tensor) -> Planes:
    return boxes.unbind(-1)


def plane_iou(first: Planes, second: Planes) -> Tensor:
    """IoU of planes, for assignments: plain operations, nothing kept for a gradient that nobody asks for."""
    sides = []
    for axis in (0, 1):
        half_a, half_b = first[axis + 2] * 0.5, second[axis + 2] * 0.5
        high = torch.minimum(first[axis] + half_a, second[axis] + half_b)
        sides.append((high - torch.maximum(first[axis] - half_a, second[axis] - half_b)).clamp(min=0))
    overlap = sides[0] * sides[1]
    return overlap / (first[2] * first[3] + second[2] * second[3] - overlap + _EPS)


def _overlap(kind: Kind, a: Tensor, b: Tensor, slopes: bool) -> tuple[Tensor, Tensor | None]:
    """The overlap of ``a`` with ``b`` [4,...], and its derivative by ``a`` [4,...].

    Where two edges are equal, each counts half, as in ``torch.minimum``.
    """
    centre, side = a[:2], a[2:]
    half, half_b = side * 0.5, b[2:] * 0.5
    low, high = centre - half, centre + half
    low_b, high_b = b[:2] - half_b, b[:2] + half_b
    reach = torch.minimum(high, high_b) - torch.maximum(low, low_b)
    meet = reach.clamp(min=0)
    overlap = meet[0] * meet[1]
    union = side[0] * side[1] + b[2] * b[3] - overlap + _EPS
    iou = overlap / union
    value = iou
    if slopes:
        inner_high = (torch.sign(high_b - high) + 1) * 0.5  # the share to which the edge of a bounds the overlap
        inner_low = (torch.sign(low - low_b) + 1) * 0.5
        shift, grow = inner_high - inner_low, (inner_high + inner_low) * 0.5
        d_overlap = meet.flip(0) * (reach >= 0)  # by the overlap's own sides
        d_overlap = torch.cat([d_overlap * shift, d_overlap * grow])
        d_area = torch.cat([torch.zeros_like(side), side.flip(0)])
        d_value = (d_overlap * (1 + iou) - d_area * iou) / union
    if kind == "iou":
        return value, d_value if slopes else None
    hull = torch.maximum(high, high_b) - torch.minimum(low, low_b)
    if slopes:
        d_hull = torch.cat([-shift, 1 - grow])  # of each side of the hull, by that axis' centre and side
    if kind == "giou":
        area = hull[0] * hull[1] + _EPS
        value = iou - (area - union) / area
        if slopes:
            d_union = d_area - d_overlap
            d_area_hull = (d_hull.view(2, 2, *d_hull.shape[1:]) * hull.flip(0)).view_as(d_hull)
            d_value = d_value + d_union / area - d_area_hull * (union / area.square())
        return value, d_value if slopes else None
    diagonal = hull.square().sum(0)
    bound = diagonal.clamp(min=_EPS)
    apart = centre - b[:2]
    away = apart.square().sum(0) / bound
    ratio = side[0] / (side[1] + _EPS)
    angle = torch.atan(ratio) - torch.atan(b[2] / (b[3] + _EPS))
    aspect = angle.square() * (4 / math.pi**2)
    alpha = aspect / (1 - iou + aspect + _EPS)
    value = iou - away - alpha * aspect
    if slopes:
        d_bound = (d_hull.view(2, 2, *d_hull.shape[1:]) * hull).view_as(d_hull)
        d_value = d_value + d_bound * (2 * away / bound * (diagonal >= _EPS))
        d_value[:2] -= 2 * apart / bound
        turn = alpha * angle * (8 / math.pi**2) / ((side[1] + _EPS) * (1 + ratio.square()))
        d_value[2:] -= torch.stack([turn, -turn * ratio])
    return value, d_value if slopes else None


class _Overlap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kind: Kind, first: Tensor, second: Tensor) -> Tensor:
        value, slope = _overlap(kind, first, second, ctx.needs_input_grad[1])
        ctx.shape = first.shape
        if slope is not None:
            ctx.save_for_backward(slope)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None]:
        (slope,) = ctx.saved_tensors
        return None, (slope * gradient).sum_to_size(ctx.shape), None


def overlap(kind: Kind, first: Tensor, second: Tensor) -> Tensor:
    """The named overlap of boxes given as [4,...], which broadcast; gradient to ``first`` only.

    ``iou``: 0..1. ``giou``, -1..1: IoU minus the share of the enclosing box that neither covers (arXiv 1902.09630).
    ``ciou``: IoU minus normalised centre distance minus the weighted aspect difference (arXiv 1911.08287), whose weight
    carries no gradient. A box loss is 1 minus it.
    """
    if kind not in ("iou", "giou", "ciou"):
        raise ValueError(f"unknown overlap {kind!r}: choose one of iou, giou, ciou")
    value: Tensor = _Overlap.apply(kind, first, second.detach())  # type: ignore[no-untyped-call]
    return value


def pair_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU of each pair of boxes [...,4], [...] in 0..1; the two broadcast against each other."""
    return overlap("iou", first.movedim(-1, 0), second.movedim(-1, 0))


def pair_giou(first: Tensor, second: Tensor) -> Tensor:
    """``giou`` of each pair of boxes [...,4]."""
    return overlap("giou", first.movedim(-1, 0), second.movedim(-1, 0))


def pair_ciou(first: Tensor, second: Tensor) -> Tensor:
    """``ciou`` of each pair of boxes [...,4]. ``first`` is the prediction."""
    return overlap("ciou", first.movedim(-1, 0), second.movedim(-1, 0))
