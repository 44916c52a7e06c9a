"""How long mAP takes."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.detect.coco import GroundTruth, evaluate


def bench_case(images: int, detections: int, seed: int = 0) -> tuple[list[GroundTruth], list[NDArray[Any]]]:
    """Random boxes (0 to 7 an image, one class) and ``detections`` rows an image: three near each box, else noise."""
    rng = np.random.default_rng(seed)
    truth: list[GroundTruth] = []
    found: list[NDArray[Any]] = []
    for _ in range(images):
        count = min(int(rng.integers(0, 8)), detections // 3)
        boxes = np.zeros((count, 5))
        boxes[:, 1:3], boxes[:, 3:] = rng.uniform(0.1, 0.9, (count, 2)), rng.uniform(0.02, 0.5, (count, 2))
        rows = np.zeros((detections, 6))
        rows[:, 0] = rng.uniform(0, 1, detections)
        rows[:, 2:4], rows[:, 4:] = rng.uniform(0.1, 0.9, (detections, 2)), rng.uniform(0.02, 0.5, (detections, 2))
        rows[: 3 * count, 2:] = np.repeat(boxes[:, 1:], 3, axis=0) * rng.normal(1, 0.1, (3 * count, 4))
        truth.append(((480, 640), boxes))
        found.append(rows)
    return truth, found


def time_map(images: int = 1000, detections: int = 100, repeats: int = 5) -> dict[str, float]:
    """Seconds of ``evaluate`` on ``images`` with ``detections`` each: ``median`` and ``best`` of ``repeats`` runs.

    ``cpu_seconds`` is the least processor time of a run, of all its threads, without the machine's other work.
    """
    truth, found = bench_case(images, detections)
    seconds, cpu = [], []
    for _ in range(repeats):
        started, cpu_started = time.perf_counter(), time.process_time()
        evaluate(truth, found)
        seconds.append(time.perf_counter() - started)
        cpu.append(time.process_time() - cpu_started)
    return {
        "images": images,
        "detections_per_image": detections,
        "repeats": repeats,
        "median_seconds": float(np.median(seconds)),
        "best_seconds": min(seconds),
        "cpu_seconds": min(cpu),
    }
