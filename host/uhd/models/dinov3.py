"""DINOv3 vision transformers (arXiv 2508.10104): the patch tokens of a picture as a feature map.

Tokens are a class token, storage tokens and one token per patch. Each block adds scaled self-attention and a scaled MLP
to them, both behind a layer norm. Position is a rotation of the patches' queries and keys (style ``rotary``). The
style ``additive`` is the simplification that published distillation runs used with the same weights: sines and cosines
added to the patches, no storage tokens, the mask of the attention bias added instead of multiplied, GELU in gated MLPs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Style = Literal["rotary", "additive"]
Norm = Literal["imagenet", "none"]

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_EPS = 1e-5
#: Longest over shortest period of the rotation, as trained.
_ROTARY_BASE = 100.0


@dataclass(frozen=True)
class ViTConfig:
    """Sizes of a vision transformer; see ``uhd.models.dinov3_weights.infer_config``."""

    embed_dim: int
    depth: int
    heads: int
    patch: int
    hidden: int
    gated: bool
    storage_tokens: int
    style: Style = "rotary"
    norm: Norm = "imagenet"

    @property
    def head_dim(self) -> int:
        return self.embed_dim // self.heads


class _Scale(nn.Module):
    """Learnt factor per channel."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class _MaskedLinear(nn.Linear):
    """The projection to queries, keys and values, with the stored mask of its bias (keys have none)."""

    bias_mask: Tensor

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config.embed_dim, 3 * config.embed_dim)
        self.adds_mask = config.style == "additive"
        mask = torch.zeros(3, config.embed_dim) if self.adds_mask else torch.ones(3, config.embed_dim)
        self.register_buffer("bias_mask", mask.flatten())

    def forward(self, x: Tensor) -> Tensor:
        bias = self.bias + self.bias_mask if self.adds_mask else self.bias * self.bias_mask
        return functional.linear(x, self.weight, bias)


class _Attention(nn.Module):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = _MaskedLinear(config)
        self.proj = nn.Linear(config.embed_dim, config.embed_dim)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor] | None) -> Tensor:
        batch, tokens, dim = x.shape
        query, key, value = self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if rotation is not None:
            query, key = _rotate(query, *rotation), _rotate(key, *rotation)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, dim))


class _MLP(nn.Module):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.embed_dim, config.hidden)
        self.fc2 = nn.Linear(config.hidden, config.embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class _GatedMLP(nn.Module):
    """SwiGLU (arXiv 2002.05202)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.w1 = nn.Linear(config.embed_dim, config.hidden)
        self.w2 = nn.Linear(config.embed_dim, config.hidden)
        self.w3 = nn.Linear(config.hidden, config.embed_dim)
        self.act = functional.gelu if config.style == "additive" else functional.silu

    def forward(self, x: Tensor) -> Tensor:
        return self.w3(self.act(self.w1(x)) * self.w2(x))


class _Block(nn.Module):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.embed_dim, eps=_EPS)
        self.attn = _Attention(config)
        self.ls1 = _Scale(config.embed_dim)
        self.norm2 = nn.LayerNorm(config.embed_dim, eps=_EPS)
        self.mlp = _GatedMLP(config) if config.gated else _MLP(config)
        self.ls2 = _Scale(config.embed_dim)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor] | None) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x), rotation))
        return x + self.ls2(self.mlp(self.norm2(x)))


class _PatchEmbed(nn.Module):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.embed_dim, config.patch, config.patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class _Rotary(nn.Module):
    """Periods of the rotation, [head_dim/4]; a checkpoint may bring its own."""

    periods: Tensor

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        count = config.head_dim // 4
        self.register_buffer("periods", _ROTARY_BASE ** (torch.arange(count) / max(1, count)))

    def forward(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Sines and cosines [height*width, head_dim] of patch centres, in -1..1 along each axis."""
        axes = [(torch.arange(n, device=self.periods.device) + 0.5) * (2 / n) - 1 for n in (height, width)]
        places = torch.stack(torch.meshgrid(axes[0], axes[1], indexing="ij"), -1).view(-1, 2, 1)
        angles = (2 * math.pi * places / self.periods).flatten(1).repeat(1, 2)
        return angles.sin(), angles.cos()


class VisionTransformer(nn.Module):
    """Pictures [B,3,H,W] in 0..1 -> features [B,embed_dim,h,w], one cell a patch.

    A picture whose sides are no multiples of ``config.patch`` is first enlarged to the next ones; with ``grid``, to
    one patch per cell of that many rows and columns.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = _PatchEmbed(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.embed_dim))
        self.storage_tokens = nn.Parameter(torch.zeros(1, config.storage_tokens, config.embed_dim))
        self.rope_embed = _Rotary(config)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.embed_dim, eps=_EPS)
        #: What the file it was read from lacked or had too much; empty if nothing.
        self.report = ""
        for module in self.modules():  # what a file does not have is absent, not random
            if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        x = self.patch_embed(self._prepared(x, grid))
        batch, dim, height, width = x.shape
        x = x.flatten(2).transpose(1, 2)
        first = [self.cls_token.expand(batch, -1, -1)]
        rotation = None
        if self.config.style == "additive":
            x = x + _waves(height, width, x)
        else:
            first.append(self.storage_tokens.expand(batch, -1, -1))
            rotation = self.rope_embed(height, width)
        x = torch.cat([*first, x], 1)
        for block in self.blocks:
            x = block(x, rotation)
        patches = self.norm(x)[:, -height * width :]
        return patches.transpose(1, 2).reshape(batch, dim, height, width)

    def _prepared(self, x: Tensor, grid: tuple[int, int] | None) -> Tensor:
        patch = self.config.patch
        cells = grid or tuple(math.ceil(side / patch) for side in x.shape[2:])
        size = [count * patch for count in cells]
        if size != list(x.shape[2:]):
            x = functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
        if self.config.norm == "none":
            return x
        mean, std = (x.new_tensor(values)[:, None, None] for values in (_MEAN, _STD))
        return (x - mean) / std


def _rotate(x: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
    """Rotate the last tokens of [B,heads,N,d], as many as ``sin`` has rows; those before have no place."""
    count = len(sin)
    placed = x[:, :, -count:]
    half = placed.shape[-1] // 2
    turned = torch.cat([-placed[..., half:], placed[..., :half]], -1)
    placed = placed * cos.to(x.dtype) + turned * sin.to(x.dtype)
    return torch.cat([x[:, :, :-count], placed], 2)


def _waves(height: int, width: int, like: Tensor) -> Tensor:
    """[height*width, d] for tokens [B,N,d]: sines and cosines of column and row, 10000^(-k/(d/2)), k = 0..d/4-1."""
    dim = like.shape[-1]
    frequency = 10000.0 ** (-torch.arange(dim // 4, device=like.device) / (dim // 2))
    columns = torch.arange(width, device=like.device).repeat(height)
    rows = torch.arange(height, device=like.device).repeat_interleave(width)
    angles = [axis[:, None] * frequency for axis in (columns, rows)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], 1).to(like.dtype)
