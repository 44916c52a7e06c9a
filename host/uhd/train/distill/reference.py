"""Distillation terms of the reference, with their defects (``loss_mode: reference``; docs/decisions/0010).

All cells count alike. Terms of yes/no outputs are cross-entropies, so a perfect student still pays the teacher's
entropy; the heat-map term has no counterpart for the background; the DETR box term has no gradient. A class or heat-map
term that is not finite is left out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from uhd.train.distill.maps import AnchorShape, Maps, box_map, grid_of, resized


def _cross_entropy(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    target = torch.sigmoid(teacher / temperature)
    loss = functional.binary_cross_entropy_with_logits(student / temperature, target)
    return loss * temperature**2


def _divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL divergence of softmaxes over the last axis, summed, divided by the length of the first axis."""
    target = (teacher / temperature).softmax(-1)
    guess = (student / temperature).log_softmax(-1)
    return functional.kl_div(guess, target, reduction="batchmean") * temperature**2


def _finite(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: term for name, term in terms.items() if name == "distill_box_l1" or bool(torch.isfinite(term))}


def anchor_terms(
    student: Maps, teacher: Maps, own: AnchorShape, theirs: AnchorShape, temperature: float
) -> dict[str, Tensor]:
    """Terms of an anchor head by name, for the maps that both have."""
    grid = grid_of(next(iter(student.values())))
    terms = {}
    for name in ("obj", "quality"):
        if name in student and name in teacher:
            terms[f"distill_{name}"] = _cross_entropy(student[name], resized(teacher[name], grid), temperature)
    if "cls" in student and "cls" in teacher:
        target = resized(teacher["cls"], grid)
        classes = target.shape[1] // len(theirs.anchors)
        if classes == 1:
            terms["distill_kl"] = _cross_entropy(student["cls"], target, temperature)
        else:
            rows, wanted = _class_rows(student["cls"], classes), _class_rows(target, classes)
            terms["distill_kl"] = _divergence(rows, wanted, temperature)
    if "box" in student:
        boxes = resized(box_map(teacher["box"], theirs, capped=True), grid)
        terms["distill_box_l1"] = functional.l1_loss(box_map(student["box"], own, capped=True), boxes)
    return _finite(terms)


def _class_rows(logits: Tensor, classes: int) -> Tensor:
    """[B,A*classes,h,w] -> [B*A*h*w, classes]."""
    batch, channels, height, width = logits.shape
    split = logits.reshape(batch, channels // classes, classes, height, width)
    return split.movedim(2, -1).reshape(-1, classes)


def centre_terms(student: Maps, teacher: Maps) -> dict[str, Tensor]:
    """Terms of a centre-point head: heat maps as if they were distributions, offsets and sizes in cells."""
    grid = grid_of(student["hm"])
    guess, target = (maps.clamp(1e-6, 1 - 1e-6) for maps in (student["hm"], resized(teacher["hm"], grid)))
    parts = [functional.l1_loss(student[name], resized(teacher[name], grid)) for name in ("off", "wh")]
    return _finite(
        {
            "distill_kl": functional.kl_div(guess.log(), target, reduction="batchmean"),
            "distill_box_l1": (parts[0] + parts[1]) / 2,
        }
    )


def query_terms(student: Maps, teacher: Maps, temperature: float) -> dict[str, Tensor]:
    """Terms of a DETR head; divided by the number of queries alone, and without gradient through the boxes."""
    by_query = student["logits"].transpose(0, 1), teacher["logits"].transpose(0, 1)
    return _finite(
        {
            "distill_kl": _divergence(*by_query, temperature),
            "distill_box_l1": functional.l1_loss(student["boxes"].detach(), teacher["boxes"]),
        }
    )
