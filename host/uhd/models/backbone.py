"""The backbone: stem, four blocks and pooling, from [B,Cin,H,W] to [B,4w,H/stride,W/stride]."""

from __future__ import annotations

from torch import Tensor, nn

from uhd.models.blocks import SPPF, ConvBNAct, DWConv, Style
from uhd.models.config import UltraTinyODConfig

#: Rewirings of ``quant_arch`` that put a skip around every stage.
_ALL_STAGE_SKIPS = (10, 11)


class Backbone(nn.Module):
    """Five convolution stages (w, 2w, 4w, 8w, 8w channels) and SPPF down to 4w.

    Skips are added after a block's activation, and nothing follows the sum.
    """

    def __init__(self, config: UltraTinyODConfig) -> None:
        super().__init__()
        style = Style.of(config, config.bits("backbone"))
        w = config.width
        stride2 = 2 if config.out_stride >= 8 else 1
        stride3 = 2 if config.out_stride == 16 else 1
        all_stages = config.quant_arch in _ALL_STAGE_SKIPS
        self.stem = ConvBNAct(config.in_channels, w, 3, style, stride=2)
        self.block1 = DWConv(w, 2 * w, style, stride=2)
        self.block2 = DWConv(2 * w, 4 * w, style, stride=stride2)
        self.block3 = DWConv(4 * w, 8 * w, style, stride=stride3)
        self.block4 = DWConv(8 * w, 8 * w, style)
        self.block1_skip = _skip(w, 2 * w, 2, style) if all_stages else None
        self.block2_skip = _skip(2 * w, 4 * w, stride2, style) if all_stages else None
        self.block3_skip = _skip(4 * w, 8 * w, stride3, style) if config.residual or all_stages else None
        self.block4_skip = nn.Identity() if config.residual or all_stages else None
        self.sppf = SPPF(8 * w, 4 * w, config.sppf_scale, style)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = _stage(self.block1, self.block1_skip, x)
        x = _stage(self.block2, self.block2_skip, x)
        x = _stage(self.block3, self.block3_skip, x)
        x = _stage(self.block4, self.block4_skip, x)
        return self.sppf(x)


def _skip(cin: int, cout: int, stride: int, style: Style) -> ConvBNAct:
    return ConvBNAct(cin, cout, 1, style, stride=stride, act=False)


def _stage(block: nn.Module, skip: nn.Module | None, x: Tensor) -> Tensor:
    return block(x) if skip is None else block(x) + skip(x)
