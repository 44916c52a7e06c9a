"""Anchor sizes from the boxes of a data set. Seeded, so the same boxes in the same order give the same anchors."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from uhd.errors import ConfigError, DataError

Algorithm = Literal["kmeans", "logkmeans", "stratified", "stratified_large", "sml_fixed"]
ALGORITHMS: tuple[str, ...] = get_args(Algorithm)
_ROUNDS = 20

Sizes = NDArray[np.floating[Any]]


def wh_iou(sizes: Sizes, centres: Sizes) -> Sizes:
    """IoU of boxes that share their centre, [n,2] x [k,2] -> [n,k]; union + 1e-9."""
    both = np.minimum(sizes[:, None], centres[None]).prod(axis=2)
    union = sizes.prod(axis=1)[:, None] + centres.prod(axis=1)[None] - both
    return both / (union + 1e-9)


def _lloyd(sizes: Sizes, k: int, rng: np.random.Generator, *, log: bool) -> Sizes:
    """k-means with k different boxes as first centres; nearest by IoU, or by distance of logarithms."""
    points = np.log(sizes) if log else sizes
    centres = points[rng.choice(len(points), size=k, replace=False)]
    for _ in range(_ROUNDS):
        if log:
            nearest = np.linalg.norm(points[:, None] - centres[None], axis=2).argmin(axis=1)
        else:
            nearest = wh_iou(points, centres).argmax(axis=1)
        members = [points[nearest == i] for i in range(k)]
        updated = np.stack(
            [group.mean(axis=0) if len(group) else old for group, old in zip(members, centres, strict=True)]
        )
        settled = np.allclose(updated, centres)
        centres = updated
        if settled:
            break
    return np.exp(centres) if log else centres


def _by_area(sizes: Sizes) -> Sizes:
    return sizes[np.argsort(sizes.prod(axis=1))]


def _medians(parts: list[Sizes]) -> Sizes:
    return np.stack([np.median(part, axis=0) for part in parts])


def _stratified_large(sizes: Sizes, k: int, bias: float) -> Sizes:
    """Medians of k runs of the boxes by area; run i ends at (i/k)^bias of them, so a small bias favours large boxes."""
    count = len(sizes)
    power = bias if bias > 0 else 1.0
    edges = [round(count * (i / k) ** power) for i in range(k + 1)]
    edges[0], edges[k] = 0, count
    for i in range(1, k):
        edges[i] = min(max(edges[i], edges[i - 1] + 1), count - (k - i))
    return _medians([sizes[start:stop] for start, stop in zip(edges, edges[1:], strict=False)])


def _sml_fixed(sizes: Sizes, k: int, rng: np.random.Generator) -> Sizes:
    """The medians of small, medium and large boxes, and further k-means centres shared out among the three."""
    if k == 1:
        return np.median(sizes, axis=0)[None]
    area = sizes.prod(axis=1)
    low, high = np.quantile(area, [1 / 3, 2 / 3])
    parts = [sizes[area <= low], sizes[(area > low) & (area <= high)], sizes[area > high]]
    parts = [part if len(part) else sizes for part in parts]
    if k == 2:
        return _medians([parts[0], parts[2]])
    share = np.array([len(part) for part in parts]) / sum(len(part) for part in parts) * (k - 3)
    extra = np.floor(share).astype(int)
    for i in np.argsort(-(share - extra), kind="stable")[: k - 3 - extra.sum()]:
        extra[i] += 1
    more = [_lloyd(_filled(part, n, rng), n, rng, log=False) for part, n in zip(parts, extra, strict=True) if n]
    return np.concatenate([_medians(parts), *more])


def _filled(sizes: Sizes, count: int, rng: np.random.Generator) -> Sizes:
    """At least ``count`` boxes: the given ones and as many repeats, drawn at random, as are missing."""
    missing = count - len(sizes)
    if missing <= 0:
        return sizes
    return np.concatenate([sizes, sizes[rng.choice(len(sizes), size=missing, replace=True)]])


def auto_anchors(wh: Sizes, k: int, algorithm: str = "kmeans", *, bias: float = 0.2) -> NDArray[np.float32]:
    """``k`` anchor sizes, [k,2] float32 (w, h), sorted by area, for boxes ``wh`` [n,2] in the same (normalised) units.

    ``kmeans`` clusters by IoU, ``logkmeans`` by logarithmic size, ``stratified`` takes medians of equal runs by area,
    ``stratified_large`` of runs that ``bias`` shifts towards large boxes, ``sml_fixed`` of small, medium and large
    boxes plus k-means. Boxes without area are left out. Raises ``DataError`` when none is left, ``ConfigError`` for an
    unknown algorithm or a ``k`` below 1.
    """
    if algorithm not in ALGORITHMS:
        raise ConfigError(f"unknown anchor algorithm {algorithm!r}", hint=f"choose one of {', '.join(ALGORITHMS)}")
    if k < 1:
        raise ConfigError(f"number of anchors must be at least 1, not {k}")
    sizes = np.asarray(wh).reshape(-1, 2)
    sizes = sizes[(sizes > 0).all(axis=1) & np.isfinite(sizes).all(axis=1)]
    if not len(sizes):
        raise DataError("no boxes to take anchors from", hint="check the labels and the class ids")
    rng = np.random.default_rng(0)
    sizes = _filled(sizes, k, rng)
    if algorithm in ("kmeans", "logkmeans"):
        anchors = _lloyd(sizes, k, rng, log=algorithm == "logkmeans")
    elif algorithm == "stratified":
        anchors = _medians(np.array_split(_by_area(sizes), k))
    elif algorithm == "stratified_large":
        anchors = _stratified_large(_by_area(sizes), k, bias)
    else:
        anchors = _sml_fixed(sizes, k, rng)
    return _by_area(anchors).astype(np.float32)
