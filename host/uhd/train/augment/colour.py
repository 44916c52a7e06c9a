"""Changes of colour, pixel by pixel. Values run from 0 to ``white`` and are clipped to that after every operation."""

from __future__ import annotations

import math
from typing import Self

import torch
from pydantic import Field
from torch import Tensor

from uhd.train.augment.op import Amounts, PictureOp, Range, between, probability
from uhd.train.augment.pictures import Pictures

#: Full-range luma of RGB (ITU-R BT.601).
LUMA = (0.299, 0.587, 0.114)


def luma(planes: Tensor) -> Tensor:
    """Grey values [n,1,h,w] of RGB planes [n,3,h,w]."""
    r, g, b = planes.unbind(1)
    return (r * LUMA[0]).add_(g, alpha=LUMA[1]).add_(b, alpha=LUMA[2])[:, None]


def _each(values: Tensor, planes: Tensor) -> Tensor:
    """One number a picture, [n], shaped and placed to multiply planes."""
    return values.to(planes.device, torch.float32)[:, None, None, None]


def to_hsv(planes: Tensor, white: float) -> tuple[Tensor, Tensor, Tensor]:
    """Hue (of a full circle, 0..1), saturation (0..1) and value (0..white) of RGB planes, [n,h,w] each."""
    r, g, b = planes.unbind(1)
    value = torch.maximum(torch.maximum(r, g), b)
    spread = value - torch.minimum(torch.minimum(r, g), b)
    sixth = 1 / spread.clamp(min=white * 1e-9)
    turn = torch.where(value == g, (b - r).mul_(sixth).add_(2), (r - g).mul_(sixth).add_(4))
    turn = torch.where(value == r, (g - b).mul_(sixth), turn).div_(6)
    return turn.add_(turn < 0), spread.div_(value.clamp(min=white * 1e-9)), value


def from_hsv(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """The inverse of ``to_hsv``; hue is taken modulo 1. Planes [n,3,h,w]."""
    planes = torch.empty((len(hue), 3, *hue.shape[1:]), device=hue.device)
    colour = value * saturation
    angle = (hue - hue.floor()).mul_(6)
    missing = (  # red is full up to a sixth from 0 and 6, green from 2, blue from 4; none is left a third away
        (angle - 3).abs_().neg_().add_(2),
        (angle - 2).abs_().sub_(1),
        (angle - 4).abs_().sub_(1),
    )
    for channel, part in enumerate(missing):
        torch.addcmul(value, part.clamp_(0, 1), colour, value=-1, out=planes[:, channel])
    return planes


class RandomHSV(PictureOp):
    """Multiply hue, saturation and value by 1 plus or minus up to the gains. Hue counts from red."""

    hue_gain: float = Field(default=0.0, ge=0.0, le=1.0, allow_inf_nan=False)
    saturation_gain: float = Field(default=0.0, ge=0.0, le=1.0, allow_inf_nan=False)
    value_gain: float = Field(default=0.0, ge=0.0, le=1.0, allow_inf_nan=False)

    @property
    def draws(self) -> int:
        return 4

    def change(self, planes: Tensor, u: Tensor, white: float) -> Tensor:
        hue, saturation, value = to_hsv(planes, white)
        gains = (self.hue_gain, self.saturation_gain, self.value_gain)
        h, s, v = (_each(1 + (2 * u[:, i] - 1) * gain, planes)[:, 0] for i, gain in enumerate(gains))
        return from_hsv(hue * h, (saturation * s).clamp_(max=1), (value * v).clamp_(max=white))


class RandomPhotometricDistort(PictureOp):
    """Brightness, contrast, saturation and hue together; contrast comes before saturation and hue, or after them.

    ``permute_channels`` is the share of the changed pictures whose channels are shuffled.
    """

    prob: float = probability(0.5)
    brightness: Amounts = (0.875, 1.125)
    contrast: Amounts = (0.5, 1.5)
    saturation: Amounts = (0.5, 1.5)
    hue: Range = (-0.05, 0.05)
    permute_channels: float = probability(0.0)

    @property
    def draws(self) -> int:
        return 10

    def change(self, planes: Tensor, u: Tensor, white: float) -> Tensor:
        early = u[:, 4] < 0.5
        factor = between(u[:, 1], self.contrast)
        planes = (planes * _each(between(u[:, 0], self.brightness), planes)).clamp_(0, white)
        planes = _contrast(planes, torch.where(early, factor, 1.0)).clamp_(0, white)
        grey = luma(planes)
        planes = torch.lerp(grey.expand_as(planes), planes, _each(between(u[:, 2], self.saturation), planes))
        hue, saturation, value = to_hsv(planes.clamp_(0, white), white)
        planes = from_hsv(hue + _each(between(u[:, 3], self.hue), planes)[:, 0], saturation, value)
        planes = _contrast(planes, torch.where(early, 1.0, factor))
        if self.permute_channels:
            order = torch.argsort(u[:, 6:9], 1)
            order = torch.where((u[:, 5] < self.permute_channels)[:, None], order, torch.arange(3))
            planes = planes.gather(1, order.to(planes.device)[:, :, None, None].expand_as(planes))
        return planes


def _contrast(planes: Tensor, factor: Tensor) -> Tensor:
    """Contrast about the mean grey value of each picture."""
    mean = luma(planes).mean((2, 3), keepdim=True)
    return torch.lerp(mean.expand_as(planes), planes, _each(factor, planes))


class RandomBrightness(PictureOp):
    """Multiply all channels by a factor."""

    factor_range: Amounts = (0.8, 1.2)

    @property
    def draws(self) -> int:
        return 2

    def change(self, planes: Tensor, u: Tensor, white: float) -> Tensor:
        return planes * _each(between(u[:, 0], self.factor_range), planes)


class RandomContrast(PictureOp):
    """Stretch each channel about its mean in the picture."""

    factor_range: Amounts = (0.8, 1.2)

    @property
    def draws(self) -> int:
        return 2

    def change(self, planes: Tensor, u: Tensor, white: float) -> Tensor:
        mean = planes.mean((2, 3), keepdim=True)
        return torch.lerp(mean.expand_as(planes), planes, _each(between(u[:, 0], self.factor_range), planes))


class RandomSaturation(PictureOp):
    """Stretch the channels about their mean in each pixel."""

    factor_range: Amounts = (0.8, 1.2)

    @property
    def draws(self) -> int:
        return 2

    def change(self, planes: Tensor, u: Tensor, white: float) -> Tensor:
        grey = planes.mean(1, keepdim=True)
        return torch.lerp(grey.expand_as(planes), planes, _each(between(u[:, 0], self.factor_range), planes))


class ToGray(PictureOp):
    """Luma in all three channels."""

    def change(self, planes: Tensor, u: Tensor, white: float) -> Tensor:
        return luma(planes).repeat(1, 3, 1, 1)


class ColourJitter(PictureOp):
    """The default: gains of the channels, hue, saturation, contrast and brightness as one affine map of RGB.

    Each field is the largest change: of each channel's gain, of hue (of a full circle), of saturation and contrast
    (relative), of brightness (of white). ``grey`` is the share without colour.
    """

    prob: float = probability(1.0)
    channel_gain: float = probability(0.05)
    hue: float = probability(0.02)
    saturation: float = probability(0.3)
    contrast: float = probability(0.2)
    brightness: float = probability(0.08)
    grey: float = probability(0.03)

    @property
    def draws(self) -> int:
        return 9

    def arrange(self, raw: Tensor, count: int) -> Tensor:
        # the three gains of a picture lie together; the number that `prob` is compared with comes last
        gains, others, changed = raw[: 3 * count], raw[3 * count : 8 * count], raw[8 * count :]
        return torch.cat([changed[:, None], gains.view(count, 3), others.view(5, count).T], 1)

    def mild(self) -> Self:
        names = ("channel_gain", "hue", "saturation", "contrast", "brightness", "grey")
        return self.model_copy(update={name: getattr(self, name) / 2 for name in names})

    def matrices(self, u: Tensor, white: float) -> tuple[Tensor, Tensor]:
        """Matrix [n,3,3] and offset [n,3,1]: the new channels are ``matrix @ rgb + offset``.

        It chains gains, hue and saturation (about the luma axis), contrast (about mid grey) and brightness.
        """
        spread = 2 * u.float() - 1
        gain = 1 + spread[:, :3] * self.channel_gain
        angle = (spread[:, 3] * (self.hue * 2 * math.pi))[:, None, None]
        saturation = torch.where(u[:, 5] < self.grey, 0.0, 1 + spread[:, 4] * self.saturation)[:, None, None]
        contrast = 1 + spread[:, 6] * self.contrast
        axis = torch.full((3, 3), 1 / 3)
        cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]).T / math.sqrt(3.0)
        eye = torch.eye(3)
        grey = torch.tensor(LUMA).expand(3, 3)  # grey @ rgb = luma in all channels
        turn = torch.cos(angle) * eye + torch.sin(angle) * cross + (1 - torch.cos(angle)) * axis
        colour = grey + saturation * ((eye - grey) @ turn)
        matrix = contrast[:, None, None] * colour * gain[:, None, :]
        offset = white * ((1 - contrast) / 2 + spread[:, 7] * self.brightness)
        return matrix, offset[:, None, None].expand(-1, 3, 1)

    def change(self, planes: Tensor, u: Tensor, white: float) -> Tensor:
        matrix, offset = (part.to(planes.device) for part in self.matrices(u, white))
        return torch.baddbmm(offset, matrix, planes.flatten(2)).view(planes.shape)


class SingleChroma(PictureOp):
    """yuv422 only: ``prob`` of the pictures get one pixel's chroma instead of a pair's mean, as a camera gives it."""

    prob: float = probability(0.25)

    def arrange(self, raw: Tensor, count: int) -> Tensor:
        # exactly that share: the order of an epoch is random, so the first of a batch are as good as any
        return ((torch.arange(count) + 0.5) / count)[:, None]

    def paint(self, pictures: Pictures, u: Tensor) -> None:
        pictures.single = pictures.single | (u[:, 0] < self.prob)
