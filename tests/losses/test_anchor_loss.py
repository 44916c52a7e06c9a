"""The anchor loss in its default mode: properties that hold for any batch, and what differs from the reference."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.loss_cases import SIZES, Maps, decoded, objects_of, random_maps, random_targets
from support.slow_assign import slow_legacy
from support.slow_train import logistic, slow_ciou, slow_iou
from uhd.train.losses.anchor import AnchorLoss, AnchorLossSettings
from uhd.train.losses.parts import LossParts
from uhd.train.losses.ranked import DetectionLoss, RankedSettings
from uhd.train.targets import Targets

ANCHORS, ONES = torch.tensor(SIZES), torch.ones(len(SIZES), 2)
IMAGES, HEIGHT, WIDTH = 3, 4, 3
KINDS = ("aligned", "legacy", "simota")


def loss_of(kind: str, **values: Any) -> AnchorLoss | DetectionLoss:
    if kind == "aligned":
        return DetectionLoss(RankedSettings(**values), "quality_cls")
    return AnchorLoss(AnchorLossSettings(anchor_assigner=kind, **values))  # type: ignore[arg-type]


def run(loss: AnchorLoss | DetectionLoss, maps: Maps, targets: Targets) -> tuple[LossParts, Maps]:
    """The loss and the gradients of the maps."""
    parts = loss(maps, ANCHORS, ONES, targets)
    gradients = torch.autograd.grad(parts.total, list(maps.values()), allow_unused=True)
    return parts, {
        name: torch.zeros_like(part) if gradient is None else gradient
        for (name, part), gradient in zip(maps.items(), gradients, strict=True)
    }


def agree(first: tuple[LossParts, Maps], second: tuple[LossParts, Maps]) -> None:
    for name, value in first[0].items().items():
        assert torch.isclose(value, second[0].items()[name], rtol=1e-5, atol=1e-6), name
    for name, value in first[1].items():
        assert torch.allclose(value, second[1][name], rtol=1e-4, atol=1e-6), name


def picked(targets: Targets, order: torch.Tensor) -> Targets:
    return Targets(targets.image[order], targets.label[order], targets.boxes[order])


CASES = {
    "kind": st.sampled_from(KINDS),
    "seed": st.integers(0, 10**6),
    "objects": st.integers(0, 25),
    "classes": st.sampled_from([1, 3]),
}


@settings(max_examples=40, deadline=None)
@given(**CASES, multi=st.booleans())
def test_the_order_of_the_objects_does_not_matter(
    kind: str, seed: int, objects: int, classes: int, multi: bool
) -> None:
    loss = loss_of(kind, multi_label_mode="single" if multi else "none")
    maps = random_maps(seed, IMAGES, HEIGHT, WIDTH, classes=classes)
    targets = random_targets(seed, IMAGES, objects, classes)
    if objects > 3:  # the same size twice in one cell, and one box with several labels
        targets.boxes[1, 2:] = targets.boxes[0, 2:]
        targets.boxes[3], targets.image[3] = targets.boxes[2], targets.image[2]
        targets.label[2:4] = torch.tensor([0, classes - 1])
    order = torch.randperm(objects, generator=torch.Generator().manual_seed(seed))
    agree(run(loss, maps, targets), run(loss, maps, picked(targets, order)))


@settings(max_examples=30, deadline=None)
@given(**CASES)
def test_the_order_of_the_images_does_not_matter(kind: str, seed: int, objects: int, classes: int) -> None:
    loss = loss_of(kind)
    maps = random_maps(seed, IMAGES, HEIGHT, WIDTH, classes=classes)
    targets = random_targets(seed, IMAGES, objects, classes, images_used=2)
    order = torch.tensor([2, 0, 1])
    mixed = {name: part.detach()[order].requires_grad_() for name, part in maps.items()}
    moved = Targets(order.argsort()[targets.image], targets.label, targets.boxes)
    parts, gradients = run(loss, mixed, moved)
    agree(run(loss, maps, targets), (parts, {name: part[order.argsort()] for name, part in gradients.items()}))


@settings(max_examples=20, deadline=None)
@given(**{**CASES, "kind": st.sampled_from(["legacy", "simota"])})
def test_a_batch_twice_is_the_batch(kind: str, seed: int, objects: int, classes: int) -> None:
    """All parts are means, so doubling the batch changes none of them (the ranked loss has a floor in its divisor)."""
    loss = loss_of(kind)
    maps = random_maps(seed, IMAGES, HEIGHT, WIDTH, classes=classes)
    targets = random_targets(seed, IMAGES, objects, classes)
    doubled = {name: torch.cat([part.detach()] * 2).requires_grad_() for name, part in maps.items()}
    both = Targets(
        torch.cat([targets.image, targets.image + IMAGES]), targets.label.repeat(2), targets.boxes.repeat(2, 1)
    )
    parts, gradients = run(loss, doubled, both)
    halves = {name: part[:IMAGES] + part[IMAGES:] for name, part in gradients.items()}
    agree(run(loss, maps, targets), (parts, halves))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("extreme", [-1e3, -50.0, 50.0, 1e3])
def test_extreme_outputs_give_finite_losses_and_gradients(kind: str, extreme: float) -> None:
    for classes in (0, 1, 3):
        maps = random_maps(1, IMAGES, HEIGHT, WIDTH, classes=classes)
        maps = {name: torch.full_like(part, extreme).requires_grad_() for name, part in maps.items()}
        loss = loss_of(kind) if classes or kind != "aligned" else DetectionLoss(RankedSettings(), "quality")
        parts, gradients = run(loss, maps, random_targets(1, IMAGES, 9, classes))
        assert all(value.isfinite() for value in parts.items().values())
        assert all(gradient.isfinite().all() for gradient in gradients.values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "box",
    [
        [0.0, 0.0, 0.2, 0.2], [1.0, 1.0, 0.3, 0.3], [0.0, 1.0, 2.0, 2.0], [0.5, 0.5, 1.0, 1.0],
        [1.2, -0.1, 0.3, 0.3], [0.5, 0.5, 1e-6, 1e-6], [1.0, 0.5, 0.0, 0.4],
    ],
)  # fmt: skip
def test_boxes_at_the_border_and_degenerate_ones(kind: str, box: list[float]) -> None:
    zero = torch.zeros(1, dtype=torch.long)
    maps = random_maps(2, 1, HEIGHT, WIDTH)
    parts, gradients = run(loss_of(kind), maps, Targets(zero, zero, torch.tensor([box])))
    assert all(value.isfinite() for value in parts.items().values())
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    if kind == "legacy":
        assert (gradients["box"] != 0).sum() > 0, "every object has a cell"


@pytest.mark.parametrize("kind", ["legacy", "simota"])
@pytest.mark.parametrize("cls_loss", ["bce", "vfl", "ce"])
def test_without_objects_every_score_still_learns_that_there_is_nothing(kind: Any, cls_loss: Any) -> None:
    """The reference trains no quality and no class then."""
    maps = random_maps(4, IMAGES, HEIGHT, WIDTH, classes=3)
    none = picked(random_targets(0, IMAGES, 1, 3), torch.zeros(0, dtype=torch.long))
    parts, gradients = run(loss_of(kind, anchor_cls_loss=cls_loss), maps, none)
    assert float(parts.parts["box"]) == 0 and parts.total.isfinite()
    assert (gradients["quality"] > 0).all() and (gradients["obj"] > 0).all() and not gradients["box"].any()
    assert ((gradients["cls"] > 0).all()) == (cls_loss == "vfl"), "bce and ce tell classes of objects apart, no more"
    _, old = run(loss_of(kind, anchor_cls_loss=cls_loss, loss_mode="reference"), maps, none)
    assert not old["quality"].any() and not old["cls"].any()


@pytest.mark.parametrize("obj_loss", ["bce", "smoothl1"])
@pytest.mark.parametrize("obj_target", ["auto", "binary", "iou"])
@pytest.mark.parametrize("quality", [False, True])
def test_default_values_by_hand(obj_loss: Any, obj_target: Any, quality: bool) -> None:
    """Legacy assignment, objectness and quality of every candidate, summed up in plain Python."""
    maps = random_maps(6, IMAGES, HEIGHT, WIDTH, classes=2, quality=quality)
    targets = random_targets(7, IMAGES, 12, 2)
    settings_ = AnchorLossSettings(
        iou_loss="ciou", obj_loss=obj_loss, obj_target=obj_target, loss_weight_obj=3.0, loss_weight_quality=5.0,
        loss_weight_cls=0.5, loss_weight_box=2.0,
    )  # fmt: skip
    parts, _ = run(AnchorLoss(settings_), maps, targets)
    maps = {name: part.detach() for name, part in maps.items()}
    objects = objects_of(targets)
    owner = slow_legacy(objects, list(SIZES), HEIGHT, WIDTH, False).owner
    boxes = decoded(maps["box"])
    count = len(owner)
    box = sum(1 - slow_ciou(boxes[place], objects[number][2]) for place, number in owner.items()) / count
    obj = qual = cls = 0.0
    for place in boxes:
        image, anchor, row, column = place
        number = owner.get(place)
        iou = slow_iou(boxes[place], objects[number][2]) if number is not None else 0.0
        learns_iou = obj_target == "iou" or (obj_target == "auto" and quality)
        target = iou if learns_iou else float(number is not None)
        p = logistic(float(maps["obj"][image, anchor, row, column]))
        entropy = -(target * math.log(p) + (1 - target) * math.log(1 - p))
        obj += (entropy if obj_loss == "bce" else 0.5 * (p - target) ** 2) / len(boxes)
        if quality:
            q = logistic(float(maps["quality"][image, anchor, row, column]))
            qual += -(iou * math.log(q) + (1 - iou) * math.log(1 - q)) / len(boxes)
        if number is not None:
            for k in range(2):
                c = logistic(float(maps["cls"][image, anchor * 2 + k, row, column]))
                cls -= math.log(c if objects[number][1] == k else 1 - c) / count
    for name, value in (("box", box), ("obj", obj), ("cls", cls), ("quality", qual)):
        assert math.isclose(float(parts.parts[name]), value, rel_tol=1e-4, abs_tol=1e-6), name
    total = 2.0 * box + 3.0 * obj + 0.5 * cls + 5.0 * qual
    assert math.isclose(float(parts.total.detach()), total, rel_tol=1e-4)


def test_quality_learns_the_plain_iou_whatever_the_box_loss() -> None:
    maps = random_maps(8, IMAGES, HEIGHT, WIDTH)
    targets = random_targets(8, IMAGES, 10, 1)
    values = [
        float(run(loss_of("legacy", iou_loss=kind), maps, targets)[0].parts["quality"]) for kind in ("iou", "ciou")
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-6)


def test_every_label_of_a_box_is_learnt_in_multi_label_mode() -> None:
    """One box, labelled 0 and 2: with gradient descent both classes rise and the third falls."""
    zero = torch.zeros(2, dtype=torch.long)
    targets = Targets(zero, torch.tensor([0, 2]), torch.tensor([[0.4, 0.4, 0.3, 0.35]] * 2))
    for kind in KINDS:
        maps = random_maps(9, 1, HEIGHT, WIDTH, classes=3, spread=0.1)
        _, gradients = run(loss_of(kind, multi_label_mode="single"), maps, targets)
        by_class = gradients["cls"].view(len(SIZES), 3, -1).permute(1, 0, 2).flatten(1)
        assert by_class[0].min() < 0 and by_class[2].min() < 0 and by_class[1].min() >= 0, kind


def test_outputs_beyond_the_limit_cost_only_where_a_weight_says_so() -> None:
    maps = {name: part.detach() * 30 for name, part in random_maps(1, 1, HEIGHT, WIDTH).items()}
    targets = random_targets(1, 1, 3, 1)
    with_range = AnchorLoss(AnchorLossSettings(loss_weight_range=1.0))(maps, ANCHORS, ONES, targets)
    assert float(with_range.parts["range"]) > 0
    assert "range" not in AnchorLoss(AnchorLossSettings())(maps, ANCHORS, ONES, targets).parts


def test_unknown_choices_are_refused() -> None:
    for name in ("anchor_assigner", "obj_loss", "obj_target", "iou_loss", "anchor_cls_loss", "loss_mode"):
        with pytest.raises(ValueError, match=name):
            AnchorLossSettings(**{name: "nonsense"})  # type: ignore[arg-type]
