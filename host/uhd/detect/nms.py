"""From candidates to detections: threshold, per-class greedy suppression, top-k. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.detect.decode import Array, is_torch

Rows = NDArray[np.float32]
"""[n, 6]: score, class id, cx, cy, w, h."""

_BLOCK = 128


def _numpy(array: Array) -> NDArray[Any]:
    return array.detach().cpu().numpy() if is_torch(array) else np.asarray(array)


def iou_matrix(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    """Pairwise IoU of cx, cy, w, h boxes, [n,4] x [m,4] -> [n,m]: intersection / (union + 1e-6)."""
    half_a, half_b = first[:, None, 2:] / 2, second[None, :, 2:] / 2
    low = np.maximum(first[:, None, :2] - half_a, second[None, :, :2] - half_b)
    high = np.minimum(first[:, None, :2] + half_a, second[None, :, :2] + half_b)
    overlap = np.maximum(high - low, 0)
    intersection = overlap[..., 0] * overlap[..., 1]
    union = (first[:, 2] * first[:, 3])[:, None] + (second[:, 2] * second[:, 3])[None, :] - intersection
    return intersection / (union + np.asarray(1e-6, dtype=union.dtype))


def _first_come(suppresses: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Who survives when i, if it survives, removes every later j with ``suppresses[i, j]``.

    The survivors are the only solution of ``keep[j] = no i < j with keep[i] and suppresses[i, j]``; each
    round settles at least one more link of the longest chain of suppressions, so the loop is short.
    """
    later = np.triu(suppresses, 1)
    keep: NDArray[np.bool_] = np.ones(len(later), dtype=np.bool_)
    while True:
        updated: NDArray[np.bool_] = np.logical_not(np.any(later[keep], axis=0))
        if np.array_equal(updated, keep):
            return keep
        keep = updated


def greedy_nms(
    boxes: NDArray[Any], classes: NDArray[Any], iou_threshold: float, limit: int | None = None
) -> NDArray[np.intp]:
    """Indices of the boxes that survive, ascending; stops after ``limit`` of them.

    ``boxes`` [n,4] (cx, cy, w, h) and ``classes`` [n] come sorted by falling score. A box is dropped when a better
    surviving box of its class overlaps it with IoU >= ``iou_threshold``.
    """
    kept: NDArray[np.intp] = np.empty(0, dtype=np.intp)
    with np.errstate(invalid="ignore", over="ignore"):  # absurd boxes (inf, NaN) overlap nothing
        for start in range(0, len(boxes), _BLOCK):
            block = np.arange(start, min(start + _BLOCK, len(boxes)))
            known = np.concatenate([kept, block])
            overlap = iou_matrix(boxes[known], boxes[block]) >= iou_threshold
            overlap &= classes[known, None] == classes[None, block]
            block = block[~overlap[: len(kept)].any(axis=0)]
            inside = overlap[len(kept) + block - start][:, block - start]
            kept = np.concatenate([kept, block[_first_come(inside)]])
            if limit is not None and len(kept) >= limit:
                return kept[:limit]
    return kept


def candidate_rows(
    scores: NDArray[Any], boxes: NDArray[Any], score_threshold: float, multi_label: bool, class_ids: NDArray[Any]
) -> Rows:
    """Rows of one image with score >= ``score_threshold`` and > 0, best first, equal scores in candidate order."""
    if multi_label:
        where, column = np.nonzero((scores >= score_threshold) & (scores > 0))
    else:
        column = scores.argmax(axis=1)
        best = scores[np.arange(len(scores)), column]
        where = np.flatnonzero((best >= score_threshold) & (best > 0))
        column = column[where]
    picked = scores[where, column]
    order = np.argsort(-picked, kind="stable")
    where, column, picked = where[order], column[order], picked[order]
    return np.concatenate([picked[:, None], class_ids[column][:, None], boxes[where]], axis=1, dtype=np.float32)


def _class_ids(columns: int, class_ids: Sequence[int] | None) -> NDArray[np.int64]:
    ids = np.arange(columns) if class_ids is None else np.asarray(class_ids, dtype=np.int64)
    if len(ids) < columns:
        raise ValueError(f"{columns} score columns but {len(ids)} class ids")
    return ids


def detections(
    scores: Array,
    boxes: Array,
    *,
    score_threshold: float = 0.0,
    iou_threshold: float | None = 0.5,
    top_k: int | None = 100,
    multi_label: bool = False,
    class_ids: Sequence[int] | None = None,
) -> list[Rows]:
    """Detections of each image of a batch: [n,6] float32 rows score, class, cx, cy, w, h, best first.

    ``scores`` [B,N,C] and ``boxes`` [B,N,4] as ``decode_maps`` gives them (NumPy or torch). A candidate counts with
    its best class, or with ``multi_label`` with every class, where the score is >= ``score_threshold`` and > 0.
    ``iou_threshold=None`` leaves suppression out; ``top_k=None`` keeps everything. ``class_ids`` names the columns
    (default 0, 1, ...).
    """
    score_array, box_array = _numpy(scores), _numpy(boxes)
    ids = _class_ids(score_array.shape[2], class_ids)
    result = []
    for image_scores, image_boxes in zip(score_array, box_array, strict=True):
        rows = candidate_rows(image_scores, image_boxes, score_threshold, multi_label, ids)
        if iou_threshold is None:
            rows = rows[:top_k]
        else:
            rows = rows[greedy_nms(rows[:, 2:], rows[:, 1], iou_threshold, top_k)]
        result.append(rows)
    return result


def top_k_rows(
    scores: Array,
    boxes: Array,
    *,
    k: int = 100,
    score_threshold: float = 0.0,
    multi_label: bool = False,
    class_ids: Sequence[int] | None = None,
) -> Rows:
    """What a graph exported with post-processing gives: the best ``k`` candidates, [B,min(k,N),6], no suppression.

    Rows as in ``detections``. Scores below ``score_threshold`` become 0, their rows stay.
    """
    score_array, box_array = _numpy(scores), _numpy(boxes)
    batch, count, columns = score_array.shape
    ids = _class_ids(columns, class_ids)
    score_array = np.where(score_array >= score_threshold, score_array, np.zeros((), score_array.dtype))
    if multi_label:
        flat, column = score_array.reshape(batch, -1), np.tile(np.arange(columns), (batch, count))
    else:
        flat, column = score_array.max(axis=2), score_array.argmax(axis=2)
    order = np.argsort(-flat, axis=1, kind="stable")[:, :k]
    cell = order // columns if multi_label else order
    image = np.arange(batch)[:, None]
    picked = np.take_along_axis(flat, order, 1)[..., None]
    label = ids[np.take_along_axis(column, order, 1)][..., None]
    return np.concatenate([picked, label, box_array[image, cell]], axis=2, dtype=np.float32)
