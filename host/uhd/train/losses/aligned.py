"""Which candidate learns which object: task-aligned assignment over the cells round each object's centre."""

from __future__ import annotations

import torch
from torch import Tensor

from uhd.train.losses.grid import Matches, one_owner


def _power(base: Tensor, exponent: float) -> Tensor:
    return base.square().square() if exponent == 4 else base.pow(exponent)  # a general power costs 20 times as much


@torch.no_grad()
def assign(
    score: Tensor,
    iou: Tensor,
    row: Tensor,
    valid: Tensor,
    size: int,
    *,
    topk: int,
    score_power: float,
    iou_power: float,
) -> Matches:
    """Task-aligned assignment (arXiv 2108.07755) among the candidates [T,M] near each object, of ``size`` in all.

    ``score`` of the object's class and ``iou`` in 0..1. Alignment is ``score**score_power * iou**iou_power``. Every
    object takes its ``topk`` best aligned candidates with IoU > 0; a candidate wanted by several goes to the one it is
    aligned with best, the earlier on a tie. The score to predict is the alignment, scaled so that an object's best
    candidate gets the object's best IoU.
    """
    aligned = torch.where(valid & (iou > 0), _power(score, score_power) * _power(iou, iou_power), -1.0)
    alignment, place = aligned.topk(min(topk, aligned.shape[1]), dim=1, sorted=False)
    picked, overlap = row.gather(1, place), iou.gather(1, place)
    keep = one_owner(picked, alignment, alignment >= 0, size)
    alignment, overlap = alignment * keep, overlap * keep
    best = alignment.amax(1, keepdim=True).clamp(min=torch.finfo(alignment.dtype).tiny)
    return Matches(picked, keep, (alignment / best * overlap.amax(1, keepdim=True)).clamp(0, 1))
