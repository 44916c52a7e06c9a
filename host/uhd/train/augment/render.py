"""Reads the pixels that a canvas asks for, by the deployed index formula: a gather a layer, four in a linear mode."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from uhd.image.resize import normalise_mode
from uhd.train.augment.canvas import Canvas
from uhd.train.photos import GREY, pixels_at


@dataclass(frozen=True)
class Taps:
    """Along one axis, for n windows: pixel of the photo that each output pixel reads, and whether it shows; [n,out].

    Linear modes read two and mix them: ``weight`` [n,out] float32 is that of the second.
    """

    first: Tensor
    first_seen: Tensor
    second: Tensor
    second_seen: Tensor
    weight: Tensor | None


def axis_taps(
    low: Tensor, span: Tensor, flip: Tensor, seen_low: Tensor, seen_high: Tensor, out: int, mode: str
) -> Taps:
    """Taps of windows from ``low`` of ``span`` photo pixels [n], mirrored where ``flip``, for ``out`` output pixels.

    For windows of whole pixels they are those of ``uhd.image.resize``: the window cut out, mirrored, and resized.
    """
    start = torch.where(flip, -(low + span), low)  # a mirrored window is read in mirrored coordinates
    whole = torch.floor(start)
    part = (start - whole)[:, None]
    last = torch.ceil(span[:, None] + part) - 1
    number = torch.arange(out, dtype=torch.float64)
    single = mode.startswith("torch")  # torch computes the step in single precision, OpenCV in double
    # divisions of tensors: torch makes `number / tensor` a product with the reciprocal, which rounds twice
    outs, one = torch.full_like(span, out), torch.ones_like(span)
    step = (span.float() / outs.float()).double() if single else one / (outs / span)
    if "linear" in mode:
        place = (step[:, None] * (number + 0.5) - 0.5 + part).clamp(min=0)
        place = place.float().double() if single else place
        first = torch.minimum(torch.floor(place), last)
        second = torch.minimum(first + 1, last)
        weight = (place - first).float()
    else:
        exact = step[:, None] * number + part
        first = torch.minimum(torch.floor(exact.float() if single else exact).double(), last)
        second, weight = first, None

    def photo_pixel(index: Tensor) -> tuple[Tensor, Tensor]:
        index = index + whole[:, None]
        index = torch.where(flip[:, None], -1 - index, index)
        centre = index + 0.5
        return index.long(), (centre >= seen_low[:, None]) & (centre < seen_high[:, None])

    near = photo_pixel(first)
    return Taps(*near, *(near if weight is None else photo_pixel(second)), weight)


def render(canvas: Canvas, size: tuple[int, int], mode: str) -> tuple[Tensor, float]:
    """The canvases at ``size`` (height, width): planes [b,3,h,w] float32 on the pixels' device, and their white.

    White is 255 for modes that pick pixels, 1 for linear modes.
    """
    mode = normalise_mode(mode)
    count = canvas.count
    planes = _read(canvas, torch.arange(count), size, mode)[0]
    device = planes.device
    if len(canvas.row) > count:
        rank = _rank(canvas.row, count)
        for turn in range(1, int(rank.max()) + 1):
            chosen = torch.nonzero(rank == turn)[:, 0]
            new, (down, across) = _read(canvas, chosen, size, mode)
            rows = canvas.row[chosen].to(device)
            shows = _cross(down.first_seen & down.second_seen, across.first_seen & across.second_seen, device)
            share = shows * canvas.alpha[chosen].to(device)[:, None, None, None]
            planes[rows] = torch.lerp(planes[rows], new, share)
    return planes, 1.0 if "linear" in mode else 255.0


def _rank(row: Tensor, count: int) -> Tensor:
    """How many layers of its sample lie beneath each layer, [n]."""
    order = torch.argsort(row, stable=True)
    layers = torch.bincount(row, minlength=count)
    rank = torch.empty_like(row)
    rank[order] = torch.arange(len(row)) - (torch.cumsum(layers, 0) - layers)[row[order]]
    return rank


def _read(canvas: Canvas, chosen: Tensor, size: tuple[int, int], mode: str) -> tuple[Tensor, tuple[Taps, Taps]]:
    """The layers ``chosen`` [n]: planes [n,3,h,w], background where nothing shows, and the taps down and across."""
    store, device = canvas.store, canvas.store.pixels.device

    def taps(axis: int, out: int) -> Taps:
        low, span, flip, near, far = (
            part[chosen, axis] for part in (canvas.low, canvas.span, canvas.flip, canvas.seen_low, canvas.seen_high)
        )
        return axis_taps(low, span, flip, near, far, out, mode)

    across, down = taps(0, size[1]), taps(1, size[0])
    fill = canvas.background[canvas.row[chosen]]
    coloured = bool((fill != GREY).any())
    fill = fill.to(device)[:, :, None, None]
    start, width = store.start[canvas.photo[chosen], None], store.sizes[canvas.photo[chosen], 1:]

    def pick(rows: Tensor, rows_seen: Tensor, columns: Tensor, columns_seen: Tensor) -> Tensor:
        planes = pixels_at(store, start + rows * width, rows_seen, columns, columns_seen)
        return torch.where(_cross(rows_seen, columns_seen, device), planes, fill) if coloured else planes

    def line(rows: Tensor, rows_seen: Tensor) -> Tensor:
        left = pick(rows, rows_seen, across.first, across.first_seen)
        if across.weight is None:
            return left
        right = pick(rows, rows_seen, across.second, across.second_seen)
        return _mix(left / 255, right / 255, across.weight.to(device)[:, None, None, :])

    planes = line(down.first, down.first_seen)
    if down.weight is not None:
        planes = _mix(planes, line(down.second, down.second_seen), down.weight.to(device)[:, None, :, None])
    return planes, (down, across)


def _cross(rows: Tensor, columns: Tensor, device: torch.device) -> Tensor:
    return rows.to(device)[:, None, :, None] & columns.to(device)[:, None, None, :]


def _mix(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    """Written as ``uhd.image.resize`` does, so that it rounds alike."""
    return first * (1 - weight) + second * weight
