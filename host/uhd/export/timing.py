"""How long ONNX files take, side by side: on a machine that others use too, only such times can be compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime

from uhd.export.verify import open_session

_WARM_UP = 10


@dataclass(frozen=True)
class Times:
    """Milliseconds of one file: the median and the least of all runs. ``ratio``: median of its time over that of the
    first file in the same round."""

    median: float
    least: float
    ratio: float


def time_files(models: Mapping[str, bytes], rounds: int = 300, size: tuple[int, int] = (64, 64)) -> dict[str, Times]:
    """Run all models in turn, ``rounds`` times forth and back, on noise and one thread each.

    ``size`` is the height and width for inputs that take any. Raises ``ModelError`` for a file that does not run.
    """
    calls = [_call(open_session(data, name), size) for name, data in models.items()]
    for session, feed in calls:
        for _ in range(_WARM_UP):
            session.run(None, feed)
    columns: list[list[float]] = [[] for _ in calls]
    for number in range(rounds):
        # Forth and back: who comes after whom has a share in the time.
        order = range(len(calls)) if number % 2 == 0 else reversed(range(len(calls)))
        for index in order:
            session, feed = calls[index]
            started = time.perf_counter()
            session.run(None, feed)
            columns[index].append(1000 * (time.perf_counter() - started))
    return {
        name: Times(
            statistics.median(column),
            min(column),
            statistics.median(own / first for own, first in zip(column, columns[0], strict=True)),
        )
        for name, column in zip(models, columns, strict=True)
    }


def _call(session: onnxruntime.InferenceSession, size: tuple[int, int]) -> tuple[Any, dict[str, Any]]:
    value = session.get_inputs()[0]
    wanted = (1, 3, *size)
    shape = [given if isinstance(given, int) else other for given, other in zip(value.shape, wanted, strict=True)]
    return session, {value.name: np.random.default_rng(0).random(shape, dtype=np.float32)}
