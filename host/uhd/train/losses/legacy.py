"""Which candidate learns which object: the anchor of the most similar size in the cell of the object's centre."""

from __future__ import annotations

import torch
from torch import Tensor

from uhd.train.losses.attributes import coinciding
from uhd.train.losses.grid import Grid, Matches, centre_cells
from uhd.train.losses.parts import LossMode
from uhd.train.targets import Targets

_EPS = 1e-7


def size_iou(boxes: Tensor, sizes: Tensor) -> Tensor:
    """IoU [T,A] of boxes [T,4] with anchors [A,2] laid on the same centre."""
    both = torch.minimum(boxes[:, None, 2], sizes[:, 0]) * torch.minimum(boxes[:, None, 3], sizes[:, 1])
    union = (boxes[:, 2] * boxes[:, 3])[:, None] + sizes.prod(1) - both
    return both / (union + _EPS)


@torch.no_grad()
def assign_legacy(targets: Targets, sizes: Tensor, grid: Grid, mode: LossMode, multi_label: bool = False) -> Matches:
    """One candidate an object, as [T,1]; ``sizes`` [A,2] are the scaled anchors.

    Where several objects want one candidate, the one whose size fits best gets it and the others take the best free
    anchor of their cell; an object that finds none learns nothing. With ``multi_label``, boxes that coincide are one
    object and share the candidate. The reference gives the candidate to the last of them.
    """
    fit = size_iou(targets.boxes, sizes)
    column, line = centre_cells(targets, grid)
    cell = (targets.image * grid.height + line) * grid.width + column
    choice = fit.argmax(1)
    row = cell * grid.anchors + choice
    alive = torch.ones_like(row, dtype=torch.bool)
    if mode == "reference":
        index = torch.arange(len(row), device=row.device)
        last = torch.full((grid.size,), -1, device=row.device).scatter_reduce_(0, row, index, "amax")
        alive = last[row] == index
    elif len(torch.unique(row)) < len(row):
        row, alive = _settle(fit, cell, targets, grid, multi_label)
    keep = alive[:, None]
    return Matches(row[:, None], keep, keep.to(fit.dtype))


def _settle(fit: Tensor, cell: Tensor, targets: Targets, grid: Grid, multi_label: bool) -> tuple[Tensor, Tensor]:
    """Row of each object and whether it has it. Each round, every object asks for its best anchor that is left to it.

    A candidate keeps the best-fitting object that ever asked, so the outcome is the stable one, whatever the order of
    the objects; equal fits are told apart by the boxes and labels themselves.
    """
    rank = _rank(targets)
    together = coinciding(targets) if multi_label else None
    left = fit.clone()
    asking = torch.ones_like(cell, dtype=torch.bool)
    while True:
        choice = left.argmax(1)
        row = cell * grid.anchors + choice
        value = left.gather(1, choice[:, None])[:, 0]
        place = torch.where(asking, row, grid.size)
        best = value.new_full((grid.size + 1,), -1.0).scatter_reduce_(0, place, value, "amax")
        wins = asking & (value == best[row])
        place = torch.where(wins, row, grid.size)
        first = torch.full((grid.size + 1,), len(rank), device=rank.device).scatter_reduce_(0, place, rank, "amin")
        wins &= first[row] == rank
        lost = asking & ~wins
        if together is not None:
            owner = torch.empty_like(rank)
            owner[rank] = torch.arange(len(rank), device=rank.device)
            holder = owner[first[row].clamp(max=len(rank) - 1)]
            shares = lost & together[torch.arange(len(rank), device=rank.device), holder]
        else:
            shares = torch.zeros_like(lost)
        lost &= ~shares
        if not lost.any():
            return row, wins
        left[lost, choice[lost]] = -1.0
        asking &= left.amax(1) >= 0


def _rank(targets: Targets) -> Tensor:
    """Place of each object in an order that does not depend on the given one (but for equal objects), [T]."""
    order = torch.arange(len(targets), device=targets.label.device)
    for key in (targets.label, *targets.boxes.unbind(1)):
        order = order[key[order].argsort(stable=True)]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    return rank
