"""A loss or gradient that is not finite ends the run before it spoils the weights, and leaves the batch for study."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uhd.errors import UhdError
from uhd.files import atomic_path
from uhd.train.batches import Batch

NAN_BATCH = "nan_batch.npz"

#: Steps between looks on a device where looking means waiting for it.
PATIENCE = 32


class Guard:
    """Remembers the parts of each step's loss until the next look, so that a GPU need not be waited for every step."""

    def __init__(self, device: torch.device, folder: Path, rank: int = 0) -> None:
        self.patience = 1 if device.type == "cpu" else PATIENCE
        self.path = folder / (f"nan_batch_{rank}.npz" if rank else NAN_BATCH)
        self._pending: list[tuple[int, Tensor]] = []
        self._names: tuple[str, ...] = ()

    def watch(self, step: int, parts: Mapping[str, Tensor]) -> None:
        """Note the ``parts`` (scalars, among them the gradient's norm) of ``step``."""
        self._names = tuple(parts)
        self._pending.append((step, torch.stack([value.detach().float() for value in parts.values()])))

    def look(self, epoch: int, remake: Callable[[int], Batch], *, now: bool = False) -> None:
        """Raise ``UhdError`` if a noted step was not finite; ``epoch`` from 0, ``remake`` gives a step's batch again.

        The batch is written to ``nan_batch.npz`` in the run folder. Looks every ``patience`` steps, or ``now``.
        """
        if not self._pending or (len(self._pending) < self.patience and not now):
            return
        pending, self._pending = self._pending, []
        finite = torch.stack([parts for _, parts in pending]).isfinite().cpu()
        if bool(finite.all()):
            return
        place = int((~finite.all(1)).nonzero()[0])
        step, parts = pending[place]
        bad = [name for name, good in zip(self._names, finite[place].tolist(), strict=True) if not good]
        values = dict(zip(self._names, parts.tolist(), strict=True))
        what = ", ".join(name for name in bad if name != "loss") or "loss"
        where = f"epoch {epoch + 1}, step {step + 1}"
        try:
            path = save_batch(self.path, remake(step), epoch, step, values)
            kept = f"the batch is in {path}"
        except OSError as error:
            kept = f"the batch could not be written ({error.strerror})"
        raise UhdError(
            f"{what} not finite in {where}; {kept}", hint="lower --lr; the last good state is kept for --resume"
        )


def save_batch(path: Path, batch: Batch, epoch: int, step: int, values: Mapping[str, float]) -> Path:
    """Write a batch as ``.npz``: ``images``, the targets' fields, ``epoch`` and ``step`` (from 1), ``loss_*``."""
    arrays: dict[str, Any] = {"images": batch.images.detach().float().cpu().numpy()}
    for field in dataclasses.fields(batch.targets):
        value = getattr(batch.targets, field.name)
        if isinstance(value, Tensor):
            arrays[field.name] = value.cpu().numpy()
    arrays |= {f"loss_{name}": np.float32(value) for name, value in values.items()}
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, epoch=epoch + 1, step=step + 1, **arrays)
    return path
