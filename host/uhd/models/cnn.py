"""Cnn: a plain convolutional detector with a centre-point or an anchor head."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from uhd.models.cnn_backbones import build_backbone
from uhd.models.cnn_blocks import Look, SeparableConv, gate, pooled
from uhd.models.cnn_config import CnnConfig
from uhd.models.detector import Detector, at_least_float32, check_names
from uhd.models.head import PRIOR_LOGIT

#: Strides of the three built-in stages behind the halving stem, by output stride.
_STAGE_STRIDES = {4: (2, 1, 1), 8: (2, 2, 1), 16: (2, 2, 2)}

#: Prior of a heat map's cell, 0.1, as a logit (CornerNet, section 4.1).
HEATMAP_PRIOR_LOGIT = -2.19722457733622


class Cnn(Detector):
    """Features, a gate on them, and 1x1 convolutions to the output maps; see ``Detector`` for the maps."""

    anchors: Tensor

    def __init__(self, config: CnnConfig) -> None:
        super().__init__()
        self._config = config
        look = Look(config.activation, config.use_batchnorm)
        channels = config.feature_channels
        self.backbone: nn.Module | None = None
        if config.backbone is None:
            self._build_stages(look)
        else:
            self.backbone = build_backbone(config, look)
        self.se = gate(config.last_se, channels, look)
        if config.use_anchor:
            self.register_buffer("anchors", torch.tensor(config.anchors, dtype=torch.float32))
            self.register_load_state_dict_post_hook(_sync_anchors)  # type: ignore[no-untyped-call]
            self._build_anchor_head()
        else:
            self.register_buffer("anchors", torch.zeros(0, 2), persistent=False)
            self.head_hm = nn.Conv2d(channels, config.num_classes, 1)
            self.head_off = nn.Conv2d(channels, 2, 1)
            self.head_wh = nn.Conv2d(channels, 2, 1)
            nn.init.constant_(self.head_hm.bias, HEATMAP_PRIOR_LOGIT)  # type: ignore[arg-type]

    def _build_stages(self, look: Look) -> None:
        config = self._config
        w, out = config.cnn_width, config.feature_channels
        first, second, third = _STAGE_STRIDES[config.output_stride]
        self.stem = nn.Sequential(nn.Conv2d(config.in_channels, w, 3, 2, 1, bias=False), look.norm(w), look.act())
        project = config.use_skip and out != w
        self.skip_s2 = nn.Conv2d(w, out, 1, bias=False) if project else nn.Identity()
        self.skip_s1 = nn.Conv2d(w, out, 1, bias=False) if project else nn.Identity()
        self.stage1 = SeparableConv(w, w, look, stride=first)
        self.stage2 = SeparableConv(w, w, look, stride=second)
        self.stage3 = SeparableConv(w, out, look, stride=third)

    def _build_anchor_head(self) -> None:
        config = self._config
        fields = 5 + config.class_count
        self.head = nn.Conv2d(config.feature_channels, config.anchor_count * fields, 1)
        with torch.no_grad():  # objectness and classes start at the prior, boxes at their centres
            assert self.head.bias is not None
            self.head.bias.zero_().view(-1, fields)[:, 4:] = PRIOR_LOGIT

    @property
    def config(self) -> CnnConfig:
        return self._config

    def set_anchors(self, anchors: Tensor) -> None:
        """Replace the anchors [A,2]; another count makes a new output convolution, unknown to earlier optimisers."""
        if not self._config.use_anchor:
            raise ValueError("a centre-point head has no anchors")
        anchors = anchors.detach().to(self.anchors)
        changed = anchors.shape != self.anchors.shape
        self._config = self._config.with_anchors(anchors.tolist())
        self.anchors = anchors.clone()
        if changed:
            self._build_anchor_head()
            self.head.to(anchors.device)

    def features(self, x: Tensor) -> Tensor:
        """What the head reads: [B, config.feature_channels, H/stride, W/stride], behind the gate."""
        if self.backbone is not None:
            x = self.backbone(x)
        else:
            first = self.stage1(self.stem(x))
            second = self.stage2(first)
            x = self.stage3(second)
            if self._config.use_skip:
                height, width = x.shape[2:]
                x = x + self.skip_s2(pooled(second, height, width)) + self.skip_s1(pooled(first, height, width))
        return x if self.se is None else self.se(x)

    def head_maps(self, features: Tensor, names: Collection[str] | None = None) -> dict[str, Tensor]:
        """The output maps of ``features``; see ``maps``."""
        config = self._config
        wanted = check_names(names, config.map_names)
        maps: dict[str, Tensor] = {}
        if config.use_anchor:
            raw = self.head(features)
            b, _, h, w = raw.shape
            view = raw.view(b, config.anchor_count, 5 + config.class_count, h, w)
            maps = {"box": view[:, :, :4].flatten(1, 2), "obj": view[:, :, 4], "cls": view[:, :, 5:].flatten(1, 2)}
        else:
            if "hm" in wanted:
                maps["hm"] = at_least_float32(self.head_hm(features)).sigmoid()
            maps["off"], maps["wh"] = self.head_off(features), self.head_wh(features)
        return {name: part for name, part in maps.items() if name in wanted}

    def maps(self, x: Tensor, names: Collection[str] | None = None) -> dict[str, Tensor]:
        return self.head_maps(self.features(x), names)

    def maps_and_features(self, x: Tensor, names: Collection[str] | None = None) -> tuple[dict[str, Tensor], Tensor]:
        features = self.features(x)
        return self.head_maps(features, names), features

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        """The anchor head's raw map [B, A*(5+classes), h, w], per anchor tx,ty,tw,th,obj,classes; or all maps."""
        features = self.features(x)
        return self.head(features) if self._config.use_anchor else self.head_maps(features)


def _sync_anchors(model: nn.Module, _keys: object) -> None:
    """After weights are loaded: the anchors came with them."""
    assert isinstance(model, Cnn)
    if not model.anchors.is_meta:
        model._config = model._config.with_anchors(model.anchors.tolist())
