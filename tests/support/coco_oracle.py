"""pycocotools' evaluation of rows as ``uhd.detect.coco`` takes them, for values that its summary does not give."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np


def oracle(truth: list[Any], found: list[Any], area_ranges: list[list[float]] | None = None) -> Any:
    """A ``COCOeval`` of pycocotools, evaluated and accumulated. At least one box or detection."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images, boxes, results, classes = [], [], [], set()
    for number, ((height, width), rows) in enumerate(truth):
        images.append({"id": number, "height": height, "width": width})
        for label, *box in np.asarray(rows, np.float64).reshape(-1, 5):
            pixels = _pixels(box, height, width)
            area = pixels[2] * pixels[3]
            boxes.append({"id": len(boxes) + 1, "image_id": number, "category_id": int(label), "bbox": pixels})
            boxes[-1] |= {"area": area, "iscrowd": 0}
            classes.add(int(label))
        for score, label, *box in np.asarray(found[number], np.float64).reshape(-1, 6):
            row = {"image_id": number, "category_id": int(label), "bbox": _pixels(box, height, width), "score": score}
            results.append(row)
            classes.add(int(label))
    categories = [{"id": c, "name": str(c)} for c in sorted(classes)]
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = COCO()
        dataset.dataset = {"images": images, "annotations": boxes, "categories": categories}
        dataset.createIndex()
        if results:
            detections = dataset.loadRes(results)
        else:
            detections = COCO()
            detections.dataset = {**dataset.dataset, "annotations": []}
            detections.createIndex()
        evaluation = COCOeval(dataset, detections, "bbox")
        if area_ranges is not None:
            evaluation.params.areaRng = area_ranges
            evaluation.params.areaRngLbl = [str(r) for r in area_ranges]
            evaluation.params.maxDets = [100]
        evaluation.evaluate()
        evaluation.accumulate()
        if area_ranges is None:
            evaluation.summarize()
    return evaluation


def mean(values: Any) -> float:
    """Mean of what is defined (not -1), or -1."""
    defined = [v for v in np.asarray(values).ravel() if v > -1]
    return sum(defined) / len(defined) if defined else -1.0


def _pixels(box: list[float], height: int, width: int) -> list[float]:
    cx, cy, w, h = box
    return [cx * width - w * width / 2, cy * height - h * height / 2, w * width, h * height]


def random_case(seed: int, images: int, classes: int, *, ties: bool = False, largest: int = 500) -> tuple[list, list]:
    """Random boxes, and detections that are partly near them, partly duplicates, partly noise."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(images):
        size = (int(rng.integers(20, largest)), int(rng.integers(20, largest)))
        count = int(rng.integers(0, 6))
        boxes = np.zeros((count, 5))
        boxes[:, 0] = rng.integers(0, classes, count)
        boxes[:, 1:3], boxes[:, 3:] = rng.uniform(0.1, 0.9, (count, 2)), rng.uniform(0.02, 0.8, (count, 2))
        near = boxes[rng.integers(0, count, int(rng.integers(0, 10)))] if count else np.zeros((0, 5))
        near = near * np.concatenate([np.ones((len(near), 1)), rng.normal(1, 0.08, (len(near), 4))], axis=1)
        noise = rng.uniform(0.02, 1, (int(rng.integers(0, 5)), 5))
        noise[:, 0] = rng.integers(0, classes + 1, len(noise))
        rows = np.concatenate([near, noise])
        scores = rng.uniform(0.01, 1, (len(rows), 1))
        found.append(np.concatenate([np.round(scores, 1) if ties else scores, rows], axis=1).astype(np.float32))
        truth.append((size, boxes.astype(np.float32)))
    return truth, found
