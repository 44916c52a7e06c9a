"""Blurs and local contrast. Kernel sizes are drawn from ``blur_limit`` and made odd; borders are mirrored."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from uhd.train.augment.op import Amounts, Counts, Kernels, PictureOp, between, whole_between
from uhd.train.augment.pictures import Picture, by_picture


def _sizes(u: Tensor, limit: tuple[int, int], planes: Tensor, least: int = 1) -> Tensor:
    """Odd kernel sizes [n], no larger than a mirrored border allows."""
    size = (whole_between(u, *limit) | 1).clamp(min=least)
    top = 2 * min(planes.shape[2:]) - 1
    return size.clamp(max=top)


def _filter(planes: Tensor, kernels: Tensor) -> Tensor:
    """Correlate all channels of picture i [3,h,w] with kernel i [k,k], k odd."""
    count, side = len(kernels), kernels.shape[-1]
    padded = functional.pad(planes, [side // 2] * 4, mode="reflect").flatten(0, 1)[None]
    weight = kernels.to(planes.device, torch.float32).repeat_interleave(3, 0)[:, None]
    return functional.conv2d(padded, weight, groups=3 * count)[0].view(planes.shape)


def _offsets(sizes: Tensor) -> Tensor:
    """Distance of each kernel cell from the centre along one axis, for the largest of the kernels."""
    half = int(sizes.max()) // 2
    return torch.arange(-half, half + 1)


class Blur(PictureOp):
    """The mean of a square."""

    blur_limit: Kernels = (3, 7)

    @property
    def draws(self) -> int:
        return 2

    def change(self, planes: Tensor, u: Tensor, white: float) -> Tensor:
        sizes = _sizes(u[:, 0], self.blur_limit, planes)
        inside = (_offsets(sizes).abs() <= (sizes // 2)[:, None]).float() / sizes[:, None]
        return _filter(planes, inside[:, :, None] * inside[:, None, :])


class GaussianBlur(PictureOp):
    """A Gaussian of ``sigma_limit`` pixels, cut off at a square."""

    blur_limit: Kernels = (3, 7)
    sigma_limit: Amounts = (0.1, 2.0)

    @property
    def draws(self) -> int:
        return 3

    def change(self, planes: Tensor, u: Tensor, white: float) -> Tensor:
        sizes = _sizes(u[:, 0], self.blur_limit, planes)
        sigma = between(u[:, 1], self.sigma_limit).clamp(min=1e-3)[:, None]
        offset = _offsets(sizes)
        bell = torch.exp(-0.5 * (offset / sigma) ** 2) * (offset.abs() <= (sizes // 2)[:, None])
        bell = bell / bell.sum(1, keepdim=True)
        return _filter(planes, bell[:, :, None] * bell[:, None, :])


class MotionBlur(PictureOp):
    """The mean along a line through the pixel, in any direction."""

    blur_limit: Kernels = (5, 15)

    @property
    def draws(self) -> int:
        return 3

    def change(self, planes: Tensor, u: Tensor, white: float) -> Tensor:
        sizes = _sizes(u[:, 0], self.blur_limit, planes, least=3)
        angle = (u[:, 1] * torch.pi)[:, None]
        offset = _offsets(sizes)
        half = len(offset) // 2
        used = offset.abs() <= (sizes // 2)[:, None]
        column = torch.trunc(offset * torch.cos(angle)).long() + half
        row = torch.trunc(offset * torch.sin(angle)).long() + half
        line = torch.zeros(len(sizes), len(offset) ** 2)
        line.scatter_reduce_(1, row * len(offset) + column, used.float(), "amax")
        line = line / line.sum(1, keepdim=True)
        return _filter(planes, line.view(-1, len(offset), len(offset)))


class MedianBlur(PictureOp):
    """The median of a square, borders repeated."""

    blur_limit: Kernels = (3, 7)

    @property
    def draws(self) -> int:
        return 2

    def change(self, planes: Tensor, u: Tensor, white: float) -> Tensor:
        sizes = _sizes(u[:, 0], self.blur_limit, planes)
        result = planes.clone()
        for size in sorted(set(sizes.tolist()) - {1}):
            rows = torch.nonzero(sizes == size)[:, 0].to(planes.device)
            for part in torch.split(rows, max(1, 256 // size**2)):  # size**2 values a pixel are held at once
                padded = functional.pad(planes[part], [size // 2] * 4, mode="replicate")
                windows = padded.unfold(2, size, 1).unfold(3, size, 1).flatten(4)
                result[part] = windows.median(4).values
        return result


class CLAHE(PictureOp):
    """Contrast-limited adaptive equalisation of lightness (OpenCV's, picture by picture)."""

    clip_limit: Amounts = (2.0, 2.0)
    tile_grid_size: Counts = Field(default=(8, 8))

    @property
    def draws(self) -> int:
        return 2

    def change(self, planes: Tensor, u: Tensor, white: float) -> Tensor:
        limits = between(u[:, 0], self.clip_limit).tolist()

        def equalise(rgb: Picture, number: int) -> Picture:
            lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
            clahe = cv2.createCLAHE(clipLimit=limits[number], tileGridSize=self.tile_grid_size)
            lab[..., 0] = clahe.apply(np.ascontiguousarray(lab[..., 0]))
            return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), dtype=np.uint8)

        return by_picture(planes, white, equalise)
