"""Random crops and colours for a batch. Draws come from a generator in main memory, so a seed is a seed anywhere."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from uhd.train.config import TrainConfig
from uhd.train.photos import Crops, PhotoStore
from uhd.train.targets import Targets

#: Full-range luma of RGB (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)


def _uniform(generator: Generator, count: int, low: float, high: float) -> Tensor:
    return torch.rand(count, generator=generator) * (high - low) + low


def _chance(generator: Generator, count: int, probability: float) -> Tensor:
    return torch.rand(count, generator=generator) < probability


def draw_crops(generator: Generator, sizes: Tensor, config: TrainConfig) -> Crops:
    """Windows for photos of ``sizes`` [B,2]: side scaled in crop_min..crop_max, aspect changed, anywhere it fits.

    A window smaller than the photo lies inside it; a larger one has the photo inside it.
    """
    count = len(sizes)
    scale = _uniform(generator, count, config.crop_min, config.crop_max)
    skew = torch.exp(_uniform(generator, count, -config.crop_aspect, config.crop_aspect) / 2)
    chosen = _chance(generator, count, config.crop_prob)
    flip = _chance(generator, count, config.flip_prob)
    place = torch.rand(2, count, generator=generator)
    height = torch.where(chosen, (sizes[:, 0] * scale / skew).round().long().clamp(min=1), sizes[:, 0])
    width = torch.where(chosen, (sizes[:, 1] * scale * skew).round().long().clamp(min=1), sizes[:, 1])
    y = (place[0] * (sizes[:, 0] - height)).round().long()
    x = (place[1] * (sizes[:, 1] - width)).round().long()
    return Crops(x, y, width, height, flip)


def crop_targets(store: PhotoStore, photos: Tensor, crops: Crops, min_visible: float) -> Targets:
    """Boxes of ``photos`` seen through the windows, clipped to them, normalised to them.

    A box stays if at least ``min_visible`` of its area, and more than nothing, lies in the window.
    """
    place, row = store.boxes_of(photos)
    scale = store.sizes[photos].flip(1).float()[place]  # width, height
    centre, half = store.boxes[row, :2] * scale, store.boxes[row, 2:] * scale / 2
    corner = torch.stack([crops.x, crops.y], 1).float()[place]
    extent = torch.stack([crops.width, crops.height], 1).float()[place]
    low = (centre - half - corner) / extent
    high = (centre + half - corner) / extent
    seen_low, seen_high = low.clamp(0, 1), high.clamp(0, 1)
    area = (high - low).prod(1)
    seen = (seen_high - seen_low).prod(1)
    keep = (seen > 0) & (seen >= min_visible * area)
    boxes = torch.cat([(seen_low + seen_high) / 2, seen_high - seen_low], 1)
    boxes[:, 0] = torch.where(crops.flip[place], 1 - boxes[:, 0], boxes[:, 0])
    return Targets(place[keep], store.labels[row[keep]], boxes[keep])


def draw_colours(generator: Generator, count: int, config: TrainConfig) -> tuple[Tensor, Tensor]:
    """A random affine map of RGB for each photo: matrix [B,3,3] and offset [B,3], for values 0..255.

    Applied as ``rgb @ matrix + offset``. It chains channel gains, hue and saturation (about the luma axis), contrast
    (about mid grey) and brightness.
    """
    luma = torch.tensor(_LUMA)
    grey = luma[:, None].expand(3, 3)  # rgb @ grey = luma in all channels
    eye = torch.eye(3)
    gain = _uniform(generator, 3 * count, 1 - config.channel_gain, 1 + config.channel_gain).reshape(count, 3)
    angle = _uniform(generator, count, -config.hue, config.hue)[:, None, None] * (2 * math.pi)
    saturation = _uniform(generator, count, 1 - config.saturation, 1 + config.saturation)
    saturation = torch.where(_chance(generator, count, config.grey_prob), 0.0, saturation)[:, None, None]
    contrast = _uniform(generator, count, 1 - config.contrast, 1 + config.contrast)
    brightness = _uniform(generator, count, -config.brightness, config.brightness) * 255
    axis = torch.full((3,), 1 / math.sqrt(3.0))
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3.0)
    turn = torch.cos(angle) * eye + torch.sin(angle) * cross + (1 - torch.cos(angle)) * torch.outer(axis, axis)
    colour = (turn @ (eye - grey)) * saturation + grey
    matrix = gain[:, :, None] * colour * contrast[:, None, None]
    offset = (127.5 * (1 - contrast) + brightness)[:, None].expand(count, 3)
    return matrix, offset


def apply_colours(rgb: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """Map RGB uint8 [B,h,w,3] by ``draw_colours``' maps, rounded and clipped to uint8."""
    count, height, width, _ = rgb.shape
    flat = rgb.reshape(count, height * width, 3).float()
    mapped = torch.baddbmm(offset.to(rgb.device)[:, None, :], flat, matrix.to(rgb.device))
    return mapped.round_().clamp_(0, 255).to(torch.uint8).reshape(rgb.shape)
