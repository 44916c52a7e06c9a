"""UltraTinyResNet: residual stages with long skips to the last one and an optional top-down pyramid."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from uhd.models.cnn_blocks import ConvNormAct, Look, channel_shuffle, pooled
from uhd.models.cnn_config import CnnConfig, SkipMode


class Residual(nn.Module):
    """x + two 3x3 convolutions; the second has its activation before the sum, and nothing follows."""

    def __init__(self, channels: int, look: Look) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(channels, channels, 3, look)
        self.conv2 = ConvNormAct(channels, channels, 3, look)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(x))


class UltraTinyResNet(nn.Module):
    """[B,Cin,H,W] -> [B,C,H/s,W/s], C the last of n stages' channels, s = 2^(n-1) or the wanted stride above it.

    Long skips bring every earlier stage to the size of the last: by average pooling and 1x1 (``add``, ``cat``), by a
    strided 3x3 and a channel shuffle (``shuffle_cat``), or by space-to-depth and 1x1 (``s2d_cat``). They are added, or
    joined and reduced by 1x1. The pyramid starts from the last stage, adds each earlier one on the way up, and comes
    back to the last one's size; as in published checkpoints its result replaces that of the long skips.
    """

    def __init__(self, config: CnnConfig, look: Look) -> None:
        super().__init__()
        channels, last = config.backbone_channels, config.backbone_channels[-1]
        self.mode: SkipMode = config.skip_mode
        self.pyramid = config.backbone_fpn
        self.stem = ConvNormAct(config.in_channels, channels[0], 3, look)
        self.downs = nn.ModuleList([nn.Identity()])
        self.downs.extend(
            ConvNormAct(before, after, 3, look, stride=2)
            for before, after in zip(channels[:-1], channels[1:], strict=True)
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(*(Residual(c, look) for _ in range(count)))
            for c, count in zip(channels, config.backbone_blocks, strict=True)
        )
        self.factors = [2 ** (len(channels) - 1 - stage) for stage in range(len(channels))]
        self.skip_proj = nn.ModuleList(
            _projection(self.mode, c, last, factor, look) for c, factor in zip(channels, self.factors, strict=True)
        )
        self.fpn_convs = nn.ModuleList(
            ConvNormAct(c, last, 1, look) for c in (channels[:-1] if config.backbone_fpn else ())
        )
        self.skip_concat_reduce: ConvNormAct | None = None
        if self.mode.endswith("cat"):
            self.skip_concat_reduce = ConvNormAct(last * len(channels), last, 1, look)
        self.extra_downs = nn.ModuleList(ConvNormAct(last, last, 3, look, stride=2) for _ in range(config.extra_downs))
        self._freeze_unused()

    def _freeze_unused(self) -> None:
        """Weights that published checkpoints hold but no output depends on: nothing may wait for their gradients."""
        self.skip_proj[-1].requires_grad_(False)
        if self.pyramid:
            self.skip_proj.requires_grad_(False)
            if self.skip_concat_reduce is not None:
                self.skip_concat_reduce.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        stages: list[Tensor] = []
        for down, block in zip(self.downs, self.blocks, strict=True):
            x = block(down(x))
            stages.append(x)
        if self.pyramid:
            x = self._pyramid(stages)
        elif self.mode != "none":
            x = self._with_skips(stages)
        for down in self.extra_downs:
            x = down(x)
        return x

    def _with_skips(self, stages: list[Tensor]) -> Tensor:
        last = stages[-1]
        skips = [self._skip(stage, x, last.shape[2:]) for stage, x in enumerate(stages[:-1])]
        if self.skip_concat_reduce is not None:
            return self.skip_concat_reduce(torch.cat((last, *skips), 1))
        for skip in skips:
            last = last + skip
        return last

    def _skip(self, stage: int, x: Tensor, size: torch.Size) -> Tensor:
        (height, width), project, factor = size, self.skip_proj[stage], self.factors[stage]
        if self.mode == "shuffle_cat":
            return channel_shuffle(pooled(project(x), height, width))
        if self.mode == "s2d_cat":
            # A map whose size is no multiple of the factor is first brought to the nearest that is.
            x = pooled(x, height * factor, width * factor)
            return project(functional.pixel_unshuffle(x, factor))
        return project(pooled(x, height, width))

    def _pyramid(self, stages: list[Tensor]) -> Tensor:
        x = stages[-1]
        for stage in range(len(stages) - 2, -1, -1):
            source = stages[stage]
            x = functional.interpolate(x, size=source.shape[2:], mode="nearest") + self.fpn_convs[stage](source)
        return functional.interpolate(x, size=stages[-1].shape[2:], mode="nearest")


def _projection(mode: SkipMode, channels: int, last: int, factor: int, look: Look) -> nn.Module:
    if mode == "none":
        return nn.Identity()
    if mode == "shuffle_cat":
        return ConvNormAct(channels, last, 3, look, stride=factor)
    return ConvNormAct(channels * factor**2 if mode == "s2d_cat" else channels, last, 1, look)
