"""The optimiser, with decay on convolution weights only."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from uhd.train.config import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig, extra: Sequence[nn.Parameter] = ()) -> torch.optim.Optimizer:
    """AdamW or SGD (Nesterov momentum 0.9). Biases, normalisation and anchor scales are not decayed.

    ``extra``: parameters beside the model's, such as a distillation adapter's.
    """
    parameters = [p for p in (*model.parameters(), *extra) if p.requires_grad]
    dense = {id(p) for m in model.modules() if isinstance(m, nn.Linear | nn.MultiheadAttention) for p in m.parameters()}

    def decays(parameter: nn.Parameter) -> bool:
        return parameter.ndim > 2 or (parameter.ndim == 2 and id(parameter) in dense)

    decayed, plain = [p for p in parameters if decays(p)], [p for p in parameters if not decays(p)]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, fused=True)
    return torch.optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=True, fused=True)
