"""Mean and variance for normalisations that were folded away, so that training can go on.

A folded normalisation is here as a scale and a shift, which is all that computing needs. Training normalises by the
batch: it needs a layer whose stored mean and variance are those of its data, or its first step undoes what was learnt.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from uhd.models.detector import Detector


def measure_statistics(model: Detector, pictures: NDArray[np.float32]) -> int:
    """Give every normalisation the mean and variance of what it reads for ``pictures`` [N,C,H,W]; returns how many.

    ``model`` is in evaluation mode, and what it computes there stays the same but for float rounding.
    """
    found: dict[nn.BatchNorm2d, tuple[Tensor, Tensor]] = {}

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        values = inputs[0].double()
        found[module] = values.mean((0, 2, 3)), values.var((0, 2, 3), unbiased=False)

    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    handles = [norm.register_forward_pre_hook(look) for norm in norms]
    try:
        with torch.no_grad():
            model.maps(torch.from_numpy(pictures))
            for norm, (mean, variance) in found.items():
                _restate(norm, mean, variance)
    finally:
        for handle in handles:
            handle.remove()
    return len(found)


def _restate(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Another mean and variance, and the weight and bias with which the layer computes what it did."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    norm.bias.copy_(norm.bias.double() + (mean - norm.running_mean.double()) * scale)
    norm.weight.copy_(scale * (variance + norm.eps).sqrt())
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
