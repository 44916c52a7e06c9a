"""Building blocks of UltraTinyOD. Attribute names are those of published checkpoints and of ONNX node names."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uhd.models.config import Bits, UltraTinyODConfig
from uhd.models.fakequant import QuantConv2d, quantize_activation

BN_EPS = 1e-3
BN_MOMENTUM = 0.03


@dataclass(frozen=True)
class Style:
    """What all blocks of a region share: activation, convolution kind, normalisation, fake-quantization bits."""

    activation: str = "silu"
    depthwise: bool = True
    batchnorm: bool = True
    bits: Bits = Bits()

    @classmethod
    def of(cls, config: UltraTinyODConfig, bits: Bits) -> Style:
        return cls(config.activation, config.conv == "dw", config.batchnorm, bits)

    def act(self) -> nn.Module:
        return nn.ReLU(inplace=True) if self.activation == "relu" else nn.SiLU(inplace=True)

    def norm(self, channels: int) -> nn.Module:
        return nn.BatchNorm2d(channels, eps=BN_EPS, momentum=BN_MOMENTUM) if self.batchnorm else nn.Identity()

    def groups(self, channels: int) -> int:
        """Groups of a channel-wise convolution: one per channel, or one in all in the dense style."""
        return channels if self.depthwise else 1


def conv_out(cin: int, cout: int, bits: Bits) -> QuantConv2d:
    """A 1x1 convolution with bias that ends a branch; only its weights are fake-quantized."""
    conv = QuantConv2d(cin, cout, 1)
    conv.weight_bits = bits.weight
    return conv


class ConvBNAct(nn.Module):
    """Convolution without bias, normalisation, activation (or none): [B,Cin,H,W] -> [B,Cout,ceil(H/s),ceil(W/s)]."""

    def __init__(
        self, cin: int, cout: int, k: int, style: Style, *, stride: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        super().__init__()
        self.conv = QuantConv2d(cin, cout, k, stride, k // 2, groups=groups, bias=False)
        self.conv.weight_bits = style.bits.weight
        self.bn = style.norm(cout)
        self.act = style.act() if act else nn.Identity()
        self.activation_bits = style.bits.activation

    def forward(self, x: Tensor) -> Tensor:
        return quantize_activation(self.act(self.bn(self.conv(x))), self.activation_bits)


class DWConv(nn.Module):
    """3x3 depthwise then 1x1, each with normalisation and activation; in the dense style one 3x3 convolution."""

    def __init__(self, cin: int, cout: int, style: Style, *, stride: int = 1) -> None:
        super().__init__()
        self.dw: ConvBNAct | None = None
        self.pw: ConvBNAct | None = None
        self.conv: ConvBNAct | None = None
        if style.depthwise:
            self.dw = ConvBNAct(cin, cin, 3, style, stride=stride, groups=cin)
            self.pw = ConvBNAct(cin, cout, 1, style)
        else:
            self.conv = ConvBNAct(cin, cout, 3, style, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        if self.dw is not None and self.pw is not None:
            return self.pw(self.dw(x))
        assert self.conv is not None
        return self.conv(x)


class LowRankDWConv(nn.Module):
    """3x3 depthwise, then a 1x1 pair through half the channels (never below 8)."""

    def __init__(self, channels: int, style: Style) -> None:
        super().__init__()
        rank = max(8, round(channels * 0.5))
        self.dw = ConvBNAct(channels, channels, 3, style, groups=style.groups(channels))
        self.pw_reduce = ConvBNAct(channels, rank, 1, style)
        self.pw_expand = ConvBNAct(rank, channels, 1, style)

    def forward(self, x: Tensor) -> Tensor:
        return self.pw_expand(self.pw_reduce(self.dw(x)))


class ESE(nn.Module):
    """Effective squeeze-and-excitation: x * sigmoid(fc(mean over space))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc(x.mean((2, 3), keepdim=True)))


class RFB(nn.Module):
    """Receptive-field block: a dilated 3x3 and a 5x5 branch, fused by 1x1 and added to the input."""

    def __init__(self, channels: int, dilation: int, style: Style) -> None:
        super().__init__()
        d, groups = max(1, dilation), style.groups(channels)
        self.branch_dilated = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=d, dilation=d, groups=groups, bias=False),
            style.norm(channels),
            style.act(),
        )
        self.branch_wide = nn.Sequential(
            nn.Conv2d(channels, channels, 5, padding=2, groups=groups, bias=False), style.norm(channels), style.act()
        )
        self.fuse = ConvBNAct(2 * channels, channels, 1, style)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fuse(torch.cat((self.branch_dilated(x), self.branch_wide(x)), 1))


class SPPF(nn.Module):
    """Spatial pyramid pooling with one 5x5 pool; both halves may be rescaled before they are joined."""

    def __init__(self, cin: int, cout: int, scale: str, style: Style) -> None:
        super().__init__()
        hidden = cin // 2
        self.cv1 = ConvBNAct(cin, hidden, 1, style)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.scale_x = self._scale(hidden, scale, style)
        self.scale_y = self._scale(hidden, scale, style)
        self.cv2 = ConvBNAct(2 * hidden, cout, 1, style)

    @staticmethod
    def _scale(channels: int, scale: str, style: Style) -> nn.Module:
        if scale == "bn":
            return style.norm(channels)
        return ConvBNAct(channels, channels, 1, style, act=False) if scale == "conv" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        return self.cv2(torch.cat((self.scale_x(x), self.scale_y(self.pool(x))), 1))
