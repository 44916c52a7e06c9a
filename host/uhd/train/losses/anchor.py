"""The reference's anchor loss, with its assigners, losses and weights: box, objectness, quality, class, attributes.

``loss_mode`` decides between the right behaviour and the reference's (docs/decisions/0009-losses.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from uhd.train.losses.attributes import attribute_loss, attribute_loss_reference, coinciding
from uhd.train.losses.boxes import Kind, overlap
from uhd.train.losses.dense import binary_mean, range_excess, smooth_l1_mean, varifocal_sum
from uhd.train.losses.grid import Grid, Matches, decode_rows, near, table
from uhd.train.losses.legacy import assign_legacy
from uhd.train.losses.parts import LossMode, LossParts, combine
from uhd.train.losses.simota import assign_simota, assign_simota_reference, matrix_iou
from uhd.train.targets import Targets


@dataclass(frozen=True)
class AnchorLossSettings:
    """Settings of ``AnchorLoss``, by the names of the flags; the weights' defaults are the reference's.

    ``assign_radius`` and the range penalty (``loss_weight_range``, ``logit_limit``) belong to the default mode only.
    """

    loss_mode: LossMode = "default"
    iou_loss: Kind = "giou"
    anchor_assigner: Literal["legacy", "simota"] = "legacy"
    anchor_cls_loss: Literal["bce", "vfl", "ce"] = "bce"
    obj_loss: Literal["bce", "smoothl1"] = "bce"
    obj_target: Literal["auto", "binary", "iou"] = "auto"
    simota_topk: int = 10
    assign_radius: int = 1
    loss_weight_box: float = 1.0
    loss_weight_obj: float = 1.0
    loss_weight_cls: float = 1.0
    loss_weight_quality: float = 1.0
    loss_weight_range: float = 0.0
    logit_limit: float = 8.0
    disable_cls: bool = False
    multi_label_mode: Literal["none", "single", "separate"] = "none"
    multi_label_attr_weight: float = 1.0

    def __post_init__(self) -> None:
        choices = {
            "loss_mode": ("default", "reference"),
            "anchor_assigner": ("legacy", "simota"),
            "anchor_cls_loss": ("bce", "vfl", "ce"),
            "obj_loss": ("bce", "smoothl1"),
            "obj_target": ("auto", "binary", "iou"),
            "iou_loss": ("iou", "giou", "ciou"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}: choose one of {', '.join(known)}")


@dataclass(frozen=True)
class Positives:
    """The places of an assignment, flat: ``row``, ``target`` and ``keep`` [S]."""

    row: Tensor
    target: Tensor
    keep: Tensor
    has_quality: bool

    @property
    def count(self) -> Tensor:
        return self.keep.sum().clamp(min=1)


class AnchorLoss:
    """Loss of one batch of maps of an anchor head. Labels of the targets are below the number of classes."""

    def __init__(self, settings: AnchorLossSettings) -> None:
        self.settings = settings
        self.reference = settings.loss_mode == "reference"
        self.multi_label = settings.multi_label_mode == "single"

    def map_names(self, model: Any) -> tuple[str, ...]:
        """The maps that the loss needs of those that the model has."""
        return tuple(name for name in model.map_names if not (name == "cls" and self.settings.disable_cls))

    def __call__(
        self,
        maps: Mapping[str, Tensor],
        anchors: Tensor,
        wh_scale: Tensor,
        targets: Targets,
        attributes: Targets | None = None,
    ) -> LossParts:
        """``maps``: ``box`` [B,4A,H,W], ``obj`` [B,A,H,W] and, if any, ``quality`` [B,A,H,W], ``cls`` [B,A*nc,H,W],
        ``attr`` [B,A*n,H,W]; ``anchors`` and ``wh_scale`` [A,2], the latter with gradient if it wants one.

        Parts: ``box``, ``obj``, ``cls``, ``quality`` (0 where there is no such map), ``attr`` with ``attributes``, and
        ``range`` where it has a weight.
        """
        settings, count = self.settings, len(anchors)
        maps = {name: part.float() for name, part in maps.items() if name != "cls" or not settings.disable_cls}
        grid = Grid.of(maps["box"], count)
        sizes = anchors.to(maps["box"]) * wh_scale.to(maps["box"])
        tables = {name: table(part, count) for name, part in maps.items()}
        has_quality = "quality" in tables
        matches, asked = self._assign(tables, sizes.detach(), targets, grid)
        row, target, keep = matches.row.flatten(), matches.target.flatten(), matches.keep.flatten()
        found = Positives(row, target, keep, has_quality)
        there = keep.any() if self.reference else True

        predicted = decode_rows(tables["box"], row, sizes, grid)
        truth = targets.boxes.t().index_select(1, target)
        similar = overlap(settings.iou_loss, predicted, truth)
        weighted = {"box": (settings.loss_weight_box, ((1 - similar) * keep).sum() / found.count)}
        with torch.no_grad():
            iou = (similar if self.reference else overlap("iou", predicted, truth)).clamp(0, 1)

        zero = similar.new_zeros(())
        obj, cls, quality = zero, zero, zero
        if "obj" in tables:
            learns_iou = settings.obj_target == "iou" or (settings.obj_target == "auto" and has_quality)
            mean = binary_mean if settings.obj_loss == "bce" else smooth_l1_mean
            obj = mean(tables["obj"][:, 0], row, iou if learns_iou else torch.ones_like(iou), keep)
        if "cls" in tables:
            wants = self._class_targets(found, asked.flatten(), predicted, truth, targets, tables["cls"].shape)
            cls = self._class_loss(tables["cls"], found, wants) * there
        if has_quality:
            quality = binary_mean(tables["quality"][:, 0], row, iou, keep) * there
        weighted["obj"] = settings.loss_weight_obj, obj
        weighted["cls"] = settings.loss_weight_cls, cls
        weighted["quality"] = settings.loss_weight_quality, quality
        if attributes is not None and "attr" in tables:
            if self.reference:
                attr = attribute_loss_reference(
                    tables["attr"], assign_legacy(attributes, sizes, grid, "reference"), attributes
                )
            else:
                attr = attribute_loss(tables["attr"], row, target, keep, targets, attributes)
            weighted["attr"] = settings.multi_label_attr_weight, attr
        if settings.loss_weight_range and not self.reference:
            weighted["range"] = settings.loss_weight_range, range_excess(maps.values(), settings.logit_limit)
        return combine(weighted)

    @torch.no_grad()
    def _assign(
        self, tables: Mapping[str, Tensor], sizes: Tensor, targets: Targets, grid: Grid
    ) -> tuple[Matches, Tensor]:
        """The matches, and which of their places set the bit of their class in the reference's way."""
        settings = self.settings
        if settings.anchor_assigner == "legacy":
            found = assign_legacy(targets, sizes, grid, settings.loss_mode, self.multi_label)
            return found, torch.ones_like(found.keep)
        if self.reference:
            found, wanted = assign_simota_reference(tables["box"], sizes, targets, grid, settings.simota_topk)
            return found, wanted if self.multi_label else found.keep
        close = near(targets, grid, settings.assign_radius)
        found = assign_simota(tables["box"], tables.get("cls"), sizes, targets, close, settings.simota_topk)
        return found, found.keep

    def _class_targets(
        self, found: Positives, asked: Tensor, predicted: Tensor, truth: Tensor, targets: Targets, shape: torch.Size
    ) -> Tensor:
        """What the classes are to become at each place, [S,C]: 1, or with SimOTA and no quality branch the IoU.

        The reference lets the gradient of the class loss flow into the boxes through that IoU.
        """
        value = torch.ones_like(predicted[0])
        if self.settings.anchor_assigner == "simota" and not found.has_quality:
            value = (
                matrix_iou(tuple(predicted), tuple(truth))
                if self.reference
                else overlap("iou", predicted.detach(), truth)
            )
        if self.reference:
            return _claimed(found.row, targets.label[found.target], value, asked, *shape)
        return self._labels(targets, shape[1], value.dtype)[found.target] * value[:, None]

    def _labels(self, targets: Targets, classes: int, dtype: torch.dtype) -> Tensor:
        """Classes of each object, [T,classes] in {0,1}; with ``multi_label`` also those of coinciding boxes."""
        own = (targets.label[:, None] == torch.arange(classes, device=targets.label.device)).to(dtype)
        return (coinciding(targets).to(dtype) @ own).clamp(max=1) if self.multi_label else own

    def _class_loss(self, logits: Tensor, found: Positives, wants: Tensor) -> Tensor:
        kind, keep = self.settings.anchor_cls_loss, found.keep
        if kind == "vfl":
            total = varifocal_sum(logits, found.row, wants, keep)
            if self.reference:
                return total / max(logits.numel(), 1)
            return total / (wants.sum(1) * keep).sum().clamp(min=1)
        at = logits.index_select(0, found.row)
        if kind == "ce" and logits.shape[1] > 1 and not self.multi_label:
            weight, label = wants.max(1)
            entropy = functional.cross_entropy(at, label, reduction="none") * weight
        else:
            entropy = functional.binary_cross_entropy_with_logits(at, wants, reduction="none").sum(1)
        return (entropy * keep).sum() / found.count


def _claimed(row: Tensor, label: Tensor, value: Tensor, asked: Tensor, size: int, classes: int) -> Tensor:
    """Class targets [S,classes] at ``row``, from all places that ``asked``, whoever owns the row: the highest value."""
    place = torch.where(asked, row, size) * classes + label
    wants = value.new_zeros((size + 1) * classes).scatter_reduce(0, place, value, "amax")
    return wants.view(size + 1, classes)[row]
