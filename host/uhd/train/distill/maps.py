"""Head maps in the forms that distillation compares: per anchor, as boxes, and on another grid."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from uhd.detect.decode import decode_boxes

Maps = Mapping[str, Tensor]

#: softplus of this is 4.
_SIZE_LOGIT_CAP = math.log(math.expm1(4.0))


class AnchorShape(NamedTuple):
    """What turns box logits into boxes: ``anchors`` and ``wh_scale``, both [A,2]."""

    anchors: Tensor
    wh_scale: Tensor


def resized(values: Tensor, grid: tuple[int, int]) -> Tensor:
    """[B,C,h,w] bilinearly on another grid (edges aligned, no smoothing)."""
    if tuple(values.shape[2:]) == grid:
        return values
    return functional.interpolate(values, size=grid, mode="bilinear", align_corners=False)


def grid_of(values: Tensor) -> tuple[int, int]:
    """Height and width of a map [B,C,h,w]."""
    return int(values.shape[2]), int(values.shape[3])


def box_map(box: Tensor, shape: AnchorShape, *, capped: bool = False) -> Tensor:
    """Boxes of box logits [B,4A,h,w] as a map [B,4A,h,w], per anchor cx,cy,w,h in units of the input.

    ``capped`` limits width and height to four times the scaled anchor.
    """
    batch, channels, height, width = box.shape
    if capped:
        logits = box.view(batch, channels // 4, 4, height, width)
        box = torch.cat([logits[:, :, :2], logits[:, :, 2:].clamp(max=_SIZE_LOGIT_CAP)], 2).flatten(1, 2)
    boxes = decode_boxes(box, shape.anchors, shape.wh_scale)
    return boxes.view(batch, channels // 4, height, width, 4).permute(0, 1, 4, 2, 3).flatten(1, 2)


def centre_map(off: Tensor, wh: Tensor) -> Tensor:
    """Boxes of centre-point maps ``off`` and ``wh`` [B,2,h,w] (cells) as [B,4,h,w] cx,cy,w,h in units of the input."""
    height, width = grid_of(off)
    columns = torch.arange(width, dtype=off.dtype, device=off.device).expand(height, width)
    rows = torch.arange(height, dtype=off.dtype, device=off.device)[:, None].expand(height, width)
    cells = off.new_tensor([width, height])[:, None, None]
    return torch.cat([(off + torch.stack([columns, rows])) / cells, wh / cells], 1)
