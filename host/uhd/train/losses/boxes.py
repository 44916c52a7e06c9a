"""Overlap of boxes in element-wise pairs, differentiable. Boxes are [..., 4] as cx, cy, w, h."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_EPS = 1e-7


def _edges(boxes: Tensor) -> tuple[Tensor, Tensor]:
    half = boxes[..., 2:] / 2
    return boxes[..., :2] - half, boxes[..., :2] + half


def pair_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU of each pair, [...] in 0..1; the two broadcast against each other."""
    (low_a, high_a), (low_b, high_b) = _edges(first), _edges(second)
    overlap = (torch.minimum(high_a, high_b) - torch.maximum(low_a, low_b)).clamp(min=0).prod(-1)
    union = first[..., 2:].prod(-1) + second[..., 2:].prod(-1) - overlap
    return overlap / (union + _EPS)


def pair_giou(first: Tensor, second: Tensor) -> Tensor:
    """Generalised IoU, -1..1: IoU minus the share of the enclosing box that neither covers (arXiv 1902.09630)."""
    (low_a, high_a), (low_b, high_b) = _edges(first), _edges(second)
    overlap = (torch.minimum(high_a, high_b) - torch.maximum(low_a, low_b)).clamp(min=0).prod(-1)
    union = first[..., 2:].prod(-1) + second[..., 2:].prod(-1) - overlap + _EPS
    hull = (torch.maximum(high_a, high_b) - torch.minimum(low_a, low_b)).prod(-1) + _EPS
    return overlap / union - (hull - union) / hull


def pair_ciou(first: Tensor, second: Tensor) -> Tensor:
    """Complete IoU: IoU minus normalised centre distance minus the weighted aspect difference (arXiv 1911.08287).

    The aspect term's weight carries no gradient. ``first`` is the prediction.
    """
    (low_a, high_a), (low_b, high_b) = _edges(first), _edges(second)
    iou = pair_iou(first, second)
    hull = torch.maximum(high_a, high_b) - torch.minimum(low_a, low_b)
    diagonal = hull.square().sum(-1).clamp(min=_EPS)
    distance = (first[..., :2] - second[..., :2]).square().sum(-1)
    angle_a = torch.atan(first[..., 2] / (first[..., 3] + _EPS))
    angle_b = torch.atan(second[..., 2] / (second[..., 3] + _EPS))
    aspect = 4 / math.pi**2 * (angle_a - angle_b).square()
    with torch.no_grad():
        alpha = aspect / (1 - iou + aspect + _EPS)
    return iou - distance / diagonal - alpha * aspect


#: Overlap by the name of the box loss, which is 1 minus it.
OVERLAPS = {"iou": pair_iou, "giou": pair_giou, "ciou": pair_ciou}
