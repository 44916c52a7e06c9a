"""How long a step's assignment and loss take, forward and backward down to the head's maps."""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor

from uhd.train.losses.anchor import AnchorLoss, AnchorLossSettings
from uhd.train.losses.parts import LossMode
from uhd.train.losses.ranked import DetectionLoss, RankedSettings
from uhd.train.targets import Targets

_ANCHORS = ((0.09, 0.18), (0.14, 0.32), (0.21, 0.5), (0.34, 0.42), (0.3, 0.7), (0.48, 0.8), (0.72, 0.6), (0.85, 0.9))


def example(
    batch: int, side: int = 8, anchors: int = len(_ANCHORS), objects: float = 3.0, seed: int = 0
) -> tuple[dict[str, Tensor], Targets]:
    """Maps of a half-trained head, channels last as on the CPU, and about ``objects`` objects an image."""
    generator = torch.Generator().manual_seed(seed)

    def part(fields: int, mean: float, spread: float) -> Tensor:
        values = torch.randn(batch, fields * anchors, side, side, generator=generator) * spread + mean
        return values.contiguous(memory_format=torch.channels_last).requires_grad_()

    maps = {
        "box": part(4, 0.3, 0.8),
        "obj": part(1, -4.0, 1.5),
        "quality": part(1, -2.0, 1.5),
        "cls": part(1, 0.0, 1.5),
    }
    count = round(batch * objects)
    image = torch.randint(batch, (count,), generator=generator).sort().values
    size = torch.rand(count, 2, generator=generator) * 0.6 + 0.06
    centre = size / 2 + torch.rand(count, 2, generator=generator) * (1 - size)
    return maps, Targets(image, torch.zeros_like(image), torch.cat([centre, size], 1))


def time_losses(
    batch: int = 64,
    *,
    side: int = 8,
    objects: float = 3.0,
    runs: int = 200,
    threads: int = 1,
    mode: LossMode = "default",
) -> dict[str, float]:
    """Milliseconds a step of the losses ``aligned``, ``legacy`` and ``simota``, on one CPU thread.

    A name alone is the fastest of ``runs`` steps, which other programs disturb least; ``*_median`` is the median, and
    ``*_cpu`` the least CPU time of this thread (with one thread: what an idle machine would need at most). The losses
    take turns, so that a busy moment meets all of them. ``mode`` is that of ``legacy`` and ``simota``.
    """
    anchors = torch.tensor(_ANCHORS)
    maps, targets = example(batch, side, objects=objects)
    kinds: dict[str, DetectionLoss | AnchorLoss] = {
        "aligned": DetectionLoss(RankedSettings(), "quality_cls"),
        "legacy": AnchorLoss(AnchorLossSettings(loss_mode=mode, iou_loss="ciou", anchor_assigner="legacy")),
        "simota": AnchorLoss(AnchorLossSettings(loss_mode=mode, iou_loss="ciou", anchor_assigner="simota")),
    }
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    spent: dict[str, list[float]] = {name: [] for name in kinds}
    cpu: dict[str, list[float]] = {name: [] for name in kinds}
    try:
        for turn in range(-(-runs // 10) + 1):
            for name, loss in kinds.items():
                for _ in range(10):
                    scale = torch.ones_like(anchors, requires_grad=True)
                    for part in maps.values():
                        part.grad = None
                    started, own = time.perf_counter(), time.thread_time()
                    loss(maps, anchors, scale, targets).total.backward()  # type: ignore[no-untyped-call]
                    if turn:  # the first turn warms up
                        spent[name].append(1000 * (time.perf_counter() - started))
                        cpu[name].append(1000 * (time.thread_time() - own))
    finally:
        torch.set_num_threads(before)
    result = {name: min(times) for name, times in spent.items()}
    result |= {f"{name}_median": statistics.median(times) for name, times in spent.items()}
    return result | {f"{name}_cpu": min(times) for name, times in cpu.items()}
