"""Mean average precision from a recording: the boxes in it against the labels noted in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uhd.bridge.events import Picture
from uhd.bridge.recording_reader import RecordingReader
from uhd.bridge.translate import Translator
from uhd.detect.coco import MapResult, evaluate
from uhd.errors import DataError


@dataclass(frozen=True)
class RecordedMap:
    """``photos`` with labels and results; ``missing``: photos whose results are not in the recording, left out."""

    result: MapResult
    photos: int
    missing: int


def map_of_recording(reader: RecordingReader) -> RecordedMap:
    """The mAP as parity measures it: every labelled photo once, the latest results of it.

    Raises ``DataError`` where the recording holds no labelled photo with a box.
    """
    translator = Translator(0.0, images=lambda: False)
    truth: dict[str, tuple[tuple[int, int], NDArray[np.float64]]] = {}
    found: dict[str, NDArray[np.float64]] = {}
    for place, record in reader.records():
        try:
            told = translator.take(record)
        except DataError as error:
            raise DataError(f"{reader.path}: at byte {place}: {error}") from None
        photo = translator.photo
        if photo and photo.truth is not None and photo.name not in truth:
            truth[photo.name] = (photo.height, photo.width), np.array(photo.truth, np.float64).reshape(-1, 5)
        for event in told:
            if isinstance(event, Picture) and event.photo is not None:
                found[event.photo] = np.array(event.boxes, np.float64).reshape(-1, 6)
    used = [name for name in truth if name in found]
    if not any(len(truth[name][1]) for name in used):
        raise DataError(
            f"{reader.path}: no results of photos with labelled boxes are in it",
            hint="record with `bridge --photos DIR --record FILE`, labels beside the photos",
        )
    result = evaluate([truth[name] for name in used], [found[name] for name in used])
    return RecordedMap(result, len(used), len(truth) - len(used))
