"""Legacy and SimOTA against slow ones that take object after object."""

from __future__ import annotations

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.loss_cases import SIZES, class_logits, decoded, objects_of, place_of, random_maps, random_targets
from support.slow_assign import Place, slow_legacy, slow_simota, slow_simota_reference
from uhd.train.losses.grid import Grid, Matches, near, table
from uhd.train.losses.legacy import assign_legacy
from uhd.train.losses.simota import assign_simota, assign_simota_reference
from uhd.train.targets import Targets

HEIGHT, WIDTH, IMAGES = 3, 4, 3
GRID = Grid(IMAGES, HEIGHT, WIDTH, len(SIZES))


def owners(found: Matches) -> dict[Place, int]:
    rows, targets = found.row[found.keep].tolist(), found.target[found.keep].tolist()
    places = [place_of(row, HEIGHT, WIDTH) for row in rows]
    assert len(set(places)) == len(places), "a candidate learns one object"
    return dict(zip(places, targets, strict=True))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), objects=st.integers(0, 40), reference=st.booleans())
@example(seed=3, objects=150, reference=False)
def test_legacy_equals_the_slow_one(seed: int, objects: int, reference: bool) -> None:
    targets = random_targets(seed, IMAGES, objects, 2)
    found = assign_legacy(targets, torch.tensor(SIZES), GRID, "reference" if reference else "default")
    expected = slow_legacy(objects_of(targets), list(SIZES), HEIGHT, WIDTH, reference)
    assert owners(found) == expected.owner


def test_objects_of_one_cell_share_its_anchors() -> None:
    """The reference would teach the last of the first three and forget the others."""
    box = torch.tensor([[0.5, 0.5, 0.3, 0.35], [0.52, 0.5, 0.31, 0.36], [0.5, 0.52, 0.29, 0.33], [0.5, 0.5, 0.1, 0.1]])
    zeros = torch.zeros(4, dtype=torch.long)
    targets = Targets(zeros, zeros, box)
    fair = assign_legacy(targets, torch.tensor(SIZES), GRID, "default")
    assert fair.keep.sum() == 3 and fair.keep[0, 0], "as many as the cell has anchors, the best fit among them"
    lossy = assign_legacy(targets, torch.tensor(SIZES), GRID, "reference")
    assert lossy.keep[:, 0].tolist() == [False, False, True, True]


def test_labels_of_one_box_share_the_candidate() -> None:
    box = torch.tensor([[0.5, 0.5, 0.3, 0.35], [0.5, 0.5, 0.3, 0.35], [0.6, 0.6, 0.3, 0.35]])
    targets = Targets(torch.zeros(3, dtype=torch.long), torch.tensor([0, 1, 0]), box)
    one = assign_legacy(targets, torch.tensor(SIZES), GRID, "default", multi_label=True)
    assert sorted(one.keep[:, 0].tolist()) == [False, True, True] and one.keep[2, 0]
    assert assign_legacy(targets, torch.tensor(SIZES), GRID, "default").keep.all()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    objects=st.integers(0, 15),
    topk=st.integers(1, 40),
    radius=st.integers(0, 3),
    classes=st.sampled_from([0, 1, 3]),
)
def test_simota_equals_the_slow_one(seed: int, objects: int, topk: int, radius: int, classes: int) -> None:
    targets = random_targets(seed, IMAGES, objects, classes)
    maps = {name: part.detach() for name, part in random_maps(seed, IMAGES, HEIGHT, WIDTH, classes=classes).items()}
    cls = table(maps["cls"], 3) if classes else None
    close = near(targets, GRID, radius)
    found = assign_simota(table(maps["box"], 3), cls, torch.tensor(SIZES), targets, close, topk)
    logits = class_logits(maps["cls"]) if classes else {}
    expected = slow_simota(objects_of(targets), decoded(maps["box"]), logits, (HEIGHT, WIDTH), topk, radius)
    assert owners(found) == expected.owner


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), objects=st.integers(0, 10), topk=st.integers(1, 50))
def test_simota_of_the_reference_equals_the_slow_one(seed: int, objects: int, topk: int) -> None:
    targets = random_targets(seed, IMAGES, objects, 2)
    maps = {name: part.detach() for name, part in random_maps(seed, IMAGES, HEIGHT, WIDTH).items()}
    boxes = decoded(maps["box"])
    found, wanted = assign_simota_reference(table(maps["box"], 3), torch.tensor(SIZES), targets, GRID, topk)
    expected = slow_simota_reference(objects_of(targets), boxes, topk, True, True)
    touching = {  # objects that overlap nothing take any candidate
        number for number, box in enumerate(targets.boxes.tolist()) if float(found.score[number].max()) > 1e-6 and box
    }
    assert {p: n for p, n in owners(found).items() if n in touching} == {
        p: n for p, n in expected.owner.items() if n in touching
    }
    assert int(wanted.sum(1).min() if objects else 1) >= 1


def test_the_cost_selects() -> None:
    """Two candidates with the same box: SimOTA takes the one that believes in the object's class."""
    maps = {name: part.detach() for name, part in random_maps(0, 1, 1, 1, classes=2).items()}
    maps["box"][:] = torch.zeros(4).repeat(3)[None, :, None, None]
    maps["cls"][:] = torch.tensor([-3.0, 0.0, 0.0, 0.0, 3.0, 0.0])[None, :, None, None]
    sizes = torch.full((3, 2), 0.3)
    zero = torch.zeros(1, dtype=torch.long)
    targets = Targets(zero, zero, torch.tensor([[0.5, 0.5, 0.3, 0.3]]))
    grid = Grid(1, 1, 1, 3)
    found = assign_simota(table(maps["box"], 3), table(maps["cls"], 3), sizes, targets, near(targets, grid, 1), topk=1)
    assert found.row[found.keep].tolist() == [2]


def test_a_contested_candidate_goes_to_the_cheaper_object() -> None:
    """In either order of the objects."""
    box = torch.zeros(1, 4, 1, 1)
    zeros = torch.zeros(2, dtype=torch.long)
    truth = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.35, 0.35]])
    grid = Grid(1, 1, 1, 1)
    sizes = torch.full((1, 2), 0.5)  # times softplus(0): 0.347
    for order in ([0, 1], [1, 0]):
        targets = Targets(zeros, zeros, truth[order])
        found = assign_simota(table(box, 1), None, sizes, targets, near(targets, grid, 1), topk=5)
        assert found.keep[:, 0].tolist() == [number == 1 for number in order]
