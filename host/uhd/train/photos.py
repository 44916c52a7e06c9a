"""All photos of a split in one tensor, so that a batch is sampled by index on the training device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uhd.errors import DataError

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


_SMALL = 1 << 30
"""A store with fewer pixels is indexed in 32 bits, with room for a sum of two that stays negative."""


def pixels_at(store: PhotoStore, line: Tensor, line_seen: Tensor, column: Tensor, column_seen: Tensor) -> Tensor:
    """Pixels where lines and columns cross: RGB planes [n,3,h,w] float32, 0..255, on the pixels' device.

    ``line`` [n,h]: row in ``pixels`` of each line's first pixel; ``column`` [n,w]; both int64. What is not seen
    (``line_seen`` [n,h], ``column_seen`` [n,w] bool) is grey.
    """
    small = len(store.pixels) < _SMALL
    kind, far = (torch.int32, -_SMALL) if small else (torch.int64, -(1 << 60))
    device = store.pixels.device
    down = torch.where(line_seen, line, far).to(kind).to(device, non_blocking=True)
    across = torch.where(column_seen, column, far).to(kind).to(device, non_blocking=True)
    index = (down[:, :, None] + across[:, None, :]).clamp_(min=0)  # row 0 is the grey of margins
    count, height, width = index.shape
    found = store.pixels.index_select(0, index.flatten()).view(count, height * width, 3)
    planes = torch.empty((count, 3, height * width), device=device)
    return planes.copy_(found.permute(0, 2, 1)).view(count, 3, height, width)
