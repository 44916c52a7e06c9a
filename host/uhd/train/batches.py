"""Batches of a training run: which photos, which crops, which colours, as a function of seed, epoch and step."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Generator, Tensor

from uhd.errors import ConfigError
from uhd.image.colour import LUMA, PAIR_U, PAIR_V, STUDIO_LUMA
from uhd.image.resize import input_channels, network_values, normalise_mode
from uhd.train.augment.config import AugmentConfig
from uhd.train.augment.pictures import Pictures
from uhd.train.augment.pipeline import Pipeline, for_evaluation
from uhd.train.config import TrainConfig
from uhd.train.photos import PhotoStore
from uhd.train.targets import Targets


@dataclass(frozen=True)
class Batch:
    """``images`` [B,C,h,w] float32 in 0..1 and the objects in them, on the training device.

    ``rgb`` [B,3,h,w] float32 in 0..1: the same pictures in colour, where they were asked for.
    """

    images: Tensor
    targets: Targets
    rgb: Tensor | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class EvaluationBatch(Batch):
    """``sizes`` [B,2] int64: height and width of what each image shows, in pixels of its photo."""

    sizes: Tensor


def network_images(pictures: Pictures, resize_mode: str) -> Tensor:
    """Pictures at the network's size -> float32 [B,C,h,w] in 0..1, channels last in memory.

    In an integer mode the pictures are rounded to bytes and become the values of ``uhd.image.resize.resize_image``.
    Raises ``ConfigError`` for yuv422 with an odd width.
    """
    mode = normalise_mode(resize_mode)
    count, _, height, width = pictures.planes.shape
    channels = input_channels(mode)
    out = torch.empty((count, height, width, channels), device=pictures.planes.device)
    if "linear" in mode:
        out.copy_((pictures.planes / pictures.white).permute(0, 2, 3, 1))
        return out.permute(0, 3, 1, 2)
    byte = pictures.planes.round()
    if channels == 3:
        torch.div(byte.permute(0, 2, 3, 1), 255, out=out)
    elif channels == 2:
        _packed(byte, pictures.single, out)
    else:
        luma = _weigh(byte, LUMA, 0)
        if mode.endswith(("_bin", "_tri")):
            out[..., 0] = torch.from_numpy(network_values(mode)).to(out.device)[luma.long()]
        else:
            torch.div(luma, 255, out=out[..., 0])
    return out.permute(0, 3, 1, 2)


def _weigh(planes: Tensor, weights: tuple[int, int, int], offset: int, pairs: int = 1) -> Tensor:
    """Weighted sum of channels in 2**-14, rounded half up: ``uhd.image.colour`` in whole float32 numbers below 2**24.

    ``pairs`` multiplies the weights.
    """
    total = planes[:, 0] * float(pairs * weights[0])
    total.add_(planes[:, 1], alpha=pairs * weights[1]).add_(planes[:, 2], alpha=pairs * weights[2])
    return total.add_((offset << 14) + (1 << 13)).mul_(2.0**-14).floor_()


def _packed(byte: Tensor, single: Tensor, out: Tensor) -> None:
    """Studio-range luma and, in turns, U and V of pixel pairs, over 255, into ``out`` [B,h,w,2].

    A camera samples chroma at one place of the scene; two neighbouring pixels of the small picture lie far apart in
    the large one. Where ``single`` [B] is set, U is that of the even pixel and V that of the odd one.
    """
    if byte.shape[3] % 2:
        raise ConfigError(f"yuv422 needs an even picture width, not {byte.shape[3]}")
    torch.div(_weigh(byte, STUDIO_LUMA, 16), 255, out=out[..., 0])
    even, odd = byte[..., 0::2], byte[..., 1::2]
    pair = even + odd
    torch.div(_weigh(pair, PAIR_U, 128), 255, out=out[:, :, 0::2, 1])
    torch.div(_weigh(pair, PAIR_V, 128), 255, out=out[:, :, 1::2, 1])
    rows = torch.nonzero(single)[:, 0].to(out.device)
    if len(rows):
        out[rows, :, 0::2, 1] = _weigh(even[rows], PAIR_U, 128, pairs=2) / 255
        out[rows, :, 1::2, 1] = _weigh(odd[rows], PAIR_V, 128, pairs=2) / 255


def network_input(rgb: Tensor, resize_mode: str) -> Tensor:
    """RGB uint8 [B,h,w,3] already at the network's size -> float32 [B,C,h,w] in 0..1, channels last in memory."""
    white = 1.0 if "linear" in normalise_mode(resize_mode) else 255.0
    planes = rgb.permute(0, 3, 1, 2).float() / (255 / white)
    return network_images(Pictures(planes, white, torch.zeros(len(rgb), dtype=torch.bool)), resize_mode)


def single_chroma_input(rgb: Tensor) -> Tensor:
    """The yuv422 input of RGB uint8 [B,h,w,3] with the chroma of one pixel instead of the mean of a pair."""
    pictures = Pictures(rgb.permute(0, 3, 1, 2).float(), 255.0, torch.ones(len(rgb), dtype=torch.bool))
    return network_images(pictures, "opencv_inter_nearest_yuv422")


class BatchMaker:
    """Makes training batches. Holds no state between calls: the same (epoch, step) gives the same batch, in any thread.

    All chance in a batch is a function of (seed, epoch, step) and of each photo's place in it.
    """

    def __init__(self, store: PhotoStore, config: TrainConfig, augment: AugmentConfig | None = None) -> None:
        """``augment`` takes the place of the configuration's own; ``ConfigError`` if that cannot be read."""
        self.store = store
        self.config = config
        self.augment = AugmentConfig.of(config) if augment is None else augment
        self._pipeline = Pipeline(self.augment, config.input_size, config.resize_mode)
        self._mild = Pipeline(self.augment.mild(), config.input_size, config.resize_mode)
        self.steps = max(1, len(store) // config.batch_size)
        self.keeps_rgb = False
        """Whether batches also hold their pictures in colour."""

    def order(self, epoch: int) -> Tensor:
        """All photos in the random order of an epoch; the incomplete last batch is left out."""
        return torch.randperm(len(self.store), generator=self._generator(epoch, 0))

    def batch(self, order: Tensor, epoch: int, step: int, rows: slice | None = None) -> Batch:
        """Batch ``step`` (from 0) of ``epoch`` (from 0), whose ``order`` is given; or only ``rows`` of it.

        Rows are exactly those of the whole batch, and cost what they would cost alone.
        """
        config = self.config
        pipeline = self._pipeline if epoch < config.epochs - config.mild_epochs else self._mild
        photos = order[step * config.batch_size : (step + 1) * config.batch_size]
        numbers = pipeline.draw(self._generator(epoch, step + 1), len(photos))
        if rows is not None:
            photos, numbers = photos[rows], [part[rows] for part in numbers]
        canvas, pictures = pipeline(self.store, photos, numbers)
        images = network_images(pictures, config.resize_mode)
        rgb = (pictures.planes / pictures.white).clamp(0, 1) if self.keeps_rgb else None
        return Batch(images, canvas.targets().to(images.device), rgb=rgb)

    def _generator(self, epoch: int, stream: int) -> Generator:
        # torch's generator keeps 32 bits of a seed, so the three numbers are hashed to that many
        sequence = np.random.SeedSequence((self.config.seed, epoch, stream))
        return Generator().manual_seed(int(sequence.generate_state(1)[0]))


def evaluation_batch(
    store: PhotoStore, photos: Tensor, resize_mode: str, size: tuple[int, int], augment: AugmentConfig, seed: int = 0
) -> EvaluationBatch:
    """Validation photos [B] through ``augment`` at ``size`` (height, width), each always changed in the same way.

    What a photo becomes depends on ``seed``, its number in the store and its pixels, never on its boxes or its batch.
    """
    pipeline = Pipeline(for_evaluation(augment), size, resize_mode)
    canvas, pictures = pipeline(store, photos, pipeline.draw_for(seed, photos))
    images = network_images(pictures, resize_mode)
    shown = canvas.shown.round().long().clamp(min=1)
    return EvaluationBatch(images, canvas.targets().to(images.device), shown)


def plain_batch(
    store: PhotoStore, photos: Tensor, resize_mode: str, side: int | tuple[int, int],
    augment: AugmentConfig | None = None, seed: int = 0,
) -> Tensor:  # fmt: skip
    """Whole photos as the device sees them: float32 [B,C,h,w]; ``side`` is one number, or (height, width).

    With ``augment`` they are those of ``evaluation_batch``.
    """
    size = (side, side) if isinstance(side, int) else side
    return evaluation_batch(store, photos, resize_mode, size, augment or AugmentConfig(), seed).images
