"""Symmetric fake quantization with a straight-through gradient, for training low-bit models.

The range is taken from the tensor itself at every call: there is no observer and nothing in the state dict.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_MIN_SCALE = 1e-8


def _quantize(x: Tensor, scale: Tensor, bits: int) -> Tensor:
    limit = 2 ** (bits - 1) - 1
    scale = scale.div(limit).clamp_min(_MIN_SCALE)
    rounded = torch.round(x / scale).clamp(-limit, limit) * scale
    return x + (rounded - x).detach()


def quantize_weight(weight: Tensor, bits: int) -> Tensor:
    """Round ``weight`` [O, ...] to ``bits`` signed bits, one scale per output channel; unchanged below 2 bits."""
    if bits < 2:
        return weight
    peak = weight.detach().abs().flatten(1).amax(1).reshape(-1, *[1] * (weight.dim() - 1))
    return _quantize(weight, peak, bits)


def quantize_activation(x: Tensor, bits: int) -> Tensor:
    """Round ``x`` to ``bits`` signed bits with one scale for the whole batch; unchanged below 2 bits."""
    return x if bits < 2 else _quantize(x, x.detach().abs().amax(), bits)


class QuantConv2d(nn.Conv2d):
    """A convolution whose weight is rounded to ``weight_bits`` on every call (below 2: an ordinary one)."""

    weight_bits: int = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.weight_bits < 2:
            return super().forward(x)
        return self._conv_forward(x, quantize_weight(self.weight, self.weight_bits), self.bias)


def bake_weights(model: nn.Module) -> None:
    """Store every low-bit convolution's rounded weights in place of its own, so that they need no more rounding."""
    for module in model.modules():
        if isinstance(module, QuantConv2d) and module.weight_bits >= 2:
            with torch.no_grad():
                module.weight.copy_(quantize_weight(module.weight, module.weight_bits))
            module.weight_bits = 0
