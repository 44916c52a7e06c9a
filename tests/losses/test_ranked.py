"""Box overlaps, the score loss and their sum against slow scalar versions."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.slow_train import logistic, slow_assign, slow_ciou, slow_giou, slow_iou, slow_varifocal
from uhd.train.losses.boxes import pair_ciou, pair_giou, pair_iou
from uhd.train.losses.dense import product_log_probability, range_excess
from uhd.train.losses.grid import table
from uhd.train.losses.ranked import DetectionLoss, RankedSettings, Wanted, score_loss
from uhd.train.targets import Targets

SIDE = st.floats(0.01, 1.5)
PLACE = st.floats(-0.5, 1.5)
BOX = st.tuples(PLACE, PLACE, SIDE, SIDE)


@settings(max_examples=150, deadline=None)
@given(a=BOX, b=BOX)
def test_overlaps_equal_the_scalar_ones(a: tuple[float, ...], b: tuple[float, ...]) -> None:
    first, second = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    for fast, slow in ((pair_iou, slow_iou), (pair_giou, slow_giou), (pair_ciou, slow_ciou)):
        assert math.isclose(float(fast(first, second)), slow(a, b), rel_tol=1e-5, abs_tol=1e-5)  # type: ignore[arg-type]


def test_gradient_of_ciou_is_that_of_its_definition_with_alpha_fixed() -> None:
    first = torch.tensor([0.4, 0.5, 0.3, 0.2], dtype=torch.float64, requires_grad=True)
    second = torch.tensor([0.45, 0.52, 0.25, 0.4], dtype=torch.float64)
    pair_ciou(first, second).backward()
    base = tuple(first.tolist())
    truth = tuple(second.tolist())

    def aspect(box: tuple[float, ...]) -> float:
        angle = math.atan(box[2] / (box[3] + 1e-7)) - math.atan(truth[2] / (truth[3] + 1e-7))
        return 4 / math.pi**2 * angle**2

    alpha = aspect(base) / (1 - slow_iou(base, truth) + aspect(base) + 1e-7)  # type: ignore[arg-type]

    def value(box: tuple[float, ...]) -> float:
        own = aspect(box) / (1 - slow_iou(box, truth) + aspect(box) + 1e-7)  # type: ignore[arg-type]
        return slow_ciou(box, truth) + (own - alpha) * aspect(box)  # type: ignore[arg-type]

    for place in range(4):
        step = 1e-6
        up = tuple(v + step * (i == place) for i, v in enumerate(base))
        down = tuple(v - step * (i == place) for i, v in enumerate(base))
        assert math.isclose(float(first.grad[place]), (value(up) - value(down)) / (2 * step), abs_tol=1e-4)  # type: ignore[index]


@settings(max_examples=100, deadline=None)
@given(logits=st.lists(st.floats(-8, 8), min_size=1, max_size=3))
def test_logarithms_of_a_product_of_sigmoids(logits: list[float]) -> None:
    p = math.prod(map(logistic, logits))
    yes, no = product_log_probability([torch.tensor(x, dtype=torch.float64) for x in logits])
    assert math.isclose(float(yes), math.log(p), rel_tol=1e-9, abs_tol=1e-12)
    assert math.isclose(float(no), math.log1p(-p), rel_tol=1e-9, abs_tol=1e-12)


@pytest.mark.parametrize("extreme", [-200.0, 200.0])
def test_logarithms_stay_finite_with_gradients(extreme: float) -> None:
    logits = [torch.tensor(extreme, requires_grad=True), torch.tensor(extreme, requires_grad=True)]
    yes, no = product_log_probability(logits)
    (yes + no).backward()
    assert math.isfinite(yes.item()) and math.isfinite(no.item())
    assert all(math.isfinite(float(x.grad)) for x in logits)  # type: ignore[arg-type]


@pytest.mark.parametrize("weighting", [False, True])
@pytest.mark.parametrize("factors", [1, 2, 3])
def test_score_loss_equals_the_scalar_one(weighting: bool, factors: int) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = [torch.randn(40, 1, generator=generator, dtype=torch.float64) * 2 for _ in range(factors)]
    row = torch.randperm(40, generator=generator)[:12]
    target = torch.rand(12, generator=generator, dtype=torch.float64)
    keep = torch.rand(12, generator=generator) < 0.7
    got = score_loss(logits, Wanted(row, row, target, keep), 0.6, weighting)
    learnt = {r: t for r, t, k in zip(row.tolist(), target.tolist(), keep.tolist(), strict=True) if k}
    expected = 0.0
    for number in range(40):
        p = math.prod(logistic(float(logit[number])) for logit in logits)
        expected += slow_varifocal(p, learnt.get(number, 0.0), number in learnt, 0.6, weighting)
    assert math.isclose(float(got), expected, rel_tol=1e-9)


@pytest.mark.parametrize("classes", [1, 3])
def test_gradient_of_the_score_loss_is_that_of_its_logarithms(classes: int) -> None:
    """The gradient is written by hand; autograd finds the same from the definition, weights held fixed."""
    generator = torch.Generator().manual_seed(2)
    logits = [torch.randn(30, n, generator=generator, dtype=torch.float64) * 3 for n in (1, classes)]
    row = torch.randperm(30, generator=generator)[:9]
    column = torch.randint(classes, (9,), generator=generator)
    target = torch.rand(9, generator=generator, dtype=torch.float64)
    keep = torch.arange(9) % 3 > 0
    ours = [logit.clone().requires_grad_() for logit in logits]
    got = score_loss(ours, Wanted(row, column, target, keep), 0.75, True)
    (2 * got).backward()
    theirs = [logit.clone().requires_grad_() for logit in logits]
    yes, no = product_log_probability(theirs)
    weight = 0.75 * yes.detach().exp().square()
    truth = torch.zeros_like(yes)
    truth[row[keep], column[keep]] = target[keep]
    weight[row[keep], column[keep]] = target[keep]
    expected = -(weight * (truth * yes + (1 - truth) * no)).sum()
    (2 * expected).backward()
    assert torch.allclose(got, expected, rtol=1e-12)
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine.grad, other.grad, rtol=1e-9, atol=1e-12)  # type: ignore[arg-type]


@pytest.mark.parametrize("extreme", [-1e4, -200.0, 80.0, 200.0, 1e4])
def test_score_loss_stays_finite_with_gradients(extreme: float) -> None:
    """Single precision: 1 - sigmoid is 0 here, and its logarithm still known."""
    logits = [torch.full((3, 1), extreme, requires_grad=True), torch.full((3, 1), extreme + 3, requires_grad=True)]
    row = torch.tensor([1])
    wanted = Wanted(row, row, torch.tensor([0.5]), torch.tensor([True]))
    cost = score_loss(logits, wanted, 0.75, True)
    cost.backward()
    yes, no = product_log_probability([torch.tensor(extreme, dtype=torch.float64), torch.tensor(extreme + 3.0)])
    expected = 2 * 0.75 * math.exp(2 * yes) * -float(no) - 0.5 * (0.5 * float(yes) + 0.5 * float(no))
    assert math.isclose(float(cost.detach()), expected, rel_tol=1e-5)
    for logit in logits:
        assert logit.grad is not None and logit.grad.isfinite().all()
    total = sum(float(logit.grad[0]) for logit in logits)  # type: ignore[index]
    assert math.isclose(total, 0.75 if extreme > 0 else 0.0, abs_tol=1e-5), "p (1 - sigmoid) / (1 - p) adds up to 1"


def random_maps(seed: int, anchors: int, side: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    channels = {"box": 4 * anchors, "obj": anchors, "quality": anchors, "cls": anchors}
    return {k: torch.randn(2, c, side, side, generator=generator, dtype=torch.float64) for k, c in channels.items()}


def test_the_whole_loss_by_hand() -> None:
    """Decode, assign and sum up in plain Python, for the product score."""
    anchors, side = 2, 3
    maps = {name: part.float() for name, part in random_maps(5, anchors, side).items()}
    sizes = [(0.3, 0.5), (0.6, 0.8)]
    objects = [(0, 0, (0.4, 0.5, 0.3, 0.6)), (0, 0, (0.7, 0.3, 0.2, 0.3)), (1, 0, (0.2, 0.8, 0.4, 0.4))]
    config = RankedSettings(
        assign_topk=3, loss_weight_obj=0.5, loss_weight_box=2.0, logit_limit=1.5, loss_weight_range=3.0
    )
    targets = Targets(
        torch.tensor([o[0] for o in objects]),
        torch.tensor([o[1] for o in objects]),
        torch.tensor([o[2] for o in objects]),
    )
    loss = DetectionLoss(config, "quality_cls")
    got = loss(maps, torch.tensor(sizes), torch.ones(anchors, 2), targets)

    boxes, scores, objectness = [], [], []
    for image in range(2):
        boxes.append([]), scores.append([]), objectness.append([])
        for a, (wide, tall) in enumerate(sizes):
            for y in range(side):
                for x in range(side):
                    t = [float(maps["box"][image, 4 * a + k, y, x]) for k in range(4)]
                    centre = (logistic(t[0]) + x) / side, (logistic(t[1]) + y) / side
                    size = wide * math.log1p(math.exp(t[2])), tall * math.log1p(math.exp(t[3]))
                    boxes[-1].append((*centre, *size))
                    q, c = (logistic(float(maps[k][image, a, y, x])) for k in ("quality", "cls"))
                    scores[-1].append([q * c])
                    objectness[-1].append(logistic(float(maps["obj"][image, a, y, x])))
    owners = slow_assign(scores, boxes, objects, (anchors, side, side), 3, 1, 0.5, 4.0)
    total = max(1.0, sum(p.score for p in owners.values()))
    box = sum((1 - slow_ciou(boxes[i][n], objects[p.target][2])) * p.score for (i, n), p in owners.items()) / total
    parts = {"cls": 0.0, "obj": 0.0}
    for image in range(2):
        for number in range(anchors * side * side):
            positive = owners.get((image, number))
            target = positive.score if positive else 0.0
            for name, p in (("cls", scores[image][number][0]), ("obj", objectness[image][number])):
                parts[name] += slow_varifocal(p, target, positive is not None, config.background_weight, True) / total
    assert owners
    assert math.isclose(float(got.parts["box"]), box, rel_tol=1e-4)
    assert math.isclose(float(got.parts["cls"]), parts["cls"], rel_tol=1e-4)
    assert math.isclose(float(got.parts["obj"]), parts["obj"], rel_tol=1e-4)
    values = [value for part in maps.values() for value in part.flatten().tolist()]
    beyond = sum(max(0.0, abs(value) - 1.5) ** 2 for value in values) / len(values)
    assert math.isclose(float(got.parts["range"]), beyond, rel_tol=1e-4)
    expected = 2.0 * box + parts["cls"] + 0.5 * parts["obj"] + 3.0 * beyond
    assert math.isclose(float(got.total), expected, rel_tol=1e-4)


def test_outputs_within_the_limit_cost_nothing() -> None:
    inside = torch.linspace(-8, 8, 9, requires_grad=True)
    cost = range_excess([inside], 8.0)
    cost.backward()
    assert float(cost.detach()) == 0 and inside.grad is not None and (inside.grad == 0).all()


@pytest.mark.parametrize("score_loss", ["product", "separate"])
def test_a_batch_without_objects_teaches_the_background(score_loss: Literal["product", "separate"]) -> None:
    maps = {name: part.float().requires_grad_() for name, part in random_maps(2, 2, 3).items()}
    empty = torch.zeros(0, dtype=torch.long)
    loss = DetectionLoss(RankedSettings(score_loss=score_loss), "quality_cls")
    parts = loss(maps, torch.ones(2, 2), torch.ones(2, 2), Targets(empty, empty, torch.zeros(0, 4)))
    parts.total.backward()
    assert float(parts.parts["box"]) == 0 and float(parts.parts["cls"]) > 0
    assert (maps["cls"].grad > 0).all(), "every score is pushed down"  # type: ignore[operator]


def test_separate_quality_learns_the_iou() -> None:
    """With the class part switched off, the quality logit of the positives settles at the logit of their IoU."""
    maps = {name: part.float() for name, part in random_maps(3, 1, 2).items()}
    quality = maps["quality"].clone().requires_grad_()
    config = RankedSettings(score_loss="separate", loss_weight_cls=0.0, loss_weight_obj=0.0, assign_topk=1)
    loss = DetectionLoss(config, "quality_cls")
    zero = torch.zeros(1, dtype=torch.long)
    targets = Targets(zero, zero, torch.tensor([[0.5, 0.5, 0.5, 0.5]]))
    optimizer = torch.optim.SGD([quality], lr=5.0)
    for _ in range(200):
        optimizer.zero_grad()
        parts = loss({**maps, "quality": quality}, torch.full((1, 2), 0.7), torch.ones(1, 2), targets)
        parts.total.backward()
        optimizer.step()
    moved = (quality - maps["quality"]).abs() > 1e-3
    assert moved.sum() == 1, "the only positive, and no background cell"
    from uhd.detect.decode import decode_boxes

    boxes = decode_boxes(maps["box"], torch.full((1, 2), 0.7), torch.ones(1, 2))
    number = int(table(moved.float(), 1)[:, 0].argmax())  # the first image; one anchor, so both orders are the same
    iou = slow_iou(tuple(boxes[0, number].tolist()), (0.5, 0.5, 0.5, 0.5))
    assert math.isclose(logistic(quality[moved].item()), iou, abs_tol=1e-3)
