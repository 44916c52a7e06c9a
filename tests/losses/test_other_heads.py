"""CenterNet and DETR losses in their default mode, and the matching."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.loss_cases import Maps, random_targets
from support.slow_assign import best_matching
from support.slow_train import slow_giou, slow_iou
from uhd.train.losses.centernet import centernet_loss, heat_target, splat_sigma
from uhd.train.losses.detr import detr_loss, match_queries
from uhd.train.losses.matching import greedy, hungarian
from uhd.train.losses.parts import LossParts
from uhd.train.targets import Targets


def centre_maps(seed: int, images: int, classes: int, height: int, width: int) -> Maps:
    generator = torch.Generator().manual_seed(seed)
    hm = (torch.randn(images, classes, height, width, generator=generator) * 2).sigmoid()
    off, wh = (torch.randn(images, 2, height, width, generator=generator) for _ in range(2))
    return {name: part.requires_grad_() for name, part in {"hm": hm, "off": off, "wh": wh}.items()}


def query_maps(seed: int, images: int, queries: int, classes: int, spread: float = 1.0) -> Maps:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, queries, classes + 1, generator=generator) * spread
    boxes = (torch.randn(images, queries, 4, generator=generator) * spread).sigmoid()
    return {"logits": logits.requires_grad_(), "boxes": boxes.requires_grad_()}


def check_same(first: LossParts, second: LossParts) -> None:
    for name, value in first.items().items():
        assert torch.isclose(value, second.items()[name], rtol=1e-5, atol=1e-6), name


def shuffled(targets: Targets, seed: int) -> Targets:
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    return Targets(targets.image[order], targets.label[order], targets.boxes[order])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), objects=st.integers(0, 20))
def test_the_order_of_the_objects_does_not_matter(seed: int, objects: int) -> None:
    targets = random_targets(seed, 3, objects, 2)
    maps = centre_maps(seed, 3, 2, 4, 5)
    check_same(centernet_loss(maps, targets), centernet_loss(maps, shuffled(targets, seed)))
    maps = query_maps(seed, 3, 5, 2)
    check_same(detr_loss(maps, targets), detr_loss(maps, shuffled(targets, seed)))


@pytest.mark.parametrize("mode", ["default", "reference"])
@pytest.mark.parametrize("objects", [0, 1, 30])
def test_finite_with_gradients_for_any_batch(mode: str, objects: int) -> None:
    targets = random_targets(objects, 2, objects, 2, images_used=1)
    if objects:
        targets.boxes[0] = torch.tensor([1.0, 1.0, 0.0, 0.5])
    for maps, loss in (
        (centre_maps(0, 2, 2, 3, 4), centernet_loss),
        (query_maps(0, 2, 4, 2), detr_loss),
        (query_maps(0, 2, 4, 2, spread=1e3), detr_loss),
    ):
        parts = loss(maps, targets, mode)  # type: ignore[operator]
        gradients = torch.autograd.grad(parts.total, list(maps.values()), allow_unused=True)
        assert all(value.isfinite() for value in parts.items().values())
        assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)
        assert gradients[0] is not None and gradients[0].any()


def test_saturated_heat_maps_stay_finite() -> None:
    maps = centre_maps(0, 1, 1, 3, 3)
    for value in (0.0, 1.0):
        maps["hm"] = torch.full((1, 1, 3, 3), value, requires_grad=True)
        parts = centernet_loss(maps, random_targets(0, 1, 2, 1))
        (gradient,) = torch.autograd.grad(parts.total, maps["hm"])
        assert parts.total.isfinite() and gradient.isfinite().all()


def test_peaks_fall_off_round_each_object() -> None:
    hm = torch.zeros(1, 2, 9, 9)
    image, label = torch.zeros(2, dtype=torch.long), torch.tensor([0, 0])
    cell, sigma = torch.tensor([[2, 3], [6, 3]]), torch.tensor([1.0, 0.5])
    heat = heat_target(hm, image, label, cell, sigma)
    assert heat[0, 0, 3, 2] == heat[0, 0, 3, 6] == 1 and not heat[0, 1].any()
    for row in range(9):
        for column in range(9):
            first = math.exp(-((column - 2) ** 2 + (row - 3) ** 2) / 2)
            second = math.exp(-((column - 6) ** 2 + (row - 3) ** 2) / 0.5)
            assert math.isclose(float(heat[0, 0, row, column]), max(first, second), abs_tol=1e-6)


@settings(max_examples=50, deadline=None)
@given(wide=st.floats(0.5, 30), tall=st.floats(0.5, 30))
def test_the_peak_covers_boxes_that_still_overlap_by_seven_tenths(wide: float, tall: float) -> None:
    """Its radius is the shift at which one of a moved, a smaller and a larger box has an IoU of 0.7."""
    sigma = splat_sigma(torch.tensor([wide], dtype=torch.float64), torch.tensor([tall], dtype=torch.float64))
    r = (6 * float(sigma) - 1) / 2
    box = (0.0, 0.0, wide, tall)
    ious = [
        slow_iou(box, (r, r, wide, tall)),
        slow_iou(box, (0.0, 0.0, wide - 2 * r, tall - 2 * r)),
        slow_iou(box, (0.0, 0.0, wide + 2 * r, tall + 2 * r)),
    ]
    assert math.isclose(min(ious), 0.7, abs_tol=1e-4)


def test_every_object_of_a_cell_has_its_say() -> None:
    """Two centres in one cell: the size that costs least lies between both; the reference knows the last only."""
    zeros = torch.zeros(2, dtype=torch.long)
    targets = Targets(zeros, zeros, torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.6, 0.6]]))
    maps = centre_maps(0, 1, 1, 3, 3)
    maps["wh"] = torch.full((1, 2, 3, 3), 1.2)
    assert float(centernet_loss(maps, targets).parts["wh"]) == pytest.approx((2 * 0.6 + 2 * 0.6) / 2)
    assert float(centernet_loss(maps, targets, "reference").parts["wh"]) == pytest.approx(2 * 0.6)


@settings(max_examples=80, deadline=None)
@given(shape=st.tuples(st.integers(0, 5), st.integers(1, 6)), seed=st.integers(0, 10**6), ties=st.booleans())
def test_hungarian_is_the_cheapest_of_all_matchings(shape: tuple[int, int], seed: int, ties: bool) -> None:
    source = np.random.default_rng(seed)
    costs = source.integers(0, 4, shape).astype(float) if ties else source.normal(size=shape)
    rows, columns = hungarian(costs)
    assert len(rows) == len(columns) == min(shape)
    assert len(set(rows.tolist())) == len(rows) and len(set(columns.tolist())) == len(columns)
    if len(rows):
        assert math.isclose(costs[rows, columns].sum(), best_matching(costs.tolist()), abs_tol=1e-9)


def test_hungarian_equals_scipy_on_large_tables() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    source = np.random.default_rng(0)
    for shape in ((40, 100), (100, 30), (60, 60)):
        costs = source.normal(size=shape) ** 3
        rows, columns = hungarian(costs)
        other = optimize.linear_sum_assignment(costs)
        assert math.isclose(costs[rows, columns].sum(), costs[other].sum(), rel_tol=1e-12)


def test_matching_bears_costs_that_are_no_numbers() -> None:
    rows, columns = hungarian(np.array([[np.nan, 1.0, np.inf], [1.0, np.nan, -np.inf]]))
    assert columns.tolist() == [1, 2] and rows.tolist() == [0, 1]


def test_greedy_may_be_dearer_than_the_best() -> None:
    costs = np.array([[1.0, 2.0], [2.0, 100.0]])
    rows, columns = greedy(costs)
    assert costs[rows, columns].sum() == 101
    rows, columns = hungarian(costs)
    assert costs[rows, columns].sum() == 4


def test_detr_default_by_hand() -> None:
    maps = {name: part.detach() for name, part in query_maps(3, 1, 4, 2).items()}
    targets = random_targets(5, 1, 2, 2)
    logits, boxes = maps["logits"][0].double(), [tuple(box) for box in maps["boxes"][0].tolist()]
    truth, label = [tuple(box) for box in targets.boxes.tolist()], targets.label.tolist()

    def l1(a: int, q: int) -> float:
        return sum(abs(x - y) for x, y in zip(truth[a], boxes[q], strict=True))

    chance = logits.softmax(1)
    costs = [
        [5 * l1(a, q) + 2 * (1 - slow_giou(boxes[q], truth[a])) - float(chance[q, label[a]]) for q in range(4)]  # type: ignore[arg-type]
        for a in range(2)
    ]
    objects, queries = match_queries(maps["logits"], maps["boxes"], targets)
    pairs = list(zip(objects.tolist(), queries.tolist(), strict=True))
    assert math.isclose(sum(costs[a][q] for a, q in pairs), best_matching(costs), abs_tol=1e-5)
    wanted = [2] * 4
    for a, q in pairs:
        wanted[q] = label[a]
    weights = [0.1 if k == 2 else 1.0 for k in wanted]
    entropies = [-float(logits.log_softmax(1)[q, wanted[q]]) * weights[q] for q in range(4)]
    parts = detr_loss(maps, targets).parts
    assert float(parts["cls"]) == pytest.approx(sum(entropies) / sum(weights), rel=1e-5)
    assert float(parts["l1"]) == pytest.approx(sum(l1(a, q) for a, q in pairs) / 2, rel=1e-5)
    apart = sum(1 - slow_giou(boxes[q], truth[a]) for a, q in pairs) / 2  # type: ignore[arg-type]
    assert float(parts["iou"]) == pytest.approx(apart, rel=1e-5)


def test_more_objects_than_queries() -> None:
    maps = query_maps(0, 2, 3, 1)
    targets = random_targets(0, 2, 12, 1)
    objects, queries = match_queries(maps["logits"].detach(), maps["boxes"].detach(), targets)
    for image in range(2):
        mine = queries[targets.image[objects] == image].tolist()
        assert sorted(mine) == [0, 1, 2]


def test_the_class_decides_between_equal_boxes() -> None:
    """The reference's cost ignores the class."""
    logits = torch.tensor([[[0.0, 5.0, 0.0], [5.0, 0.0, 0.0]]])
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2]] * 2])
    zero = torch.zeros(1, dtype=torch.long)
    targets = Targets(zero, zero, torch.tensor([[0.5, 0.5, 0.3, 0.3]]))
    assert match_queries(logits, boxes, targets)[1].tolist() == [1]
