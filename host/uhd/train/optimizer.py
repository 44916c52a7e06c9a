"""The optimiser, with decay on convolution weights only."""

from __future__ import annotations

import torch
from torch import nn

from uhd.train.config import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW or SGD (Nesterov momentum 0.9). Biases, normalisation and anchor scales are not decayed."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 2]
    plain = [p for p in model.parameters() if p.requires_grad and p.ndim <= 2]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, fused=True)
    return torch.optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=True, fused=True)
