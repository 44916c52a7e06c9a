"""Loss of the centre-point head (CenterNet, arXiv 1904.07850): a heat-map a class, offset and size at each centre."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from uhd.train.losses.parts import LossMode, LossParts, combine
from uhd.train.targets import Targets

_EPS = 1e-4

#: The smallest IoU with its object of a box whose centre the heat-map excuses.
_MIN_OVERLAP = 0.7


def splat_sigma(wide: Tensor, tall: Tensor) -> Tensor:
    """Width of an object's peak in cells, [T]: a third of the shift of its box that leaves an IoU of 0.7.

    ``wide`` and ``tall`` are in cells. The shift is that of the worst of three cases (arXiv 1808.01244): the box moved,
    shrunk or grown by it at each side, each a quadratic equation in the shift.
    """
    total, area = wide + tall, wide * tall
    moved = area * (1 - _MIN_OVERLAP) / (1 + _MIN_OVERLAP)
    shrunk, grown = area * (1 - _MIN_OVERLAP), area * (1 / _MIN_OVERLAP - 1)
    by_move = (total - (total.square() - 4 * moved).clamp(min=0).sqrt()) / 2
    by_shrink = (total - (total.square() - 4 * shrunk).clamp(min=0).sqrt()) / 4
    by_growth = ((total.square() + 4 * grown).sqrt() - total) / 4
    radius = torch.minimum(torch.minimum(by_move, by_shrink), by_growth)
    return (2 * radius + 1) / 6


def heat_target(hm: Tensor, image: Tensor, label: Tensor, cell: Tensor, sigma: Tensor | None) -> Tensor:
    """What a heat-map [B,C,H,W] is to become: 1 at each object's ``cell`` [T,2], falling off with ``sigma`` [T].

    Where peaks meet the higher counts. ``sigma`` None: single cells.
    """
    batch, classes, height, width = hm.shape
    heat = torch.zeros_like(hm)
    if sigma is not None:
        columns, lines = torch.arange(width, device=hm.device), torch.arange(height, device=hm.device)
        near_x = (-(columns - cell[:, :1]).square() / (2 * sigma.square())[:, None]).exp()
        near_y = (-(lines - cell[:, 1:]).square() / (2 * sigma.square())[:, None]).exp()
        peak = (near_y[:, :, None] * near_x[:, None, :]).flatten(1)
        peak = torch.where(peak < torch.finfo(peak.dtype).eps, 0.0, peak)
        plane = (image * classes + label)[:, None].expand_as(peak)
        heat = heat.view(batch * classes, -1).scatter_reduce(0, plane, peak, "amax").view_as(hm)
    heat[image, label, cell[:, 1], cell[:, 0]] = 1.0
    return heat


def centernet_loss(maps: Mapping[str, Tensor], targets: Targets, mode: LossMode = "default") -> LossParts:
    """``hm`` [B,C,H,W] in 0..1 (after the sigmoid), ``off`` and ``wh`` [B,2,H,W] in cells; labels below C.

    Parts: ``hm`` (penalty-reduced focal loss), ``off`` and ``wh`` (L1, both coordinates summed, mean over objects).
    Objects with their centre outside the image are left out.
    """
    hm, off, wh = (maps[name].float() for name in ("hm", "off", "wh"))
    batch, classes, height, width = hm.shape
    reference = mode == "reference"
    limits = torch.tensor([width, height], device=hm.device)
    place = targets.boxes[:, :2] * limits
    cell = place.long() if reference else torch.minimum(place.long(), limits - 1)
    inside = (place >= 0).all(1) & (cell < limits).all(1) & (targets.boxes[:, :2] <= 1).all(1)
    inside &= (targets.label >= 0) & (targets.label < classes)
    image, label, cell, place = targets.image[inside], targets.label[inside], cell[inside], place[inside]
    size = targets.boxes[inside, 2:] * limits

    heat = heat_target(hm, image, label, cell, None if reference else splat_sigma(size[:, 0], size[:, 1]))
    probability = hm.clamp(_EPS, 1 - _EPS)
    peak = heat == 1
    toward = torch.log(probability) * (1 - probability).square()
    away = torch.log1p(-probability) * probability.square() * (1 - heat).square().square()
    peaks = peak.sum()
    cost = -torch.where(peak, toward, away).sum() / peaks.clamp(min=1 if reference else batch)

    keep = torch.ones_like(image, dtype=torch.bool)
    if reference:  # the last object in a cell is the only one
        number = torch.arange(len(image), device=image.device)
        spot = (image * height + cell[:, 1]) * width + cell[:, 0]
        last = torch.full((batch * height * width,), -1, device=image.device).scatter_reduce_(0, spot, number, "amax")
        keep = last[spot] == number
    count = keep.sum().clamp(min=1)
    at = (image, slice(None), cell[:, 1], cell[:, 0])
    offset = ((off[at] - (place - cell)).abs().sum(1) * keep).sum() / count
    extent = ((wh[at] - size).abs().sum(1) * keep).sum() / count
    return combine({"hm": (1.0, cost), "off": (1.0, offset), "wh": (1.0, extent)})
