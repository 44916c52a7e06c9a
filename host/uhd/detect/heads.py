"""Output maps of every kind of head to candidates, once for NumPy arrays and torch tensors.

A centre-point head says for each cell how likely it is the centre of an object of each class (``hm``), where in it
the centre lies (``off``), and how large the object is in cells (``wh``)::

    cx = (x + off_x) / W        w = wh_x / W
    cy = (y + off_y) / H        h = wh_y / H

A DETR head gives one box a query, and logits whose last entry stands for no object.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import numpy as np

from uhd.detect.decode import Array, decode_maps, floating, is_torch
from uhd.errors import ModelError

HEADS = ("anchor", "centernet", "detr")


def decode_head(
    head: str,
    maps: Mapping[str, Array],
    *,
    anchors: Array = (),
    wh_scale: Array = (),
    score_mode: str = "obj_cls",
    quality_power: float = 1.0,
    topk: int | None = None,
    reference: bool = False,
) -> tuple[Array, Array]:
    """Candidates of a model's output maps: ``scores`` [B,N,classes] in 0..1, ``boxes`` [B,N,4] (cx, cy, w, h).

    ``head`` is the configuration's: *anchor* (N = A*H*W; see ``decode_maps``, which takes ``anchors``, ``wh_scale``,
    ``score_mode``, ``quality_power``, ``reference``), *centernet* (N = H*W, or ``topk``; see ``decode_centernet``) or
    *detr* (N = queries). All NumPy or all torch. Raises ``ModelError`` for an unknown head and maps that do not fit.
    """
    if head == "anchor":
        return decode_maps(maps, anchors, wh_scale, score_mode, quality_power, reference=reference)
    if head == "centernet":
        return decode_centernet(maps, topk)
    if head == "detr":
        return decode_detr(maps)
    raise ModelError(f"unknown head {head!r}", hint=f"choose one of {', '.join(HEADS)}")


def suppression_iou(head: str, iou: float | None, *, reference: bool = False) -> float | None:
    """The IoU threshold of ``detections`` that suits a head: ``iou``, or None where nothing is to be suppressed.

    A DETR head finds each object once. The reference suppresses nothing for a centre-point head either; here
    neighbouring cells of one object are suppressed like overlapping anchors.
    """
    return None if head == "detr" or (reference and head == "centernet") else iou


def decode_centernet(maps: Mapping[str, Array], topk: int | None = None) -> tuple[Array, Array]:
    """Candidates of ``hm`` [B,C,H,W] (in 0..1), ``off`` and ``wh`` [B,2,H,W]; boxes may leave the picture.

    Without ``topk`` one candidate a cell, numbered ``y * W + x``. With it the best ``topk`` pairs of cell and class of
    each picture, best first, each with the score of its class alone (the others are 0).
    """
    hm, off, wh = (_map(maps, name, 4) for name in ("hm", "off", "wh"))
    batch, classes, height, width = hm.shape
    if tuple(off.shape) != (batch, 2, height, width) or tuple(wh.shape) != (batch, 2, height, width):
        raise ModelError(f"maps hm {tuple(hm.shape)}, off {tuple(off.shape)} and wh {tuple(wh.shape)} do not fit")
    columns, rows = _grid(height, width, hm)
    parts = [
        (columns + off[:, 0]) / width,
        (rows + off[:, 1]) / height,
        wh[:, 0] / width,
        wh[:, 1] / height,
    ]
    library = sys.modules["torch"] if is_torch(hm) else np
    boxes = library.stack(parts, -1).reshape(batch, height * width, 4)
    if topk is None:
        return hm.reshape(batch, classes, height * width).swapaxes(1, 2), boxes
    flat = hm.reshape(batch, classes * height * width)
    order = _best(flat, max(0, min(topk, classes * height * width)))
    cells, labels = order % (height * width), order // (height * width)
    picture = _numbers(batch, order)[:, None]
    chosen = labels[..., None] == _numbers(classes, order)
    return flat[picture, order][..., None] * chosen, boxes[picture, cells]


def decode_detr(maps: Mapping[str, Array]) -> tuple[Array, Array]:
    """Candidates of ``logits`` [B,Q,C+1] and ``boxes`` [B,Q,4]: softmax without the last entry, boxes unchanged."""
    logits, boxes = _map(maps, "logits", 3), _map(maps, "boxes", 3)
    if tuple(boxes.shape) != (*logits.shape[:2], 4) or logits.shape[2] < 2:
        raise ModelError(f"maps logits {tuple(logits.shape)} and boxes {tuple(boxes.shape)} do not fit")
    if is_torch(logits):
        return logits.softmax(-1)[..., :-1], boxes
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return (powers / powers.sum(-1, keepdims=True))[..., :-1], boxes


def _map(maps: Mapping[str, Array], name: str, dimensions: int) -> Array:
    """A map in at least single precision."""
    if name not in maps:
        raise ModelError(f"no map named {name} among: {', '.join(sorted(maps)) or 'none'}")
    values = floating(maps[name])
    if values.ndim != dimensions:
        raise ModelError(f"map {name} has shape {tuple(values.shape)}, expected {dimensions} dimensions")
    if is_torch(values):
        return values.float() if values.element_size() < 4 else values
    return values


def _grid(height: int, width: int, like: Array) -> tuple[Array, Array]:
    """Columns [1,1,W] and rows [1,H,1] as numbers of the kind, precision and device of ``like``."""
    columns, rows = (np.arange(n, dtype=np.float32) for n in (width, height))
    if is_torch(like):
        as_tensor = sys.modules["torch"].as_tensor
        columns, rows = (as_tensor(n, dtype=like.dtype, device=like.device) for n in (columns, rows))
    return columns.reshape(1, 1, width), rows.reshape(1, height, 1)


def _numbers(count: int, like: Array) -> Array:
    """0, 1, ... count-1 of the kind, type and device of ``like``."""
    numbers = np.arange(count)
    return sys.modules["torch"].as_tensor(numbers, device=like.device) if is_torch(like) else numbers


def _best(values: Array, count: int) -> Array:
    """Indices [B,count] of the largest of ``values`` [B,N], best first, equal ones in order."""
    if is_torch(values):
        return values.sort(dim=1, descending=True, stable=True).indices[:, :count]
    return np.argsort(-values, axis=1, kind="stable")[:, :count]
