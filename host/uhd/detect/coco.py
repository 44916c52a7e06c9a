"""COCO mean average precision (bounding boxes), computed by hotcoco with the protocol of pycocotools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

GroundTruth = tuple[tuple[int, int], NDArray[Any]]
"""One image: its original (height, width) in pixels and [N,5] rows class, cx, cy, w, h normalised to it."""


@dataclass(frozen=True)
class ClassResult:
    """Average precision of one class; -1 where it has no ground-truth box."""

    class_id: int
    ap50: float
    ap50_95: float
    boxes: int
    detections: int


@dataclass(frozen=True)
class MapResult:
    """COCO summary: means over the classes that have a ground-truth box; -1 where undefined, as in pycocotools."""

    map50: float
    map50_95: float
    map75: float
    map_small: float
    """map50_95 of boxes under 32 x 32 pixels of the original image."""
    map_medium: float
    map_large: float
    """map50_95 of boxes over 96 x 96 pixels of the original image."""
    recall100: float
    """Mean recall over IoU 0.50 to 0.95 with at most 100 detections an image."""
    per_class: tuple[ClassResult, ...]
    images: int
    boxes: int
    detections: int


def _pixels(cxcywh: NDArray[Any], size: NDArray[Any]) -> NDArray[np.float64]:
    """cx, cy, w, h normalised -> x, y, w, h in pixels; ``size`` [n,2] is (height, width) per row."""
    wide = np.asarray(cxcywh, dtype=np.float64)
    scale = np.asarray(size, dtype=np.float64)[:, ::-1]
    extent = wide[:, 2:4] * scale
    return np.concatenate([wide[:, :2] * scale - extent / 2, extent], axis=1)


def _columns(arrays: Sequence[NDArray[Any]], width: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Image number of every row, and all rows."""
    checked = [np.asarray(array, dtype=np.float64).reshape(-1, width) for array in arrays]
    numbers = np.repeat(np.arange(len(checked)), [len(array) for array in checked])
    return numbers, np.concatenate(checked) if checked else np.empty((0, width))


def evaluate(ground_truth: Sequence[GroundTruth], detections: Sequence[NDArray[Any]]) -> MapResult:
    """mAP of ``detections`` against ``ground_truth``, image by image in the same order.

    ``detections``: per image [n,6] rows score, class, cx, cy, w, h normalised, any order, any score; the best 100 of
    an image and class count. Images without boxes count: what is detected there is false. Areas and the size classes
    are in pixels of the original image. Raises ``ValueError`` when the two lists differ in length, or a row is not
    finite.
    """
    import hotcoco

    if len(ground_truth) != len(detections):
        raise ValueError(f"{len(ground_truth)} images but {len(detections)} lists of detections")
    sizes = np.array([size for size, _ in ground_truth], dtype=np.int64).reshape(-1, 2)
    truth_image, truth = _columns([boxes for _, boxes in ground_truth], 5)
    found_image, found = _columns(detections, 6)
    if not (np.isfinite(truth).all() and np.isfinite(found).all()):
        raise ValueError("a box or detection is not finite")
    truth_class, found_class = truth[:, 0].astype(np.int64), found[:, 1].astype(np.int64)
    classes = np.unique(np.concatenate([truth_class, found_class]))
    if len(truth) == 0:
        return _undefined(classes, found_class, len(sizes))

    images = [{"id": i, "height": int(h), "width": int(w)} for i, (h, w) in enumerate(sizes)]
    # categories are numbered 0.. in the order of class ids, so that negative or huge ids are harmless
    categories = [{"id": number, "name": str(class_id)} for number, class_id in enumerate(classes)]
    dataset = hotcoco.COCO.from_arrays(
        images=images,
        categories=categories,
        image_ids=truth_image,
        category_ids=np.searchsorted(classes, truth_class),
        boxes=_pixels(truth[:, 1:], sizes[truth_image]),
    )
    table = np.concatenate(
        [
            found_image[:, None],
            _pixels(found[:, 2:], sizes[found_image]),
            found[:, :1],
            np.searchsorted(classes, found_class)[:, None],
        ],
        axis=1,
    )
    evaluation = hotcoco.COCOeval(dataset, dataset.load_res(table), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    curves = evaluation.eval
    assert curves is not None  # for the type checker: accumulate() fills it
    precision = np.asarray(curves["precision"])  # [IoU 10, recall 101, class, area 4, limit 3]
    recall = np.asarray(curves["recall"])  # [IoU 10, class, area 4, limit 3]
    everything = precision[:, :, :, 0, 2]
    per_class = tuple(
        ClassResult(
            class_id=int(class_id),
            ap50=_mean(everything[0, :, number]),
            ap50_95=_mean(everything[:, :, number]),
            boxes=int((truth_class == class_id).sum()),
            detections=int((found_class == class_id).sum()),
        )
        for number, class_id in enumerate(classes)
    )
    return MapResult(
        map50=_mean(everything[0]),
        map50_95=_mean(everything),
        map75=_mean(everything[5]),
        map_small=_mean(precision[:, :, :, 1, 2]),
        map_medium=_mean(precision[:, :, :, 2, 2]),
        map_large=_mean(precision[:, :, :, 3, 2]),
        recall100=_mean(recall[:, :, 0, 2]),
        per_class=per_class,
        images=len(sizes),
        boxes=len(truth),
        detections=len(found),
    )


def _mean(values: NDArray[Any]) -> float:
    """Mean of the defined entries (not -1), or -1."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else -1.0


def _undefined(classes: NDArray[np.int64], found_class: NDArray[np.int64], images: int) -> MapResult:
    per_class = tuple(ClassResult(int(c), -1.0, -1.0, 0, int((found_class == c).sum())) for c in classes)
    return MapResult(-1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, per_class, images, 0, len(found_class))
