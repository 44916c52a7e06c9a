"""Slow, plain references for decoding, suppression and mAP, written without the code under test."""

from __future__ import annotations

import contextlib
import io
import math
from typing import Any

import numpy as np


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def decode_cell(maps: dict[str, Any], anchors: Any, wh_scale: Any, image: int, a: int, y: int, x: int) -> list[float]:
    """cx, cy, w, h of one candidate in double precision."""
    box = maps["box"]
    height, width = box.shape[2:]
    tx, ty, tw, th = (float(box[image, 4 * a + i, y, x]) for i in range(4))
    soft = [max(t, 0) + math.log1p(math.exp(-abs(t))) for t in (tw, th)]
    return [
        (logistic(tx) + x) / width,
        (logistic(ty) + y) / height,
        float(anchors[a][0]) * float(wh_scale[a][0]) * soft[0],
        float(anchors[a][1]) * float(wh_scale[a][1]) * soft[1],
    ]


def iou(a: Any, b: Any) -> float:
    """IoU of two cx, cy, w, h boxes, union + 1e-6, in float32 as the reference computes it."""
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    low = np.maximum(a[:2] - a[2:] / 2, b[:2] - b[2:] / 2)
    high = np.minimum(a[:2] + a[2:] / 2, b[:2] + b[2:] / 2)
    side = np.maximum(high - low, np.float32(0))
    both = side[0] * side[1]
    return float(both / (a[2] * a[3] + b[2] * b[3] - both + np.float32(1e-6)))


def greedy(rows: list[Any], threshold: float) -> list[int]:
    """Indices kept by per-class greedy suppression of rows (score, class, box) sorted by falling score."""
    kept: list[int] = []
    for index, row in enumerate(rows):
        if all(rows[k][1] != row[1] or iou(rows[k][2:], row[2:]) < threshold for k in kept):
            kept.append(index)
    return kept


def pycocotools_map(ground_truth: list[Any], detections: list[Any]) -> dict[str, float]:
    """The summary numbers of pycocotools for the same input as ``uhd.detect.coco.evaluate``."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images, annotations, results = [], [], []
    classes: set[int] = set()
    for image, ((height, width), boxes) in enumerate(ground_truth):
        images.append({"id": image, "height": height, "width": width})
        for label, cx, cy, w, h in np.asarray(boxes, dtype=np.float64).reshape(-1, 5):
            box = [cx * width - w * width / 2, cy * height - h * height / 2, w * width, h * height]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(label),
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
            classes.add(int(label))
        for score, label, cx, cy, w, h in np.asarray(detections[image], dtype=np.float64).reshape(-1, 6):
            box = [cx * width - w * width / 2, cy * height - h * height / 2, w * width, h * height]
            results.append({"image_id": image, "category_id": int(label), "bbox": box, "score": score})
            classes.add(int(label))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": c, "name": str(c)} for c in sorted(classes)],
        }
        truth.createIndex()
        if results:
            found = truth.loadRes(results)
        else:
            found = COCO()
            found.dataset = {**truth.dataset, "annotations": []}
            found.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ["map50_95", "map50", "map75", "map_small", "map_medium", "map_large", "", "", "recall100"]
    return {name: float(value) for name, value in zip(names, evaluation.stats, strict=False) if name}
