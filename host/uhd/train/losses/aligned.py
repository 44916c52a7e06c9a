"""Which candidate learns which object: task-aligned assignment over the cells round each object's centre."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from uhd.train.losses.boxes import pair_iou
from uhd.train.targets import Targets


@dataclass(frozen=True)
class Grid:
    """Layout of the candidates of one image: number ``(a * height + y) * width + x``."""

    anchors: int
    height: int
    width: int

    @property
    def size(self) -> int:
        return self.anchors * self.height * self.width


@dataclass(frozen=True)
class Assignment:
    """The positives: ``image``, ``candidate`` and ``target`` [P] int64, and ``score`` [P] in 0..1 to be predicted."""

    image: Tensor
    candidate: Tensor
    target: Tensor
    score: Tensor


def centre_candidates(boxes: Tensor, grid: Grid, radius: int) -> tuple[Tensor, Tensor]:
    """Candidates of all anchors in the cells at most ``radius`` away from each box's centre cell.

    ``boxes`` [T,4]. Returns numbers [T, A*(2r+1)^2] and which of them lie in the grid; the others are numbered 0.
    """
    device = boxes.device
    steps = torch.arange(-radius, radius + 1, device=device)
    limits = torch.tensor([grid.width, grid.height], device=device)
    centre = (boxes[:, :2] * limits).long()
    centre = torch.minimum(centre.clamp(min=0), limits - 1)
    x = centre[:, 0, None, None] + steps[None, None, :]
    y = centre[:, 1, None, None] + steps[None, :, None]
    inside = (x >= 0) & (x < grid.width) & (y >= 0) & (y < grid.height)
    cell = torch.where(inside, y * grid.width + x, 0).flatten(1)
    first = torch.arange(grid.anchors, device=device) * (grid.height * grid.width)
    number = (first[None, :, None] + cell[:, None, :]).flatten(1)
    valid = inside.flatten(1)[:, None, :].expand(-1, grid.anchors, -1).flatten(1)
    return torch.where(valid, number, 0), valid


@torch.no_grad()
def assign(
    scores: Tensor,
    boxes: Tensor,
    targets: Targets,
    grid: Grid,
    *,
    topk: int,
    radius: int,
    score_power: float,
    iou_power: float,
) -> Assignment:
    """Task-aligned assignment (arXiv 2108.07755) restricted to the cells round an object's centre.

    ``scores`` [B,N,C] in 0..1, ``boxes`` [B,N,4]. Alignment is ``score**score_power * IoU**iou_power``. Every object
    takes its ``topk`` best aligned candidates with IoU > 0; a candidate wanted by several goes to the one it is
    aligned with best, the earlier on a tie. The score to predict is the alignment, scaled so that an object's best
    candidate gets the object's best IoU.
    """
    count, wide = len(targets), grid.size
    number, valid = centre_candidates(targets.boxes, grid, radius)
    row = targets.image[:, None] * wide + number
    iou = pair_iou(boxes.reshape(-1, 4)[row], targets.boxes[:, None])
    classes = scores.shape[-1]
    score = scores.reshape(-1)[row * classes + (targets.label[:, None] if classes > 1 else 0)]
    aligned = torch.where(valid & (iou > 0), score.pow(score_power) * iou.pow(iou_power), -1.0)

    best, place = aligned.topk(min(topk, aligned.shape[1]), dim=1)
    wanted = best >= 0
    target = torch.arange(count, device=boxes.device)[:, None].expand_as(place)[wanted]
    picked = row.gather(1, place)[wanted]
    alignment, overlap = best[wanted], iou.gather(1, place)[wanted]

    total = scores.shape[0] * wide
    highest = alignment.new_full((total,), -1.0).scatter_reduce(0, picked, alignment, "amax")
    wins = alignment == highest[picked]
    owner = torch.full((total,), count, device=boxes.device)
    owner = owner.scatter_reduce(0, picked[wins], target[wins], "amin")
    wins &= owner[picked] == target
    target, picked, alignment, overlap = target[wins], picked[wins], alignment[wins], overlap[wins]

    zeros = alignment.new_zeros(count)
    top_alignment = zeros.scatter_reduce(0, target, alignment, "amax")
    top_iou = zeros.scatter_reduce(0, target, overlap, "amax")
    scaled = alignment / top_alignment[target].clamp(min=torch.finfo(alignment.dtype).tiny) * top_iou[target]
    return Assignment(picked // wide, picked % wide, target, scaled.clamp(0, 1))
