"""Batches of a training run: which photos, which crops, which colours, as a function of seed, epoch and step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from uhd.image.colour import luma_u8, yuv422_u8
from uhd.image.resize import input_channels, network_values
from uhd.train.augment.basic import apply_colours, crop_targets, draw_colours, draw_crops
from uhd.train.config import TrainConfig
from uhd.train.photos import Crops, PhotoStore, sample
from uhd.train.targets import Targets


@dataclass(frozen=True)
class Batch:
    """``images`` [B,C,h,w] float32 in 0..1 and the objects in them, on the training device."""

    images: Tensor
    targets: Targets


def network_input(rgb: Tensor, resize_mode: str) -> Tensor:
    """RGB uint8 [B,h,w,3] already at the network's size -> float32 [B,C,h,w] in 0..1, channels last in memory.

    The values are those of ``uhd.image.resize.resize_image`` in an integer mode.
    """
    channels = input_channels(resize_mode)
    byte = yuv422_u8(rgb) if channels == 2 else luma_u8(rgb)[..., None] if channels == 1 else rgb
    if resize_mode.endswith(("_bin", "_tri")):
        values = torch.from_numpy(network_values(resize_mode)).to(rgb.device)[byte.long()]
    else:
        values = byte.float() / 255
    return values.permute(0, 3, 1, 2)


def single_chroma_input(rgb: Tensor) -> Tensor:
    """The yuv422 input with the chroma of one pixel instead of the mean of a pair, as a camera's frame gives it.

    A camera samples chroma at one place of the scene; two neighbouring pixels of the small picture lie far apart in
    the large one. U comes from the even pixel, V from the odd one.
    """
    even, odd = rgb[:, :, 0::2], rgb[:, :, 1::2]
    plain = network_input(rgb, "opencv_inter_nearest_yuv422")
    from_even = yuv422_u8(torch.stack([even, even], 3).flatten(2, 3))
    from_odd = yuv422_u8(torch.stack([odd, odd], 3).flatten(2, 3))
    chroma = plain[:, 1]
    chroma[:, :, 0::2] = from_even[:, :, 0::2, 1].float() / 255
    chroma[:, :, 1::2] = from_odd[:, :, 1::2, 1].float() / 255
    return plain


class BatchMaker:
    """Makes training batches. Holds no state between calls: the same (epoch, step) gives the same batch."""

    def __init__(self, store: PhotoStore, config: TrainConfig) -> None:
        self.store = store
        self.config = config
        self.mild = config.mild()
        self.steps = max(1, len(store) // config.batch_size)

    def order(self, epoch: int) -> Tensor:
        """All photos in the random order of an epoch; the incomplete last batch is left out."""
        return torch.randperm(len(self.store), generator=self._generator(epoch, 0))

    def batch(self, order: Tensor, epoch: int, step: int) -> Batch:
        """Batch ``step`` (from 0) of ``epoch`` (from 0), whose ``order`` is given."""
        config = self.config if epoch < self.config.epochs - self.config.mild_epochs else self.mild
        generator = self._generator(epoch, step + 1)
        photos = order[step * config.batch_size : (step + 1) * config.batch_size]
        crops = draw_crops(generator, self.store.sizes[photos], config)
        matrix, offset = draw_colours(generator, len(photos), config)
        rgb = sample(self.store, photos, crops, (config.img_size, config.img_size), config.resize_mode)
        rgb = apply_colours(rgb, matrix, offset)
        targets = crop_targets(self.store, photos, crops, config.min_visible)
        return Batch(self._input(rgb), targets.to(rgb.device))

    def _input(self, rgb: Tensor) -> Tensor:
        mode = self.config.resize_mode
        images = network_input(rgb, mode)
        if mode.endswith("yuv422"):
            few = round(len(rgb) * self.config.single_chroma)  # the order is random, so the first are as good as any
            if few:
                images[:few] = single_chroma_input(rgb[:few])
        return images

    def _generator(self, epoch: int, stream: int) -> Generator:
        # torch's generator keeps 32 bits of a seed, so the three numbers are hashed to that many
        sequence = np.random.SeedSequence((self.config.seed, epoch, stream))
        return Generator().manual_seed(int(sequence.generate_state(1)[0]))


def plain_batch(store: PhotoStore, photos: Tensor, resize_mode: str, side: int) -> Tensor:
    """Whole photos as the device sees them: float32 [B,C,side,side]."""
    crops = Crops.whole(store.sizes[photos])
    return network_input(sample(store, photos, crops, (side, side), resize_mode), resize_mode)
