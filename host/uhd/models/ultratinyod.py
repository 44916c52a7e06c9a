"""UltraTinyOD: an anchor-based detector for tiny inputs, with the state-dict names of published checkpoints."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from uhd.models.backbone import Backbone
from uhd.models.config import UltraTinyODConfig
from uhd.models.detector import Detector
from uhd.models.head import Head, init_conv

__all__ = ["UltraTinyOD", "UltraTinyODConfig"]


class UltraTinyOD(Detector):
    """Backbone and head. Input [B, in_channels, H, W] float 0..1; H and W need not be multiples of the stride."""

    def __init__(self, config: UltraTinyODConfig) -> None:
        super().__init__()
        self.backbone = Backbone(config)
        self.head = Head(config)
        self.reset_parameters()

    @property
    def config(self) -> UltraTinyODConfig:
        return self.head.config

    @property
    def anchors(self) -> Tensor:
        """[A,2] (w, h) as fractions of the input."""
        return self.head.anchors

    @property
    def wh_scale(self) -> Tensor:
        """[A,2] factors on the anchors."""
        return self.head.wh_scale

    def reset_parameters(self) -> None:
        """Fresh random weights: Kaiming-normal convolutions, prior biases; gains and scales are left alone."""
        for module in self.backbone.modules():
            init_conv(module)
        self.head.reset_parameters()

    def set_anchors(self, anchors: Tensor) -> None:
        """See ``Head.set_anchors``."""
        self.head.set_anchors(anchors)

    def features(self, x: Tensor) -> Tensor:
        """The backbone's output [B, 4w, H/stride, W/stride]."""
        return self.backbone(x)

    def maps(self, x: Tensor, names: Collection[str] | None = None) -> dict[str, Tensor]:
        """The head's output maps by name (None: all); see ``Head.maps``. ``config.maps_for`` lists a score mode's."""
        return self.head.maps(self.backbone(x), names)

    def maps_and_features(self, x: Tensor, names: Collection[str] | None = None) -> tuple[dict[str, Tensor], Tensor]:
        features = self.backbone(x)
        return self.head.maps(features, names), features

    def forward(self, x: Tensor) -> Tensor:
        """Raw map [B, A*(5+q+classes), H', W'], per anchor tx,ty,tw,th,obj,(quality),classes. No attributes."""
        return self.head(self.backbone(x))
