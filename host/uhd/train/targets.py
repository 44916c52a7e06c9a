"""The objects of a batch, as losses and augmentation pass them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Targets:
    """Objects of a batch, flat: ``image`` [T] int64 (index in the batch), ``label`` [T] int64, ``boxes`` [T,4]."""

    image: Tensor
    label: Tensor
    boxes: Tensor

    def to(self, device: torch.device | str) -> Targets:
        return Targets(self.image.to(device), self.label.to(device), self.boxes.to(device))

    def __len__(self) -> int:
        return len(self.image)
