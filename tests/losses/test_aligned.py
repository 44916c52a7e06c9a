"""The assigner against a slow one written from its description."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.slow_train import slow_assign
from uhd.train.losses.aligned import Grid, assign, centre_candidates
from uhd.train.targets import Targets


def random_case(seed: int, classes: int, images: int, objects: int) -> tuple[torch.Tensor, torch.Tensor, Targets, Grid]:
    """Random predictions near the objects, so that several objects want the same candidates."""
    generator = torch.Generator().manual_seed(seed)
    grid = Grid(anchors=3, height=4, width=5)
    scores = torch.rand(images, grid.size, classes, generator=generator, dtype=torch.float64)
    boxes = torch.rand(images, grid.size, 4, generator=generator, dtype=torch.float64)
    boxes[..., 2:] = boxes[..., 2:] * 0.6 + 0.05
    target_boxes = torch.rand(objects, 4, generator=generator, dtype=torch.float64)
    target_boxes[:, 2:] = target_boxes[:, 2:] * 0.7 + 0.02
    image = torch.randint(images, (objects,), generator=generator)
    label = torch.randint(classes, (objects,), generator=generator)
    return scores, boxes, Targets(image, label, target_boxes), grid


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    classes=st.sampled_from([1, 3]),
    objects=st.integers(0, 12),
    topk=st.integers(1, 9),
    radius=st.integers(0, 3),
)
def test_equals_the_slow_assigner(seed: int, classes: int, objects: int, topk: int, radius: int) -> None:
    scores, boxes, targets, grid = random_case(seed, classes, 3, objects)
    powers = {"score_power": 0.5, "iou_power": 4.0}
    found = assign(scores, boxes, targets, grid, topk=topk, radius=radius, **powers)
    triples = zip(targets.image.tolist(), targets.label.tolist(), map(tuple, targets.boxes.tolist()), strict=True)
    expected = slow_assign(
        scores.tolist(),
        [list(map(tuple, image)) for image in boxes.tolist()],
        list(triples),
        (grid.anchors, grid.height, grid.width),
        topk,
        radius,
        **powers,
    )
    keys = list(zip(found.image.tolist(), found.candidate.tolist(), strict=True))
    assert len(keys) == len(set(keys)), "a candidate learns one object"
    assert set(keys) == set(expected)
    for key, target, score in zip(keys, found.target.tolist(), found.score.tolist(), strict=True):
        assert target == expected[key].target
        assert abs(score - expected[key].score) < 1e-9


def test_a_tie_goes_to_the_earlier_object() -> None:
    grid = Grid(1, 1, 1)
    box = torch.tensor([[0.5, 0.5, 0.4, 0.4]])
    targets = Targets(torch.zeros(2, dtype=torch.long), torch.zeros(2, dtype=torch.long), box.repeat(2, 1))
    found = assign(
        torch.full((1, 1, 1), 0.5), box[None], targets, grid, topk=3, radius=1, score_power=0.5, iou_power=4.0
    )
    assert found.target.tolist() == [0]
    assert abs(float(found.score) - 1.0) < 1e-5, "a perfect box is to be scored 1"


def test_candidates_at_the_border_stay_inside() -> None:
    grid = Grid(2, 3, 4)
    boxes = torch.tensor([[0.0, 0.0, 0.1, 0.1], [1.0, 1.0, 0.1, 0.1], [0.5, 0.5, 0.1, 0.1]])
    number, valid = centre_candidates(boxes, grid, 1)
    assert valid.sum(1).tolist() == [2 * 4, 2 * 4, 2 * 9]
    assert number[valid].max() < grid.size and number.min() >= 0
    assert set(number[0][valid[0]].tolist()) == {0, 1, 4, 5, 12, 13, 16, 17}


def test_no_objects_no_positives() -> None:
    scores, boxes, targets, grid = random_case(0, 1, 2, 0)
    found = assign(scores, boxes, targets, grid, topk=6, radius=1, score_power=0.5, iou_power=4.0)
    assert len(found.image) == len(found.score) == 0
