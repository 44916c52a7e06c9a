"""Raw head maps to scores and boxes, once for NumPy arrays and torch tensors.

The anchor head predicts, for anchor ``a`` at map column ``x`` and row ``y``::

    cx = (sigmoid(tx) + x) / W        w = anchor_w * wh_scale_w * softplus(tw)
    cy = (sigmoid(ty) + y) / H        h = anchor_h * wh_scale_h * softplus(th)

normalised to the network input. Candidates are numbered ``(a * H + y) * W + x`` everywhere.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from uhd.errors import ModelError

Array = Any
"""A NumPy array or a torch tensor; every function returns the kind that it was given."""

SCORE_MODES = ("obj_quality_cls", "quality_cls", "obj_cls", "obj_quality", "quality", "obj", "cls")
_CLASSLESS = {"obj_quality_cls": "obj_quality", "quality_cls": "quality", "obj_cls": "obj", "cls": "obj"}


def is_torch(array: Array) -> bool:
    """True for a torch tensor; never imports torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def sigmoid(x: Array) -> Array:
    """Logistic function without overflow, in the precision of ``x``."""
    if is_torch(x):
        return x.sigmoid()
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


def softplus(x: Array) -> Array:
    """``log(1 + exp(x))`` without overflow, in the precision of ``x``."""
    if is_torch(x):
        return sys.modules["torch"].nn.functional.softplus(x)
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def score_factors(score_mode: str, available: frozenset[str], *, reference: bool = False) -> tuple[str, ...]:
    """The maps whose sigmoids are multiplied for ``score_mode``, out of those ``available``.

    The mode says what is multiplied, ``cls`` only where it names it. A quality that the model does not have
    is replaced by objectness (``quality``, ``quality_cls``) or left out (``obj_quality``, ``obj_quality_cls``);
    a class that it does not have is left out. ``reference=True`` multiplies an existing ``cls`` in every mode,
    as the reference's Python decoder does and its exported graphs do not (docs/decisions/0003-score-mode.md).
    Raises ``ModelError`` for an unknown mode and for a factor that is missing.
    """
    if score_mode not in SCORE_MODES:
        raise ModelError(f"unknown score mode {score_mode!r}", hint=f"choose one of {', '.join(SCORE_MODES)}")
    has_cls = "cls" in available
    mode = score_mode if has_cls else _CLASSLESS.get(score_mode, score_mode)
    names = mode.split("_")
    if "quality" in names and "quality" not in available:
        names = ["obj" if name == "quality" and "obj" not in names else name for name in names]
        names = [name for name in names if name != "quality"]
    if reference and has_cls and "cls" not in names:
        names.append("cls")
    missing = [name for name in names if name not in available]
    if missing:
        have = ", ".join(sorted(available)) or "none"
        raise ModelError(
            f"score mode {score_mode} needs the map {missing[0]}, but the model gives only: {have}",
            hint="export it with that branch or choose another score mode",
        )
    return tuple(names)


def split_raw(raw: Array, anchor_count: int, class_count: int, has_quality: bool) -> dict[str, Array]:
    """Take the interleaved raw map apart.

    ``raw`` is [B, A*(5+q+nc), H, W], channels per anchor: tx, ty, tw, th, obj, (quality), classes. Returns
    ``box`` [B,4A,H,W], ``obj`` [B,A,H,W], ``quality`` [B,A,H,W] if any, ``cls`` [B,A*nc,H,W] if any.
    Raises ``ModelError`` when the channels do not fit.
    """
    batch, channels, height, width = raw.shape
    fields = 5 + int(has_quality) + class_count
    if channels != anchor_count * fields:
        raise ModelError(
            f"raw map has {channels} channels, expected {anchor_count} anchors x {fields} fields"
            f" (quality {'yes' if has_quality else 'no'}, {class_count} classes)"
        )
    view = raw.reshape(batch, anchor_count, fields, height, width)

    def part(start: int, stop: int) -> Array:
        return view[:, :, start:stop].reshape(batch, anchor_count * (stop - start), height, width)

    maps = {"box": part(0, 4), "obj": part(4, 5)}
    if has_quality:
        maps["quality"] = part(5, 6)
    if class_count:
        maps["cls"] = part(fields - class_count, fields)
    return maps


def _like(values: Array, reference: Array) -> Array:
    """``values`` as the kind, precision and device of ``reference``; a tensor keeps its gradient."""
    if is_torch(reference):
        return sys.modules["torch"].as_tensor(values, dtype=reference.dtype, device=reference.device)
    values = values.detach().cpu().numpy() if is_torch(values) else values
    return np.asarray(values, dtype=reference.dtype)


def floating(array: Array) -> Array:
    """``array`` as floating point: integers become float32, floating-point values stay as they are."""
    if is_torch(array):
        return array if array.is_floating_point() else array.float()
    array = np.asarray(array)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def decode_boxes(box: Array, anchors: Array, wh_scale: Array) -> Array:
    """Boxes of all candidates: ``box`` [B,4A,H,W] -> [B,A*H*W,4] as cx, cy, w, h in units of the input.

    ``anchors`` and ``wh_scale`` are [A,2] (w, h). Raises ``ModelError`` when their number does not fit.
    """
    box = floating(box)
    batch, channels, height, width = box.shape
    anchors, wh_scale = _like(anchors, box), _like(wh_scale, box)
    count = len(anchors)
    if channels != 4 * count or tuple(anchors.shape) != (count, 2) or tuple(wh_scale.shape) != (count, 2):
        raise ModelError(
            f"box map of {channels} channels does not fit anchors {tuple(anchors.shape)}"
            f" and wh_scale {tuple(wh_scale.shape)}"
        )
    logits = box.reshape(batch, count, 4, height, width)
    columns = _like(np.arange(width), box).reshape(1, 1, 1, width)
    rows = _like(np.arange(height), box).reshape(1, 1, height, 1)
    size = (anchors * wh_scale).reshape(1, count, 2, 1, 1) * softplus(logits[:, :, 2:4])
    parts = [
        (sigmoid(logits[:, :, 0]) + columns) / width,
        (sigmoid(logits[:, :, 1]) + rows) / height,
        size[:, :, 0],
        size[:, :, 1],
    ]
    stack = sys.modules["torch"].stack if is_torch(box) else np.stack
    return stack(parts, -1).reshape(batch, count * height * width, 4)


def decode_scores(
    maps: Mapping[str, Array],
    anchor_count: int,
    score_mode: str,
    quality_power: float = 1.0,
    *,
    reference: bool = False,
) -> Array:
    """Scores of all candidates, [B,A*H*W,classes] in 0..1; one column (class 0) where no class is multiplied."""
    names = score_factors(score_mode, frozenset(maps), reference=reference)
    scores: Array = None
    for name in names:
        logits = floating(maps[name])
        batch, channels, height, width = logits.shape
        depth = channels // anchor_count
        if depth < 1 or channels != anchor_count * depth or (depth > 1 and name != "cls"):
            raise ModelError(f"map {name} has {channels} channels, which does not fit {anchor_count} anchors")
        factor = sigmoid(logits.reshape(batch, anchor_count, depth, height * width))
        factor = factor.swapaxes(2, 3).reshape(batch, anchor_count * height * width, depth)
        if name == "quality" and quality_power != 1.0:
            factor = factor**quality_power
        scores = factor if scores is None else scores * factor
    return scores


def decode_maps(
    maps: Mapping[str, Array],
    anchors: Array,
    wh_scale: Array,
    score_mode: str,
    quality_power: float = 1.0,
    *,
    reference: bool = False,
) -> tuple[Array, Array]:
    """Head maps to candidates.

    ``maps``: ``box`` [B,4A,H,W] and, as the score mode needs, ``obj`` [B,A,H,W], ``quality`` [B,A,H,W], ``cls``
    [B,A*nc,H,W]; logits, all NumPy or all torch. Returns ``scores`` [B,N,classes] in 0..1 and ``boxes`` [B,N,4]
    (cx, cy, w, h in units of the input, unclipped), N = A*H*W. Raises ``ModelError`` for maps that do not fit.
    """
    if "box" not in maps:
        raise ModelError(f"no map named box among: {', '.join(sorted(maps)) or 'none'}")
    boxes = decode_boxes(maps["box"], anchors, wh_scale)
    scores = decode_scores(maps, len(anchors), score_mode, quality_power, reference=reference)
    if scores.shape[:2] != boxes.shape[:2]:
        raise ModelError(f"maps differ in size: {scores.shape[1]} scores for {boxes.shape[1]} boxes")
    return scores, boxes
