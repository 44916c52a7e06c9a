"""Independent, slow, scalar versions of what ``uhd.train`` computes on tensors. Plain Python floats only."""

from __future__ import annotations

import math
from dataclasses import dataclass

Box = tuple[float, float, float, float]
"""cx, cy, w, h."""


def corners(box: Box) -> Box:
    cx, cy, w, h = box
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def slow_iou(a: Box, b: Box) -> float:
    ax0, ay0, ax1, ay1 = corners(a)
    bx0, by0, bx1, by1 = corners(b)
    wide = min(ax1, bx1) - max(ax0, bx0)
    tall = min(ay1, by1) - max(ay0, by0)
    common = wide * tall if wide > 0 and tall > 0 else 0.0
    return common / (a[2] * a[3] + b[2] * b[3] - common + 1e-7)


def slow_giou(a: Box, b: Box) -> float:
    ax0, ay0, ax1, ay1 = corners(a)
    bx0, by0, bx1, by1 = corners(b)
    hull = (max(ax1, bx1) - min(ax0, bx0)) * (max(ay1, by1) - min(ay0, by0)) + 1e-7
    iou = slow_iou(a, b)
    union = (a[2] * a[3] + b[2] * b[3] + 1e-7) / (1 + iou)
    return iou - (hull - union) / hull


def slow_ciou(a: Box, b: Box) -> float:
    ax0, ay0, ax1, ay1 = corners(a)
    bx0, by0, bx1, by1 = corners(b)
    iou = slow_iou(a, b)
    diagonal = (max(ax1, bx1) - min(ax0, bx0)) ** 2 + (max(ay1, by1) - min(ay0, by0)) ** 2
    distance = (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2
    v = 4 / math.pi**2 * (math.atan(a[2] / (a[3] + 1e-7)) - math.atan(b[2] / (b[3] + 1e-7))) ** 2
    return iou - distance / max(diagonal, 1e-7) - v * v / (1 - iou + v + 1e-7)


@dataclass
class SlowPositive:
    """One candidate of one image that learns one object."""

    target: int
    alignment: float
    iou: float
    score: float = 0.0


def slow_assign(
    scores: list[list[list[float]]],
    boxes: list[list[Box]],
    targets: list[tuple[int, int, Box]],
    grid: tuple[int, int, int],
    topk: int,
    radius: int,
    score_power: float,
    iou_power: float,
) -> dict[tuple[int, int], SlowPositive]:
    """(image, candidate) -> positive. ``targets`` are (image, label, box), ``grid`` is anchors, height, width."""
    anchors, height, width = grid
    owners: dict[tuple[int, int], SlowPositive] = {}
    for number, (image, label, box) in enumerate(targets):
        column = min(max(int(box[0] * width), 0), width - 1)
        row = min(max(int(box[1] * height), 0), height - 1)
        ranked = []
        for anchor in range(anchors):
            for y in range(max(0, row - radius), min(height, row + radius + 1)):
                for x in range(max(0, column - radius), min(width, column + radius + 1)):
                    candidate = (anchor * height + y) * width + x
                    iou = slow_iou(boxes[image][candidate], box)
                    if iou > 0:
                        classes = scores[image][candidate]
                        score = classes[label] if len(classes) > 1 else classes[0]
                        ranked.append((score**score_power * iou**iou_power, iou, candidate))
        ranked.sort(key=lambda entry: -entry[0])
        for alignment, iou, candidate in ranked[:topk]:
            key = (image, candidate)
            if key not in owners or alignment > owners[key].alignment:
                owners[key] = SlowPositive(number, alignment, iou)
    for positive in owners.values():
        mine = [other for other in owners.values() if other.target == positive.target]
        best = max(other.alignment for other in mine)
        positive.score = positive.alignment / best * max(other.iou for other in mine)
    return owners


def slow_varifocal(p: float, target: float, positive: bool, background_weight: float, weighting: bool) -> float:
    entropy = -(target * math.log(p) + (1 - target) * math.log(1 - p))
    if positive:
        return entropy * (target if weighting else 1.0)
    return entropy * background_weight * p * p


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))
