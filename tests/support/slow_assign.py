"""Slow assigners, one object at a time in plain Python, written from their descriptions."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

from support.slow_train import Box, slow_giou, slow_iou

Object = tuple[int, int, Box]
"""Image, label, box."""
Place = tuple[int, int, int, int]
"""Image, anchor, row, column."""


@dataclass
class Slow:
    """``owner``: which object each place learns; ``bits``: class targets of a place, by label."""

    owner: dict[Place, int] = field(default_factory=dict)
    bits: dict[Place, dict[int, float]] = field(default_factory=dict)


def size_fit(box: Box, size: tuple[float, float]) -> float:
    both = min(box[2], size[0]) * min(box[3], size[1])
    return both / (box[2] * box[3] + size[0] * size[1] - both + 1e-7)


def home(box: Box, height: int, width: int) -> tuple[int, int]:
    row = min(max(math.floor(box[1] * height), 0), height - 1)
    return row, min(max(math.floor(box[0] * width), 0), width - 1)


def slow_legacy(
    objects: list[Object], sizes: list[tuple[float, float]], height: int, width: int, reference: bool
) -> Slow:
    found = Slow()
    if reference:
        for number, (image, label, box) in enumerate(objects):
            fits = [size_fit(box, size) for size in sizes]
            place = (image, fits.index(max(fits)), *home(box, height, width))
            found.owner[place] = number
            found.bits.setdefault(place, {})[label] = 1.0
        return found
    wishes = [
        (size_fit(box, size), number, (image, anchor, *home(box, height, width)))
        for number, (image, _, box) in enumerate(objects)
        for anchor, size in enumerate(sizes)
    ]
    served = set()
    for _, number, place in sorted(wishes, key=lambda wish: -wish[0]):
        if number not in served and place not in found.owner:
            found.owner[place] = number
            found.bits[place] = {objects[number][1]: 1.0}
            served.add(number)
    return found


def slow_simota_reference(
    objects: list[Object], boxes: dict[Place, Box], topk: int, has_quality: bool, multi_label: bool
) -> Slow:
    found = Slow()
    for number, (image, label, box) in enumerate(objects):
        ranked = sorted(
            ((slow_iou(predicted, box), place) for place, predicted in boxes.items() if place[0] == image),
            key=lambda entry: -entry[0],
        )[:topk]
        count = min(max(int(sum(iou for iou, _ in ranked)), 1), len(ranked))
        for iou, place in ranked[:count]:
            if place in found.owner and not multi_label:
                continue
            found.owner.setdefault(place, number)
            value = 1.0 if has_quality else iou
            bits = found.bits.setdefault(place, {})
            bits[label] = max(bits.get(label, 0.0), value)
    return found


def slow_simota(
    objects: list[Object],
    boxes: dict[Place, Box],
    logits: dict[Place, list[float]],
    grid: tuple[int, int],
    topk: int,
    radius: int,
) -> Slow:
    found, price = Slow(), {}
    for number, (image, label, box) in enumerate(objects):
        row, column = home(box, *grid)
        near = [
            place
            for place in boxes
            if place[0] == image and abs(place[2] - row) <= radius and abs(place[3] - column) <= radius
        ]
        ious = sorted((slow_iou(boxes[place], box) for place in near), reverse=True)[:topk]
        count = min(max(int(sum(ious)), 1), len(ious))
        costs = []
        for place in near:
            cost = 3 * (1 - slow_giou(boxes[place], box))
            if logits:
                cost += math.log1p(math.exp(-logits[place][label]))
            costs.append((cost, place))
        for cost, place in sorted(costs)[:count]:
            if place not in found.owner or cost < price[place]:
                found.owner[place], price[place] = number, cost
    return found


def best_matching(costs: list[list[float]]) -> float:
    """The cheapest total of a one-to-one matching, by trying them all."""
    rows, columns = len(costs), len(costs[0]) if costs else 0
    if rows > columns:
        return best_matching([[row[column] for row in costs] for column in range(columns)])
    return min(
        sum(costs[row][column] for row, column in enumerate(order))
        for order in itertools.permutations(range(columns), rows)
    )
