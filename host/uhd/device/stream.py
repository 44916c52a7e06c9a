"""The results of a device's own camera, as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np

from uhd.device.connection import Connection, SessionLost
from uhd.device.messages import CODES, LIMITS, Message
from uhd.device.results import DeviceInfo, Result, Tensor, Wanted, result
from uhd.errors import DeviceError

_CAMERA_FRAMES = LIMITS["CAMERA_FRAMES"][0]
_FIRST_FAULT = LIMITS["FIRST_FAULT"][0]
_NO_SESSION = CODES["ErrorCode"]["NO_SESSION"]


class Stream:
    """Puts the messages of one picture together. ``lost`` counts pictures whose results did not all arrive.

    ``wanted``: what the device is configured to send; asked anew for each picture, since that may change in between.
    """

    def __init__(self, connection: Connection, info: DeviceInfo, wanted: Callable[[], Wanted]) -> None:
        self._connection, self._info, self._wanted = connection, info, wanted
        self._outputs: dict[int, Tensor] = {}
        self._thumbnail: Tensor | None = None
        self._timing: Message | None = None
        self._frame_id = self._last = 0
        self.lost = 0

    def results(self, timeout: float) -> Iterator[Result]:
        """Results without end. Raises ``DeviceError`` when none comes for ``timeout`` seconds, ``SessionLost`` after a
        restart of the device.
        """
        deadline = time.monotonic() + timeout
        while True:
            message = self._connection.receive(deadline)
            if message is None:
                raise DeviceError(
                    f"{self._connection.port.name}: no picture of its camera for {timeout:g} s",
                    hint="its console and `doctor` tell more; a device without a camera takes pictures from the host",
                )
            made = self._take(message)
            if made is not None:
                deadline = time.monotonic() + timeout
                yield made

    def _take(self, message: Message) -> Result | None:
        if message.name == "ERROR" and message["code"] == _NO_SESSION:
            raise SessionLost
        if message.name == "ERROR" and message["code"] >= _FIRST_FAULT:
            return None  # the camera may come back; if not, the time runs out
        frame_id = message.fields.get("frame_id", 0)
        if frame_id < _CAMERA_FRAMES:
            return None
        if frame_id != self._frame_id:
            self._begin(frame_id)
        if message.name == "OUTPUT" and message["index"] in self._outputs:
            self._outputs[message["index"]].take(message)
        elif message.name == "THUMBNAIL" and self._thumbnail:
            self._thumbnail.take(message)
        elif message.name == "TIMING":
            self._timing = message
        elif message.name == "DETECTIONS":
            return self._end(message)
        return None

    def _begin(self, frame_id: int) -> None:
        self._frame_id = frame_id
        wanted = self._wanted()
        shapes = self._info.outputs if wanted.outputs else ()
        self._outputs = {i: Tensor(shape.size_bytes) for i, shape in enumerate(shapes)}
        due = wanted.thumbnail((frame_id - _CAMERA_FRAMES) // wanted.results_every)
        self._thumbnail = Tensor(int(np.prod(self._info.input.shape))) if due else None
        self._timing = None

    def _end(self, message: Message) -> Result | None:
        if self._last:
            self.lost += max(0, (message["frame_id"] - self._last) // self._wanted().results_every - 1)
        self._last = message["frame_id"]
        tensors = [*self._outputs.values(), *([self._thumbnail] if self._thumbnail else [])]
        if not all(tensor.complete for tensor in tensors):
            self.lost += 1
            return None
        return result(message, self._info, self._outputs, self._thumbnail, self._timing)
