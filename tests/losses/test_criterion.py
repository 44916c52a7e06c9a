"""The criterion of each kind of model, how targets are split, and what attributes learn."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from support.loss_cases import SIZES, random_maps, random_targets
from uhd.models import build_model
from uhd.train.losses.anchor import AnchorLoss, AnchorLossSettings
from uhd.train.losses.attributes import attribute_loss, attributes_of, coinciding, split_targets
from uhd.train.losses.bench import time_losses
from uhd.train.losses.criterion import make_criterion
from uhd.train.losses.ranked import DetectionLoss, RankedSettings
from uhd.train.targets import Targets

TINY: dict[str, dict[str, Any]] = {
    "anchor": {"arch": "ultratinyod", "width": 4, "anchors": SIZES, "iou_aware_head": True, "attr_classes": 2},
    "plain": {"arch": "cnn", "cnn_width": 4, "use_anchor": True, "num_classes": 2},
    "centernet": {"arch": "cnn", "cnn_width": 4, "output_stride": 8},
    "detr": {"arch": "transformer", "d_model": 8, "heads": 2, "layers": 1, "dim_feedforward": 8, "num_queries": 4},
}


def model_of(kind: str, **more: Any) -> Any:
    options = {**TINY[kind], **more}
    torch.manual_seed(0)
    return build_model(options.pop("arch"), options)


def flags(**values: Any) -> SimpleNamespace:
    return SimpleNamespace(**values)


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("anchor", {"box", "cls", "quality", "obj", "attr", "range"}),
        ("plain", {"box", "cls", "quality", "obj", "range"}),
        ("centernet", {"hm", "off", "wh"}),
        ("detr", {"cls", "l1", "iou"}),
    ],
)
@pytest.mark.parametrize("assigner", ["aligned", "legacy", "simota"])
def test_every_head_trains(kind: str, parts: set[str], assigner: str) -> None:
    """The maps that the criterion names give its parts, and a few steps bring the boxes nearer (targets move along)."""
    model = model_of(kind).eval()
    settings = flags(anchor_assigner=assigner, multi_label_mode="separate", loss_weight_range=1.0)
    criterion = make_criterion(settings, model.config)
    image = torch.rand(2, model.config.in_channels, 32, 32, generator=torch.Generator().manual_seed(1))
    targets = random_targets(1, 2, 5, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    values = []
    for _ in range(12):
        maps = model.maps(image, criterion.map_names)
        assert tuple(maps) == criterion.map_names
        loss = criterion(model, maps, targets)
        assert set(loss.parts) == parts and set(loss.items()) == {"loss", *parts}
        values.append(sum(float(loss.parts[name]) for name in ("box", "wh", "l1") if name in loss.parts))
        optimizer.zero_grad()
        loss.total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert values[-1] < values[0], values


def test_the_settings_choose_the_loss() -> None:
    config = model_of("anchor").config
    model = SimpleNamespace(anchors=torch.tensor(SIZES), wh_scale=torch.ones(3, 2))
    maps, targets = random_maps(0, 2, 3, 3), random_targets(0, 2, 4, 1)
    for assigner, loss in (
        ("aligned", DetectionLoss(RankedSettings(assign_topk=3), "quality_cls")),
        ("legacy", AnchorLoss(AnchorLossSettings(anchor_assigner="legacy", loss_mode="reference"))),
        ("simota", AnchorLoss(AnchorLossSettings(anchor_assigner="simota", loss_mode="reference"))),
    ):
        settings = flags(anchor_assigner=assigner, assign_topk=3, loss_mode="reference")
        got = make_criterion(settings, config)(model, maps, targets)
        assert got.items() == loss(maps, model.anchors, model.wh_scale, targets).items()


def test_maps_that_no_loss_needs_are_not_asked_for() -> None:
    config = model_of("anchor", attr_classes=0).config
    assert "obj" not in make_criterion(flags(loss_weight_obj=0.0), config).map_names
    assert make_criterion(flags(anchor_assigner="legacy"), config).map_names == config.map_names


def test_targets_are_split_by_their_labels() -> None:
    label = torch.tensor([0, 1, 2, 3, 4, 5])
    targets = Targets(torch.arange(6), label, torch.rand(6, 4))
    objects, attributes = split_targets(targets, 2, 3)
    assert attributes is not None
    assert objects.label.tolist() == [0, 1] and objects.image.tolist() == [0, 1]
    assert attributes.label.tolist() == [0, 1, 2] and attributes.image.tolist() == [2, 3, 4]
    everything, none = split_targets(targets, 0, 3)
    assert none is None and everything.label.tolist() == [0] * 6
    assert split_targets(targets, 2, 0)[1] is None


def test_an_attribute_belongs_to_the_object_it_overlaps_most() -> None:
    boxes = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.52, 0.5, 0.3, 0.4], [0.5, 0.5, 0.4, 0.4], [0.2, 0.2, 0.1, 0.1]])
    targets = Targets(torch.tensor([0, 0, 1, 1]), torch.zeros(4, dtype=torch.long), boxes)
    at = torch.tensor([[0.5, 0.5, 0.39, 0.4], [0.2, 0.2, 0.1, 0.1], [0.2, 0.25, 0.1, 0.1], [0.5, 0.5, 0.4, 0.4]])
    attributes = Targets(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 1, 2, 2]), at)
    assert attributes_of(targets, attributes, 3).tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0]]


def test_only_objects_with_attributes_teach_them() -> None:
    logits = torch.zeros(4, 2, requires_grad=True)
    boxes = torch.tensor([[0.3, 0.3, 0.2, 0.2], [0.7, 0.7, 0.2, 0.2]])
    zeros = torch.zeros(2, dtype=torch.long)
    targets, attributes = Targets(zeros, zeros, boxes), Targets(zeros[:1], zeros[:1] + 1, boxes[1:])
    row, target, keep = torch.tensor([0, 1, 2]), torch.tensor([0, 1, 1]), torch.tensor([True, True, False])
    cost = attribute_loss(logits, row, target, keep, targets, attributes)
    (gradient,) = torch.autograd.grad(cost, logits)
    assert float(cost.detach()) == pytest.approx(2 * 0.6931472)
    assert gradient.tolist() == [[0, 0], [0.5, -0.5], [0, 0], [0, 0]]
    none = Targets(zeros[:0], zeros[:0], boxes[:0])
    assert float(attribute_loss(logits, row, target, keep, targets, none).detach()) == 0
    assert float(attribute_loss(logits, row[:0], target[:0], keep[:0], none, attributes).detach()) == 0


def test_coinciding_boxes_are_those_of_one_image() -> None:
    box = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.5, 0.5, 0.4, 0.41], [0.5, 0.5, 0.4, 0.4], [0.5, 0.5, 0.2, 0.4]])
    same = coinciding(Targets(torch.tensor([0, 0, 1, 0]), torch.zeros(4, dtype=torch.long), box))
    assert same.int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def test_the_timing_names_every_loss() -> None:
    before = torch.get_num_threads()
    times = time_losses(batch=2, side=4, runs=10)
    assert set(times) == {
        f"{name}{kind}" for name in ("aligned", "legacy", "simota") for kind in ("", "_median", "_cpu")
    }
    for name in ("aligned", "legacy", "simota"):
        assert 0 < times[name] <= times[f"{name}_median"] and times[f"{name}_cpu"] > 0
    assert torch.get_num_threads() == before
