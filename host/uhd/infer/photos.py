"""Many photos through a detector, several at a time, in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.detect.nms import Rows
from uhd.errors import DataError
from uhd.infer.detector import Detector
from uhd.infer.inputs import Photo

#: Photos that one thread reads before the model runs on them.
CHUNK = 8

Then = Callable[[Photo, NDArray[np.uint8], Rows], Any]


@dataclass(frozen=True)
class Found:
    """What a photo shows: ``rows`` as of ``Detector.rows``, ``size`` (height, width); or why it could not be read."""

    photo: Photo
    rows: Rows
    size: tuple[int, int]
    problem: str = ""


def find_on_photos(
    detector: Detector, photos: Sequence[Photo], then: Then | None = None, *, threads: int | None = None
) -> Iterator[Found]:
    """What each photo shows, in order. Reading, running and ``then`` (of photo, picture, rows) happen in threads.

    A photo that cannot be read is found with its problem; errors of ``then`` end the run. At most a few chunks of
    photos are in memory.
    """
    threads = threads or min(8, os.cpu_count() or 1)
    chunks = [photos[start : start + CHUNK] for start in range(0, len(photos), CHUNK)]
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[list[Found]]] = deque()
    try:
        for chunk in chunks:
            waiting.append(pool.submit(_chunk, detector, chunk, then))
            if len(waiting) > 2 * threads:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _chunk(detector: Detector, photos: Sequence[Photo], then: Then | None) -> list[Found]:
    pictures: dict[int, NDArray[np.uint8]] = {}
    found: dict[int, Found] = {}
    for index, photo in enumerate(photos):
        try:
            pictures[index] = photo.read()
        except DataError as error:
            found[index] = Found(photo, np.zeros((0, 6), np.float32), (0, 0), str(error))
    for (index, picture), rows in zip(pictures.items(), detector.rows(list(pictures.values())), strict=True):
        if then is not None:
            then(photos[index], picture, rows)
        found[index] = Found(photos[index], rows, (picture.shape[0], picture.shape[1]))
    return [found[index] for index in range(len(photos))]
