"""Transformer: a small DETR, with the state-dict names of published checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn
from torch.nn import functional

from uhd.models.cnn_blocks import Look, SeparableConv
from uhd.models.detector import Detector, at_least_float32, check_names
from uhd.models.transformer_config import TransformerConfig


class Stack(nn.Module):
    """Layers one after the other, each with random weights of its own (``nn.TransformerEncoder`` copies the first)."""

    def __init__(self, make: Callable[[], nn.Module], count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(make() for _ in range(count))

    def forward(self, x: Tensor, *memory: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, *memory)
        return x


class Transformer(Detector):
    """Tokens of a feature map or of a pyramid, encoder, decoder of learnt queries; see ``Detector`` for the maps."""

    anchors: Tensor

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self._config = config
        self.register_buffer("anchors", torch.zeros(0, 2), persistent=False)
        d = config.d_model
        if config.use_fpn:
            look = Look(config.activation, config.use_batchnorm)
            self.stem = nn.Conv2d(config.in_channels, d, 3, 2, 1)
            self.fpn_high = SeparableConv(d, d, look)
            self.fpn1 = SeparableConv(d, d, look, stride=2)
            self.fpn2 = SeparableConv(d, d, look, stride=2)
        else:
            self.patch = nn.Conv2d(config.in_channels, d, 3, 2, 1)
        act = functional.silu if config.activation == "silu" else functional.relu
        sizes = (d, config.heads, config.dim_feedforward, config.dropout)
        self.encoder = Stack(lambda: nn.TransformerEncoderLayer(*sizes, act, batch_first=True), config.layers)
        self.decoder = Stack(lambda: nn.TransformerDecoderLayer(*sizes, act, batch_first=True), config.layers)
        self.query_embed = nn.Embedding(config.num_queries, d)
        self.class_head = nn.Linear(d, config.num_classes + 1)
        self.box_head = nn.Linear(d, 4)

    @property
    def config(self) -> TransformerConfig:
        return self._config

    def _levels(self, x: Tensor) -> list[Tensor]:
        """Feature maps [B,d,h,w], finest first."""
        if not self._config.use_fpn:
            return [self.patch(x)]
        maps = [self.stem(x)]
        for stage in (self.fpn_high, self.fpn1, self.fpn2):
            maps.append(stage(maps[-1]))
        return maps

    def _encode(self, x: Tensor) -> tuple[Tensor, torch.Size]:
        """The encoder's output [B,N,d], and the size of the map that its last tokens came from."""
        levels = self._levels(x)
        tokens = [_tokens(level) + position_encoding(level.shape[2], level.shape[3], level) for level in levels]
        return self.encoder(torch.cat(tokens, 1)), levels[-1].shape[2:]

    def features(self, x: Tensor) -> Tensor:
        """The encoder's output as a map [B, d_model, H/s, W/s]: s = 2, with the pyramid its coarsest level, s = 8."""
        return _last_map(*self._encode(x))

    def maps(self, x: Tensor, names: Collection[str] | None = None) -> dict[str, Tensor]:
        return self._decode(self._encode(x)[0], names)

    def maps_and_features(self, x: Tensor, names: Collection[str] | None = None) -> tuple[dict[str, Tensor], Tensor]:
        memory, size = self._encode(x)
        return self._decode(memory, names), _last_map(memory, size)

    def _decode(self, memory: Tensor, names: Collection[str] | None) -> dict[str, Tensor]:
        wanted = check_names(names, self._config.map_names)
        queries = self.query_embed.weight.to(memory.dtype).expand(len(memory), -1, -1)
        found = self.decoder(queries, memory)
        maps: dict[str, Tensor] = {}
        if "logits" in wanted:
            maps["logits"] = self.class_head(found)
        if "boxes" in wanted:
            maps["boxes"] = at_least_float32(self.box_head(found)).sigmoid()
        return maps

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """All maps."""
        return self.maps(x)


def _tokens(feature_map: Tensor) -> Tensor:
    return feature_map.flatten(2).transpose(1, 2)


def _last_map(memory: Tensor, size: torch.Size) -> Tensor:
    """The last tokens of [B,N,d] as the map [B,d,height,width] that they came from."""
    height, width = size
    return memory[:, -height * width :].transpose(1, 2).reshape(len(memory), -1, height, width)


def position_encoding(height: int, width: int, like: Tensor) -> Tensor:
    """Sines and cosines of column and row, [height*width, d] for a map [B,d,height,width].

    The four quarters of d hold sin x, cos x, sin y, cos y of the frequencies 10000^(-k/(d/2)), k = 0..d/4-1.
    """
    d = like.shape[1]
    steps = torch.arange(d // 4, dtype=torch.float32, device=like.device)
    frequencies = 1.0 / 10000 ** (steps / (d // 2))
    columns = torch.arange(width, dtype=torch.float32, device=like.device).repeat(height)
    rows = torch.arange(height, dtype=torch.float32, device=like.device).repeat_interleave(width)
    angles = [axis[:, None] * frequencies for axis in (columns, rows)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], 1).to(like.dtype)
