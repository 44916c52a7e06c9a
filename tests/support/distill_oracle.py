"""The distillation terms once more, in NumPy and cell by cell, from their definitions."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Maps = Mapping[str, Array]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def bilinear(values: Array, grid: tuple[int, int]) -> Array:
    """[B,C,h,w] on another grid: output cell i looks at (i + 0.5) * in / out - 0.5, clamped to the map."""
    result = np.asarray(values, np.float64)
    for axis, size in ((2, grid[0]), (3, grid[1])):
        count = result.shape[axis]
        columns = []
        for i in range(size):
            place = min(max((i + 0.5) * count / size - 0.5, 0.0), count - 1.0)
            low = int(place)
            high = min(low + 1, count - 1)
            part = place - low
            columns.append((1 - part) * result.take(low, axis) + part * result.take(high, axis))
        result = np.stack(columns, axis)
    return result


def boxes(box: Array, anchors: Array, scale: Array, cap: float = math.inf) -> Array:
    """[B,4A,h,w] logits -> [B,A,4,h,w] cx,cy,w,h."""
    batch, channels, height, width = box.shape
    result = np.zeros((batch, channels // 4, 4, height, width))
    for b, a, y, x in np.ndindex(batch, channels // 4, height, width):
        tx, ty, tw, th = (float(box[b, 4 * a + k, y, x]) for k in range(4))
        grown = [min(math.log1p(math.exp(t)), cap) for t in (tw, th)]
        result[b, a, :, y, x] = (
            (float(sigmoid(tx)) + x) / width,
            (float(sigmoid(ty)) + y) / height,
            anchors[a, 0] * scale[a, 0] * grown[0],
            anchors[a, 1] * scale[a, 1] * grown[1],
        )
    return result


def cross_entropy(target: Array, guess: Array) -> Array:
    """Of yes/no probabilities."""
    return -(target * np.log(guess) + (1 - target) * np.log(1 - guess))


def binary_kl(student: Array, teacher: Array, temperature: float) -> Array:
    """Elementwise, from logits, times the temperature's square."""
    p, q = sigmoid(teacher / temperature), sigmoid(student / temperature)
    return (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))) * temperature**2


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def categorical_kl(student: Array, teacher: Array, temperature: float) -> Array:
    """Over the last axis, from logits, times the temperature's square."""
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    return (p * np.log(p / q)).sum(-1) * temperature**2


def weighted(values: Array, weights: Array) -> float:
    return float((values * weights).sum() / max(weights.sum(), 1.0))
