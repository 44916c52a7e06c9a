"""How fast training is on this machine, from photos in memory to updated weights."""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch

from uhd.train.batches import Batch
from uhd.train.config import TrainConfig
from uhd.train.photos import PhotoStore
from uhd.train.prefetch import Prefetcher
from uhd.train.trainer import Trainer


def describe_machine(device: torch.device) -> str:
    """Processor, threads, GPU and torch in one line."""
    gpu = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    name = _processor()
    return f"{os.cpu_count()} CPUs ({name}), {torch.get_num_threads()} threads{gpu}, torch {torch.__version__}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


class Utilisation:
    """As a context: the mean share of time in which the GPU was busy, as its driver counts it; ``None`` on the CPU."""

    def __init__(self, device: torch.device, every: float = 0.05) -> None:
        self.device, self.every = device, every
        self.samples: list[int] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.samples) / 100 if self.samples else None

    def __enter__(self) -> Utilisation:
        if self.device.type == "cuda":
            self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self.every):
            try:
                self.samples.append(torch.cuda.utilization(self.device))
            except (ModuleNotFoundError, RuntimeError):  # without the driver's library there is nothing to read
                return


def time_training(store: PhotoStore, config: TrainConfig, device: str, *, steps: int = 20) -> dict[str, Any]:
    """Time whole steps of training, batches made ahead as in a run: photos in memory to updated, averaged weights.

    ``images_per_second`` is that of the fastest step and ``images_per_second_median`` of the median one; on a GPU,
    where steps overlap, both are those of all steps together. ``images_per_cpu_second``: by the processor time of
    this process, which other programs do not change.
    """
    where = torch.device(device)
    with tempfile.TemporaryDirectory(prefix="uhd-bench-") as folder:
        trainer = Trainer(config, store, store, Path(folder) / "run", device=device)
    order = trainer.batches.order(0)
    learner, spent = trainer.learner, []
    trainer.model.train()
    warm = 3

    def make(step: int) -> Batch:
        return trainer.batches.batch(order, 0, step % trainer.steps)

    with Prefetcher(make, 0, warm + steps, device=where) as batches:
        made = iter(batches)
        for number in range(warm):
            learner.learn(next(made), number)
        _wait(where)
        processor, started = time.process_time(), time.perf_counter()
        with Utilisation(where) as utilisation:
            for number, batch in enumerate(made, start=warm):
                before = time.perf_counter()
                learner.learn(batch, number)
                spent.append(time.perf_counter() - before)
            _wait(where)
        whole, processor = time.perf_counter() - started, time.process_time() - processor
    count = trainer.batch_count
    together = count * steps / whole
    best, median = (count / min(spent), count / statistics.median(spent)) if where.type == "cpu" else (together,) * 2
    return {
        "variant": config.variant,
        "batch": count,
        "steps": steps,
        "device": device,
        "precision": str(learner.precision.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "images_per_second": best,
        "images_per_second_median": median,
        "images_per_second_overall": together,
        "images_per_cpu_second": count * steps / max(processor, 1e-9),
        "utilisation": utilisation.mean,
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
