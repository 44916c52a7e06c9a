"""Calibration pictures, several at a time where that changes nothing. Imported by the quantizing process only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from esp_ppq.executor import TorchExecutor
from numpy.typing import NDArray

#: Pictures at once. Beyond, nothing is gained.
BATCH = 16
#: What sums up over pictures: smallest and largest values, and histograms between them. The others take means of
#: something over a batch, so that batches of another size give another grid.
ADDITIVE = frozenset({"minmax", "kl", "mse"})
#: By how much a map may change by being computed beside others, relative to its largest value or 1.
_TOLERANCE = 1e-4


def set_batch(graph: Any, count: int) -> None:
    """Make ``graph`` ready for ``count`` pictures at once: a Resize holds its size as a constant."""
    for operation in graph.operations.values():
        if operation.type == "Resize" and len(operation.inputs) == 4:
            sizes = operation.inputs[3]
            for tensor in (sizes.value, getattr(sizes, "stored_value", None)):
                if tensor is not None and len(tensor):
                    tensor[0] = count


def takes_batches(graph: Any, pictures: NDArray[np.float32]) -> bool:
    """Whether a float graph gives for two pictures at once what it gives for each; some hold other constants of one."""
    if len(pictures) < 2:
        return False
    two = torch.from_numpy(pictures[:2].copy())
    executor = TorchExecutor(graph=graph, device="cpu")
    single = [executor.forward(inputs=[picture[None]]) for picture in two]
    set_batch(graph, 2)
    try:
        together = executor.forward(inputs=[two])
    except Exception:  # whatever an operator says of a shape it did not expect
        return False
    finally:
        set_batch(graph, 1)
    return all(
        both.shape == torch.Size([2, *one.shape[1:]]) and _near(both[index : index + 1], one)
        for index, maps in enumerate(single)
        for both, one in zip(together, maps, strict=True)
    )


def _near(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool((a - b).abs().max() <= _TOLERANCE * max(1.0, float(b.abs().max())))


class Batches:
    """The pictures in order, ``size`` at a time and the rest at last, as often as esp-ppq asks.

    ``graph`` is made ready for each batch; ``report`` is called with the number of pictures before each.
    """

    def __init__(self, graph: Any, pictures: NDArray[np.float32], size: int, report: Callable[[int], None]) -> None:
        self._graph, self._report = graph, report
        self._parts = list(torch.from_numpy(pictures.copy()).split(size))

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[torch.Tensor]:
        for part in self._parts:
            self._report(len(part))  # before, not after: esp-ppq drops the iterator with the last batch in hand
            set_batch(self._graph, len(part))
            yield part
