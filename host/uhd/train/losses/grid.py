"""The candidates of a batch as rows of one table, and the few of them that lie near an object.

Row ``((image * height + y) * width + x) * anchors + anchor``: where the maps are channels last, as convolutions on the
CPU and half-precision ones on a GPU leave them, the table is a view, and the candidates of a cell are one stretch of
memory. An object is compared with the cells round it only, a small share of all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from uhd.train.losses.boxes import Planes
from uhd.train.targets import Targets


@dataclass(frozen=True)
class Grid:
    """Shape of the candidates of a batch."""

    images: int
    height: int
    width: int
    anchors: int

    @classmethod
    def of(cls, box: Tensor, anchors: int) -> Grid:
        """That of a box map [B,4A,H,W]."""
        return cls(box.shape[0], box.shape[2], box.shape[3], anchors)

    @property
    def size(self) -> int:
        """Candidates, which is also the number that no row has."""
        return self.images * self.height * self.width * self.anchors


def table(part: Tensor, anchors: int) -> Tensor:
    """A map [B,A*n,H,W] as candidates [rows, n]."""
    return part.permute(0, 2, 3, 1).reshape(-1, part.shape[1] // anchors)


def centre_cells(targets: Targets, grid: Grid) -> tuple[Tensor, Tensor]:
    """Column and row [T] of each object's centre; a centre outside counts to the cell at the border."""
    x, y = targets.boxes[:, 0] * grid.width, targets.boxes[:, 1] * grid.height
    return x.long().clamp(0, grid.width - 1), y.long().clamp(0, grid.height - 1)


@dataclass(frozen=True)
class Near:
    """The cells at most some steps away from each object's centre: ``column``, ``line``, ``cell`` and ``inside`` [T,K].

    ``cell`` counts through the batch and is 0 where the place lies outside the grid, which ``inside`` tells.
    """

    column: Tensor
    line: Tensor
    cell: Tensor
    inside: Tensor
    grid: Grid

    @property
    def row(self) -> Tensor:
        """Rows [T,K*A] of the candidates."""
        anchor = torch.arange(self.grid.anchors, device=self.cell.device)
        return (self.cell[:, :, None] * self.grid.anchors + anchor).flatten(1)

    @property
    def valid(self) -> Tensor:
        """Whether each candidate [T,K*A] exists."""
        return self.inside[:, :, None].expand(-1, -1, self.grid.anchors).flatten(1)

    def pick(self, values: Tensor) -> Tensor:
        """Values [rows, n] of the candidates, [T,K*A,n]."""
        objects, cells = self.cell.shape
        wide = values.reshape(-1, self.grid.anchors * values.shape[1])
        return wide.index_select(0, self.cell.flatten()).reshape(objects, cells * self.grid.anchors, values.shape[1])

    def decode(self, box: Tensor, sizes: Tensor) -> Planes:
        """Boxes of the candidates, each plane [T,K*A]; ``box`` [rows,4] are logits, ``sizes`` [A,2] scaled anchors."""
        objects, cells = self.cell.shape
        logits = self.pick(box).permute(2, 0, 1).contiguous()
        centre = logits[:2].sigmoid().reshape(2, objects, cells, self.grid.anchors)
        extent = (
            functional.softplus(logits[2:]).reshape(2, objects, cells, self.grid.anchors) * sizes.t()[:, None, None, :]
        )
        x = (centre[0] + self.column[:, :, None]) / self.grid.width
        y = (centre[1] + self.line[:, :, None]) / self.grid.height
        return x.flatten(1), y.flatten(1), extent[0].flatten(1), extent[1].flatten(1)


def near(targets: Targets, grid: Grid, radius: int) -> Near:
    """The cells at most ``radius`` steps, also diagonal ones, away from each object's centre cell."""
    centre_x, centre_y = centre_cells(targets, grid)
    steps = torch.arange(-radius, radius + 1, device=centre_x.device)
    side = len(steps)
    x = centre_x[:, None] + steps.repeat(side)
    y = centre_y[:, None] + steps.repeat_interleave(side)
    inside = (x >= 0) & (x < grid.width) & (y >= 0) & (y < grid.height)
    cell = (targets.image[:, None] * grid.height + y) * grid.width + x
    return Near(x, y, torch.where(inside, cell, 0), inside, grid)


def decode_rows(box: Tensor, row: Tensor, sizes: Tensor, grid: Grid) -> Tensor:
    """Boxes of the candidates ``row`` [S] as [4,S]; gradient to the logits ``box`` [rows,4] and ``sizes`` [A,2]."""
    cell = torch.div(row, grid.anchors, rounding_mode="floor")
    anchor = row - cell * grid.anchors
    line = torch.div(cell, grid.width, rounding_mode="floor")
    x, y = cell - line * grid.width, line % grid.height
    logits = box.index_select(0, row).t().contiguous()
    centre = logits[:2].sigmoid()
    extent = functional.softplus(logits[2:]) * sizes.index_select(0, anchor).t()
    return torch.cat([((centre[0] + x) / grid.width)[None], ((centre[1] + y) / grid.height)[None], extent])


@dataclass(frozen=True)
class Matches:
    """Which candidates learn which object: ``row``, ``keep`` and ``score`` [T,K], one line an object.

    Only the places with ``keep`` count; their rows are distinct. ``score`` in 0..1 is what a score is to become there,
    0 elsewhere. Places that do not count stay, so that no step waits for a number to be known.
    """

    row: Tensor
    keep: Tensor
    score: Tensor

    @property
    def target(self) -> Tensor:
        """The object of each place, [T,K]."""
        return torch.arange(len(self.row), device=self.row.device)[:, None].expand_as(self.row)


def one_owner(row: Tensor, value: Tensor, wanted: Tensor, size: int) -> Tensor:
    """Of the places [T,K] that want a row, those that get it: the highest ``value``, the earlier object on a tie."""
    target = torch.arange(len(row), device=row.device)[:, None].expand_as(row)
    place = torch.where(wanted, row, size).flatten()  # beyond the last row: nobody's
    lowest = torch.finfo(value.dtype).min
    best = value.new_full((size + 1,), lowest).scatter_reduce_(0, place, value.flatten(), "amax")
    wins = wanted & (value == best[place].view_as(row))
    place = torch.where(wins, row, size).flatten()
    first = torch.full((size + 1,), len(row), device=row.device)
    first = first.scatter_reduce_(0, place, target.flatten(), "amin")
    return wins & (first[place].view_as(row) == target)
