"""The loss that fits a model's head and the run's settings, as one callable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from uhd.train.losses.anchor import AnchorLoss, AnchorLossSettings
from uhd.train.losses.attributes import split_targets
from uhd.train.losses.centernet import centernet_loss
from uhd.train.losses.detr import detr_loss
from uhd.train.losses.parts import LossMode, LossParts, settings_from
from uhd.train.losses.ranked import DetectionLoss
from uhd.train.targets import Targets


@dataclass(frozen=True)
class Criterion:
    """The loss of a kind of model. ``map_names``: the maps that it reads, in the model's order.

    Labels of targets: 0 .. class_count - 1 are the classes that are detected, the numbers after them the attributes
    (``losses.attributes``); targets with other labels are left out. A model without classes detects every target.
    """

    map_names: tuple[str, ...]
    class_count: int
    attr_count: int
    loss: Callable[[Any, Mapping[str, Tensor], Targets, Targets | None], LossParts]

    def __call__(self, model: Any, maps: Mapping[str, Tensor], targets: Targets) -> LossParts:
        """``model`` has ``anchors`` and ``wh_scale`` [A,2] if its head needs them; ``maps`` are its maps."""
        objects, attributes = split_targets(targets, self.class_count, self.attr_count)
        return self.loss(model, maps, objects, attributes)


def make_criterion(config: Any, model_config: Any) -> Criterion:
    """The loss of models with ``model_config`` under the settings ``config``, whose attributes are named as the flags.

    Heads ``centernet`` and ``detr`` have one loss each; an anchor head has the ranked loss with ``anchor_assigner``
    ``aligned`` (the default) and the reference's anchor loss with ``legacy`` and ``simota``. ``loss_mode`` applies to
    all but the ranked loss.
    """
    names, classes = tuple(model_config.map_names), int(model_config.class_count)
    mode: LossMode = getattr(config, "loss_mode", "default")
    if model_config.head == "centernet":
        return Criterion(names, classes, 0, lambda model, maps, objects, _: centernet_loss(maps, objects, mode))
    if model_config.head == "detr":
        return Criterion(names, classes, 0, lambda model, maps, objects, _: detr_loss(maps, objects, mode))
    attributes = int(getattr(model_config, "attr_count", 0))
    anchor: AnchorLoss | DetectionLoss
    if getattr(config, "anchor_assigner", "aligned") == "aligned":
        anchor = DetectionLoss(config, model_config.resolved_score_mode)
    else:
        anchor = AnchorLoss(settings_from(AnchorLossSettings, config))

    def anchored(model: Any, maps: Mapping[str, Tensor], objects: Targets, of_objects: Targets | None) -> LossParts:
        return anchor(maps, model.anchors, model.wh_scale, objects, of_objects)

    return Criterion(anchor.map_names(model_config), classes, attributes, anchored)
