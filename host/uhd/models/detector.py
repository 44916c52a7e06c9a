"""What every detector offers, whatever its architecture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from uhd.models.architectures import ModelConfig


class Detector(nn.Module, ABC):
    """A network from images [B, in_channels, H, W] (float 0..1) to named output maps.

    Maps by ``config.head``: *anchor* gives logits box [B,4A,h,w], obj and quality [B,A,h,w], cls [B,A*classes,h,w],
    attr [B,A*attributes,h,w]; *centernet* gives hm [B,classes,h,w] in 0..1, off and wh [B,2,h,w] in cells; *detr* gives
    logits [B,Q,classes+1] (the last is background) and boxes [B,Q,4] (cx, cy, w, h in 0..1).
    """

    @property
    @abstractmethod
    def config(self) -> ModelConfig:
        """The architecture's options."""

    if TYPE_CHECKING:  # a property or a buffer

        @property
        def anchors(self) -> Tensor:
            """[A,2] (w, h) as fractions of the input; [0,2] for heads without anchors."""
            raise NotImplementedError

    @property
    def wh_scale(self) -> Tensor:
        """[A,2] factors on the anchors."""
        return torch.ones_like(self.anchors)

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """The feature map [B,C,h,w] that distillation compares."""

    @abstractmethod
    def maps(self, x: Tensor, names: Collection[str] | None = None) -> dict[str, Tensor]:
        """The output maps by name (None: all), in ``config.map_names`` order. Raises ``KeyError`` for unknown names."""

    @abstractmethod
    def maps_and_features(self, x: Tensor, names: Collection[str] | None = None) -> tuple[dict[str, Tensor], Tensor]:
        """``maps`` and ``features`` of one forward pass."""


def check_names(names: Collection[str] | None, known: tuple[str, ...]) -> frozenset[str]:
    """``names``, or all ``known`` ones for None. Raises ``KeyError`` for a map that the head does not have."""
    wanted = frozenset(known if names is None else names)
    if unknown := wanted - frozenset(known):
        raise KeyError(f"no map {', '.join(sorted(unknown))}; this head has {', '.join(known)}")
    return wanted


def at_least_float32(x: Tensor) -> Tensor:
    """Half-precision values as float32: a probability needs the digits, for thresholds and for the losses' logs."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
