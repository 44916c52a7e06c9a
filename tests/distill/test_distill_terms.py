"""Each term against its definition in NumPy, and what must hold for any student and teacher."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support import distill_oracle as oracle
from uhd.train.distill import DistillSettings, reference, terms
from uhd.train.distill.maps import AnchorShape

torch.set_num_threads(1)
FEW = settings(max_examples=15, deadline=None)


def made(seed: int, classes: int, grid: tuple[int, int], spread: float = 2.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = {"box": 8, "obj": 2, "quality": 2, "cls": 2 * classes}
    return {name: torch.randn(2, n, *grid, generator=generator) * spread for name, n in sizes.items() if n}


def shape(seed: int) -> AnchorShape:
    generator = torch.Generator().manual_seed(seed)
    return AnchorShape(torch.rand(2, 2, generator=generator) + 0.05, torch.rand(2, 2, generator=generator) + 0.5)


def as_numpy(maps: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: value.double().numpy() for name, value in maps.items()}


def close(found: torch.Tensor, expected: float) -> None:
    assert found.item() == pytest.approx(expected, rel=2e-4, abs=2e-5)


GRIDS = st.sampled_from([((3, 4), (3, 4)), ((3, 4), (6, 8)), ((4, 4), (2, 3))])


@FEW
@given(st.integers(0, 10**6), st.sampled_from([0, 1, 3]), GRIDS, st.sampled_from([1.0, 1.5, 4.0]))
def test_anchor_terms_of_the_reference(seed: int, classes: int, grids: tuple, temperature: float) -> None:
    student, teacher = made(seed, classes, grids[0], 4.0), made(seed + 1, classes, grids[1], 4.0)
    own, theirs = shape(seed), shape(seed + 1)
    found = reference.anchor_terms(student, teacher, own, theirs, temperature)
    s, t = as_numpy(student), as_numpy(teacher)
    for name in ("obj", "quality"):
        target = oracle.sigmoid(oracle.bilinear(t[name], grids[0]) / temperature)
        cross = oracle.cross_entropy(target, oracle.sigmoid(s[name] / temperature))
        close(found[f"distill_{name}"], cross.mean() * temperature**2)
    theirs_boxes = oracle.boxes(t["box"], *(v.numpy() for v in theirs), cap=4.0).reshape(2, 8, *grids[1])
    own_boxes = oracle.boxes(s["box"], *(v.numpy() for v in own), cap=4.0).reshape(2, 8, *grids[0])
    close(found["distill_box_l1"], np.abs(own_boxes - oracle.bilinear(theirs_boxes, grids[0])).mean())
    assert ("distill_kl" in found) == (classes > 0)
    if not classes:
        return
    guess, target = s["cls"], oracle.bilinear(t["cls"], grids[0])
    if classes == 1:
        cross = oracle.cross_entropy(oracle.sigmoid(target / temperature), oracle.sigmoid(guess / temperature))
        close(found["distill_kl"], cross.mean() * temperature**2)
    else:
        rows = [v.reshape(2, 2, classes, *grids[0]).transpose(0, 1, 3, 4, 2) for v in (guess, target)]
        close(found["distill_kl"], oracle.categorical_kl(*rows, temperature).mean())


@FEW
@given(st.integers(0, 10**6), st.sampled_from([0, 1, 3]), GRIDS, st.sampled_from([1.0, 1.5, 4.0]))
def test_anchor_terms(seed: int, classes: int, grids: tuple, temperature: float) -> None:
    student, teacher = made(seed, classes, grids[0], 4.0), made(seed + 1, classes, grids[1], 4.0)
    own, theirs = shape(seed), shape(seed + 1)
    score = torch.sigmoid(teacher["obj"])
    found = terms.anchor_terms(student, teacher, own, theirs, score, temperature)
    s, t = as_numpy(student), as_numpy(teacher)
    for name in ("obj", "quality"):
        target = oracle.bilinear(t[name], grids[0])
        close(found[f"distill_{name}"], oracle.binary_kl(s[name], target, temperature).mean())
    weight = score.double().numpy() ** 2
    importance = oracle.bilinear(weight, grids[0])
    boxes = oracle.boxes(t["box"], *(v.numpy() for v in theirs))
    mixed = oracle.bilinear((boxes * weight[:, :, None]).reshape(2, 8, *grids[1]), grids[0])
    wanted = mixed.reshape(2, 2, 4, *grids[0]) / importance[:, :, None]
    error = np.abs(oracle.boxes(s["box"], *(v.numpy() for v in own)) - wanted).mean(2)
    close(found["distill_box_l1"], oracle.weighted(error, importance))
    assert ("distill_kl" in found) == (classes > 0)
    if classes:
        divergence = oracle.binary_kl(s["cls"], oracle.bilinear(t["cls"], grids[0]), temperature)
        close(found["distill_kl"], oracle.weighted(divergence.reshape(2, 2, classes, *grids[0]).sum(2), importance))


def centre(seed: int, grid: tuple[int, int]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hm = torch.sigmoid(torch.randn(2, 3, *grid, generator=generator) * 2)
    off, wh = (torch.rand(2, 2, *grid, generator=generator) * size for size in (1, 4))
    return {"hm": hm, "off": off, "wh": wh}


@FEW
@given(st.integers(0, 10**6), GRIDS, st.sampled_from([1.0, 2.0]))
def test_centre_terms(seed: int, grids: tuple, temperature: float) -> None:
    student, teacher = centre(seed, grids[0]), centre(seed + 1, grids[1])
    s, t = as_numpy(student), as_numpy(teacher)
    target = oracle.bilinear(t["hm"], grids[0])
    old = reference.centre_terms(student, teacher)
    close(old["distill_kl"], (target * np.log(target / s["hm"])).sum() / 2)
    parts = [np.abs(s[name] - oracle.bilinear(t[name], grids[0])).mean() for name in ("off", "wh")]
    close(old["distill_box_l1"], sum(parts) / 2)

    found = terms.centre_terms(student, teacher, temperature)
    logits = [np.log(p / (1 - p)) for p in (s["hm"], target)]
    close(found["distill_kl"], oracle.binary_kl(*logits, temperature).sum() / 2)
    weight = t["hm"].max(1, keepdims=True) ** 2
    placed = []
    for maps, grid in ((s, grids[0]), (t, grids[1])):
        rows, columns = np.mgrid[: grid[0], : grid[1]]
        centres = (maps["off"] + np.stack([columns, rows])) / np.array([grid[1], grid[0]])[:, None, None]
        placed.append(np.concatenate([centres, maps["wh"] / np.array([grid[1], grid[0]])[:, None, None]], 1))
    importance = oracle.bilinear(weight, grids[0])
    wanted = oracle.bilinear(placed[1] * weight, grids[0]) / importance
    cells = np.array([grids[0][1], grids[0][0]] * 2)[:, None, None]
    close(
        found["distill_box_l1"],
        oracle.weighted(np.abs((placed[0] - wanted) * cells).mean(1, keepdims=True), importance),
    )


def test_heat_map_term_has_its_least_value_at_the_teacher() -> None:
    teacher = centre(5, (3, 4))
    hm = teacher["hm"].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(terms.centre_terms({**teacher, "hm": hm}, teacher, 1.0)["distill_kl"], hm)
    assert gradient.abs().max() < 1e-4
    (old,) = torch.autograd.grad(reference.centre_terms({**teacher, "hm": hm}, teacher)["distill_kl"], hm)
    assert (old < 0).all()  # always pulls up, which is why it is not ours


@FEW
@given(st.integers(0, 10**6), st.sampled_from([1.0, 2.0]))
def test_query_terms(seed: int, temperature: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (
        {"logits": torch.randn(3, 5, 4, generator=generator), "boxes": torch.rand(3, 5, 4, generator=generator)}
        for _ in range(2)
    )
    s, t = as_numpy(student), as_numpy(teacher)
    divergence = oracle.categorical_kl(s["logits"], t["logits"], temperature)
    error = np.abs(s["boxes"] - t["boxes"]).mean(-1)
    old = reference.query_terms(student, teacher, temperature)
    close(old["distill_kl"], divergence.sum() / 5)
    close(old["distill_box_l1"], error.mean())
    found = terms.query_terms(student, teacher, temperature)
    close(found["distill_kl"], divergence.mean())
    close(found["distill_box_l1"], oracle.weighted(error, (1 - oracle.softmax(t["logits"])[..., -1]) ** 2))


def test_query_boxes_learn() -> None:
    generator = torch.Generator().manual_seed(1)
    teacher = {"logits": torch.randn(2, 3, 2, generator=generator), "boxes": torch.rand(2, 3, 4, generator=generator)}
    boxes = torch.rand(2, 3, 4, generator=generator).requires_grad_()
    student = {**teacher, "boxes": boxes}
    (gradient,) = torch.autograd.grad(terms.query_terms(student, teacher, 1.0)["distill_box_l1"], boxes)
    assert (gradient != 0).all()
    assert not reference.query_terms(student, teacher, 1.0)["distill_box_l1"].requires_grad


@FEW
@given(st.integers(0, 10**6), st.sampled_from([(3, 4), (6, 8), (2, 2)]), st.floats(0.1, 50))
def test_feature_term(seed: int, grid: tuple[int, int], gain: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, 5, 3, 4, generator=generator), torch.randn(2, 5, *grid, generator=generator)
    target = oracle.bilinear(teacher.double().numpy(), (3, 4))
    unit = [v / np.sqrt((v**2).sum(1, keepdims=True)) for v in (student.double().numpy(), target)]
    close(terms.feature_term(student, teacher), np.abs(unit[0] - unit[1]).mean())
    close(terms.feature_term(student * gain, teacher), np.abs(unit[0] - unit[1]).mean())


@FEW
@given(st.integers(0, 10**6), st.floats(0.2, 8))
def test_perfect_student_pays_nothing(seed: int, temperature: float) -> None:
    teacher = made(seed, 3, (3, 4))
    student = {name: value.clone().requires_grad_() for name, value in teacher.items()}
    one = shape(seed)
    found = terms.anchor_terms(student, teacher, one, one, torch.sigmoid(teacher["obj"]), temperature)
    total = torch.stack(list(found.values())).sum()
    assert total.item() == pytest.approx(0, abs=1e-6)
    total.backward()
    for value in student.values():
        assert value.grad is not None and value.grad.abs().max() < 1e-6


@FEW
@given(st.integers(0, 10**6))
def test_worse_students_pay_and_gradients_are_those_of_the_cross_entropy(seed: int) -> None:
    teacher, student = made(seed, 1, (2, 3)), made(seed + 1, 1, (2, 3))
    logits = student["obj"].requires_grad_()
    ours = terms.binary_divergence(logits, teacher["obj"], 2.0).mean()
    theirs = reference.anchor_terms({"obj": logits}, {"obj": teacher["obj"]}, shape(0), shape(0), 2.0)["distill_obj"]
    assert 0 < ours.item() < theirs.item()
    gradients = [torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in (ours, theirs)]
    assert torch.allclose(*gradients, atol=1e-7)


def test_temperature_keeps_the_gradients_size() -> None:
    """For a large T the gradient tends to (student - teacher) / 4 whatever T (arXiv 1503.02531, section 2.1)."""
    teacher = torch.tensor([1.0, -2.0, 0.5])
    student = torch.tensor([0.0, 1.0, 0.5], requires_grad=True)
    for temperature in (50.0, 500.0):
        (gradient,) = torch.autograd.grad(terms.binary_divergence(student, teacher, temperature).sum(), student)
        assert torch.allclose(gradient, (student - teacher).detach() / 4, atol=2e-3)


def test_cells_that_the_teacher_calls_empty_teach_no_boxes_or_classes() -> None:
    teacher, student = made(1, 2, (3, 4)), made(2, 2, (3, 4))
    score = torch.zeros(2, 2, 3, 4)
    score[0, 1, 2, 3] = 0.9
    box, cls = student["box"].requires_grad_(), student["cls"].requires_grad_()
    found = terms.anchor_terms(student, teacher, shape(1), shape(1), score, 1.0)
    (found["distill_box_l1"] + found["distill_kl"]).backward()
    for value, depth in ((box, 4), (cls, 2)):
        assert value.grad is not None
        touched = value.grad.view(2, 2, depth, 3, 4).abs().sum(2) > 0
        assert touched.sum() == 1 and touched[0, 1, 2, 3]


def test_boxes_of_empty_cells_do_not_mix_into_a_coarser_grid() -> None:
    teacher = made(1, 1, (2, 2))
    score = torch.zeros(2, 2, 2, 2)
    score[:, :, 1, 0] = 0.8
    one = shape(3)
    alone = terms.anchor_terms(made(2, 1, (1, 1)), teacher, one, one, score, 1.0)["distill_box_l1"]
    changed = {**teacher, "box": teacher["box"].clone()}
    changed["box"][:, :, 0] += 3
    assert terms.anchor_terms(made(2, 1, (1, 1)), changed, one, one, score, 1.0)["distill_box_l1"] == alone


def test_huge_boxes_are_capped_in_the_reference_alone() -> None:
    one = shape(1)
    student, teacher = {"box": torch.full((1, 8, 1, 1), 9.0)}, {"box": torch.full((1, 8, 1, 1), 20.0)}
    assert reference.anchor_terms(student, teacher, one, one, 1.0)["distill_box_l1"].item() == pytest.approx(
        0, abs=1e-4
    )
    score = torch.ones(1, 2, 1, 1)
    assert terms.anchor_terms(student, teacher, one, one, score, 1.0)["distill_box_l1"].item() > 1


def test_reference_leaves_out_what_is_not_finite() -> None:
    student, teacher = made(1, 1, (2, 2)), made(2, 1, (2, 2))
    student["cls"][0, 0, 0, 0] = math.nan
    assert "distill_kl" not in reference.anchor_terms(student, teacher, shape(1), shape(1), 1.0)


@given(st.integers(1, 500), st.floats(0, 1))
def test_ramp(epochs: int, part: float) -> None:
    rising = DistillSettings(distill_cosine=True)
    assert rising.scale(epochs - 1, epochs) == pytest.approx(1)
    epoch = int(part * (epochs - 1))
    assert 0 < rising.scale(epoch, epochs) <= 1
    assert epoch == 0 or rising.scale(epoch - 1, epochs) < rising.scale(epoch, epochs)
    assert DistillSettings().scale(epoch, epochs) == 1


def test_ramp_starts_near_zero_and_is_half_way_in_the_middle() -> None:
    rising = DistillSettings(distill_cosine=True)
    assert rising.scale(0, 100) == pytest.approx((1 - math.cos(math.pi / 100)) / 2)
    assert rising.scale(49, 100) == pytest.approx(0.5)
