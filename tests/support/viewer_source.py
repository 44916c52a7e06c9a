"""A source of made-up events for the viewer: a window that moves over a generated street, at any rate."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

import cv2
import numpy as np

from uhd.bridge.events import (
    Config,
    Console,
    Device,
    Event,
    Fault,
    Image,
    Picture,
    Recording,
    Refused,
    State,
    StateName,
    Stats,
    Timeline,
)
from uhd.bridge.hub import Hub
from uhd.data.synthetic import make_scene

HASH = "3f9a7c2e51d84b06a1c0ffee5eed1234567890abcdef1234567890abcdef0123"
STEPS = 120  # places of the window; then it goes back
_STREET = (240, 800)
_WINDOW = 320


def make_device(**changes: Any) -> Device:
    """Who the made-up device is."""
    fields: dict[str, Any] = {
        "t": 0.0,
        "wall": time.time(),
        "name": "ultratinyod_r",
        "variant": "R",
        "target": "esp32s3",
        "backend": "esp-dl",
        "model_hash": HASH,
        "protocol_version": 3,
        "class_names": ["person"],
        "input": {"height": 64, "width": 64, "channels": 2},
        "camera": {"format": "YUYV", "width": 320, "height": 240},
        "faults": [],
        "reset_reason": "POWER_ON",
        "score_threshold": 0.3,
        "nms_iou": 0.5,
        "espdl_size": 159_744,
        "arena_size": 24_864,
        "accuracy": [
            {"engine": "onnx", "data": "coco-voc-val", "images": 960, "map50": 0.226, "map50_95": 0.0904},
            {"engine": "twin", "data": "coco-voc-val", "images": 960, "map50": 0.219, "map50_95": 0.0844},
        ],
        "resize_mode": "yuv422",
    }
    return Device(**{**fields, **changes})


class Street:
    """Views of a generated street: the pixels (RGB, 64 x 64) and the boxes [class, cx, cy, w, h] of each place."""

    def __init__(self, seed: int = 10, side: int = 64) -> None:
        rgb, boxes = make_scene(seed, _STREET, max_people=9)
        self.views: list[tuple[Image, tuple[tuple[int, float, float, float, float], ...]]] = []
        for step in range(STEPS):
            left = round((_STREET[1] - _WINDOW) * step / (STEPS - 1))
            view = cv2.resize(rgb[:, left : left + _WINDOW], (side, side), interpolation=cv2.INTER_AREA)
            image = Image("rgb", np.ascontiguousarray(view).tobytes(), side, side)
            self.views.append((image, tuple(self._seen(boxes, left))))

    @staticmethod
    def _seen(boxes: Any, left: int) -> Any:
        for cls, cx, cy, w, h in boxes.tolist():
            x = (cx * _STREET[1] - left) / _WINDOW
            if 0.05 < x < 0.95:
                yield int(cls), x, cy, w * _STREET[1] / _WINDOW, h

    def at(self, number: int) -> Any:
        """The view of a picture; there and back."""
        place = number % (2 * STEPS - 2)
        return self.views[place if place < STEPS else 2 * STEPS - 2 - place]


@cache
def street() -> Street:
    """The one street of all sources: drawing it takes a while."""
    return Street()


class SceneSource:
    """A device that shows a street. Tests turn it off and on, and read what it was told in ``commands``.

    ``fixed``: boxes that every picture has, with the score at the first place, instead of the street's own.
    ``length``: seconds of a recording that is played, 0 for a live device.
    """

    def __init__(
        self, *, fps: float = 60.0, fixed: tuple[Any, ...] | None = None, truth: bool = False, length: float = 0.0
    ) -> None:
        self.fps, self.fixed, self.truth, self.length = fps, fixed, truth, length
        self.done = threading.Event()
        self.commands: list[dict[str, Any]] = []
        self.device = make_device()
        self.config = Config(0.3, 0.5, 1, 1)
        self.paused, self.steps, self.number, self.position = False, 0, 0, 0.0
        self.faults = 0
        self._state: StateName = "connecting"
        self._street = street()
        self._hub: Hub | None = None
        self._began = time.monotonic()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scene source", daemon=True)

    @property
    def t(self) -> float:
        return self.position if self.length else time.monotonic() - self._began

    def start(self, hub: Hub) -> None:
        self._hub = hub
        self._began = time.monotonic()
        self.publish(self.device)
        self.publish(self.config)
        self._stats()
        self.set_state("ready", "synthetic street")
        if self.length:
            self._timeline()
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()

    def publish(self, event: Event) -> None:
        assert self._hub is not None
        self._hub.publish(event)

    def set_state(self, state: StateName, text: str) -> None:
        """Say how things stand; pictures come only while ``ready``."""
        self._state = state
        self.publish(State(self.t, time.time(), state, text, "/dev/ttyACM0"))

    def fault(self, code: int, name: str, text: str, stands: bool = True) -> None:
        """A fault begins or is over."""
        self.faults = self.faults | 1 << (code - 32) if stands else self.faults & ~(1 << (code - 32))
        self.publish(Fault(self.t, time.time(), name, code, text, stands))

    def say(self, text: str) -> None:
        """A line of the device's console."""
        self.publish(Console(self.t, time.time(), text))

    def command(self, command: Mapping[str, Any]) -> Event | None:
        self.commands.append(dict(command))
        do = command["do"]
        if do == "configure":
            names = ("score_threshold", "nms_iou")
            given = {name: round(command[name] * 65535) / 65535 for name in names if name in command}
            self.config = Config(**{**vars(self.config), **given})
            self.publish(self.config)
        elif do == "pause":
            self.paused = bool(command["on"])
            if self.length:
                self._timeline()
        elif do == "step":
            self.steps += 1
        elif do == "record":
            self.publish(Recording(bool(command["on"]), "recordings/street.uhdr"))
        elif do == "seek" and self.length:
            self.position = float(command["t"])
            self.steps += self.paused
            self.set_state("ready", "synthetic street")
            self._timeline()
        elif do == "speed" and self.length:
            self._timeline(float(command["factor"]))
        else:
            return Refused(f"this source cannot {do}")
        return None

    def _timeline(self, speed: float = 1.0) -> None:
        self.publish(Timeline(self.position, self.length, not self.paused, speed))

    def _run(self) -> None:
        due = second = time.monotonic()
        while not self._end.wait(max(0.0, due - time.monotonic())):
            due = max(due + 1 / self.fps, time.monotonic() - 0.1)
            if self._state == "ready" and (not self.paused or self.steps):
                self.steps = max(0, self.steps - 1)
                self._picture()
            if time.monotonic() >= second:
                second += 1
                self._stats()

    def _picture(self) -> None:
        self.number += 1
        if self.length:
            self.position += 1 / self.fps
            if self.position >= self.length:
                self.position = self.length
                self.set_state("ended", "the recording has ended")
        image, people = self._street.at(self.number)
        boxes = self.fixed if self.fixed is not None else tuple(self._found(people))
        wobble = 1 + 0.06 * math.sin(self.number / 7) + (0.3 if self.number % 53 == 0 else 0.0)
        times = {"receive_us": 3900, "preprocess_us": 2100, "inference_us": 10_400, "decode_us": 520}
        timing = {name: round(value * wobble) for name, value in times.items()} | {"timestamp_us": round(self.t * 1e6)}
        threshold = self.config.score_threshold
        kept = tuple(box for box in boxes if box[0] >= threshold)
        truth = people if self.truth else None
        photo = f"street_{self.number % STEPS:03d}.png" if self.truth else None
        frame_id = self.number if self.truth else (1 << 31) + self.number
        source = "host" if self.truth else "camera"
        self.publish(Picture(self.t, time.time(), frame_id, source, kept, 3 * len(kept), timing, photo, truth, image))

    def _found(self, people: Any) -> Any:
        """The people as a detector might find them: a little off, with scores that come and go."""
        found = []
        for cls, cx, cy, w, h in people:
            phase = self.number / 23 + 9 * w + 5 * h
            score = 0.58 + 0.24 * math.sin(phase) + 0.12 * math.sin(3.1 * phase)
            grow = 1 + 0.06 * math.sin(phase * 2)
            found.append((min(0.97, max(0.05, score)), cls, cx + 0.008 * math.sin(phase), cy, w * grow, h * grow))
        return sorted(found, reverse=True)

    def _stats(self) -> None:
        fps = 0.0 if self.paused or self._state != "ready" else self.fps
        device = {
            "uptime_us": round((time.monotonic() - self._began + 3725) * 1e6),
            "memory_used": 61_440,
            "memory_size": 98_304,
            "heap_free": 148_212,
            "heap_low_water": 131_072,
            "faults": self.faults,
            "dropped_bytes": 0,
            "camera_captured": self.number + 3,
            "camera_dropped": 3,
            "camera_inferences": self.number,
            "frames_received": 14,
            "crc_errors": 0,
            "inferences": self.number,
        }
        host = {
            "frames": self.number,
            "lost": 0,
            "crc_errors": 0,
            "malformed": 0,
            "retries": 0,
            "restarts": 0,
            "stale": 0,
        }
        self.publish(Stats(self.t, time.time(), device, host, fps))
