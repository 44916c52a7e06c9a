"""A convolution with its normalisation as the chip computes it: folded, on the integer grid."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Gains below this are taken for it where a fold has to be undone.
_SMALL = 1e-12


def gain(norm: nn.Module) -> Tensor:
    """Factor [C] by which evaluation multiplies, from the running variance; the exporter's order of operations."""
    assert isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm) and norm.running_var is not None
    return norm.weight / torch.sqrt(norm.running_var + norm.eps)


def folded_weight(conv: nn.Conv2d, norm: nn.Module | None) -> Tensor:
    """The filter [O, I, h, w] that the export writes, to the bit."""
    return conv.weight if norm is None else conv.weight * gain(norm).reshape(-1, 1, 1, 1)


def folded_bias(conv: nn.Conv2d, norm: nn.Module | None) -> Tensor | None:
    """The bias [O] that the export writes, to the bit; None if there is none."""
    if norm is None:
        return conv.bias
    assert isinstance(norm.running_mean, Tensor) and isinstance(norm.bias, Tensor)
    if conv.bias is not None:
        return (conv.bias - norm.running_mean) * gain(norm) + norm.bias
    return norm.bias - norm.running_mean * gain(norm)


def convolve(conv: nn.Conv2d, x: Tensor, weight: Tensor) -> Tensor:
    """The convolution without bias. In float64, which has no fast depthwise kernel, tap by tap."""
    padding = conv.padding
    depthwise = conv.groups == conv.in_channels == conv.out_channels > 1
    if x.dtype != torch.float64 or not depthwise or isinstance(padding, str):
        return functional.conv2d(x, weight, None, conv.stride, padding, conv.dilation, conv.groups)
    (py, px), (sy, sx), (dy, dx) = padding, conv.stride, conv.dilation
    padded = functional.pad(x, (px, px, py, py))
    rows = (padded.shape[2] - dy * (weight.shape[2] - 1) - 1) // sy + 1
    columns = (padded.shape[3] - dx * (weight.shape[3] - 1) - 1) // sx + 1
    total = x.new_zeros(x.shape[0], x.shape[1], rows, columns)
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            y, z = i * dy, j * dx
            view = padded[:, :, y : y + (rows - 1) * sy + 1 : sy, z : z + (columns - 1) * sx + 1 : sx]
            total = total + view * weight[:, 0, i, j].reshape(1, -1, 1, 1)
    return total


def normalised(conv: nn.Conv2d, norm: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    """Convolution and normalisation by the batch's statistics, through the rounded folded filter ``weight``.

    The filter is rounded with the gain of the running statistics, as the chip's is. Dividing by that gain afterwards
    gives what the normalisation expects, which also keeps the running statistics up to date.
    """
    factor = gain(norm)
    factor = torch.where(factor.abs() < _SMALL, torch.full_like(factor, _SMALL), factor)
    y = convolve(conv, x, weight) / factor.reshape(1, -1, 1, 1)
    if conv.bias is not None:
        y = y + conv.bias.reshape(1, -1, 1, 1)
    return norm(y)
