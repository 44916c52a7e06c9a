"""The decode formulas of uhd/model.hpp in Python integers and fractions, for the models of ``fakemodel``."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from support.fakemodel import FakeModel, sigmoid, softplus

Array = NDArray[Any]
Row = tuple[int, int, int, int, int, int]


class Tables:
    """The tables of a model's component, and how they are read."""

    def __init__(self, model: FakeModel) -> None:
        x = model.knots()
        self.wide = model.bits == 16
        self.sigmoid = [round(v) for v in 65535 * sigmoid(x)]
        sizes = model.anchor_sizes.reshape(-1)
        self.sizes = [[min(round(v), 4 * 65535) for v in 65535 * s * softplus(x)] for s in sizes]

    def at(self, table: list[int], q: int) -> int:
        if not self.wide:
            return table[q + 128]
        i, fraction = divmod(q + 32768, 64)
        return table[i] + (((table[i + 1] - table[i]) * fraction + 32) >> 6)


def all_candidates(model: FakeModel, outputs: dict[str, Array]) -> list[Row]:
    """Score, class, cx, cy, w, h of every candidate, in candidate order."""
    tables, rows = Tables(model), []
    maps = {name: value[0].astype(int).tolist() for name, value in outputs.items()}
    for a in range(model.anchors):
        for gy in range(model.grid_h):
            for gx in range(model.grid_w):
                cell = {name: value[gy][gx] for name, value in maps.items()}
                factors = [tables.at(tables.sigmoid, cell[n][a]) for n in ("obj", "quality") if n in cell]
                base = None
                for factor in factors:
                    base = factor if base is None else product(base, factor)
                scores = [base or 0]
                if "cls" in cell:
                    each = [tables.at(tables.sigmoid, cell["cls"][a * model.classes + k]) for k in range(model.classes)]
                    scores = [s if base is None else product(base, s) for s in each]
                best = max(range(len(scores)), key=lambda k: (scores[k], -k))
                tx, ty, tw, th = cell["box"][4 * a : 4 * a + 4]
                cx = (tables.at(tables.sigmoid, tx) + gx * 65535 + model.grid_w // 2) // model.grid_w
                cy = (tables.at(tables.sigmoid, ty) + gy * 65535 + model.grid_h // 2) // model.grid_h
                w, h = tables.at(tables.sizes[2 * a], tw), tables.at(tables.sizes[2 * a + 1], th)
                rows.append((scores[best], best, cx, cy, w, h))
    return rows


def product(a: int, b: int) -> int:
    """round(a * b / 65535), halves up."""
    return (2 * a * b + 65535) // (2 * 65535)


def iou(a: Row, b: Row) -> Fraction:
    """Intersection over union + 1e-6, in units of the picture, exactly."""
    sides = []
    for centre, size in ((2, 4), (3, 5)):
        low = max(Fraction(2 * r[centre] - r[size], 2) for r in (a, b))
        high = min(Fraction(2 * r[centre] + r[size], 2) for r in (a, b))
        sides.append(max(high - low, Fraction(0)))
    shared = sides[0] * sides[1] / 65535**2
    union = Fraction(a[4] * a[5] + b[4] * b[5], 65535**2) - shared
    return shared / (union + Fraction(17179, 131070**2))


def overlaps(a: Row, b: Row, nms: int) -> bool:
    """``iou(a, b) >= nms / 65535`` in whole numbers, which is much faster."""
    sides = []
    for centre, size in ((2, 4), (3, 5)):
        low = max(2 * r[centre] - r[size] for r in (a, b))
        high = min(2 * r[centre] + r[size] for r in (a, b))
        sides.append(max(high - low, 0))
    shared = sides[0] * sides[1]
    return shared * 65535 >= nms * (4 * (a[4] * a[5] + b[4] * b[5]) - shared + 17179)


def detect(model: FakeModel, outputs: dict[str, Array], threshold: int, nms: int, top_k: int) -> tuple[list[Row], int]:
    """Rows that remain, best first, and the number of candidates."""
    rows = [r for r in all_candidates(model, outputs) if r[0] >= threshold and r[0] > 0]
    best = sorted(rows, key=lambda r: -r[0])[:top_k]  # stable: equal scores in candidate order
    kept: list[Row] = []
    for row in best:
        if all(k[1] != row[1] or not overlaps(k, row, nms) for k in kept):
            kept.append(row)
    return kept, len(rows)


def random_outputs(model: FakeModel, generator: np.random.Generator, spread: float = 1.0) -> dict[str, Array]:
    """Output tensors with values in the whole range of their type, or a part of it around 0."""
    top = 2 ** (model.bits - 1)
    low, high = int(-top * spread), int((top - 1) * spread)
    shapes = {n: (1, model.grid_h, model.grid_w, c) for n, c in model.output_channels.items()}
    return {n: generator.integers(low, high + 1, shape).astype(model.dtype) for n, shape in shapes.items()}
