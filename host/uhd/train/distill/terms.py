"""Distillation terms: zero exactly where the student does what the teacher does.

Outputs that mean "how likely" (objectness, quality, heat maps) are compared in every cell: that there is nothing is
worth learning too. What is only meant where there is an object (boxes, classes) is weighted by the square of the
teacher's score: elsewhere a teacher was never told what to say (docs/decisions/0010).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from uhd.train.distill.maps import AnchorShape, Maps, box_map, centre_map, grid_of, resized

_TINY = 1e-12


def binary_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL divergence of the teacher's from the student's yes/no outputs, elementwise, from logits of one shape.

    Both are divided by ``temperature`` and the result multiplied by its square, which keeps the gradient's size
    (arXiv 1503.02531). Its gradient is that of the cross-entropy; its least value is 0.
    """
    target = torch.sigmoid(teacher / temperature)
    cross = functional.binary_cross_entropy_with_logits(student / temperature, target, reduction="none")
    entropy = functional.binary_cross_entropy_with_logits(teacher / temperature, target, reduction="none")
    return (cross - entropy) * temperature**2


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """``sum(weights * values) / max(sum(weights), 1)``: a batch without objects counts for little, not for all."""
    return (weights * values).sum() / weights.sum().clamp(min=1)


def anchor_terms(
    student: Maps, teacher: Maps, own: AnchorShape, theirs: AnchorShape, score: Tensor, temperature: float
) -> dict[str, Tensor]:
    """Terms of an anchor head by name, for the maps that both have.

    ``score`` [B,A,h,w] is the teacher's score in 0..1 on its own grid; its other maps are fitted to the student's grid.
    """
    grid, count = grid_of(next(iter(student.values()))), len(own.anchors)
    weight = score.square()
    importance = resized(weight, grid)
    terms = {}
    for name in ("obj", "quality"):
        if name in student and name in teacher:
            divergence = binary_divergence(student[name], resized(teacher[name], grid), temperature)
            terms[f"distill_{name}"] = divergence.mean()
    if "cls" in student and "cls" in teacher:
        divergence = binary_divergence(student["cls"], resized(teacher["cls"], grid), temperature)
        batch, channels, height, width = divergence.shape
        per_anchor = divergence.view(batch, count, channels // count, height, width).sum(2)
        terms["distill_kl"] = weighted_mean(per_anchor, importance)
    if "box" in student:
        wanted = _weighted_resize(box_map(teacher["box"], theirs), weight, grid)
        error = (box_map(student["box"], own) - wanted).abs().view(-1, count, 4, *grid).mean(2)
        terms["distill_box_l1"] = weighted_mean(error, importance)
    return terms


def _weighted_resize(boxes: Tensor, weight: Tensor, grid: tuple[int, int]) -> Tensor:
    """Boxes [B,4A,h,w] on another grid, mixed in proportion to ``weight`` [B,A,h,w]: empty cells add nothing."""
    if grid_of(boxes) == grid:
        return boxes
    spread = weight.repeat_interleave(4, 1)
    return resized(boxes * spread, grid) / resized(spread, grid).clamp(min=_TINY)


def centre_terms(student: Maps, teacher: Maps, temperature: float) -> dict[str, Tensor]:
    """Terms of a centre-point head: heat maps (probabilities) summed over cells and classes, averaged over images;
    boxes in cells of the student."""
    grid = grid_of(student["hm"])
    guess, target = (torch.logit(maps, eps=1e-6) for maps in (student["hm"], resized(teacher["hm"], grid)))
    weight = teacher["hm"].amax(1, keepdim=True).square()
    wanted = _weighted_resize(centre_map(teacher["off"], teacher["wh"]), weight, grid)
    cells = wanted.new_tensor([grid[1], grid[0]] * 2)[:, None, None]
    error = ((centre_map(student["off"], student["wh"]) - wanted) * cells).abs().mean(1, keepdim=True)
    return {
        "distill_kl": binary_divergence(guess, target, temperature).flatten(1).sum(1).mean(),
        "distill_box_l1": weighted_mean(error, resized(weight, grid)),
    }


def query_terms(student: Maps, teacher: Maps, temperature: float) -> dict[str, Tensor]:
    """Terms of a DETR head, query by query: distributions over classes and background, boxes of what is an object."""
    target = (teacher["logits"] / temperature).log_softmax(-1)
    guess = (student["logits"] / temperature).log_softmax(-1)
    divergence = functional.kl_div(guess, target, reduction="none", log_target=True).sum(-1).mean()
    weight = (1 - teacher["logits"].softmax(-1)[..., -1]).square()
    error = (student["boxes"] - teacher["boxes"]).abs().mean(-1)
    return {"distill_kl": divergence * temperature**2, "distill_box_l1": weighted_mean(error, weight)}


def feature_term(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean absolute difference of feature maps [B,C,h,w], every cell scaled to length 1; the teacher's is resized."""
    target = resized(teacher, grid_of(student))
    return functional.l1_loss(functional.normalize(student, eps=1e-6), functional.normalize(target, eps=1e-6))
