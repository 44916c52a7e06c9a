"""The anchor head's training loss: a ranked score, boxes by overlap, and objectness beside them.

``DetectionLoss`` puts the pieces together; another assigner or score loss is another function beside these.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from uhd.detect.decode import decode_boxes, score_factors
from uhd.manifest import ScoreMode
from uhd.models.config import UltraTinyODConfig
from uhd.train.config import TrainConfig
from uhd.train.losses.aligned import Assignment, Grid, assign
from uhd.train.losses.boxes import OVERLAPS, pair_iou
from uhd.train.targets import Targets


def candidate_logits(part: Tensor, anchors: int) -> Tensor:
    """A map [B,A*n,H,W] as candidates [B,A*H*W,n] in ``uhd.detect`` order."""
    batch, channels, height, width = part.shape
    view = part.reshape(batch, anchors, channels // anchors, height * width)
    return view.transpose(2, 3).reshape(batch, anchors * height * width, channels // anchors)


def product_log_probability(logits: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """log p and log(1 - p) of the product p of the sigmoids of ``logits`` (which broadcast), without cancellation.

    With p' = p * s the complement is (1 - p) + p * (1 - s), a sum of positive terms.
    """
    yes, no = functional.logsigmoid(logits[0]), functional.logsigmoid(-logits[0])
    for logit in logits[1:]:
        no = torch.logaddexp(no, yes + functional.logsigmoid(-logit))
        yes = yes + functional.logsigmoid(logit)
    return yes, no


def varifocal(
    yes: Tensor, no: Tensor, target: Tensor, positive: Tensor, background_weight: float, weighting: bool
) -> Tensor:
    """Sum of the varifocal cross entropy (arXiv 2008.13367) of probabilities given by their logarithms.

    ``yes`` = log p, ``no`` = log(1 - p), ``target`` in 0..1, ``positive`` bool. A positive weighs its target, or 1
    without ``weighting``; the background weighs ``background_weight * p**2``. Weights carry no gradient.
    """
    entropy = -(target * yes + (1 - target) * no)
    with torch.no_grad():
        weight = background_weight * yes.exp().square()
        weight = torch.where(positive, target if weighting else torch.ones_like(target), weight)
    return (weight * entropy).sum()


def range_excess(maps: Iterable[Tensor], limit: float) -> Tensor:
    """Mean square by which the values of ``maps`` exceed ``limit`` in size, over all of them.

    An 8-bit map spends its steps on its largest value, and a sigmoid says nothing new beyond 8.
    """
    parts = list(maps)
    excess = sum(functional.relu(part.abs() - limit).square().sum() for part in parts)
    return torch.as_tensor(excess) / sum(part.numel() for part in parts)


@dataclass(frozen=True)
class LossParts:
    """``total`` carries the gradient; the others are its unweighted parts, detached."""

    total: Tensor
    box: Tensor
    cls: Tensor
    quality: Tensor
    obj: Tensor
    range: Tensor
    positives: int

    def items(self) -> dict[str, Tensor]:
        names = ("box", "cls", "quality", "obj", "range")
        return {"loss": self.total.detach(), **{name: getattr(self, name) for name in names}}


class DetectionLoss:
    """Loss of one batch of head maps. All parts are divided by the sum of the score targets (at least 1)."""

    def __init__(self, config: TrainConfig, score_mode: ScoreMode) -> None:
        self.config = config
        self.score_mode = score_mode
        self.overlap = OVERLAPS[config.iou_loss]

    def map_names(self, model: UltraTinyODConfig) -> tuple[str, ...]:
        """The head maps that the loss needs: those of the score, and objectness unless its weight is 0."""
        needed = set(model.maps_for(self.score_mode))
        if self.config.loss_weight_obj > 0:
            needed.add("obj")
        return tuple(name for name in model.map_names if name in needed)

    def __call__(self, maps: Mapping[str, Tensor], anchors: Tensor, wh_scale: Tensor, targets: Targets) -> LossParts:
        """``maps`` as ``UltraTinyOD.maps`` gives them, ``anchors`` and ``wh_scale`` [A,2]."""
        config, count = self.config, len(anchors)
        maps = {name: part.float() for name, part in maps.items()}
        grid = Grid(count, *maps["box"].shape[2:])
        boxes = decode_boxes(maps["box"], anchors, wh_scale)
        logits = {name: candidate_logits(maps[name], count) for name in maps if name not in ("box", "attr")}
        factors = score_factors(self.score_mode, frozenset(logits))
        yes, no = product_log_probability([logits[name] for name in factors])
        found = assign(
            yes.detach().exp(),
            boxes.detach(),
            targets,
            grid,
            topk=config.assign_topk,
            radius=config.assign_radius,
            score_power=config.assign_score_power,
            iou_power=config.assign_iou_power,
        )
        scale = found.score.sum().clamp(min=1.0)
        zero = yes.new_zeros(())
        chosen = boxes[found.image, found.candidate]
        wanted = targets.boxes[found.target]
        box = ((1 - self.overlap(chosen, wanted)) * found.score).sum() / scale if len(wanted) else zero

        quality = zero
        if config.score_loss == "product" or len(factors) == 1:
            score = self._score(yes, no, found, targets) / scale
        else:
            rest = [logits[name] for name in factors if name != "quality"]
            score = self._score(*product_log_probability(rest), found, targets) / scale
            if "quality" in factors and len(wanted):
                truth = pair_iou(chosen.detach(), wanted).clamp(0, 1)
                at = logits["quality"][found.image, found.candidate, 0]
                entropy = functional.binary_cross_entropy_with_logits(at, truth, reduction="none")
                quality = (entropy * found.score).sum() / scale
        obj = zero
        if "obj" in logits and "obj" not in factors and config.loss_weight_obj > 0:
            pair = product_log_probability([logits["obj"]])
            obj = self._score(*pair, found, targets, any_class=True) / scale
        beyond = range_excess(maps.values(), config.logit_limit)
        total = (
            config.loss_weight_box * box
            + config.loss_weight_cls * score
            + config.loss_weight_quality * quality
            + config.loss_weight_obj * obj
            + config.loss_weight_range * beyond
        )
        return LossParts(
            total, box.detach(), score.detach(), quality.detach(), obj.detach(), beyond.detach(), len(wanted)
        )

    def _score(
        self, yes: Tensor, no: Tensor, found: Assignment, targets: Targets, *, any_class: bool = False
    ) -> Tensor:
        """Varifocal loss of candidates' probabilities [B,N,C] against the assignment."""
        target = torch.zeros_like(yes)
        positive = torch.zeros_like(yes, dtype=torch.bool)
        column = targets.label[found.target] if yes.shape[2] > 1 and not any_class else torch.zeros_like(found.target)
        where = (found.image, found.candidate, column)
        target[where], positive[where] = found.score, True
        config = self.config
        return varifocal(yes, no, target, positive, config.background_weight, config.positive_weighting)
