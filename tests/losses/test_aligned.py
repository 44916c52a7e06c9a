"""The assigner against a slow one written from its description."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.loss_cases import place_of
from support.slow_train import slow_assign
from uhd.train.losses.aligned import assign
from uhd.train.losses.boxes import pair_iou
from uhd.train.losses.grid import Grid, Matches, near, table
from uhd.train.targets import Targets

GRID = Grid(images=3, height=4, width=5, anchors=3)


def random_case(seed: int, classes: int, objects: int) -> tuple[torch.Tensor, torch.Tensor, Targets]:
    """Random predictions near the objects, so that several objects want the same candidates."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(GRID.size, classes, generator=generator, dtype=torch.float64)
    boxes = torch.rand(GRID.size, 4, generator=generator, dtype=torch.float64)
    boxes[..., 2:] = boxes[..., 2:] * 0.6 + 0.05
    target_boxes = torch.rand(objects, 4, generator=generator, dtype=torch.float64)
    target_boxes[:, 2:] = target_boxes[:, 2:] * 0.7 + 0.02
    image = torch.randint(GRID.images, (objects,), generator=generator)
    label = torch.randint(classes, (objects,), generator=generator)
    return scores, boxes, Targets(image, label, target_boxes)


def found_by(scores: torch.Tensor, boxes: torch.Tensor, targets: Targets, topk: int, radius: int) -> Matches:
    close = near(targets, GRID, radius)
    row = close.row
    label = targets.label[:, None] if scores.shape[1] > 1 else 0
    iou = pair_iou(close.pick(boxes), targets.boxes[:, None])
    return assign(scores[row, label], iou, row, close.valid, GRID.size, topk=topk, score_power=0.5, iou_power=4.0)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    classes=st.sampled_from([1, 3]),
    objects=st.integers(0, 12),
    topk=st.integers(1, 9),
    radius=st.integers(0, 3),
)
def test_equals_the_slow_assigner(seed: int, classes: int, objects: int, topk: int, radius: int) -> None:
    scores, boxes, targets = random_case(seed, classes, objects)
    found = found_by(scores, boxes, targets, topk, radius)
    by_image = (GRID.images, GRID.height, GRID.width, GRID.anchors)

    def ordered(values: torch.Tensor) -> torch.Tensor:
        return values.view(*by_image, -1).permute(0, 3, 1, 2, 4).flatten(1, 3)

    triples = zip(targets.image.tolist(), targets.label.tolist(), map(tuple, targets.boxes.tolist()), strict=True)
    expected = slow_assign(
        ordered(scores).tolist(),
        [list(map(tuple, image)) for image in ordered(boxes).tolist()],
        list(triples),
        (GRID.anchors, GRID.height, GRID.width),
        topk,
        radius,
        score_power=0.5,
        iou_power=4.0,
    )
    got = {}
    for row, target, score in zip(
        found.row[found.keep].tolist(), found.target[found.keep].tolist(), found.score[found.keep].tolist(), strict=True
    ):
        image, anchor, line, column = place_of(row, GRID.height, GRID.width)
        key = image, (anchor * GRID.height + line) * GRID.width + column
        assert key not in got, "a candidate learns one object"
        got[key] = target, score
    assert set(got) == set(expected)
    for key, (target, score) in got.items():
        assert target == expected[key].target
        assert abs(score - expected[key].score) < 1e-9
    assert not found.score[~found.keep].any()


def test_a_tie_goes_to_the_earlier_object() -> None:
    iou = torch.ones(2, 1)
    row = torch.zeros(2, 1, dtype=torch.long)
    found = assign(iou / 2, iou, row, row == 0, 1, topk=3, score_power=0.5, iou_power=4.0)
    assert found.keep.tolist() == [[True], [False]]
    assert found.score.tolist() == [[1.0], [0.0]], "a perfect box is to be scored 1"


def test_candidates_at_the_border_stay_inside() -> None:
    grid = Grid(images=1, height=3, width=4, anchors=2)
    boxes = torch.tensor([[0.0, 0.0, 0.1, 0.1], [1.0, 1.0, 0.1, 0.1], [0.5, 0.5, 0.1, 0.1], [1.4, -0.3, 0.2, 0.2]])
    zeros = torch.zeros(4, dtype=torch.long)
    close = near(Targets(zeros, zeros, boxes), grid, 1)
    assert close.valid.sum(1).tolist() == [2 * 4, 2 * 4, 2 * 9, 2 * 4]
    assert close.row[close.valid].max() < grid.size and close.row.min() >= 0
    assert set(close.row[0][close.valid[0]].tolist()) == {0, 1, 2, 3, 8, 9, 10, 11}


def test_no_objects_no_positives() -> None:
    scores, boxes, targets = random_case(0, 1, 0)
    found = found_by(scores, boxes, targets, 6, 1)
    assert found.row.shape == found.keep.shape == (0, 6)


def test_rows_of_the_table_are_cells_then_anchors() -> None:
    anchors, depth, height, width = 2, 3, 2, 4
    part = torch.arange(2 * anchors * depth * height * width).float().reshape(2, -1, height, width)
    for layout in (torch.contiguous_format, torch.channels_last):
        rows = table(part.contiguous(memory_format=layout), anchors)
        for number, values in enumerate(rows):
            image, anchor, line, column = place_of(number, height, width, anchors)
            assert torch.equal(values, part[image, anchor * depth : (anchor + 1) * depth, line, column])
