"""Terms over every candidate. They cost most of a loss's time, so their gradients are written out by hand.

``autograd`` would keep and visit every intermediate result of expressions whose gradient is short.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

#: Up to here 1 - sigmoid is a normal number in single precision, with room for quotients.
_FAR = 60.0


def product_log_probability(logits: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """log p and log(1 - p) of the product p of the sigmoids of ``logits`` (which broadcast), without cancellation.

    With p' = p * s the complement is (1 - p) + p * (1 - s), a sum of positive terms.
    """
    yes, no = functional.logsigmoid(logits[0]), functional.logsigmoid(-logits[0])
    for logit in logits[1:]:
        no = torch.logaddexp(no, yes + functional.logsigmoid(-logit))
        yes = yes + functional.logsigmoid(logit)
    return yes, no


class _RankedScore(torch.autograd.Function):
    """See ``ranked_score``. With n = 1 - sigmoid and r = 1 - p, the entropy -(t log p + (1-t) log r) has the gradient
    n * ((1 - t) p / r - t) to a logit, and what is background n * p / r.
    """

    @staticmethod
    def forward(
        ctx: Any, place: Tensor, target: Tensor, weight: Tensor, keep: Tensor, background: float, *logits: Tensor
    ) -> Tensor:
        shape = logits[0].shape[0], max(logit.shape[1] for logit in logits)
        flat = [logit.expand(shape).reshape(-1) for logit in logits]
        # Where all logits are large, r is tiny: a common factor e**-beyond is taken out of it and of every n.
        least = flat[0]
        for logit in flat[1:]:
            least = torch.minimum(least, logit)
        beyond = functional.relu(least - _FAR)
        yes = flat[0].sigmoid()
        noes = [torch.sigmoid(beyond - logit) for logit in flat]
        rest = noes[0]
        for logit, no in zip(flat[1:], noes[1:], strict=True):
            rest = torch.addcmul(rest, yes, no)
            yes = yes * logit.sigmoid()
        square = yes.square()
        odds = yes / rest
        slope = square * odds * background
        entropy = beyond - rest.log()  # of background
        value = background * torch.dot(square, entropy)

        # What is no background: its own term in place of that of background.
        weight, former = weight * keep, square.index_select(0, place) * keep * background
        log_yes = sum(functional.logsigmoid(logit.index_select(0, place)) for logit in flat)
        no_entropy = entropy.index_select(0, place)
        value += (weight * ((1 - target) * no_entropy - target * log_yes) - former * no_entropy).sum()
        change = (weight * (1 - target) - former) * odds.index_select(0, place)
        change -= weight * target * torch.exp(-beyond.index_select(0, place))
        slope.index_add_(0, place, change)
        ctx.shapes = shape, [logit.shape for logit in logits]
        ctx.save_for_backward(slope, *noes)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        slope, *noes = ctx.saved_tensors
        shape, shapes = ctx.shapes
        slope = slope * gradient
        slopes = (torch.mul(slope, no).view(shape).sum_to_size(old) for no, old in zip(noes, shapes, strict=True))
        return None, None, None, None, None, *slopes


def ranked_score(
    logits: Sequence[Tensor], place: Tensor, target: Tensor, weight: Tensor, keep: Tensor, background: float
) -> Tensor:
    """Sum of the cross entropies of p, the product of the sigmoids of ``logits`` [rows, 1 or C].

    ``place`` [S] numbers what is to become ``target`` [S] and weighs ``weight`` [S], as ``row * C + column``; only
    those with ``keep`` [S] count, and they are distinct. Everything else is to become 0 and weighs
    ``background * p**2``. Weights and targets carry no gradient.
    """
    if not logits[0].numel():
        return logits[0].sum()
    total: Tensor = _RankedScore.apply(place, target, weight, keep, background, *logits)  # type: ignore[no-untyped-call]
    return total


class _SquaredExcess(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, limit: float) -> Tensor:
        excess = functional.softshrink(part, limit)
        ctx.save_for_backward(excess)
        flat = excess.permute(0, 2, 3, 1).reshape(-1) if excess.ndim == 4 else excess.reshape(-1)
        return torch.dot(flat, flat)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (excess,) = ctx.saved_tensors
        return excess * (2 * gradient), None


def range_excess(maps: Iterable[Tensor], limit: float) -> Tensor:
    """Mean square by which the values of ``maps`` exceed ``limit`` in size, over all of them.

    An 8-bit map spends its steps on its largest value, and a sigmoid says nothing new beyond 8.
    """
    parts = list(maps)
    excess = sum(_SquaredExcess.apply(part, limit) for part in parts)  # type: ignore[no-untyped-call]
    return torch.as_tensor(excess) / sum(part.numel() for part in parts)


def binary_mean(logits: Tensor, row: Tensor, target: Tensor, keep: Tensor) -> Tensor:
    """Mean over all of ``logits`` [rows] of the binary cross entropy against ``target`` at ``row``, 0 elsewhere.

    ``row``, ``target`` and ``keep`` [S]; places without ``keep`` do not count, rows of the others are distinct.
    """
    at = logits.index_select(0, row)
    return (functional.softplus(logits).sum() - (at * target * keep).sum()) / max(logits.numel(), 1)


def smooth_l1_mean(logits: Tensor, row: Tensor, target: Tensor, keep: Tensor) -> Tensor:
    """As ``binary_mean``, of half the squared error of the sigmoid, which is smooth L1 as both lie in 0..1."""
    probability = logits.sigmoid()
    at = probability.index_select(0, row)
    difference = ((0.5 * target - at) * target * keep).sum()
    return (0.5 * probability.square().sum() + difference) / max(logits.numel(), 1)


def varifocal_sum(logits: Tensor, row: Tensor, target: Tensor, keep: Tensor) -> Tensor:
    """Sum of the reference's varifocal loss of ``logits`` [rows,C]; ``target`` [S,C] at ``row`` [S], 0 elsewhere.

    Binary cross entropy times t**2 + 0.75 (1 - t) p**2, whose p carries gradient.
    """
    probability, entropy = logits.sigmoid(), functional.softplus(logits)
    at, entropy_at = (values.index_select(0, row) for values in (probability, entropy))
    logit = logits.index_select(0, row)
    nothing = 0.75 * at.square() * entropy_at
    weight = target.square() + 0.75 * (1 - target) * at.square()
    change = weight * (entropy_at - logit * target) - nothing
    return 0.75 * (probability.square() * entropy).sum() + (change * keep[:, None]).sum()
