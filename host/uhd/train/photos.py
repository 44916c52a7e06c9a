"""All photos of a split in one tensor, so that a batch is sampled by index on the training device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uhd.errors import DataError
from uhd.image.resize import opencv_nearest_index, torch_nearest_index

#: Value of the margin that a crop beyond the photo's edge shows.
GREY = 114


@dataclass(frozen=True)
class PhotoStore:
    """Decoded photos and their labels.

    ``pixels`` [1+P,3] uint8 RGB, row 0 the grey of margins, then the photos row by row; ``start`` [N] int64, first row
    of each photo; ``sizes`` [N,2] int64 (height, width). ``labels`` [T] int64 network class, ``boxes`` [T,4] float32
    cx, cy, w, h normalised, of photo i at ``box_start[i]:box_start[i+1]``.
    """

    pixels: Tensor
    start: Tensor
    sizes: Tensor
    box_start: Tensor
    labels: Tensor
    boxes: Tensor

    @classmethod
    def build(cls, photos: Iterable[tuple[NDArray[np.uint8], NDArray[np.float32]]]) -> PhotoStore:
        """From (RGB uint8 [H,W,3], [n,5] rows class, cx, cy, w, h) pairs. Raises ``DataError`` if there are none."""
        rows, sizes, counts, boxes = [np.full((1, 3), GREY, np.uint8)], [], [], []
        for rgb, rows5 in photos:
            rows.append(np.ascontiguousarray(rgb).reshape(-1, 3))
            sizes.append(rgb.shape[:2])
            counts.append(len(rows5))
            boxes.append(np.asarray(rows5, dtype=np.float32).reshape(-1, 5))
        if not sizes:
            raise DataError("no photos to train or evaluate on")
        starts = np.cumsum([len(part) for part in rows])[:-1]
        table = torch.from_numpy(np.concatenate(boxes))
        return cls(
            pixels=torch.from_numpy(np.concatenate(rows)),
            start=torch.from_numpy(starts.astype(np.int64)),
            sizes=torch.tensor(sizes, dtype=torch.int64),
            box_start=torch.from_numpy(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)),
            labels=table[:, 0].long(),
            boxes=table[:, 1:].contiguous(),
        )

    def __len__(self) -> int:
        return len(self.start)

    def to(self, device: torch.device | str) -> PhotoStore:
        """The pixels on ``device``. Everything else is small and stays in main memory, where crops are planned."""
        return PhotoStore(self.pixels.to(device), self.start, self.sizes, self.box_start, self.labels, self.boxes)

    def boxes_of(self, photos: Tensor) -> tuple[Tensor, Tensor]:
        """Box rows of ``photos`` [B] in order: place in the batch [T] and row in ``boxes`` [T], int64."""
        first, count = self.box_start[photos], self.box_start[photos + 1] - self.box_start[photos]
        place = torch.repeat_interleave(torch.arange(len(photos)), count)
        ends = count.cumsum(0)
        row = torch.arange(int(ends[-1]) if len(ends) else 0) - (ends - count)[place] + first[place]
        return place, row

    def truth(self, photo: int) -> NDArray[np.float32]:
        """[n,5] rows class, cx, cy, w, h of one photo."""
        rows = slice(int(self.box_start[photo]), int(self.box_start[photo + 1]))
        return torch.cat([self.labels[rows, None].float(), self.boxes[rows]], 1).numpy()


@dataclass(frozen=True)
class Crops:
    """Windows of photos in whole pixels, [B] int64 each; they may reach beyond the photo. ``flip`` [B] bool."""

    x: Tensor
    y: Tensor
    width: Tensor
    height: Tensor
    flip: Tensor

    @classmethod
    def whole(cls, sizes: Tensor) -> Crops:
        """The photos as they are, ``sizes`` [B,2] (height, width)."""
        zero = torch.zeros(len(sizes), dtype=torch.int64)
        return cls(zero, zero, sizes[:, 1], sizes[:, 0], torch.zeros(len(sizes), dtype=torch.bool))


@lru_cache(maxsize=1 << 14)
def _source_row(length: int, out: int, mode: str) -> Tensor:
    index = torch_nearest_index if mode == "torch_nearest" else opencv_nearest_index
    return torch.from_numpy(index(length, out))


def source_index(lengths: Tensor, out: int, mode: str) -> Tensor:
    """Source pixel of every output pixel, for windows of ``lengths`` [B] pixels: [B,out] int64."""
    return torch.stack([_source_row(length, out, mode) for length in lengths.tolist()])


def sample(store: PhotoStore, photos: Tensor, crops: Crops, size: tuple[int, int], mode: str) -> Tensor:
    """Cut the windows out and reduce them to ``size`` (height, width): RGB uint8 [B,h,w,3] on the pixels' device.

    Equal to cropping, mirroring and then sampling as ``uhd.image.resize`` does in ``mode`` (an integer mode); outside
    the photo it is grey.
    """
    height, width = size
    column = source_index(crops.width, width, mode)
    column = crops.x[:, None] + torch.where(crops.flip[:, None], crops.width[:, None] - 1 - column, column)
    row = crops.y[:, None] + source_index(crops.height, height, mode)
    tall, wide = store.sizes[photos, :1], store.sizes[photos, 1:]
    inside = ((row >= 0) & (row < tall))[:, :, None] & ((column >= 0) & (column < wide))[:, None, :]
    index = (store.start[photos, None] + row * wide)[:, :, None] + column[:, None, :]
    index = torch.where(inside, index, 0).to(store.pixels.device, non_blocking=True)
    return store.pixels.index_select(0, index.flatten()).reshape(*index.shape, 3)
