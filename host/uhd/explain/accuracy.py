"""What it costs in mAP that one layer computes in integers, all others staying float."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.detect.coco import GroundTruth, evaluate
from uhd.device.detectors import EVERY_SCORE, Settings, decode_float
from uhd.espdl import oracle
from uhd.espdl.model import EspdlModel
from uhd.explain.floating import FloatModel, Session, as_planes
from uhd.explain.study import LayerStudy, Picture, Track
from uhd.explain.tally import Noise
from uhd.manifest import ModelManifest

Maps = Mapping[str, NDArray[Any]]


#: Groups of pictures that are left out in turn to find how far chance moves a difference.
GROUPS = 10
Rows = NDArray[Any]


@dataclass(frozen=True)
class Accuracy:
    """mAP of one way to compute."""

    map50: float
    map50_95: float


@dataclass(frozen=True)
class Cost:
    """mAP that is lost (negative: won) against the float model.

    ``map50_error``: standard error of ``map50`` by the jackknife over ``GROUPS`` groups of pictures, None for fewer
    than two pictures a group. A cost within two of it may be chance.
    """

    map50: float
    map50_95: float
    map50_error: float | None


@dataclass(frozen=True)
class Costs:
    """``floating``, ``integers``: mAP of the float model and of the whole .espdl, ``whole``: what that costs; None
    without labels."""

    pictures: int
    boxes: int
    floating: Accuracy | None
    integers: Accuracy | None
    whole: Cost | None


class Judge:
    """mAP of rows on labelled pictures, and the cost against those of the float model."""

    def __init__(self, truth: Sequence[GroundTruth], plain: Sequence[Rows]) -> None:
        self._truth = truth
        groups = [range(first, len(truth), GROUPS) for first in range(GROUPS)] if len(truth) >= 2 * GROUPS else []
        self._kept = [sorted(set(range(len(truth))) - set(group)) for group in groups]
        self._plain = self._each(plain)
        self.floating = self.accuracy(plain)

    def accuracy(self, rows: Sequence[Rows]) -> Accuracy:
        """mAP over all pictures."""
        result = evaluate(self._truth, rows)
        return Accuracy(result.map50, result.map50_95)

    def cost(self, rows: Sequence[Rows]) -> Cost:
        """What ``rows`` lose."""
        found = self.accuracy(rows)
        lost = [plain - other for plain, other in zip(self._plain, self._each(rows), strict=True)]
        return Cost(self.floating.map50 - found.map50, self.floating.map50_95 - found.map50_95, jackknife_error(lost))

    def _each(self, rows: Sequence[Rows]) -> list[float]:
        """mAP@0.5 without each of the groups."""
        return [evaluate([self._truth[i] for i in kept], [rows[i] for i in kept]).map50 for kept in self._kept]


def jackknife_error(values: Sequence[float]) -> float | None:
    """Standard error of a figure from its values with each group left out; None for fewer than two groups."""
    count = len(values)
    if count < 2:
        return None
    mean = sum(values) / count
    return math.sqrt((count - 1) / count * sum((value - mean) ** 2 for value in values))


def layer_costs(
    model: EspdlModel,
    floating: FloatModel,
    manifest: ModelManifest,
    layers: Sequence[LayerStudy],
    pictures: Sequence[Picture],
    truth: Sequence[GroundTruth] | None,
    track: Track | None = None,
) -> Costs:
    """Fill in ``cost`` and ``maps_sqnr`` of the ``layers`` that can stand alone.

    ``truth``: labels of the pictures, in their order; without any box only ``maps_sqnr``, the ratio on the worst of
    the output maps, is found.
    """
    track = track or (lambda items, title: items)
    settings = Settings(EVERY_SCORE, manifest.nms_iou)

    def rows(answers: Sequence[Maps]) -> list[Rows]:
        return [decode_float(dict(maps), manifest, settings) for maps in answers]

    boxes = sum(len(labels) for _, labels in truth) if truth else 0
    plain = _answers(floating.unchanged(), pictures)
    judge = Judge(truth, rows(plain)) if truth and boxes else None
    for layer in track([layer for layer in layers if floating.can_stand_alone(layer.node)], "mAP by layer"):
        answers = _answers(floating.with_one(layer.node), pictures)
        layer.maps_sqnr = worst_map(plain, answers)
        layer.cost = judge.cost(rows(answers)) if judge else None
    if judge is None:
        return Costs(len(pictures), boxes, None, None, None)
    whole = rows([_integer_maps(model, picture) for picture in track(pictures, "mAP, all layers")])
    return Costs(len(pictures), boxes, judge.floating, judge.accuracy(whole), judge.cost(whole))


def worst_map(wanted: Sequence[Maps], found: Sequence[Maps]) -> float | None:
    """The lowest ratio (dB) among the output maps; None if no map has a signal."""
    ratios = []
    for name in wanted[0]:
        noise = Noise()
        for right, other in zip(wanted, found, strict=True):
            noise.add(right[name], other[name])
        ratios.append(noise.db)
    return min((ratio for ratio in ratios if ratio is not None), default=None)


def _answers(session: Session, pictures: Sequence[Picture]) -> list[Maps]:
    return [session.run(picture.planes) for picture in pictures]


def _integer_maps(model: EspdlModel, picture: Picture) -> dict[str, NDArray[np.float64]]:
    outputs = oracle.run(model, {model.inputs[0]: picture.integers})
    return {name: as_planes(value, model.tensors[name].exponent) for name, value in outputs.items()}
