"""How fast the data path is."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

from uhd.train.augment.config import AugmentConfig
from uhd.train.batches import BatchMaker
from uhd.train.config import TrainConfig
from uhd.train.photos import PhotoStore


def time_data_path(
    store: PhotoStore, config: TrainConfig, *, augment: AugmentConfig | None = None, batches: int = 20, runs: int = 5
) -> dict[str, Any]:
    """Time ``BatchMaker.batch`` from photos in memory to network inputs and boxes, in the calling thread.

    ``images_per_second`` and ``images_per_second_median``: best and median of ``runs`` runs of ``batches`` batches, by
    the wall clock; ``images_per_cpu_second``: the best by the processor time of this thread (and torch's workers),
    which other programs on the machine do not change. On a GPU that figure says what the host spends.
    """
    maker = BatchMaker(store, config, augment)
    order = maker.order(0)
    while len(order) < config.batch_size:
        order = torch.cat([order, maker.order(1)])
    steps = max(1, len(order) // config.batch_size)
    device = store.pixels.device
    walls, processors = [], []
    maker.batch(order, 0, 0)
    for run in range(runs):
        _wait(device)
        wall, processor = time.perf_counter(), time.process_time()
        for number in range(batches):
            maker.batch(order, 0, (run * batches + number) % steps)
        _wait(device)
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    images = batches * config.batch_size
    return {
        "images_per_second": images / min(walls),
        "images_per_second_median": images / statistics.median(walls),
        "images_per_cpu_second": images / max(min(processors), 1e-9),
        "batch": config.batch_size,
        "size": list(config.input_size),
        "resize_mode": config.resize_mode,
        "photos": len(store),
        "threads": torch.get_num_threads(),
        "device": str(device),
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
