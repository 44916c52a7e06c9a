"""Which candidate learns which object: SimOTA, the cheapest transport of objects to candidates (arXiv 2107.08430)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from uhd.train.losses.boxes import Planes, overlap, plane_iou, planes
from uhd.train.losses.grid import Grid, Matches, Near, decode_rows, one_owner
from uhd.train.targets import Targets

#: What a missing overlap costs, against the cross entropy of the class.
_BOX_COST = 3.0


@torch.no_grad()
def assign_simota(box: Tensor, cls: Tensor | None, sizes: Tensor, targets: Targets, near: Near, topk: int) -> Matches:
    """Every object takes its cheapest candidates among those near its centre; ``score`` is their IoU.

    ``box`` [rows,4] logits, ``cls`` [rows,C] logits if any. A candidate costs the cross entropy of the object's class
    plus 3 (1 - GIoU). An object takes as many as its ``topk`` best IoUs sum up to, at least 1; a candidate that several
    want goes to the one for which it is cheapest.
    """
    predicted, truth = near.decode(box, sizes), planes(targets.boxes[:, None])
    iou = torch.where(near.valid, plane_iou(predicted, truth), 0.0)
    cost = _BOX_COST * (1 - overlap("giou", torch.stack(predicted), targets.boxes.t()[:, :, None]))
    if cls is not None:
        label = targets.label[:, None, None].expand(-1, iou.shape[1], 1)
        cost = cost + functional.softplus(-near.pick(cls).gather(2, label)[:, :, 0])
    cost = cost.masked_fill(~near.valid, torch.inf)
    most = min(topk, iou.shape[1])
    number = iou.topk(most, dim=1, sorted=False).values.sum(1).int().clamp(1, most)
    cheapest, place = cost.topk(most, dim=1, largest=False)
    wanted = (torch.arange(most, device=box.device) < number[:, None]) & cheapest.isfinite()
    row = near.row.gather(1, place)
    keep = one_owner(row, -cheapest, wanted, near.grid.size)
    return Matches(row, keep, iou.gather(1, place) * keep)


def matrix_iou(first: Planes, second: Planes) -> Tensor:
    """The IoU of the reference's assigner, which differs from that of its box loss in the constant."""
    sides = []
    for axis in (0, 1):
        half_a, half_b = first[axis + 2] / 2, second[axis + 2] / 2
        high = torch.minimum(first[axis] + half_a, second[axis] + half_b)
        sides.append((high - torch.maximum(first[axis] - half_a, second[axis] - half_b)).clamp(min=0))
    common = sides[0] * sides[1]
    return common / (first[2] * first[3] + second[2] * second[3] - common + 1e-6)


@torch.no_grad()
def assign_simota_reference(
    box: Tensor, sizes: Tensor, targets: Targets, grid: Grid, topk: int
) -> tuple[Matches, Tensor]:
    """The reference's: an object takes its best IoUs anywhere in the image, and a candidate its first object.

    The cost decides nothing there, so it is not computed. Returns the matches, ``score`` being the
    IoU of all that is wanted, and what is wanted.
    """
    device = box.device
    anchor = torch.arange(grid.anchors, device=device)[:, None]
    order = (torch.arange(grid.height * grid.width, device=device) * grid.anchors + anchor).flatten()
    rows = (torch.arange(grid.images, device=device)[:, None] * len(order) + order).flatten()
    boxes = decode_rows(box, rows, sizes, grid).nan_to_num(0.0, 1e4).view(4, grid.images, -1)
    predicted = planes(boxes.movedim(0, -1).index_select(0, targets.image))
    iou = matrix_iou(predicted, planes(targets.boxes[:, None]))
    most = min(topk, iou.shape[1])
    best, place = iou.topk(most, dim=1)
    number = best.sum(1).int().clamp(1, most)
    wanted = torch.arange(most, device=device) < number[:, None]
    row = targets.image[:, None] * len(order) + order[place]
    keep = one_owner(row, torch.zeros_like(best), wanted, grid.size)
    return Matches(row, keep, best * wanted), wanted
