"""A camera or video through a detector: found, drawn, shown, recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from uhd.detect.nms import Rows
from uhd.errors import ConfigError
from uhd.image.files import write_picture
from uhd.infer.detector import Detector
from uhd.infer.overlay import HELP, drawn, status_text, write_lines
from uhd.infer.video import Frame, Recorder, Video
from uhd.infer.window import Controls, Window


@dataclass(frozen=True)
class Seen:
    """One frame: its number, seconds since the start (of a file: in it), milliseconds from frame to boxes."""

    number: int
    seconds: float
    latency_ms: float
    rows: Rows


@dataclass
class Summary:
    """What a stream gave. ``ended``: by itself, by a key, or by a signal."""

    frames: int = 0
    frames_with_boxes: int = 0
    boxes: int = 0
    seconds: float = 0.0
    latency_ms: float = 0.0
    ended: str = "end of the video"
    saved: list[str] = field(default_factory=list)

    def add(self, seen: Seen) -> None:
        self.frames += 1
        self.frames_with_boxes += bool(len(seen.rows))
        self.boxes += len(seen.rows)
        self.latency_ms += (seen.latency_ms - self.latency_ms) / self.frames


class Stream:
    """Runs a ``video`` through a ``detector``.

    ``window``: shown there, keys obeyed; ``recorder``: recorded; ``snapshots``: folder for pictures that the user
    saves; ``status``: speed and settings are written on frames (never with ``actual_size``).
    """

    def __init__(
        self,
        video: Video,
        detector: Detector,
        *,
        window: Window | None = None,
        recorder: Recorder | None = None,
        snapshots: Path = Path(),
        actual_size: bool = False,
        status: bool = True,
    ) -> None:
        self._video, self._detector = video, detector
        self._window, self._recorder = window, recorder
        self._snapshots, self._actual_size, self._status = snapshots, actual_size, status
        self._controls = Controls(detector)
        self._fps = 0.0
        self.summary = Summary()

    def run(
        self,
        tell: Callable[[Seen], None],
        asked: Callable[[], bool] = lambda: False,
        track: Callable[[Iterable[Frame]], Iterable[Frame]] = lambda frames: frames,
    ) -> Summary:
        """Until the video ends, the user quits, or ``asked`` says so; ``tell`` hears of each frame."""
        started = last = time.perf_counter()
        for number, frame in enumerate(track(self._video)):
            if asked():
                self.summary.ended = "interrupted"
                break
            now = time.perf_counter()
            rows = self._detector.rows([frame[..., ::-1]])[0]
            latency = time.perf_counter() - now
            gap, last = now - last, now
            if number:
                self._fps += (1 / max(gap, 1e-6) - self._fps) * (0.1 if number > 1 else 1)
            place = now - started if self._video.live else number / self._video.fps
            seen = Seen(number, place, latency * 1e3, rows)
            self.summary.add(seen)
            tell(seen)
            self._present(frame, rows, seen, gap if self._video.live else None)
            if self._controls.quit:
                self.summary.ended = "quit"
                break
        self.summary.seconds = time.perf_counter() - started
        return self.summary

    def _present(self, frame: Frame, rows: Rows, seen: Seen, gap: float | None) -> None:
        """Draw, record and show a frame; stays with it while paused."""
        if self._window is None and self._recorder is None:
            return
        picture = self._picture(frame, rows, seen)
        if self._recorder is not None:
            self._recorder.write(picture, gap)
        if self._window is None:
            return
        # A file is shown at its own speed, a camera as it comes.
        wait = 1 if self._video.live else max(1, round(1000 / self._video.fps - seen.latency_ms))
        while True:
            if self._controls.press(self._window.show(self._with_help(picture), wait)):
                picture = self._picture(frame, self._detector.rows([frame[..., ::-1]])[0], seen)
            if self._controls.save:
                self._save(picture)
            if self._controls.quit or not self._controls.paused:
                return
            wait = 30

    def _picture(self, frame: Frame, rows: Rows, seen: Seen) -> Frame:
        picture = drawn(frame, rows, self._detector, actual_size=self._actual_size)
        if self._status and not self._actual_size:
            write_lines(picture, [status_text(self._detector, seen.latency_ms, self._fps)])
        return picture

    def _with_help(self, picture: Frame) -> Frame:
        if not self._controls.help:
            return picture
        copy = picture.copy()
        write_lines(copy[copy.shape[0] // 3 :], HELP)  # below the status
        return copy

    def _save(self, picture: Frame) -> None:
        self._controls.save = False
        number = 1
        while (path := self._snapshots / f"snapshot_{number:03d}.png").exists():
            number += 1
        try:
            write_picture(path, picture)
        except OSError as error:
            raise ConfigError(f"{path}: cannot save there ({error.strerror})", hint="choose another --output") from None
        self.summary.saved.append(str(path))
