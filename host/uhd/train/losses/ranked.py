"""The anchor head's training loss: a ranked score, boxes by overlap, and objectness beside them.

``DetectionLoss`` puts the pieces together; another assigner or score loss is another function beside these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from uhd.detect.decode import score_factors
from uhd.manifest import ScoreMode
from uhd.train.losses.aligned import assign
from uhd.train.losses.attributes import attribute_loss, coinciding
from uhd.train.losses.boxes import overlap, plane_iou, planes
from uhd.train.losses.dense import range_excess, ranked_score
from uhd.train.losses.grid import Grid, Matches, Near, decode_rows, near, table
from uhd.train.losses.parts import LossParts, combine, settings_from
from uhd.train.targets import Targets


@dataclass(frozen=True)
class RankedSettings:
    """Settings of ``DetectionLoss``, by the names of the flags."""

    score_loss: Literal["product", "separate"] = "product"
    iou_loss: Literal["iou", "giou", "ciou"] = "ciou"
    loss_weight_box: float = 2.5
    loss_weight_obj: float = 0.1
    loss_weight_cls: float = 1.0
    loss_weight_quality: float = 1.0
    loss_weight_range: float = 1.0
    logit_limit: float = 8.0
    assign_topk: int = 10
    assign_radius: int = 1
    assign_score_power: float = 0.5
    assign_iou_power: float = 4.0
    positive_weighting: bool = True
    background_weight: float = 0.75
    multi_label_mode: Literal["none", "single", "separate"] = "none"
    multi_label_attr_weight: float = 1.0


@dataclass(frozen=True)
class Wanted:
    """Scores to be learnt: ``score`` [S] in 0..1 at ``row`` and ``column`` [S], where ``keep`` [S] holds."""

    row: Tensor
    column: Tensor
    score: Tensor
    keep: Tensor


def score_loss(logits: Sequence[Tensor], wanted: Wanted, background_weight: float, weighting: bool) -> Tensor:
    """Sum of the varifocal cross entropy (arXiv 2008.13367) of the products of sigmoids of ``logits`` [rows, 1 or C].

    A positive weighs its target, or 1 without ``weighting``; everything else is background and weighs
    ``background_weight * p**2``. Weights carry no gradient.
    """
    classes = max(logit.shape[1] for logit in logits)
    place = wanted.row * classes + (wanted.column if classes > 1 else 0)
    weight = wanted.score if weighting else torch.ones_like(wanted.score)
    return ranked_score(logits, place, wanted.score, weight, wanted.keep, background_weight)


class DetectionLoss:
    """Loss of one batch of head maps. All parts are divided by the sum of the score targets (at least 1)."""

    def __init__(self, config: Any, score_mode: ScoreMode) -> None:
        """``config`` has the fields of ``RankedSettings`` as attributes; those that it lacks are the default."""
        self.settings = settings_from(RankedSettings, config)
        self.score_mode = score_mode

    def map_names(self, model: Any) -> tuple[str, ...]:
        """The head maps that the loss needs: those of the score, and objectness unless its weight is 0."""
        needed = set(model.maps_for(self.score_mode))
        if self.settings.loss_weight_obj > 0:
            needed.add("obj")
        if self.settings.multi_label_mode == "separate":
            needed.add("attr")
        return tuple(name for name in model.map_names if name in needed)

    def __call__(
        self,
        maps: Mapping[str, Tensor],
        anchors: Tensor,
        wh_scale: Tensor,
        targets: Targets,
        attributes: Targets | None = None,
    ) -> LossParts:
        """``maps`` as the model's ``maps`` gives them, ``anchors`` and ``wh_scale`` [A,2].

        ``attributes`` are boxes with labels of attribute classes, for the map ``attr`` (``losses.attributes``).
        """
        settings, count = self.settings, len(anchors)
        maps = {name: part.float() for name, part in maps.items()}
        grid = Grid.of(maps["box"], count)
        sizes = anchors.to(maps["box"]) * wh_scale.to(maps["box"])
        tables = {name: table(part, count) for name, part in maps.items()}
        factors = score_factors(self.score_mode, frozenset(tables) - {"box", "attr"})
        close = near(targets, grid, settings.assign_radius)
        with torch.no_grad():
            found = self._assign(tables, factors, close, sizes, targets)
        row, keep, score = found.row.flatten(), found.keep.flatten(), found.score.flatten()
        target = found.target.flatten()
        scale = score.sum().clamp(min=1.0)
        truth = targets.boxes.t().index_select(1, target)
        chosen = decode_rows(tables["box"], row, sizes, grid)
        box = ((1 - overlap(settings.iou_loss, chosen, truth)) * score).sum() / scale
        weighted = {"box": (settings.loss_weight_box, box)}

        wanted = Wanted(row, targets.label.index_select(0, target), score, keep)
        if settings.multi_label_mode == "single":
            wanted = _all_labels(wanted, target, targets)
        quality = score.new_zeros(())
        names = factors
        if settings.score_loss == "separate" and "quality" in factors and len(factors) > 1:
            names = tuple(name for name in factors if name != "quality")
            with torch.no_grad():
                iou = overlap("iou", chosen, truth).clamp(0, 1)
            at = tables["quality"][:, 0].index_select(0, row)
            entropy = functional.binary_cross_entropy_with_logits(at, iou, reduction="none")
            quality = (entropy * score).sum() / scale
        weights = settings.background_weight, settings.positive_weighting
        ranked = score_loss([tables[name] for name in names], wanted, *weights) / scale
        weighted["cls"] = settings.loss_weight_cls, ranked
        weighted["quality"] = settings.loss_weight_quality, quality
        obj = score.new_zeros(())
        if "obj" in tables and "obj" not in factors and settings.loss_weight_obj > 0:
            obj = score_loss([tables["obj"]], Wanted(row, row, score, keep), *weights) / scale
        weighted["obj"] = settings.loss_weight_obj, obj
        if attributes is not None and "attr" in tables:
            attr = attribute_loss(tables["attr"], row, target, keep, targets, attributes)
            weighted["attr"] = settings.multi_label_attr_weight, attr
        weighted["range"] = settings.loss_weight_range, range_excess(maps.values(), settings.logit_limit)
        return combine(weighted)

    def _assign(
        self, tables: Mapping[str, Tensor], factors: Sequence[str], close: Near, sizes: Tensor, targets: Targets
    ) -> Matches:
        score: Tensor | None = None
        for name in factors:
            logit = close.pick(tables[name])
            if logit.shape[2] > 1:
                label = targets.label[:, None, None].expand(-1, logit.shape[1], 1)
                logit = logit.gather(2, label)
            factor = logit[:, :, 0].sigmoid()
            score = factor if score is None else score * factor
        assert score is not None
        truth = tuple(plane[:, None] for plane in planes(targets.boxes))
        return assign(
            score,
            plane_iou(close.decode(tables["box"], sizes), truth),
            close.row,
            close.valid,
            close.grid.size,
            topk=self.settings.assign_topk,
            score_power=self.settings.assign_score_power,
            iou_power=self.settings.assign_iou_power,
        )


def _all_labels(wanted: Wanted, target: Tensor, targets: Targets) -> Wanted:
    """The same with every label of an object whose box is labelled several times."""
    pair = coinciding(targets)[target] & wanted.keep[:, None]
    place, other = pair.nonzero(as_tuple=True)
    return Wanted(wanted.row[place], targets.label[other], wanted.score[place], wanted.keep[place])
