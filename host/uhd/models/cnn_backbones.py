"""Backbones of the ``cnn`` architecture: MicroCSPNet, EnhancedShuffleNet, and the gate around any of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from uhd.models.cnn_blocks import ConvNormAct, Look, channel_shuffle, gate, pooled
from uhd.models.cnn_config import CnnConfig
from uhd.models.tiny_resnet import UltraTinyResNet


class CSPBlock(nn.Module):
    """Half of the channels through two 3x3 convolutions, joined with what entered them; channels stay."""

    def __init__(self, channels: int, look: Look) -> None:
        super().__init__()
        half = max(1, channels // 2)
        self.conv1 = ConvNormAct(channels, half, 1, look)
        self.conv2 = ConvNormAct(half, half, 3, look)
        self.conv3 = ConvNormAct(half, half, 3, look)
        self.conv4 = ConvNormAct(2 * half, channels, 1, look)

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv1(x)
        return self.conv4(torch.cat((first, self.conv3(self.conv2(first))), 1))


class MicroCSPNet(nn.Module):
    """[B,Cin,H,W] -> [B,64,H/8,W/8]."""

    def __init__(self, in_channels: int, look: Look) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(in_channels, 16, 3, look)
        self.conv2 = ConvNormAct(16, 32, 3, look, stride=2)
        self.csp2 = CSPBlock(32, look)
        self.conv3 = ConvNormAct(32, 64, 3, look, stride=2)
        self.csp3 = CSPBlock(64, look)
        self.conv4 = ConvNormAct(64, 128, 3, look, stride=2)
        self.compress = ConvNormAct(128, 64, 1, look)

    def forward(self, x: Tensor) -> Tensor:
        x = self.csp2(self.conv2(self.conv1(x)))
        return self.compress(self.conv4(self.csp3(self.conv3(x))))


class ShuffleUnit(nn.Module):
    """ShuffleNetV2's unit: at stride 1 half of the channels pass untouched, at stride 2 both halves are computed."""

    def __init__(self, cin: int, cout: int, look: Look, *, stride: int = 1) -> None:
        super().__init__()
        half = cout // 2
        self.branch1: nn.Sequential | None = None
        if stride == 2:
            self.branch1 = nn.Sequential(*_depthwise(cin, 2, look), ConvNormAct(cin, half, 1, look))
        self.branch2 = nn.Sequential(
            ConvNormAct(cin if stride == 2 else half, half, 1, look),
            *_depthwise(half, stride, look),
            ConvNormAct(half, half, 1, look),
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.branch1 is None:
            kept, x = x.chunk(2, 1)
        else:
            kept = self.branch1(x)
        return channel_shuffle(torch.cat((kept, self.branch2(x)), 1))


def _depthwise(channels: int, stride: int, look: Look) -> tuple[nn.Module, nn.Module]:
    conv = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
    return conv, look.norm(channels)


class EnhancedShuffleNet(nn.Module):
    """[B,Cin,H,W] -> [B,128,H/8,W/8]; two shuffle stages that widen step by step, each with a strided shortcut.

    ``skip`` adds projections of the first two feature maps to the output.
    """

    def __init__(self, in_channels: int, look: Look, *, skip: bool) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(in_channels, 32, 3, look, stride=2)
        self.stage2 = _shuffle_stage(32, 64, (80, 96, 112), look)
        self.stage3 = _shuffle_stage(112, 144, (160, 176, 192), look)
        self.out_conv = ConvNormAct(192, 128, 1, look)
        self.stage2_shortcut = ConvNormAct(32, 112, 1, look, stride=2)
        self.stage3_shortcut = ConvNormAct(112, 192, 1, look, stride=2)
        self.global_proj1 = ConvNormAct(32, 128, 1, look, stride=4) if skip else None
        self.global_proj2 = ConvNormAct(112, 128, 1, look, stride=2) if skip else None

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv1(x)
        second = self.stage2(first) + self.stage2_shortcut(first)
        x = self.out_conv(self.stage3(second) + self.stage3_shortcut(second))
        for projection, source in ((self.global_proj1, first), (self.global_proj2, second)):
            if projection is not None:
                x = x + pooled(projection(source), *x.shape[2:])
        return x


def _shuffle_stage(cin: int, first: int, widths: tuple[int, ...], look: Look) -> nn.Sequential:
    """A halving unit to ``first`` channels, then for each width a 1x1 convolution to it and two units."""
    layers: list[nn.Module] = [ShuffleUnit(cin, first, look, stride=2)]
    channels = first
    for width in widths:
        layers += [ConvNormAct(channels, width, 1, look), ShuffleUnit(width, width, look)]
        layers += [ShuffleUnit(width, width, look)]
        channels = width
    return nn.Sequential(*layers)


class Gated(nn.Module):
    """A backbone and the channel gate on its output."""

    def __init__(self, backbone: nn.Module, se: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.se = se

    def forward(self, x: Tensor) -> Tensor:
        return self.se(self.backbone(x))


def build_backbone(config: CnnConfig, look: Look) -> nn.Module:
    """The backbone that ``config`` names, with its gate if it has one."""
    backbone: nn.Module
    if config.backbone == "microcspnet":
        backbone = MicroCSPNet(config.in_channels, look)
    elif config.backbone == "ultratinyresnet":
        backbone = UltraTinyResNet(config, look)
    else:
        backbone = EnhancedShuffleNet(config.in_channels, look, skip=config.skip_mode != "none")
    se = gate(config.backbone_se, config.feature_channels, look)
    return backbone if se is None else Gated(backbone, se)
