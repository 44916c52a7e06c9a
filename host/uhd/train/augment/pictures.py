"""The pictures of a batch while their colours are changed, and noise that depends on nothing but its seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MASK = 0xFFFFFFFF
Picture = NDArray[np.uint8]


@dataclass
class Pictures:
    """``planes`` [b,3,h,w] float32, RGB in 0..``white``; ``single`` [b] bool: chroma of one pixel (yuv422 only)."""

    planes: Tensor
    white: float
    single: Tensor


def _scramble(bits: Tensor) -> Tensor:
    """A bijection of 32-bit numbers (in int64) that spreads every bit over all: the finaliser of MurmurHash3."""
    bits = (bits ^ (bits >> 16)) * 0x85EBCA6B & _MASK
    bits = (bits ^ (bits >> 13)) * 0xC2B2AE35 & _MASK
    return bits ^ (bits >> 16)


def noise(seed: Tensor, count: int, stream: int = 0) -> Tensor:
    """Uniform numbers in [0, 1) that are a function of seed, stream and place: float32 [n, count] for seeds [n].

    ``seed`` holds whole numbers, or reals in [0, 1). The same on every device.
    """
    whole = (seed.double() * 2**32).long() if seed.is_floating_point() else seed.long()
    start = _scramble((whole + (stream + 1) * 0x9E3779B9) & _MASK)
    bits = _scramble((torch.arange(count, device=seed.device) * 0x61C88647 + start[:, None]) & _MASK)
    return (bits >> 8).float() * 2.0**-24


def normal_noise(seed: Tensor, count: int, stream: int = 0) -> Tensor:
    """Standard normal numbers as ``noise`` gives uniform ones (by the transform of Box and Muller)."""
    half = (count + 1) // 2
    radius = torch.sqrt(-2 * torch.log1p(-noise(seed, half, 2 * stream)))
    angle = noise(seed, half, 2 * stream + 1) * (2 * math.pi)
    return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], 1)[:, :count]


def to_bytes(planes: Tensor, white: float) -> Tensor:
    """Planes [n,3,h,w] -> RGB uint8 [n,h,w,3], rounded."""
    return (planes * (255 / white)).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def by_picture(planes: Tensor, white: float, change: Callable[[Picture, int], Picture]) -> Tensor:
    """Apply a function of RGB uint8 [h,w,3] and the picture's number to each picture of planes [n,3,h,w]."""
    pictures = to_bytes(planes, white).cpu().contiguous().numpy()
    changed = np.stack([change(picture, number) for number, picture in enumerate(pictures)])
    return torch.from_numpy(changed).to(planes.device).permute(0, 3, 1, 2).float() * (white / 255)
