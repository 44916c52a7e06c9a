"""Fake quantization: values put on an integer grid with a power-of-two step, gradients passed straight through."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from uhd.targets import Rounding


def power_of_two(exponent: Tensor, dtype: torch.dtype) -> Tensor:
    """2**exponent, exact, for integer exponents of normal numbers: float32 -126..127, float64 -1022..1023.

    Written as bits, because ``pow`` and ``ldexp`` may be off by a unit in the last place.
    """
    if dtype == torch.float64:
        return ((exponent.to(torch.int64) + 1023) << 52).view(torch.float64)
    return ((exponent.to(torch.int32) + 127) << 23).view(torch.float32)


def rounded(x: Tensor, rounding: Rounding) -> Tensor:
    """Whole numbers, ties up or to even; the formula of esp-ppq, in the precision of ``x``."""
    return torch.floor(x + 0.5) if rounding == "half_up" else torch.round(x)


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, exponent: Tensor, bits: int, rounding: Rounding) -> Tensor:
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        whole = rounded(x * power_of_two(-exponent, x.dtype), rounding)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward((whole >= low) & (whole <= high))
        return whole.clamp_(low, high).mul_(power_of_two(exponent, x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None, None


def fake_quantize(x: Tensor, exponent: Tensor, bits: int, rounding: Rounding) -> Tensor:
    """``x`` rounded and saturated to ``bits``-bit integers times 2**``exponent``.

    The gradient is 1 where nothing saturates and 0 elsewhere.

    Args:
        x: float32 or float64. Grids finer than its mantissa are not resolved.
        exponent: int32, one number or an array that broadcasts against ``x``.
        bits: 2 to 64.
        rounding: of ties.
    """
    return _FakeQuantize.apply(x, exponent, bits, rounding)  # type: ignore[no-untyped-call]
