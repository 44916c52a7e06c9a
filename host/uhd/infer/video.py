"""Frames from cameras and video files, and films written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

import uhd.image.files  # noqa: F401 - quietens OpenCV
from uhd.errors import ConfigError, DataError
from uhd.files import atomic_path

Frame = NDArray[np.uint8]
"""BGR uint8 [H,W,3], as OpenCV has it."""

#: Frames a second where a camera does not say it.
USUAL_FPS = 30.0
_CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".avi": "MJPG"}


class Video:
    """A camera (by number), or a video file or stream, as an iterable of frames. ``count``: None where unknown."""

    def __init__(self, source: str) -> None:
        """Raises ``DataError`` where nothing opens or nothing can be read."""
        self.source = source
        self.live = source.isdigit()
        if not self.live and "://" not in source and not Path(source).is_file():
            raise DataError(f"{source}: no such video file", hint="give a camera's number, such as 0, or a video file")
        self._capture = cv2.VideoCapture(int(source) if self.live else source)
        if self.live:
            self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest frame rather than the next
        good, first = self._capture.read() if self._capture.isOpened() else (False, None)
        if not good or first is None:
            self._capture.release()
            if self.live:
                raise DataError(
                    f"camera {source} cannot be opened",
                    hint="check that it is plugged in and free; on Linux `ls /dev/video*` lists them; "
                    "a video file can be given instead",
                )
            raise DataError(f"{source}: not a video, or damaged", hint="convert it to MP4 with H.264 or MPEG-4")
        self._first: Frame | None = np.asarray(first, np.uint8)
        self.height, self.width = self._first.shape[:2]
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(rate) if 1 <= rate <= 1000 else USUAL_FPS
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.count = count if count > 0 and not self.live else None

    def __iter__(self) -> Iterator[Frame]:
        try:
            frame: Frame | None = self._first
            self._first = None
            while frame is not None:
                yield frame
                good, read = self._capture.read()
                frame = np.asarray(read, np.uint8) if good else None
        finally:
            self._capture.release()


class Recorder:
    """Writes a film, which is complete whenever the context ends, by an error too. ``frames`` were written.

    The codecs want even sizes: of an odd one the last row or column is missing.
    """

    def __init__(self, path: Path, fps: float) -> None:
        """Raises ``ConfigError`` for an ending that is no film's."""
        if path.suffix.lower() not in _CODECS:
            raise ConfigError(f"{path}: no film format", hint=f"end the name in {' or '.join(_CODECS)}")
        self.path, self.fps = path, fps
        self.frames = 0
        self._owed = 0.0
        self._stack = ExitStack()
        self._writer: cv2.VideoWriter | None = None

    def write(self, frame: Frame, seconds: float | None = None) -> None:
        """Add a frame. ``seconds`` since the last one: it is repeated or left out so that the film runs at real speed.

        Raises ``ConfigError`` where nothing can be written.
        """
        if self._writer is None:
            self._writer = self._open(frame.shape[1], frame.shape[0])
            seconds = None
        self._owed += 1 if seconds is None else seconds * self.fps
        while self._owed >= 1:
            self._writer.write(frame)
            self.frames += 1
            self._owed -= 1

    def _open(self, width: int, height: int) -> cv2.VideoWriter:
        try:
            temporary = self._stack.enter_context(atomic_path(self.path))
        except OSError as error:
            raise ConfigError(
                f"{self.path}: cannot record there ({error.strerror})", hint="choose another place with --record"
            ) from None
        codec = cv2.VideoWriter.fourcc(*_CODECS[self.path.suffix.lower()])
        writer = cv2.VideoWriter(str(temporary), codec, self.fps, (width, height))
        if not writer.isOpened():
            temporary.unlink()
            raise ConfigError(f"{self.path}: OpenCV cannot write films of {width}x{height} pixels here")
        return writer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.release()
            self._writer = None
            self._stack.close()
