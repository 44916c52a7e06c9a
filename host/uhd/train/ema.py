"""Exponential moving average of a model's weights and statistics."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


class EMA(Generic[Model]):
    """``model`` is a copy whose floating tensors follow those of the trained one; others are copied.

    Update n (from 1) keeps ``min(decay, (1 + n) / (10 + n))`` of the average, so that the start is forgotten fast.
    The trained model must keep its tensors, as optimisers and ``load_state_dict`` do.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.model: Model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0
        mine, theirs = self.model.state_dict(), model.state_dict()
        pairs = [(mine[name], theirs[name].detach()) for name in mine]
        self._floating = _columns([pair for pair in pairs if pair[0].is_floating_point()])
        self._others = _columns([pair for pair in pairs if not pair[0].is_floating_point()])

    @torch.no_grad()
    def update(self) -> None:
        """Follow the trained model by one step."""
        self.updates += 1
        keep = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(*self._floating, 1 - keep)
        if self._others[0]:
            torch._foreach_copy_(*self._others)


def _columns(pairs: list[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    return [mine for mine, _ in pairs], [theirs for _, theirs in pairs]
