"""Procedural scenes with people-like figures: pictures for tests and demonstrations that belong to nobody.

Figures are built of a head, a torso, arms and legs in varied poses, sizes, skin and clothes, before backgrounds of sky,
walls, trees and noise. Among them stand things that are not people: poles, balls, boxes. Drawing uses NumPy only, so a
seed gives the same picture on every machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Canvas = NDArray[np.float64]
Mask = NDArray[np.bool_]

_MIN_VISIBLE = 0.35
"""A figure of which less than this part is seen is left unlabelled, and drawn over."""


class _Painter:
    """Fills shapes on a float canvas; coordinates in pixels, colours 0..255."""

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas
        self.y, self.x = np.mgrid[: canvas.shape[0], : canvas.shape[1]] + 0.5

    def ellipse(self, cx: float, cy: float, rx: float, ry: float) -> Mask:
        return ((self.x - cx) / max(rx, 0.5)) ** 2 + ((self.y - cy) / max(ry, 0.5)) ** 2 <= 1

    def limb(self, x0: float, y0: float, x1: float, y1: float, radius: float) -> Mask:
        """Everything within ``radius`` of the line from one point to the other."""
        dx, dy = x1 - x0, y1 - y0
        along = ((self.x - x0) * dx + (self.y - y0) * dy) / max(dx * dx + dy * dy, 1e-9)
        along = np.clip(along, 0, 1)
        distance = (self.x - x0 - along * dx) ** 2 + (self.y - y0 - along * dy) ** 2
        return distance <= max(radius, 0.5) ** 2

    def rectangle(self, x0: float, y0: float, x1: float, y1: float) -> Mask:
        return (self.x >= x0) & (self.x <= x1) & (self.y >= y0) & (self.y <= y1)

    def fill(self, mask: Mask, colour: NDArray[np.float64], shade: float = 0.0) -> None:
        """Paint; ``shade`` darkens the right side of the shape, as light from the left does."""
        if not mask.any():
            return
        columns = self.x[mask]
        across = (columns - columns.min()) / max(float(np.ptp(columns)), 1.0)
        self.canvas[mask] = colour * (1 - shade * across)[:, None]


def _colour(rng: np.random.Generator, low: float = 20, high: float = 235) -> NDArray[np.float64]:
    """A random colour, drawn towards grey as most things are."""
    colour = rng.uniform(low, high, 3)
    return colour.mean() + (colour - colour.mean()) * rng.uniform(0.1, 1.0)


def _smooth_noise(rng: np.random.Generator, height: int, width: int, cells: int, strength: float) -> Canvas:
    """Random light and dark patches: a coarse grid, interpolated."""
    grid = rng.normal(0, strength, (cells + 1, cells + 1))
    y, x = np.linspace(0, cells, height, endpoint=False), np.linspace(0, cells, width, endpoint=False)
    y0, x0 = y.astype(int), x.astype(int)
    fy, fx = (y - y0)[:, None], (x - x0)[None, :]
    top = grid[y0][:, x0] * (1 - fx) + grid[y0][:, x0 + 1] * fx
    bottom = grid[y0 + 1][:, x0] * (1 - fx) + grid[y0 + 1][:, x0 + 1] * fx
    return np.asarray(top * (1 - fy) + bottom * fy)[..., None]


def _background(rng: np.random.Generator, height: int, width: int) -> tuple[_Painter, float]:
    """Sky or wall above, ground below, and things that stand there. Returns the painter and the horizon's row."""
    canvas = np.empty((height, width, 3))
    horizon = height * rng.uniform(0.3, 0.7)
    fade = np.linspace(0, 1, height)[:, None, None]
    canvas[:] = _colour(rng, 60, 250) * (1 - fade) + _colour(rng, 60, 250) * fade
    painter = _Painter(canvas)
    painter.fill(painter.y > horizon, _colour(rng, 40, 200))
    for _ in range(rng.integers(0, 5)):
        x, wide = rng.uniform(0, width), rng.uniform(0.05, 0.35) * width
        kind = rng.integers(0, 4)
        if kind == 0:  # building with rows of windows
            top = horizon - rng.uniform(0.1, 0.9) * horizon
            painter.fill(painter.rectangle(x, top, x + wide, horizon), _colour(rng), 0.2)
            pitch = max(4.0, wide / rng.integers(3, 7))
            windows = ((painter.x - x) % pitch < pitch / 2) & ((painter.y - top) % pitch < pitch / 2)
            painter.fill(windows & painter.rectangle(x + 1, top + 1, x + wide - 1, horizon - 1), _colour(rng))
        elif kind == 1:  # tree
            base = horizon + rng.uniform(0, 0.1) * height
            painter.fill(painter.limb(x, base, x, base - wide, wide / 12), np.array([90.0, 60.0, 40.0]))
            painter.fill(painter.ellipse(x, base - wide * 1.3, wide / 2, wide / 1.6), _colour(rng, 20, 140), 0.4)
        elif kind == 2:  # pole
            painter.fill(painter.limb(x, horizon * 1.1, x, horizon * rng.uniform(0.1, 0.6), width / 120), _colour(rng))
        else:  # crate or ball on the ground
            base = rng.uniform(horizon, height)
            if rng.random() < 0.5:
                painter.fill(painter.rectangle(x, base - wide / 2, x + wide / 1.5, base), _colour(rng), 0.3)
            else:
                painter.fill(painter.ellipse(x, base - wide / 5, wide / 5, wide / 5), _colour(rng), 0.5)
    canvas += _smooth_noise(rng, height, width, int(rng.integers(2, 12)), rng.uniform(0, 18))
    return painter, horizon


def _figure(rng: np.random.Generator, painter: _Painter, x: float, feet: float, tall: float) -> Mask:
    """Draw one person of ``tall`` pixels with the feet at (x, feet); returns the pixels painted."""
    skin = np.array([224.0, 172.0, 138.0]) * rng.uniform(0.3, 1.1)
    shirt, trousers, hair = _colour(rng), _colour(rng, 10, 180), _colour(rng, 10, 120)
    broad = tall * rng.uniform(0.08, 0.115)
    head = tall * rng.uniform(0.065, 0.085)
    lean = tall * rng.uniform(-0.04, 0.04)
    seated = rng.random() < 0.2
    legs = tall * (0.28 if seated else 0.46)
    hip, shoulder = feet - legs, feet - legs - tall * 0.36
    covered = np.zeros(painter.y.shape, dtype=bool)

    def paint(mask: Mask, colour: NDArray[np.float64], shade: float = 0.25) -> None:
        painter.fill(mask, colour, shade)
        covered[mask] = True

    for side in (-1, 1):
        stride = tall * rng.uniform(0.0, 0.12)
        knee = (x + side * (broad / 2 + stride / 2), (hip + feet) / 2)
        paint(painter.limb(x + side * broad / 2.5, hip, *knee, broad / 3.2), trousers)
        paint(painter.limb(*knee, x + side * (broad / 2.5 + stride), feet - broad / 4, broad / 3.8), trousers)
    arms = [(side, rng.uniform(-0.5, 1.0)) for side in (-1, 1)]
    for side, swing in arms[:1]:
        paint(painter.limb(x + lean + side * broad, shoulder, x + side * broad * (1.5 + swing), hip, broad / 4), shirt)
    paint(painter.limb(x + lean, shoulder + broad / 2, x, hip, broad), shirt)
    for side, swing in arms[1:]:
        hand = (x + side * broad * (1.5 + swing), hip - tall * rng.uniform(-0.02, 0.3))
        paint(painter.limb(x + lean + side * broad, shoulder, *hand, broad / 4), shirt * 0.85)
        paint(painter.ellipse(*hand, broad / 4, broad / 4), skin)
    centre = (x + 1.3 * lean, shoulder - head * 0.8)
    paint(painter.ellipse(centre[0], centre[1] - head * 0.25, head * 0.95, head), hair, 0.1)
    paint(painter.ellipse(centre[0] + rng.uniform(-0.2, 0.2) * head, centre[1], head * 0.75, head * 0.9), skin)
    return covered


def make_scene(
    seed: int, size: tuple[int, int] = (240, 320), *, max_people: int = 5
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """One scene: RGB uint8 [H,W,3], and boxes [N,5] float32 (class 0, cx, cy, w, h, normalised), N from 0.

    ``size`` is (height, width), at least 16 x 16. Boxes are tight around the visible pixels of each figure, figures
    partly outside the picture included; the nearest figure hides the others. About one scene in six has nobody.
    """
    height, width = size
    if min(size) < 16:
        raise ValueError(f"a scene needs at least 16 x 16 pixels, not {height} x {width}")
    rng = np.random.default_rng(seed)
    painter, horizon = _background(rng, height, width)
    count = 0 if rng.random() < 1 / 6 else int(rng.integers(1, max_people + 1))
    far_to_near = np.sort(rng.uniform(0.15, 1.0, count))
    figures: list[tuple[Mask, int]] = []
    for near in far_to_near:
        tall = min(max(9.0, height * near * rng.uniform(0.75, 1.0)), 1.2 * height)
        feet = min(horizon + (height - horizon) * near + tall * 0.1, height * 1.15)
        before = painter.canvas.copy()
        mask = _figure(rng, painter, rng.uniform(0, width), feet, tall)
        hidden = [(old & ~mask, total) for old, total in figures]
        crowded = any(old.sum() < _MIN_VISIBLE * total for old, total in hidden)
        if crowded or mask.sum() < 12:  # would hide somebody, or hardly be seen: as if it had not come
            painter.canvas[:] = before
            continue
        figures = [*hidden, (mask, int(mask.sum()))]
    boxes = []
    for visible, _ in figures:
        rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
        y0, y1, x0, x1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        boxes.append((0, (x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height))
    light = painter.canvas * rng.uniform(0.7, 1.15) + rng.normal(0, rng.uniform(0, 8), painter.canvas.shape)
    pixels = np.clip(np.rint(light), 0, 255).astype(np.uint8)
    return pixels, np.array(boxes, dtype=np.float32).reshape(-1, 5)
