"""Which detection found which box, and the precision-recall curve that follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.detect.coco import GroundTruth, load


@dataclass(frozen=True)
class Matches:
    """COCO's assignment of detections to boxes, image by image in the order given."""

    hits: tuple[NDArray[np.bool_], ...]
    """[n] for each row of detections: it found a box."""
    counted: tuple[NDArray[np.bool_], ...]
    """[n]: it is among the best 100 of its image and class; the others are neither right nor wrong."""
    finders: tuple[NDArray[np.int64], ...]
    """[m] for each box: the row that found it, or -1."""


@dataclass(frozen=True)
class Curve:
    """Precision and recall of all classes together, as the score threshold falls.

    ``scores`` [K] are the different scores, falling; at threshold ``scores[k]`` (scores equal to it count) precision
    and recall are ``precision[k]`` and ``recall[k]``. All empty where nothing was detected.
    """

    scores: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    boxes: int

    @property
    def f1(self) -> NDArray[np.float64]:
        """2 P R / (P + R) at each threshold, 0 where both are 0."""
        both = self.precision + self.recall
        product: NDArray[np.float64] = 2 * self.precision * self.recall
        return np.divide(product, both, out=np.zeros_like(both), where=both > 0)

    @property
    def best(self) -> int | None:
        """Place of the highest F1, of equal ones the highest threshold; None where no box was found."""
        f1 = self.f1
        return int(f1.argmax()) if f1.size and f1.max() > 0 else None


def best_threshold(ground_truth: Sequence[GroundTruth], detections: Sequence[NDArray[Any]]) -> float | None:
    """The score threshold of the best F1 at IoU 0.5, all classes together; None where no box was found."""
    found = curve(match(ground_truth, detections), detections)
    return None if found.best is None else float(found.scores[found.best])


def match(ground_truth: Sequence[GroundTruth], detections: Sequence[NDArray[Any]], iou: float = 0.5) -> Matches:
    """Assign detections to boxes by hotcoco at one of COCO's ten IoU thresholds.

    Arguments and errors as for ``uhd.detect.coco.evaluate``; ``ValueError`` for another threshold.
    """
    import hotcoco

    if not np.isclose(iou, np.arange(0.5, 0.96, 0.05)).any():
        raise ValueError(f"IoU {iou} is none of COCO's thresholds 0.50, 0.55 .. 0.95")
    loaded = load(ground_truth, detections)
    hit = np.zeros(len(loaded.found), dtype=np.bool_)
    counted = np.zeros(len(loaded.found), dtype=np.bool_)
    finder = np.full(len(loaded.truth), -1, dtype=np.int64)
    if len(loaded.found):
        evaluation = hotcoco.COCOeval(loaded.dataset, loaded.results, "bbox")
        evaluation.evaluate()
        # a score threshold over 1 leaves the search for label errors, which is not needed, nothing to look at
        diagnostics = evaluation.image_diagnostics(iou_thr=iou, score_thr=2.0)
        counted[np.fromiter(diagnostics["dt_status"], np.int64) - 1] = True
        pairs = np.array(list(diagnostics["dt_match"].items()), dtype=np.int64).reshape(-1, 2) - 1
        hit[pairs[:, 0]] = True
        finder[pairs[:, 1]] = pairs[:, 0]
    found_ends = np.cumsum([len(rows) for rows in detections])[:-1]
    truth_ends = np.cumsum([len(boxes) for _, boxes in ground_truth])[:-1]
    first = np.concatenate([[0], found_ends]).astype(np.int64)
    finder = np.where(finder < 0, -1, finder - first[loaded.truth_image]) if len(finder) else finder
    if not ground_truth:
        return Matches((), (), ())
    return Matches(
        tuple(np.split(hit, found_ends)), tuple(np.split(counted, found_ends)), tuple(np.split(finder, truth_ends))
    )


def curve(matches: Matches, detections: Sequence[NDArray[Any]]) -> Curve:
    """The precision-recall curve of ``matches``; ``detections`` as they were given to ``match``."""
    boxes = sum(len(part) for part in matches.finders)
    counted = np.concatenate([np.zeros(0, np.bool_), *matches.counted])
    scores = np.concatenate([np.zeros(0), *(np.asarray(rows, np.float64).reshape(-1, 6)[:, 0] for rows in detections)])
    hits = np.concatenate([np.zeros(0, np.bool_), *matches.hits])[counted]
    scores = scores[counted]
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order], np.cumsum(hits[order])
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if len(scores) else np.zeros(0, np.int64)
    right = right[last].astype(np.float64)
    recall = right / boxes if boxes else np.zeros_like(right)
    return Curve(scores[last], right / (last + 1), recall, boxes)
