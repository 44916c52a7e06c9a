"""Values and gradients that the reference gave, in the mode named after it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from support.loss_golden import flat_targets, maps_of, raw_map, recorded
from support.shared import shared_dir
from uhd.train.losses.anchor import AnchorLoss, AnchorLossSettings
from uhd.train.losses.attributes import attribute_loss_reference
from uhd.train.losses.boxes import overlap
from uhd.train.losses.centernet import centernet_loss
from uhd.train.losses.dense import varifocal_sum
from uhd.train.losses.detr import detr_loss, match_queries
from uhd.train.losses.grid import Grid, table
from uhd.train.losses.legacy import assign_legacy
from uhd.train.losses.parts import settings_from
from uhd.train.targets import Targets

TOLERANCE = 1e-5
_FLAGS = {
    "assigner": "anchor_assigner",
    "cls_loss_type": "anchor_cls_loss",
    "obj_loss_type": "obj_loss",
}


def close(got: Any, expected: Any) -> bool:
    return bool(np.allclose(np.asarray(got), np.asarray(expected), rtol=TOLERANCE, atol=TOLERANCE))


def settings_of(case: dict[str, Any]) -> AnchorLossSettings:
    values = {_FLAGS.get(name, name): value for name, value in case.items()}
    values |= {"loss_mode": "reference", "multi_label_mode": "single" if case.get("multi_label") else "none"}
    return settings_from(AnchorLossSettings, type("Flags", (), values))


def test_anchor_loss_in_all_recorded_settings() -> None:
    setup, cases = recorded()["anchor_setup"], recorded()["anchor_loss"]
    assert len(cases) >= 81
    for number, case in enumerate(cases):
        classes, quality = case["num_classes"], case["use_quality"]
        raw = raw_map(classes, quality).requires_grad_()
        scale = torch.tensor(setup["wh_scale"]) if case["wh_scale"] else torch.ones(3, 2)
        scale.requires_grad_()
        maps = maps_of(raw, classes, quality)
        if number % 2:
            maps = {name: part.contiguous(memory_format=torch.channels_last) for name, part in maps.items()}
        targets = flat_targets(setup["targets_nc3"], classes)
        parts = AnchorLoss(settings_of(case))(maps, torch.tensor(setup["anchors"]), scale, targets)
        parts.total.backward()  # type: ignore[no-untyped-call]
        assert raw.grad is not None and scale.grad is not None
        for name, value in parts.items().items():
            assert close(value, case[f"out_{name}"]), (case, name)
        assert close(raw.grad.abs().sum(), case["grad_abs_sum"]), case
        assert close(raw.grad.sum(), case["grad_sum"]), case
        if case["wh_scale"]:
            assert close(scale.grad, case["grad_wh_scale"]), case


def test_gradients_of_every_output() -> None:
    setup = recorded()["anchor_setup"]
    with np.load(shared_dir("fixtures", "losses") / "anchor_grads.npz") as stored:
        for name in stored.files:
            classes, quality = int(name[2]), name[5] == "1"
            raw = raw_map(classes, quality).requires_grad_()
            settings = AnchorLossSettings(
                loss_mode="reference", iou_loss="ciou", anchor_assigner="legacy" if "legacy" in name else "simota"
            )
            parts = AnchorLoss(settings)(
                maps_of(raw, classes, quality),
                torch.tensor(setup["anchors"]),
                torch.tensor(setup["wh_scale"]),
                flat_targets(setup["targets_nc3"], classes),
            )
            (gradient,) = torch.autograd.grad(parts.total, raw)
            assert np.abs(gradient.numpy() - stored[name]).max() < 1e-6, name


@pytest.mark.parametrize("kind", ["iou", "giou", "ciou"])
def test_overlaps_and_their_gradients(kind: Any) -> None:
    first, second = (
        torch.from_numpy(np.load(shared_dir("fixtures", "losses") / f"iou_boxes{number}.npy")) for number in (1, 2)
    )
    first.requires_grad_()
    values = overlap(kind, first.t(), second.t())
    values.sum().backward()  # type: ignore[no-untyped-call]
    expected = recorded()[f"pair_{kind}"]
    assert first.grad is not None
    assert close(values.detach(), expected["values"]) and close(first.grad, expected["grad_boxes1"])


@pytest.mark.parametrize("classes", [0, 1, 3])
@pytest.mark.parametrize("quality", [False, True])
@pytest.mark.parametrize("assigner", ["legacy", "simota"])
def test_positives_and_their_targets(classes: int, quality: bool, assigner: Any) -> None:
    """Which candidates learn: those whose box logits get a gradient from the box loss alone."""
    setup, expected = recorded()["anchor_setup"], recorded()["assign"][f"nc{classes}_q{int(quality)}_{assigner}"]
    raw = raw_map(classes, quality).requires_grad_()
    settings = AnchorLossSettings(
        loss_mode="reference", iou_loss="giou", anchor_assigner=assigner, loss_weight_obj=0, loss_weight_cls=0,
        loss_weight_quality=0,
    )  # fmt: skip
    anchors, scale = torch.tensor(setup["anchors"]), torch.tensor(setup["wh_scale"])
    targets = flat_targets(setup["targets_nc3"], classes)
    loss = AnchorLoss(settings)
    (gradient,) = torch.autograd.grad(loss(maps_of(raw, classes, quality), anchors, scale, targets).total, raw)
    box = gradient.view(3, 3, -1, 5, 6)[:, :, :4].abs().sum(2)
    assert sorted(box.nonzero().tolist()) == sorted(expected["positives_b_a_gy_gx"])


def test_attribute_loss() -> None:
    setup, expected = recorded()["anchor_setup"], recorded()["anchor_attr_loss"]["value"]
    logits = torch.from_numpy(np.random.RandomState(77).normal(0, 1, (3, 9, 5, 6)).astype(np.float32))
    attributes = flat_targets(setup["targets_nc3"])
    found = assign_legacy(attributes, torch.tensor(setup["anchors"]), Grid(3, 5, 6, 3), "reference")
    assert close(attribute_loss_reference(table(logits, 3), found, attributes), expected)


def test_varifocal_loss() -> None:
    case = recorded()["varifocal"]
    logits, target = torch.tensor(case["logits"]), torch.tensor(case["target"])
    row = torch.arange(len(logits))
    got = varifocal_sum(logits, row, target, row >= 0) / logits.numel()
    assert close(got, case["value"])


def test_centernet_loss() -> None:
    case, targets = recorded()["centernet"], flat_targets(recorded()["anchor_setup"]["targets_nc3"])
    source = np.random.RandomState(21)
    drawn = [source.normal(*how, (3, depth, 5, 6)) for how, depth in (((0, 1.5), 3), ((0.5, 0.3), 2), ((2, 1), 2))]
    tensors = [torch.from_numpy(values.astype(np.float32)) for values in drawn]
    maps = dict(zip(("hm", "off", "wh"), (tensors[0].sigmoid(), *tensors[1:]), strict=True))
    for part in maps.values():
        part.requires_grad_()
    parts = centernet_loss(maps, targets, "reference")
    parts.total.backward()  # type: ignore[no-untyped-call]
    for name, value in parts.items().items():
        assert close(value, case[name]), name
    for name, part in maps.items():
        assert part.grad is not None and close(part.grad.abs().sum(), case["grad_abs_sum"][name])
    none = Targets(targets.image[:0], targets.label[:0], targets.boxes[:0])
    for name, value in centernet_loss(maps, none, "reference").items().items():
        assert close(value, case["empty"][name]), name


def test_detr_loss() -> None:
    case, targets = recorded()["detr"], flat_targets(recorded()["anchor_setup"]["targets_nc3"])
    source = np.random.RandomState(31)
    logits = torch.from_numpy(source.normal(0, 1, (7, 3, 4)).astype(np.float32)).requires_grad_()
    boxes = torch.from_numpy(source.normal(0, 1, (7, 3, 4)).astype(np.float32)).sigmoid().requires_grad_()
    maps = {"logits": logits.transpose(0, 1), "boxes": boxes.transpose(0, 1)}
    parts = detr_loss(maps, targets, "reference")
    parts.total.backward()  # type: ignore[no-untyped-call]
    for name, value in parts.items().items():
        assert close(value, case[name]), name
    for part, expected in zip((logits, boxes), case["grad_abs_sum"], strict=True):
        assert part.grad is not None and close(part.grad.abs().sum(), expected)
    objects, queries = match_queries(maps["logits"], maps["boxes"], targets, "reference")
    for image, expected in enumerate(case["matches_gt_query"]):
        first = int((targets.image < image).sum())
        mine = targets.image[objects] == image
        pairs = torch.stack([objects[mine] - first, queries[mine]], 1).tolist()
        assert sorted(pairs) == sorted(expected)
