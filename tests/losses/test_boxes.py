"""The hand-written gradients of the overlaps against finite differences and autograd."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uhd.train.losses.boxes import overlap, pair_iou, plane_iou


def boxes(seed: int, count: int) -> torch.Tensor:
    values = torch.rand(4, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    values[2:] = values[2:] * 0.6 + 0.1
    return values


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), kind=st.sampled_from(["iou", "giou"]))
def test_gradients_are_those_of_finite_differences(seed: int, kind: Any) -> None:
    """ciou, whose weight alpha is held fixed, is checked in test_ranked.py."""
    first, second = boxes(seed, 5).requires_grad_(), boxes(seed + 1, 5)
    assert torch.autograd.gradcheck(lambda a: overlap(kind, a, second), first, eps=1e-7, atol=1e-4)


@pytest.mark.parametrize("kind", ["iou", "giou", "ciou"])
def test_boxes_broadcast_and_the_gradient_is_summed(kind: Any) -> None:
    first, second = boxes(0, 1).requires_grad_(), boxes(1, 6)
    overlap(kind, first, second).sum().backward()  # type: ignore[no-untyped-call]
    wide = boxes(0, 1).expand(4, 6).clone().requires_grad_()
    overlap(kind, wide, second).sum().backward()  # type: ignore[no-untyped-call]
    assert first.grad is not None and wide.grad is not None
    assert torch.allclose(first.grad[:, 0], wide.grad.sum(1))


def test_apart_boxes_have_no_iou_gradient_but_a_giou_one() -> None:
    first = torch.tensor([[0.1], [0.1], [0.1], [0.1]], requires_grad=True)
    second = torch.tensor([[0.8], [0.8], [0.1], [0.1]])
    (iou,) = torch.autograd.grad(overlap("iou", first, second).sum(), first)
    (giou,) = torch.autograd.grad(overlap("giou", first, second).sum(), first)
    assert not iou.any() and (giou[:2] > 0).all(), "towards the truth"


def test_the_assigners_iou_is_the_losses() -> None:
    first, second = boxes(3, 50), boxes(4, 50)
    assert torch.equal(plane_iou(first.unbind(), second.unbind()), pair_iou(first.t(), second.t()))


def test_an_unknown_overlap_is_refused() -> None:
    with pytest.raises(ValueError, match="diou"):
        overlap("diou", boxes(0, 1), boxes(1, 1))  # type: ignore[arg-type]
