"""The head: a shared trunk and the box, objectness, quality, class and attribute branches."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn import functional

from uhd.models.blocks import ESE, RFB, ConvBNAct, DWConv, LowRankDWConv, Style, conv_out
from uhd.models.config import UltraTinyODConfig

#: Which ``quant_arch`` values switch on which rewiring of the head.
_BOX_RESIDUAL = (1, 6, 7, 11)
_BOX_LOW_RANK = (2, 8)
_BOX_SPLIT = (3, 7, 8)
_BOX_CLIP = (4,)
_LARGE_OBJ_GATE = (5, 6)
_BOX_TWO_RESIDUALS = (9,)

#: Prior probability 0.01 of an object in a cell, as a logit.
PRIOR_LOGIT = -4.59511985013459


class Head(nn.Module):
    """Predicts, per anchor and cell, tx,ty,tw,th and the logits of objectness, quality, classes, attributes.

    ``anchors`` [A,2] are (w, h) fractions of the input, ``wh_scale`` [A,2] factors on them: learnt in the improved
    head, otherwise ones.
    """

    anchors: Tensor
    wh_scale: Tensor
    box_tower_res_alpha_raw: nn.Parameter | None
    box_tower_res1_alpha_raw: nn.Parameter | None
    box_tower_res2_alpha_raw: nn.Parameter | None
    large_obj_gate_raw: nn.Parameter | None

    def __init__(self, config: UltraTinyODConfig) -> None:
        super().__init__()
        self.config = config
        style = Style.of(config, config.bits("head"))
        arch, iou = config.quant_arch, config.iou_aware_head
        self.register_buffer("anchors", torch.tensor(config.anchors, dtype=torch.float32))
        self._reset_wh_scale()
        for name, there in (
            ("box_tower_res_alpha_raw", iou and arch in _BOX_RESIDUAL),
            ("box_tower_res1_alpha_raw", iou and arch in _BOX_TWO_RESIDUALS),
            ("box_tower_res2_alpha_raw", iou and arch in _BOX_TWO_RESIDUALS),
            ("large_obj_gate_raw", config.large_obj_branch and arch in _LARGE_OBJ_GATE),
        ):
            setattr(self, name, nn.Parameter(torch.zeros(1)) if there else None)
        self._build_trunk(style)
        self._build_towers(style)
        self._build_outputs()
        self.register_load_state_dict_post_hook(_sync_anchors)  # type: ignore[no-untyped-call]

    def _reset_wh_scale(self) -> None:
        ones = torch.ones_like(self.anchors)
        if self.config.improved_head:
            self.wh_scale = nn.Parameter(ones)
        else:
            self.register_buffer("wh_scale", ones)

    def _build_trunk(self, style: Style) -> None:
        config, c = self.config, self.config.feature_channels
        self.context = DWConv(c, c, style)
        self.context_res = (
            nn.Sequential(DWConv(c, c, style), ConvBNAct(c, c, 1, style), DWConv(c, c, style))
            if config.improved_head
            else None
        )
        self.head_rfb = RFB(c, config.context_dilation, style) if config.context_rfb else None
        self.head_se = ESE(c) if config.head_ese else None
        self.large_obj_down: nn.Sequential | None = None
        self.large_obj_blocks: nn.Sequential | None = None
        self.large_obj_fuse: ConvBNAct | None = None
        if config.large_obj_branch:
            wide = config.large_obj_channels
            self.large_obj_down = nn.Sequential(
                nn.Conv2d(c, c, 3, 2, 1, groups=style.groups(c), bias=False),
                style.norm(c),
                style.act(),
                ConvBNAct(c, wide, 1, style),
            )
            depth = max(1, config.large_obj_depth)
            self.large_obj_blocks = nn.Sequential(*(DWConv(wide, wide, style) for _ in range(depth)))
            self.large_obj_fuse = ConvBNAct(wide, c, 1, style)

    def _build_towers(self, style: Style) -> None:
        config, c, m = self.config, self.config.feature_channels, self.config.cls_channels
        classes = config.class_count > 0
        if config.iou_aware_head:
            low_rank = config.quant_arch in _BOX_LOW_RANK
            second = LowRankDWConv(c, style) if low_rank else DWConv(c, c, style)
            self.box_tower = nn.Sequential(DWConv(c, c, style), second)
            self.quality_tower = nn.Sequential(DWConv(c, c, style), DWConv(c, c, style))
            if classes:
                self.cls_tower = nn.Sequential(ConvBNAct(c, m, 1, style), DWConv(m, m, style), DWConv(m, m, style))
        else:
            self.box_conv = DWConv(c, c, style)
            if config.has_quality:
                self.quality_conv = DWConv(c, c, style)
            if classes:
                self.cls_reduce = ConvBNAct(c, m, 1, style)
                self.cls_conv = DWConv(m, m, style)
        self.obj_conv = DWConv(c, c, style)

    def _build_outputs(self) -> None:
        """Make the 1x1 convolutions that depend on the number of anchors, and their biases."""
        config, a = self.config, self.anchors.shape[0]
        c, m, bits = config.feature_channels, config.cls_channels, config.bits("head")
        if config.quant_arch in _BOX_SPLIT:
            self.box_out_xy, self.box_out_wh = conv_out(c, 2 * a, bits), conv_out(c, 2 * a, bits)
        else:
            self.box_out = conv_out(c, 4 * a, bits)
        self.obj_out = conv_out(c, a, bits)
        if config.has_quality:
            self.quality_out = conv_out(c, a, bits)
        if config.class_count:
            self.cls_out = conv_out(m, a * config.class_count, bits)
        if config.attr_count:
            self.attr_out = conv_out(m, a * config.attr_count, bits)
        for name, child in self.named_children():
            if "_out" in name:
                init_conv(child)
        self._init_priors()

    def _init_priors(self) -> None:
        for name in ("obj_out", "cls_out", "attr_out"):
            if hasattr(self, name):
                nn.init.constant_(getattr(self, name).bias, PRIOR_LOGIT)

    def reset_parameters(self) -> None:
        """Initialise every convolution, then the priors of the output biases."""
        for module in self.modules():
            init_conv(module)
        self._init_priors()

    def set_anchors(self, anchors: Tensor) -> None:
        """Replace the anchors [A,2]. A new count makes new output convolutions and resets ``wh_scale`` to ones.

        Optimisers and averaged copies made before must be made again, as parameters may be new.
        """
        anchors = anchors.detach().to(self.anchors)
        changed = anchors.shape != self.anchors.shape
        self.config = self.config.with_anchors(anchors.tolist())
        self.anchors = anchors.clone()
        if changed:
            device = anchors.device
            self._reset_wh_scale()
            self._build_outputs()
            self.to(device)

    def trunk(self, x: Tensor) -> Tensor:
        """Shared features [B,c,H,W] that all branches read."""
        x = self.context(x)
        if self.context_res is not None:
            x = x + self.context_res(x)
        if self.head_rfb is not None:
            x = self.head_rfb(x)
        if self.large_obj_down is not None:
            assert self.large_obj_blocks is not None and self.large_obj_fuse is not None
            large = self.large_obj_blocks(self.large_obj_down(x))
            large = self.large_obj_fuse(functional.interpolate(large, size=x.shape[2:], mode="nearest"))
            if self.large_obj_gate_raw is not None:
                large = torch.sigmoid(self.large_obj_gate_raw) * large
            x = x + large
        return x if self.head_se is None else self.head_se(x)

    def _box(self, x: Tensor) -> Tensor:
        if not self.config.iou_aware_head:
            x = self.box_conv(x)
        elif self.box_tower_res_alpha_raw is not None:
            x = self.box_tower[0](x)
            x = x + torch.sigmoid(self.box_tower_res_alpha_raw) * self.box_tower[1](x)
        elif self.box_tower_res1_alpha_raw is not None and self.box_tower_res2_alpha_raw is not None:
            x = x + torch.sigmoid(self.box_tower_res1_alpha_raw) * self.box_tower[0](x)
            x = x + torch.sigmoid(self.box_tower_res2_alpha_raw) * self.box_tower[1](x)
        else:
            x = self.box_tower(x)
        if self.config.quant_arch in _BOX_CLIP:
            x = functional.hardtanh(x, 0.0, 6.0)
        if self.config.quant_arch not in _BOX_SPLIT:
            return self.box_out(x)
        a = self.anchors.shape[0]
        return interleave({"xy": self.box_out_xy(x), "wh": self.box_out_wh(x)}, a)

    def _quality(self, x: Tensor) -> Tensor:
        return self.quality_out(self.quality_tower(x) if self.config.iou_aware_head else self.quality_conv(x))

    def _class_features(self, x: Tensor) -> Tensor:
        return self.cls_tower(x) if self.config.iou_aware_head else self.cls_conv(self.cls_reduce(x))

    def maps(self, features: Tensor, names: Collection[str] | None = None) -> dict[str, Tensor]:
        """The named output maps (None: all) of backbone features [B,c,H,W], in ``config.map_names`` order.

        box [B,4A,H,W] (tx,ty,tw,th per anchor), obj and quality [B,A,H,W], cls [B,A*classes,H,W],
        attr [B,A*attributes,H,W]. Branches that are not named are not computed; raises ``KeyError`` for a map that
        this head does not have.
        """
        wanted = set(self.config.map_names if names is None else names)
        if unknown := wanted - set(self.config.map_names):
            raise KeyError(f"no map {', '.join(sorted(unknown))}; this head has {', '.join(self.config.map_names)}")
        x = self.trunk(features)
        maps: dict[str, Tensor] = {}
        if "box" in wanted:
            maps["box"] = self._box(x)
        if "obj" in wanted:
            maps["obj"] = self.obj_out(self.obj_conv(x))
        if "quality" in wanted:
            maps["quality"] = self._quality(x)
        if wanted & {"cls", "attr"}:
            shared = self._class_features(x)
            maps |= {name: getattr(self, f"{name}_out")(shared) for name in ("cls", "attr") if name in wanted}
        return maps

    def forward(self, features: Tensor) -> Tensor:
        """Raw map [B, A*(5+q+classes), H, W] of backbone features."""
        names = [name for name in self.config.map_names if name != "attr"]
        return interleave(self.maps(features, names), self.config.anchor_count)


def _sync_anchors(head: nn.Module, _keys: object) -> None:
    """After weights are loaded: the anchors came with them."""
    assert isinstance(head, Head)
    if not head.anchors.is_meta:
        head.config = head.config.with_anchors(head.anchors.tolist())


def interleave(maps: dict[str, Tensor], anchor_count: int) -> Tensor:
    """Join maps [B,A*n,H,W] so that the channels of one anchor follow each other: tx,ty,tw,th,obj,(quality),cls..."""
    b, _, h, w = next(iter(maps.values())).shape
    per_anchor = [part.view(b, anchor_count, part.shape[1] // anchor_count, h, w) for part in maps.values()]
    return torch.cat(per_anchor, 2).flatten(1, 2)


def init_conv(module: nn.Module) -> None:
    """Kaiming-normal weights (fan out, ReLU gain) and zero biases, if ``module`` is a convolution."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
