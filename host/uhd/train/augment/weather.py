"""Rain, fog and sun. Lengths are pixels of the network's input."""

from __future__ import annotations

import torch
from torch import Tensor

from uhd.train.augment.op import Amounts, Counts, Kernels, PictureOp, between, whole_between
from uhd.train.augment.pictures import noise

#: Brightness of a drop, of white.
_DROP = 200 / 255


class RandomRain(PictureOp):
    """Grey streaks; ``density`` is their number a pixel."""

    density: Amounts = (0.002, 0.006)
    drop_length: Kernels = (15, 30)
    drop_width_range: Kernels = (1, 2)
    slant_range: Counts = (-10, 10)

    @property
    def draws(self) -> int:
        return 3

    def change(self, planes: Tensor, u: Tensor, white: float) -> Tensor:
        count, _, height, width = planes.shape
        drops = (between(u[:, 0].double(), self.density) * (height * width)).long()
        most = int(drops.max())
        if not most:
            return planes.clone()
        chance = noise(u[:, 1], 5 * most).view(count, most, 5)
        x, y = whole_between(chance[..., 0], 0, width - 1), whole_between(chance[..., 1], 0, height - 1)
        length = whole_between(chance[..., 2], *self.drop_length)
        thick = whole_between(chance[..., 3], *self.drop_width_range)
        slant = whole_between(chance[..., 4], *self.slant_range)
        along = torch.arange(self.drop_length[1] + 1)
        centre = x[..., None] + torch.round(slant[..., None] * along / length[..., None]).long()  # [n,drops,along]
        column = centre[..., None] + torch.arange(self.drop_width_range[1]) - ((thick - 1) // 2)[..., None, None]
        row = (y[..., None] + along)[..., None].expand_as(column)
        used = (torch.arange(most) < drops[:, None])[..., None, None] & (along <= length[..., None])[..., None]
        used = used & (torch.arange(self.drop_width_range[1]) < thick[..., None, None])
        used &= (row < height) & (column >= 0) & (column < width)
        place = torch.where(used, row * width + column, height * width).flatten(1)  # one place beyond the picture
        wet = torch.zeros(count, height * width + 1, dtype=torch.bool).scatter_(1, place, True)[:, :-1]
        return torch.where(wet.view(count, 1, height, width).to(planes.device), _DROP * white, planes)


class RandomFog(PictureOp):
    """Blend with a light grey; ``fog_coef`` is the part of the fog."""

    fog_coef: Amounts = (0.3, 0.6)

    @property
    def draws(self) -> int:
        return 3

    def change(self, planes: Tensor, u: Tensor, white: float) -> Tensor:
        part = between(u[:, 0], self.fog_coef).to(planes.device)[:, None, None, None]
        haze = (between(u[:, 1], (0.7, 1.0)) * white).to(planes.device)[:, None, None, None]
        return planes * (1 - part) + haze * part


class RandomSunFlare(PictureOp):
    """A bright disc added anywhere; ``src_intensity`` is its brightness, of white."""

    src_radius_range: Counts = (50, 150)
    src_intensity: Amounts = (0.6, 1.0)

    @property
    def draws(self) -> int:
        return 5

    def change(self, planes: Tensor, u: Tensor, white: float) -> Tensor:
        height, width = planes.shape[2:]
        radius = whole_between(u[:, 0], *self.src_radius_range)[:, None, None]
        x = whole_between(u[:, 2], 0, width - 1)[:, None, None]
        y = whole_between(u[:, 3], 0, height - 1)[:, None, None]
        distance = (torch.arange(width) - x) ** 2 + (torch.arange(height)[:, None] - y) ** 2
        light = between(u[:, 1], self.src_intensity)[:, None, None] * (distance <= radius**2)
        return planes + (light[:, None] * white).to(planes.device, torch.float32)
