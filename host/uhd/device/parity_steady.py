"""A device that outlives its link: what fails is sent again, what was unplugged is opened again."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.device.counters import line_counters
from uhd.device.detectors import Detection, DeviceDetector
from uhd.device.frames import CameraFrame
from uhd.errors import DeviceError

#: Seconds between two tries to open a port that is not there.
_PAUSE = 0.2


class PhotoLost(DeviceError):
    """One photo did not get through in all its attempts. ``link``: what they took."""

    def __init__(self, message: str, link: dict[str, int]) -> None:
        super().__init__(message)
        self.link = link


class DeviceGone(DeviceError):
    """The device did not come back."""

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="plug it in again and go on with --resume")


class SteadyDevice:
    """A detector on a device, as a context manager. ``connect`` opens a ``DeviceDetector``; the first time it must.

    ``attempts``: how often one picture is tried; after each failure the link is closed and opened anew, for which
    ``patience`` seconds are given. ``link`` of a detection counts ``attempts``, ``reconnects`` and what the client and
    its decoder counted meanwhile. ``note`` hears of every failure.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], AbstractContextManager[Any]],
        *,
        attempts: int = 3,
        patience: float = 60.0,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.name = name
        self._connect, self._attempts, self._patience, self._note = connect, attempts, patience, note
        self._open = contextlib.ExitStack()
        self._detector: DeviceDetector | None = None

    def __enter__(self) -> SteadyDevice:
        self._enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def detect(self, network_input: NDArray[np.uint8]) -> Detection:
        """See ``Detector``. Raises ``PhotoLost`` or ``DeviceGone``."""
        return self._ask(lambda detector: detector.detect(network_input))

    def detect_frame(self, frame: CameraFrame) -> Detection:
        """See ``FrameDetector``. Raises ``PhotoLost`` or ``DeviceGone``."""
        return self._ask(lambda detector: detector.detect_frame(frame))

    def stats(self) -> dict[str, int] | None:
        """The device's counters since its boot, or None if it does not answer."""
        try:
            return dict(self._detector.client.stats()) if self._detector else None
        except DeviceError:
            return None

    def _ask(self, ask: Callable[[DeviceDetector], Detection]) -> Detection:
        link: Counter[str] = Counter()
        for attempt in range(1, self._attempts + 1):
            link["attempts"] += 1
            detector = self._detector or self._reopened(link)
            before = _counted(detector)
            try:
                detection = ask(detector)
                link += _counted(detector) - before
                return replace(detection, link=dict(link))
            except DeviceError as error:
                link += _counted(detector) - before
                self._note(f"attempt {attempt} of {self._attempts}: {error}")
                self._leave()
                last = error
        raise PhotoLost(f"{last} ({self._attempts} attempts)", dict(link))

    def _enter(self) -> DeviceDetector:
        with contextlib.ExitStack() as stack:
            detector: DeviceDetector = stack.enter_context(self._connect())
            self._open = stack.pop_all()
        self._detector = detector
        return detector

    def _leave(self) -> None:
        self._detector = None
        with contextlib.suppress(DeviceError, OSError):  # of a link that is gone there is nothing to put in order
            self._open.close()

    def _reopened(self, link: Counter[str]) -> DeviceDetector:
        end = time.monotonic() + self._patience
        while True:
            try:
                detector = self._enter()
            except DeviceError as error:
                if time.monotonic() >= end:
                    raise DeviceGone(f"{error} (for {self._patience:g} s)") from None
                time.sleep(_PAUSE)
            else:
                link["reconnects"] += 1
                return detector


def _counted(detector: DeviceDetector) -> Counter[str]:
    """All counters of the host's side of a link, by name."""
    connection = detector.client.connection
    counters = asdict(connection.counters) | asdict(connection.decoder.counters)
    counters["frames_missing"] = counters.pop("lost")  # of the device's frames, not of photos
    for direction, line in line_counters(connection.port).items():
        counters |= {f"{direction}, {name}": count for name, count in line.items()}
    return Counter({name: value for name, value in counters.items() if isinstance(value, int)})
