"""Building blocks of the ``cnn`` and ``transformer``; attribute names are those of published checkpoints."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Look:
    """What all blocks of a network share: activation (silu or relu) and whether convolutions are normalised.

    Convolutions have no bias either way. The normalisation has PyTorch's defaults (eps 1e-5, momentum 0.1), unlike
    UltraTinyOD's.
    """

    activation: str = "silu"
    batchnorm: bool = True

    def act(self) -> nn.Module:
        return nn.ReLU(inplace=True) if self.activation == "relu" else nn.SiLU(inplace=True)

    def norm(self, channels: int) -> nn.Module:
        return nn.BatchNorm2d(channels) if self.batchnorm else nn.Identity()


class ConvNormAct(nn.Module):
    """Convolution (padding k // 2), normalisation, activation: [B,Cin,H,W] -> [B,Cout,ceil(H/s),ceil(W/s)]."""

    def __init__(self, cin: int, cout: int, k: int, look: Look, *, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, k, stride, k // 2, bias=False)
        self.bn = look.norm(cout)
        self.act = look.act()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class SeparableConv(nn.Module):
    """3x3 depthwise and 1x1 convolution with nothing in between, then normalisation and activation."""

    def __init__(self, cin: int, cout: int, look: Look, *, stride: int = 1) -> None:
        super().__init__()
        self.dw = nn.Conv2d(cin, cin, 3, stride, 1, groups=cin, bias=False)
        self.pw = nn.Conv2d(cin, cout, 1, bias=False)
        self.bn = look.norm(cout)
        self.act = look.act()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.pw(self.dw(x))))


class SqueezeExcite(nn.Module):
    """x * sigmoid(fc2(act(fc1(mean over space)))), through a quarter of the channels."""

    def __init__(self, channels: int, look: Look) -> None:
        super().__init__()
        middle = max(1, channels // 4)
        self.fc1 = nn.Conv2d(channels, middle, 1)
        self.fc2 = nn.Conv2d(middle, channels, 1)
        self.act = look.act()

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc2(self.act(self.fc1(x.mean((2, 3), keepdim=True)))))


class EffectiveSqueezeExcite(nn.Module):
    """x * sigmoid(fc(mean over space))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc(x.mean((2, 3), keepdim=True)))


def gate(kind: str, channels: int, look: Look) -> nn.Module | None:
    """The channel gate of a name: ``se``, ``ese``, or None for ``none``."""
    if kind == "se":
        return SqueezeExcite(channels, look)
    return EffectiveSqueezeExcite(channels) if kind == "ese" else None


def pooled(x: Tensor, height: int, width: int) -> Tensor:
    """``x`` averaged to [B,C,height,width]; unchanged if it has that size."""
    return x if x.shape[2:] == (height, width) else functional.adaptive_avg_pool2d(x, (height, width))


def channel_shuffle(x: Tensor) -> Tensor:
    """Interleave the two halves of the channels; unchanged for an odd number of them."""
    b, c, h, w = x.shape
    if c % 2:
        return x
    return x.reshape(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
