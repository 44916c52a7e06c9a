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
    ap75: float = -1.0
    ap_small: float = -1.0
    ap_medium: float = -1.0
    ap_large: float = -1.0
    recall100: float = -1.0


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
    recall1: float = -1.0
    """As ``recall100``, with at most one detection an image and class."""
    recall10: float = -1.0
    recall_small: float = -1.0
    """``recall100`` of boxes under 32 x 32 pixels of the original image."""
    recall_medium: float = -1.0
    recall_large: float = -1.0
    map50_small: float = -1.0
    map50_medium: float = -1.0
    map50_large: float = -1.0


@dataclass(frozen=True)
class SizeBucket:
    """Boxes whose area in the original image is that of a square of ``low`` to ``high`` pixels a side."""

    low: float
    high: float
    boxes: int
    ap50: float
    ap50_95: float
    recall100: float


@dataclass(frozen=True)
class Loaded:
    """Ground truth and detections as hotcoco holds them. Row i of the tables has the number i + 1 there."""

    dataset: Any
    results: Any
    classes: NDArray[np.int64]
    truth: NDArray[Any]
    """[T,5] class, cx, cy, w, h of all images."""
    truth_image: NDArray[np.int64]
    truth_pixels: NDArray[np.float64]
    """[T,4] x, y, w, h in pixels."""
    found: NDArray[Any]
    """[D,6] score, class, cx, cy, w, h of all images."""
    found_image: NDArray[np.int64]
    images: int


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


def load(ground_truth: Sequence[GroundTruth], detections: Sequence[NDArray[Any]]) -> Loaded:
    """Check both lists and hand them to hotcoco; arguments and errors as for ``evaluate``."""
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
    truth_pixels = _pixels(truth[:, 1:], sizes[truth_image])
    images = [{"id": i, "height": h, "width": w} for i, (h, w) in enumerate(sizes.tolist())]
    dataset = hotcoco.COCO.from_arrays(
        images=images,
        # categories are numbered 0.. in the order of class ids, so that negative or huge ids are harmless
        categories=[{"id": number, "name": str(class_id)} for number, class_id in enumerate(classes)],
        image_ids=truth_image,
        category_ids=np.searchsorted(classes, truth_class),
        boxes=truth_pixels,
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
    results = dataset.load_res(table)
    return Loaded(dataset, results, classes, truth, truth_image, truth_pixels, found, found_image, len(sizes))


def evaluate(ground_truth: Sequence[GroundTruth], detections: Sequence[NDArray[Any]]) -> MapResult:
    """mAP of ``detections`` against ``ground_truth``, image by image in the same order.

    ``detections``: per image [n,6] rows score, class, cx, cy, w, h, normalised, any order, any score; the best 100 of
    an image and class count. Images without boxes count: what is detected there is false. Areas and the size classes
    are in pixels of the original image. Raises ``ValueError`` when the two lists differ in length, or a row is not
    finite.
    """
    loaded = load(ground_truth, detections)
    truth_class, found_class = (array.astype(np.int64) for array in (loaded.truth[:, 0], loaded.found[:, 1]))
    if len(loaded.truth) == 0:
        return _undefined(loaded.classes, found_class, loaded.images)
    precision, recall = _accumulate(loaded)
    per_class = tuple(
        ClassResult(
            class_id=int(class_id),
            ap50=_mean(precision[0, :, number, 0, 2]),
            ap50_95=_mean(precision[:, :, number, 0, 2]),
            boxes=int((truth_class == class_id).sum()),
            detections=int((found_class == class_id).sum()),
            ap75=_mean(precision[5, :, number, 0, 2]),
            ap_small=_mean(precision[:, :, number, 1, 2]),
            ap_medium=_mean(precision[:, :, number, 2, 2]),
            ap_large=_mean(precision[:, :, number, 3, 2]),
            recall100=_mean(recall[:, number, 0, 2]),
        )
        for number, class_id in enumerate(loaded.classes)
    )
    return MapResult(
        map50=_mean(precision[0, :, :, 0, 2]),
        map50_95=_mean(precision[:, :, :, 0, 2]),
        map75=_mean(precision[5, :, :, 0, 2]),
        map_small=_mean(precision[:, :, :, 1, 2]),
        map_medium=_mean(precision[:, :, :, 2, 2]),
        map_large=_mean(precision[:, :, :, 3, 2]),
        recall100=_mean(recall[:, :, 0, 2]),
        per_class=per_class,
        images=loaded.images,
        boxes=len(loaded.truth),
        detections=len(loaded.found),
        recall1=_mean(recall[:, :, 0, 0]),
        recall10=_mean(recall[:, :, 0, 1]),
        recall_small=_mean(recall[:, :, 1, 2]),
        recall_medium=_mean(recall[:, :, 2, 2]),
        recall_large=_mean(recall[:, :, 3, 2]),
        map50_small=_mean(precision[0, :, :, 1, 2]),
        map50_medium=_mean(precision[0, :, :, 2, 2]),
        map50_large=_mean(precision[0, :, :, 3, 2]),
    )


#: Sides in pixels between which ``size_buckets`` looks; COCO's own limits 32 and 96 are among them.
BUCKET_SIDES = (0.0, 16.0, 32.0, 64.0, 96.0, 192.0, 384.0, 1e5)


def size_buckets(
    ground_truth: Sequence[GroundTruth],
    detections: Sequence[NDArray[Any]],
    sides: Sequence[float] = BUCKET_SIDES,
) -> tuple[SizeBucket, ...]:
    """Average precision by the size of the box, finer than small, medium and large; classes as in ``evaluate``.

    ``sides``: rising limits in pixels of the original image; a box of exactly a limit's area belongs to both buckets,
    as in pycocotools. -1 where a bucket has no box. Raises as ``evaluate``.
    """
    loaded = load(ground_truth, detections)
    ranges = [(low, high) for low, high in zip(sides, sides[1:], strict=False)]
    area = loaded.truth_pixels[:, 2] * loaded.truth_pixels[:, 3]
    counts = [int(((area >= low**2) & (area <= high**2)).sum()) for low, high in ranges]
    if not any(counts):
        return tuple(SizeBucket(low, high, 0, -1.0, -1.0, -1.0) for low, high in ranges)
    precision, recall = _accumulate(loaded, ranges)
    return tuple(
        SizeBucket(
            low,
            high,
            count,
            ap50=_mean(precision[0, :, :, number, 0]),
            ap50_95=_mean(precision[:, :, :, number, 0]),
            recall100=_mean(recall[:, :, number, 0]),
        )
        for number, ((low, high), count) in enumerate(zip(ranges, counts, strict=True))
    )


def _accumulate(
    loaded: Loaded, ranges: Sequence[tuple[float, float]] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision [IoU 10, recall 101, class, area, limit] and recall [IoU 10, class, area, limit].

    Areas: all, small, medium, large, and limits 1, 10, 100; with ``ranges`` of sides these, and the limit 100.
    """
    import hotcoco

    evaluation = hotcoco.COCOeval(loaded.dataset, loaded.results, "bbox")
    if ranges is not None:
        evaluation.params.area_rng = [[low**2, high**2] for low, high in ranges]
        evaluation.params.area_rng_lbl = [f"{low:g} to {high:g}" for low, high in ranges]
        evaluation.params.max_dets = [100]
    evaluation.evaluate()
    evaluation.accumulate()
    curves = evaluation.eval
    assert curves is not None  # for the type checker: accumulate() fills it
    return np.asarray(curves["precision"]), np.asarray(curves["recall"])


def _mean(values: NDArray[Any]) -> float:
    """Mean of the defined entries (not -1), or -1."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else -1.0


def _undefined(classes: NDArray[np.int64], found_class: NDArray[np.int64], images: int) -> MapResult:
    per_class = tuple(ClassResult(int(c), -1.0, -1.0, 0, int((found_class == c).sum())) for c in classes)
    return MapResult(-1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, per_class, images, 0, len(found_class))
